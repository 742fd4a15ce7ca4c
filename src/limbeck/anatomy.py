"""What a fast tokenizer is made of: what trimming has to know, and what must always stay."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers

from limbeck.errors import ModelError

BYTE_FALLBACK = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def _byte_alphabet() -> list[str]:
    """The character that stands for each byte in byte-level BPE, as GPT-2 numbered them."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = (chr(256 + i) for i in range(256))
    return [chr(byte) if byte in shown else next(hidden) for byte in range(256)]


BYTE_ALPHABET = _byte_alphabet()


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder, without truncation or padding changed.

    Raises:
        ModelError: If there is no readable tokenizer.json.
    """
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            "the folder has no fast tokenizer",
            where=str(path),
            do="save one: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        found = str(error)[:200]
        raise ModelError("the tokenizer cannot be read", where=str(path), found=found) from error


def unlimited(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer without truncation and padding, which published files may switch on.

    Returns:
        The tokenizer itself where it has neither, else a copy: the given one is left as it is.
    """
    if tokenizer.truncation is None and tokenizer.padding is None:
        return tokenizer
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Id of the unknown piece, or None where the tokenizer has none."""
    model: Any = tokenizer.model
    # tokenizers 0.23 shows `unk_token` on every model but Unigram, which keeps an id in its JSON.
    if type(model).__name__ == "Unigram":
        unknown: int | None = json.loads(tokenizer.to_str())["model"].get("unk_id")
        return unknown
    token = getattr(model, "unk_token", None)
    return tokenizer.token_to_id(token) if token else None


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The parts of a tokenizer that trimming has to know.

    Args:
        kind: WordPiece, Unigram or BPE.
        pieces: Piece to id, added tokens included.
        size: Number of ids, V: the highest id plus one, so holes count.
        unknown: Id of the unknown piece, or None.
        always: Ids it cannot work without, ascending: added tokens, the unknown piece, bytes, the
            byte-level alphabet, what the post-processor and the padding name; for Unigram also
            the lone metaspace and one piece of the lowest score.
        is_byte_level: Whether text becomes bytes before it becomes pieces.
        continuation: Prefix of a piece inside a word ("##"), or "".
        suffix: Suffix of a piece at the end of a word ("</w>"), or "".
        ranks: BPE merges, pair to rank; empty for the other kinds.
    """

    kind: str
    pieces: dict[str, int]
    size: int
    unknown: int | None
    always: np.ndarray
    is_byte_level: bool
    continuation: str
    suffix: str
    ranks: dict[tuple[str, str], int]

    def route(self, piece: str) -> list[str]:
        """The pieces through which BPE merges reach `piece`, its characters first, itself left out.

        The merges inside a final piece run as they would on that piece alone, for a merge across
        its border would have eaten it. So one simulation finds all that a piece ever needs.
        """
        symbols = self._symbols(piece)
        seen = list(symbols)
        while len(symbols) > 1:
            pairs = [self.ranks.get(pair, -1) for pair in itertools.pairwise(symbols)]
            rank = min((rank for rank in pairs if rank >= 0), default=-1)
            if rank < 0:
                break
            at = pairs.index(rank)
            merged = symbols[at] + symbols[at + 1].removeprefix(self.continuation)
            symbols[at : at + 2] = [merged]
            seen.append(merged)
        return [part for part in seen if part != piece]

    def _symbols(self, piece: str) -> list[str]:
        inside = bool(self.continuation) and piece.startswith(self.continuation)
        ends = bool(self.suffix) and piece.endswith(self.suffix)
        bare = piece.removeprefix(self.continuation) if inside else piece
        symbols = list(bare.removesuffix(self.suffix) if ends else bare)
        for i in range(0 if inside else 1, len(symbols)):
            symbols[i] = self.continuation + symbols[i]
        if ends and symbols:
            symbols[-1] += self.suffix
        return symbols

    def needs(self, ids: Iterable[int], names: dict[int, str], have: set[int]) -> list[int]:
        """Ids to add to `have` so that every piece of `ids` can be made, those ids included.

        Args:
            ids: Old ids wanted.
            names: Id to piece.
            have: Ids that are there, with all that they need.
        """
        new: dict[int, None] = {}
        for wanted in ids:
            if wanted in have or wanted in new or wanted not in names:
                continue
            if self.kind == "BPE":
                parts = (self.pieces.get(part) for part in self.route(names[wanted]))
                new.update((part, None) for part in parts if part is not None and part not in have)
            new[wanted] = None
        return list(new)

    def close(self, ids: Iterable[int]) -> np.ndarray:
        """These ids, all that is always kept and all that their merges need, int64, ascending."""
        names = {old: piece for piece, old in self.pieces.items()}
        kept: set[int] = set()
        kept.update(self.needs(self.always.tolist(), names, kept))
        kept.update(self.needs(ids, names, kept))
        return np.array(sorted(kept), np.int64)


