"""The checks of a trimmed model against its original, both read back from disk."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from limbeck.architectures import architecture_of, special_entries
from limbeck.encoder import base_encoder, quiet
from limbeck.pair import STATE_TEXTS, Pair, compare
from limbeck.parameters import base_prefix

# Bounds on the work, per language.
VARIANT_LINES, OUTPUT_TEXTS = 500, 8
BATCH_TEXTS, STATE_PIECES, OUTPUT_PIECES = 8, 128, 32
# The product with a smaller output matrix may be summed in another order by the library.
OUTPUT_TOLERANCE = 1e-5
ROLES = ("unk", "pad", "cls", "sep", "mask", "bos", "eos")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold.

    Args:
        name: What is checked.
        holds: Whether it does.
        found: What was measured.
        expected: What should have been.
    """

    name: str
    holds: bool
    found: str
    expected: str


def run_checks(pair: Pair) -> tuple[Check, ...]:
    """Carry out every check of `CHECKS` that the model has something for."""
    with torch.inference_mode():
        return tuple(found for check in CHECKS if (found := check(pair)) is not None)


# pieces


def _pieces(pair: Pair) -> Check:
    texts = pair.texts.values()
    lines = sum(len(one.lines) for one in texts)
    scope, same = sum(one.in_scope for one in texts), sum(one.same for one in texts)
    words, words_same = (
        sum(one.words_in_scope for one in texts),
        sum(one.words_same for one in texts),
    )
    return Check(
        "same pieces",
        holds=scope + words > 0 and same == scope and words_same == words,
        found=f"{same:,} of {scope:,} lines and {words_same:,} of {words:,} words; "
        f"{scope:,} of {lines:,} held-out lines have only kept pieces",
        expected="all lines and words whose old pieces are all kept, and at least one",
    )


def _compact(pair: Pair) -> Check:
    new, size = pair.new, len(pair.piece_map)
    ids = sorted(new.raw.get_vocab(with_added_tokens=True).values())
    rows = _rows(new.model).shape[0]
    sizes = {"tokenizer": len(ids), "config": int(new.model.config.vocab_size), "rows": rows}
    holds = ids == list(range(size)) and set(sizes.values()) == {size}
    told = ", ".join(f"{key} {value:,}" for key, value in sizes.items())
    found = f"{told}, ids {ids[0]} to {ids[-1]}"
    return Check("compact ids", holds, found, f"0 to {size - 1:,}, none missing")


def _special(pair: Pair) -> Check:
    old, new = pair.old, pair.new
    wrong = []
    entries = special_entries(old.model.config), special_entries(new.model.config)
    for key in sorted({*entries[0], *entries[1]}):
        before, after = (side.get(key) for side in entries)
        if before is None or after != (expected := _moved(pair, before)):
            wrong.append(f"config {key} {after}" + (f" for {expected}" if before else ""))
    for role in ROLES:
        key = f"{role}_token_id"
        before, after = getattr(old.auto, key, None), getattr(new.auto, key, None)
        if after != (None if before is None else _moved(pair, before)):
            wrong.append(f"tokenizer {key} {after}")
        agreed = before is not None and entries[0].get(key) == before
        if agreed and entries[1].get(key) != after:
            wrong.append(f"config and tokenizer on {key}")
    if old.auto.special_tokens_map != new.auto.special_tokens_map:
        wrong.append("special_tokens_map")
    if _settings(old.raw) != _settings(new.raw):
        wrong.append("truncation or padding")
    told = {role: getattr(new.auto, f"{role}_token_id", None) for role in ROLES}
    found = ", ".join(f"{role} {value}" for role, value in told.items() if value is not None)
    expected = "every special id of config and tokenizer, through the piece map"
    return Check(
        "special ids", not wrong, "wrong: " + "; ".join(wrong) if wrong else found, expected
    )


def _moved(pair: Pair, old: Any) -> Any:
    if isinstance(old, list):
        return [_moved(pair, one) for one in old]
    return int(pair.piece_map.old_to_new[old]) if 0 <= old < pair.piece_map.old_size else old


def _settings(tokenizer: Tokenizer) -> tuple[Any, Any]:
    padding = {key: value for key, value in (tokenizer.padding or {}).items() if key != "pad_id"}
    if tokenizer.padding:
        padding["is right"] = (
            tokenizer.token_to_id(tokenizer.padding["pad_token"]) == tokenizer.padding["pad_id"]
        )
    return tokenizer.truncation, padding


