"""What a fast tokenizer is made of, and how to rewrite it for a part of its pieces.

`tokenizer.json` is the truth: ids are what the `tokenizers` library gives on loading it, and the
trimmed folder names the generic transformers class, which reads that file and rebuilds nothing.
"""

from __future__ import annotations

import itertools
import json
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from tokenizers import Tokenizer, pre_tokenizers

from limbeck.errors import ArtifactError, DataError, ModelError

UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, DataError)
BYTE_FALLBACK = re.compile(r"<0x[0-9A-Fa-f]{2}>")

SLOW_FILES = (
    "vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "sentencepiece.model",
    "spm.model", "spiece.model", "tokenizer.model", "bpe.codes",
)  # fmt: skip

_BERT = {f"{role}_token": f"[{role.upper()}]" for role in ("unk", "sep", "pad", "cls", "mask")}
_ROBERTA = {
    **{f"{role}_token": f"<{role}>" for role in ("unk", "pad", "mask")},
    **{"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"},
}
_ENDS = {"bos_token": "[CLS]", "eos_token": "[SEP]"}
_GEMMA = {f"{role}_token": f"<{role}>" for role in ("unk", "bos", "eos", "pad", "mask")}
_TWO = {"model_input_names": ["input_ids", "attention_mask"]}
_THREE = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}

# What a transformers class knows beyond its tokenizer_config.json (transformers 5.23); the generic
# class has to be told, or roles and token_type_ids are lost without a word.
CLASS_DEFAULTS: dict[str, dict[str, Any]] = {
    "AlbertTokenizer": _BERT | _ENDS | {"unk_token": "<unk>", "pad_token": "<pad>"} | _TWO,
    "BertTokenizer": _BERT | _THREE,
    "CamembertTokenizer": _ROBERTA | _TWO,
    "DebertaV2Tokenizer": _BERT | _ENDS | _THREE,
    "DistilBertTokenizer": _BERT | _TWO,
    "ElectraTokenizer": _BERT | _THREE,
    "GemmaTokenizer": _GEMMA | {"padding_side": "left"} | _TWO,
    "MPNetTokenizer": _ROBERTA | {"unk_token": "[UNK]"} | _TWO,
    "RemBertTokenizer": _BERT | _ENDS | {"unk_token": "<unk>", "pad_token": "<pad>"} | _TWO,
    "RobertaTokenizer": _ROBERTA | _TWO,
    "XLMRobertaTokenizer": _ROBERTA | _TWO,
}

