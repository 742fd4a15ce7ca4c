"""Turns predictions into scores with intervals, and compares systems on the same examples.

Examples are what is resampled: words of one sentence are not independent of each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from limbeck.errors import DataError, RecipeError
from limbeck.tasks import Task
from limbeck.tasks.scores import LabelScore

_CHUNK = 128


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each gold label (row) was taken for each label (column), in `labels`' order."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


def _confusion_of(found: Mapping[str, Any] | None) -> Confusion | None:
    if found is None:
        return None
    return Confusion(tuple(found["labels"]), tuple(map(tuple, found["counts"])))


@dataclass(frozen=True, slots=True)
class Scores:
    """What a system scored on a test set.

    Args:
        task: Name of the task.
        language: Language of the test set.
        n: How many examples.
        units: How many answers were asked for, such as words.
        metrics: Values from 0 to 1 by name.
        interval: Lower and upper end of the 95 % interval by name of the metric.
        primary: The metric that systems are ranked by.
        per_label: Precision, recall, F1 and support of each label.
        confusion: How often each gold label was taken for each, where answers are single labels.
    """

    task: str
    language: str
    n: int
    units: int
    metrics: dict[str, float]
    interval: dict[str, tuple[float, float]]
    primary: str
    per_label: tuple[LabelScore, ...] = ()
    confusion: Confusion | None = None

    def to_dict(self) -> dict[str, Any]:
        """Gives what `limbeck evaluate --json` prints."""
        return {
            "task": self.task,
            "language": self.language,
            "n": self.n,
            "units": self.units,
            "metrics": dict(self.metrics),
            "interval": {name: list(ends) for name, ends in self.interval.items()},
            "primary": self.primary,
            "per_label": [asdict(label) for label in self.per_label],
            **({"confusion": asdict(self.confusion)} if self.confusion else {}),
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Scores":
        """Gives the scores back that `to_dict` wrote.

        Raises:
            DataError: a field is missing or of another kind.
        """
        try:
            return cls(
                task=found["task"],
                language=found["language"],
                n=int(found["n"]),
                units=int(found["units"]),
                metrics={name: float(value) for name, value in found["metrics"].items()},
                interval={
                    name: (float(low), float(high))
                    for name, (low, high) in found["interval"].items()
                },
                primary=found["primary"],
                per_label=tuple(LabelScore(**label) for label in found.get("per_label", ())),
                confusion=_confusion_of(found.get("confusion")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                "these are not scores that limbeck wrote",
                found=f"{type(error).__name__}: {error}",
                expected="what Scores.to_dict gives",
            ) from error


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the same examples.

    Args:
        metric: Name of the primary metric.
        a: The first system's value.
        b: The second system's value.
        difference: a - b.
        interval: 95 % interval of the difference.
        p_value: Probability of a difference at least as large, in either direction, if it made
            no difference which of the two systems answered an example.
        n: How many examples.
    """

    metric: str
    a: float
    b: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Gives the fields by name, ready for JSON."""
        return {**asdict(self), "interval": list(self.interval)}


def score(
    task: Task,
    examples: Sequence[Any],
    predictions: Sequence[Any],
    *,
    language: str,
    resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """Gives the metrics of predictions with 95 % percentile bootstrap intervals over examples.

    *Source*: Efron and Tibshirani 1993, chapter 13 (the percentile interval).

    Args:
        task: A record of `TASKS`.
        examples: With gold labels.
        predictions: One for each.
        language: Language of the examples.
        resamples: How many samples the intervals rest on.
        seed: Of the resampling.

    Raises:
        DataError: there is no example, or the predictions do not fit.
        RecipeError: `resamples` is not positive.
    """
    statistics = _statistics(task, examples, predictions)
    values = task.metrics(statistics.sum(axis=0))
    draws = task.metrics(_resampled(statistics, resamples, np.random.default_rng(seed)))
    return Scores(
        task=task.name,
        language=language,
        n=len(examples),
        units=task.count_units(examples),
        metrics={name: float(value) for name, value in values.items()},
        interval={name: _interval(draws[name]) for name in values},
        primary=task.primary,
        per_label=task.per_label(examples, predictions),
        confusion=_confusion(task, examples, predictions),
    )


def _confusion(task: Task, examples: Sequence[Any], predictions: Sequence[Any]) -> Confusion | None:
    if task.confusion is None:
        return None
    labels, counts = task.confusion(examples, predictions)
    return Confusion(tuple(labels), tuple(tuple(map(int, row)) for row in counts))


def compare(
    task: Task,
    examples: Sequence[Any],
    a: Sequence[Any],
    b: Sequence[Any],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compares two systems on the same examples by the task's primary metric.

    *Source*: the interval is a paired bootstrap (Koehn 2004); the p-value is approximate
    randomisation over examples, two-sided, with one added to both counts (Noreen 1989; Yeh 2000).

    Args:
        task: A record of `TASKS`.
        examples: With gold labels.
        a: Predictions of the first system.
        b: Predictions of the second system.
        resamples: How many samples the interval and the p-value rest on each.
        seed: Of both.

    Raises:
        DataError: there is no example, or the predictions do not fit.
        RecipeError: `resamples` is not positive.
    """
    n = len(examples)
    _check_count(examples, a)
    _check_count(examples, b)
    # Counted together, so that both have the same columns.
    both = _statistics(task, [*examples, *examples], [*a, *b])
    pair = np.concatenate([both[:n], both[n:]], axis=1)
    value_a, value_b = (float(value) for value in _primaries(task, pair.sum(axis=0)))
    rng = np.random.default_rng(seed)
    drawn_a, drawn_b = _primaries(task, _resampled(pair, resamples, rng))
    swapped_a, swapped_b = _primaries(task, _swapped(pair, resamples, rng))
    # Sums of the same counts in another order may differ in the last bit.
    extreme = np.abs(swapped_a - swapped_b) >= abs(value_a - value_b) - 1e-12
    return Comparison(
        metric=task.primary,
        a=value_a,
        b=value_b,
        difference=value_a - value_b,
        interval=_interval(drawn_a - drawn_b),
        p_value=float((extreme.sum() + 1) / (resamples + 1)),
        n=n,
    )


