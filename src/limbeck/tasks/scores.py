"""Scores of one label per word: entities in strict IOB2, tags over words.

Statistics are counts of one sentence each, so that they may be summed over any sample of
sentences; metrics are made of such sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from limbeck.errors import DataError
from limbeck.tasks.tagging import TaggedSentence


@dataclass(frozen=True, slots=True)
class Span:
    """An entity: its type and the words it covers, `start` included and `stop` not."""

    kind: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class LabelScore:
    """How one tag or entity type fared; `support` counts it in the gold labels."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


def spans(labels: Sequence[str]) -> list[Span]:
    """Gives the entities of a sentence in strict IOB2.

    A span starts at `B-X` only and goes on through `I-X`; an `I-X` after anything else is in no
    span. *Source*: seqeval 1.2.2, `mode="strict", scheme=IOB2`.
    """
    found = []
    for start, label in enumerate(labels):
        if label.startswith("B-"):
            stop = start + 1
            while stop < len(labels) and labels[stop] == "I-" + label[2:]:
                stop += 1
            found.append(Span(label[2:], start, stop))
    return found


def span_statistics(
    sentences: Sequence[TaggedSentence], predictions: Sequence[Sequence[str]]
) -> np.ndarray:
    """Gives what NER scores are made of.

    Args:
        sentences: With gold labels.
        predictions: One label per word of each.

    Returns:
        True positives, false positives, false negatives of each entity type in alphabetical
        order of the types that occur: int64 [N, 3 x types].

    Raises:
        DataError: the predictions do not fit the sentences.
    """
    return _tally(sentences, predictions, _span_units).counts.reshape(len(sentences), -1)


def tag_statistics(
    sentences: Sequence[TaggedSentence], predictions: Sequence[Sequence[str]]
) -> np.ndarray:
    """Gives what POS scores are made of: like `span_statistics`, for each tag over words."""
    return _tally(sentences, predictions, _tag_units).counts.reshape(len(sentences), -1)


def span_metrics(totals: np.ndarray) -> dict[str, np.ndarray]:
    """Gives micro-averaged precision, recall and F1 over entities; 0 where nothing is there.

    Args:
        totals: Sums of `span_statistics`, [..., K].

    Returns:
        Arrays [...] with values from 0 to 1.
    """
    right, wrong, missed = np.moveaxis(_by_label(totals).sum(axis=-2), -1, 0)
    return {
        "f1": _ratio(2 * right, 2 * right + wrong + missed),
        "precision": _ratio(right, right + wrong),
        "recall": _ratio(right, right + missed),
    }


def tag_metrics(totals: np.ndarray) -> dict[str, np.ndarray]:
    """Gives the share of words with the right tag, and F1 averaged over the tags that occur.

    Args:
        totals: Sums of `tag_statistics`, [..., K].

    Returns:
        Arrays [...] with values from 0 to 1. A tag counts in `macro_f1` when it is in the gold
        labels or the predictions (scikit-learn's convention).
    """
    right, wrong, missed = np.moveaxis(_by_label(totals), -1, 0)
    occurs = right + wrong + missed > 0
    f1 = _ratio(2 * right, 2 * right + wrong + missed)
    return {
        "accuracy": _ratio(right.sum(axis=-1), (right + missed).sum(axis=-1)),
        "macro_f1": _ratio(f1.sum(axis=-1), occurs.sum(axis=-1)),
    }


def span_scores(
    sentences: Sequence[TaggedSentence], predictions: Sequence[Sequence[str]]
) -> tuple[LabelScore, ...]:
    """Gives the score of each entity type that occurs, in alphabetical order."""
    return _label_scores(_tally(sentences, predictions, _span_units))


def tag_scores(
    sentences: Sequence[TaggedSentence], predictions: Sequence[Sequence[str]]
) -> tuple[LabelScore, ...]:
    """Gives the score of each tag that occurs, in alphabetical order."""
    return _label_scores(_tally(sentences, predictions, _tag_units))


