"""Count the pieces of corpora and choose which to keep; `audit` tells what that changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from limbeck.anatomy import (
    BYTE_ALPHABET,
    BYTE_FALLBACK,
    Anatomy,
    anatomy,
    unknown_id,
    unlimited,
)
from limbeck.audit import report
from limbeck.errors import ArtifactError, DataError, RecipeError
from limbeck.piece_map import UNREADABLE, load_arrays
from limbeck.reading import batches_of, read_texts

__all__ = ["Counts", "choose", "count", "read_keep_list", "report"]

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
    tokenizer = unlimited(tokenizer)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    pieces = np.zeros(max(vocabulary.values()) + 1, np.int64)
    characters = np.zeros(CODEPOINTS, np.int64)
    words = lines = 0
    for batch in batches_of(texts):
        encodings = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        ids = np.fromiter((i for encoding in encodings for i in encoding.ids), np.int64)
        pieces += np.bincount(ids, minlength=pieces.size)
        codes = np.frombuffer("".join(batch).encode("utf-32-le"), np.uint32)
        seen = np.bincount(codes)
        characters[: seen.size] += seen
        words += sum(len(text.split()) for text in batch)
        lines += len(batch)
    unknown = unknown_id(tokenizer)
    return Counts(
        pieces=pieces,
        characters={chr(c): int(characters[c]) for c in np.flatnonzero(characters)},
        words=words,
        lines=lines,
        unknown=int(pieces[unknown]) if unknown is not None else 0,
    )


def read_keep_list(path: Path) -> list[str]:
    """Give the words of a keep-list, one a line, empty lines left out.

    Raises:
        DataError: The file is missing, unreadable or not UTF-8.
    """
    return [text.strip() for text in read_texts(path) if text.strip()]


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


def _keep_list(keep: Iterable[str], tokenizer: Tokenizer, parts: Anatomy) -> list[int]:
    tokenizer = unlimited(tokenizer)
    ids: list[int] = []
    for word in keep:
        ids.extend(tokenizer.encode(word, add_special_tokens=False).ids)
        ids.extend(tokenizer.encode(f" {word}", add_special_tokens=False).ids)
        ids.extend([parts.pieces[word]] if word in parts.pieces else [])
    return ids
