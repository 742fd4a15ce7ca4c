"""One training loop for every phase: `fit`, the only importer of `transformers.Trainer`.

A step's batch is a pure function of the step, so a killed run resumes at its last checkpoint and
ends with the same weights.
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from limbeck.architectures import architecture_of
from limbeck.encoder import base_encoder
from limbeck.errors import LimbeckError
from limbeck.recipe import Machine

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
        LimbeckError: It is not there.
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
    return device


def choose_precision(wanted: str, device: torch.device, config: PretrainedConfig) -> Precision:
    """Decide on bf16 autocast: only where the machine has units for it and the model bears it.

    A CPU without AMX emulates bf16 products hundreds of times slower (results/machine.md).
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
        judge: Higher is better, ties go to the earlier; asked `budget.evaluations` times.

    Returns:
        What was logged: step, learning rate, each term, seconds; and each judgement.
    """
    work.mkdir(parents=True, exist_ok=True)
    device = choose_device(machine.device)
    precision = choose_precision(machine.precision, device, model.config)
    log.info("%s: %d steps on %s, %s", name, budget.steps, device, precision.reason)
    if should_compile(machine.compile, device, budget.steps):
        base_encoder(model).compile()
    watch = _Watch(work, budget, judge, name, machine.checkpoint_seconds)
    trainer = _TermsTrainer(
        model=model,
        args=_arguments(work, budget, machine, device, precision),
        train_dataset=_Steps(batches, budget.steps),
        data_collator=_only,
        callbacks=[watch],
        terms=terms,
        watch=watch,
    )
    for callback in _quiet_callbacks():
        trainer.remove_callback(callback)
    trainer.train(resume_from_checkpoint=_last_checkpoint(work))
    if watch.best_file.exists() and judge is not None:
        model.load_state_dict(load_file(watch.best_file), strict=False)
    model.eval()
    return watch.history()


def _arguments(
    work: Path, budget: Budget, machine: Machine, device: torch.device, precision: Precision
) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(work),
        max_steps=budget.steps,
        per_device_train_batch_size=1,
        learning_rate=budget.learning_rate,
        warmup_steps=math.ceil(budget.warmup * budget.steps),
        lr_scheduler_type="linear",
        weight_decay=budget.weight_decay,
        max_grad_norm=1.0,
        bf16=precision.autocast,
        use_cpu=device.type == "cpu",
        seed=budget.seed,
        data_seed=budget.seed,
        save_strategy="no",
        save_total_limit=2,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
    )


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
        return SequentialSampler(train_dataset or self.train_dataset)

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, **_: Any
    ) -> Tensor:
        found = self.terms(model, inputs)
        total = torch.stack(list(found.values())).sum()
        if not torch.isfinite(total):
            worst = ", ".join(f"{k}={v.item():.3g}" for k, v in found.items())
            raise LimbeckError(
                "the loss is not finite",
                where=f"step {self.state.global_step}",
                found=worst,
                do="lower the learning rate or set machine.precision = 'fp32'",
            )
        self.watch.saw(found, inputs["input_ids"].numel())
        return total


class _Watch(TrainerCallback):
    """Asks the judge, writes metrics and checkpoints, draws the bar."""

    def __init__(
        self,
        work: Path,
        budget: Budget,
        judge: Callable[[Any], float] | None,
        name: str,
        checkpoint_seconds: float,
    ):
        self.work, self.budget, self.judge, self.name = work, budget, judge, name
        self.best_file = work / "best.safetensors"
        self.metrics_file = work / "metrics.jsonl"
        self.every = max(1, budget.steps // 50)
        self.judged = {
            math.ceil(budget.steps * (i + 1) / budget.evaluations)
            for i in range(budget.evaluations)
        }
        self.sums: dict[str, float] = {}
        self.steps_seen, self.pieces = 0, 0
        self.started = self.saved = time.monotonic()
        self.checkpoint_seconds = checkpoint_seconds
        self.bar = Progress(
            TextColumn(f"  {name}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[told]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not Console(stderr=True).is_terminal,
        )
        self.line = self.bar.add_task(name, total=budget.steps, told="")

    def saw(self, found: Mapping[str, Tensor], pieces: int) -> None:
        for term, value in found.items():
            self.sums[term] = self.sums.get(term, 0.0) + float(value.detach())
        self.steps_seen += 1
        self.pieces += pieces

    def history(self) -> list[dict[str, float]]:
        if not self.metrics_file.exists():
            return []
        return [json.loads(line) for line in self.metrics_file.read_text().splitlines()]

    def _write(self, row: Mapping[str, float]) -> None:
        with self.metrics_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(dict(row)) + "\n")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        kept = [row for row in self.history() if row["step"] <= state.global_step]
        self.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self.started = self.saved = time.monotonic()
        self.bar.start()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.stop()

    def on_step_end(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        step = state.global_step
        if step % self.every == 0 or step == self.budget.steps:
            self._log(step, kept["lr_scheduler"].get_last_lr()[0])
        if self.judge is not None and step in self.judged:
            self._judge(step, kept["model"])
        self.bar.update(self.line, completed=step)
        if time.monotonic() - self.saved > self.checkpoint_seconds:
            control.should_save = True

    def _log(self, step: int, rate: float) -> None:
        seconds = time.monotonic() - self.started
        means = {term: total / max(1, self.steps_seen) for term, total in self.sums.items()}
        per_second = self.pieces / max(seconds, 1e-9)
        self._write({"step": step, "learning_rate": rate, **means, "pieces_per_second": per_second})
        told = f"loss {sum(means.values()):.4f} · {per_second:,.0f} pieces/s"
        self.bar.update(self.line, told=told)
        self.sums, self.steps_seen = {}, 0

    def _judge(self, step: int, model: Any) -> None:
        assert self.judge is not None
        model.eval()
        value = self.judge(model)
        model.train()
        best = max((row["judged"] for row in self.history() if "judged" in row), default=-math.inf)
        self._write({"step": step, "judged": value})
        if value > best:
            temporary = self.best_file.with_suffix(".tmp")
            save_file({k: v.contiguous() for k, v in _own_tensors(model).items()}, temporary)
            temporary.replace(self.best_file)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        (self.work / f"checkpoint-{state.global_step}" / "complete").touch()
        self.saved = time.monotonic()


def _own_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Give the state dict without the second names of tied tensors."""
    seen: set[int] = set()
    own = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            own[name] = tensor
    return own


def _last_checkpoint(work: Path) -> str | None:
    """Give the last whole checkpoint and drop the torn ones."""
    whole: list[tuple[int, Path]] = []
    for folder in work.glob("checkpoint-*"):
        if (folder / "complete").exists():
            whole.append((int(folder.name.rpartition("-")[2]), folder))
        else:
            shutil.rmtree(folder)
    return str(max(whole)[1]) if whole else None


def _quiet_callbacks() -> list[type[TrainerCallback]]:
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    return [PrinterCallback, ProgressCallback]
