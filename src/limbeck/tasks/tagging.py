"""One label per word: named entities in strict IOB2, and parts of speech.

Words go in, windows of pieces come out; logits over windows go in, one label per word comes out.
A label sits on the first piece of its word. A sentence too long for the model is read through
overlapping windows, and each word is answered by the one window that shows most of its context.
`cut`, `owners` and `special_pieces` know nothing about labels: other tasks share them.
"""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from limbeck.errors import DataError, ModelError, RecipeError

IGNORED = -100
"""The label id that no loss counts."""

_PROBES = "abcdefghijklmnopqrstuvwxyz0123456789"
_UNKNOWN_PIECES = ("<unk>", "[UNK]", "<|unk|>", "<|UNKNOWN|>", "unk")


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


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What the model reads at once: a run of pieces of one sentence between special pieces.

    Args:
        example: Index of the sentence.
        pieces: Piece ids, int64 [T], special pieces included.
        words: Word index at the first piece of each word that this window owns, else -1; int64 [T].
        labels: Label id at the same places, else `IGNORED`; int64 [T].
        stand_ins: How many of the owned words have no piece of their own and are read as unknown.
    """

    example: int
    pieces: np.ndarray
    words: np.ndarray
    labels: np.ndarray
    stand_ins: int = 0


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


@dataclass(frozen=True, slots=True)
class Specials:
    """The special pieces that the tokenizer puts around a sentence."""

    begin: list[int]
    end: list[int]


def cut(length: int, *, room: int, stride: int) -> list[range]:
    """Gives runs of at most `room` positions that cover `range(length)`.

    Neighbouring runs share at least `stride` positions. The last run ends at the end and is as
    full as the others.

    Args:
        length: How many pieces the text has.
        room: How many pieces fit into one window, special pieces not counted.
        stride: How many pieces neighbours share, as in the Hugging Face tokenizers.

    Raises:
        RecipeError: `stride` is negative, or leaves no room to move on.
    """
    if not 0 <= stride < room:
        raise RecipeError(
            "windows must move on",
            found=f"an overlap of {stride} pieces in windows that hold {room}",
            expected="0 ≤ stride < room",
            do="raise max_pieces or lower stride",
        )
    if length <= room:
        return [range(length)]
    starts = [*range(0, length - room, room - stride), length - room]
    return [range(start, start + room) for start in starts]


def owners(positions: np.ndarray, runs: Sequence[range], *, length: int) -> np.ndarray:
    """Gives, for each position, the run where it has most context on its poorer side.

    The ends of the text count as unlimited context. Ties go to the earlier run.

    Args:
        positions: Places in the text, int64 [W].
        runs: What `cut` gave.
        length: How many pieces the text has.

    Returns:
        Index of a run that holds the position, int64 [W].
    """
    if len(runs) == 1:
        return np.zeros(len(positions), dtype=np.int64)
    starts = np.array([run.start for run in runs])[:, None]
    stops = np.array([run.stop for run in runs])[:, None]
    left = np.where(starts == 0, length, positions - starts)
    right = np.where(stops == length, length, stops - 1 - positions)
    return np.minimum(left, right).argmax(axis=0)


def special_pieces(tokenizer: Tokenizer) -> Specials:
    """Gives the pieces that the tokenizer's own post-processor puts before and after a sentence.

    Raises:
        ModelError: the tokenizer finds no piece in any Latin letter or digit.
    """
    with _whole(tokenizer):
        for probe in _PROBES:
            encoding = tokenizer.encode([probe], is_pretokenized=True)
            mask = encoding.special_tokens_mask
            if 0 in mask:
                last = len(mask) - mask[::-1].index(0)
                return Specials(encoding.ids[: mask.index(0)], encoding.ids[last:])
    raise ModelError(
        "the tokenizer finds no piece in any Latin letter or digit",
        found=f"a vocabulary of {tokenizer.get_vocab_size()} pieces",
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

    Words are read in NFC, as corpora are, each in its word-start form (`▁word`, `Ġword`), also at
    the start of the sentence: what `add_prefix_space=True` does in Hugging Face's tokenizers.
    A word in which the tokenizer finds nothing (a lone zero-width or control character) is read
    as the unknown piece and counted in `Window.stand_ins`. No piece is dropped.

    Args:
        sentences: With labels, or without for prediction.
        tokenizer: Its truncation and padding are put aside meanwhile.
        labels: The label set in the order of the model's classes; None leaves all labels ignored.
        max_pieces: Length of the longest window, special pieces included.
        stride: How many pieces neighbouring windows share.

    Raises:
        DataError: a sentence has a label outside `labels`.
        RecipeError: `max_pieces` leaves no room between special pieces and overlap.
        ModelError: the tokenizer finds no piece in any Latin letter or digit.
    """
    specials = special_pieces(tokenizer)
    room = max_pieces - len(specials.begin) - len(specials.end)
    cut(0, room=room, stride=stride)
    word_pieces = _pieces_of_words(sentences, tokenizer)
    label_ids = None if labels is None else {label: i for i, label in enumerate(labels)}
    windows: list[Window] = []
    for example, sentence in enumerate(sentences):
        found = [word_pieces[word] for word in sentence.words]
        pieces = [piece for word in found for piece in word.pieces]
        counts = [0, *(len(word.pieces) for word in found)]
        firsts = np.array(counts, dtype=np.int64).cumsum()[:-1]
        targets = _label_ids(sentence, label_ids)
        stand_ins = np.array([word.stands_in for word in found], dtype=np.int64)
        runs = cut(len(pieces), room=room, stride=stride)
        owner = owners(firsts, runs, length=len(pieces))
        for index, run in enumerate(runs):
            owned = np.flatnonzero(owner == index)
            at = firsts[owned] - (run.start - len(specials.begin))
            ids = np.array(
                [*specials.begin, *pieces[run.start : run.stop], *specials.end], dtype=np.int64
            )
            windows.append(
                Window(
                    example=example,
                    pieces=ids,
                    words=_placed(owned, at, length=len(ids), fill=-1),
                    labels=_placed(targets[owned], at, length=len(ids), fill=IGNORED),
                    stand_ins=int(stand_ins[owned].sum()),
                )
            )
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
    if len(windows) != len(logits):
        raise ModelError(
            "there must be one array of logits per window",
            found=f"{len(logits)} for {len(windows)} windows",
        )
    answers: list[list[str | None]] = [[None] * len(sentence.words) for sentence in sentences]
    for window, scores in zip(windows, logits, strict=True):
        where = sentences[window.example].where
        if scores.shape != (len(window.pieces), len(labels)):
            raise ModelError(
                "the logits of a window have the wrong shape",
                where=where,
                found=str(tuple(scores.shape)),
                expected=str((len(window.pieces), len(labels))),
            )
        owned = window.words >= 0
        if not np.isfinite(scores[owned]).all():
            raise ModelError("the model answered with a number that is not finite", where=where)
        chosen = scores[owned].argmax(axis=-1)
        for word, label in zip(window.words[owned].tolist(), chosen.tolist(), strict=True):
            answers[window.example][word] = labels[label]
    return [
        _complete(answer, sentence) for answer, sentence in zip(answers, sentences, strict=True)
    ]


