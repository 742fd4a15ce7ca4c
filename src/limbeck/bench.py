"""How long answers take: systems timed in turn, in one process, on the same inputs."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

Input = TypeVar("Input")


@dataclass(frozen=True, slots=True)
class Latency:
    """Wall time of one answer at a time.

    Args:
        p50_ms: Median, milliseconds.
        p90_ms: What nine answers of ten stay below, milliseconds.
        p99_ms: What 99 answers of a hundred stay below, milliseconds.
        n: Answers timed.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    n: int

    def to_dict(self) -> dict[str, float]:
        """Give the fields, ready for JSON."""
        return asdict(self)


def latency(
    systems: Mapping[str, Callable[[Input], object]], inputs: Sequence[Input], *, warmup: int = 5
) -> dict[str, Latency]:
    """Time systems one input at a time, in turn, so that a busy moment hits them alike.

    Args:
        systems: Name to a function that answers one input.
        inputs: What each system answers, once.
        warmup: Answers of each system that are given before the clock starts.

    Returns:
        Name to latency, in the order of `systems`.

    Raises:
        ValueError: There is no input.
    """
    if not inputs:
        raise ValueError("nothing to time")
    for answer in systems.values():
        for one in inputs[:warmup]:
            answer(one)
    times: dict[str, list[float]] = {name: [] for name in systems}
    for one in inputs:
        for name, answer in systems.items():
            started = time.perf_counter()
            answer(one)
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: _latency(found) for name, found in times.items()}


def _latency(times: Sequence[float]) -> Latency:
    cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else None
    p50, p90, p99 = (cuts[49], cuts[89], cuts[98]) if cuts else [times[0]] * 3
    return Latency(round(p50, 3), round(p90, 3), round(p99, 3), len(times))
