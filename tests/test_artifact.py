"""The store publishes an artifact last and whole, and refuses what it cannot trust."""

import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from limbeck import artifact
from limbeck.artifact import Manifest, Store, disk_errors, file_hash, key, write_json
from limbeck.errors import ArtifactError, DataError

HEX = key("something")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def manifest(stage: str = "corpus", hexadecimal: str = HEX, **rest: Any) -> Manifest:
    return Manifest(
        stage=stage, version=1, key=hexadecimal, section={}, inputs={}, outside={}, **rest
    )


def publish(store: Store, hexadecimal: str = HEX, stage: str = "corpus") -> Path:
    folder = store.folder(stage, hexadecimal)
    (folder / "work").mkdir(parents=True)
    (folder / "work" / "half").write_text("half")
    (folder / "deep").mkdir()
    (folder / "deep" / "text.txt").write_text("text")
    store.publish(manifest(stage, hexadecimal))
    return folder


def test_a_key_depends_on_the_value_and_not_on_the_order_of_its_fields():
    assert key({"a": 1, "b": [1, 2]}) == key({"b": [1, 2], "a": 1})
    assert key({"a": [1, 2]}) != key({"a": [2, 1]})
    # sha256 of the nine characters {"a":"é"} as UTF-8, by hashlib alone
    assert key({"a": "é"}).startswith("b3a092a6af48807f")


def test_a_file_is_hashed_by_its_content(tmp_path: Path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"abc")
    other.write_bytes(b"abc")
    assert file_hash(one) == file_hash(other)
    assert file_hash(one).startswith("ba7816bf8f01cfea")
    one.write_bytes(b"abcd")
    assert file_hash(one) != file_hash(other)
    with pytest.raises(ArtifactError, match="nothing: cannot be read; found No such file"):
        file_hash(tmp_path / "nothing")


def test_an_artifact_is_done_only_when_its_manifest_stands(store: Store):
    folder = store.folder("corpus", HEX)
    folder.mkdir()
    (folder / "text.txt").write_text("text")
    assert store.find("corpus", HEX) is None
    store.publish(manifest(seconds=1.5))
    found = store.find("corpus", HEX)
    assert found is not None and found.manifest.seconds == 1.5
    assert found.path("text.txt").read_text() == "text"


def test_the_manifest_tells_every_file_and_the_work_folder_is_gone(store: Store):
    folder = publish(store)
    found = store.find("corpus", HEX)
    assert found is not None and list(found.manifest.files) == ["deep/text.txt"]
    told = found.manifest.files["deep/text.txt"]
    assert told == {"sha256": file_hash(folder / "deep" / "text.txt"), "bytes": 4}
    assert sorted(path.name for path in folder.iterdir()) == ["deep", "manifest.json"]


def test_the_manifest_is_written_after_everything_else_and_before_work_goes(store, monkeypatch):
    seen: list[list[str]] = []

    def watched(path: Path, value: Any) -> None:
        seen.append(sorted(one.name for one in path.parent.iterdir()))
        write_json(path, value)

    monkeypatch.setattr(artifact, "write_json", watched)
    publish(store)
    assert seen == [["deep", "work"]]


def test_a_file_that_went_missing_is_told(store: Store):
    folder = publish(store)
    (folder / "deep" / "text.txt").unlink()
    found = store.find("corpus", HEX)
    assert found is not None
    with pytest.raises(ArtifactError, match=r"text\.txt: is missing from the artifact; delete "):
        found.path("deep/text.txt")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "cannot be read as JSON; found "),
        ("[1]", "was not written by limbeck; found no format; expected format 1 or older"),
        ('{"format": "x"}', "was not written by limbeck; found format 'x'"),
        ('{"format": 99}', "was written by a newer limbeck; found format 99; expected format 1"),
        ('{"format": 1, "key": "x"}', "is no manifest of an artifact; found missing 5 required"),
        ('{"format": 1, "colour": "red"}', "unexpected keyword argument 'colour'"),
    ],
)
def test_a_damaged_manifest_is_told_with_what_to_do(store: Store, content: str, expected: str):
    folder = publish(store)
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError) as told:
        store.find("corpus", HEX)
    assert expected in str(told.value) and str(folder / "manifest.json") in str(told.value)
    assert "delete" in str(told.value) or "upgrade" in str(told.value)


