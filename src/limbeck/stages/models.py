"""What several stages do with models: load trimmed teachers, tune, save, keep histories."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tokenizers import Tokenizer

from limbeck.hub import model_folder
from limbeck.sections import Teacher
from limbeck.stages.labels import Labelled
from limbeck.stages.record import Job
from limbeck.task_section import Task
from limbeck.tasks import TASKS
from limbeck.tokenizer import PieceMap

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Attention = Literal["eager", "sdpa"]


def save_model(model: "PreTrainedModel", folder: Path, *, tokenizer_from: Path) -> None:
    """Save a plain Hugging Face folder: weights, config, and a tokenizer copied from a folder."""
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (tokenizer_from / name).exists():
            shutil.copyfile(tokenizer_from / name, folder / name)


def tune_model(
    job: Job,
    model: "PreTrainedModel",
    tokenizer: Tokenizer,
    *,
    data: Labelled,
    pace: Teacher | Task,
    **distillation: Any,
) -> list[dict[str, float]]:
    """Tune a task model in place on the recipe's labels.

    Args:
        data: The source's labels.
        pace: The recipe's section that says how long and how fast.
        distillation: What `finetune.tune` takes beside: `terms`, `mix`, `text_share`, `name`.

    Returns:
        The history, as `training.fit` gives it.
    """
    from limbeck.finetune import ENTRY, Lesson, Pace, tune
    from limbeck.sparse_tuning import DELTA

    recipe = job.recipe
    setattr(
        model.config, ENTRY, {"task": recipe.task.kind, "max_pieces": recipe.task.window_pieces}
    )
    history = tune(
        model,
        tokenizer,
        lesson=Lesson(
            TASKS[recipe.task.kind],
            train=data.train,
            dev=data.dev,
            labels=data.labels,
            max_pieces=recipe.task.window_pieces,
        ),
        pace=Pace(
            epochs=pace.epochs,
            batch_sentences=pace.batch_sentences,
            learning_rate=pace.learning_rate,
            evaluations=recipe.task.evaluations,
            seed=recipe.seed,
        ),
        work=job.work,
        machine=recipe.machine,
        tuning=pace.tuning,
        **distillation,
    )
    if (job.work / DELTA).exists():
        shutil.copyfile(job.work / DELTA, job.folder / DELTA)
    return history


def keep_history(job: Job, history: list[dict[str, float]]) -> dict[str, Any]:
    """Keep the training curve as `metrics.jsonl`; give the best judgement, if there was any."""
    lines = "".join(json.dumps(row) + "\n" for row in history)
    (job.folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    judged = [row["judged"] for row in history if "judged" in row]
    return {"dev": max(judged)} if judged else {}


def trimmed_teacher(job: Job, *, attention: Attention) -> "PreTrainedModel":
    """Load the untuned teacher with the recipe's vocabulary."""
    from limbeck.encoder import load_encoder
    from limbeck.student import trim_model

    kept = PieceMap.load(job.inputs["vocabulary"].path("pieces.npz")).kept
    model = load_encoder(
        model_folder(job.recipe.teacher.model),
        head="mlm",
        attention=attention,
        allow_remote_code=job.recipe.teacher.allow_remote_code,
    )
    return trim_model(model, kept)


def trimmed_tuned_teacher(job: Job, *, attention: Attention) -> "PreTrainedModel":
    """Load the teacher tuned on the task with the recipe's vocabulary."""
    from limbeck.encoder import load_encoder
    from limbeck.student import trim_model

    kept = PieceMap.load(job.inputs["vocabulary"].path("pieces.npz")).kept
    model = load_encoder(
        job.inputs["teacher"].path("model"),
        head=TASKS[job.recipe.task.kind].head,
        attention=attention,
    )
    return trim_model(model, kept)
