"""Rewrite a fast tokenizer for a part of its pieces.

`tokenizer.json` is the truth: ids are what the `tokenizers` library gives on loading it, and the
trimmed folder names the generic transformers class, which reads that file and rebuilds nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from tokenizers import Tokenizer

from limbeck.anatomy import Anatomy, dissect, load_tokenizer, named_ids, processors_of
from limbeck.errors import DataError, ModelError
from limbeck.piece_map import PieceMap

__all__ = ["PieceMap", "load_tokenizer", "trim_tokenizer"]

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


def trim_tokenizer(folder_in: Path, kept: ArrayLike, folder_out: Path) -> PieceMap:
    """Write a tokenizer with only the kept pieces, ids compact and in the old order.

    A text whose old pieces are all kept gives the same pieces, through `Tokenizer.from_file` and
    through `AutoTokenizer`. One exception: a word that WordPiece could not spell ([UNK]) may
    become spelt, when a piece that led it into a dead end is gone.

    Args:
        folder_in: Model folder with a tokenizer.json.
        kept: Old ids to keep; what the tokenizer cannot work without is added, and so is every
            `*_token_id` of a config.json beside it; ids that name no piece are dropped.
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
    parts = dissect(tokenizer, spec)
    stray = sorted(named_ids(spec) - set(parts.pieces.values()))
    if stray:
        raise ModelError(
            "the post-processor or the padding names ids that no piece has",
            where=str(folder_in / "tokenizer.json"),
            found=str(stray),
            do="mend it with the tokenizers library and save it",
        )
    config = _generic_config(folder_in, parts.pieces)
    roles = [parts.pieces[t] for t in _role_tokens(config) if t in parts.pieces]
    roles += _model_ids(_read_json(folder_in / "config.json"), parts.size)
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
    for part in processors_of(spec["post_processor"]):
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


def _model_ids(config: dict[str, Any], size: int) -> list[int]:
    """Ids that a model's config.json names, such as pad_token_id: `trim_model` needs their rows."""
    named = [value for key, value in config.items() if key.endswith("_token_id")]
    flat = [one for value in named for one in (value if isinstance(value, list) else [value])]
    return [one for one in flat if isinstance(one, int) and 0 <= one < size]


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
