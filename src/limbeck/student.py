"""Make a student out of a teacher: fewer pieces, fewer layers, and the origin of every tensor."""

import copy
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from limbeck.architectures import (
    Architecture,
    FirstLayer,
    architecture_of,
    special_entries,
    special_ids,
)
from limbeck.delta import SparseDelta
from limbeck.delta_arithmetic import remap
from limbeck.encoder import build_options
from limbeck.errors import ModelError
from limbeck.parameters import base_prefix
from limbeck.piece_map import PieceMap
from limbeck.plan import check_plan

_PIECES_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class Student:
    """A student and where it comes from.

    Attributes:
        model: The student, of the teacher's class.
        origin: Where each tensor of `model.state_dict()` comes from, in words: the teacher's
            tensor by name, what it was folded with, or the seed it was drawn under.
    """

    model: PreTrainedModel
    origin: dict[str, str]


def trim_model(model: PreTrainedModel, kept: np.ndarray) -> PreTrainedModel:
    """Give a new model with the kept pieces only; the given one is not touched.

    Every tensor with a vocabulary axis keeps the rows `kept`, the `*_token_id` entries of the
    config follow, and all other tensors are bit-equal. Where positions start after the padding
    id (RoBERTa), the position table moves with it. States of the trimmed model on new ids equal
    those of the model on old ids; logits are the kept columns.

    Args:
        model: A model of a known architecture.
        kept: [V'] old ids, ascending; the new id of `kept[i]` is i.

    Raises:
        ModelError: If `kept` is not ascending ids of the vocabulary, or lacks a piece that the
            config names.
    """
    architecture, prefix = architecture_of(model.config), base_prefix(model)
    kept = _check_kept(kept, model.config)
    config = copy.deepcopy(model.config)
    config.vocab_size = len(kept)
    new_id = {int(old): new for new, old in enumerate(kept)}
    for key, value in special_entries(config).items():
        old_ids = value if isinstance(value, list) else [value]
        new_ids = [new_id.get(old, old) for old in old_ids]
        setattr(config, key, new_ids if isinstance(value, list) else new_ids[0])
    rows = _rows(model, kept)
    if architecture.positions:
        config.max_position_embeddings = len(rows[prefix + architecture.positions])
    trimmed = empty_like(model, config)
    old = model.state_dict()
    with torch.no_grad():
        for name, tensor in trimmed.state_dict().items():
            source = old[name]
            tensor.copy_(source[rows[name].to(source.device)] if name in rows else source)
    return trimmed


def trim_delta(delta: SparseDelta, model: PreTrainedModel, kept: np.ndarray) -> SparseDelta:
    """Give a delta of a model as one of `trim_model(model, kept)`, exactly; its base is not known.

    Args:
        delta: Of the full vocabulary.
        model: The model that it goes on, or one of the same shape; it is not touched.
        kept: [V'] old ids, ascending.

    Raises:
        ModelError: The delta or the ids do not fit the model.
    """
    for name, one in _rows(model, _check_kept(kept, model.config)).items():
        if name in delta.parts or name in delta.dense:
            old_size = model.get_parameter(name).shape[0]
            delta = remap(delta, PieceMap(one.numpy(), old_size), [name])
    return replace(delta, base="")


def _rows(model: PreTrainedModel, kept: np.ndarray) -> dict[str, Tensor]:
    """Give the rows that stay of every tensor that trimming shortens, by name, int64 [rows]."""
    architecture, prefix = architecture_of(model.config), base_prefix(model)
    rows = {prefix + architecture.pieces: torch.from_numpy(kept)}
    rows |= dict.fromkeys(architecture.vocabulary_outputs, torch.from_numpy(kept))
    if architecture.positions:
        # Positions start after the padding piece, which has moved.
        moved = model.config.pad_token_id - int(np.searchsorted(kept, model.config.pad_token_id))
        stay = torch.arange(moved, model.config.max_position_embeddings)
        rows[prefix + architecture.positions] = stay
    return rows


