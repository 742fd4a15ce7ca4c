"""Texts as one flat stream of pieces on disk, cut into blocks of one length and masked.

A text is its pieces and `end`; a block is `begin` and the next T-1 of the stream, so a block may
start and stop inside a text. No padding, no piece lost but the last partial block.
"""

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from limbeck.anatomy import unknown_id, unlimited
from limbeck.corpus import writing
from limbeck.errors import ArtifactError, DataError, RecipeError
from limbeck.reading import batches_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class PackCounts:
    """What is in a packed stream.

    Args:
        dtype: "uint16" or "uint32", little-endian.
        pieces: Pieces in the stream, one `end` a text included, `begin` not.
        texts: Texts packed.
        unknown: Pieces that are the tokenizer's unknown piece.
        begin: Id that starts every block.
        end: Id that ends every text.
    """

    dtype: str
    pieces: int
    texts: int
    unknown: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class LanguageBatch:
    """Blocks of one language: `ids` is int64 [B, T]."""

    language: str
    ids: np.ndarray


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """Input and target of masked-language modelling, both int64 [B, T]; label -100 is ignored."""

    ids: np.ndarray
    labels: np.ndarray


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def pack(
    texts: Iterable[str], tokenizer: "Tokenizer", path: Path, *, begin: int, end: int
) -> PackCounts:
    """Write texts as a flat stream of pieces, and `<path>.json` beside it, last.

    Memory is flat: one batch of texts at a time. Truncation and padding that the tokenizer may
    carry are not applied; the tokenizer itself is left as it is.

    Args:
        texts: Clean texts.
        tokenizer: Splits text into pieces; its special pieces are not added.
        path: The stream to write, raw and little-endian: `<language>.bin`.
        begin: Id that will start every block; recorded, not written.
        end: Id written after every text.

    Raises:
        DataError: There is no text.
        ArtifactError: The disk is full, or `path` cannot be written.
    """
    tokenizer = unlimited(tokenizer)
    highest = max(begin, end, *tokenizer.get_vocab(with_added_tokens=True).values())
    dtype = "uint16" if highest < 2**16 else "uint32"
    missing = unknown_id(tokenizer)
    pieces = count = unknown = 0
    with writing(path):
        _sidecar(path).unlink(missing_ok=True)
        with path.open("wb") as handle:
            for batch in batches_of(texts):
                encodings = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
                ids = itertools.chain.from_iterable((*each.ids, end) for each in encodings)
                stream = np.fromiter(ids, dtype=np.dtype(dtype).newbyteorder("<"))
                handle.write(stream.data)
                pieces, count = pieces + len(stream), count + len(batch)
                unknown += int(np.count_nonzero(stream == missing)) if missing is not None else 0
        if not count:
            raise DataError("no text to pack", where=str(path))
        counts = PackCounts(dtype, pieces, count, unknown, begin, end)
        part = path.with_name(f"{path.name}.json.part")
        part.write_text(json.dumps(asdict(counts)), encoding="utf-8")
        part.replace(_sidecar(path))
    return counts