def iob2_labels(types: Sequence[str]) -> tuple[str, ...]:
    """Gives the tags of these entity types: `O`, then `B-` and `I-` of each."""
    return ("O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI"))


def plain_labels(tags: Sequence[str]) -> tuple[str, ...]:
    """Gives the tags as they are: parts of speech are their own labels."""
    return tuple(tags)


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


def count_words(sentences: Sequence[TaggedSentence]) -> int:
    """Gives the number of words."""
    return sum(len(sentence.words) for sentence in sentences)


def agreement(a: Sequence[Sequence[str]], b: Sequence[Sequence[str]]) -> float:
    """Gives the share of words with the same label in both predictions, 0 to 1.

    Raises:
        DataError: they are not predictions for the same sentences, or there is no word.
    """
    if [len(labels) for labels in a] != [len(labels) for labels in b]:
        raise DataError(
            "the two systems did not label the same words",
            found=f"{sum(map(len, a))} labels against {sum(map(len, b))}",
        )
    same = [
        x == y for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True)
    ]
    if not same:
        raise DataError("there is no word to agree on")
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


@dataclass(frozen=True, slots=True)
class _WordPieces:
    """The pieces of a word, at least one; `stands_in` when it is the unknown piece for nothing."""

    pieces: list[int]
    stands_in: bool


def _pieces_of_words(
    sentences: Sequence[TaggedSentence], tokenizer: Tokenizer
) -> dict[str, _WordPieces]:
    """Gives the pieces of every distinct word: words of a sentence do not see each other.

    That holds for every tokenizer that is handed words, so each distinct word is encoded once.
    """
    words = list(dict.fromkeys(word for sentence in sentences for word in sentence.words))
    prefix, unknown = _word_prefix(tokenizer), _unknown_piece(tokenizer)
    batch = [[prefix + unicodedata.normalize("NFC", word)] if word else [] for word in words]
    with _whole(tokenizer):
        encodings = tokenizer.encode_batch_fast(
            batch, is_pretokenized=True, add_special_tokens=False
        )
    return {
        word: _WordPieces(encoding.ids or [unknown], not encoding.ids)
        for word, encoding in zip(words, encodings, strict=True)
    }


def _placed(values: np.ndarray, at: np.ndarray, *, length: int, fill: int) -> np.ndarray:
    row = np.full(length, fill, dtype=np.int64)
    row[at] = values
    return row


def _word_prefix(tokenizer: Tokenizer) -> str:
    """Gives what must stand before a lone word to get the pieces it has in running text.

    Nothing for WordPiece and for Metaspace that always prepends; a space for byte-level BPE
    without `add_prefix_space` and for Gemma's, which would read `lone` as the end of a word.
    """

    def ids(text: str, *, words: bool) -> list[int]:
        return tokenizer.encode(
            [text] if words else text, is_pretokenized=words, add_special_tokens=False
        ).ids

    with _whole(tokenizer):
        for probe in _PROBES:
            bare, spaced = ids(probe, words=True), ids(" " + probe, words=True)
            running = ids(f"{probe} {probe}", words=False)
            if bare != spaced and running == bare + bare:
                return ""
            if bare != spaced and running == bare + spaced:
                return " "
    return ""


def _unknown_piece(tokenizer: Tokenizer) -> int:
    name = getattr(tokenizer.model, "unk_token", None)
    for piece in (name, *_UNKNOWN_PIECES):
        found = tokenizer.token_to_id(piece) if piece else None
        if found is not None:
            return int(found)
    # Byte-level vocabularies know every byte and so have no unknown piece; any piece will do for
    # a word that has none, as long as training and prediction agree.
    return min(tokenizer.get_vocab(with_added_tokens=False).values())


@contextmanager
def _whole(tokenizer: Tokenizer) -> Iterator[None]:
    """Puts truncation and padding aside: published tokenizer files may switch them on."""
    truncation, padding = tokenizer.truncation, tokenizer.padding
    tokenizer.no_truncation()
    tokenizer.no_padding()
    try:
        yield
    finally:
        if truncation is not None:
            tokenizer.enable_truncation(**truncation)
        if padding is not None:
            tokenizer.enable_padding(**padding)
