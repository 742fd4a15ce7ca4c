"""Examples held out of a training split."""

import hashlib
from collections.abc import Sequence
from typing import Any

from limbeck.errors import DataError, RecipeError
from limbeck.tasks import find_task


def divide(
    examples: Sequence[Any], *, task: str, fraction: float, seed: int = 0
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Holds examples out of a training split, for a language without a dev file.

    An example goes where the hash of its text says: equal texts stay together, and an example
    keeps its side when others are added or removed. Questions of one article stay together.

    Args:
        examples: A training split.
        task: A name of `TASKS`.
        fraction: The share to hold out, near enough; between 0 and 1.
        seed: Another seed holds out others.

    Returns:
        The examples to train on, and those held out.

    Raises:
        RecipeError: `fraction` is not between 0 and 1.
        DataError: one side would be empty.
    """
    if not 0 < fraction < 1:
        raise RecipeError(
            "the held-out share must lie between 0 and 1", found=str(fraction), do="try 0.1"
        )
    train: list[Any] = []
    held_out: list[Any] = []
    identify = find_task(task).identify
    for example in examples:
        text = "\n".join((str(seed), *identify(example))).encode()
        number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        (held_out if number < fraction * 2**64 else train).append(example)
    if not train or not held_out:
        raise DataError(
            "too few examples to divide",
            where=examples[0].where if examples else "",
            found=f"{len(train)} to train on and {len(held_out)} held out",
        )
    return tuple(train), tuple(held_out)
