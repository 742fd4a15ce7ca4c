"""Stage general: phase 1, distillation on unlabelled text of every language."""

import shutil
from typing import Any

from limbeck.blocks import PackedText
from limbeck.errors import RecipeError
from limbeck.hub import content_hashes, model_folder
from limbeck.recipe import Recipe
from limbeck.sections import GENERAL_FIELDS
from limbeck.stages.models import Attention, keep_history, save_model, speaking_teacher
from limbeck.stages.record import Job, Outcome, Stage, languages_of, layer_plan_of
from limbeck.stages.text import open_corpora


def _section(recipe: Recipe) -> dict[str, Any]:
    if recipe.general.steps == 0:
        return {"steps": 0}
    objective = recipe.general.objective
    read = objective.model_dump(include=GENERAL_FIELDS[objective.kind])
    return {**recipe.general.model_dump(), "objective": read, "seed": recipe.seed}


def _run(job: Job[Recipe]) -> Outcome:
    from limbeck.distil import distil_general
    from limbeck.encoder import load_encoder

    recipe, folder = job.recipe, job.inputs["student"].path("model")
    if recipe.general.steps == 0:
        shutil.copytree(folder, job.folder / "model", dirs_exist_ok=True)
        return Outcome()
    objective = recipe.general.objective
    maps = objective.kind == "bistil" and objective.attention > 0
    attention: Attention = "eager" if maps else "sdpa"
    student = load_encoder(folder, head="mlm", attention=attention)
    alone = objective.kind == "mlm"
    teacher, switch = (None, None) if alone else speaking_teacher(job, attention=attention)
    history = distil_general(
        student,
        teacher,
        plan=layer_plan_of(recipe),
        text=general_text(job),
        general=recipe.general,
        seed=recipe.seed,
        work=job.work,
        machine=recipe.machine,
        speak=None if switch is None else switch.to,
    )
    save_model(student, job.folder / "model", tokenizer_from=folder)
    kept = keep_history(job, history)
    return Outcome(metrics={"held_out_loss": -kept["dev"]})


def general_text(job: Job[Recipe]) -> PackedText:
    """Give the packed text of every language, as phase 1 reads it.

    Raises:
        RecipeError: Masking is asked for, and the tokenizer has no mask piece.
    """
    recipe, vocabulary = job.recipe, job.inputs["vocabulary"]
    text = open_corpora(
        vocabulary.path("blocks"),
        vocabulary.path("tokenizer"),
        languages=languages_of(recipe),
        block_pieces=recipe.general.block_pieces,
    )
    check_mask_piece(recipe, text.mask_id)
    return text


def check_mask_piece(recipe: Recipe, mask_id: int) -> None:
    """Refuse masking where there is no mask piece, an id below 0.

    Raises:
        RecipeError: So it is.
    """
    general = recipe.general
    if mask_id < 0 and general.steps and general.objective.masking:
        raise RecipeError(
            "the teacher's tokenizer has no mask piece",
            where="general.objective.masking",
            found=str(general.objective.masking),
            expected="objective bistil with masking 0, or a teacher with a mask piece",
        )


def _outside(recipe: Recipe) -> dict[str, str]:
    return content_hashes(model_folder(recipe.teacher.model))


STAGE = Stage("general", 1, ("vocabulary", "student", "adapt"), _section, _outside, _run)
