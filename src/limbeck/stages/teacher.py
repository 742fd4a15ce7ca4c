"""Stage teacher: the multilingual encoder tuned on the source's labels, vocabulary untouched."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.answering import ENTRY
from limbeck.artifact import file_hash
from limbeck.errors import ArtifactError, RecipeError
from limbeck.hub import content_hashes, model_folder
from limbeck.recipe import Recipe
from limbeck.stages.labels import (
    Labelled,
    labels_section,
    read_labelled,
    train_files,
    tuning_section,
)
from limbeck.stages.models import (
    keep_history,
    language_deltas,
    name_task,
    save_model,
    tune_model,
)
from limbeck.stages.record import Job, Outcome, Stage
from limbeck.tasks import TASKS
from limbeck.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _section(recipe: Recipe) -> dict[str, Any]:
    return {
        **_tuning(recipe),
        **({"source": recipe.languages.source} if recipe.adapt else {}),
        **labels_section(recipe),
        "seed": recipe.seed,
    }


def _tuning(recipe: Recipe) -> dict[str, Any]:
    if recipe.teacher.delta is not None:
        return {"tuning": "a delta", "foreign": recipe.teacher.foreign}
    read = recipe.teacher.model_dump(
        exclude={"model", "allow_remote_code", "tuning", "delta", "foreign"}
    )
    return {"tuning": read, "moves": tuning_section(recipe.teacher.tuning)}


def _outside(recipe: Recipe) -> dict[str, str]:
    found = content_hashes(model_folder(recipe.teacher.model)) | train_files(recipe)
    if recipe.teacher.delta is not None:
        if not Path(recipe.teacher.delta).is_file():
            raise RecipeError("no such delta", where="teacher.delta", found=recipe.teacher.delta)
        found["delta"] = file_hash(Path(recipe.teacher.delta))
    return found


def _run(job: Job) -> Outcome:
    from limbeck.encoder import load_encoder

    recipe, folder = job.recipe, model_folder(job.recipe.teacher.model)
    task, tokenizer = TASKS[recipe.task.kind], load_tokenizer(folder)
    data = read_labelled(recipe)
    model = load_encoder(
        folder,
        head=task.head,
        attention="sdpa",
        labels=data.labels,
        allow_remote_code=recipe.teacher.allow_remote_code,
        seed=recipe.seed,
    )
    base = _speak(job, model)
    if recipe.teacher.delta is None:
        history = tune_model(
            job, model, tokenizer, data=data, pace=recipe.teacher, base=base, name="teacher"
        )
    else:
        history = []
        _put_on(job, model, data, base=base)
    save_model(model, job.folder / "model", tokenizer_from=folder)
    counts: dict[str, Any] = {
        "train": len(data.train),
        "dev": len(data.dev),
        "notes": data.notes,
    }
    if task.count_cut is not None:
        counts["cut"] = task.count_cut(
            [*data.train, *data.dev], tokenizer, max_pieces=recipe.task.window_pieces
        )
    return Outcome(counts=counts, metrics=keep_history(job, history))


def _speak(job: Job, model: "PreTrainedModel") -> str:
    """Put the source language's delta on the model, if there is one; give the base's hash."""
    from limbeck.delta import apply
    from limbeck.delta_file import base_hash
    from limbeck.parameters import encoder_tensors

    base = base_hash(encoder_tensors(model))
    delta = language_deltas(job).get(job.recipe.languages.source)
    if delta is not None:
        apply(encoder_tensors(model), delta, foreign=True, dense=False)
    return base


def _put_on(job: Job, model: "PreTrainedModel", data: Labelled, *, base: str) -> None:
    """Put a task's delta that is at hand on the model, and keep a copy of it.

    Raises:
        LimbeckError: It is of another base or of other labels.
    """
    from limbeck.delta import apply
    from limbeck.deltas import read_delta
    from limbeck.parameters import unique_tensors
    from limbeck.sparse_tuning import DELTA

    recipe = job.recipe
    path = Path(str(recipe.teacher.delta))
    delta = read_delta(path)
    about = delta.provenance.get("config", {})
    named = about.get("id2label", {})
    labels = tuple(named[number] for number in sorted(named, key=int))
    if delta.provenance.get("task") != recipe.task.kind or labels != tuple(data.labels):
        raise RecipeError(
            "the delta is not of this task and these labels",
            where=str(path),
            found=f"{delta.provenance.get('task')}: {', '.join(labels)}",
            expected=f"{recipe.task.kind}: {', '.join(data.labels)}",
        )
    if delta.base != base and not recipe.teacher.foreign:
        raise ArtifactError(
            "the teacher is not the delta's base",
            where=str(path),
            found=base[:12],
            expected=delta.base[:12],
            do="name the model that it was made from, or set teacher.foreign",
        )
    apply(unique_tensors(model), delta, foreign=True)
    name_task(recipe, model)
    settings = about.get(ENTRY, {}).get("settings")
    if settings is not None:
        setattr(model.config, ENTRY, {**getattr(model.config, ENTRY), "settings": settings})
    delta.save(job.folder / DELTA)


STAGE = Stage("teacher", 2, ("adapt",), _section, _outside, _run)
