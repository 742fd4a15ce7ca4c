"""Sparse deltas: what tuning changed in a model, how deltas add, and their files.

A delta holds differences, so that deltas add and scale: base + language + task. Its `base` is the
hash of the model that the whole *sum* goes on, also for a task's delta that was tuned on top of a
language's.

Subtracting does not undo an addition of floats: (x + d) - d is not always x. So nothing here
subtracts. `apply` gives an `Undo`, which holds the bits that were overwritten: `Undo.revert` is
exact on every dtype, and `Undo.save` keeps it for a model on disk. Where the base itself is at
hand, `revert_with` copies from it and needs no `Undo`; so is one of several deltas taken out.

base + (tuned - base) is `tuned` to the bit where the difference is a float (always if the two are
within a factor of two of each other), else within a float32's last place of the larger.
The model to score and to keep is therefore the one that `apply` gives.
"""

import hashlib
import json
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from limbeck.artifact import let_read
from limbeck.errors import ArtifactError, ModelError
from limbeck.piece_map import PieceMap

FORMAT = 1
"""Version of the files; those of a newer one are refused."""

_HEADER = "limbeck"
_BYTES_AT_ONCE = 1 << 26
_UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, ValueError, OverflowError)
_VALUES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some entries of one tensor.

    Args:
        shape: The whole tensor's shape.
        indices: Flat indices, strictly rising, int64 [N].
        values: One number an index, floating [N].

    Raises:
        ModelError: Indices do not rise or are outside of the tensor, or values are not as many.
    """

    shape: tuple[int, ...]
    indices: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        """Check that indices rise inside the tensor and that each has a value."""
        indices, values = self.indices, self.values
        if indices.dtype != torch.int64 or indices.ndim != 1 or values.shape != indices.shape:
            raise ModelError(
                "the entries of a tensor are no indices and values",
                found=f"{indices.dtype} {list(indices.shape)} and {list(values.shape)}",
                expected="int64 [N] and [N]",
            )
        size = math.prod(self.shape)
        if len(indices) and not (
            int(indices[0]) >= 0
            and int(indices[-1]) < size
            and bool((indices[1:] > indices[:-1]).all())
        ):
            raise ModelError(
                "the entries of a tensor do not rise inside it",
                found=f"{int(indices.min())} to {int(indices.max())}",
                expected=f"0 to {size - 1}, each once, in order",
            )

    def __len__(self) -> int:
        return len(self.indices)


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
        delta = self if values is None else _mapped(self, lambda value: value.to(values))
        facts = {"base": delta.base, "provenance": dict(delta.provenance)}
        _write(path, "delta", facts, delta.parts, delta.dense)

    @classmethod
    def load(cls, path: Path) -> "SparseDelta":
        """Read the file that `save` wrote.

        Raises:
            ArtifactError: It is missing, damaged, no delta, or a newer limbeck's.
        """
        facts, parts, dense = _read(path, "delta")
        try:
            return cls(parts, str(facts["base"]), dense, dict(facts["provenance"]))
        except (*_UNREADABLE, ModelError) as error:
            raise _no_file(path, "delta", str(error)) from None


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
        _write(path, "undo", {"written": self.written}, self.parts, self.dense)

    @classmethod
    def load(cls, path: Path) -> "Undo":
        """Read the file that `save` wrote.

        Raises:
            ArtifactError: It is missing, damaged, no undo file, or a newer limbeck's.
        """
        facts, parts, dense = _read(path, "undo")
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


def base_hash(tensors: Mapping[str, Tensor]) -> str:
    """Give the SHA-256 (hex) of tensors: names, dtypes, shapes and bytes, by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        for chunk in tensor.contiguous().view(-1).view(torch.uint8).split(_BYTES_AT_ONCE):
            digest.update(chunk.cpu().numpy().data)
    return digest.hexdigest()


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
            found=_short(found) if delta.base else "a delta that names no base",
            expected=_short(delta.base) if delta.base else "",
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


@torch.no_grad()
def revert_with(
    tensors: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    delta: SparseDelta,
    *,
    keep: Sequence[SparseDelta] = (),
) -> None:
    """Take a delta out of a model by copying from its base, in place; the `keep` deltas stay on.

    The result is the base with the sum of `keep` applied, to the bit, whatever was applied in
    which order. Tensors that came along densely are left to the caller.

    Args:
        tensors: The model's tensors by name, with `delta` and `keep` applied.
        base: The base's tensors by name.
        delta: What to take out.
        keep: All other deltas that are applied.

    Raises:
        ModelError: A tensor is missing or has another shape or dtype.
        ArtifactError: `base` is not the base of all these deltas.
    """
    total = [reduce(add, keep)] if keep else []
    for one in (delta, *total):
        check_fit(tensors, one.parts, {})
        check_fit(base, one.parts, {})
        for name in one.parts:
            if tensors[name].dtype != base[name].dtype:
                found, expected = str(base[name].dtype), str(tensors[name].dtype)
                raise ModelError(
                    "the base has another dtype", where=name, found=found, expected=expected
                )
        check_base(base, one)
    for one in (delta, *total):
        for name, part in one.parts.items():
            values = take(base[name], part.indices.to(base[name].device))
            device = tensors[name].device
            put(tensors[name], part.indices.to(device), values.to(device))
    for one in total:
        apply(tensors, one, foreign=True, dense=False)


