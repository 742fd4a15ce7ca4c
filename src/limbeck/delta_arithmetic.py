"""Deltas as numbers: their sum, a share of one, one for a trimmed model, one taken out of several.

`limbeck.delta` says what a delta is, and puts one on a model.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from limbeck.delta import SparseDelta, apply, check_base, check_fit, mapped, put, short_hash, take
from limbeck.delta_file import Part, stored_as
from limbeck.errors import ArtifactError, ModelError
from limbeck.piece_map import PieceMap


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
            found=f"{short_hash(a.base)} and {short_hash(b.base)}",
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
    scaled = mapped(delta, lambda value: (value.float() * factor).to(value.dtype))
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
    stored = stored_as(delta.parts, delta.dense)
    return sum(tensor.numel() * tensor.element_size() for tensor in stored.values())


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
