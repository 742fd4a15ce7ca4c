"""Sparse deltas on model folders: put on, taken off, added up, told.

A folder on which deltas were put holds `undo.safetensors`, the bits that they overwrote,
`deltas.json`, which deltas they were, and `deltas/`, copies of them; taking them off gives the
first folder's weights to the bit.
"""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.artifact import check_new_folder, disk_errors, file_hash, let_read, write_json
from limbeck.errors import ArtifactError, ModelError

if TYPE_CHECKING:
    from limbeck.delta import SparseDelta

WEIGHTS, UNDO, RECORD, COPIES = "model.safetensors", "undo.safetensors", "deltas.json", "deltas"
HEAD_BEFORE, CONFIG_BEFORE = "head.before.safetensors", "config.before.json"
SFT_FILE = "pytorch_diff.bin"
"""In a folder that composable-sft published: what is read of it."""


def read_delta(path: Path) -> "SparseDelta":
    """Read a delta's file, or a folder that composable-sft published.

    Raises:
        ArtifactError: It is neither, or cannot be read safely.
    """
    from limbeck.delta import SparseDelta
    from limbeck.sparse import read_sft

    return read_sft(path)[0] if path.is_dir() else SparseDelta.load(path)


def show(path: Path) -> dict[str, Any]:
    """Tell what a delta holds: entries, bytes, base, provenance, density of each tensor.

    Raises:
        ArtifactError: The file is no delta.
    """
    from limbeck.delta_arithmetic import density

    delta = read_delta(path)
    totals = {name: math.prod(part.shape) for name, part in delta.parts.items()}
    return {
        "entries": len(delta),
        "bytes": (path / SFT_FILE if path.is_dir() else path).stat().st_size,
        "base": delta.base,
        "provenance": dict(delta.provenance),
        "dense": sorted(delta.dense),
        "density": {name: share for name, share in density(delta, totals).items() if share},
    }


def put_on(model: Path, deltas: Sequence[Path], output: Path, *, foreign: bool = False) -> None:
    """Write a model folder with the sum of deltas added to the weights.

    A task's delta makes a task's model of its base: the head comes along, and the config says what
    is answered.

    Args:
        model: A folder with `model.safetensors`.
        deltas: Deltas of one base: files, or folders that composable-sft published.
        output: A new folder. It keeps copies of the deltas and the bits that they overwrote.
        foreign: Allow another base than the deltas' own.

    Raises:
        LimbeckError: A delta is damaged or of another base, or the folder does not fit.
    """
    check_new_folder(output)
    if (model / UNDO).exists():
        raise ArtifactError(
            "deltas are on this model already",
            where=str(model),
            do="take them off first, or put all of them on at once",
        )
    read = {delta_hash(path): read_delta(path) for path in deltas}
    if len(read) < len(deltas):
        raise ArtifactError("a delta is named twice", where=", ".join(map(str, deltas)))
    with _rewritten(model, output) as (tensors, folder):
        _on(folder, tensors, read, foreign=foreign)


def take_off(model: Path, deltas: Sequence[Path], output: Path) -> None:
    """Write a model folder without some of the deltas that were put on it.

    Without any of them it has the first weights, to the bit; with others left on it is what these
    alone make of the first weights.

    Args:
        model: A folder that `put_on` wrote.
        deltas: Those to take off, of the ones that were put on.
        output: A new folder.

    Raises:
        LimbeckError: They are not all on, or the weights were changed since.
    """
    check_new_folder(output)
    on, given = _record(model), [delta_hash(path) for path in deltas]
    if not set(given) <= set(on):
        raise ArtifactError(
            "these deltas are not all on this model",
            where=str(model),
            found=", ".join(one[:12] for one in given),
            expected="some of " + ", ".join(one[:12] for one in on),
        )
    rest = {one: read_delta(model / COPIES / _copy(one)) for one in on if one not in given}
    with _rewritten(model, output) as (tensors, folder):
        _off(folder, tensors)
        if rest:
            _on(folder, tensors, rest, foreign=True)


