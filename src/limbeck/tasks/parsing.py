"""Dependency parsing: for each word its head and the relation to it, as a tree with one root.

Words go in, windows of pieces come out; scores of arcs and relations go in, trees come out. A
sentence too long for the model is read through overlapping windows; each word is answered by the
one window that shows most of its context, and takes its head from the words seen there.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from limbeck.corpus import words_of
from limbeck.errors import DataError, ModelError
from limbeck.tasks.trees import maximum_tree
from limbeck.tasks.windows import IGNORED, Window, check_scores, with_scores, word_windows

_DECIMALS = 5
"""Of an arc's score, a logarithm in 32 bits, beyond which there is only rounding."""
STRETCH = 500
"""Words whose best tree is sought together: seconds where it is hardest, and more with the square.
No sentence of a treebank is so long; of a longer text the trees of its stretches hang on the first.
"""
MOST_WORDS = 10_000
"""Words of one text that are read at all: their scores fill a gigabyte."""

Tree = tuple[tuple[int, str], ...]
"""Head (0 is the root, else a word counted from 1) and relation of every word."""


@dataclass(frozen=True, slots=True)
class ParsedSentence:
    """A sentence in syntactic words, with a head and a relation for each or none at all.

    Args:
        words: The words as published.
        heads: One per word: 0 for the root, else a word counted from 1; empty without labels.
        relations: One per word as published, with subtypes (`nmod:poss`); empty without labels.
        ranges: Multiword tokens: first and last word counted from 1, and the form. In order.
        where: `file:line` of the first word, for messages.

    Raises:
        DataError: there are heads or relations but not one per word, a head is outside the
            sentence or the word itself, or a multiword token overlaps another or the end.
    """

    words: tuple[str, ...]
    heads: tuple[int, ...] = ()
    relations: tuple[str, ...] = ()
    ranges: tuple[tuple[int, int, str], ...] = ()
    where: str = ""

    def __post_init__(self) -> None:
        count = len(self.words)
        if len(self.heads) != len(self.relations) or len(self.heads) not in (0, count):
            raise DataError(
                "a sentence needs one head and one relation per word",
                where=self.where,
                found=f"{len(self.heads)} and {len(self.relations)} for {count} words",
            )
        for word, head in enumerate(self.heads, start=1):
            if not 0 <= head <= count or head == word:
                raise DataError(
                    "a head must be 0 or another word of the sentence",
                    where=self.where,
                    found=f"{head} for word {word} of {count}",
                )
        before = 0
        for first, last, _ in self.ranges:
            if not before < first <= last <= count:
                raise DataError(
                    "multiword tokens must follow one another inside the sentence",
                    where=self.where,
                    found=f"{first}-{last} after word {before} in a sentence of {count}",
                )
            before = last


def encode(
    examples: Sequence[ParsedSentence],
    tokenizer: Tokenizer,
    labels: Sequence[str] | None,
    *,
    max_pieces: int = 128,
    stride: int = 32,
) -> list[Window]:
    """Gives the windows of all sentences, in order; every word is owned by exactly one window.

    Marks, each int64 over the words whose first piece lies in the window [W]: `firsts` and `lasts`,
    where the word's first and last piece stand among the window's pieces; `words`, its index in
    the sentence; `owned`, 1 where this window answers for it, else 0; `heads`, 0 for the root,
    else 1 + the index of its head among this window's words; `relations`, its relation's number.
    The last two are `IGNORED` where the word is not owned or its head is not in the window.

    A word in which the tokenizer finds nothing is read as the unknown piece and counted in
    `Window.stand_ins` of the window that owns it. No piece is dropped.

    Args:
        examples: With trees, or without for prediction.
        tokenizer: Its truncation and padding are ignored; `pieces_of_words` says how it reads.
        labels: The relations in the order of the model's classes; None leaves all trees ignored.
        max_pieces: Length of the longest window, special pieces included.
        stride: How many pieces neighbouring windows share.

    Raises:
        DataError: a sentence has a relation outside `labels`.
        RecipeError: `max_pieces` leaves no room between special pieces and overlap.
        ModelError: the tokenizer finds no piece in any Latin letter or digit.
    """
    label_ids = None if labels is None else {label: i for i, label in enumerate(labels)}
    targets = [_targets(example, label_ids) for example in examples]
    windows: list[Window] = []
    for one in word_windows(
        [example.words for example in examples], tokenizer, max_pieces=max_pieces, stride=stride
    ):
        heads, relations = targets[one.example]
        place = np.full(len(heads) + 1, IGNORED, dtype=np.int64)
        place[0] = 0
        place[one.words + 1] = 1 + np.arange(len(one.words))
        known = one.owned & (heads[one.words] != IGNORED)
        local = np.where(known, place[np.where(known, heads[one.words], 0)], IGNORED)
        marks = {
            "firsts": one.firsts,
            "lasts": one.lasts,
            "words": one.words,
            "owned": one.owned.astype(np.int64),
            "heads": local,
            "relations": np.where(local >= 0, relations[one.words], IGNORED),
        }
        windows.append(Window(one.example, one.pieces, marks, stand_ins=one.stand_ins))
    return windows