def test_a_manifest_of_another_key_is_refused(store: Store):
    folder = publish(store)
    values = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", values | {"key": HEX[:12] + "0" * 52})
    with pytest.raises(ArtifactError, match="belongs to another key; found .*; expected .*; del"):
        store.find("corpus", HEX)


def test_a_store_of_a_newer_limbeck_is_refused_and_left_alone(tmp_path: Path):
    marker = tmp_path / "store.json"
    marker.write_text('{"format": 2}')
    with pytest.raises(ArtifactError, match="newer limbeck; found format 2; .*upgrade limbeck or"):
        Store(tmp_path)
    assert marker.read_text() == '{"format": 2}'


def test_a_store_that_is_no_folder_or_whose_marker_is_torn_is_told(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ArtifactError, match="the store cannot be made; found File exists"):
        Store(file)
    (tmp_path / "store.json").write_text("")
    with pytest.raises(ArtifactError, match=r"store\.json: cannot be read as JSON"):
        Store(tmp_path)


def test_artifacts_are_listed_done_unfinished_and_damaged_and_nothing_else(store: Store):
    publish(store, key(1))
    publish(store, key(2), stage="general")
    (publish(store, key(3)) / "manifest.json").write_text("{")
    store.folder("task", key(4)).mkdir()
    (store.root / "locks").mkdir()
    (store.root / "my-notes").mkdir()
    listed = {one.folder.name: one for one in store.artifacts()}
    assert len(listed) == 4
    assert listed[f"corpus-{key(1)[:12]}"].manifest is not None
    assert "cannot be read" in listed[f"corpus-{key(3)[:12]}"].problem
    unfinished = listed[f"task-{key(4)[:12]}"]
    assert (unfinished.stage, unfinished.manifest, unfinished.problem) == ("task", None, "")
    assert [one.stage for one in store.artifacts("general")] == ["general"]


class RefusedError(Exception):
    """Stands for safetensors' error, which is no OSError."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RefusedError("I/O error: No space left on device (os error 28)"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    ],
)
def test_a_full_disk_is_one_line_whoever_meets_it(tmp_path: Path, error: Exception):
    with (
        pytest.raises(ArtifactError, match="the disk is full; found .* MB free; make room and run"),
        disk_errors(tmp_path / "not yet there"),
    ):
        raise error


def test_a_disk_that_must_not_be_written_to_is_one_line(tmp_path: Path):
    error = OSError(errno.EROFS, "Read-only file system", "/some/file")
    with (
        pytest.raises(ArtifactError, match="/some/file: cannot be written; found Read-only"),
        disk_errors(tmp_path),
    ):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O"), ValueError("x"), DataError("y")])
def test_other_errors_pass_unchanged(tmp_path: Path, error: Exception):
    with pytest.raises(type(error)) as told, disk_errors(tmp_path):
        raise error
    assert told.value is error


def test_a_disk_that_fills_while_publishing_leaves_the_work_and_no_torn_file(store, monkeypatch):
    folder = store.folder("corpus", HEX)
    (folder / "work").mkdir(parents=True)
    (folder / "work" / "half").write_text("half")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="the disk is full"):
        store.publish(manifest())
    assert [path.name for path in folder.rglob("*")] == ["work", "half"]
    assert store.find("corpus", HEX) is None


def test_a_second_run_waits_for_the_lock_and_says_so(store: Store, caplog):
    caplog.set_level("INFO")
    order: list[str] = []

    def second() -> None:
        with store.lock("corpus", HEX):
            order.append("second")

    with store.lock("corpus", HEX):
        thread = threading.Thread(target=second)
        thread.start()
        while "waits" not in caplog.text:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "corpus: waits for another run that is making it" in caplog.text


def test_locks_of_different_artifacts_do_not_wait(store: Store):
    with store.lock("corpus", HEX), store.lock("corpus", key(2)), store.lock("task", HEX):
        pass
