"""The quickstart on a world of the smallest size: the whole path, once, and nothing twice."""

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from limbeck import quickstart as shown
from limbeck.cli import app
from limbeck.quickstart import Quickstart

SMALL = [
    "tokenizer.pieces=400",
    "model.layers=2",
    "model.width=16",
    "training.steps=20",
    "training.batch_pieces=512",
]
SHORT = ["general.steps=10", "teacher.epochs=1", "task.epochs=1", "student.layers=1"]
tiny = partial(shown.quickstart, size="tiny", pretrain_overrides=SMALL, overrides=SHORT)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="session")
def done(store: Path) -> Quickstart:
    return tiny(store)


def test_a_teacher_is_pretrained_and_distilled_and_both_are_scored(done: Quickstart):
    told = done.run.to_dict()
    assert {"teacher", "student", "majority label"} <= told["scores"].keys()
    assert list(told["scores"]["student"]) == list(told["fidelity"]) == ["qaa", "qab"]
    assert told["size"]["student"]["total"] < told["size"]["teacher"]["total"]
    assert told["size"]["student, bundle"]["bytes"] > 0 < told["speed"]["student, bundle"]["p50_ms"]
    retrieval = done.teacher.to_dict()["retrieval"]
    assert set(retrieval["qaa"]) == {"qab", "qac", "qad"}, "every language of the world"


def test_the_baselines_differ_in_the_phases_alone(done: Quickstart):
    mine = done.run.artifacts
    for row, other in done.baselines.items():
        theirs = other.artifacts
        assert mine.keys() - theirs.keys() == {"export"}, "one bundle is enough"
        same = [stage for stage in theirs if mine[stage].folder == theirs[stage].folder]
        assert same == ["corpus", "vocabulary", "teacher", "student"], row


def test_a_second_quickstart_makes_nothing(store: Path, done: Quickstart):
    assert done.made > 0 and tiny(store).made == 0


def test_the_command_prints_a_table_and_writes_a_report(
    store: Path, done: Quickstart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shown, "quickstart", tiny)
    page = tmp_path / "page.html"
    asked = ["quickstart", "--store", str(store), "-o", str(page)]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    for row in (
        "teacher",
        "student",
        "student, bundle",
        *shown.BASELINES,
        "majority label",
        "student keeps",
    ):
        assert row in told.output
    assert "nothing ran" in told.output and str(page.name) in told.output.replace("\n", "")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and "Bundle, tokenizer included" in text
    as_json = CliRunner().invoke(app, [*asked, "--json"])
    found = json.loads(as_json.stdout)
    assert found["baselines"].keys() == shown.BASELINES.keys() and found["report"] == str(page)
