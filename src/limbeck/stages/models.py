"""What several stages do with models: load trimmed teachers, tune, save, keep histories."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tokenizers import Tokenizer

import limbeck
from limbeck.answering import ENTRY
from limbeck.hub import model_folder
from limbeck.piece_map import PieceMap
from limbeck.recipe import Recipe
from limbeck.sections import Teacher, Tuning
from limbeck.stages.labels import Labelled, tuning_section
from limbeck.stages.record import AnyRecipe, Job, languages_of
from limbeck.task_section import Task
from limbeck.tasks import TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from limbeck.delta import SparseDelta
    from limbeck.language_switch import LanguageSwitch

NO_LANGUAGE = "-"
"""To `swapped_teacher`: the task's delta, and no language's."""
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
    base: str | None = None,
    **distillation: Any,
) -> list[dict[str, float]]:
    """Tune a task model in place on the recipe's labels.

    Args:
        data: The source's labels.
        pace: The recipe's section that says how long and how fast.
        base: Of a sparse tuning: hash of the model without the language's delta that is on it.
        distillation: What `finetune.tune` takes beside: `terms`, `mix`, `text_share`, `name`.

    Returns:
        The history, as `training.fit` gives it.
    """
    from limbeck.delta import SparseDelta
    from limbeck.finetune import Lesson, Pace, tune
    from limbeck.sparse_tuning import DELTA

    recipe = job.recipe
    name_task(recipe, model)
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
        delta = SparseDelta.load(job.work / DELTA)
        told = _about_task(recipe, model) | provenance(
            recipe, tuning=pace.tuning, model=recipe.teacher.model
        )
        replace(delta, base=base or delta.base, provenance=told).save(job.folder / DELTA)
    return history


def name_task(recipe: Recipe, model: "PreTrainedModel") -> None:
    """Write into a model's config what it answers, so that it can be asked alone."""
    about = {"task": recipe.task.kind, "max_pieces": recipe.task.window_pieces}
    setattr(model.config, ENTRY, about)


def _about_task(recipe: Recipe, model: "PreTrainedModel") -> dict[str, Any]:
    """Give what a base needs to become this task's model once the delta is on it."""
    config = {
        "architectures": [type(model).__name__],
        "id2label": {str(number): label for number, label in (model.config.id2label or {}).items()},
        "label2id": model.config.label2id,
        ENTRY: getattr(model.config, ENTRY),
    }
    return {
        "kind": "task",
        "task": recipe.task.kind,
        "languages": recipe.train_languages,
        "config": config,
    }


def provenance(recipe: AnyRecipe, *, tuning: Tuning, model: str) -> dict[str, Any]:
    """Give where a delta comes from, for people."""
    return {
        "made_by": f"limbeck {limbeck.__version__}",
        "model": Path(model).name,
        "tuning": tuning_section(tuning),
        "seed": recipe.seed,
    }


def keep_history(job: Job, history: list[dict[str, float]]) -> dict[str, Any]:
    """Keep the training curve as `metrics.jsonl`; give the best judgement, if there was any."""
    lines = "".join(json.dumps(row) + "\n" for row in history)
    (job.folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    judged = [row["judged"] for row in history if "judged" in row]
    return {"dev": max(judged)} if judged else {}


def delta_file(language: str) -> str:
    """Give the name of a language's delta in the artifact of stage adapt."""
    return f"{language}.delta.safetensors"


def language_deltas(job: Job) -> dict[str, "SparseDelta"]:
    """Give the teacher's language deltas; none where the recipe does not adapt it."""
    from limbeck.delta import SparseDelta

    if "adapt" not in job.inputs:
        return {}
    return {
        one: SparseDelta.load(job.inputs["adapt"].path(delta_file(one)))
        for one in languages_of(job.recipe)
    }


def _kept(job: Job) -> Any:
    """Give the old ids of the pieces that the recipe's vocabulary keeps."""
    return PieceMap.load(job.inputs["vocabulary"].path("pieces.npz")).kept


def trimmed_teacher(job: Job, *, attention: Attention) -> "PreTrainedModel":
    """Load the untuned teacher with the recipe's vocabulary."""
    from limbeck.student import trim_model

    return trim_model(_whole_teacher(job, attention=attention), _kept(job))


def speaking_teacher(
    job: Job, *, attention: Attention
) -> "tuple[PreTrainedModel, LanguageSwitch | None]":
    """Load the trimmed teacher on its device, and what turns it to a language, if it has deltas."""
    from limbeck.language_switch import LanguageSwitch
    from limbeck.parameters import encoder_tensors
    from limbeck.student import trim_delta, trim_model
    from limbeck.training import choose_device

    whole, kept = _whole_teacher(job, attention=attention), _kept(job)
    teacher = trim_model(whole, kept)
    teacher.to(choose_device(job.recipe.machine.device))  # type: ignore[arg-type]
    deltas = {one: trim_delta(delta, whole, kept) for one, delta in language_deltas(job).items()}
    if not deltas:
        return teacher, None
    return teacher, LanguageSwitch(encoder_tensors(teacher), deltas, foreign=True)


def _whole_teacher(job: Job, *, attention: Attention) -> "PreTrainedModel":
    from limbeck.encoder import load_encoder

    return load_encoder(
        model_folder(job.recipe.teacher.model),
        head="mlm",
        attention=attention,
        allow_remote_code=job.recipe.teacher.allow_remote_code,
    )


def swapped_teacher(job: Job) -> "tuple[PreTrainedModel, LanguageSwitch] | None":
    """Load the base with the task's delta, and what puts a language's on in the source's stead.

    Returns:
        The model, and its switch, which knows every language of the recipe and `NO_LANGUAGE`, the
        task's delta alone. None where the teacher has no language deltas or no task delta.
    """
    import torch

    from limbeck.delta import SparseDelta
    from limbeck.delta_arithmetic import add
    from limbeck.encoder import load_encoder
    from limbeck.language_switch import LanguageSwitch
    from limbeck.parameters import encoder_tensors
    from limbeck.sparse_tuning import DELTA
    from limbeck.training import choose_device

    deltas, folder = language_deltas(job), job.inputs["teacher"].folder
    if not deltas or not (folder / DELTA).exists():
        return None
    task = replace(SparseDelta.load(folder / DELTA), dense={})
    model = load_encoder(folder / "model", head=TASKS[job.recipe.task.kind].head, attention="sdpa")
    model.to(choose_device(job.recipe.machine.device))  # type: ignore[arg-type]
    base = encoder_tensors(_whole_teacher(job, attention="sdpa"))
    with torch.no_grad():
        for name, one in encoder_tensors(model).items():
            one.copy_(base[name])
    both = {language: add(delta, task, foreign=True) for language, delta in deltas.items()}
    switch = LanguageSwitch(encoder_tensors(model), {**both, NO_LANGUAGE: task}, foreign=True)
    return model, switch


def trimmed_tuned_teacher(job: Job, *, attention: Attention) -> "PreTrainedModel":
    """Load the teacher tuned on the task with the recipe's vocabulary."""
    from limbeck.encoder import load_encoder
    from limbeck.student import trim_model

    model = load_encoder(
        job.inputs["teacher"].path("model"),
        head=TASKS[job.recipe.task.kind].head,
        attention=attention,
    )
    return trim_model(model, _kept(job))
