"""Sparse deltas on model folders: put on, taken off, added up, told.

A folder on which deltas were put holds `undo.safetensors`, the bits that they overwrote, and
`deltas.json`, which deltas they were; taking them off gives the first folder's weights to the bit.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

from limbeck.artifact import check_new_folder, disk_errors, file_hash, write_json
from limbeck.errors import ArtifactError, ModelError

WEIGHTS, UNDO, RECORD = "model.safetensors", "undo.safetensors", "deltas.json"


def show(path: Path) -> dict[str, Any]:
    """Tell what a delta holds: entries, bytes, base, provenance, density of each tensor.

    Raises:
        ArtifactError: The file is no delta.
    """
    from limbeck.delta import SparseDelta, density

    delta = SparseDelta.load(path)
    totals = {name: _size(part.shape) for name, part in delta.parts.items()}
    return {
        "entries": len(delta),
        "bytes": path.stat().st_size,
        "base": delta.base,
        "provenance": dict(delta.provenance),
        "dense": sorted(delta.dense),
        "density": {name: share for name, share in density(delta, totals).items() if share},
    }


def _size(shape: Sequence[int]) -> int:
    return reduce(lambda a, b: a * b, shape, 1)


def put_on(model: Path, deltas: Sequence[Path], output: Path, *, foreign: bool = False) -> None:
    """Write a model folder with the sum of deltas added to the weights.

    Args:
        model: A folder with `model.safetensors`.
        deltas: Files of deltas of one base.
        output: A new folder.
        foreign: Allow another base than the deltas' own.

    Raises:
        LimbeckError: A delta is damaged or of another base, or the folder does not fit.
    """
    from limbeck.delta import SparseDelta, add, apply

    check_new_folder(output)
    if (model / UNDO).exists():
        raise ArtifactError(
            "deltas are on this model already",
            where=str(model),
            do="take them off first, or put all of them on at once",
        )
    total = reduce(lambda a, b: add(a, b, foreign=foreign), map(SparseDelta.load, deltas))
    with _rewritten(model, output) as (tensors, folder):
        apply(tensors, total, foreign=foreign).save(folder / UNDO)
        write_json(folder / RECORD, {"deltas": [file_hash(path) for path in deltas]})


def take_off(model: Path, deltas: Sequence[Path], output: Path) -> None:
    """Write a model folder without the deltas that were put on it: the first weights, to the bit.

    Args:
        model: A folder that `put_on` wrote.
        deltas: The files that were put on, all of them.
        output: A new folder.

    Raises:
        LimbeckError: They are not those that are on, or the weights were changed since.
    """
    from limbeck.delta import Undo

    check_new_folder(output)
    on = _record(model)
    given = [file_hash(path) for path in deltas]
    if sorted(on) != sorted(given):
        raise ArtifactError(
            "these are not the deltas that are on this model",
            where=str(model),
            found=", ".join(one[:12] for one in given),
            expected=", ".join(one[:12] for one in on),
            do="name all of them; they come off together",
        )
    undo = Undo.load(model / UNDO)
    with _rewritten(model, output) as (tensors, folder):
        undo.revert(tensors)
        for name in (UNDO, RECORD):
            (folder / name).unlink()


def add_up(deltas: Sequence[Path], output: Path) -> int:
    """Write the sum of deltas of one base; give its number of entries.

    Raises:
        LimbeckError: A delta is damaged, or they are of different bases.
    """
    from limbeck.delta import SparseDelta, add

    total = reduce(add, map(SparseDelta.load, deltas))
    total.save(output)
    return len(total)


def _record(model: Path) -> list[str]:
    try:
        return list(json.loads((model / RECORD).read_text(encoding="utf-8"))["deltas"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            "no delta was put on this model",
            where=str(model / RECORD),
            found=str(error),
            expected="a folder that `limbeck delta apply` wrote",
        ) from None


@contextmanager
def _rewritten(model: Path, output: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """Give a folder's tensors to change, and its copy, which is the output when all is done."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    source = model / WEIGHTS
    if not source.is_file():
        raise ModelError(
            "the folder does not hold its weights in one file",
            where=str(model),
            expected=WEIGHTS,
            do="save it once with save_pretrained(max_shard_size='100GB')",
        )
    try:
        tensors = load_file(source)
    except SafetensorError as error:
        raise ModelError(
            "the weights cannot be read", where=str(source), found=str(error)
        ) from None
    partial = output.absolute().with_name(f".{output.name}.{os.getpid()}.part")
    with disk_errors(output):
        try:
            shutil.copytree(model, partial)
            yield tensors, partial
            save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
            partial.replace(output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
