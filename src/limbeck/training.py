"""One training loop for every phase: `fit`, the only importer of `transformers.Trainer`.

A step's batch is a pure function of the step, so a killed run resumes at its last checkpoint and
ends with the same weights.
"""

import json
import logging
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_model, save_model
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from limbeck.architectures import architecture_of
from limbeck.encoder import base_encoder, quiet
from limbeck.errors import LimbeckError
from limbeck.sections import Machine

Batch = dict[str, Tensor]
Terms = dict[str, Tensor]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Budget:
    """How long and how fast to train: AdamW, linear warm-up, linear decay to zero.

    Args:
        steps: Optimiser steps.
        learning_rate: Peak rate.
        warmup: Share of the steps that warm up.
        seed: Seed of whatever the model itself draws (dropout).
        evaluations: How often `judge` is asked, spread evenly, the last step included.
    """

    steps: int
    learning_rate: float
    warmup: float = 0.1
    weight_decay: float = 0.01
    seed: int = 0
    evaluations: int = 1


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

    A CPU without AMX emulates bf16 products a hundred times slower (results/machine.md).
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
    name: str = "train",
) -> list[dict[str, float]]:
    """Train a model in place on the sum of named loss terms.

    Args:
        model: Trained in place; ends with its best weights where there is a judge, else its last.
        batches: Step (from 0) to tensors; pure, so that any step can be had at any time. The
            entry `input_ids` [B, T] counts as the step's pieces.
        terms: Model and batch to named scalar losses, which are summed.
        work: Folder for checkpoints and `metrics.jsonl`; a checkpoint there is resumed from.
        judge: Higher is better, ties go to the earlier; asked `budget.evaluations` times, in eval
            mode, without gradient and in the precision of the training.

    Returns:
        The rows of `metrics.jsonl`: some fifty with `step`, `learning_rate`, each term (its mean
        since the row before, or since the run resumed) and `pieces_per_second` (judging and
        saving not counted); and one with `step` and `judged` for each judgement.

    Raises:
        LimbeckError: The device is not there, or a loss, a judgement or a weight is not finite;
            checkpoints and metrics up to there are whole.
    """
    work.mkdir(parents=True, exist_ok=True)
    device = choose_device(machine.device)
    precision = choose_precision(machine.precision, device, model.config)
    log.info("%s: %d steps on %s, %s", name, budget.steps, device, precision.reason)
    watch = _Watch(
        work, budget, _in(precision, device, judge), name=name, seconds=machine.checkpoint_seconds
    )
    base = base_encoder(model)
    if should_compile(machine.compile, device, budget.steps):
        base.compile()
    try:
        # Saving a model draws a bar of its own; resuming warns of tied tensors under one name.
        with quiet():
            trainer = _TermsTrainer(
                model=model,
                args=_arguments(work, budget, device),
                train_dataset=_Steps(batches, budget.steps),
                data_collator=_only,
                callbacks=[watch],
                terms=_in(precision, device, terms),
                watch=watch,
            )
            for callback in (PrinterCallback, ProgressCallback):
                trainer.remove_callback(callback)
            trainer.train(resume_from_checkpoint=_last_checkpoint(work))
    finally:
        watch.bar.stop()
        base._compiled_call_impl = None
    if watch.best_file.exists() and judge is not None:
        load_model(model, watch.best_file, device=str(device))
    model.eval()
    return watch.history()


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

    def __init__(self, *, terms: Callable[..., Terms], watch: "_Watch", **rest: Any):
        self.terms, self.watch = terms, watch
        super().__init__(**rest)
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)  # type: ignore[arg-type]

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        found = self.terms(model, inputs)
        total = torch.stack(list(found.values())).sum()
        if not torch.isfinite(total):
            told = ", ".join(f"{term}={value.item():.3g}" for term, value in found.items())
            raise _not_finite("the loss", self.state.global_step, found=told)
        self.watch.saw(found, inputs["input_ids"].numel())
        return total

    def floating_point_ops(self, inputs: Any) -> int:
        """Count nothing: the Trainer's own count walks all parameters at every step."""
        return 0


