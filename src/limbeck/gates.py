"""The two gates of a bundle: a graph answers as torch does, and in 8 bits as well as in 32.

The first compares all answers and scores on real sentences. The second scores the 8-bit graph
beside the 32-bit one on labelled data: by how far the score falls, and by how far it would but for
one example.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from limbeck.answering import TaskModel, settled
from limbeck.errors import ExportError
from limbeck.evaluate import loyalty, score
from limbeck.tasks import Task

PARITY = 0.995
"""Least share of answers in which the graph and torch must agree."""
TOLERANCE = 0.005
"""Most that a score may fall in 8 bits, unless another is given."""
ONE_EXAMPLE = 0.05
"""Most that a score may fall where it exceeds the tolerance by no more than one example makes."""
_NOISE = 1e-9
"""Of sums of shares: a fall of exactly the tolerance is within it."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What a graph is tried on.

    Args:
        examples: Sentences of the task, real ones.
        labelled: Labelled examples by which 8 bits are judged; without them the answers of 32
            bits are taken for gold.
    """

    examples: Sequence[Any]
    labelled: Sequence[Any] = ()


def parity(asked: TaskModel, whole: TaskModel, gate: Gate) -> dict[str, Any]:
    """Compare a graph with torch.

    Args:
        asked: What answers the task by torch.
        whole: What answers it by the graph.
        gate: The sentences.

    Returns:
        Their number, the share of answers that agree, the largest difference of scores.

    Raises:
        ExportError: They disagree in more answers than allowed.
    """
    windows = asked.task.encode(gate.examples, asked.tokenizer, None, max_pieces=asked.max_pieces)
    scores = [one.outputs(windows) for one in (whole, asked)]
    apart = max(float(np.abs(a - b).max(initial=0)) for a, b in zip(*scores, strict=True))
    answers = [asked.task.decode(gate.examples, windows, one, asked.labels) for one in scores]
    agree = loyalty(asked.task, *(settled(asked.task, one, asked.settings) for one in answers))
    if agree < PARITY or not np.isfinite(apart):
        raise ExportError(
            "the exported graph does not answer as torch does",
            found=f"{100 * agree:.2f} % of the answers agree, scores differ by up to {apart:.3g}",
            expected=f"at least {100 * PARITY:.1f} %",
        )
    return {"sentences": len(gate.examples), "agreement": agree, "largest_difference": apart}


def judged_answers(asked: TaskModel, gate: Gate) -> list[Any]:
    """Give the answers by which 8 bits are judged."""
    return asked.answer(gate.labelled or gate.examples)


def fall(task: Task, before: list[Any], after: list[Any], gate: Gate) -> dict[str, Any]:
    """Score 8 bits beside 32: on gold labels, or on the answers of 32 bits where there are none.

    Args:
        task: The task.
        before: The answers of 32 bits to what judges, `judged_answers`.
        after: Those of 8 bits.
        gate: What judges.

    Returns:
        The metric, the number of examples, both scores as shares, how far the second falls, and
        how far with the one example left out that makes the most of it.
    """
    if gate.labelled:
        first, second = (
            score(task, gate.labelled, one, language="dev", resamples=1).metrics[task.primary]
            for one in (before, after)
        )
        told: dict[str, Any] = {"metric": task.primary, "n": len(gate.labelled)}
    else:
        first, second = 1.0, loyalty(task, after, before)
        told = {"metric": "agreement with 32 bits", "n": len(gate.examples)}
    told |= {"fp32": first, "int8": second, "fall": first - second}
    alone = len(gate.labelled) < 2
    least = told["fall"] if alone else _fall_but_for_one(task, before, after, gate.labelled)
    return told | {"but_for_one": least}


def is_open(told: dict[str, Any], tolerance: float) -> bool:
    """Tell whether a `fall` is within a tolerance, rounded up to a whole example.

    So a few dozen examples do not refuse what one answer makes. A tolerance of 0 is none.

    Args:
        told: As `fall` gives it.
        tolerance: Most that the score may fall, as a share.
    """
    if told["fall"] <= tolerance + _NOISE:
        return True
    is_one_more = told["but_for_one"] <= tolerance + _NOISE and told["fall"] <= ONE_EXAMPLE
    return bool(tolerance > 0 and is_one_more)


def _fall_but_for_one(
    task: Task, before: list[Any], after: list[Any], examples: Sequence[Any]
) -> float:
    """Give the least fall of the score with one example left out, or with none.

    In a few dozen examples a single answer is a point or two: what it alone makes is no evidence.
    """
    counts = (task.statistics(examples, one) for one in (before, after))
    sums = (np.vstack([one.sum(axis=0), one.sum(axis=0) - one]) for one in counts)
    first, second = (task.metrics(one)[task.primary] for one in sums)
    return float(np.min(first - second))
