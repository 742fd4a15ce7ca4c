"""Count the pieces of corpora, choose which to keep, and account for what that changes."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from limbeck.errors import ArtifactError, DataError, RecipeError
from limbeck.tokenizer import (
    BYTE_FALLBACK,
    UNREADABLE,
    Anatomy,
    PieceMap,
    anatomy,
    load_arrays,
    load_tokenizer,
    trim_tokenizer,
)

__all__ = [
    "Counts", "LanguageReport", "LostCharacter", "PieceMap", "VocabularyReport", "choose", "count",
    "count_pieces", "load_tokenizer", "report", "trim_tokenizer",
]  # fmt: skip

BATCH_LINES = 2048
BATCH_CHARACTERS = 1 << 20
CODEPOINTS = 0x110000


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """What one corpus holds, counted in one pass.

    Args:
        pieces: How often each piece occurs, int64 [V]; no special token is added to any text.
        characters: How often each character occurs, before the tokenizer's normalisation.
        words: Words, split at white space.
        lines: Texts.
        unknown: Occurrences of the unknown piece.

    Raises:
        DataError: If `pieces` is no list of integers.
    """

    pieces: np.ndarray
    characters: dict[str, int]
    words: int
    lines: int
    unknown: int

    def __post_init__(self) -> None:
        """Check the piece counts."""
        if self.pieces.ndim != 1 or self.pieces.dtype.kind not in "iu":
            found = f"{self.pieces.dtype} of shape {self.pieces.shape}"
            raise DataError("piece counts must be integers [V]", where="pieces", found=found)

    def __add__(self, other: Counts) -> Counts:
        """Counts of both corpora together.

        Raises:
            DataError: If they were counted with vocabularies of other sizes.
        """
        if self.pieces.size != other.pieces.size:
            found = f"{self.pieces.size} and {other.pieces.size} pieces"
            raise DataError("counts of two vocabularies cannot be added", found=found)
        characters = Counter(self.characters)
        characters.update(other.characters)
        return Counts(
            pieces=self.pieces + other.pieces,
            characters={c: characters[c] for c in sorted(characters)},
            words=self.words + other.words,
            lines=self.lines + other.lines,
            unknown=self.unknown + other.unknown,
        )

    def save(self, path: Path) -> None:
        """Write one .npz file at exactly this path."""
        with Path(path).open("wb") as file:
            np.savez(
                file,
                pieces=self.pieces,
                codepoints=np.array([ord(c) for c in self.characters], np.uint32),
                occurrences=np.array(list(self.characters.values()), np.int64),
                totals=np.array([self.words, self.lines, self.unknown], np.int64),
            )

    @classmethod
    def load(cls, path: Path) -> Counts:
        """The counts that `save` wrote.

        Raises:
            ArtifactError: If the file is missing, damaged, or holds no counts.
        """
        try:
            arrays = load_arrays(path)
            words, lines, unknown = (int(n) for n in arrays["totals"])
            pairs = zip(arrays["codepoints"], arrays["occurrences"], strict=True)
            characters = {chr(c): int(n) for c, n in pairs}
            return cls(arrays["pieces"], characters, words, lines, unknown)
        except UNREADABLE as error:
            raise ArtifactError(
                "these are no piece counts", where=str(path), found=str(error), do="count again"
            ) from error


def count(tokenizer: Tokenizer, texts: Iterable[str]) -> Counts:
    """Count pieces, characters and words of texts in one pass, in flat memory.

    Args:
        tokenizer: Its truncation and padding are ignored.
        texts: One line each; lines are not joined.
    """
    tokenizer = _plain(tokenizer)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    pieces = np.zeros(max(vocabulary.values()) + 1, np.int64)
    characters = np.zeros(CODEPOINTS, np.int64)
    words = lines = 0
    for batch in _batches(texts):
        encodings = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        ids = np.fromiter((i for encoding in encodings for i in encoding.ids), np.int64)
        pieces += np.bincount(ids, minlength=pieces.size)
        codes = np.frombuffer("".join(batch).encode("utf-32-le"), np.uint32)
        seen = np.bincount(codes)
        characters[: seen.size] += seen
        words += sum(len(text.split()) for text in batch)
        lines += len(batch)
    unknown = _unknown_id(tokenizer)
    return Counts(
        pieces=pieces,
        characters={chr(c): int(characters[c]) for c in np.flatnonzero(characters)},
        words=words,
        lines=lines,
        unknown=int(pieces[unknown]) if unknown is not None else 0,
    )


def count_pieces(tokenizer: Tokenizer, texts: Iterable[str]) -> np.ndarray:
    """How often each piece occurs in texts, int64 [V] with V the highest id plus one.

    No special token is added to any text.
    """
    return count(tokenizer, texts).pieces


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    if tokenizer.truncation is None and tokenizer.padding is None:
        return tokenizer
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    model: Any = tokenizer.model
    if hasattr(model, "unk_token"):
        return tokenizer.token_to_id(model.unk_token) if model.unk_token else None
    return anatomy(tokenizer).unknown


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) >= BATCH_LINES or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def choose(
    counts: Mapping[str, Counts],
    tokenizer: Tokenizer,
    *,
    min_probability: float = 1e-6,
    max_pieces: int | None = None,
    keep: Iterable[str] = (),
) -> np.ndarray:
    """Old ids to keep, int64 [V'], ascending.

    A piece stays iff its highest probability over the languages reaches the threshold. Always
    kept: what the tokenizer cannot work without (`Anatomy.always`), single characters seen in the
    corpora, the keep-list, and for BPE whatever the merges of a kept piece pass through.

    Args:
        counts: Counts per language.
        tokenizer: The tokenizer that counted.
        min_probability: Threshold of max over languages of p(piece); 0 keeps every piece.
        max_pieces: Budget in pieces, the always-kept counted in: the highest probability first,
            ties by id; a piece that does not fit with its merges gives way to the next.
        keep: Pieces, or words, whose pieces are kept with and without a space before them.

    Raises:
        DataError: If there are no counts, an empty corpus, or counts of another tokenizer.
        RecipeError: If the threshold is no probability or the budget is too small.

    *Source*: S2 §3, with its threshold of 1e-6. Ours adds the always-kept.
    """
    if not 0 <= min_probability <= 1:
        found = str(min_probability)
        where = "vocabulary.min_probability"
        raise RecipeError("not a probability", where=where, found=found, expected="0 to 1")
    parts = anatomy(tokenizer)
    probability = _max_probability(counts, parts.size)
    names = {old: piece for piece, old in parts.pieces.items()}
    kept: set[int] = set()
    first = [*parts.always.tolist(), *_characters(counts, tokenizer, parts, names)]
    kept.update(parts.needs([*first, *_keep_list(keep, tokenizer, parts)], names, kept))
    if max_pieces is not None and len(kept) > max_pieces:
        raise RecipeError(
            "the budget is too small for what is always kept",
            where="vocabulary.max_pieces",
            found=str(max_pieces),
            expected=f"at least {len(kept)} (special pieces, bytes, characters, keep-list)",
            do="raise it",
        )
    ranked = np.lexsort((np.arange(parts.size), -probability))
    for old in ranked[probability[ranked] >= min_probability].tolist():
        needed = parts.needs([old], names, kept)
        if max_pieces is None or len(kept) + len(needed) <= max_pieces:
            kept.update(needed)
    return np.array(sorted(kept), np.int64)


def _max_probability(counts: Mapping[str, Counts], size: int) -> np.ndarray:
    if not counts:
        raise DataError("no corpus was counted", where="corpus", expected="one per language")
    highest = np.zeros(size)
    for language, counted in counts.items():
        total = int(counted.pieces.sum())
        if counted.pieces.size != size or not total:
            raise DataError(
                "these counts cannot be used",
                where=f"corpus.{language}",
                found=f"{total} pieces over {counted.pieces.size} ids",
                expected=f"some text, counted with this tokenizer of {size} ids",
            )
        np.maximum(highest, counted.pieces / total, out=highest)
    return highest


def _characters(
    counts: Mapping[str, Counts], tokenizer: Tokenizer, parts: Anatomy, names: dict[int, str]
) -> list[int]:
    """Ids of the single characters seen, as written, as normalised, and as used in pieces."""
    seen: set[str] = set()
    for counted in counts.values():
        seen.update(counted.characters)
        used = (names.get(old, "") for old in np.flatnonzero(counted.pieces).tolist())
        seen.update(c for piece in used if not BYTE_FALLBACK.fullmatch(piece) for c in piece)
    forms: set[str] = set(seen)
    if tokenizer.normalizer is not None:
        forms.update(n for c in seen for n in tokenizer.normalizer.normalize_str(c))
    if parts.is_byte_level:
        forms.update("".join(BYTE_ALPHABET[b] for b in c.encode()) for c in seen)
    if parts.continuation:
        forms.update([parts.continuation + c for c in forms])
    return sorted(parts.pieces[form] for form in forms if form in parts.pieces)


def _byte_alphabet() -> list[str]:
    """The character that stands for each byte in byte-level BPE, as GPT-2 numbered them."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = (chr(256 + i) for i in range(256))
    return [chr(byte) if byte in shown else next(hidden) for byte in range(256)]


BYTE_ALPHABET = _byte_alphabet()


def _keep_list(keep: Iterable[str], tokenizer: Tokenizer, parts: Anatomy) -> list[int]:
    tokenizer = _plain(tokenizer)
    ids: list[int] = []
    for word in keep:
        ids.extend(tokenizer.encode(word, add_special_tokens=False).ids)
        ids.extend(tokenizer.encode(f" {word}", add_special_tokens=False).ids)
        ids.extend([parts.pieces[word]] if word in parts.pieces else [])
    return ids


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
        words: Words, split at white space.
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
        return cls(_plain(tokenizer), parts, kind)

    def encode(self, lines: list[str]) -> list[np.ndarray]:
        encodings = self.tokenizer.encode_batch_fast(lines, add_special_tokens=False)
        return [np.array(encoding.ids, np.int64) for encoding in encodings]


def _compare(old: _Side, new: _Side, piece_map: PieceMap, lines: Iterable[str]) -> LanguageReport:
    used = [np.zeros(side.kind.size, np.int64) for side in (old, new)]
    lost: Counter[tuple[str, str]] = Counter()
    total = same = words = 0
    for batch in _batches(lines):
        pairs = list(zip(old.encode(batch), new.encode(batch), strict=True))
        for side, count, ids in zip((old, new), used, zip(*pairs, strict=True), strict=True):
            count += np.bincount(np.concatenate(ids), minlength=side.kind.size)
        total += len(batch)
        words += sum(len(line.split()) for line in batch)
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
