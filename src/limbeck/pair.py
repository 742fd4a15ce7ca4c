"""A model and its trimmed self, both read back from disk, with texts that both have encoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedModel

from limbeck.anatomy import anatomy, load_tokenizer, unlimited
from limbeck.checkpoint import load_checkpoint
from limbeck.encoder import quiet
from limbeck.piece_map import PieceMap

# Bounds on the work, per language; the first held-out texts are taken.
LINES, STATE_TEXTS = 10_000, 200


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models, as its folder gives it.

    Args:
        tokenizer: What `Tokenizer.from_file` reads, without truncation and padding.
        raw: The same with the truncation and padding of the file.
        auto: What `AutoTokenizer` makes of the folder.
        model: The model, of its own class, in the dtype it was saved in.
    """

    tokenizer: Tokenizer
    raw: Tokenizer
    auto: Any
    model: PreTrainedModel

    @classmethod
    def load(cls, folder: Path) -> "Side":
        """Read a model folder.

        Raises:
            ModelError: It cannot be read.
        """
        raw = load_tokenizer(folder)
        with quiet():
            auto = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return cls(unlimited(raw), raw, auto, load_checkpoint(folder).model)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give the ids [T] of each text, with what the post-processor adds."""
        return [np.array(one.ids, np.int64) for one in self.tokenizer.encode_batch_fast(texts)]


@dataclass(frozen=True, slots=True)
class Texts:
    """The held-out texts of one language.

    Args:
        lines: Texts, at most `LINES`.
        in_scope: How many of them have only pieces that are kept.
        same: How many of those have the same pieces under the new tokenizer.
        words: Different words of the lines, each taken as a text of its own.
        words_in_scope: As `in_scope`.
        words_same: As `same`.
        kept: Old ids [T] of texts in scope, at most `STATE_TEXTS`, lines before words.
    """

    lines: tuple[str, ...]
    in_scope: int
    same: int
    words: int
    words_in_scope: int
    words_same: int
    kept: tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Everything that the checks look at."""

    old: Side
    new: Side
    piece_map: PieceMap
    texts: Mapping[str, Texts]


def read_pair(original: Path, trimmed: Path, lines: Mapping[str, Sequence[str]]) -> Pair:
    """Read both folders and encode the held-out lines of each language.

    Raises:
        ModelError: A folder cannot be read.
        ArtifactError: The piece map of the trimmed folder cannot be read.
    """
    old, new = Side.load(original), Side.load(trimmed)
    piece_map = PieceMap.load(trimmed / "pieces.npz")
    texts = {name: _texts(old, new, piece_map, some[:LINES]) for name, some in lines.items()}
    return Pair(old, new, piece_map, texts)


@dataclass(frozen=True, slots=True)
class Compared:
    """Texts with only kept pieces, how many of them are the same, and their old ids [T]."""

    in_scope: int
    same: int
    kept: list[np.ndarray]


def compare(old: Side, new: Side, piece_map: PieceMap, texts: Sequence[str]) -> Compared:
    """Compare the pieces of texts whose old pieces are all kept.

    WordPiece turns a word that it cannot spell into the unknown piece; with fewer pieces it may
    spell it. Texts with such a word are out of scope.
    """
    parts = anatomy(old.tokenizer)
    unknown = parts.unknown if parts.kind == "WordPiece" else None
    kept, same = [], 0
    for start in range(0, len(texts), 1024):
        batch = texts[start : start + 1024]
        for ids, trimmed in zip(old.encode(batch), new.encode(batch), strict=True):
            mapped = piece_map.old_to_new[ids]
            if (mapped < 0).any() or (unknown is not None and (ids == unknown).any()):
                continue
            kept.append(ids)
            same += np.array_equal(mapped, trimmed)
    return Compared(len(kept), same, kept)


def _texts(old: Side, new: Side, piece_map: PieceMap, lines: Sequence[str]) -> Texts:
    words = sorted({word for line in lines for word in line.split()})
    by_line = compare(old, new, piece_map, lines)
    by_word = compare(old, new, piece_map, words)
    return Texts(
        lines=tuple(lines),
        in_scope=by_line.in_scope,
        same=by_line.same,
        words=len(words),
        words_in_scope=by_word.in_scope,
        words_same=by_word.same,
        kept=tuple([*by_line.kept, *by_word.kept][:STATE_TEXTS]),
    )
