"""Words and texts as pieces, and long ones as overlapping windows: nothing here knows of labels.

Tasks share these, so a word has the same pieces, and a long text the same windows, in all of them.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from limbeck.anatomy import unlimited
from limbeck.errors import ModelError, RecipeError

PROBES = "abcdefghijklmnopqrstuvwxyz0123456789"
"""Texts of which a tokenizer knows one at least, to see what it puts around a text."""
_UNKNOWN_PIECES = ("<unk>", "[UNK]", "<|unk|>", "<|UNKNOWN|>", "unk")

IGNORED = -100
"""What stands in a mark where nothing is marked; no loss counts it."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What the model reads at once: pieces of one example between special pieces.

    Args:
        example: Index of the example.
        pieces: Piece ids, int64 [T], special pieces included.
        marks: What the task's head and loss read, by name, each int64 with one axis: along the
            pieces [T], or along whatever the task counts (words; one label). In a batch each is
            filled up with `IGNORED`.
        types: Token types, int64 [T], of a pair of texts; None where all are 0.
        stand_ins: How many words have no piece of their own and are read as unknown.
    """

    example: int
    pieces: np.ndarray
    marks: Mapping[str, np.ndarray]
    types: np.ndarray | None = None
    stand_ins: int = 0


@dataclass(frozen=True, slots=True)
class Specials:
    """The special pieces that the tokenizer puts around a sentence."""

    begin: list[int]
    end: list[int]


def special_pieces(tokenizer: Tokenizer) -> Specials:
    """Gives the pieces that the tokenizer's own post-processor puts before and after a sentence.

    Raises:
        ModelError: the tokenizer finds no piece in any Latin letter or digit.
    """
    tokenizer = unlimited(tokenizer)
    for probe in PROBES:
        encoding = tokenizer.encode([probe], is_pretokenized=True)
        mask = encoding.special_tokens_mask
        if 0 in mask:
            last = len(mask) - mask[::-1].index(0)
            return Specials(encoding.ids[: mask.index(0)], encoding.ids[last:])
    raise ModelError(
        "the tokenizer finds no piece in any Latin letter or digit",
        found=f"a vocabulary of {tokenizer.get_vocab_size()} pieces",
    )


@dataclass(frozen=True, slots=True)
class WordPieces:
    """The pieces of a word, at least one; `stands_in` when it is the unknown piece for nothing."""

    pieces: list[int]
    stands_in: bool


def pieces_of_words(words: Iterable[str], tokenizer: Tokenizer) -> dict[str, WordPieces]:
    """Gives the pieces of every distinct word: words of a sentence do not see each other.

    That holds for every tokenizer that is handed words, so each distinct word is encoded once.
    Words are read in NFC, as corpora are, each in its word-start form (`▁word`, `Ġword`), also at
    the start of the sentence: what `add_prefix_space=True` does in Hugging Face's tokenizers.

    Args:
        words: Any number of times each.
        tokenizer: Its truncation and padding are ignored.
    """
    tokenizer = unlimited(tokenizer)
    distinct = list(dict.fromkeys(words))
    prefix, unknown = _word_prefix(tokenizer), _unknown_piece(tokenizer)
    batch = [[prefix + unicodedata.normalize("NFC", word)] if word else [] for word in distinct]
    encodings = tokenizer.encode_batch_fast(batch, is_pretokenized=True, add_special_tokens=False)
    return {
        word: WordPieces(encoding.ids or [unknown], not encoding.ids)
        for word, encoding in zip(distinct, encodings, strict=True)
    }


@dataclass(frozen=True, slots=True, eq=False)
class WordWindow:
    """A run of a sentence's pieces between special pieces, and the words that begin in it.

    Args:
        example: Index of the sentence.
        pieces: Piece ids, int64 [T], special pieces included.
        words: Index of each word whose first piece is here, int64 [W].
        firsts: Place of its first piece in `pieces`, int64 [W].
        lasts: Place of its last piece that is here, int64 [W].
        owned: Whether this window answers for the word, bool [W]: one window does.
        stand_ins: How many owned words are read as the unknown piece for nothing.
    """

    example: int
    pieces: np.ndarray
    words: np.ndarray
    firsts: np.ndarray
    lasts: np.ndarray
    owned: np.ndarray
    stand_ins: int


def word_windows(
    sentences: Sequence[Sequence[str]], tokenizer: Tokenizer, *, max_pieces: int, stride: int
) -> Iterator[WordWindow]:
    """Gives the windows of sentences that are split into words, in order.

    No piece is dropped; a word is owned by the window that shows most of its context.

    Args:
        sentences: The words of each.
        tokenizer: Its truncation and padding are ignored; `pieces_of_words` says how it reads.
        max_pieces: Length of the longest window, special pieces included.
        stride: How many pieces neighbouring windows share.

    Raises:
        RecipeError: `max_pieces` leaves no room between special pieces and overlap.
        ModelError: the tokenizer finds no piece in any Latin letter or digit.
    """
    tokenizer = unlimited(tokenizer)
    specials = special_pieces(tokenizer)
    room = max_pieces - len(specials.begin) - len(specials.end)
    cut(0, room=room, stride=stride)
    word_pieces = pieces_of_words((word for words in sentences for word in words), tokenizer)
    for example, sentence in enumerate(sentences):
        found = [word_pieces[word] for word in sentence]
        pieces = [piece for word in found for piece in word.pieces]
        stops = np.array([len(word.pieces) for word in found], dtype=np.int64).cumsum()
        firsts = np.concatenate([np.zeros(1, dtype=np.int64), stops])[: len(found)]
        stand_ins = np.array([word.stands_in for word in found], dtype=np.int64)
        runs = cut(len(pieces), room=room, stride=stride)
        owner = owners(firsts, runs, length=len(pieces))
        for number, run in enumerate(runs):
            inside = _inside(firsts, run)
            words = np.arange(inside.start, inside.stop)
            owned = owner[words] == number
            shift = len(specials.begin) - run.start
            ids = [*specials.begin, *pieces[run.start : run.stop], *specials.end]
            yield WordWindow(
                example=example,
                pieces=np.array(ids, dtype=np.int64),
                words=words,
                firsts=firsts[words] + shift,
                lasts=np.minimum(stops[words], run.stop) - 1 + shift,
                owned=owned,
                stand_ins=int(stand_ins[words[owned]].sum()),
            )


def with_scores(
    windows: Sequence[Window], outputs: Sequence[np.ndarray]
) -> Iterator[tuple[Window, np.ndarray]]:
    """Gives each window with a model's scores of it.

    Raises:
        ModelError: there are not as many of the one as of the other.
    """
    if len(windows) != len(outputs):
        raise ModelError(
            "there must be one array of scores per window",
            found=f"{len(outputs)} for {len(windows)} windows",
        )
    return zip(windows, outputs, strict=True)


def check_scores(
    scores: np.ndarray, shape: tuple[int, ...], *, read: np.ndarray | None = None, where: str
) -> None:
    """Makes sure that a window's scores have a shape, and are finite where they are read.

    Args:
        scores: Of a window.
        shape: What they should have.
        read: Which rows are read, bool; None for all.
        where: The example, for messages.

    Raises:
        ModelError: they have another shape, or one is not finite.
    """
    if scores.shape != shape:
        raise ModelError(
            "the scores of a window have the wrong shape",
            where=where,
            found=str(tuple(scores.shape)),
            expected=str(shape),
        )
    if not np.isfinite(scores if read is None else scores[read]).all():
        raise ModelError("the model answered with a number that is not finite", where=where)


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
        positions: Places in the text, rising, int64 [W].
        runs: What `cut` gave.
        length: How many pieces the text has.

    Returns:
        Index of a run that holds the position, int64 [W].
    """
    best = np.full(len(positions), -1, dtype=np.int64)
    owner = np.zeros(len(positions), dtype=np.int64)
    for number, run in enumerate(runs):
        inside = _inside(positions, run)
        here = positions[inside]
        left = here - run.start if run.start else np.full_like(here, length)
        right = run.stop - 1 - here if run.stop < length else np.full_like(here, length)
        poorer = np.minimum(left, right)
        better = poorer > best[inside]
        best[inside] = np.where(better, poorer, best[inside])
        owner[inside] = np.where(better, number, owner[inside])
    return owner


def _inside(positions: np.ndarray, run: range) -> slice:
    """Gives where the rising positions lie in a run."""
    first, stop = np.searchsorted(positions, [run.start, run.stop])
    return slice(int(first), int(stop))


def _word_prefix(tokenizer: Tokenizer) -> str:
    """Gives what must stand before a lone word to get the pieces it has in running text.

    Nothing for WordPiece and for Metaspace that always prepends; a space for byte-level BPE
    without `add_prefix_space` and for Gemma's, which would read `lone` as the end of a word.
    """

    def ids(text: str, *, words: bool) -> list[int]:
        return tokenizer.encode(
            [text] if words else text, is_pretokenized=words, add_special_tokens=False
        ).ids

    for probe in PROBES:
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
