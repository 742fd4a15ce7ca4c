"""Each mistake is one clear line, exit code 2, and nothing of the store is lost."""

import errno
import gzip
import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Finished, Told
from limbeck.artifact import file_hash

Call = Callable[..., Told]
Complain = Callable[..., str]


@pytest.fixture
def complaint(limbeck: Call, finished: Finished, kept_store: Path) -> Complain:
    """Give a function from a recipe's changes to the one line that `limbeck run` ends with.

    It makes sure of the exit code, of the form of the line, and that the store still holds what
    it held.
    """

    def run(*overrides: str, recipe: Path = finished.recipe, command: str = "run") -> str:
        before = held(kept_store)
        settings = [part for one in overrides for part in ("--set", one)]
        line = line_of(limbeck(command, recipe, "--store", kept_store, *settings))
        assert held(kept_store) == before, "something of the store is lost"
        return line

    return run


def held(store: Path) -> dict[Path, str]:
    """Give the files of the finished artifacts and of the runs, with their hashes."""
    folders = [path.parent for path in store.glob("*-*/manifest.json")]
    files = [path for folder in [*folders, store / "runs"] for path in folder.rglob("*")]
    return {path: file_hash(path) for path in files if path.is_file()}


def line_of(told: Told) -> str:
    """Give the one line of a refused command."""
    assert told.code == 2, told
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("limbeck: ")
    return line.removeprefix("limbeck: ")


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """Give a copy of the data that a test may spoil."""
    return Path(shutil.copytree(tiny_data, tmp_path / "data"))


@pytest.fixture
def teacher(tiny_teacher: Path, tmp_path: Path) -> Path:
    """Give a copy of the teacher that a test may spoil."""
    return Path(shutil.copytree(tiny_teacher, tmp_path / "teacher"))


# missing or unreadable file


def test_a_missing_recipe(complaint: Complain, tmp_path: Path):
    line = complaint(recipe=tmp_path / "none.toml")
    assert re.fullmatch(r"\S+none\.toml: no such recipe; expected a TOML file or one of: .*", line)


def test_a_missing_corpus(complaint: Complain):
    line = complaint("corpus.bbb=no/such.txt")
    assert line.startswith("corpus.bbb: no such file; found no/such.txt")
    line = complaint("corpus.bbb=no/*.txt")
    assert line.startswith("corpus.bbb: no file matches; found no/*.txt")


def test_a_corpus_that_is_a_folder(complaint: Complain, data: Path):
    line = complaint(f"corpus.bbb={data / 'corpora'}")
    assert "corpus.bbb: a folder where a file is needed" in line and "*.txt" in line


def test_a_missing_keep_list(complaint: Complain):
    assert "no/words.txt: cannot be read" in complaint("vocabulary.keep=no/words.txt")


def test_missing_labels(complaint: Complain, data: Path):
    assert "no/labels: no such folder" in complaint("task.benchmark.root=./no/labels")
    (data / "pos" / "bbb" / "test.txt").unlink()
    line = complaint(f"task.benchmark.root={data / 'pos'}")
    assert "no test split for bbb" in line and "expected bbb/test.txt" in line


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_an_unreadable_file(complaint: Complain, data: Path, tmp_path: Path):
    unreadable = tmp_path / "bbb.txt"
    unreadable.symlink_to("/proc/self/mem")
    line = complaint(f"corpus.bbb={unreadable}")
    assert line == f"{unreadable}: cannot be read; found Input/output error"
    labels = data / "pos" / "aaa" / "train.txt"
    labels.unlink()
    labels.symlink_to("/proc/self/mem")
    assert "cannot be read; found Input/output" in complaint(f"task.benchmark.root={data / 'pos'}")


