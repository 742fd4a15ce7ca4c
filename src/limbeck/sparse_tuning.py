"""Which parameters a training moves: all of them, few entries (LT-SFT), or low ranks (LoRA).

Source: Ansell et al. 2022, Composable Sparse Fine-Tuning (ACL), section 3; Hu et al. 2022, LoRA.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from limbeck.delta import between
from limbeck.errors import ModelError, RecipeError
from limbeck.parameters import encoder_tensors, head_tensors, linear_layers
from limbeck.sections import Tuning
from limbeck.sparse import Hold, choose
from limbeck.training import Batch, Terms

DELTA = "delta.safetensors"
"""What a sparse tuning changed in the encoder, and the head as it became."""
_CHOSEN = "chosen.safetensors"

History = list[dict[str, float]]
TermsOf = Callable[[PreTrainedModel, Batch], Terms]
Run = Callable[[Path, Hold | None, TermsOf | None], History]
"""Trains the model in place: a folder for its checkpoints, what may move, terms to add."""


def tune_with(
    model: PreTrainedModel,
    run: Run,
    *,
    tuning: Tuning,
    work: Path,
    seed: int = 0,
    head: bool = True,
) -> History:
    """Train a model in place as a recipe's tuning says.

    A killed training goes on where it was, in whichever of two it was.

    Args:
        model: As it is loaded: what is rewound to.
        run: One training.
        tuning: Which parameters move, and how freely.
        work: Folder of the trainings. A sparse one ends with `DELTA` there.
        seed: Of the low-rank matrices.
        head: Whether whatever is not the encoder is tuned, whole; else it is held.

    Returns:
        The history of the training; of the second one of a sparse tuning.

    Raises:
        ModelError: There are fewer entries than asked for, or one that is held moved.
        RecipeError: A name in `tuning.freeze` fits no tensor.
    """
    work.mkdir(parents=True, exist_ok=True)
    fixed = frozen_names(encoder_tensors(model), tuning.freeze)
    outside = [] if head else list(head_tensors(model))
    with _frozen(model, [*fixed, *outside]):
        if tuning.kind == "lora":
            return _tune_low_rank(model, run, tuning=tuning, work=work, seed=seed)
        if tuning.kind == "lt-sft":
            return _tune_sparsely(model, run, tuning=tuning, work=work, fixed=fixed, head=head)
        return run(work, None, _pull(model, tuning.l1))


def _tune_sparsely(
    model: PreTrainedModel, run: Run, *, tuning: Tuning, work: Path, fixed: list[str], head: bool
) -> History:
    whole = encoder_tensors(model) | head_tensors(model)
    tensors = {name: one.detach() for name, one in whole.items()}
    before = {name: one.clone() for name, one in tensors.items()}
    inside = {name: before[name] for name in encoder_tensors(model)}
    count = entries_of(inside, tuning, frozen=fixed)
    pull = _pull(model, tuning.l1)
    if not (work / _CHOSEN).exists():
        run(work / "full", None, pull)
        # The parameters are trained in place: `tensors` hold what they have become.
        after = {name: tensors[name] for name in inside}
        keep_chosen(choose(inside, after, count, frozen=fixed), work)
        for name, one in tensors.items():
            one.copy_(before[name])
    # In the model's order, which a file does not keep.
    read = load_file(work / _CHOSEN)
    chosen = {name: read[name] for name in inside}
    hold = Hold(model, chosen)
    try:
        history = run(work / "sparse", hold, pull)
    finally:
        for name in inside:
            model.get_parameter(name).requires_grad_(True)
    moved = hold.violations(model, before)
    if moved:
        raise ModelError("a held entry moved", where=moved[0], found=f"{len(moved)} tensors")
    heads = {name: tensors[name] for name in head_tensors(model)} if head else {}
    between(inside, tensors, chosen, dense=heads).save(work / DELTA)
    return history


def both(first: TermsOf, second: TermsOf | None) -> TermsOf:
    """Give the terms of two losses together."""
    if second is None:
        return first
    more = second

    def terms(model: PreTrainedModel, batch: Batch) -> Terms:
        return first(model, batch) | more(model, batch)

    return terms


def keep_chosen(chosen: Mapping[str, Tensor], work: Path) -> None:
    """Keep a choice of entries in a tuning's folder: its first training counts as done then."""
    part = work / f"{_CHOSEN}.part"
    save_file(dict(chosen), part)
    part.replace(work / _CHOSEN)


