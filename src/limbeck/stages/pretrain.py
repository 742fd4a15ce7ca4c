"""Stage pretrain: masked language modelling from random weights."""

import json
from pathlib import Path
from typing import Any

from limbeck.artifact import write_json
from limbeck.pretrain_recipe import MODEL_FIELDS, PretrainRecipe
from limbeck.stages.models import keep_history, save_model
from limbeck.stages.record import Job, Outcome, Stage, languages_of
from limbeck.stages.text import open_corpora
from limbeck.stages.tokenizer import spelling_of
from limbeck.tokenizer import load_tokenizer


def _section(recipe: PretrainRecipe) -> dict[str, Any]:
    return {
        "model": recipe.model.model_dump(include=MODEL_FIELDS[recipe.model.architecture]),
        "training": recipe.training.model_dump(),
        "seed": recipe.seed,
    }


def _outside(recipe: PretrainRecipe) -> dict[str, str]:
    return {}


def _run(job: Job[PretrainRecipe]) -> Outcome:
    from limbeck.parameters import count_parameters
    from limbeck.pretrain import build_model, pretrain

    recipe, folder = job.recipe, job.inputs["tokenizer"].path("tokenizer")
    text = open_corpora(
        job.inputs["tokenizer"].path("blocks"),
        folder,
        languages=languages_of(recipe),
        block_pieces=recipe.training.block_pieces,
    )
    model = build_model(
        recipe.model,
        load_tokenizer(folder),
        pad=spelling_of(recipe).specials.pad,
        dropout=recipe.training.dropout,
        seed=recipe.seed,
    )
    history = pretrain(
        model,
        text=text,
        training=recipe.training,
        seed=recipe.seed,
        work=job.work,
        machine=recipe.machine,
    )
    save_model(model, job.folder / "model", tokenizer_from=folder)
    _limit(job.folder / "model" / "tokenizer_config.json", recipe.model.positions)
    kept = keep_history(job, history)
    return Outcome(
        counts={"parameters": count_parameters(model)}, metrics={"held_out_loss": -kept["dev"]}
    )


def _limit(path: Path, most_pieces: int) -> None:
    """Tell whoever truncates how many pieces the model reads."""
    config = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**config, "model_max_length": most_pieces})


STAGE = Stage("pretrain", 1, ("tokenizer",), _section, _outside, _run, together=True)
