"""Stage teacher: the multilingual encoder tuned on the source's labels, vocabulary untouched."""

from typing import Any

from limbeck.hub import content_hashes, model_folder
from limbeck.recipe import Recipe
from limbeck.stages.labels import labels_section, read_labelled, train_files, tuning_section
from limbeck.stages.models import keep_history, save_model, tune_model
from limbeck.stages.record import Job, Outcome, Stage
from limbeck.tasks import TASKS
from limbeck.tokenizer import load_tokenizer


def _section(recipe: Recipe) -> dict[str, Any]:
    return {
        "tuning": recipe.teacher.model_dump(exclude={"model", "allow_remote_code", "tuning"}),
        "moves": tuning_section(recipe.teacher.tuning),
        **labels_section(recipe),
        "seed": recipe.seed,
    }


def _outside(recipe: Recipe) -> dict[str, str]:
    return content_hashes(model_folder(recipe.teacher.model)) | train_files(recipe)


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
    history = tune_model(job, model, tokenizer, data=data, pace=recipe.teacher, name="teacher")
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


STAGE = Stage("teacher", 2, (), _section, _outside, _run)
