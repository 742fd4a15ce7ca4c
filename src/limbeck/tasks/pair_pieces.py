"""A question and its context as pieces, and the characters of the context that each piece covers.

Both are read in NFC; places are those of the context as published.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from limbeck.errors import ModelError
from limbeck.tasks.windows import IGNORED, PROBES

# Vowels and finals of conjoining Hangul, which join what stands before them as marks do.
_HANGUL = range(0x1160, 0x1200)


@dataclass(frozen=True, slots=True)
class Frame:
    """The special pieces of a pair with their types, and the types of the two texts."""

    before: list[int]
    between: list[int]
    after: list[int]
    types: tuple[list[int], list[int], list[int]]
    question_type: int
    context_type: int

    @property
    def size(self) -> int:
        """Give how many special pieces a window has."""
        return len(self.before) + len(self.between) + len(self.after)


@dataclass(frozen=True, slots=True, eq=False)
class ContextPieces:
    """The pieces of a context, and the characters that each covers, all int64 [T]."""

    ids: np.ndarray
    begin: np.ndarray
    stop: np.ndarray


def frame_of(tokenizer: Tokenizer) -> Frame:
    """Give what a tokenizer puts around a pair.

    Raises:
        ModelError: it finds no piece, or puts nothing before the first text.
    """
    for probe in PROBES:
        encoding = tokenizer.encode(probe, probe)
        sides, ids, types = encoding.sequence_ids, encoding.ids, encoding.type_ids
        if 0 in sides and 1 in sides:
            break
    else:
        raise ModelError(
            "the tokenizer finds no piece in any Latin letter or digit",
            found=f"a vocabulary of {tokenizer.get_vocab_size()} pieces",
        )
    a, c = sides.index(0), sides.index(1)
    b, d = len(sides) - sides[::-1].index(0), len(sides) - sides[::-1].index(1)
    if a == 0 or b > c:
        raise ModelError(
            "the tokenizer does not make a pair of question and context",
            found=" ".join(encoding.tokens),
            expected="a special piece, the question, the context",
            do="give the tokenizer a post-processor for pairs",
        )
    return Frame(
        before=ids[:a],
        between=ids[b:c],
        after=ids[d:],
        types=(types[:a], types[b:c], types[d:]),
        question_type=types[a],
        context_type=types[c],
    )


def question_pieces(texts: Iterable[str], tokenizer: Tokenizer) -> dict[str, list[int]]:
    """Give each text's pieces, special ones left out."""
    distinct = list(dict.fromkeys(texts))
    plain = [unicodedata.normalize("NFC", text) for text in distinct]
    encodings = tokenizer.encode_batch_fast(plain, add_special_tokens=False)
    return {text: encoding.ids for text, encoding in zip(distinct, encodings, strict=True)}


def context_pieces(texts: Iterable[str], tokenizer: Tokenizer) -> dict[str, ContextPieces]:
    """Give each text's pieces, special ones left out, with their places in it."""
    distinct = list(dict.fromkeys(texts))
    mapped = [nfc_with_places(text) for text in distinct]
    encodings = tokenizer.encode_batch([one.text for one in mapped], add_special_tokens=False)
    contexts = {}
    for text, one, encoding in zip(distinct, mapped, encodings, strict=True):
        begin, stop = _trimmed(one.text, encoding.offsets)
        kept = begin < stop
        begin[kept], stop[kept] = one.begin[begin[kept]], one.stop[stop[kept] - 1]
        begin[~kept] = stop[~kept] = IGNORED
        contexts[text] = ContextPieces(np.array(encoding.ids, dtype=np.int64), begin, stop)
    return contexts


def _trimmed(text: str, offsets: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Gives offsets without spaces at the ends, and with marks that no piece covers, [T] each."""
    places = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    following = len(text)
    for i in range(len(places) - 1, -1, -1):
        begin, stop = places[i].tolist()
        while stop < following and unicodedata.category(text[stop])[0] == "M":
            stop += 1
        following = min(following, begin)
        while begin < stop and text[begin].isspace():
            begin += 1
        while begin < stop and text[stop - 1].isspace():
            stop -= 1
        places[i] = begin, stop
    return places[:, 0].copy(), places[:, 1].copy()


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """A text in NFC, and the characters of the original that each of its characters stands for."""

    text: str
    begin: np.ndarray
    stop: np.ndarray


def nfc_with_places(text: str) -> Mapped:
    """Gives the text in NFC and where its characters come from, int64 [characters] each.

    A base character and its marks that NFC changes count as one: each character of the result
    stands for all of them. NFC may also lengthen a text (Devanagari letters with a nukta).
    """
    if unicodedata.is_normalized("NFC", text):
        places = np.arange(len(text), dtype=np.int64)
        return Mapped(text, places, places + 1)
    parts: list[str] = []
    begins: list[int] = []
    stops: list[int] = []
    edges = [i for i, c in enumerate(text) if i == 0 or not _joins(c)]
    for start, stop in zip(edges, [*edges[1:], len(text)], strict=True):
        before = text[start:stop]
        after = unicodedata.normalize("NFC", before)
        same = before == after
        parts.append(after)
        begins += range(start, stop) if same else [start] * len(after)
        stops += range(start + 1, stop + 1) if same else [stop] * len(after)
    return Mapped("".join(parts), np.array(begins), np.array(stops))


def _joins(character: str) -> bool:
    return unicodedata.category(character)[0] == "M" or ord(character) in _HANGUL
