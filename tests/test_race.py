"""The bench: systems in turn, each in a process of its own; figures are those of the times."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from limbeck import race
from limbeck.bench import Cost, by_length
from limbeck.bench_process import energy_joules, examples_of, peak_memory_bytes
from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.race import served, texts_beside, texts_for, with_shares
from limbeck.roofline import share
from limbeck.speed_table import speed_table
from limbeck.tasks import TASKS


class Fake:
    """A system whose answers take as long as it is told, and which remembers what it is asked."""

    seen: ClassVar[list[tuple[str, int]]] = []

    def __init__(self, name: str, texts: Sequence[str], ms: float, task: str):
        self.name, self.ms, self.cold_start_s = name, ms, 2 * ms
        pieces = [[len(text.split()) + 2] for text in texts]
        cost = {"parameters": 10, "products_per_piece": 100, "products_per_pair": 1}
        self.told = {"task": task, "pieces": pieces, "backend": "torch", "precision": "fp32"}
        self.told["cost"] = cost

    def ask(self, **asked: Any) -> dict[str, Any]:
        if "time" in asked:
            self.seen.append((self.name, asked["time"]))
            return {"ms": self.ms * (1 + asked["time"])}
        if "batch" in asked:
            return {"seconds": 1 / asked["batch"], "joules": 3.0}
        return {"peak_memory_bytes": 7}


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def put(**tasks: str) -> None:
        @contextmanager
        def fake(name: str, place: Path, texts: Sequence[str], *, threads: int) -> Iterator[Any]:
            assert place.exists()
            ms = {"a": 1.0, "b": 4.0}[name] / threads
            yield Fake(name, texts, ms, tasks.get(name, "pos"))

        monkeypatch.setattr(race, "served", fake)
        Fake.seen = []

    return put


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/model").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"1234567890")
    return {name: tmp_path / name for name in "ab"}


def test_systems_take_turns_and_figures_are_those_of_their_times(fakes: Any, places: Any):
    fakes()
    told = race.race(places, ["one", "one two"], threads=[2, 1])
    timed = Fake.seen[20:32]  # after five sentences to warm up, of which there are two
    assert timed[:4] == [("a", 0), ("b", 0), ("b", 1), ("a", 1)], "who is first turns"
    a, b = (told["systems"][name] for name in "ab")
    assert a["p50_ms"] == 0.75 and b["p50_ms"] == 3.0 and a["n"] == 2
    assert a["threads"][1]["p50_ms"] == 1.5 and told["threads"] == 2
    assert a["ms_per_word"] == pytest.approx((0.5 + 1.0) / 3)
    assert a["pieces_per_word"] == pytest.approx(7 / 3)
    assert a["best_batch"] == 32 and a["sentences_per_second"] == 64
    assert (a["disk_bytes"], b["disk_bytes"], a["peak_memory_bytes"]) == (5, 10, 7)
    assert a["joules_per_sentence"] == 1.5 and a["parameters"] == 10
    assert a["flops_per_word"] == round(2 * (3 * 103 + 4 * 104) / 3)
    assert a["flops_per_second"] == round(2 * (3 * 103 + 4 * 104) / 1.5e-3)
    assert told["ratio"]["b / a"]["p50_ms"] == 4 and told["ratio"]["b / a"]["disk_bytes"] == 2
    assert set(a["by_words"]) == {"1-8"}


def test_the_table_shows_each_system_and_what_is_not_known(
    fakes: Any, places: Any, monkeypatch: pytest.MonkeyPatch
):
    from rich.console import Console

    fakes()
    limits = {"fp32_flops": 2e6, "bf16_flops": 1, "int8_flops": 1, "memory_bytes": 1e9}
    for found, expected in ((limits, "ceilings: fp32 0"), ({}, "need limbeck[train]")):
        monkeypatch.setattr(race, "ceilings", lambda count, found=found: found)
        told = with_shares(race.race(places, ["one", "one two"], threads=[2, 1]))
        console = Console(width=120)
        with console.capture() as capture:
            console.print(speed_table(told))
        assert expected in capture.get() and "p50 with threads: 1, ms" in capture.get()
    json.dumps(told)


def test_shares_are_of_the_precisions_own_ceiling():
    figures = {"precision": "int8", "flops_per_second": 50, "weights_per_second": 20}
    limits = {"int8_flops": 100, "fp32_flops": 10, "memory_bytes": 40}
    assert share(figures, limits) == {"compute": 0.5, "memory": 0.5}
    assert share({**figures, "precision": "fp32"}, limits) == {"compute": 5.0, "memory": 2.0}
    assert share(figures, {}) == {} == share({"precision": "int8"}, limits)


def test_systems_of_two_tasks_are_not_compared(fakes: Any, places: Any):
    fakes(b="ner")
    with pytest.raises(RecipeError, match="different tasks cannot be compared; found a: pos, b"):
        race.race(places, ["one"], threads=[1])


def test_classes_of_length_hold_their_upper_ends():
    found = by_length([1.0, 2.0, 3.0, 4.0], [8, 9, 64, 65])
    assert {name: one.p50_ms for name, one in found.items()} == {
        "1-8": 1.0, "9-16": 2.0, "33-64": 3.0, "65+": 4.0,
    }  # fmt: skip


def test_operations_grow_with_the_pieces_and_with_their_pairs():
    cost = Cost(1000, products_per_piece=10, products_per_pair=2)
    assert [cost.flops(n) for n in (0, 1, 3)] == [0, 24, 2 * (30 + 18)]


@pytest.mark.parametrize("task", TASKS)
def test_running_text_becomes_what_a_task_is_asked(task: str):
    found = examples_of(task, ["Ada sees the red house today .", "Bo sleeps ."])
    assert len(found) == 2
    if task == "qa":
        assert found[0].question == "Ada sees the red house today"


def test_nothing_to_ask_is_told(tmp_path: Path):
    with pytest.raises(DataError, match="nothing to time"):
        examples_of("pos", [" "])
    with pytest.raises(DataError, match="name a file with --text"):
        texts_for(tmp_path, None, count=3)
    with pytest.raises(DataError, match="no such file"):
        texts_for(tmp_path, tmp_path / "none", count=3)
    (tmp_path / "lines").write_text("a\n\n b \nc\n")
    assert texts_for(tmp_path, tmp_path / "lines", count=2) == ["a", "b"]
    assert texts_beside(tmp_path / "model") == []


def test_a_place_that_holds_no_model_is_told_by_its_process(tmp_path: Path):
    with (
        pytest.raises(ModelError, match="x: cannot be timed; found .*no such bundle|found"),
        served("x", tmp_path / "none.limbeck", ["a"], threads=1),
    ):
        pass


def test_systems_are_named_by_the_end_of_their_path():
    names = race._names([Path("/s/task-1/model"), Path("/s/task-2/model"), Path("/s/b.limbeck")])
    assert names == ["task-1/model", "task-2/model", "s/b.limbeck"]
    assert race._names([Path("/s/model"), Path("/s/b")]) == ["model", "b"]
    with pytest.raises(RecipeError, match="named twice"):
        race._names([Path("/s/b"), Path("/s/b")])


def test_memory_and_energy_are_numbers_or_unknown():
    assert peak_memory_bytes() > 1e6
    assert energy_joules() is None or energy_joules() >= 0
