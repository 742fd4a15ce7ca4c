"""Texts are found in lines whatever their case, marks and spaces; short ones are passed over."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from limbeck.overlap import SHORTEST, bare, standing_in
from limbeck.stages.evaluate import _already_read
from limbeck.tasks import TASKS
from limbeck.tasks.reading import Question

LINES = [
    "Ẹ káàárọ̀, gbogbo ènìyàn ilẹ̀ wa ni mo kí.",
    "Nothing is here.",
    "He said: gbogbo eniyan, ile wa ni mo ki, and left; nothing is here.",
]


def test_letters_are_compared_without_case_marks_and_spaces():
    assert bare("Ẹ káàárọ̀ , 3 ÈNÌYÀN!") == "ekaaaro3eniyan"
    texts = ["Gbogbo ènìyàn ilẹ̀ wa ni mo kí .", "gbogbo eniyan ile wa ni mo kii"]
    assert [*standing_in(texts, LINES)] == [(0, 0), (2, 0)]


def test_short_texts_and_beginnings_inside_of_words_are_passed_over():
    short = "nothing is here"
    assert len(bare(short)) < SHORTEST
    assert not [*standing_in([short, "gbo eniyan ile wa ni mo ki and left"], LINES)]


def test_several_texts_may_begin_alike_and_stand_in_a_line_twice():
    line = "the same beginning of it all, and the same beginning of it all again"
    texts = ["The same beginning of it all", "the same beginning of it all again", "the same begin"]
    assert [*standing_in(texts, ["", line])] == [(1, 0), (1, 1)]
    assert not [*standing_in([], LINES)] and not [*standing_in(texts, [])]


@pytest.mark.parametrize("kind", ["pos", "parsing", "sentiment", "qa"])
def test_a_run_tells_test_texts_that_its_corpora_hold(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "aaa.train.txt").write_text("\n".join(LINES[1:]), encoding="utf-8")
    (tmp_path / "aaa.heldout.txt").write_text(LINES[0], encoding="utf-8")
    recipe = SimpleNamespace(
        task=SimpleNamespace(kind=kind), corpus=SimpleNamespace(texts=dict.fromkeys(["aaa", "bbb"]))
    )
    job: Any = SimpleNamespace(
        recipe=recipe, inputs={"corpus": SimpleNamespace(path=lambda name: tmp_path / name)}
    )
    examples = [TASKS[kind].from_text(text, f"{n}") for n, text in enumerate([LINES[1], LINES[0]])]
    if kind == "qa":
        examples = [Question("Who?", text, where=str(n)) for n, text in enumerate(LINES[1::-1])]
    told = _already_read(job, "aaa", examples)
    (note,) = told.values()
    assert note["count"] == 1 and note["samples"] == ("1",)
    assert "aaa: 1 of 2 test texts stand in its corpus" in caplog.text
    assert _already_read(job, "ccc", examples) == {}
    assert _already_read(job, "aaa", examples[:1]) == {}
