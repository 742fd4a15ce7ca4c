"""Tables of runs, in the terminal and of the benchmark, from a run that was really made."""

import io
import json
from argparse import Namespace
from pathlib import Path

import pytest
from benchmarks.zero_shot import front_lines, markdown, rows_of
from rich.console import Console

from conftest import Finished
from limbeck.tables import fidelity_text, scores_table


@pytest.fixture
def told(finished: Finished) -> dict:
    return json.loads((finished.store / "runs" / "tiny.json").read_text(encoding="utf-8"))


def shown(table) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_a_baselines_student_is_a_row_after_the_student(told: dict):
    lines = shown(scores_table(told, also={"another": told})).splitlines()
    names = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    expected = ["teacher", "trimmed teacher", "student", "another", "majority label"]
    assert names == [*expected, "student keeps"]


def given(note: str) -> Namespace:
    return Namespace(seed=0, note=note, title="A title", out=Path("results/tiny"))


def test_fidelity_is_told_for_every_language(told: dict):
    line = fidelity_text(told)
    assert "aaa " in line and "bbb " in line


@pytest.mark.parametrize("variant", ["student: both phases", "phase 1 only"])
def test_the_benchmarks_page_has_a_row_a_system(told: dict, variant: str):
    rows = rows_of(told, variant, is_first=True)
    page = markdown({"tiny": rows}, given("Trained once."))
    assert "Trained once." in page and f"| {variant} |" in page
    assert ("| tiny |" in page) == (variant == "student: both phases"), "the summary's row"


def test_a_teacher_that_scores_nothing_leaves_nothing_to_keep(told: dict):
    rows = rows_of(told, "student: both phases", is_first=True)
    rows[2]["scores"]["bbb"]["retention"] = None
    assert "–" in markdown({"tiny": rows}, given(""))


def test_a_front_holds_what_nothing_cheaper_beats():
    rows = [
        {"system": name, "parameters": size, "p50_ms": size, "scores": {"x": {"value": value}}}
        for name, size, value in (("big", 30, 0.9), ("bad", 20, 0.5), ("small", 10, 0.6))
    ]
    assert "small (0.00 M: 60.0) → big (0.00 M: 90.0)." in front_lines(rows, "x")[0]