def entries_of(tensors: Mapping[str, Tensor], tuning: Tuning, *, frozen: Iterable[str] = ()) -> int:
    """Give how many entries of an encoder a sparse tuning chooses.

    Args:
        tensors: The encoder's; a density is a share of their entries.
        tuning: How many, or which share.
        frozen: Names of tensors of which none is chosen.

    Raises:
        RecipeError: There are not so many, or it is none.
    """
    total = sum(one.numel() for one in tensors.values())
    most = total - sum(tensors[name].numel() for name in frozen)
    wanted = tuning.entries or round(tuning.density * total)
    if not 1 <= wanted <= most:
        raise RecipeError(
            "a sparse tuning cannot choose so many entries",
            where="tuning.entries" if tuning.entries else "tuning.density",
            found=str(wanted),
            expected=f"1 to {most}",
        )
    return wanted


def frozen_names(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Give the names that some pattern fits, such as `*norm*`; capitals do not count.

    Raises:
        RecipeError: A pattern fits none.
    """
    names, found = list(names), set()
    for pattern in patterns:
        fitting = [name for name in names if fnmatchcase(name.lower(), pattern.lower())]
        if not fitting:
            raise RecipeError(
                "nothing is frozen by this name",
                where="tuning.freeze",
                found=repr(pattern),
                expected="a pattern of tensor names, such as " + ", ".join(names[:3]),
            )
        found.update(fitting)
    return [name for name in names if name in found]


@contextmanager
def _frozen(model: nn.Module, names: Iterable[str]) -> Iterator[None]:
    parameters = [model.get_parameter(name) for name in names]
    for one in parameters:
        one.requires_grad_(False)
    try:
        yield
    finally:
        for one in parameters:
            one.requires_grad_(True)


def _pull(model: PreTrainedModel, weight: float) -> TermsOf | None:
    """Give the L1 term: the mean distance of the encoder's entries from where they are now."""
    if not weight:
        return None
    before = {name: one.detach().clone() for name, one in encoder_tensors(model).items()}
    total = sum(one.numel() for one in before.values())

    def terms(model: PreTrainedModel, _: Batch) -> Terms:
        moving = {name: model.get_parameter(name) for name in before}
        gone = [
            (one - before[name]).abs().sum() for name, one in moving.items() if one.requires_grad
        ]
        return {"l1": weight / total * torch.stack(gone).sum()} if gone else {}

    return terms


def _tune_low_rank(
    model: PreTrainedModel, run: Run, *, tuning: Tuning, work: Path, seed: int
) -> History:
    """Tune low-rank differences of the layers' matrices, and add them to the weights."""
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    config = LoraConfig(
        r=tuning.rank,
        lora_alpha=tuning.scale * tuning.rank,  # type: ignore[arg-type]
        target_modules=linear_layers(model),
        lora_dropout=0.0,
    )
    heads = [name for name, one in head_tensors(model).items() if one.requires_grad]
    inside = [name for name, one in encoder_tensors(model).items() if one.requires_grad]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        adapted = LoraModel(model, config, "default")
    try:
        for name in heads:
            model.get_parameter(name).requires_grad_(True)
        return run(work, None, None)
    finally:
        adapted.merge_and_unload()
        for name in [*heads, *inside]:
            model.get_parameter(name).requires_grad_(True)
