"""Dependency trees as heads: the best one of scores, what is wrong with one, CoNLL-U.

The head of a word is a number: 0 for the root of the sentence, else that of a word, counted from 1.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from limbeck.errors import DataError

if TYPE_CHECKING:
    from limbeck.tasks.parsing import ParsedSentence


@dataclass(frozen=True, slots=True)
class Fault:
    """Why heads are no tree: in words, and the index of a word where it shows, from 0."""

    what: str
    found: str
    word: int


def fault(heads: Sequence[int]) -> Fault | None:
    """Gives what keeps these heads from being a tree with one root; None for a tree.

    Args:
        heads: One per word, from 0 to the number of words.
    """
    roots = [word for word, head in enumerate(heads) if head == 0]
    if len(roots) > 1:
        numbers = ", ".join(str(word + 1) for word in roots)
        return Fault("the sentence has more than one root", f"the words {numbers}", roots[1])
    reaches_root = [False] * (len(heads) + 1)
    reaches_root[0] = True
    for start in range(1, len(heads) + 1):
        path: list[int] = []
        word = start
        while not reaches_root[word]:
            if word in path:
                ring = [*path[path.index(word) :], word]
                return Fault("the heads go in a circle", " → ".join(map(str, ring)), word - 1)
            path.append(word)
            word = heads[word - 1]
        for seen in path:
            reaches_root[seen] = True
    return None


def maximum_tree(scores: np.ndarray) -> np.ndarray:
    """Gives the heads of the tree with the highest sum of scores among trees with one root.

    Where the best tree has several roots, a sum that no choice of other arcs can win back is
    taken off every arc from the root, and the best is sought again: that of the trees with fewest
    roots is left, and one root is always possible.

    *Source*: Chu and Liu 1965, Edmonds 1967. Weights on the root: Stanojević and Cohen 2021, A
    Root of a Problem (EMNLP), who call it reweighting. Libraries of the field are either GPL or
    slower by orders of magnitude.

    Args:
        scores: Word (row) with head (column; 0 is the root), [W, W+1], finite. What stands for a
            word as its own head is not read.

    Returns:
        int64 [W].
    """
    count = len(scores)
    if count < 2:
        return np.zeros(count, dtype=np.int64)
    arcs = np.full((count + 1, count + 1), -np.inf)
    arcs[1:] = scores
    np.fill_diagonal(arcs, -np.inf)
    arcs[1:] -= arcs[1:].max(axis=1, keepdims=True)
    heads = _best_heads(arcs)[1:]
    if (heads == 0).sum() > 1:
        spread = -arcs[np.isfinite(arcs)].min() or 1.0
        arcs[1:, 0] -= spread * (count + 1)
        heads = _best_heads(arcs)[1:]
    return heads


def _best_heads(arcs: np.ndarray) -> np.ndarray:
    """Gives the best head of each node in a tree that hangs on node 0.

    All rings of a level become nodes at once. A long text may need about as many levels as it has
    words: they are kept in a list, for the interpreter's stack would not hold them, and of each
    only what its rings need, so that all levels together take about as much as the scores.

    Args:
        arcs: Node with head, [N, N]; -inf on the diagonal and in row 0. Written over.
    """
    levels: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    while True:
        heads = arcs.argmax(axis=1)
        heads[0] = 0
        rings = _rings(heads.tolist())
        if not rings:
            break
        # What enters a ring breaks it, and is worth what it gains over the arc that it replaces.
        for ring in rings:
            arcs[ring] -= arcs[ring, heads[ring]][:, None]
        alone = np.setdiff1d(np.arange(len(arcs)), np.concatenate(rings))
        entered = np.stack([ring[arcs[ring].argmax(axis=0)] for ring in rings])
        arcs = np.concatenate([arcs[alone], [arcs[ring].max(axis=0) for ring in rings]])
        left = np.stack([ring[arcs[:, ring].argmax(axis=1)] for ring in rings])
        arcs = np.concatenate([arcs[:, alone].T, [arcs[:, ring].max(axis=1) for ring in rings]]).T
        np.fill_diagonal(arcs, -np.inf)
        levels.append((heads, alone, entered, left))
    for above, alone, entered, left in reversed(levels):
        for node, other in enumerate(heads[1:].tolist(), start=1):
            is_alone = other < len(alone)
            head = alone[other] if is_alone else left[other - len(alone), node]
            word = alone[node] if node < len(alone) else entered[node - len(alone), head]
            above[word] = head
        heads = above
    return heads


def _rings(heads: Sequence[int]) -> list[np.ndarray]:
    """Gives the nodes of every ring that does not reach node 0."""
    seen, rings = [0] * len(heads), []
    for start in range(1, len(heads)):
        node = start
        while node and not seen[node]:
            seen[node] = start
            node = heads[node]
        if node and seen[node] == start:
            ring = [node]
            while heads[ring[-1]] != node:
                ring.append(heads[ring[-1]])
            rings.append(np.array(ring))
    return rings


def to_conllu(
    examples: Sequence["ParsedSentence"],
    predictions: Sequence[Sequence[tuple[int, str]]],
    *,
    first: int = 1,
) -> str:
    """Gives the predicted trees as a CoNLL-U file, multiword tokens included.

    Sentences are numbered as `sent_id`. Their text is not known any more, only its words:
    `text` has a space between any two tokens, so no word needs `SpaceAfter=No`. A sentence without
    words is left out, for the format has none, but keeps its number. Forms are written
    in NFC and with single spaces inside, as the format's validator demands. Lemma, tags, features
    and enhanced dependencies are `_`: nothing predicts them.

    Args:
        examples: What was parsed.
        predictions: Head and relation of every word of each.
        first: Number of the first sentence.

    Raises:
        DataError: the predictions do not fit the examples.
    """
    if len(examples) != len(predictions):
        raise DataError(
            "there must be one prediction per sentence",
            found=f"{len(predictions)} for {len(examples)} sentences",
        )
    return "".join(
        _block(example, prediction, number)
        for number, (example, prediction) in enumerate(
            zip(examples, predictions, strict=True), start=first
        )
        if example.words
    )


def _block(
    example: "ParsedSentence", prediction: Sequence[tuple[int, str]], sentence_number: int
) -> str:
    if len(prediction) != len(example.words):
        raise DataError(
            "a tree needs one head per word",
            where=example.where,
            found=f"{len(prediction)} for {len(example.words)} words",
        )
    starts = {first: (last, form) for first, last, form in example.ranges}
    lines, tokens, inside = [], [], 0
    for number, (word, (head, relation)) in enumerate(
        zip(example.words, prediction, strict=True), start=1
    ):
        if number in starts:
            inside, form = starts[number]
            tokens.append(_form(form))
            lines.append("\t".join((f"{number}-{inside}", tokens[-1], *"________")))
        elif number > inside:
            tokens.append(_form(word))
        lines.append(
            "\t".join((str(number), _form(word), *"____", str(head), relation or "_", "_", "_"))
        )
    comments = [f"# sent_id = {sentence_number}", f"# text = {' '.join(tokens)}"]
    return "\n".join([*comments, *lines]) + "\n\n"


def _form(word: str) -> str:
    return " ".join(unicodedata.normalize("NFC", word).split()) or "_"