def decode(
    examples: Sequence[ParsedSentence],
    windows: Sequence[Window],
    outputs: Sequence[np.ndarray],
    labels: Sequence[str],
) -> list[Tree]:
    """Gives the best tree with one root of every sentence, then each word's best relation in it.

    The scores of a word come from the window that owns it. A head not seen there is taken only
    where no tree can do without. The relation `root` goes to the root word and to no other, where
    it is among the labels at all. A text longer than `STRETCH` has a tree for each stretch, all
    but the first hung on the first one's root.

    Args:
        examples: What was encoded.
        windows: What `encode` gave for them.
        outputs: One float array [W, W+1, 1+R] per window, in the same order: first the score of
            word i taking head j (0 is the root, else 1 + the index of a word of the window), then
            that of each relation between them. A word as its own head is not read.
        labels: The relations, R long.

    Returns:
        Head and relation of every word of each sentence.

    Raises:
        ModelError: the outputs do not fit the windows and labels, or are not finite; `root` is
            the only relation.
    """
    own: list[list[tuple[Window, np.ndarray]]] = [[] for _ in examples]
    for window, scores in with_scores(windows, outputs):
        count, owned = len(window.marks["words"]), window.marks["owned"] == 1
        shape, where = (count, count + 1, 1 + len(labels)), examples[window.example].where
        check_scores(scores, shape, read=owned, where=where)
        own[window.example].append((window, scores))
    return [_tree(example, answers, labels) for example, answers in zip(examples, own, strict=True)]


def count_units(examples: Sequence[ParsedSentence]) -> int:
    """Gives the number of words: each is asked for its head and relation."""
    return sum(len(example.words) for example in examples)


def majority(train: Sequence[ParsedSentence], examples: Sequence[ParsedSentence]) -> list[Tree]:
    """Gives the predictions of a system that knows no words, only the commonest arc of `train`.

    The first word is the root; every other takes the head at the commonest distance, or the
    nearest word of the sentence to it. The heads need not form a tree.

    Raises:
        DataError: `train` has no heads.
    """
    arcs: Counter[tuple[int, str]] = Counter()
    roots: Counter[str] = Counter()
    for one in train:
        for word, (head, relation) in enumerate(zip(one.heads, one.relations, strict=True), 1):
            if head:
                arcs[head - word, relation] += 1
            else:
                roots[relation] += 1
    if not roots:
        raise DataError("no head to take the commonest of", found=f"{len(train)} sentences")
    root = min(roots, key=lambda label: (-roots[label], label))
    distance, relation = min(arcs, key=lambda arc: (-arcs[arc], arc)) if arcs else (-1, root)
    predictions = []
    for example in examples:
        count = len(example.words)
        tree = [(0, root)] if count else []
        for word in range(2, count + 1):
            head = min(max(word + distance, 1), count)
            tree.append((head if head != word else word - 1, relation))
        predictions.append(tuple(tree))
    return predictions


def from_text(text: str, where: str) -> ParsedSentence | None:
    """Gives running text as a sentence without a tree, or None where it has no word."""
    words = tuple(words_of(text))
    return ParsedSentence(words, where=where) if words else None


def relabelled(example: ParsedSentence, prediction: Sequence[tuple[int, str]]) -> ParsedSentence:
    """Gives the sentence with another tree."""
    heads = tuple(head for head, _ in prediction)
    return replace(example, heads=heads, relations=tuple(relation for _, relation in prediction))


