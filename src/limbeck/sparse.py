"""Lottery-ticket sparse tuning: which entries may move, holding all others, published deltas.

The recipe: tune everything, `choose` the entries that moved most, rewind the model, tune again
under a `Hold`, and keep the difference (`limbeck.delta`).

Source: Ansell et al. 2022, Composable Sparse Fine-Tuning, section 3. Their code keeps every entry
that reaches a threshold, so ties give more entries than asked for, and it zeroes gradients alone,
so that weight decay moves held entries; here it is exactly as many as asked for, and what is held
keeps its bits.
"""

import math
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.delta import SparseDelta, put, take
from limbeck.delta_file import Part
from limbeck.errors import ArtifactError, ModelError

_ENTRIES_AT_ONCE = 1 << 22
_HALF = 16
_LOW = (1 << _HALF) - 1
_SFT_FILE = "pytorch_diff.bin"
_UNREADABLE = (
    OSError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    EOFError,
    RuntimeError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ModelError,
)


@torch.no_grad()
def choose(
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    count: int,
    *,
    frozen: Iterable[str] = (),
) -> dict[str, Tensor]:
    """Choose the entries that moved most, over all tensors together, exactly `count` of them.

    Entries are ranked by |after - before| as float32. Where several moved alike, the earlier
    tensor of `before` goes first, and in it the lower index. Memory beyond the result is a few
    chunks of 4 million entries: the threshold is found by counting bit patterns, 16 bits a pass.

    Args:
        before: Tensors by name; tied ones once, as `unique_tensors` gives them.
        after: The same after tuning; what `before` does not name is not looked at.
        count: How many entries to choose, from 0 to all entries that are not frozen.
        frozen: Names of tensors in `before` of which nothing is chosen.

    Returns:
        Flat indices by name, ascending, int64 [N] on the device of `after`; an entry for every
        name in `before`, empty where nothing was chosen.

    Raises:
        ModelError: A tensor is missing, has another shape or numbers that are not finite; there
            are fewer entries than `count`; or `frozen` names no tensor.
    """
    fixed = set(frozen)
    for name in sorted(fixed - set(before)):
        raise ModelError("a frozen tensor is not there", where=name, do="check its name")
    for name, tensor in before.items():
        _check_pair(name, tensor, after)
    tunable = [name for name in before if name not in fixed]
    total = sum(before[name].numel() for name in tunable)
    if not 0 <= count <= total:
        raise ModelError(
            "cannot choose so many entries", found=str(count), expected=f"0 to {total} entries"
        )
    chosen = {name: torch.zeros(0, dtype=torch.int64, device=after[name].device) for name in before}
    if count:
        threshold, ties = _threshold(before, after, tunable, count)
        for name in tunable:
            chosen[name], ties = _above(before[name], after[name], threshold, ties)
    return chosen


def _check_pair(name: str, tensor: Tensor, after: Mapping[str, Tensor]) -> None:
    if name not in after or after[name].shape != tensor.shape:
        raise ModelError(
            "the tuned model does not fit the model before",
            where=name,
            found=str(list(after[name].shape)) if name in after else "no such tensor",
            expected=str(list(tensor.shape)),
        )


def _threshold(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], names: list[str], count: int
) -> tuple[int, int]:
    """Give the smallest chosen pattern, and how many entries with exactly that are chosen."""
    highs = np.zeros(1 << (31 - _HALF), np.int64)
    for name in names:
        for keys in _patterns(before[name], after[name]):
            highs += _histogram(keys >> _HALF, len(highs))
        # Patterns of infinity and of what is no number start here.
        if highs[0x7F800000 >> _HALF :].any():
            raise ModelError(
                "the tuned model has moved by what is no finite number",
                where=name,
                do="lower the learning rate",
            )
    high, left = _bin(highs, count)
    lows = np.zeros(1 << _HALF, np.int64)
    for name in names:
        for keys in _patterns(before[name], after[name]):
            lows += _histogram(keys[(keys >> _HALF) == high] & _LOW, len(lows))
    low, left = _bin(lows, left)
    return (high << _HALF) | low, left


def _patterns(before: Tensor, after: Tensor) -> Iterator[Tensor]:
    """Give |after - before| in chunks, as int32 patterns, which rise as the magnitudes do."""
    olds = before.detach().reshape(-1).split(_ENTRIES_AT_ONCE)
    news = after.detach().reshape(-1).split(_ENTRIES_AT_ONCE)
    for old, new in zip(olds, news, strict=True):
        wide = torch.promote_types(new.dtype, torch.float32)
        moved = new.to(wide) - old.to(new.device, wide)
        yield moved.abs_().float().view(torch.int32)


def _histogram(keys: Tensor, bins: int) -> np.ndarray:
    return torch.bincount(keys, minlength=bins).cpu().numpy()


