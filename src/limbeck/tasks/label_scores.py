"""Scores of one label per text: accuracy, macro F1, the confusion matrix."""

from collections.abc import Sequence

import numpy as np

from limbeck.errors import DataError
from limbeck.tasks import scores
from limbeck.tasks.classification import LabelledText
from limbeck.tasks.scores import LabelScore, tag_metrics


def statistics(examples: Sequence[LabelledText], predictions: Sequence[str]) -> np.ndarray:
    """Gives what scores are made of.

    Returns:
        Found rightly, found wrongly, missed of each label in alphabetical order of the labels
        that occur, gold or predicted: int64 [N, 3 x labels].

    Raises:
        DataError: the predictions do not fit the examples, or an example has no gold label.
    """
    names, gold, predicted = _numbered(examples, predictions)
    counts = np.zeros((len(gold), len(names), 3), dtype=np.int64)
    every, wrong = np.arange(len(gold)), gold != predicted
    counts[every, predicted, np.where(wrong, 1, 0)] = 1
    counts[every[wrong], gold[wrong], 2] = 1
    return counts.reshape(len(gold), -1)


def metrics(totals: np.ndarray) -> dict[str, np.ndarray]:
    """Gives accuracy, and F1 averaged over the labels that occur.

    Args:
        totals: Sums of `statistics`, [..., K].

    Returns:
        `accuracy` and `macro_f1`, arrays [...] with values from 0 to 1. A label counts in
        `macro_f1` when it is gold or predicted somewhere (scikit-learn's convention).
    """
    return tag_metrics(totals)


def confusion(
    examples: Sequence[LabelledText], predictions: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Gives the labels that occur, in alphabetical order, and how often each pair of them does.

    Returns:
        The labels, and counts int64 [C, C]: rows are gold labels, columns predicted ones.

    Raises:
        DataError: the predictions do not fit the examples, or an example has no gold label.
    """
    names, gold, predicted = _numbered(examples, predictions)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (gold, predicted), 1)
    return names, counts


def per_label(
    examples: Sequence[LabelledText], predictions: Sequence[str]
) -> tuple[LabelScore, ...]:
    """Gives the score of each label that occurs, in alphabetical order.

    Raises:
        DataError: the predictions do not fit the examples, or an example has no gold label.
    """
    names, counts = confusion(examples, predictions)
    right, support, said = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    return tuple(
        LabelScore(
            label,
            precision=float(right[i] / max(said[i], 1)),
            recall=float(right[i] / max(support[i], 1)),
            f1=float(2 * right[i] / (said[i] + support[i])),
            support=int(support[i]),
        )
        for i, label in enumerate(names)
    )


def check(examples: Sequence[LabelledText]) -> None:
    """Makes sure that a score over these examples can mean something.

    Raises:
        DataError: an example has no label, or all have the same.
    """
    for example in examples:
        if not example.label:
            raise DataError("a text without a label cannot be scored", where=example.where)
    found = sorted({example.label for example in examples})
    if len(found) < 2:
        raise DataError(
            "these texts do not tell labels apart",
            where=examples[0].where if examples else "",
            found=f"the labels {found}",
            expected="at least two",
        )


def agreement(a: Sequence[str], b: Sequence[str]) -> float:
    """Gives the share of texts with the same label in both predictions, 0 to 1.

    Raises:
        DataError: they are not predictions for the same examples, or there is none.
    """
    return scores.agreement([[one] for one in a], [[one] for one in b])


def _numbered(
    examples: Sequence[LabelledText], predictions: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Gives the labels that occur, and the numbers of the gold and the predicted ones [N]."""
    if len(examples) != len(predictions):
        raise DataError(
            "there must be one prediction per text",
            found=f"{len(predictions)} for {len(examples)} texts",
        )
    for example in examples:
        if not example.label:
            raise DataError("a text without a label cannot be scored", where=example.where)
    gold = [example.label for example in examples]
    names = tuple(sorted({*gold, *predictions}))
    column = {name: i for i, name in enumerate(names)}
    numbers = [
        np.array([column[one] for one in side], dtype=np.int64) for side in (gold, predictions)
    ]
    return names, numbers[0], numbers[1]
