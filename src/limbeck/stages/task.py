"""Stage task: phase 2, the task learned from the source's labels and the tuned teacher."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from limbeck.corpus import read_texts
from limbeck.recipe import Recipe
from limbeck.stages.labels import labels_section, read_labelled, train_files, tuning_section
from limbeck.stages.models import (
    Attention,
    keep_history,
    save_model,
    trimmed_tuned_teacher,
    tune_model,
)
from limbeck.stages.record import Job, Outcome, Stage, layer_plan_of
from limbeck.task_section import OBJECTIVE_FIELDS
from limbeck.tasks import TASKS
from limbeck.tasks.windows import Window
from limbeck.tokenizer import load_tokenizer

_MOST_TEXTS = 20_000
"""Texts a target: more than phase 2 reads, and encoded in seconds."""


def _section(recipe: Recipe) -> dict[str, Any]:
    task = recipe.task
    objective, share = task.objective, task.objective.text_share
    text = {"text_languages": recipe.languages.targets} if share else {}
    return {
        **labels_section(recipe),
        **task.model_dump(
            exclude={"benchmark", "objective", "train_language", "max_pieces", "tuning"}
        ),
    } | {
        "objective": objective.model_dump(include=OBJECTIVE_FIELDS[objective.kind])
        | {"text": share},
        "plan": list(layer_plan_of(recipe)),
        "tuning": tuning_section(task.tuning),
        "seed": recipe.seed,
        **text,
    }


def _outside(recipe: Recipe) -> dict[str, str]:
    return train_files(recipe)


def _run(job: Job) -> Outcome:
    from limbeck.distil import TASK_OBJECTIVES, TermsOf
    from limbeck.encoder import load_encoder
    from limbeck.student import copy_head
    from limbeck.training import choose_device

    recipe, objective = job.recipe, job.recipe.task.objective
    task = TASKS[recipe.task.kind]
    data = read_labelled(recipe)
    maps = objective.kind == "bistil" and objective.attention > 0
    attention: Attention = "eager" if maps else "sdpa"
    student = load_encoder(
        job.inputs["general"].path("model"),
        head=task.head,
        attention=attention,
        labels=data.labels,
        seed=recipe.seed,
    )
    tokenizer = load_tokenizer(job.inputs["vocabulary"].path("tokenizer"))
    terms: TermsOf | None = None
    if objective.kind != "labels":
        teacher = trimmed_tuned_teacher(job, attention=attention)
        teacher.to(choose_device(recipe.machine.device))  # type: ignore[arg-type]
        terms = TASK_OBJECTIVES[objective.kind](
            objective, teacher, layer_plan_of(recipe), task.head
        )
        if recipe.task.head == "teacher":
            copy_head(teacher, student)
    mix = _text_mix(job, tokenizer, pad_id=student.config.pad_token_id or 0)
    history = tune_model(
        job,
        student,
        tokenizer,
        data=data,
        pace=recipe.task,
        terms=terms,
        mix=mix,
        text_share=objective.text_share if mix else 0.0,
        name="task",
    )
    save_model(
        student, job.folder / "model", tokenizer_from=job.inputs["vocabulary"].path("tokenizer")
    )
    return Outcome(metrics=keep_history(job, history))


def _text_mix(job: Job, tokenizer: Tokenizer, *, pad_id: int) -> Callable[..., Any] | None:
    """Give the weaver of the targets' unlabelled text, or nothing where none can be asked.

    A step of text holds about as many pieces as a step of labelled sentences, which are shorter.
    """
    from limbeck.distil import weave_text
    from limbeck.finetune import window_batches

    task, seed = job.recipe.task, job.recipe.seed
    share = task.objective.text_share
    if not share:
        return None
    record = TASKS[task.kind]
    examples = []
    for language in job.recipe.languages.targets:
        path = job.inputs["corpus"].path(f"{language}.train.txt")
        for line in _sample(read_texts(path), count=_MOST_TEXTS, seed=seed):
            examples.append(record.from_text(line, str(path)))
    asked = [one for one in examples if one is not None]
    if not asked:
        return None
    windows = record.encode(asked, tokenizer, None, max_pieces=task.window_pieces)

    def weave(labelled: Callable[[int], Any], tagged: Sequence[Window]) -> Callable[[int], Any]:
        shorter = _mean_pieces(tagged) / max(1.0, _mean_pieces(windows))
        batch = max(1, round(task.batch_sentences * shorter))
        text = window_batches(windows, batch=batch, seed=seed, pad_id=pad_id)
        return weave_text(labelled, text, share)

    return weave


def _mean_pieces(windows: Sequence[Window]) -> float:
    return sum(len(one.pieces) for one in windows) / max(1, len(windows))


def _sample(texts: Iterator[str], *, count: int, seed: int) -> list[str]:
    """Give at most `count` texts, each as likely as any other (reservoir sampling)."""
    draw = np.random.default_rng(seed)
    chosen: list[str] = []
    for seen, text in enumerate(texts):
        if seen < count:
            chosen.append(text)
        elif (place := int(draw.integers(seen + 1))) < count:
            chosen[place] = text
    return chosen


STAGE = Stage("task", 3, ("corpus", "vocabulary", "teacher", "general"), _section, _outside, _run)