def _bin(histogram: np.ndarray, count: int) -> tuple[int, int]:
    """Give the bin of the count-th largest key, and how many keys of that bin are wanted."""
    at_least = histogram[::-1].cumsum()
    place = int(np.searchsorted(at_least, count))
    above = int(at_least[place - 1]) if place else 0
    return len(histogram) - 1 - place, count - above


def _above(before: Tensor, after: Tensor, threshold: int, ties: int) -> tuple[Tensor, int]:
    """Give what of a tensor is chosen, and how many ties are left for the tensors after it."""
    parts = [torch.zeros(0, dtype=torch.int64, device=after.device)]
    start = 0
    for keys in _patterns(before, after):
        wanted = keys > threshold
        if ties:
            tied = (keys == threshold).nonzero().view(-1)[:ties]
            wanted[tied] = True
            ties -= len(tied)
        parts.append(wanted.nonzero().view(-1) + start)
        start += len(keys)
    return torch.cat(parts), ties


class Hold:
    """Lets the chosen entries of a model move, and no others.

    `attach` an optimizer once; then each step: `backward()`, `collect_gradients()`, clip those of
    `moving()`, `optimizer.step()`. The optimizer moves vectors of the chosen entries, which are
    then written into the model, so that no decay, momentum or epsilon reaches the others, and
    clipping sees the chosen entries alone. The optimizer's state is as much smaller.

    A tensor that `chosen` names with no entry is frozen (`requires_grad` is False); one that it
    does not name, such as a new head, moves freely. The model must be on its device, and whole:
    parameters that FSDP has cut up cannot be held.

    Args:
        model: The model, rewound.
        chosen: Flat indices by parameter name, ascending, int64 [N], as `choose` gives them.

    Raises:
        ModelError: `chosen` names no parameter of the model, or an index outside of it.
    """

    def __init__(self, model: nn.Module, chosen: Mapping[str, Tensor]):
        parameters = dict(model.named_parameters(remove_duplicate=False))
        self._chosen = chosen
        self._entries: dict[Tensor, _Entries] = {}
        self._has_read = False
        for name, indices in chosen.items():
            _check_chosen(name, indices, parameters)
            parameter = parameters[name]
            if not len(indices) and parameter.numel():
                parameter.requires_grad_(False)
                parameter.grad = None
            elif len(indices) < parameter.numel():
                here = indices.to(parameter.device)
                self._entries[parameter] = _Entries(here, nn.Parameter(take(parameter, here)))

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Give an optimizer of the model the chosen entries instead of the whole tensors.

        Raises:
            ModelError: It has taken a step already.
        """
        if optimizer.state:
            raise ModelError("the optimizer has taken a step already", do="attach it before")
        for group in optimizer.param_groups:
            group["params"] = self.moving(group["params"])
        optimizer.register_step_pre_hook(self._read)
        optimizer.register_step_post_hook(self._write)

    def moving(self, parameters: Iterable[Tensor]) -> list[Tensor]:
        """Give what an attached optimizer moves of the model's parameters."""
        return [
            self._entries[one].vector if one in self._entries else one
            for one in parameters
            if one.requires_grad
        ]

    @torch.no_grad()
    def collect_gradients(self) -> None:
        """Take the chosen entries' gradients and drop the others'; call it before clipping."""
        for parameter, one in self._entries.items():
            found = parameter.grad
            one.vector.grad = None if found is None else take(found, one.indices)
            parameter.grad = None

    @torch.no_grad()
    def _read(self, *_: Any) -> None:
        """Start from the model as it is: a checkpoint may have been loaded since."""
        if not self._has_read:
            for parameter, one in self._entries.items():
                one.vector.copy_(take(parameter, one.indices))
        self._has_read = True

    @torch.no_grad()
    def _write(self, *_: Any) -> None:
        for parameter, one in self._entries.items():
            put(parameter, one.indices, one.vector.detach())

    @torch.no_grad()
    def violations(self, model: nn.Module, before: Mapping[str, Tensor]) -> list[str]:
        """Name the tensors of which a held entry has other bits than before.

        Args:
            model: The model that is held.
            before: Its tensors as they were, by the names of `chosen`.
        """
        moved = []
        for name, indices in self._chosen.items():
            now = model.get_parameter(name).detach()
            expected, here = before[name].detach().clone(), indices.to(now.device)
            put(expected, here.to(expected.device), take(now, here).to(expected.device))
            if not torch.equal(_bytes(now.to(expected.device)), _bytes(expected)):
                moved.append(name)
        return moved


@dataclass(frozen=True, slots=True, eq=False)
class _Entries:
    """Which entries of a tensor move, int64 [N], and the vector [N] that an optimizer moves."""

    indices: Tensor
    vector: nn.Parameter