class _Watch(TrainerCallback):
    """Asks the judge, writes metrics and checkpoints, draws the bar."""

    def __init__(
        self,
        work: Path,
        budget: Budget,
        judge: Callable[[Any], float] | None,
        *,
        name: str,
        seconds: float,
    ):
        self.work, self.budget, self.judge = work, budget, judge
        self.checkpoint_seconds = seconds
        self.best_file = work / "best.safetensors"
        self.metrics_file = work / "metrics.jsonl"
        self.every = max(1, budget.steps // 50)
        self.judged = {
            math.ceil(budget.steps * (i + 1) / budget.evaluations)
            for i in range(budget.evaluations)
        }
        self.sums: dict[str, Tensor] = {}
        self.steps_seen, self.pieces = 0, 0
        self.since = self.saved = self.stopped = time.monotonic()
        self.bar = Progress(
            TextColumn(f"  {name}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[told]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self.line = self.bar.add_task(name, total=budget.steps, told="")

    def saw(self, found: Mapping[str, Tensor], pieces: int) -> None:
        for term, value in found.items():
            seen = self.sums.get(term)
            self.sums[term] = value.detach() if seen is None else seen + value.detach()
        self.steps_seen += 1
        self.pieces += pieces

    def history(self) -> list[dict[str, float]]:
        rows: list[dict[str, float]] = []
        if self.metrics_file.exists():
            for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    break  # a kill tore the last line
        return rows

    def _write(self, row: Mapping[str, float]) -> None:
        with self.metrics_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(dict(row)) + "\n")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        kept = [row for row in self.history() if row["step"] <= state.global_step]
        temporary = self.metrics_file.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        temporary.replace(self.metrics_file)
        if not any("judged" in row for row in kept):
            self.best_file.unlink(missing_ok=True)
        self.since = self.saved = time.monotonic()
        # Without this the steps of an earlier process would count as done in no time.
        self.bar.reset(self.line, completed=state.global_step)
        self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        step, last = state.global_step, state.global_step == self.budget.steps
        asked = self.judge is not None and step in self.judged
        due = time.monotonic() - self.saved > self.checkpoint_seconds
        if step % self.every == 0 or last:
            self._log(step, kept["lr_scheduler"].get_last_lr()[0])
        self.stopped = time.monotonic()
        if asked or due or last:
            _check_weights(kept["model"], step)
        if asked:
            self._judge(step, kept["model"])
        self.since += time.monotonic() - self.stopped
        self.bar.update(self.line, completed=step)
        control.should_save = due
        self.stopped = time.monotonic()

    def _log(self, step: int, rate: float) -> None:
        now = time.monotonic()
        means = {term: float(total) / self.steps_seen for term, total in self.sums.items()}
        per_second = self.pieces / max(now - self.since, 1e-9)
        self._write({"step": step, "learning_rate": rate, **means, "pieces_per_second": per_second})
        told = f"loss {sum(means.values()):.4f} · {per_second:,.0f} pieces/s"
        self.bar.update(self.line, told=told)
        self.sums, self.steps_seen, self.pieces, self.since = {}, 0, 0, now

    def _judge(self, step: int, model: PreTrainedModel) -> None:
        assert self.judge is not None
        model.eval()
        with torch.no_grad():
            value = self.judge(model)
        model.train()
        if not math.isfinite(value):
            raise _not_finite("a judgement", step, found=f"{value}")
        best = max((row["judged"] for row in self.history() if "judged" in row), default=-math.inf)
        if value > best:
            temporary = self.best_file.with_suffix(".tmp")
            save_model(model, str(temporary))
            temporary.replace(self.best_file)
        self._write({"step": step, "judged": value})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        (self.work / f"checkpoint-{state.global_step}" / "complete").touch()
        self.saved = time.monotonic()
        self.since += self.saved - self.stopped


def _check_weights(model: PreTrainedModel, step: int) -> None:
    """Keep broken weights out of checkpoints: a loss is finite, its gradient need not be."""
    sums = torch.stack([tensor.detach().float().sum() for tensor in model.parameters()])
    if not torch.isfinite(sums).all():
        raise _not_finite("a weight", step, found=f"{int((~torch.isfinite(sums)).sum())} tensors")


def _not_finite(what: str, step: int, *, found: str) -> LimbeckError:
    return LimbeckError(
        f"{what} is not finite",
        where=f"step {step}",
        found=found,
        do="lower the learning rate or set machine.precision = 'fp32'",
    )


def _last_checkpoint(work: Path) -> str | None:
    """Give the last whole checkpoint and drop the torn ones."""
    whole: list[tuple[int, Path]] = []
    for folder in work.glob("checkpoint-*"):
        if (folder / "complete").exists():
            whole.append((int(folder.name.rpartition("-")[2]), folder))
        else:
            shutil.rmtree(folder)
    return str(max(whole)[1]) if whole else None