def add(a: SparseDelta, b: SparseDelta, *, foreign: bool = False) -> SparseDelta:
    """Give the sum of two deltas of one base; the order of the two does not matter.

    Where both have an entry, the differences are added in float32 before anything is applied, so
    that applying the sum is one rounding, and applying one after the other is two. Sums of three
    depend on the order by rounding alone.

    Args:
        a: A delta.
        b: Another.
        foreign: Allow deltas of different bases: the sum's base is then not known.

    Raises:
        ArtifactError: Their bases differ, or one is not known.
        ModelError: A tensor has two shapes, or both bring the same tensor densely, not equal.
    """
    if not foreign and (a.base != b.base or not a.base):
        raise ArtifactError(
            "the deltas do not belong to one base",
            found=f"{_short(a.base)} and {_short(b.base)}",
            do="add deltas of one model, or allow a foreign base",
        )
    parts = dict(a.parts)
    for name, part in b.parts.items():
        if name in parts and parts[name].shape != part.shape:
            found = f"{list(parts[name].shape)} and {list(part.shape)}"
            raise ModelError("the deltas' tensors do not fit", where=name, found=found)
        parts[name] = _sum(parts[name], part) if name in parts else part
    for name in a.dense.keys() & b.dense.keys():
        if not torch.equal(a.dense[name], b.dense[name]):
            raise ModelError("both deltas bring this tensor densely", where=name)
    provenance = {"sum": [dict(a.provenance), dict(b.provenance)]}
    base = a.base if a.base == b.base else ""
    return SparseDelta(parts, base, {**a.dense, **b.dense}, provenance)


def _sum(a: Part, b: Part) -> Part:
    # Two rising runs, which numpy's stable sort merges in one pass.
    both = np.sort(np.concatenate([a.indices.numpy(), b.indices.numpy()]), kind="stable")
    indices = torch.from_numpy(both).unique_consecutive()
    values = torch.zeros(len(indices))
    for part in (a, b):
        values[torch.searchsorted(indices, part.indices)] += part.values.float()
    return Part(a.shape, indices, values)


def scale(delta: SparseDelta, factor: float) -> SparseDelta:
    """Give a delta with every difference times a factor; dense tensors stay as they are.

    Raises:
        ModelError: A difference is then no finite number.
    """
    scaled = _mapped(delta, lambda value: (value.float() * factor).to(value.dtype))
    provenance = {"scaled": factor, "of": dict(delta.provenance)}
    return SparseDelta(scaled.parts, delta.base, delta.dense, provenance)


def remap(
    delta: SparseDelta, piece_map: PieceMap, names: Iterable[str], *, base: str = ""
) -> SparseDelta:
    """Give the delta for a trimmed model: rows of dropped pieces are gone, the others move.

    Applied to the trimmed model it gives, to the bit, what trimming the model gives that the
    delta was applied to. Where trimming also moves a position table, remap once more with a map
    of its rows.

    Args:
        delta: A delta for the full vocabulary.
        piece_map: Which rows stay.
        names: The tensors with a row a piece; a name that the delta does not have is passed over.
        base: Hash of the trimmed model; "" if not known.

    Raises:
        ModelError: One of the tensors has not as many rows as the map has old pieces.
    """
    parts, dense = dict(delta.parts), dict(delta.dense)
    for name in names:
        if name in parts:
            _check_rows(name, parts[name].shape, piece_map)
            parts[name] = _remap_part(parts[name], piece_map)
        if name in dense:
            _check_rows(name, dense[name].shape, piece_map)
            dense[name] = dense[name][torch.from_numpy(piece_map.kept.astype(np.int64))]
    return SparseDelta(parts, base, dense, delta.provenance)


def _check_rows(name: str, shape: Sequence[int], piece_map: PieceMap) -> None:
    if not shape or shape[0] != piece_map.old_size:
        found, expected = str(list(shape)), f"{piece_map.old_size} rows"
        raise ModelError("the piece map does not fit", where=name, found=found, expected=expected)


