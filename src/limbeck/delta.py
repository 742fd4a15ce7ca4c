"""Sparse deltas: what tuning changed in a model, put on another and taken off again.

A delta holds differences, so that deltas add and scale: base + language + task. Its `base` is the
hash of the model that the whole *sum* goes on, also for a task's delta that was tuned on top of a
language's.

Subtracting does not undo an addition of floats: (x + d) - d is not always x. So nothing here
subtracts. `apply` gives an `Undo`, which holds the bits that were overwritten: `Undo.revert` is
exact on every dtype, and `Undo.save` keeps it for a model on disk. Where the base itself is at
hand, `delta_arithmetic.revert_with` copies from it and needs no `Undo`; so is one of several deltas
taken out.

base + (tuned - base) is `tuned` to the bit where the difference is a float (always if the two are
within a factor of two of each other), else within a float32's last place of the larger.
The model to score and to keep is therefore the one that `apply` gives.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.delta_file import UNREADABLE, Part, base_hash, no_file, read_parts, write_parts
from limbeck.errors import ArtifactError, ModelError

_VALUES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True, eq=False)
class SparseDelta:
    """The difference that tuning made, on the CPU.

    Args:
        parts: Differences by tensor name, float32 or bfloat16; a tensor without entries belongs
            to the base nevertheless.
        base: `base_hash` of the named tensors of the model that this goes on; "" if not known.
        dense: Whole tensors that come along as they are, such as a head; they replace, not add.
        provenance: JSON for people: language, task, recipe, made by.

    Raises:
        ModelError: Differences are of another dtype or not finite.
    """

    parts: Mapping[str, Part]
    base: str = ""
    dense: Mapping[str, Tensor] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that every difference is a finite float32 or bfloat16."""
        for name, part in self.parts.items():
            if part.values.dtype not in _VALUES:
                found, expected = str(part.values.dtype), "float32 or bfloat16"
                raise ModelError("not a delta's dtype", where=name, found=found, expected=expected)
            if not bool(part.values.isfinite().all()):
                raise ModelError("a difference is no finite number", where=name)

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def save(self, path: Path, *, values: torch.dtype | None = None) -> None:
        """Write one safetensors file; the same delta gives the same bytes.

        Indices are stored as steps from one to the next, a byte each where that is smallest.

        Args:
            path: The file.
            values: float32 or bfloat16, to which differences are rounded; None: as they are.

        Raises:
            ModelError: Another dtype is asked for.
        """
        delta = self if values is None else mapped(self, lambda value: value.to(values))
        facts = {"base": delta.base, "provenance": dict(delta.provenance)}
        write_parts(path, "delta", facts, delta.parts, delta.dense)

    @classmethod
    def load(cls, path: Path) -> "SparseDelta":
        """Read the file that `save` wrote.

        Raises:
            ArtifactError: It is missing, damaged, no delta, or a newer limbeck's.
        """
        facts, parts, dense = read_parts(path, "delta")
        try:
            return cls(parts, str(facts["base"]), dense, dict(facts["provenance"]))
        except (*UNREADABLE, ModelError) as error:
            raise no_file(path, "delta", str(error)) from None


@dataclass(frozen=True, slots=True, eq=False)
class Undo:
    """What `apply` overwrote, to the bit.

    Args:
        parts: The old entries by tensor name, in the tensor's own dtype.
        dense: The old tensors that were replaced whole.
        written: Hash of what was written in their place.
    """

    parts: Mapping[str, Part]
    dense: Mapping[str, Tensor]
    written: str

    @torch.no_grad()
    def revert(self, tensors: Mapping[str, Tensor]) -> None:
        """Put the old entries back, in place: the tensors are what they were before `apply`.

        Raises:
            ModelError: A tensor does not fit, or something else has changed these entries since.
        """
        check_fit(tensors, self.parts, self.dense)
        if _places_hash(tensors, self.parts, self.dense) != self.written:
            raise ModelError(
                "the model was changed after this delta was applied",
                do="revert the later delta first, or use revert_with and the base",
            )
        for name, old in self.dense.items():
            tensors[name].copy_(old)
        for name, part in self.parts.items():
            device = tensors[name].device
            put(tensors[name], part.indices.to(device), part.values.to(device))

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        write_parts(path, "undo", {"written": self.written}, self.parts, self.dense)

    @classmethod
    def load(cls, path: Path) -> "Undo":
        """Read the file that `save` wrote.

        Raises:
            ArtifactError: It is missing, damaged, no undo file, or a newer limbeck's.
        """
        facts, parts, dense = read_parts(path, "undo")
        return cls(parts, dense, str(facts.get("written")))


def take(tensor: Tensor, indices: Tensor) -> Tensor:
    """Give entries of a tensor by flat index [N], as a new tensor [N]."""
    return tensor.detach().reshape(-1).index_select(0, indices)


def put(tensor: Tensor, indices: Tensor, values: Tensor) -> None:
    """Write values [N] to a tensor's entries by flat index [N], in place."""
    flat = tensor.detach().reshape(-1)
    flat.index_copy_(0, indices, values)
    if not tensor.is_contiguous():
        tensor.copy_(flat.view(tensor.shape))


