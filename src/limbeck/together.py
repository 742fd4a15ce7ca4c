"""Several processes train one model: each reads a part of every batch, gradients are summed.

The sum over processes is what one process computes on the whole batch, up to the order of sums.
Everything here does nothing where there is one process.
"""

from collections.abc import Mapping
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from limbeck import processes
from limbeck.errors import RecipeError

Value = TypeVar("Value")


def part_of(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give this process's rows of a batch; the parts of all processes are the batch.

    Args:
        batch: Tensors with the batch axis B first.

    Raises:
        RecipeError: There are fewer rows than processes.
    """
    rows = min(map(len, batch.values()))
    if rows < processes.world():
        raise RecipeError(
            "a batch has fewer rows than there are processes",
            where="training.batch_pieces",
            found=f"{rows} rows",
            expected=f"at least {processes.world()}",
            do="raise it, or start fewer processes",
        )
    return {
        name: one.tensor_split(processes.world())[processes.rank()] for name, one in batch.items()
    }


def sum_gradients(model: nn.Module) -> None:
    """Replace each gradient by its sum over the processes; in place, in one message."""
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    flat = summed(torch.cat([one.flatten() for one in gradients]))
    start = 0
    for one in gradients:
        one.copy_(flat[start : start + one.numel()].view_as(one))
        start += one.numel()


def summed(values: Tensor) -> Tensor:
    """Give the sum of a tensor over the processes."""
    if processes.world() > 1:
        dist.all_reduce(values)
    return values


def agreed(value: Value) -> Value:
    """Give the first process's value to all."""
    if processes.world() == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told)
    return told[0]


def wait() -> None:
    """Wait until all processes are here."""
    if processes.world() > 1:
        dist.barrier()