def build_student(
    teacher: PreTrainedModel,
    plan: tuple[int, ...],
    *,
    init: Literal["teacher", "random"] = "teacher",
    seed: int = 0,
) -> Student:
    """Make a student of the teacher's class with the teacher's layers `plan`, dropout 0.

    Embeddings, norms, shared tensors and head are copied. Where the student's first layer has no
    norm but the teacher's layer has one (ModernBERT), the norm is folded into the linear map
    that reads it; see `_fold`.

    Args:
        teacher: A model of a known architecture; it is not touched.
        plan: The teacher layer that each student layer copies, counted from 1, ascending.
        init: "teacher" copies; "random" draws every tensor by the class's own initialisation.
        seed: Seed of "random". The global generator is left as it was.

    Raises:
        RecipeError: If the plan does not fit the teacher.
    """
    architecture = architecture_of(teacher.config)
    check_plan(plan, getattr(teacher.config, architecture.depth))
    config = student_config(teacher.config, plan)
    if init == "random":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = _placed(type(teacher)(config, **build_options(teacher)), teacher)
        return Student(model, dict.fromkeys(model.state_dict(), f"random (seed {seed})"))
    student = empty_like(teacher, config)
    stack = f"{base_prefix(teacher)}{architecture.layers}."
    old, new = teacher.state_dict(), student.state_dict()
    sources = {name: _source(name, stack, plan) for name in new}
    origin = {name: f"teacher {source}" for name, source in sources.items()}
    with torch.no_grad():
        for name, tensor in new.items():
            tensor.copy_(old[sources[name]])
        first = architecture.first_layer
        if first is not None and plan[0] > 1:
            for name, folded in _fold(teacher, architecture, first, plan[0] - 1).items():
                at = f"{stack}0.{name}"
                new[at].copy_(folded)
                origin[at] += f" folded with {stack}{plan[0] - 1}.{first.norm}"
    return Student(student, origin)


def copy_head(teacher: PreTrainedModel, student: PreTrainedModel) -> list[str]:
    """Give the student's task head the teacher's weights, in place.

    Args:
        teacher: A task model of the student's class and width.
        student: The task model whose head is overwritten; its encoder is not touched.

    Returns:
        Names of the tensors copied.

    Raises:
        ModelError: A tensor of the head has another shape in the teacher.
    """
    prefix, theirs = base_prefix(student), teacher.state_dict()
    copied = []
    with torch.no_grad():
        for name, tensor in student.state_dict().items():
            if name.startswith(prefix) and not name.startswith(f"{prefix}pooler."):
                continue
            if name not in theirs or theirs[name].shape != tensor.shape:
                raise ModelError(
                    "the teacher's head does not fit the student",
                    where=name,
                    found=str(list(theirs[name].shape)) if name in theirs else "no such tensor",
                    expected=str(list(tensor.shape)),
                    do="set task.head = 'random'",
                )
            tensor.copy_(theirs[name])
            copied.append(name)
    return copied


def _check_kept(kept: np.ndarray, config: PreTrainedConfig) -> np.ndarray:
    kept = np.asarray(kept)
    if kept.size and int(kept.max()) >= config.vocab_size:
        raise ModelError(
            "a kept piece has no row in the model: its tokenizer has more pieces than the model",
            where="config.json: vocab_size",
            found=f"id {int(kept.max())}",
            expected=f"ids below {config.vocab_size}",
            do="save the model once with resize_token_embeddings(len(tokenizer))",
        )
    is_ids = kept.ndim == 1 and kept.size > 0 and np.issubdtype(kept.dtype, np.integer)
    if not is_ids or kept[0] < 0 or np.any(np.diff(kept) <= 0):
        raise ModelError(
            "the kept pieces are not ids of this vocabulary",
            where="kept",
            found=f"{kept.dtype} {kept.shape}",
            expected=f"ascending integers from 0 to {config.vocab_size - 1}",
        )
    kept = kept.astype(np.int64)
    lost = sorted(set(special_ids(config)) - set(kept.tolist()))
    if lost:
        keys = [key for key, value in special_entries(config).items() if value in (lost[0], lost)]
        raise ModelError(
            "a piece that the model's config names is not kept",
            where="config.json",
            found=f"id {lost[0]} ({', '.join(keys) or 'in a list of ids'})",
            expected="every special piece among the kept ones",
        )
    return kept