def _variants(pair: Pair) -> dict[str, list[str]]:
    lines = [line for one in pair.texts.values() for line in one.lines[:VARIANT_LINES]]
    return {
        "as written": lines,
        "upper case": [line.upper() for line in lines],
        "NFD": [unicodedata.normalize("NFD", line) for line in lines],
    }


def _normal_form(tokenizer: Tokenizer, text: str) -> str:
    return tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text


def _casing(pair: Pair) -> Check:
    wrong, told = [], []
    loaded = {"from_file": pair.new.raw, "AutoTokenizer": pair.new.auto.backend_tokenizer}
    for variant, lines in _variants(pair).items():
        expected = [_normal_form(pair.old.raw, line) for line in lines]
        for name, tokenizer in loaded.items():
            differ = sum(
                _normal_form(tokenizer, line) != one
                for line, one in zip(lines, expected, strict=True)
            )
            if differ:
                wrong.append(f"{differ:,} lines {variant} by {name}")
        pieces = compare(pair.old, pair.new, pair.piece_map, lines)
        if pieces.same != pieces.in_scope:
            wrong.append(f"pieces of {pieces.in_scope - pieces.same:,} lines {variant}")
        told.append(f"{len(lines):,} lines {variant}")
    return Check(
        "casing and normalisation",
        not wrong,
        "differ: " + "; ".join(wrong) if wrong else ", ".join(told),
        "the same normalised text, and the same pieces in scope",
    )


def _auto(pair: Pair) -> Check:
    differ = total = 0
    with quiet():
        for lines in _variants(pair).values():
            for start in range(0, len(lines), 256):
                batch = lines[start : start + 256]
                found = pair.new.auto(batch)["input_ids"]
                pairs = zip(found, pair.new.encode(batch), strict=True)
                differ += sum(list(ids) != one.tolist() for ids, one in pairs)
                total += len(batch)
    same = differ == 0 and len(pair.new.auto) == len(pair.piece_map)
    found = f"{total - differ:,} of {total:,} lines, {len(pair.new.auto):,} pieces"
    return Check("AutoTokenizer", same, found, "the ids of Tokenizer.from_file")


# tensors


def _rows(model: PreTrainedModel) -> Tensor:
    name = base_prefix(model) + architecture_of(model.config).pieces
    return model.state_dict()[name]


def _kept(pair: Pair) -> Tensor:
    return torch.from_numpy(pair.piece_map.kept.astype(np.int64))


def _differing_rows(old: Tensor, new: Tensor, kept: Tensor) -> int:
    if new.shape != (len(kept), *old.shape[1:]) or int(kept[-1]) >= len(old):
        return max(len(kept), 1)
    differ = old[kept] != new
    return int(differ.flatten(1).any(1).sum() if differ.ndim > 1 else differ.sum())


def _embedding(pair: Pair) -> Check:
    old, new = _rows(pair.old.model), _rows(pair.new.model)
    differ = _differing_rows(old, new, _kept(pair))
    found = f"{len(new) - differ:,} of {len(new):,} rows of {tuple(old.shape)}"
    return Check("embedding rows", differ == 0, found, "every kept row bit-equal")


def _output_rows(pair: Pair) -> Check | None:
    names = architecture_of(pair.old.model.config).vocabulary_outputs
    old, new = pair.old.model.state_dict(), pair.new.model.state_dict()
    names = tuple(name for name in names if name in old)
    if not names:
        return None
    wrong = [
        name
        for name in names
        if name not in new or _differing_rows(old[name], new[name], _kept(pair))
    ]
    found = "differ: " + ", ".join(wrong) if wrong else ", ".join(names)
    return Check("output rows and bias", not wrong, found, "every kept row bit-equal")


def _other_tensors(pair: Pair) -> Check:
    old, new = pair.old.model.state_dict(), pair.new.model.state_dict()
    architecture, prefix = architecture_of(pair.old.model.config), base_prefix(pair.old.model)
    with_pieces = {prefix + architecture.pieces, *architecture.vocabulary_outputs}
    configs = pair.old.model.config, pair.new.model.config
    wrong = sorted(old.keys() ^ new.keys())
    names = sorted((old.keys() & new.keys()) - with_pieces)
    for name in names:
        expected = old[name]
        if architecture.positions and name == prefix + architecture.positions:
            # RoBERTa counts positions from the padding id, which has moved.
            expected = expected[configs[0].pad_token_id - configs[1].pad_token_id :]
        if not torch.equal(expected, new[name]):
            wrong.append(name)
    found = f"{len(names)} tensors" if not wrong else "differ: " + ", ".join(wrong[:4])
    return Check("other tensors", not wrong, found, "all bit-equal, none missing")


