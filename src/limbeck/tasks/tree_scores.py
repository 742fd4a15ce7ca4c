"""Scores of dependency trees: words with the right head, and with the right relation to it.

The words are given, so attachment scores are accuracies over all words, punctuation and root
included. `las` and `uas` are those of the CoNLL 2018 shared task: its LAS compares universal
relations, what stands before the colon. `las_full` compares relations with their subtypes, which
older papers report as LAS.

*Source*: Zeman et al. 2018 (CoNLL 2018 shared task, K18-2001), section 4; `evaluate` in
udtools.udeval 0.2.9.
"""

from collections.abc import Sequence

import numpy as np

from limbeck.errors import DataError
from limbeck.tasks import scores
from limbeck.tasks.parsing import ParsedSentence
from limbeck.tasks.scores import LabelScore

NAMES = ("uas", "las", "las_full", "relations")
"""The columns of the statistics after the first, which counts words."""

_Pairs = Sequence[tuple[int, str]]


def universal(relation: str) -> str:
    """Gives the relation without its subtype: `nmod` of `nmod:poss`."""
    return relation.partition(":")[0]


def statistics(examples: Sequence[ParsedSentence], predictions: Sequence[_Pairs]) -> np.ndarray:
    """Gives what attachment scores are made of.

    Args:
        examples: With gold trees.
        predictions: Head and relation of every word of each.

    Returns:
        Words; those with the right head; with the right head and universal relation; with the
        right head and full relation; with the right universal relation, whatever the head:
        int64 [N, 5].

    Raises:
        DataError: the predictions do not fit the examples.
    """
    counts = np.zeros((len(examples), 1 + len(NAMES)), dtype=np.int64)
    for row, (gold, answers) in enumerate(_paired(examples, predictions)):
        for (head, relation), (found_head, found) in zip(gold, answers, strict=True):
            attached = head == found_head
            named = universal(relation) == universal(found)
            full = attached and relation == found
            counts[row] += (1, attached, attached and named, full, named)
    return counts


def metrics(totals: np.ndarray) -> dict[str, np.ndarray]:
    """Gives the shares of words that are right; 0 where there is no word.

    Args:
        totals: Sums of `statistics`, [..., 5].

    Returns:
        Arrays [...] with values from 0 to 1: `uas`, the head; `las`, head and universal relation
        (the official LAS); `las_full`, head and relation with subtype; `relations`, the universal
        relation whatever the head.
    """
    words = np.asarray(totals[..., 0], dtype=float)
    return {
        name: np.divide(
            totals[..., 1 + i], words, out=np.zeros(words.shape, dtype=float), where=words > 0
        )
        for i, name in enumerate(NAMES)
    }


def per_label(
    examples: Sequence[ParsedSentence], predictions: Sequence[_Pairs]
) -> tuple[LabelScore, ...]:
    """Gives the score of each universal relation that occurs, in alphabetical order.

    An arc is right when its head and its universal relation are; `support` counts gold arcs.

    Raises:
        DataError: the predictions do not fit the examples.
    """
    counts: dict[str, list[int]] = {}
    for gold, answers in _paired(examples, predictions):
        for (head, relation), (found_head, found) in zip(gold, answers, strict=True):
            wanted, given = universal(relation), universal(found)
            counts.setdefault(wanted, [0, 0, 0])[1] += 1
            counts.setdefault(given, [0, 0, 0])[2] += 1
            counts[wanted][0] += wanted == given and head == found_head
    return tuple(
        LabelScore(
            label,
            precision=right / given if given else 0.0,
            recall=right / support if support else 0.0,
            f1=2 * right / (given + support),
            support=support,
        )
        for label, (right, support, given) in sorted(counts.items())
    )


def check(examples: Sequence[ParsedSentence]) -> None:
    """Makes sure that an attachment score over these sentences can mean something.

    Raises:
        DataError: no word has another for its head.
    """
    if not any(head for example in examples for head in example.heads):
        raise DataError(
            "no word in these sentences has another for its head",
            where=examples[0].where if examples else "",
            found=f"{len(examples)} sentences",
            expected="trees of more than one word",
            do="choose another split",
        )


def agreement(a: Sequence[_Pairs], b: Sequence[_Pairs]) -> float:
    """Gives the share of words with the same head and relation in both predictions, 0 to 1.

    Raises:
        DataError: they are not predictions for the same examples, or there is none.
    """
    return scores.agreement(
        [list(map(tuple, one)) for one in a], [list(map(tuple, one)) for one in b]
    )


def _paired(
    examples: Sequence[ParsedSentence], predictions: Sequence[_Pairs]
) -> list[tuple[list[tuple[int, str]], _Pairs]]:
    if len(examples) != len(predictions):
        raise DataError(
            "there must be one prediction per sentence",
            found=f"{len(predictions)} for {len(examples)} sentences",
        )
    pairs = []
    for example, prediction in zip(examples, predictions, strict=True):
        if not len(example.heads) == len(example.words) == len(prediction):
            raise DataError(
                "a sentence needs one gold and one predicted head per word",
                where=example.where,
                found=f"{len(example.heads)} and {len(prediction)}",
                expected=str(len(example.words)),
            )
        pairs.append((list(zip(example.heads, example.relations, strict=True)), prediction))
    return pairs