def test_a_damaged_gzip(complaint: Complain, tmp_path: Path):
    whole = gzip.compress(("some words of a language\n" * 200).encode())
    file = tmp_path / "bbb.txt.gz"
    for content in (b"no gzip at all", whole[: len(whole) // 2]):
        file.write_bytes(content)
        line = complaint(f"corpus.bbb={file}")
        assert line.startswith(f"{file}: damaged gzip; found ") and "again" in line


# corpora


@pytest.mark.parametrize("content", [b"", b"\n\n  \n", b"short\n1 2 3 4 5 6 7 8 9 0\n"])
def test_an_empty_corpus(complaint: Complain, tmp_path: Path, content: bytes):
    file = tmp_path / "bbb.txt"
    file.write_bytes(content)
    line = complaint(f"corpus.bbb={file}")
    assert line.startswith("corpus.bbb: the corpus is empty; found ")
    assert "check the file, `min_characters` and the script" in line


def test_a_corpus_in_the_wrong_encoding(complaint: Complain, tmp_path: Path):
    file = tmp_path / "bbb.txt"
    file.write_bytes(b"a line of plain text\n" + "caf\u00e9 au lait pour tous".encode("latin-1"))
    line = complaint(f"corpus.bbb={file}")
    assert line == f"{file}:2: not UTF-8; found byte 0xe9 at byte offset 24; save it as UTF-8"
    file.write_text("some words", encoding="utf-16")
    assert "(it looks like UTF-16)" in complaint(f"corpus.bbb={file}")


# languages


def test_a_language_without_a_corpus(complaint: Complain):
    line = complaint('languages.targets=["xyz"]')
    assert "languages.targets names 'xyz', which has no text in [corpus] (it has: aaa, bbb)" in line
    assert line.endswith("add corpus.xyz")
    assert "languages.source names 'xyz'" in complaint("languages.source=xyz")


def test_a_script_for_a_language_without_a_corpus(complaint: Complain):
    line = complaint('corpus.filter.scripts={xyz = "Latn"}')
    assert "corpus.filter.scripts names 'xyz', which has no text in [corpus]" in line


def test_unlabelled_text_without_a_teacher(complaint: Complain):
    line = complaint("task.objective.kind=labels", "task.objective.text=0.5")
    assert "task.objective: unlabelled text needs a teacher, and kind labels has none" in line


def test_a_first_phase_with_nothing_to_minimise(complaint: Complain):
    line = complaint("general.objective.hidden=0")
    assert "general: phase 1 has nothing to minimise" in line and "steps = 0" in line


def test_a_scored_language_that_is_none_of_the_recipe(complaint: Complain):
    line = complaint('evaluate.languages=["xyz"]')
    assert "evaluate.languages names 'xyz', which is no language of this recipe" in line
    assert "(they are: aaa, bbb)" in line


def test_an_unknown_script(complaint: Complain):
    line = complaint('corpus.filter.scripts={bbb = "Latin"}')
    assert "bbb: unknown script; found Latin; expected one of Adlm" in line


def test_a_language_without_labels(complaint: Complain):
    line = complaint("task.train_language=xyz")
    assert "no train split for xyz; found aaa (train, dev, test)" in line


# the student


def test_more_layers_than_the_teacher_has(complaint: Complain):
    line = complaint("student.layers=5")
    assert line == (
        "student.layers: the student cannot have this many layers; found 5; "
        "expected 1 to 4, the teacher's depth"
    )
    assert "names a layer that the teacher does not have" in complaint("student.plan=[2, 5]")


@pytest.mark.parametrize("plan", ["[4, 2]", "[2, 2]"])
def test_a_layer_plan_out_of_order(complaint: Complain, plan: str):
    line = complaint(f"student.plan={plan}")
    assert line == (
        f"student.plan: the layer plan is out of order; found {plan}; "
        "expected each layer above the one before"
    )


def test_an_empty_layer_plan(complaint: Complain):
    assert "student.plan: the layer plan is empty; found []" in complaint("student.plan=[]")


# the recipe


def test_an_unknown_key(complaint: Complain, finished: Finished):
    line = complaint("general.stesp=5")
    assert line == (
        f"{finished.recipe}: general.stesp: unknown key; expected 'steps'; "
        "see `limbeck explain general`"
    )


def test_a_wrong_type(complaint: Complain, finished: Finished):
    line = complaint("general.steps=many", command="plan")
    assert line == (
        f"{finished.recipe}: general.steps: a wrong value; found 'many'; expected a whole number; "
        "see `limbeck explain general.steps`"
    )


def test_an_unknown_benchmark_task_or_label(complaint: Complain):
    assert "no such benchmark; found 'conl'" in complaint("task.benchmark.name=conl")
    assert "masakhaner has no labels for this task" in complaint("task.benchmark.name=masakhaner")


# the teacher


def test_a_missing_model_folder(complaint: Complain):
    assert complaint("teacher.model=./none") == "./none: no such folder; check teacher.model"
    line = complaint("teacher.model=no-such-model")
    assert "no-such-model: is neither a folder nor to be had from the hub; found " in line
    assert "check the name and the network" in line


def test_a_model_without_a_config(complaint: Complain, teacher: Path):
    (teacher / "config.json").unlink()
    line = complaint(f"teacher.model={teacher}")
    assert line == f"{teacher}: no config.json in the model's folder"


def test_a_model_without_a_fast_tokenizer(complaint: Complain, teacher: Path):
    (teacher / "tokenizer.json").unlink()
    line = complaint(f"teacher.model={teacher}")
    assert line.startswith(f"{teacher / 'tokenizer.json'}: the folder has no fast tokenizer; save")


def test_a_model_with_pickled_weights_only(complaint: Complain, teacher: Path):
    (teacher / "model.safetensors").rename(teacher / "pytorch_model.bin")
    line = complaint(f"teacher.model={teacher}")
    assert "the weights are pickled, and a pickle can run code; found pytorch_model.bin" in line
    assert "expected model.safetensors; convert them" in line


def test_a_model_without_weights(complaint: Complain, teacher: Path):
    (teacher / "model.safetensors").unlink()
    assert "the folder holds no weights" in complaint(f"teacher.model={teacher}")


def test_a_model_that_wants_its_own_code_unless_asked_for_by_name(
    complaint: Complain, limbeck: Call, teacher: Path, finished: Finished, kept_store: Path
):
    config = json.loads((teacher / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modelling.Evil"}
    (teacher / "config.json").write_text(json.dumps(config))
    (teacher / "modelling.py").write_text("raise SystemExit('this must never run')")
    line = complaint(f"teacher.model={teacher}")
    assert "config.json: the checkpoint asks for code of its own (remote code)" in line
    # Named, it is accepted; its code is not run even then. A mistake further on ends this quickly.
    line = complaint(
        f"teacher.model={teacher}", "teacher.allow_remote_code=true", "task.train_language=xyz"
    )
    assert "no train split for xyz" in line


def test_a_model_of_an_unknown_architecture(complaint: Complain, teacher: Path):
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    assert "gpt2" in complaint(f"teacher.model={teacher}")


def test_a_model_whose_config_is_torn(complaint: Complain, teacher: Path):
    (teacher / "config.json").write_text("{")
    line = complaint(f"teacher.model={teacher}")
    assert line.startswith(f"{teacher / 'config.json'}: cannot be read as JSON")


# labels


def test_labels_of_one_column(complaint: Complain, data: Path):
    file = data / "pos" / "aaa" / "train.txt"
    file.write_text("word\nother\n\n")
    line = complaint(f"task.benchmark.root={data / 'pos'}")
    assert line == f"{file}:1: a line has one column; found 'word'; expected a word and its tag"


def test_a_line_of_labels_without_a_tag(complaint: Complain, data: Path):
    file = data / "pos" / "aaa" / "train.txt"
    file.write_text("word NOUN\nother\n\n")
    line = complaint(f"task.benchmark.root={data / 'pos'}")
    assert f"{file}:2: a line has the wrong number of columns" in line


def test_a_dev_set_without_an_entity(complaint: Complain, data: Path):
    file = data / "ner" / "aaa" / "dev.txt"
    file.write_text("word O\nother O\n\n")
    line = complaint("task.kind=ner", f"task.benchmark.root={data / 'ner'}")
    assert str(file) in line and "no entity in these sentences, so no F1" in line


def test_labels_in_the_wrong_encoding(complaint: Complain, data: Path):
    file = data / "pos" / "aaa" / "dev.txt"
    file.write_bytes("caf\u00e9 NOUN\n".encode("latin-1"))
    line = complaint(f"task.benchmark.root={data / 'pos'}")
    assert line.startswith(f"{file}:1: the file is not UTF-8; found byte 0xe9")


# the store


def test_a_full_disk(complaint: Complain, monkeypatch, kept_store: Path):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    line = complaint("evaluate.resamples=5")
    assert "evaluate-" in line and "the disk is full; found" in line
    assert "make room and run again: finished stages are kept, this one resumes" in line
    monkeypatch.undo()
    assert not list(kept_store.rglob(".*.tmp"))


def test_a_disk_that_fills_while_weights_are_saved(complaint: Complain, monkeypatch):
    from safetensors import SafetensorError

    from limbeck.stages import models, student

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(models, "save_model", full)
    monkeypatch.setattr(student, "save_model", full)
    assert "the disk is full; found" in complaint("student.layers=1")


def test_a_disk_that_fills_with_text(complaint: Complain, tmp_path: Path, kept_store: Path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    from limbeck import corpus

    with pytest.raises(Exception, match="the disk is full"), corpus.writing(Path("/dev/full")):
        Path("/dev/full").write_text("x" * 100_000)


def test_a_store_made_by_a_newer_version(limbeck: Call, finished: Finished, kept_store: Path):
    (kept_store / "store.json").write_text('{"format": 2}')
    before = held(kept_store)
    for command in ("run", "plan"):
        line = line_of(limbeck(command, finished.recipe, "--store", kept_store))
        assert line == (
            f"{kept_store / 'store.json'}: was written by a newer limbeck; found format 2; "
            "expected format 1 or older; upgrade limbeck or choose another --store"
        )
    assert "newer limbeck" in line_of(limbeck("status", "--store", kept_store))
    assert held(kept_store) == before


def test_an_artifact_made_by_a_newer_version(complaint: Complain, kept_store: Path):
    (manifest,) = kept_store.glob("general-*/manifest.json")
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(values | {"format": 2, "new": "field"}))
    assert "was written by a newer limbeck; found format 2" in complaint()


def test_a_store_that_cannot_be_a_store(limbeck: Call, finished: Finished, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    line = line_of(limbeck("run", finished.recipe, "--store", tmp_path / "file"))
    assert line == f"{tmp_path / 'file'}: the store cannot be made; found File exists"
    (tmp_path / "store.json").write_text("torn")
    line = line_of(limbeck("run", finished.recipe, "--store", tmp_path))
    assert "store.json: cannot be read as JSON" in line and "choose another --store" in line


def test_a_damaged_artifact_that_is_needed(complaint: Complain, kept_store: Path):
    (manifest,) = kept_store.glob("corpus-*/manifest.json")
    manifest.write_text("")
    line = complaint()
    assert "cannot be read as JSON; found Expecting value" in line
    assert line.endswith(f"delete {manifest.parent} and run again")


# evaluate, trim


@pytest.mark.parametrize(
    ("model", "task", "file", "expected"),
    [
        ("./none", "pos", "pos/bbb/test.txt", "./none: no such folder"),
        ("MODEL", "pos", "pos/none.txt", "none.txt: no such file"),
        ("MODEL", "poetry", "pos/bbb/test.txt", "no such task; found 'poetry'; expected one of"),
        ("MODEL", "ner", "ner/bbb/test.txt", "labels are another task's; found ner, and a model"),
        ("MODEL", "pos", "ner/bbb/test.txt", "a tag outside the labels asked for; found 'O'"),
        ("TEACHER", "pos", "pos/bbb/test.txt", "its head is another; found ModernBertForMask"),
        ("MODEL", "pos", "corpora/bbb.txt", "corpora/bbb.txt:"),
    ],
)
def test_evaluate_refuses_what_does_not_fit(
    limbeck: Call, finished: Finished, tiny_teacher, tiny_data, model, task, file, expected
):
    (folder,) = finished.store.glob("task-*")
    places = {"MODEL": folder / "model", "TEACHER": tiny_teacher}
    told = limbeck("evaluate", places.get(model, model), "--task", task, "--file", tiny_data / file)
    assert expected in line_of(told)


def test_evaluate_tells_entity_types_that_the_model_does_not_know(tmp_path: Path, caplog):
    from limbeck.benchmarks import load_file
    from limbeck.judge import _tell_unknown

    file = tmp_path / "test.txt"
    file.write_text("Ada B-PER\nyesterday B-DATE\nmorning I-DATE\n\n")
    data = load_file(file, task="ner", labels=["O", "B-PER", "I-PER"])
    assert data.examples[0].labels == ("B-PER", "O", "O")
    assert data.labels == ("O", "B-PER", "I-PER")
    _tell_unknown(data)
    assert "2 words of type DATE are read as O, for the model has no such label" in caplog.text
    assert f"first at {file}:2" in caplog.text


def test_trim_wants_a_language_and_a_file(limbeck: Call, tiny_teacher: Path, tmp_path: Path):
    told = limbeck("trim", tiny_teacher, "-o", tmp_path / "out", "--corpus", "aaa.txt")
    assert line_of(told) == "--corpus aaa.txt: not LANG=FILE; expected yor=yor.txt"


# a mistake that shows only on the way


def test_the_line_is_the_last_after_timed_lines(
    limbeck: Call, tmp_path: Path, finished: Finished, monkeypatch
):
    # Without pytest's handlers the log goes where a user sees it.
    monkeypatch.setattr(logging.root, "handlers", [])
    (tmp_path / "bbb.txt").write_text("only one line of text\nand a second one\n")
    override = f"corpus.bbb={tmp_path / 'bbb.txt'}"
    told = limbeck("run", finished.recipe, "--store", tmp_path / "store", "--set", override)
    *before, last = told.err.splitlines()
    assert told.code == 2 and told.out == ""
    assert last.startswith("limbeck: ") and "too little text" in last
    assert len(before) > 3 and all(re.match(r"\d\d:\d\d:\d\d ", line) for line in before)