def _pad_row(pair: Pair) -> Check:
    sides = pair.old, pair.new
    ids = [
        side.model.config.pad_token_id if side.auto.pad_token_id is None else side.auto.pad_token_id
        for side in sides
    ]
    table: list[Any] = [side.model.get_input_embeddings() for side in sides]
    indices = [one.padding_idx for one in table]
    if ids[0] is None:
        return Check("pad row", ids[1] is None, f"{ids[1]}", "no padding piece, as before")
    holds = ids[1] == _moved(pair, ids[0]) and torch.equal(
        table[0].weight[ids[0]], table[1].weight[ids[1]]
    )
    right_index = None if indices[0] is None else _moved(pair, indices[0])
    return Check(
        "pad row",
        holds and indices[1] == right_index,
        f"row {ids[1]} from {ids[0]}, padding_idx {indices[1]}",
        f"row {_moved(pair, ids[0])} bit-equal, padding_idx {right_index}",
    )


# what the model computes


def _batches(
    pair: Pair, texts: Sequence[np.ndarray], pieces: int
) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Give the same batches [B, T] in old ids and in new ids, padded to the same shape."""
    config = pair.old.model.config
    positions = getattr(config, "max_position_embeddings", None) or pieces
    if architecture_of(config).positions:
        positions -= config.pad_token_id + 1
    pad = config.pad_token_id
    if pad is None or pair.piece_map.old_to_new[pad] < 0:
        pad = int(pair.piece_map.kept[0])
    for start in range(0, len(texts), BATCH_TEXTS):
        cut = [ids[: min(pieces, positions)] for ids in texts[start : start + BATCH_TEXTS]]
        old_ids = np.full((len(cut), max(map(len, cut))), pad, np.int64)
        mask = np.zeros_like(old_ids)
        for row, ids in enumerate(cut):
            old_ids[row, : len(ids)], mask[row, : len(ids)] = ids, 1
        new_ids = pair.piece_map.apply(old_ids).astype(np.int64)
        yield tuple(  # type: ignore[misc]
            {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
            for ids in (old_ids, new_ids)
        )


def _kept_texts(pair: Pair, most: int) -> list[np.ndarray]:
    return [ids for one in pair.texts.values() for ids in one.kept[:most] if len(ids)]


def _states(pair: Pair) -> Check:
    """Compare the encoder's last states [B, T, D], computed in float32."""
    texts = _kept_texts(pair, STATE_TEXTS)
    worst = 0.0
    encoders = [base_encoder(side.model).float() for side in (pair.old, pair.new)]
    try:
        for old, new in _batches(pair, texts, STATE_PIECES):
            before = encoders[0](**old).last_hidden_state
            after = encoders[1](**new).last_hidden_state
            worst = max(worst, float((before - after).abs().max()))
    except (IndexError, RuntimeError) as error:
        return Check("last states", False, str(error).splitlines()[0], "the model runs")
    found = f"largest difference {worst:g} over {len(texts)} texts"
    return Check("last states", bool(texts) and worst == 0, found, "0, exactly")


def _outputs(pair: Pair) -> Check | None:
    """Compare all that the head gives; of logits over pieces the kept columns."""
    if base_encoder(pair.old.model) is pair.old.model and not hasattr(pair.old.model, "pooler"):
        return None
    texts, kept = _kept_texts(pair, OUTPUT_TEXTS), _kept(pair)
    worst, names = 0.0, dict[str, None]()
    models = [side.model.float() for side in (pair.old, pair.new)]
    try:
        for old, new in _batches(pair, texts, OUTPUT_PIECES):
            outputs = models[0](**old), models[1](**new)
            for name, before in outputs[0].items():
                if not isinstance(before, Tensor):
                    continue
                if before.shape[-1] == models[0].config.vocab_size:
                    before = before[..., kept]
                scale = float(before.abs().max()) or 1.0
                worst = max(worst, float((before - outputs[1][name]).abs().max()) / scale)
                names[name] = None
    except (IndexError, RuntimeError) as error:
        return Check("outputs", False, str(error).splitlines()[0], "the model runs")
    found = f"{', '.join(names)}: largest relative difference {worst:.1g} over {len(texts)} texts"
    holds = bool(texts) and worst <= OUTPUT_TOLERANCE
    return Check("outputs", holds, found, f"at most {OUTPUT_TOLERANCE:g}, on kept columns")


CHECKS: tuple[Callable[[Pair], Check | None], ...] = (
    _pieces, _casing, _auto, _compact, _special, _embedding, _pad_row, _output_rows,
    _other_tensors, _states, _outputs,
)  # fmt: skip
