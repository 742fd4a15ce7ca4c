"""Task tuning and task predictions: windows in, a tuned model or its scores out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from limbeck.answering import (
    ENTRY,
    Examples,
    TaskModel,
    decoded,
    in_parts,
    outputs_by,
    settled,
    side_by_side,
)
from limbeck.errors import DataError
from limbeck.evaluate import score
from limbeck.heads import HEADS, Answers, head_logits
from limbeck.losses import gold_cross_entropy
from limbeck.sections import Machine, Tuning
from limbeck.sparse import Hold
from limbeck.sparse_tuning import TermsOf, both, tune_with
from limbeck.tasks import Task
from limbeck.tasks.windows import Window
from limbeck.training import Batch, Budget, Terms, choose_device, fit

_CHUNK = 32
"""Batches whose windows are sorted by length together: little padding, still well shuffled."""

ALL = Tuning()
"""All parameters move."""


def pad(windows: Sequence[Window], pad_id: int) -> Batch:
    """Put windows into one batch of tensors; see `answering.side_by_side`."""
    found = side_by_side(windows, pad_id)
    return {name: torch.from_numpy(table) for name, table in found.items()}


def window_batches(
    windows: Sequence[Window], *, batch: int, seed: int, pad_id: int
) -> Callable[[int], Batch]:
    """Give a pure function of the step: shuffled batches of windows of like length.

    Args:
        windows: What to learn from; every epoch visits each once, in a fresh order.
        batch: Windows a step; one batch of an epoch may be smaller.

    Raises:
        DataError: There is no window.
    """
    if not windows:
        raise DataError("nothing to learn from", found="no sentence", expected="one or more")
    lengths = np.array([len(window.pieces) for window in windows])
    per_epoch = -(-len(windows) // batch)

    @lru_cache(maxsize=2)
    def order(epoch: int) -> list[np.ndarray]:
        draw = np.random.default_rng([seed, epoch])
        shuffled = draw.permutation(len(windows))
        batches = []
        for start in range(0, len(shuffled), batch * _CHUNK):
            chunk = shuffled[start : start + batch * _CHUNK]
            chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
            batches += [chunk[i : i + batch] for i in range(0, len(chunk), batch)]
        return [batches[i] for i in draw.permutation(len(batches))]

    def at(step: int) -> Batch:
        epoch, place = divmod(step, per_epoch)
        return pad([windows[i] for i in order(epoch)[place]], pad_id)

    return at


def exact_share(share: float) -> Fraction:
    """Give the decimal that a recipe wrote, so that a share of many steps is counted exactly."""
    return Fraction(share).limit_denominator(1_000_000)


def label_terms(head: str) -> Callable[[PreTrainedModel, Batch], Terms]:
    """Give the loss of plain tuning: the cross-entropy of each answer with the gold one."""
    record = HEADS[head]

    def terms(model: PreTrainedModel, batch: Batch) -> Terms:
        scores = record.scores(model, head_logits(model, batch), batch)
        return {"gold": gold_term(record.answers(scores, batch, None), record.gold(batch))}

    return terms


def gold_term(answers: Answers, gold: Answers) -> torch.Tensor:
    """Give the mean cross-entropy of known gold answers, summed over kinds of answers."""
    found = []
    for name, rows in answers.items():
        known = gold[name] >= 0
        found.append(gold_cross_entropy(rows[known], gold[name][known]))
    return torch.stack(found).sum()


def outputs_of(
    model: PreTrainedModel,
    windows: Sequence[Window],
    *,
    head: str,
    device: torch.device | str = "cpu",
    batch_pieces: int = 8192,
) -> list[np.ndarray]:
    """Give the head's scores of every window, float32, in the windows' order.

    The model is moved to the device and stays there, in the mode it was in.

    Args:
        head: A key of `HEADS`: it decides each array's shape, such as [T, C] for "tagging".
    """
    record, was_training = HEADS[head], model.training
    model.eval().to(device)  # type: ignore[arg-type]

    def run(batch: dict[str, np.ndarray]) -> np.ndarray:
        moved = {name: torch.from_numpy(one).to(device) for name, one in batch.items()}
        found = record.scores(model, head_logits(model, moved), moved)
        return found.float().cpu().numpy()  # type: ignore[no-any-return]

    with torch.inference_mode():
        found = outputs_by(
            run,
            windows,
            head=head,
            pad_id=model.config.pad_token_id or 0,
            batch_pieces=batch_pieces,
        )
    model.train(was_training)
    return found


def task_model(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    *,
    task: Task,
    labels: Sequence[str],
    max_pieces: int,
    device: torch.device | str = "cpu",
) -> TaskModel:
    """Give a torch model as what answers the task, settled as it was calibrated."""
    return TaskModel(
        task,
        tokenizer,
        tuple(labels),
        max_pieces,
        partial(outputs_of, model, head=task.head, device=device),
        getattr(model.config, ENTRY, {}).get("settings") or {},
    )


def predict(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    *,
    task: Task,
    examples: Examples,
    labels: Sequence[str],
    max_pieces: int,
    device: torch.device | str = "cpu",
) -> list[Any]:
    """Give one prediction an example: encode, run, decode, settle as the model was calibrated."""
    asked = task_model(
        model, tokenizer, task=task, labels=labels, max_pieces=max_pieces, device=device
    )
    return asked.answer(examples)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is to be learned, and from what.

    Args:
        task: A record of `TASKS`.
        train: Examples with gold labels to learn from.
        dev: Examples with gold labels that select the weights; the source's, never a target's.
        labels: The label set, in the order of the model's outputs.
        max_pieces: The longest window.
    """

    task: Task
    train: Examples
    dev: Examples
    labels: Sequence[str]
    max_pieces: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how fast.

    Args:
        epochs: Passes over the labelled sentences.
        batch_sentences: Windows a step.
        learning_rate: Peak rate of AdamW.
        evaluations: How often the dev set is scored.
        seed: Of the order of the sentences.
    """

    epochs: float
    batch_sentences: int
    learning_rate: float
    evaluations: int
    seed: int


def judge_of(
    lesson: Lesson, tokenizer: Tokenizer, *, device: torch.device
) -> Callable[[PreTrainedModel], float]:
    """Give a function that scores a model on the lesson's dev set: the task's primary metric."""
    task, dev, labels = lesson.task, lesson.dev, lesson.labels
    parts = list(in_parts(task, dev, tokenizer, max_pieces=lesson.max_pieces))

    def judge(model: PreTrainedModel) -> float:
        outputs = partial(outputs_of, model, head=task.head, device=device)
        found = decoded(parts, outputs, task=task, labels=labels)
        if task.calibrate is not None:
            found = settled(task, found, task.calibrate(dev, found))
        return score(task, dev, found, language="dev", resamples=1).metrics[task.primary]

    return judge


def tune(
    model: PreTrainedModel,
    tokenizer: Tokenizer,
    *,
    lesson: Lesson,
    pace: Pace,
    work: Path,
    machine: Machine,
    terms: Callable[[PreTrainedModel, Batch], Terms] | None = None,
    mix: Callable[[Callable[[int], Batch], Sequence[Window]], Callable[[int], Batch]] | None = None,
    text_share: float = 0.0,
    tuning: Tuning = ALL,
    name: str = "task",
) -> list[dict[str, float]]:
    """Tune a task model in place and keep its best weights on the source's dev set.

    Args:
        terms: The loss; plain tuning unless a distillation objective is given.
        mix: Weaves other batches between the labelled ones, whose windows it is given too.
        text_share: Share of the steps that `mix` adds; the labelled ones stay `epochs` passes.
        tuning: Which parameters move. Of a sparse tuning the difference is written to
            `work / DELTA`.

    Returns:
        The training history, as `training.fit` gives it.
    """
    windows = lesson.task.encode(
        lesson.train, tokenizer, lesson.labels, max_pieces=lesson.max_pieces
    )
    batch, seed = pace.batch_sentences, pace.seed
    batches = window_batches(windows, batch=batch, seed=seed, pad_id=model.config.pad_token_id or 0)
    labelled = max(1, round(pace.epochs * -(-len(windows) // batch)))
    budget = Budget(
        steps=int(labelled / (1 - exact_share(text_share))),
        learning_rate=pace.learning_rate,
        seed=seed,
        evaluations=pace.evaluations,
    )
    batches_of = mix(batches, windows) if mix else batches
    device = choose_device(machine.device)
    judge = judge_of(lesson, tokenizer, device=device)
    learned = terms or label_terms(lesson.task.head)

    def run(folder: Path, hold: Hold | None, more: TermsOf | None) -> list[dict[str, float]]:
        return fit(
            model,
            batches_of,
            terms=both(learned, more),
            budget=budget,
            work=folder,
            machine=machine,
            judge=judge,
            hold=hold,
            name=name,
        )

    model.to(device)  # type: ignore[arg-type]
    history = tune_with(model, run, tuning=tuning, work=work, seed=seed)
    calibrate(model, tokenizer, lesson=lesson, device=device)
    return history


def calibrate(
    model: PreTrainedModel, tokenizer: Tokenizer, *, lesson: Lesson, device: torch.device
) -> None:
    """Choose what the task's predictions are settled by, on the dev set; keep it in the config."""
    if lesson.task.calibrate is None:
        return
    about = {
        name: one for name, one in getattr(model.config, ENTRY, {}).items() if name != "settings"
    }
    setattr(model.config, ENTRY, about)
    found = predict(
        model,
        tokenizer,
        task=lesson.task,
        examples=lesson.dev,
        labels=lesson.labels,
        max_pieces=lesson.max_pieces,
        device=device,
    )
    settings = lesson.task.calibrate(lesson.dev, found)
    setattr(model.config, ENTRY, {**about, "settings": settings})