def check_spans(sentences: Sequence[TaggedSentence]) -> None:
    """Makes sure that an NER score over these sentences can mean something.

    Raises:
        DataError: there is no entity in them.
    """
    if not any(spans(sentence.labels) for sentence in sentences):
        raise DataError(
            "no entity in these sentences, so no F1",
            where=sentences[0].where if sentences else "",
            found=f"{len(sentences)} sentences without a B- label",
            do="choose another split or label set",
        )


def check_tags(sentences: Sequence[TaggedSentence]) -> None:
    """Makes sure that a tagging score over these sentences can mean something.

    Raises:
        DataError: fewer than two different tags are in them.
    """
    tags = sorted({label for sentence in sentences for label in sentence.labels})
    if len(tags) < 2:
        raise DataError(
            "these sentences do not tell tags apart",
            where=sentences[0].where if sentences else "",
            found=f"the tags {tags}",
            expected="at least two",
        )


def agreement(a: Sequence[Sequence[Any]], b: Sequence[Sequence[Any]]) -> float:
    """Gives the share of answers that are equal in both predictions, 0 to 1.

    Args:
        a: The answers of one system: for each example as many as were asked for, such as words.
        b: Those of the other.

    Raises:
        DataError: they are not predictions for the same examples, or there is no answer.
    """
    if list(map(len, a)) != list(map(len, b)):
        raise DataError(
            "the two systems did not answer the same",
            found=f"{sum(map(len, a))} answers against {sum(map(len, b))}",
        )
    same = [
        x == y for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True)
    ]
    if not same:
        raise DataError("there is no answer to agree on")
    return sum(same) / len(same)


@dataclass(frozen=True, slots=True, eq=False)
class _Tally:
    """Labels, and int64 [N, C, 3]: found rightly, found wrongly, missed, in each sentence."""

    labels: list[str]
    counts: np.ndarray


_Units = Callable[[Sequence[str]], dict[tuple[int, int], str]]


def _span_units(labels: Sequence[str]) -> dict[tuple[int, int], str]:
    return {(span.start, span.stop): span.kind for span in spans(labels)}


def _tag_units(labels: Sequence[str]) -> dict[tuple[int, int], str]:
    return {(word, word + 1): label for word, label in enumerate(labels)}


def _tally(
    sentences: Sequence[TaggedSentence], predictions: Sequence[Sequence[str]], units: _Units
) -> _Tally:
    if len(sentences) != len(predictions):
        raise DataError(
            "there must be one prediction per sentence",
            found=f"{len(predictions)} for {len(sentences)} sentences",
        )
    pairs = []
    for sentence, prediction in zip(sentences, predictions, strict=True):
        if not len(sentence.labels) == len(sentence.words) == len(prediction):
            raise DataError(
                "a sentence needs one gold and one predicted label per word",
                where=sentence.where,
                found=f"{len(sentence.labels)} and {len(prediction)}",
                expected=str(len(sentence.words)),
            )
        pairs.append((units(sentence.labels), units(prediction)))
    labels = sorted({label for pair in pairs for side in pair for label in side.values()})
    column = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(pairs), len(labels), 3), dtype=np.int64)
    for row, (gold, predicted) in enumerate(pairs):
        for place, label in predicted.items():
            counts[row, column[label], 0 if gold.get(place) == label else 1] += 1
        for place, label in gold.items():
            counts[row, column[label], 2] += predicted.get(place) != label
    return _Tally(labels, counts)


def _label_scores(tally: _Tally) -> tuple[LabelScore, ...]:
    right, wrong, missed = np.moveaxis(tally.counts.sum(axis=0), -1, 0)
    precision, recall = _ratio(right, right + wrong), _ratio(right, right + missed)
    f1 = _ratio(2 * right, 2 * right + wrong + missed)
    return tuple(
        LabelScore(
            label, float(precision[i]), float(recall[i]), float(f1[i]), int(right[i] + missed[i])
        )
        for i, label in enumerate(tally.labels)
    )


def _by_label(totals: np.ndarray) -> np.ndarray:
    return totals.reshape(*totals.shape[:-1], -1, 3)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
