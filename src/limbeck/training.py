"""One training loop for every phase: `fit`, the only importer of `transformers.Trainer`.

A step's batch is a pure function of the step, so a killed run resumes at its last checkpoint and
ends with the same weights.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from limbeck import processes, together
from limbeck.architectures import architecture_of
from limbeck.encoder import base_encoder, quiet
from limbeck.errors import LimbeckError
from limbeck.sections import Machine
from limbeck.sparse import Hold
from limbeck.watch import Budget, Watch, not_finite

Batch = dict[str, Tensor]
Terms = dict[str, Tensor]
Counts = Callable[[Batch], Mapping[str, float]]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Precision:
    """The number format that the matrix products run in, and why."""

    autocast: bool
    reason: str


def choose_device(wanted: str) -> torch.device:
    """Give the device asked for; `auto` is CUDA, then MPS, then the CPU.

    Raises:
        LimbeckError: It is not there, or is not the first of its kind.
    """
    if wanted == "auto":
        wanted = "cpu"
        if torch.cuda.is_available():
            wanted = "cuda"
        elif torch.backends.mps.is_available():
            wanted = "mps"
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise LimbeckError(
            "no such device",
            where="machine.device",
            found=f"'{wanted}' ({str(error).splitlines()[0]})",
            do="use auto or cpu",
        ) from None
    if device.index:
        # transformers 5.23 trains on cuda:0 whatever it is told (TrainingArguments._setup_devices)
        raise LimbeckError(
            "only the first device of a kind can be used",
            where="machine.device",
            found=f"'{wanted}'",
            do=f"use {device.type} and hide the others: CUDA_VISIBLE_DEVICES={device.index}",
        )
    return device


def choose_precision(wanted: str, device: torch.device, config: PretrainedConfig) -> Precision:
    """Decide on bf16 autocast: only where the machine has units for it and the model bears it.

    A CPU without such units emulates bf16 products a hundred times slower. One with AVX512-BF16
    alone is left in fp32 by "auto": it trains wide models faster in bf16 and narrow ones slower
    (results/machine.md).
    """
    if architecture_of(config).needs_float32:
        return Precision(False, f"fp32: {config.model_type} gives NaN below it")
    if wanted != "auto":
        return Precision(wanted == "bf16", f"{wanted}: asked for")
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        return Precision(able, "bf16: the GPU has units for it" if able else "fp32: no bf16 units")
    if device.type == "cpu" and torch.cpu._is_amx_tile_supported():
        return Precision(True, "bf16: the CPU has AMX")
    return Precision(False, "fp32: no bf16 units")


def should_compile(wanted: str, device: torch.device, steps: int) -> bool:
    """Decide on torch.compile: where a long run earns back the minute that it costs."""
    if wanted != "auto":
        return wanted == "yes"
    fast = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_amx_tile_supported())
    return fast and steps >= 1000


def fit(
    model: PreTrainedModel,
    batches: Callable[[int], Batch],
    *,
    terms: Callable[[PreTrainedModel, Batch], Terms],
    budget: Budget,
    work: Path,
    machine: Machine,
    judge: Callable[[PreTrainedModel], float] | None = None,
    counts: Counts | None = None,
    hold: Hold | None = None,
    name: str = "train",
) -> list[dict[str, float]]:
    """Train a model in place on the sum of named loss terms.

    Started as several processes, each reads a part of every batch, and the curve is that of one
    process, up to the order of sums; the first alone writes.

    Args:
        model: Trained in place; ends with its best weights where there is a judge, else its last.
        batches: Step (from 0) to tensors; pure, so that any step can be had at any time. The
            entry `input_ids` [B, T] counts as the step's pieces.
        terms: Model and batch to named scalar losses, which are summed.
        work: Folder for checkpoints and `metrics.jsonl`; a checkpoint there is resumed from.
        judge: Higher is better, ties go to the earlier; asked `budget.evaluations` times, in eval
            mode, without gradient and in the precision of the training.
        counts: Batch to what each term is a mean over, such as its masked pieces; without it, one
            process alone can train.
        hold: What may move, where not all may.

    Returns:
        The rows of `metrics.jsonl`: some fifty with `step`, `learning_rate`, each term (its mean
        since the row before, or since the run resumed) and `pieces_per_second` (judging and
        saving not counted); and one with `step` and `judged` for each judgement.

    Raises:
        LimbeckError: The device is not there, or a loss, a judgement or a weight is not finite;
            checkpoints and metrics up to there are whole. Or there are several processes, and
            the terms cannot be shared by them.
    """
    if processes.world() > 1 and counts is None:
        raise LimbeckError(
            f"{name} is trained by one process",
            found=f"{processes.world()} processes",
            do="start limbeck by itself",
        )
    work.mkdir(parents=True, exist_ok=True)
    device = choose_device(machine.device)
    precision = choose_precision(machine.precision, device, model.config)
    log.info("%s: %d steps on %s, %s", name, budget.steps, device, precision.reason)
    watch = Watch(
        work, budget, _in(precision, device, judge), name=name, seconds=machine.checkpoint_seconds
    )
    arguments = _arguments(work, budget, device)
    base = base_encoder(model)
    if should_compile(machine.compile, device, budget.steps):
        base.compile()
    try:
        # Saving a model draws a bar of its own; resuming warns of tied tensors under one name.
        with quiet(), _attention_for(model, precision, device):
            trainer = _TermsTrainer(
                model=model,
                args=arguments,
                train_dataset=_Steps(batches, budget.steps),
                data_collator=_only,
                callbacks=[watch],
                terms=_in(precision, device, terms),
                counts=counts,
                watch=watch,
                hold=hold,
            )
            for callback in (PrinterCallback, ProgressCallback):
                trainer.remove_callback(callback)
            trainer.train(resume_from_checkpoint=_agreed_checkpoint(work))
    finally:
        watch.bar.stop()
        base._compiled_call_impl = None
    together.wait()
    if watch.best_file.exists() and judge is not None:
        load_model(model, watch.best_file, device=str(device))
    model.eval()
    history = watch.history()
    together.wait()  # Whoever called may now clear the folder.
    return history


@contextmanager
def _attention_for(
    model: PreTrainedModel, precision: Precision, device: torch.device
) -> Iterator[None]:
    """Have a CPU that computes in bf16 attend eagerly: a step takes an eighth less than with SDPA.

    Source: results/machine.md.
    """
    usual = model.config._attn_implementation
    if not precision.autocast or device.type != "cpu" or usual == "eager":
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def _in(precision: Precision, device: torch.device, call: Any) -> Any:
    """Give a function that runs in the precision chosen.

    The Trainer's own bf16 wraps `model.forward` alone: not a teacher, nor an encoder whose head
    is passed by.
    """

    def run(*given: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision.autocast):
            return call(*given)

    return run if call is not None else None


def _arguments(work: Path, budget: Budget, device: torch.device) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=budget.steps,
        per_device_train_batch_size=1,
        learning_rate=budget.learning_rate,
        warmup_steps=round(budget.warmup * budget.steps),
        lr_scheduler_type="linear",
        weight_decay=budget.weight_decay,
        max_grad_norm=1.0,
        use_cpu=device.type == "cpu",
        seed=budget.seed,
        data_seed=budget.seed,
        save_strategy="no",
        save_total_limit=2,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
    )
    # With more, the Trainer would wrap the model in DataParallel and ask for as many batches.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _only(items: list[Batch]) -> Batch:
    return items[0]


class _Steps(Dataset):
    def __init__(self, batches: Callable[[int], Batch], steps: int):
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        return self.batches(step)


class _TermsTrainer(Trainer):
    """The Trainer with a loss that is a sum of named terms."""

    def __init__(
        self,
        *,
        terms: Callable[..., Terms],
        counts: Counts | None,
        watch: Watch,
        hold: Hold | None,
        **rest: Any,
    ):
        self.terms, self.counts, self.watch, self.hold = terms, counts, watch, hold
        super().__init__(**rest)
        self.model_accepts_loss_kwargs = False
        # No DDP: it would wrap a forward that bare encoders and heads pass by.
        prepare = self.accelerator.prepare_model
        self.accelerator.prepare_model = partial(prepare, evaluation_mode=True)
        if hold is not None:
            clip = self.accelerator.clip_grad_norm_
            self.accelerator.clip_grad_norm_ = lambda some, *rest: clip(hold.moving(some), *rest)

    def get_train_dataloader(self) -> DataLoader:
        """Give each process every whole batch: it takes its own part."""
        if processes.world() == 1:
            return super().get_train_dataloader()
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=_only)  # type: ignore[arg-type]

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)  # type: ignore[arg-type]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make the usual one; under a hold it moves the chosen entries alone."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if self.hold is not None and is_new:
            self.hold.attach(optimizer)
        return optimizer

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        found = self._terms(model, inputs)
        total = torch.stack(list(found.values())).sum()
        whole = together.summed(torch.stack(list(found.values())).detach())
        told = dict(zip(found, whole, strict=True))
        if not torch.isfinite(whole.sum()):
            values = ", ".join(f"{term}={value.item():.3g}" for term, value in told.items())
            raise not_finite("the loss", self.state.global_step, found=values)
        self.watch.saw(told, inputs["input_ids"].numel())
        return total

    def _terms(self, model: Any, whole: Batch) -> Terms:
        """Give this process's share of each term: the shares add up to the term."""
        if self.counts is None or processes.world() == 1:
            return self.terms(model, whole)
        part = together.part_of(whole)
        mine, all_of = self.counts(part), self.counts(whole)
        found = self.terms(model, part)
        return {term: one * (mine[term] / all_of[term]) for term, one in found.items()}

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        """Sum the gradients of all processes before anything reads them."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if processes.world() > 1:
            together.sum_gradients(model)
        if self.hold is not None:
            self.hold.collect_gradients()
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Count nothing: the Trainer's own count walks all parameters at every step."""
        return 0


def _agreed_checkpoint(work: Path) -> str | None:
    return together.agreed(_last_checkpoint(work) if processes.rank() == 0 else None)


def _last_checkpoint(work: Path) -> str | None:
    """Give the last whole checkpoint and drop the torn ones."""
    whole: list[tuple[int, Path]] = []
    for folder in work.glob("checkpoint-*"):
        if (folder / "complete").exists():
            whole.append((int(folder.name.rpartition("-")[2]), folder))
        else:
            shutil.rmtree(folder)
    return str(max(whole)[1]) if whole else None