def _on(
    folder: Path, tensors: dict[str, Any], deltas: dict[str, "SparseDelta"], *, foreign: bool
) -> None:
    """Put deltas on a folder's tensors, and note in the folder what undoes that."""
    from safetensors.torch import save_file

    from limbeck.delta import apply
    from limbeck.delta_arithmetic import add

    total = reduce(lambda a, b: add(a, b, foreign=foreign), deltas.values())
    _check_dtype(tensors, total, foreign=foreign)
    about = next(filter(None, (_config_in(one.provenance) for one in deltas.values())), None)
    if total.dense and about:
        # The base's own head goes, the task's comes, and with it what is answered.
        undo = apply(tensors, total, foreign=foreign, dense=False)
        outside = [name for name in tensors if name not in total.parts]
        save_file({name: tensors.pop(name) for name in outside}, folder / HEAD_BEFORE)
        tensors.update(total.dense)
        config = folder / "config.json"
        shutil.copyfile(config, folder / CONFIG_BEFORE)
        write_json(config, json.loads(config.read_text(encoding="utf-8")) | dict(about))
    else:
        undo = apply(tensors, total, foreign=foreign)
    undo.save(folder / UNDO)
    write_json(folder / RECORD, {"deltas": list(deltas)})
    (folder / COPIES).mkdir()
    for name, delta in deltas.items():
        delta.save(folder / COPIES / _copy(name))


def _check_dtype(tensors: Mapping[str, Any], delta: "SparseDelta", *, foreign: bool) -> None:
    """Tell why a model that is not stored in float32 is not the base of what limbeck made of it."""
    from limbeck.delta import check_fit
    from limbeck.delta_file import base_hash

    check_fit(tensors, delta.parts, {})
    named = {name: tensors[name] for name in delta.parts}
    kinds = {str(one.dtype) for one in named.values()} - {"torch.float32"}
    if kinds and not foreign and delta.base != base_hash(named):
        raise ArtifactError(
            "the model is not stored in float32, in which deltas are made",
            found=", ".join(sorted(kinds)),
            do="save it once in float32: from_pretrained(…, dtype='float32').save_pretrained(…)",
        )


def _off(folder: Path, tensors: dict[str, Any]) -> None:
    """Take all deltas off a folder's tensors: what they are then is the first weights."""
    from safetensors.torch import load_file

    from limbeck.delta import Undo

    undo = Undo.load(folder / UNDO)
    undo.revert(tensors)
    if (folder / HEAD_BEFORE).exists():
        for name in tensors.keys() - undo.parts.keys():
            del tensors[name]
        tensors.update(load_file(folder / HEAD_BEFORE))
        (folder / CONFIG_BEFORE).replace(folder / "config.json")
        (folder / HEAD_BEFORE).unlink()
    (folder / UNDO).unlink()
    (folder / RECORD).unlink()
    shutil.rmtree(folder / COPIES)


def _config_in(provenance: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Find what a task's delta says of its model's config, also in a sum of deltas."""
    if "config" in provenance:
        return dict(provenance["config"])
    found = (_config_in(one) for one in provenance.get("sum", ()))
    return next(filter(None, found), None)


def delta_hash(path: Path) -> str:
    """Give the hash of a delta's file, or of what is read of an SFT's folder.

    Raises:
        ArtifactError: There is none.
    """
    return file_hash(path / SFT_FILE if path.is_dir() else path)


def _copy(name: str) -> str:
    return f"{name[:12]}.safetensors"


def add_up(deltas: Sequence[Path], output: Path, *, foreign: bool = False) -> int:
    """Write the sum of deltas of one base; give its number of entries.

    Args:
        deltas: Files, or folders that composable-sft published.
        output: The sum's file.
        foreign: Allow other bases, and ones that are not known.

    Raises:
        LimbeckError: A delta is damaged, or they are of different bases.
    """
    from limbeck.delta_arithmetic import add

    total = reduce(lambda a, b: add(a, b, foreign=foreign), map(read_delta, deltas))
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
            let_read(partial.rglob("*"))
            partial.replace(output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