CLASS_OF_MODEL = {
    "bert": "BertTokenizer", "electra": "BertTokenizer", "distilbert": "BertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer", "xlm-roberta": "XLMRobertaTokenizer",
    "roberta": "RobertaTokenizer", "camembert": "CamembertTokenizer", "mpnet": "MPNetTokenizer",
    "albert": "AlbertTokenizer", "rembert": "RemBertTokenizer",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class PieceMap:
    """Which old pieces a trimmed vocabulary keeps, as ids both ways.

    Args:
        kept: Old id of every new piece, strictly rising, int32 [V'].
        old_size: Number of old ids, V.

    Raises:
        DataError: If `kept` is no rising list of ids below `old_size`.
    """

    kept: np.ndarray
    old_size: int
    old_to_new: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the ids and build `old_to_new`, int32 [V], -1 for a piece that is gone."""
        given = np.asarray(self.kept)
        if given.ndim != 1 or not given.size or given.dtype.kind not in "iu":
            found = f"{given.dtype} of shape {given.shape}"
            raise DataError("a piece map needs a list of ids", where="kept", found=found)
        if (
            given[0] < 0
            or given[-1] >= self.old_size
            or np.any(np.diff(given.astype(np.int64)) < 1)
        ):
            raise DataError(
                "kept ids must rise and lie in the old vocabulary",
                where="kept",
                found=f"{int(given.min())} to {int(given.max())}",
                expected=f"0 to {self.old_size - 1}, each once, in order",
            )
        kept = given.astype(np.int32)
        old_to_new = np.full(self.old_size, -1, np.int32)
        old_to_new[kept] = np.arange(kept.size, dtype=np.int32)
        kept.flags.writeable = old_to_new.flags.writeable = False
        object.__setattr__(self, "kept", kept)
        object.__setattr__(self, "old_size", int(self.old_size))
        object.__setattr__(self, "old_to_new", old_to_new)

    def __len__(self) -> int:
        return int(self.kept.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PieceMap):
            return NotImplemented
        return self.old_size == other.old_size and np.array_equal(self.kept, other.kept)

    def apply(self, ids: ArrayLike) -> np.ndarray:
        """New ids of old ids, int32 of the same shape; -1 where the piece is gone.

        Raises:
            DataError: If an id is not an old id.
        """
        return _take(self.old_to_new, ids, "old")

    def invert(self, ids: ArrayLike) -> np.ndarray:
        """Old ids of new ids, int32 of the same shape.

        Raises:
            DataError: If an id is not a new id.
        """
        return _take(self.kept, ids, "new")

    def save(self, path: Path) -> None:
        """Write one .npz file at exactly this path; the same map gives the same bytes."""
        with Path(path).open("wb") as file:
            np.savez(file, kept=self.kept, old_size=np.int64(self.old_size))

    @classmethod
    def load(cls, path: Path) -> PieceMap:
        """The map that `save` wrote.

        Raises:
            ArtifactError: If the file is missing, damaged, or no piece map.
        """
        try:
            arrays = load_arrays(path)
            return cls(arrays["kept"], int(arrays["old_size"]))
        except UNREADABLE as error:
            raise ArtifactError(
                "this is no piece map", where=str(path), found=str(error), do="trim the model again"
            ) from error


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; raises one of `UNREADABLE` if it is none."""
    # numpy 2.4 leaves the file open when the archive is damaged, so it is opened here.
    with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _take(table: np.ndarray, ids: ArrayLike, side: str) -> np.ndarray:
    rows = np.asarray(ids)
    if not rows.size:
        return np.zeros(rows.shape, np.int32)
    if rows.min() < 0 or rows.max() >= table.size:
        found = f"{rows.min()} to {rows.max()}"
        expected = f"0 to {table.size - 1}"
        raise DataError(f"not an id of the {side} vocabulary", found=found, expected=expected)
    return table[rows]


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
    """The parts of a loaded tokenizer.

    Raises:
        ModelError: If it is neither WordPiece, Unigram nor BPE.
    """
    return _dissect(tokenizer, json.loads(tokenizer.to_str()))


def _dissect(tokenizer: Tokenizer, spec: dict[str, Any]) -> Anatomy:
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
    always = {*tokenizer.get_added_tokens_decoder(), *_named_ids(spec)}
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


def _processors(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    if part is None:
        return []
    return [part, *(deep for inner in part.get("processors", ()) for deep in _processors(inner))]


def _named_ids(spec: dict[str, Any]) -> set[int]:
    ids = {spec["padding"]["pad_id"]} if spec["padding"] else set()
    for part in _processors(spec["post_processor"]):
        ids.update(part[role][1] for role in ("sep", "cls") if role in part)
        for token in part.get("special_tokens", {}).values():
            ids.update(token["ids"])
    return ids


def trim_tokenizer(folder_in: Path, kept: ArrayLike, folder_out: Path) -> PieceMap:
    """Write a tokenizer with only the kept pieces, ids compact and in the old order.

    A text whose old pieces are all kept gives the same pieces, through `Tokenizer.from_file` and
    through `AutoTokenizer`. One exception: a word that WordPiece could not spell ([UNK]) may
    become spelt, when a piece that led it into a dead end is gone.

    Args:
        folder_in: Model folder with a tokenizer.json.
        kept: Old ids to keep; what the tokenizer cannot work without is added, ids that name no
            piece are dropped.
        folder_out: Folder for the new files, made if needed; files of slow tokenizers there are
            removed, since they would be stale.

    Returns:
        The map of the pieces that are really there.

    Raises:
        ModelError: If the folder has no fast tokenizer, its kind is not known, it names ids that
            no piece has, both folders are one, or the new file does not read back as meant.
        DataError: If a kept id lies outside of the vocabulary.
    """
    folder_in, folder_out = Path(folder_in), Path(folder_out)
    if folder_in.resolve() == folder_out.resolve():
        do = "give another folder"
        raise ModelError("a tokenizer cannot be trimmed in place", where=str(folder_in), do=do)
    tokenizer = load_tokenizer(folder_in)
    spec = json.loads(tokenizer.to_str())
    parts = _dissect(tokenizer, spec)
    stray = sorted(_named_ids(spec) - set(parts.pieces.values()))
    if stray:
        raise ModelError(
            "the post-processor or the padding names ids that no piece has",
            where=str(folder_in / "tokenizer.json"),
            found=str(stray),
            do="mend it with the tokenizers library and save it",
        )
    config = _generic_config(folder_in, parts.pieces)
    roles = [parts.pieces[t] for t in _role_tokens(config) if t in parts.pieces]
    wanted = np.asarray(kept, np.int64).ravel()
    if wanted.size and (wanted.min() < 0 or wanted.max() >= parts.size):
        raise DataError(
            "a kept id is not in the tokenizer",
            where=str(folder_in),
            found=f"{wanted.min()} to {wanted.max()}",
            expected=f"0 to {parts.size - 1}",
        )
    piece_map = PieceMap(parts.close([*roles, *wanted.tolist()]), parts.size)
    _rewrite(spec, parts, piece_map)
    folder_out.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(spec, parts, piece_map, folder_out)
    _write_companions(folder_in, config, piece_map, folder_out)
    return piece_map


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


def _rewrite(spec: dict[str, Any], parts: Anatomy, piece_map: PieceMap) -> None:
    new = piece_map.old_to_new.tolist()
    model = spec["model"]
    if parts.kind == "Unigram":
        listed = model["vocab"]
        model["vocab"] = [listed[old] for old in piece_map.kept.tolist() if old < len(listed)]
        if model["unk_id"] is not None:
            model["unk_id"] = new[model["unk_id"]]
    else:
        # An added token in a hole of the old ids joins the vocabulary: loading would move it else.
        top = max(model["vocab"].values())
        rows = sorted((old, piece) for piece, old in parts.pieces.items() if new[old] >= 0)
        vocab = {piece: new[old] for old, piece in rows if piece in model["vocab"] or old < top}
        model["vocab"] = vocab
        if parts.kind == "BPE":
            cut = len(parts.continuation)
            model["merges"] = [
                (a, b) for a, b in model["merges"]
                if a in vocab and b in vocab and a + b[cut:] in vocab
            ]  # fmt: skip
    for token in spec["added_tokens"]:
        token["id"] = new[parts.pieces[token["content"]]]
    spec["added_tokens"].sort(key=lambda token: token["id"])
    if spec["padding"]:
        spec["padding"]["pad_id"] = new[spec["padding"]["pad_id"]]
    for part in _processors(spec["post_processor"]):
        for role in {"sep", "cls"} & part.keys():
            part[role][1] = new[part[role][1]]
        for token in part.get("special_tokens", {}).values():
            token["ids"] = [new[old] for old in token["ids"]]


def _write_tokenizer(
    spec: dict[str, Any], parts: Anatomy, piece_map: PieceMap, folder: Path
) -> None:
    partial = folder / "tokenizer.json.part"
    partial.write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    new = piece_map.old_to_new.tolist()
    expected = {piece: new[old] for piece, old in parts.pieces.items() if new[old] >= 0}
    found = Tokenizer.from_file(str(partial)).get_vocab(with_added_tokens=True)
    if found != expected:
        wrong = sorted(piece for piece in expected if found.get(piece) != expected[piece])
        partial.unlink()
        raise ModelError(
            "the trimmed tokenizer does not read back as written",
            where=str(folder),
            found=f"{len(wrong)} pieces with another id, such as {wrong[:3]}",
            do="report this tokenizer",
        )
    partial.replace(folder / "tokenizer.json")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError("this is not JSON", where=str(path), found=str(error)) from error
    return loaded if isinstance(loaded, dict) else {}


def _generic_config(folder: Path, pieces: dict[str, int]) -> dict[str, Any]:
    """tokenizer_config.json for the generic class, with what the old class knew by itself."""
    config = _read_json(folder / "tokenizer_config.json")
    model_type = _read_json(folder / "config.json").get("model_type", "")
    name = config.get("tokenizer_class") or CLASS_OF_MODEL.get(model_type, "")
    # transformers 5 reads ModernBERT's tokenizer.json whatever class the folder names.
    defaults = {} if model_type.startswith("modernbert") else CLASS_DEFAULTS.get(
        name.removesuffix("Fast"), {}
    )  # fmt: skip
    given = {**_read_json(folder / "special_tokens_map.json"), **config}
    for key, value in defaults.items():
        if key not in given and (not key.endswith("_token") or value in pieces):
            config[key] = value
    for key in ("auto_map", "tokenizer_file", "vocab_file", "merges_file", "name_or_path"):
        config.pop(key, None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    return config


def _role_tokens(config: dict[str, Any]) -> list[str]:
    roles = [value for key, value in config.items() if key.endswith("_token")]
    return [role["content"] if isinstance(role, dict) else str(role) for role in roles]


def _write_companions(
    folder_in: Path, config: dict[str, Any], piece_map: PieceMap, folder_out: Path
) -> None:
    new = piece_map.old_to_new.tolist()

    def moved(old: int) -> int:
        return new[old] if 0 <= old < len(new) else -1

    for key, value in config.items():
        if (key.endswith("_token_id") or key == "unk_id") and isinstance(value, int):
            config[key] = moved(value)
    if "vocab_size" in config:
        config["vocab_size"] = len(piece_map)
    if "added_tokens_decoder" in config:
        decoder = {moved(int(old)): token for old, token in config["added_tokens_decoder"].items()}
        config["added_tokens_decoder"] = {str(i): decoder[i] for i in sorted(decoder) if i >= 0}
    _write_json(folder_out / "tokenizer_config.json", config)
    added = {t: moved(old) for t, old in _read_json(folder_in / "added_tokens.json").items()}
    for name, content in (
        ("added_tokens.json", {t: i for t, i in added.items() if i >= 0}),
        ("special_tokens_map.json", _read_json(folder_in / "special_tokens_map.json")),
    ):
        if content:
            _write_json(folder_out / name, content)
        else:
            (folder_out / name).unlink(missing_ok=True)
    for name in SLOW_FILES:
        (folder_out / name).unlink(missing_ok=True)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