def check_fit(
    tensors: Mapping[str, Tensor], parts: Mapping[str, Part], dense: Mapping[str, Tensor]
) -> None:
    """Refuse tensors that lack one of these, or have another shape.

    Raises:
        ModelError: They do.
    """
    shapes = {name: part.shape for name, part in parts.items()}
    for name, shape in (shapes | {name: tuple(head.shape) for name, head in dense.items()}).items():
        if name not in tensors or tuple(tensors[name].shape) != shape:
            raise ModelError(
                "the delta does not fit the model",
                where=name,
                found=str(list(tensors[name].shape)) if name in tensors else "no such tensor",
                expected=str(list(shape)),
            )


def check_base(
    tensors: Mapping[str, Tensor],
    delta: SparseDelta,
    *,
    where: str = "base",
    allow: str = "allow a foreign base",
) -> None:
    """Refuse tensors that are not a delta's base, and a delta whose base is not known.

    Args:
        where: Told of the delta.
        allow: How another base is allowed.

    Raises:
        ArtifactError: They are not.
    """
    found = base_hash({name: tensors[name] for name in delta.parts}) if delta.base else ""
    if not delta.base or found != delta.base:
        raise ArtifactError(
            "the model is not the delta's base",
            where=where,
            found=short_hash(found) if delta.base else "a delta that names no base",
            expected=short_hash(delta.base) if delta.base else "",
            do=f"apply it to the model it was made from, or {allow}",
        )


@torch.no_grad()
def between(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    chosen: Mapping[str, Tensor],
    *,
    base: str | None = None,
    dense: Mapping[str, Tensor] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> SparseDelta:
    """Give the delta from one state of a model to another at the chosen entries.

    Args:
        before: Tensors by name; all of them belong to the base.
        after: The same after tuning.
        chosen: Flat indices by name, ascending, int64 [N].
        base: Hash of what the delta goes on; None: of `before`. A task's delta tuned on top of a
            language's takes the hash of the model without either.
        dense: Whole tensors that come along.
        provenance: JSON for people.

    Raises:
        ModelError: `chosen` or `after` does not fit `before`, or a difference is not finite.
    """
    for name in chosen:
        if name not in before or name not in after or after[name].shape != before[name].shape:
            raise ModelError("a chosen tensor is not alike in both models", where=name)
    parts = {}
    none = torch.zeros(0, dtype=torch.int64)
    for name, old in before.items():
        indices = chosen.get(name, none)
        values = torch.zeros(0)
        if len(indices):
            was, now = (take(x, indices.to(x.device)).cpu() for x in (old, after[name]))
            wide = torch.promote_types(now.dtype, torch.float32)
            values = (now.to(wide) - was.to(wide)).float()
        parts[name] = Part(tuple(old.shape), indices.cpu(), values)
    heads = {name: tensor.detach().cpu().clone() for name, tensor in (dense or {}).items()}
    base = base_hash(before) if base is None else base
    return SparseDelta(parts, base, heads, dict(provenance or {}))


@torch.no_grad()
def apply(
    tensors: Mapping[str, Tensor], delta: SparseDelta, *, foreign: bool = False, dense: bool = True
) -> Undo:
    """Add a delta to a model's tensors, in place; nothing is changed if it does not fit.

    Args:
        tensors: The model's tensors by name, such as a state dict; others than the delta's are
            not looked at.
        delta: One delta, or the sum (`add`) of several.
        foreign: Allow another base than the delta's own, or one that is not known.
        dense: Replace the tensors that come along, too: leave them out where a language's delta
            brings a masked language head and the model has a task's.

    Returns:
        What puts the tensors back as they were.

    Raises:
        ModelError: A tensor is missing or has another shape.
        ArtifactError: The tensors are not the delta's base.
    """
    heads = dict(delta.dense) if dense else {}
    check_fit(tensors, delta.parts, heads)
    if not foreign:
        check_base(tensors, delta)
    old = {}
    for name, part in delta.parts.items():
        tensor = tensors[name]
        indices = part.indices.to(tensor.device)
        was = take(tensor, indices)
        wide = torch.promote_types(tensor.dtype, torch.float32)
        values = part.values.to(tensor.device, wide)
        put(tensor, indices, (was.to(wide) + values).to(tensor.dtype))
        old[name] = Part(part.shape, part.indices, was)
    replaced = {}
    for name, head in heads.items():
        replaced[name] = tensors[name].detach().clone()
        tensors[name].copy_(head)
    return Undo(old, replaced, _places_hash(tensors, old, replaced))


def mapped(delta: SparseDelta, change: Callable[[Tensor], Tensor]) -> SparseDelta:
    """Give a delta with each part's values [N] changed to others [N]; all else stays."""
    parts = {
        name: Part(part.shape, part.indices, change(part.values))
        for name, part in delta.parts.items()
    }
    return SparseDelta(parts, delta.base, delta.dense, delta.provenance)


def short_hash(found: str) -> str:
    """Give the beginning of a base's hash, for people."""
    return found[:12] or "no base"


def _places_hash(
    tensors: Mapping[str, Tensor], parts: Mapping[str, Part], dense: Mapping[str, Tensor]
) -> str:
    places = {
        name: take(tensors[name], p.indices.to(tensors[name].device)) for name, p in parts.items()
    }
    return base_hash(places | {f"dense.{name}": tensors[name] for name in dense})