def _check_chosen(name: str, indices: Tensor, parameters: Mapping[str, nn.Parameter]) -> None:
    if name not in parameters:
        raise ModelError("there is no such parameter to hold", where=name, do="check its name")
    size = parameters[name].numel()
    if len(indices) and not (int(indices[0]) >= 0 and int(indices[-1]) < size):
        raise ModelError(
            "a chosen entry is outside of the tensor",
            where=name,
            found=f"{int(indices[0])} to {int(indices[-1])}",
            expected=f"0 to {size - 1}",
        )


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def read_sft(folder: Path) -> tuple[SparseDelta, tuple[str, ...]]:
    """Read a sparse fine-tuning that composable-sft published, without running its pickle.

    `pytorch_diff.bin` is a pickle of two dicts. `diffs`, tensor name to difference, become parts;
    `abs`, tensor name to values, become dense tensors. A difference is a sparse COO tensor, or
    what composable-sft writes: `size`, `values` and `index_steps`, the distances of flat indices
    that count the *first* axis fastest, which are turned into ours, last axis fastest. Half
    precision becomes float32. Nothing else of the folder is read.

    The pickle is read by torch's restricted reader. All it may build is tensors, plain containers
    and whole numbers; numpy's own whole number, which composable-sft leaves in `index_steps`, is
    read by a stand-in, so that numpy is not called either.

    Args:
        folder: The folder with the file.

    Returns:
        The delta, whose base is not known (`apply` needs `foreign`), and what there is to note.

    Raises:
        ArtifactError: The file is missing, damaged, holds anything else, or would run code.

    Source: github.com/cambridgeltl/composable-sft, src/sft/sft.py.
    """
    path = Path(folder) / _SFT_FILE
    stand_ins: list[Any] = [(_NumpyType, "numpy.dtype")]
    stand_ins += [(_whole, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    try:
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the reader warns of what it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
        parts = {str(name): _sft_part(one) for name, one in content["diffs"].items()}
        dense = {str(name): _dense(one) for name, one in content.get("abs", {}).items()}
        delta = SparseDelta(parts, "", dense, {"made by": "composable-sft", "file": _SFT_FILE})
    except _UNREADABLE as error:
        raise ArtifactError(
            "this is no sparse fine-tuning that can be read safely",
            where=str(path),
            found=_first_sentence(error),
            expected="diffs and abs, of tensors alone",
        ) from None
    return delta, _notes(delta, sorted(set(content) - {"diffs", "abs"}))


class _NumpyType:
    """Stands in for `numpy.dtype` while a pickle is read: keeps its code, builds nothing."""

    def __init__(self, code: str, *_: object):
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


def _whole(kind: _NumpyType, data: bytes) -> int:
    if kind.code not in ("i4", "i8") or kind.order != "<" or len(data) != int(kind.code[1]):
        raise ValueError(f"a number of type {kind.order}{kind.code}")
    return int.from_bytes(data, "little", signed=True)


def _sft_part(one: Any) -> Part:
    if isinstance(one, Tensor):
        if one.layout != torch.sparse_coo or one.dense_dim():
            raise ValueError(f"a tensor of layout {one.layout}")
        one = one.coalesce()
        shape, axes, values = tuple(one.shape), tuple(one.indices().numpy()), one.values()
    else:
        shape, values = tuple(map(int, one["size"])), one["values"]
        flat = np.asarray(one["index_steps"], np.int64).cumsum()
        axes = np.unravel_index(flat, shape, order="F")
    if len(_dense(values)) != len(axes[0]):
        raise ValueError(f"{len(values)} values for {len(axes[0])} entries")
    indices = np.ravel_multi_index(axes, shape) if math.prod(shape) else np.zeros(0, np.int64)
    order = np.argsort(indices, kind="stable")
    rising = torch.from_numpy(indices[order].astype(np.int64))
    return Part(shape, rising, values[torch.from_numpy(order)].float())


def _dense(one: Any) -> Tensor:
    if not isinstance(one, Tensor) or one.layout != torch.strided or not one.is_floating_point():
        raise ValueError(f"{type(one).__name__} where a tensor of numbers should be")
    return one.detach()


def _notes(delta: SparseDelta, unread: list[str]) -> tuple[str, ...]:
    notes = [f"{len(delta)} entries of {len(delta.parts)} tensors", "the base is not named"]
    if delta.dense:
        notes.append(f"dense tensors: {', '.join(sorted(delta.dense))}")
    if unread:
        notes.append(f"not read: {', '.join(map(str, unread))}")
    return tuple(notes)


def _first_sentence(error: Exception) -> str:
    """Give the line that says why: torch puts advice before it that would run the pickle."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("WeightsUnpickler error:")] or lines
    found = told[0].removeprefix("WeightsUnpickler error:").strip() if told else ""
    return (found.partition(" was not an allowed global")[0] or type(error).__name__)[:200]
