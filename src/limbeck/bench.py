"""How long answers take: systems timed in turn on the same inputs, and what an answer costs.

Nothing here knows where an answer comes from; `race` has systems in processes of their own.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

Input = TypeVar("Input")

LENGTHS = (8, 16, 32, 64)
"""Most words of a sentence in each class of length; one more class for what is longer."""


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


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model holds, and what it computes for a sentence.

    Args:
        parameters: All, tied ones once.
        products_per_piece: Multiplications by the layers' matrices, for one piece. The head is not
            counted, nor are norms.
        products_per_pair: Multiplications of attention, for one pair of pieces. Layers that attend
            to a window of pieces are counted as if they attended to all, and so is a last one that
            attends for one piece.
        products_per_text: Multiplications by matrices that a graph does for one piece of a text
            alone.
    """

    parameters: int
    products_per_piece: int
    products_per_pair: int
    products_per_text: int = 0

    @property
    def matrices(self) -> int:
        """Give the entries of the layers' matrices, each of which an answer reads."""
        return self.products_per_piece + self.products_per_text

    def flops(self, pieces: int) -> int:
        """Give the operations for a sentence; a product and its sum are two."""
        by_piece = pieces * (self.products_per_piece + pieces * self.products_per_pair)
        return 2 * (by_piece + self.products_per_text)


def calm_environment(threads: int) -> dict[str, str]:
    """Give the environment of a process that is timed: so many threads, and none spins in waiting.

    Those that do would slow whatever is timed next.
    """
    return {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(threads)}


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

    def timed(answer: Callable[[Input], object], one: Input) -> float:
        started = time.perf_counter()
        answer(one)
        return 1000 * (time.perf_counter() - started)

    if not inputs:
        raise ValueError("nothing to time")
    for answer in systems.values():
        for one in inputs[:warmup]:
            answer(one)
    times: dict[str, list[float]] = {name: [] for name in systems}
    for one in inputs:
        for name, answer in systems.items():
            times[name].append(timed(answer, one))
    return {name: percentiles(found) for name, found in times.items()}


def percentiles(times: Sequence[float]) -> Latency:
    """Give the percentiles of times in milliseconds, at least one."""
    cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else None
    p50, p90, p99 = (cuts[49], cuts[89], cuts[98]) if cuts else [times[0]] * 3
    return Latency(round(p50, 3), round(p90, 3), round(p99, 3), len(times))


def by_length(times: Sequence[float], words: Sequence[int]) -> dict[str, Latency]:
    """Give the percentiles of each class of length that has sentences, short ones first.

    Args:
        times: Milliseconds of each answer.
        words: How many words each was about.
    """
    found = {}
    for low, high in zip((0, *LENGTHS), (*LENGTHS, None), strict=True):
        some = [t for t, n in zip(times, words, strict=True) if n > low and (not high or n <= high)]
        if some:
            found[f"{low + 1}-{high}" if high else f"{low + 1}+"] = percentiles(some)
    return found
