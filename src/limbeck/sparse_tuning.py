"""LT-SFT: tune all, choose what moved most, rewind, and tune that alone.

Source: Ansell et al. 2022, Composable Sparse Fine-Tuning (ACL), section 3.
"""

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from limbeck.delta import between
from limbeck.encoder import base_prefix
from limbeck.errors import ModelError
from limbeck.sections import Tuning
from limbeck.sparse import Hold, choose, unique_tensors

DELTA = "delta.safetensors"
"""What the tuning changed in the encoder, and the head as it became."""
_CHOSEN = "chosen.safetensors"

Run = Callable[[Path, Hold | None], list[dict[str, float]]]
"""Trains the model in place: a folder for its checkpoints, and what may move."""


def tune_sparsely(
    model: PreTrainedModel, run: Run, *, tuning: Tuning, work: Path
) -> list[dict[str, float]]:
    """Tune a model in place so that few entries of its encoder differ from what they were.

    A killed tuning goes on in the training that it was in: the choice is kept in `work`.

    Args:
        model: As it is loaded: what is rewound to. Its head is tuned whole, both times.
        run: One training.
        tuning: How many entries.
        work: Folder of both trainings; ends with `DELTA`.

    Returns:
        The history of the second training.

    Raises:
        ModelError: There are fewer entries than asked for, or one that is held moved.
    """
    work.mkdir(parents=True, exist_ok=True)
    tensors = {name: one.detach() for name, one in unique_tensors(model).items()}
    before = {name: one.clone() for name, one in tensors.items()}
    encoder = {name for name in before if name.startswith(base_prefix(model))}
    inside = {name: before[name] for name in sorted(encoder)}
    if not (work / _CHOSEN).exists():
        run(work / "full", None)
        # The parameters are trained in place: `tensors` hold what they have become.
        chosen = choose(inside, {name: tensors[name] for name in inside}, _count(inside, tuning))
        save_file(chosen, work / f"{_CHOSEN}.part")
        (work / f"{_CHOSEN}.part").replace(work / _CHOSEN)
        for name, one in tensors.items():
            one.copy_(before[name])
    chosen = load_file(work / _CHOSEN)
    hold = Hold(model, chosen)
    try:
        history = run(work / "sparse", hold)
        moved = hold.violations()
    finally:
        model.requires_grad_(True)
    if moved:
        raise ModelError("a held entry moved", where=moved[0], found=f"{len(moved)} tensors")
    heads = {name: one for name, one in tensors.items() if name not in encoder}
    between(inside, tensors, chosen, dense=heads).save(work / DELTA)
    return history


def _count(tensors: dict[str, Tensor], tuning: Tuning) -> int:
    total = sum(one.numel() for one in tensors.values())
    wanted = tuning.entries or round(tuning.density * total)
    if wanted > total:
        raise ModelError(
            "the encoder has not so many entries",
            where="tuning.entries",
            found=str(wanted),
            expected=f"at most {total}",
        )
    return wanted
