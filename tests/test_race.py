"""The bench: systems in turn, each in a process of its own; figures are those of the times."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from limbeck import bench_process, race
from limbeck.bench import Cost, by_length
from limbeck.bench_process import (
    _count_words,
    energy_joules,
    examples_of,
    peak_memory_bytes,
)
from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.race import served, texts_beside, texts_for, with_shares
from limbeck.roofline import share
from limbeck.speed_table import speed_table
from limbeck.tasks import TASKS

KILLED = "import os; os.kill(os.getpid(), 9)"


class Fake:
    """A system whose answers take as long as it is told, and which remembers what it is asked."""

    seen: ClassVar[list[tuple[str, int]]] = []

    def __init__(self, name: str, texts: Sequence[str], ms: float, task: str):
        self.name, self.ms, self.cold_start_s = name, ms, 2 * ms
        pieces = [[len(text.split()) + 2] for text in texts]
        cost = {"parameters": 10, "products_per_piece": 100, "products_per_pair": 1}
        self.told = {"task": task, "pieces": pieces, "backend": "torch", "precision": "fp32"}
        self.told["text_threads"] = 1
        self.told["cost"] = cost
        self.told["words"] = [len(text.split()) for text in texts]

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
        def fake(
            name: str, place: Path, texts: Sequence[str], *, threads: int, backend: str | None
        ) -> Iterator[Any]:
            assert place.exists() and (backend or "") in name
            ms = {"a": 1.0, "b": 4.0, "b, openvino": 2.0, "b, onnxruntime": 3.0}[name] / threads
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
    timed = Fake.seen[4:]  # after the warm-up, of up to five sentences
    assert timed[:4] == [("a", 0), ("b", 0), ("b", 1), ("a", 1)], "who is first turns"
    a, b = (told["systems"][name] for name in "ab")
    assert a["p50_ms"] == 0.75 and b["p50_ms"] == 3.0 and a["n"] == 6
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


def test_bundles_are_timed_by_each_backend(
    fakes: Any, places: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fakes()
    monkeypatch.setattr(race, "ceilings", lambda count: {})
    monkeypatch.setattr(race, "_place", Path)
    monkeypatch.setattr(race, "is_bundle", lambda place: place.name == "b")
    (tmp_path / "lines").write_text("one\none two\n")
    names, both = [str(one) for one in places.values()], ["onnxruntime", "openvino"]
    monkeypatch.setattr(race, "is_installed", lambda name: True)
    told = race.bench(names, tmp_path / "lines", threads=[1], backends=[*both, "openvino"])
    assert list(told["systems"]) == ["a", *(f"b, {one}" for one in both)]
    assert told["faster"] == {"b": "openvino"}
    for backends in ((), both[:1], both[:1] * 2):
        told = race.bench(names, tmp_path / "lines", threads=[1], backends=backends)
        assert "faster" not in told
    rounds = {f"b, {one}": {"p50_rounds_ms": [1.0, 3.0 - n]} for n, one in enumerate(both)}
    assert race._faster(rounds, {"b": both}) == {"b": None}, "their rounds overlap"
    with pytest.raises(RecipeError, match="no such backend; found 'tvm'; expected one of: onnx"):
        race.bench(names, tmp_path / "lines", backends=["tvm"])
    with pytest.raises(RecipeError, match="no such backend"):
        race.bench(["no/model"], None, backends=["tvm"])
    with pytest.raises(RecipeError, match="a backend runs bundles, and none is among these"):
        race.bench(names[:1], tmp_path / "lines", backends=both)
    monkeypatch.setattr(race, "is_installed", lambda name: name != "openvino")
    with pytest.raises(RecipeError, match=r"not installed; found no openvino; pip install 'limb"):
        race.bench(names, tmp_path / "lines", backends=both)


def test_the_table_shows_each_system_and_what_is_not_known(
    fakes: Any, places: Any, monkeypatch: pytest.MonkeyPatch
):
    from rich.console import Console

    fakes()
    limits = {"fp32_flops": 2e6, "bf16_flops": 1, "int8_flops": 1, "memory_bytes": 1e9}
    for found, expected in ((limits, "ceilings: fp32 0"), ({}, "takes what limbeck[train]")):
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
    assert Cost(1000, 10, 2, products_per_text=5).flops(3) == 2 * (3 * (10 + 3 * 2) + 5)
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
        texts_for([tmp_path], None, count=3)
    with pytest.raises(DataError, match="no such file"):
        texts_for([tmp_path], tmp_path / "none", count=3)
    (tmp_path / "lines").write_text("a\n\n b \nc\n")
    assert texts_for([tmp_path], tmp_path / "lines", count=2) == ["a", "b"]
    (tmp_path / "bytes").write_bytes(b"a\n\xff\n")
    with pytest.raises(DataError, match=r"bytes:2: the line is not UTF-8"):
        texts_for([tmp_path], tmp_path / "bytes", count=2)
    assert texts_beside(tmp_path / "model") == []


def test_a_place_that_holds_no_model_is_told_by_its_process(tmp_path: Path):
    with (
        pytest.raises(ModelError, match="x: cannot be timed; found .*no such bundle|found"),
        served("x", tmp_path / "none.limbeck", ["a"], threads=1),
    ):
        pass


def test_a_process_that_dies_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for code, expected in (("import sys; sys.exit(3)", "ended with 3"), (KILLED, "killed")):
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}'\n")
        script.chmod(0o755)
        with monkeypatch.context() as patch:
            patch.setattr("limbeck.race.sys.executable", str(script))
            with (
                pytest.raises(ModelError, match=f"x: cannot be timed; found .*{expected}"),
                served("x", tmp_path, ["a" * 100_000], threads=1),
            ):
                pass


def test_words_are_those_of_the_examples_not_of_the_lines():
    found = examples_of("nli", ["Ada sleeps .\tBo does not .", "one\ttwo"])
    assert [_count_words(one) for one in found] == [7, 2]
    line = json.dumps({"question": "Who sleeps ?", "context": "Ada sleeps ."})
    assert [_count_words(one) for one in examples_of("qa", [line])] == [6]
    assert [_count_words(one) for one in examples_of("pos", ["Ada sleeps."])] == [3]


def test_systems_are_named_by_the_end_of_their_path():
    names = race._names([Path("/s/task-1/model"), Path("/s/task-2/model"), Path("/s/b.limbeck")])
    assert names == ["task-1", "task-2", "b.limbeck"]
    assert race._names([Path("/s/a/model"), Path("/t/a/bundle"), Path("org/a")]) == [
        "s/a", "t/a", "org/a",
    ]  # fmt: skip
    with pytest.raises(RecipeError, match="named twice"):
        race._names([Path("/s/b"), Path("/s/b")])


def test_energy_is_that_of_the_packages_where_it_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bench_process, "_ENERGY", tmp_path)
    assert energy_joules() is None
    for number, (name, spent) in enumerate([("package-0", 3e6), ("package-1", 4e6), ("psys", 9e6)]):
        zone = tmp_path / f"intel-rapl:{number}"
        zone.mkdir()
        (zone / "name").write_text(name + "\n")
        (zone / "energy_uj").write_text(f"{spent:.0f}\n")
    assert energy_joules() == 7.0
    (tmp_path / "intel-rapl:0/energy_uj").unlink()
    assert energy_joules() is None


def test_peak_memory_is_the_process_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t    12 kB\n")
    monkeypatch.setattr(bench_process, "_STATUS", status)
    assert peak_memory_bytes() == 12 * 1024
    status.write_text("Name:\tx\n")
    assert peak_memory_bytes() is None
    status.unlink()
    assert peak_memory_bytes() > 1e6
