"""One label per word: named entities in strict IOB2, and parts of speech.

Words go in, windows of pieces come out; logits over windows go in, one label per word comes out.
A label sits on the first piece of its word. A sentence too long for the model is read through
overlapping windows, and each word is answered by the one window that shows most of its context.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from limbeck.corpus import words_of
from limbeck.errors import DataError, ModelError
from limbeck.tasks.windows import IGNORED, Window, check_scores, with_scores, word_windows


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """A sentence that is already split into words, with one label per word or none at all.

    Args:
        words: The words as published.
        labels: One label per word; empty for a sentence without labels.
        where: `file:line` of the first word, for messages.

    Raises:
        DataError: there are labels, but not one per word.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...] = ()
    where: str = ""

    def __post_init__(self) -> None:
        if self.labels and len(self.labels) != len(self.words):
            raise DataError(
                "a sentence needs one label per word",
                where=self.where,
                found=f"{len(self.labels)} labels for {len(self.words)} words",
            )


def encode(
    sentences: Sequence[TaggedSentence],
    tokenizer: Tokenizer,
    labels: Sequence[str] | None,
    *,
    max_pieces: int = 128,
    stride: int = 32,
) -> list[Window]:
    """Gives the windows of all sentences, in order; every word is owned by exactly one window.

    Marks: `words` [T], the index of a word at its first piece in the window that owns it, and
    `labels` [T], its label's number in the same place.

    A word in which the tokenizer finds nothing (a lone zero-width or control character) is read
    as the unknown piece and counted in `Window.stand_ins`. No piece is dropped.

    Args:
        sentences: With labels, or without for prediction.
        tokenizer: Its truncation and padding are ignored; `pieces_of_words` says how it reads.
        labels: The label set in the order of the model's classes; None leaves all labels ignored.
        max_pieces: Length of the longest window, special pieces included.
        stride: How many pieces neighbouring windows share.

    Raises:
        DataError: a sentence has a label outside `labels`.
        RecipeError: `max_pieces` leaves no room between special pieces and overlap.
        ModelError: the tokenizer finds no piece in any Latin letter or digit.
    """
    label_ids = None if labels is None else {label: i for i, label in enumerate(labels)}
    targets = [_label_ids(sentence, label_ids) for sentence in sentences]
    windows: list[Window] = []
    for one in word_windows(
        [sentence.words for sentence in sentences], tokenizer, max_pieces=max_pieces, stride=stride
    ):
        words, at, length = one.words[one.owned], one.firsts[one.owned], len(one.pieces)
        marks = {
            "words": _placed(words, at, length=length),
            "labels": _placed(targets[one.example][words], at, length=length),
        }
        windows.append(Window(one.example, one.pieces, marks, stand_ins=one.stand_ins))
    return windows


def decode(
    sentences: Sequence[TaggedSentence],
    windows: Sequence[Window],
    logits: Sequence[np.ndarray],
    labels: Sequence[str],
) -> list[tuple[str, ...]]:
    """Gives the likeliest label of every word.

    Ill-formed IOB2 (an `I-X` that continues nothing) is left as it is, and no span starts there:
    the field's strict scoring does not repair predictions, and neither do we.

    Args:
        sentences: What was encoded.
        windows: What `encode` gave for them.
        logits: One float array [T, C] per window, in the same order.
        labels: The label set, C long.

    Raises:
        ModelError: the logits do not fit the windows and labels, or are not finite.
    """
    answers: list[list[str | None]] = [[None] * len(sentence.words) for sentence in sentences]
    for window, scores in with_scores(windows, logits):
        words = window.marks["words"]
        owned, where = words >= 0, sentences[window.example].where
        check_scores(scores, (len(window.pieces), len(labels)), read=owned, where=where)
        chosen = scores[owned].argmax(axis=-1)
        for word, label in zip(words[owned].tolist(), chosen.tolist(), strict=True):
            answers[window.example][word] = labels[label]
    return [
        _complete(answer, sentence) for answer, sentence in zip(answers, sentences, strict=True)
    ]


def iob2_labels(types: Sequence[str]) -> tuple[str, ...]:
    """Gives the tags of these entity types: `O`, then `B-` and `I-` of each."""
    return ("O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI"))


def count_units(sentences: Sequence[TaggedSentence]) -> int:
    """Gives the number of words."""
    return sum(len(sentence.words) for sentence in sentences)


def majority(
    train: Sequence[TaggedSentence], sentences: Sequence[TaggedSentence]
) -> list[tuple[str, ...]]:
    """Gives the predictions of a system that always says the commonest label of `train`.

    For parts of speech this is chance level. For named entities the commonest label is `O`, no
    entity is found, and F1 is 0 by definition: the baseline says nothing there.

    Raises:
        DataError: `train` has no label.
    """
    counts = Counter(label for sentence in train for label in sentence.labels)
    if not counts:
        raise DataError("no label to take the commonest of", found=f"{len(train)} sentences")
    commonest = min(counts, key=lambda label: (-counts[label], label))
    return [(commonest,) * len(sentence.words) for sentence in sentences]


def from_text(text: str, where: str) -> TaggedSentence | None:
    """Gives running text as a sentence without labels, or None where it has no word."""
    words = tuple(words_of(text))
    return TaggedSentence(words=words, where=where) if words else None


def relabelled(sentence: TaggedSentence, labels: Sequence[str]) -> TaggedSentence:
    """Gives the sentence with other labels."""
    return replace(sentence, labels=tuple(labels))


def describe(sentence: TaggedSentence) -> dict[str, Any]:
    """Gives what a file of predictions tells of a sentence."""
    return {"where": sentence.where, "words": sentence.words, "gold": sentence.labels}


def identify(sentence: TaggedSentence) -> tuple[str, ...]:
    """Gives the words: equal sentences are the same sentence."""
    return sentence.words


def _complete(answer: list[str | None], sentence: TaggedSentence) -> tuple[str, ...]:
    if None in answer:
        raise ModelError(
            "a word got no answer: these are not the windows of these sentences",
            where=sentence.where,
        )
    return tuple(label for label in answer if label is not None)


def _label_ids(sentence: TaggedSentence, label_ids: dict[str, int] | None) -> np.ndarray:
    if label_ids is None or not sentence.labels:
        return np.full(len(sentence.words), IGNORED, dtype=np.int64)
    outside = [label for label in sentence.labels if label not in label_ids]
    if outside:
        raise DataError(
            "a sentence has a label that the model does not know",
            where=sentence.where,
            found=outside[0],
            expected="one of " + " ".join(label_ids),
            do="load the examples with the model's labels",
        )
    return np.array([label_ids[label] for label in sentence.labels], dtype=np.int64)


def _placed(values: np.ndarray, at: np.ndarray, *, length: int) -> np.ndarray:
    row = np.full(length, IGNORED, dtype=np.int64)
    row[at] = values
    return row