def anatomy(tokenizer: Tokenizer) -> Anatomy:
    """The parts of a loaded tokenizer; raises as `dissect` does."""
    return dissect(tokenizer, json.loads(tokenizer.to_str()))


def dissect(tokenizer: Tokenizer, spec: dict[str, Any]) -> Anatomy:
    """The parts of a tokenizer whose tokenizer.json is `spec`.

    Raises:
        ModelError: If it is neither WordPiece, Unigram nor BPE.
    """
    model = spec["model"]
    kind = type(tokenizer.model).__name__
    if kind not in ("WordPiece", "Unigram", "BPE"):
        raise ModelError(
            "this kind of tokenizer cannot be trimmed",
            where="tokenizer.json: model.type",
            found=kind,
            expected="WordPiece, Unigram or BPE",
        )
    pieces = tokenizer.get_vocab(with_added_tokens=True)
    is_byte_level = '"type":"ByteLevel"' in json.dumps(
        [spec["pre_tokenizer"], spec["normalizer"]], separators=(",", ":")
    )
    unknown = model["unk_id"] if kind == "Unigram" else pieces.get(model["unk_token"])
    always = {*tokenizer.get_added_tokens_decoder(), *named_ids(spec)}
    always.update(old for piece, old in pieces.items() if BYTE_FALLBACK.fullmatch(piece))
    if unknown is not None:
        always.add(unknown)
    if is_byte_level:
        always.update(pieces[c] for c in pre_tokenizers.ByteLevel.alphabet() if c in pieces)
    if kind == "Unigram":
        # <unk> costs the lowest score minus 10: losing that piece would move unknown characters.
        scores = [score for _, score in model["vocab"]]
        always.add(scores.index(min(scores)))
        always.update(pieces[c] for c in "▁" if c in pieces)
    known = set(pieces.values())
    return Anatomy(
        kind=kind,
        pieces=pieces,
        size=max(known) + 1,
        unknown=unknown,
        always=np.array(sorted(always & known), np.int64),
        is_byte_level=is_byte_level,
        continuation=(model.get("continuing_subword_prefix") or "") if kind != "Unigram" else "",
        suffix=(model.get("end_of_word_suffix") or "") if kind == "BPE" else "",
        ranks={(a, b): rank for rank, (a, b) in enumerate(model.get("merges", ()))},
    )


def processors_of(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The post-processor of a tokenizer.json and all that are inside of it, none for None."""
    if part is None:
        return []
    return [part, *(deep for inner in part.get("processors", ()) for deep in processors_of(inner))]


def named_ids(spec: dict[str, Any]) -> set[int]:
    """Ids that the padding and the post-processor of a tokenizer.json name."""
    ids = {spec["padding"]["pad_id"]} if spec["padding"] else set()
    for part in processors_of(spec["post_processor"]):
        ids.update(part[role][1] for role in ("sep", "cls") if role in part)
        for token in part.get("special_tokens", {}).values():
            ids.update(token["ids"])
    return ids
