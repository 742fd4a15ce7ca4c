"""The files of sparse deltas: some entries of each tensor, whole tensors, and facts for people.

One safetensors file: the same content gives the same bytes, and a checksum stands in its header.
"""

import hashlib
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from limbeck.artifact import let_read
from limbeck.errors import ArtifactError, ModelError

FORMAT = 1
"""Version of the files; those of a newer one are refused."""

_HEADER = "limbeck"
_BYTES_AT_ONCE = 1 << 26
UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, ValueError, OverflowError)
"""What a damaged file raises."""


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


def base_hash(tensors: Mapping[str, Tensor]) -> str:
    """Give the SHA-256 (hex) of tensors: names, dtypes, shapes and bytes, by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        for chunk in tensor.contiguous().view(-1).view(torch.uint8).split(_BYTES_AT_ONCE):
            digest.update(chunk.cpu().numpy().data)
    return digest.hexdigest()


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


def stored_as(parts: Mapping[str, Part], dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of a file: of each part its values and the steps between its indices."""
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


def write_parts(
    path: Path,
    kind: str,
    facts: Mapping[str, Any],
    parts: Mapping[str, Part],
    dense: Mapping[str, Tensor],
) -> None:
    """Write a file, whole or not at all.

    Args:
        path: The file.
        kind: What is in it, "delta" or "undo".
        facts: JSON that stands beside the tensors.
        parts: Some entries by tensor name.
        dense: Whole tensors by name.
    """
    stored = stored_as(parts, dense)
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


def read_parts(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Part], dict[str, Tensor]]:
    """Read a file that `write_parts` wrote: its facts, some entries, and whole tensors.

    Raises:
        ArtifactError: It is missing, damaged, of another kind, or a newer limbeck's.
    """
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
    except (*UNREADABLE, ModelError) as error:
        raise no_file(path, kind, str(error)) from None
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


def no_file(path: Path, kind: str, found: str) -> ArtifactError:
    """Give the error of a file that is none of its kind."""
    return ArtifactError(
        f"this is no {kind} file", where=str(path), found=found, do="make or fetch it again"
    )