def student_config(config: PreTrainedConfig, plan: tuple[int, ...]) -> PreTrainedConfig:
    """Give the config of a student: the teacher's with the layers of a plan, and no dropout.

    Args:
        config: The teacher's; it is not touched.
        plan: The teacher layer that each student layer is like, counted from 1.
    """
    architecture = architecture_of(config)
    config = copy.deepcopy(config)
    setattr(config, architecture.depth, len(plan))
    for key in architecture.layer_lists:
        entries = getattr(config, key)
        setattr(config, key, [entries[layer - 1] for layer in plan])
    for key in architecture.dropouts:
        if getattr(config, key, None) is not None:
            setattr(config, key, 0.0)
    return config


def empty_like(model: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedModel:
    """Give an empty model of a class for a config, built as the given one is, on its device.

    No weights are drawn: initialising 250,000 rows takes half a minute.
    """
    with no_init_weights():
        empty = type(model)(config, **build_options(model))
    empty.tie_weights()
    return _placed(empty, model)


def _placed(model: PreTrainedModel, like: PreTrainedModel) -> PreTrainedModel:
    placed: Any = model  # `to` is wrapped in a way that hides its type
    placed.to(device=like.device, dtype=like.dtype)
    return model.train(like.training)


def _source(name: str, stack: str, plan: tuple[int, ...]) -> str:
    """Name the teacher's tensor that a student's tensor copies."""
    if not name.startswith(stack):
        return name
    layer, rest = name.removeprefix(stack).split(".", 1)
    return f"{stack}{plan[int(layer)] - 1}.{rest}"


def _fold(
    teacher: PreTrainedModel, architecture: Architecture, first: FirstLayer, layer: int
) -> dict[str, Tensor]:
    """Fold a layer's norm into the linear map that reads it, for use on the embedding output.

    The layer computes W (g ∘ (x - mean(x)) / std(x)) + W b. Centring is linear and is folded
    exactly, as is the weight g; std(x) is not, so its inverse is replaced by the mean of 1 / std
    over the embedding output of every piece. The embedding output is itself normalised, so std
    hardly varies. A norm's bias needs a bias in the linear map, and is left out where there is
    none.

    Returns:
        The folded `weight` (and `bias`), named inside a layer, float64.
    """
    base = teacher.base_model
    module = base.get_submodule(f"{architecture.layers}.{layer}")
    norm: Any = module.get_submodule(first.norm)
    reader: Any = module.get_submodule(first.reader)
    scaled = reader.weight.double() * norm.weight.double()
    centred = scaled - scaled.mean(dim=1, keepdim=True)
    inverse = _mean_inverse_std(base.get_submodule(architecture.embeddings), teacher.config, norm)
    folded = {f"{first.reader}.weight": centred * inverse}
    if reader.bias is not None and norm.bias is not None:
        shift = reader.weight.double() @ norm.bias.double()
        folded[f"{first.reader}.bias"] = reader.bias.double() + shift
    return folded


def _mean_inverse_std(embeddings: nn.Module, config: PreTrainedConfig, norm: Any) -> float:
    """Mean over all pieces of 1 / sqrt(var(x) + eps), x the embedding output of the piece."""
    was_training = embeddings.training
    embeddings.eval()
    device = next(embeddings.parameters()).device
    total = torch.zeros((), dtype=torch.float64, device=device)
    with torch.no_grad():
        for pieces in torch.arange(config.vocab_size, device=device).split(_PIECES_AT_ONCE):
            variance = embeddings(pieces[None]).double().var(dim=-1, correction=0)
            total += (variance + norm.eps).rsqrt().sum()
    embeddings.train(was_training)
    return float(total) / config.vocab_size
