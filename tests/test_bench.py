"""Timing: every system answers every input, in turn, and percentiles are percentiles."""

import pytest

from limbeck.bench import latency


def test_systems_answer_in_turn_after_a_warm_up():
    seen: list[tuple[str, int]] = []
    systems = {name: lambda one, name=name: seen.append((name, one)) for name in "ab"}
    latency(systems, [1, 2, 3], warmup=1)
    assert seen[:2] == [("a", 1), ("b", 1)], "the warm-up"
    assert seen[2:] == [(name, one) for one in (1, 2, 3) for name in "ab"]


def test_percentiles_are_those_of_the_times(monkeypatch: pytest.MonkeyPatch):
    ticks = iter(tick for i in range(101) for tick in (0.0, i / 1000))
    monkeypatch.setattr("limbeck.bench.time.perf_counter", lambda: next(ticks))
    found = latency({"one": lambda _: None}, range(101), warmup=0)["one"]
    assert (found.p50_ms, found.p90_ms, found.p99_ms, found.n) == (50.0, 90.0, 99.0, 101)


def test_a_single_answer_is_every_percentile():
    found = latency({"one": lambda _: None}, ["x"])["one"]
    assert found.p50_ms == found.p90_ms == found.p99_ms and found.n == 1


def test_nothing_to_time_is_told():
    with pytest.raises(ValueError, match="nothing to time"):
        latency({"one": lambda _: None}, [])
