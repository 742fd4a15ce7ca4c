"""Stage student: the trimmed, shallower model as it is before any training."""

from typing import Any

import numpy as np

from limbeck.artifact import write_json
from limbeck.hub import content_hashes, model_folder
from limbeck.recipe import Recipe
from limbeck.stages.models import save_model, trimmed_teacher
from limbeck.stages.record import Job, Outcome, Stage, languages_of, layer_plan_of
from limbeck.stages.text import open_corpora

_READ_PIECES = 32_768
"""Of text, by which neurons are chosen: ten for each neuron of a base model's blocks."""


def _section(recipe: Recipe) -> dict[str, Any]:
    random = recipe.student.init == "random"
    share = recipe.student.neurons_share
    read = {} if random else {"block_pieces": recipe.general.block_pieces}
    return {
        "plan": list(layer_plan_of(recipe)),
        "init": recipe.student.init,
        **({"seed": recipe.seed} if random else {}),
        # These stand only where something is left out: students made before keep their keys.
        **({"feed_forward": share, **read} if share < 1 else {}),
    }


def _outside(recipe: Recipe) -> dict[str, str]:
    return content_hashes(model_folder(recipe.teacher.model))


def _run(job: Job) -> Outcome:
    from limbeck.narrowing import narrow
    from limbeck.parameters import count_parameters
    from limbeck.student import build_student

    recipe = job.recipe
    teacher = trimmed_teacher(job, attention="sdpa")
    plan = layer_plan_of(recipe)
    student = build_student(teacher, plan, init=recipe.student.init, seed=recipe.seed)
    if recipe.student.neurons_share < 1:
        is_drawn = recipe.student.init == "random"
        moments = None if is_drawn else _moments(job, teacher, plan)
        student = narrow(student, recipe.student.neurons_share, moments)
    tokenizer = job.inputs["vocabulary"].path("tokenizer")
    save_model(student.model, job.folder / "model", tokenizer_from=tokenizer)
    write_json(job.folder / "origin.json", student.origin)
    return Outcome(
        counts={
            "plan": list(plan),
            "trimmed_teacher": count_parameters(teacher),
            "student": count_parameters(student.model),
        }
    )


def _moments(job: Job, teacher: Any, plan: tuple[int, ...]) -> list[Any]:
    """Give the moments of the planned layers' neurons on text of every language, equal parts."""
    import torch

    from limbeck.narrowing import neuron_moments
    from limbeck.training import choose_device

    vocabulary, languages = job.inputs["vocabulary"], languages_of(job.recipe)
    length = job.recipe.general.block_pieces
    texts = open_corpora(
        vocabulary.path("blocks"),
        vocabulary.path("tokenizer"),
        languages=languages,
        block_pieces=length,
    ).train
    each = max(1, _READ_PIECES // (length * len(languages)))
    batches = (
        torch.from_numpy(blocks.block(int(number)))[None]
        for blocks in texts.values()
        for number in np.unique(np.linspace(0, len(blocks) - 1, each).astype(int))
    )
    teacher.to(choose_device(job.recipe.machine.device))
    return neuron_moments(teacher, plan, batches)


STAGE = Stage("student", 1, ("vocabulary",), _section, _outside, _run)