def describe(example: ParsedSentence) -> dict[str, Any]:
    """Gives what a file of predictions tells of a sentence; the gold tree as predictions are."""
    gold = list(zip(example.heads, example.relations, strict=True))
    return {"where": example.where, "words": example.words, "gold": gold}


def identify(example: ParsedSentence) -> tuple[str, ...]:
    """Gives the words: equal sentences are the same sentence."""
    return example.words


def _targets(
    example: ParsedSentence, label_ids: dict[str, int] | None
) -> tuple[np.ndarray, np.ndarray]:
    if label_ids is None or not example.heads:
        nothing = np.full(len(example.words), IGNORED, dtype=np.int64)
        return nothing, nothing
    outside = [label for label in example.relations if label not in label_ids]
    if outside:
        raise DataError(
            "a sentence has a relation that the model does not know",
            where=example.where,
            found=outside[0],
            expected="one of " + " ".join(label_ids),
            do="load the examples with the model's labels",
        )
    ids = [label_ids[label] for label in example.relations]
    return np.array(example.heads, dtype=np.int64), np.array(ids, dtype=np.int64)


def _tree(
    example: ParsedSentence, answers: list[tuple[Window, np.ndarray]], labels: Sequence[str]
) -> Tree:
    count = len(example.words)
    parts = [
        _heads(range(start, min(count, start + STRETCH)), answers, example.where)
        for start in range(0, count, STRETCH)
    ]
    if not parts:
        return ()
    root = int(np.flatnonzero(parts[0] == 0)[0]) + 1
    heads = np.concatenate([parts[0], *(np.where(one == 0, root, one) for one in parts[1:])])
    is_root = np.array([label.partition(":")[0] == "root" for label in labels], dtype=bool)
    if count > 1 and is_root.all():
        raise ModelError(
            "there is no relation for a word that is not the root",
            found="the labels " + " ".join(labels),
            do="train on sentences of more than one word",
        )
    relations = [""] * count
    for window, scores in answers:
        place = {int(word) + 1: i for i, word in enumerate(window.marks["words"], start=1)}
        place[0] = 0
        for row in np.flatnonzero(window.marks["owned"] == 1):
            word = int(window.marks["words"][row])
            column = place.get(int(heads[word]))
            found = scores[row, :, 1:].mean(axis=0) if column is None else scores[row, column, 1:]
            wanted = is_root if heads[word] == 0 and is_root.any() else ~is_root
            relations[word] = labels[int(np.where(wanted, found, -np.inf).argmax())]
    return tuple((int(head), relation) for head, relation in zip(heads, relations, strict=True))


def _heads(stretch: range, answers: list[tuple[Window, np.ndarray]], where: str) -> np.ndarray:
    """Gives the heads of the best tree of a stretch, counted in the whole text; 0 for its root."""
    arcs = np.full((len(stretch), len(stretch) + 1), np.nan)
    for window, scores in answers:
        words = window.marks["words"]
        inside = (words >= stretch.start) & (words < stretch.stop)
        owned = inside & (window.marks["owned"] == 1)
        columns = np.concatenate([[True], inside])
        places = words[inside] - stretch.start + 1
        arcs[np.ix_(words[owned] - stretch.start, [0, *places])] = scores[owned][:, columns, 0]
    if np.isnan(arcs).all(axis=1).any():
        raise ModelError(
            "a word got no answer: these are not the windows of these sentences", where=where
        )
    # Arcs that rounding alone tells apart are equal: torch and a bundle choose the same tree.
    heads = maximum_tree(_with_unseen(arcs.round(_DECIMALS)))
    return np.where(heads == 0, 0, heads + stretch.start)


def _with_unseen(arcs: np.ndarray) -> np.ndarray:
    """Puts a score on unseen arcs so low that a tree takes as few of them as it can."""
    if not np.isnan(arcs).any():
        return arcs
    # Rows are levelled first, as a word takes exactly one head, whatever its level.
    arcs = arcs - np.nanmax(arcs, axis=1, keepdims=True)
    return np.where(np.isnan(arcs), (np.nanmin(arcs) or -1.0) * (len(arcs) + 1), arcs)