class Blocks:
    """The blocks of a packed stream, read from disk as they are asked for.

    Args:
        path: What `pack` wrote.
        length: T, pieces in a block, `begin` included; at least 2.
        begin: Id that starts every block; the one the stream was packed for.

    Raises:
        RecipeError: The length is below 2.
        DataError: The stream is missing, shorter than one block, or packed for another `begin`.
        ArtifactError: The stream or its sidecar is damaged.
    """

    def __init__(self, path: Path, *, length: int, begin: int):
        if length < 2:
            raise RecipeError(
                "a block is too short", found=f"{length} pieces", expected="2 or more"
            )
        counts = read_counts(path)
        if counts.begin != begin:
            do = "pack it again with this tokenizer"
            found, expected = f"begin {counts.begin}", f"begin {begin}"
            raise DataError("other pieces", where=str(path), found=found, expected=expected, do=do)
        if counts.pieces < length - 1:
            found, do = f"{counts.pieces} pieces", "add text or shorten the blocks"
            expected = f"{length - 1} or more for blocks of {length}"
            raise DataError(
                "too little text", where=str(path), found=found, expected=expected, do=do
            )
        self.path, self.length, self.begin = path, length, begin
        self._stream = np.memmap(path, dtype=np.dtype(counts.dtype).newbyteorder("<"), mode="r")

    def __len__(self) -> int:
        return len(self._stream) // (self.length - 1)

    def block(self, index: int) -> np.ndarray:
        """Give block `index` as int64 [T].

        Raises:
            IndexError: There is no such block.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        width = self.length - 1
        ids = np.empty(self.length, dtype=np.int64)
        ids[0] = self.begin
        ids[1:] = self._stream[index * width : (index + 1) * width]
        return ids


def read_counts(path: Path) -> PackCounts:
    """Read what `pack` counted, and check that the stream is whole.

    Raises:
        DataError: The stream was never finished.
        ArtifactError: The stream or its sidecar is damaged.
    """
    try:
        counts = PackCounts(**json.loads(_sidecar(path).read_text(encoding="utf-8")))
        size_bytes = path.stat().st_size
    except FileNotFoundError as problem:
        missing = str(problem.filename)
        raise DataError(
            "no packed stream", where=str(path), do=f"pack it; no {missing}"
        ) from problem
    except (ValueError, TypeError) as problem:
        where, do = str(_sidecar(path)), "pack the stream again"
        raise ArtifactError("damaged", where=where, found=str(problem), do=do) from problem
    expected_bytes = counts.pieces * np.dtype(counts.dtype).itemsize
    if size_bytes != expected_bytes:
        found, expected = f"{size_bytes} bytes", f"{expected_bytes} bytes"
        raise ArtifactError("damaged", where=str(path), found=found, expected=expected)
    return counts


@lru_cache(maxsize=512)
def _permutation(seed: int, language: str, epoch: int, count: int) -> np.ndarray:
    name = int.from_bytes(blake2b(language.encode(), digest_size=8).digest(), "little")
    order = np.random.default_rng([seed, name, epoch]).permutation(count)
    return order.astype(np.uint32 if count < 2**32 else np.uint64)


def visit(blocks: Blocks, language: str, number: int, *, seed: int) -> np.ndarray:
    """Give the block of a language's visit, from 0: all its blocks in a fresh order each epoch.

    Returns:
        Pieces, int64 [T].
    """
    epoch, place = divmod(number, len(blocks))
    return blocks.block(int(_permutation(seed, language, epoch, len(blocks))[place]))


def schedule(
    blocks_by_language: Mapping[str, Blocks], *, batch: int, step: int, seed: int
) -> LanguageBatch:
    """Give the batch of one step: a pure function of (seed, step), whatever was read before.

    Languages take turns in the order of their codes: step s is language s mod n, so that each
    gets the same number of pieces however large its corpus. A language visits all its blocks in a
    fresh order each epoch; a batch may end one epoch and begin the next.

    Args:
        blocks_by_language: Language → its blocks.
        batch: B, blocks in a batch.
        step: Step counted from 0.
        seed: Seed of the orders.
    """
    languages = sorted(blocks_by_language)
    language = languages[step % len(languages)]
    blocks, first = blocks_by_language[language], step // len(languages) * batch
    rows = [visit(blocks, language, one, seed=seed) for one in range(first, first + batch)]
    return LanguageBatch(language, np.stack(rows))


def mask_pieces(
    ids: np.ndarray,
    *,
    rng: np.random.Generator,
    mask_id: int,
    vocabulary_size: int,
    special: Iterable[int],
    probability: float = 0.15,
) -> MaskedBatch:
    """Choose pieces to predict: 80 % become `mask_id`, 10 % a random piece, 10 % stay.

    Special pieces are neither chosen nor drawn as the random piece. When chance chooses none of a
    batch, one is chosen, for a loss without a target is not a number.

    Args:
        ids: Pieces, integer [B, T]; not changed.
        rng: Source of chance; make it from (seed, step) for a run that resumes.
        mask_id: Id of the mask piece.
        vocabulary_size: V; random pieces are drawn below it.
        special: Ids never chosen.
        probability: Chance of a piece to be chosen; 0.15 as in BERT.

    Raises:
        RecipeError: The probability is out of range.

    Source: Devlin et al. 2019, section 3.1, task 1; HF `DataCollatorForLanguageModeling` differs
    in that its random piece may be a special one.
    """
    if not 0 < probability <= 1:
        found = str(probability)
        raise RecipeError("bad masking probability", found=found, expected="0 < probability ≤ 1")
    specials = np.array(sorted(set(special)), dtype=np.int64)
    ids = ids.astype(np.int64)
    can_be_chosen = ~np.isin(ids, specials)
    draw = np.where(can_be_chosen, rng.random(ids.shape), 2.0)
    chosen = draw < probability
    if not chosen.any() and can_be_chosen.any():
        chosen.flat[np.argmin(draw)] = True
    fate = rng.random(ids.shape)
    inside = specials[specials < vocabulary_size]
    random_ids = rng.integers(max(vocabulary_size - len(inside), 1), size=ids.shape)
    # the k-th piece that is not special: k and the special pieces at or before it
    random_ids += np.searchsorted(inside - np.arange(len(inside)), random_ids, side="right")
    masked = np.where(chosen & (fate < 0.8), mask_id, ids)
    masked = np.where(chosen & (fate >= 0.9), random_ids, masked)
    return MaskedBatch(masked.astype(np.int64), np.where(chosen, ids, -100))


@dataclass(frozen=True, slots=True)
class PackedText:
    """Packed text of each language, to train on and held out, and what masking must know.

    Args:
        train: Language to blocks.
        held_out: Language to blocks never trained on.
        mask_id: The mask piece; -1 where the tokenizer has none.
        special: Pieces never masked, int [S].
        vocabulary_size: Pieces to draw random replacements from.
    """

    train: Mapping[str, Blocks]
    held_out: Mapping[str, Blocks]
    mask_id: int
    special: np.ndarray
    vocabulary_size: int

    def mask(self, ids: np.ndarray, *, rng: np.random.Generator, probability: float) -> MaskedBatch:
        """Mask some of the text's pieces, as `mask_pieces` does."""
        return mask_pieces(
            ids,
            rng=rng,
            mask_id=self.mask_id,
            vocabulary_size=self.vocabulary_size,
            special=self.special,
            probability=probability,
        )
