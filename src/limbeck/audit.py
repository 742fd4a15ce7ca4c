"""What a trimmed vocabulary does to texts: pieces, unknowns, fertility, characters lost."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from limbeck.anatomy import BYTE_ALPHABET, BYTE_FALLBACK, Anatomy, anatomy, unlimited
from limbeck.errors import DataError
from limbeck.piece_map import PieceMap
from limbeck.reading import batches_of


@dataclass(frozen=True, slots=True)
class LostCharacter:
    """A character of the texts that the old tokenizer could write and the new one cannot.

    Args:
        character: The character.
        name: Its Unicode name, or its code point where it has none.
        is_mark: Whether it is a combining mark, such as a tone mark.
        fate: "unknown" or "bytes".
        occurrences: How often it is lost.
    """

    character: str
    name: str
    is_mark: bool
    fate: str
    occurrences: int


@dataclass(frozen=True, slots=True)
class LanguageReport:
    """What a trimmed vocabulary does to the texts of one language.

    Args:
        lines: Texts.
        same_lines: Texts whose new pieces are the old ones, piece by piece.
        words: Words, split at white space; no measure for scripts written without spaces.
        characters: Characters but white space; pieces per character measure every script.
        pieces_before: Pieces of the texts under the old tokenizer; no special token is added.
        pieces_after: The same under the new one.
        used_before: Different old pieces that occur.
        used_kept: Those of them that are kept.
        coverage: Share of old piece occurrences whose piece is kept.
        unknown_before: Share of old piece occurrences that are the unknown piece.
        unknown_after: The same for the new pieces.
        bytes_before: Share of old piece occurrences that are a byte of a character.
        bytes_after: The same for the new pieces.
        fertility_before: Old pieces per word.
        fertility_after: New pieces per word.
        lost: Characters lost, the most frequent first.
    """

    lines: int
    same_lines: int
    words: int
    characters: int
    pieces_before: int
    pieces_after: int
    used_before: int
    used_kept: int
    coverage: float
    unknown_before: float
    unknown_after: float
    bytes_before: float
    bytes_after: float
    fertility_before: float
    fertility_after: float
    lost: tuple[LostCharacter, ...]


@dataclass(frozen=True, slots=True)
class VocabularyReport:
    """What trimming costs and saves.

    Args:
        old_size: Old pieces, V.
        new_size: New pieces, V'.
        width: Width D of the embeddings.
        parameters_saved: (V - V') · D; an output matrix that is not tied saves it once more.
        languages: One account per language.
    """

    old_size: int
    new_size: int
    width: int
    parameters_saved: int
    languages: dict[str, LanguageReport]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def report(
    before: Tokenizer,
    after: Tokenizer,
    *,
    piece_map: PieceMap,
    texts: Mapping[str, Iterable[str]],
    width: int,
) -> VocabularyReport:
    """Compare two tokenizers on texts, each text read once.

    Args:
        before: The old tokenizer.
        after: The trimmed one.
        piece_map: What `trim_tokenizer` gave.
        texts: Lines per language: corpora, or the texts of a task.
        width: Width D of the embeddings.

    Raises:
        DataError: If the map belongs to another pair of tokenizers.
    """
    sides = (_Side.of(before), _Side.of(after))
    found = (sides[0].kind.size, sides[1].kind.size)
    if found != (piece_map.old_size, len(piece_map)):
        raise DataError(
            "the piece map belongs to other tokenizers",
            where="piece_map",
            found=f"{piece_map.old_size} to {len(piece_map)} pieces",
            expected=f"{found[0]} to {found[1]}",
        )
    return VocabularyReport(
        old_size=piece_map.old_size,
        new_size=len(piece_map),
        width=width,
        parameters_saved=(piece_map.old_size - len(piece_map)) * width,
        languages={name: _compare(*sides, piece_map, lines) for name, lines in texts.items()},
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """A tokenizer and the kind of each of its pieces: 0 plain, 1 unknown, 2 byte; int8 [V]."""

    tokenizer: Tokenizer
    parts: Anatomy
    kind: np.ndarray

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> _Side:
        parts = anatomy(tokenizer)
        kind = np.zeros(parts.size, np.int8)
        is_byte = set(BYTE_ALPHABET[0x80:]) if parts.is_byte_level else set()
        for piece, old in parts.pieces.items():
            if piece in is_byte or BYTE_FALLBACK.fullmatch(piece):
                kind[old] = 2
        if parts.unknown is not None:
            kind[parts.unknown] = 1
        return cls(unlimited(tokenizer), parts, kind)

    def encode(self, lines: list[str]) -> list[np.ndarray]:
        encodings = self.tokenizer.encode_batch_fast(lines, add_special_tokens=False)
        return [np.array(encoding.ids, np.int64) for encoding in encodings]


def _compare(old: _Side, new: _Side, piece_map: PieceMap, lines: Iterable[str]) -> LanguageReport:
    used = [np.zeros(side.kind.size, np.int64) for side in (old, new)]
    lost: Counter[tuple[str, str]] = Counter()
    total = same = words = characters = 0
    for batch in batches_of(lines):
        pairs = list(zip(old.encode(batch), new.encode(batch), strict=True))
        for side, count, ids in zip((old, new), used, zip(*pairs, strict=True), strict=True):
            count += np.bincount(np.concatenate(ids), minlength=side.kind.size)
        total += len(batch)
        split = [line.split() for line in batch]
        words += sum(map(len, split))
        characters += sum(len(word) for some in split for word in some)
        for line, (ids, trimmed) in zip(batch, pairs, strict=True):
            same += np.array_equal(piece_map.apply(ids), trimmed)
            if np.count_nonzero(new.kind[trimmed]) > np.count_nonzero(old.kind[ids]):
                lost.update(_lost_characters(line, old, new))
    kept = used[0][piece_map.kept]
    shares = [
        float(count[side.kind == kind].sum() / max(count.sum(), 1))
        for kind in (1, 2)
        for side, count in zip((old, new), used, strict=True)
    ]
    before, after = (int(count.sum()) for count in used)
    return LanguageReport(
        lines=total,
        same_lines=same,
        words=words,
        characters=characters,
        pieces_before=before,
        pieces_after=after,
        used_before=int(np.count_nonzero(used[0])),
        used_kept=int(np.count_nonzero(kept)),
        coverage=float(kept.sum() / max(before, 1)),
        unknown_before=shares[0],
        unknown_after=shares[1],
        bytes_before=shares[2],
        bytes_after=shares[3],
        fertility_before=before / max(words, 1),
        fertility_after=after / max(words, 1),
        lost=tuple(
            LostCharacter(c, unicodedata.name(c, f"U+{ord(c):04X}"), _is_mark(c), fate, times)
            for (c, fate), times in sorted(lost.items(), key=lambda item: (-item[1], item[0]))
        ),
    )


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _lost_characters(line: str, old: _Side, new: _Side) -> list[tuple[str, str]]:
    """Characters of a line under unknown or byte pieces now and not before, with their fate."""
    masks = []
    for side in (old, new):
        mask = np.zeros(len(line), np.int8)
        encoding: Encoding = side.tokenizer.encode(line, add_special_tokens=False)
        for piece, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if side.kind[piece]:
                # A byte's span may be empty: it lies inside of one character.
                mask[start : max(end, start + 1)] = side.kind[piece]
        masks.append(mask)
    gone = [
        (line[i], "bytes" if masks[1][i] == 2 else "unknown")
        for i in np.flatnonzero((masks[1] > 0) & (masks[0] == 0))
        if not line[i].isspace()
    ]
    if new.parts.kind != "WordPiece":
        return gone
    # One missing character turns its whole word unknown: blame that one.
    return [item for item in gone if not _spells(new, item[0])] or gone


def _spells(side: _Side, character: str) -> bool:
    normalizer = side.tokenizer.normalizer
    forms = normalizer.normalize_str(character).strip() if normalizer else character
    pieces, inside = side.parts.pieces, side.parts.continuation
    return all(form in pieces and inside + form in pieces for form in forms)
