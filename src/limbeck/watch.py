"""What stands beside a training: the judge, the metrics, the checkpoints, the bar."""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import save_model
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from limbeck import processes, together
from limbeck.errors import LimbeckError


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


class Watch(TrainerCallback):
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
        self.sums: dict[str, tuple[Any, int]] = {}
        self.pieces = 0
        self.since = self.saved = self.stopped = time.monotonic()
        self.bar = Progress(
            TextColumn(f"  {name}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[told]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=processes.rank() > 0 or not sys.stderr.isatty(),
        )
        self.line = self.bar.add_task(name, total=budget.steps, told="")

    def saw(self, found: Mapping[str, Tensor], pieces: int) -> None:
        """Take note of a step's terms and of how many pieces it read.

        A step need not have every term: unlabelled text has no gold labels.
        """
        for term, value in found.items():
            seen, steps = self.sums.get(term, (0.0, 0))
            self.sums[term] = (seen + value.detach(), steps + 1)
        self.pieces += pieces

    def history(self) -> list[dict[str, float]]:
        """Give the rows of `metrics.jsonl`."""
        rows: list[dict[str, float]] = []
        if self.metrics_file.exists():
            for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    break  # a kill tore the last line
        return rows

    def _write(self, row: Mapping[str, float]) -> None:
        if processes.rank() > 0:
            return
        with self.metrics_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(dict(row)) + "\n")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Drop what was written after the checkpoint that is resumed from."""
        if processes.rank() == 0:
            self._cut_history(state.global_step)
        together.wait()
        self.since = self.saved = time.monotonic()
        # Without this the steps of an earlier process would count as done in no time.
        self.bar.reset(self.line, completed=state.global_step)
        self.bar.start()

    def _cut_history(self, step: int) -> None:
        kept = [row for row in self.history() if row["step"] <= step]
        temporary = self.metrics_file.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        temporary.replace(self.metrics_file)
        if not any("judged" in row for row in kept):
            self.best_file.unlink(missing_ok=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kept: Any) -> None:
        """Write a row, ask the judge, and ask for a checkpoint where it is time."""
        step, last = state.global_step, state.global_step == self.budget.steps
        asked = self.judge is not None and step in self.judged
        due = together.agreed(time.monotonic() - self.saved > self.checkpoint_seconds)
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
        means = {term: float(total) / steps for term, (total, steps) in self.sums.items()}
        per_second = self.pieces / max(now - self.since, 1e-9)
        self._write({"step": step, "learning_rate": rate, **means, "pieces_per_second": per_second})
        told = f"loss {sum(means.values()):.4f} · {per_second:,.0f} pieces/s"
        self.bar.update(self.line, told=told)
        self.sums, self.pieces, self.since = {}, 0, now

    def _judge(self, step: int, model: PreTrainedModel) -> None:
        assert self.judge is not None
        model.eval()
        with torch.no_grad():
            value = self.judge(model)
        model.train()
        if not math.isfinite(value):
            raise not_finite("a judgement", step, found=f"{value}")
        best = max((row["judged"] for row in self.history() if "judged" in row), default=-math.inf)
        if value > best and processes.rank() == 0:
            temporary = self.best_file.with_suffix(".tmp")
            save_model(model, str(temporary))
            temporary.replace(self.best_file)
        self._write({"step": step, "judged": value})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Declare a checkpoint whole once every process has written its part."""
        together.wait()
        if processes.rank() == 0:
            (self.work / f"checkpoint-{state.global_step}" / "complete").touch()
        self.saved = time.monotonic()
        self.since += self.saved - self.stopped


def _check_weights(model: PreTrainedModel, step: int) -> None:
    """Keep broken weights out of checkpoints: a loss is finite, its gradient need not be."""
    sums = torch.stack([tensor.detach().float().sum() for tensor in model.parameters()])
    if not torch.isfinite(sums).all():
        raise not_finite("a weight", step, found=f"{int((~torch.isfinite(sums)).sum())} tensors")


def not_finite(what: str, step: int, *, found: str) -> LimbeckError:
    """Give the error of a number that is none."""
    return LimbeckError(
        f"{what} is not finite",
        where=f"step {step}",
        found=found,
        do="lower the learning rate or set machine.precision = 'fp32'",
    )