def _remap_part(part: Part, piece_map: PieceMap) -> Part:
    width = math.prod(part.shape[1:])
    rows = torch.from_numpy(piece_map.old_to_new.astype(np.int64))[part.indices // width]
    stays = rows >= 0
    indices = rows[stays] * width + part.indices[stays] % width
    return Part((len(piece_map), *part.shape[1:]), indices, part.values[stays])


def density(delta: SparseDelta, totals: Mapping[str, int]) -> dict[str, float]:
    """Give the share of each tensor's entries that a delta changes.

    Args:
        delta: A delta.
        totals: Number of entries by tensor name.

    Raises:
        ModelError: The delta has entries in a tensor that `totals` does not name.
    """
    for name, part in delta.parts.items():
        if len(part) and name not in totals:
            raise ModelError("the totals do not name this tensor of the delta", where=name)
    counts = {name: len(part) for name, part in delta.parts.items()}
    return {name: counts.get(name, 0) / total if total else 0.0 for name, total in totals.items()}


def nbytes(delta: SparseDelta) -> int:
    """Give the size of a delta's tensors in its file, in bytes; the header is not counted."""
    stored = _stored(delta.parts, delta.dense)
    return sum(tensor.numel() * tensor.element_size() for tensor in stored.values())


def _mapped(delta: SparseDelta, change: Callable[[Tensor], Tensor]) -> SparseDelta:
    parts = {
        name: Part(part.shape, part.indices, change(part.values))
        for name, part in delta.parts.items()
    }
    return SparseDelta(parts, delta.base, delta.dense, delta.provenance)


def _short(found: str) -> str:
    return found[:12] or "no base"


def _places_hash(
    tensors: Mapping[str, Tensor], parts: Mapping[str, Part], dense: Mapping[str, Tensor]
) -> str:
    places = {
        name: take(tensors[name], p.indices.to(tensors[name].device)) for name, p in parts.items()
    }
    return base_hash(places | {f"dense.{name}": tensors[name] for name in dense})


def _steps(indices: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Give an index's distance from the one before, in the width that takes fewest bytes.

    A step is at least 1 (the first is counted from -1). One that does not fit is stored as 0 and
    stands, int64, in the second array: one far jump does not widen all others.
    """
    steps = np.diff(indices.numpy(), prepend=-1)
    widths = (np.uint8, np.uint16, np.uint32)
    sizes = [
        steps.size * np.dtype(width).itemsize + 8 * int((steps > np.iinfo(width).max).sum())
        for width in widths
    ]
    width = widths[int(np.argmin(sizes))]
    far = steps > np.iinfo(width).max
    return np.where(far, 0, steps).astype(width), steps[far]


def _indices(steps: np.ndarray, far: np.ndarray) -> Tensor:
    wide = steps.astype(np.int64)
    wide[steps == 0] = far
    return torch.from_numpy(wide.cumsum() - 1)


def _stored(parts: Mapping[str, Part], dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
    stored = {}
    for name, part in parts.items():
        if len(part):
            steps, far = _steps(part.indices)
            stored[f"steps.{name}"] = torch.from_numpy(steps)
            stored[f"values.{name}"] = part.values.cpu().clone()
            if far.size:
                stored[f"far.{name}"] = torch.from_numpy(far)
    for name, tensor in dense.items():
        stored[f"dense.{name}"] = tensor.detach().cpu().contiguous().clone()
    return stored


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _write(
    path: Path,
    kind: str,
    facts: Mapping[str, Any],
    parts: Mapping[str, Part],
    dense: Mapping[str, Tensor],
) -> None:
    stored = _stored(parts, dense)
    shapes = {name: list(part.shape) for name, part in parts.items()}
    content = {"kind": kind, "format": FORMAT, **facts, "shapes": shapes}
    content["tensors"] = base_hash(stored)
    # One key alone: safetensors writes several in any order.
    header = {_HEADER: json.dumps({"content": content, "digest": _digest(content)})}
    temporary = Path(path).with_name(f".{Path(path).name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        save_file(stored, temporary, header)
        let_read([temporary])
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Part], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            content = dict(header["content"])
            if int(content["format"]) > FORMAT:
                raise ValueError(f"format {content['format']} of a newer limbeck")
            if content["kind"] != kind:
                raise ValueError(f"a file of kind {content['kind']!r}")
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["digest"] != _digest(content) or content["tensors"] != base_hash(stored):
            raise ValueError("another checksum")
        parts = {name: _part(name, shape, stored) for name, shape in content["shapes"].items()}
    except (*_UNREADABLE, ModelError) as error:
        raise _no_file(path, kind, str(error)) from None
    dense = {
        name.removeprefix("dense."): tensor
        for name, tensor in stored.items()
        if name.startswith("dense.")
    }
    return content, parts, dense


def _part(name: str, shape: Sequence[int], stored: Mapping[str, Tensor]) -> Part:
    if f"steps.{name}" not in stored:
        return Part(tuple(shape), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    far = stored.get(f"far.{name}", torch.zeros(0, dtype=torch.int64))
    indices = _indices(stored[f"steps.{name}"].numpy(), far.numpy())
    return Part(tuple(map(int, shape)), indices, stored[f"values.{name}"])


def _no_file(path: Path, kind: str, found: str) -> ArtifactError:
    return ArtifactError(
        f"this is no {kind} file", where=str(path), found=found, do="make or fetch it again"
    )