def loyalty(task: Task, a: Sequence[Any], b: Sequence[Any]) -> float:
    """Gives how far two systems answer alike, right or wrong: student against teacher, say.

    Returns:
        The share of equal answers, 0 to 1.

    Raises:
        DataError: they did not answer for the same examples.
    """
    return task.agreement(a, b)


def _statistics(task: Task, examples: Sequence[Any], predictions: Sequence[Any]) -> np.ndarray:
    _check_count(examples, predictions)
    if not examples:
        raise DataError("there is no example to score")
    return task.statistics(examples, predictions)


def _check_count(examples: Sequence[Any], predictions: Sequence[Any]) -> None:
    if len(examples) != len(predictions):
        raise DataError(
            "there must be one prediction per example",
            found=f"{len(predictions)} for {len(examples)} examples",
        )


def _primaries(task: Task, pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives the primary metric of both systems from their columns [..., 2K], each [...]."""
    width = pair.shape[-1] // 2
    return (
        task.metrics(pair[..., :width])[task.primary],
        task.metrics(pair[..., width:])[task.primary],
    )


def _resampled(statistics: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Gives sums over examples drawn with replacement: [N, K] to float64 [resamples, K]."""
    if resamples < 1:
        raise RecipeError("an interval needs resamples", found=str(resamples), expected="1000, say")
    n = len(statistics)
    values = statistics.astype(np.float64)
    sums = []
    for start in range(0, resamples, _CHUNK):
        drawn = rng.integers(n, size=(min(_CHUNK, resamples - start), n))
        weights = np.stack([np.bincount(row, minlength=n) for row in drawn])
        sums.append(weights.astype(np.float64) @ values)
    return np.concatenate(sums)


def _swapped(pair: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Gives sums with the systems swapped in random examples: [N, 2K] to [resamples, 2K]."""
    width = pair.shape[1] // 2
    values = pair.astype(np.float64)
    a, b = values[:, :width], values[:, width:]
    moved = []
    for start in range(0, resamples, _CHUNK):
        swap = rng.integers(2, size=(min(_CHUNK, resamples - start), len(pair)))
        moved.append(swap.astype(np.float64) @ (b - a))
    change = np.concatenate(moved)
    return np.concatenate([a.sum(axis=0) + change, b.sum(axis=0) - change], axis=1)


def _interval(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
