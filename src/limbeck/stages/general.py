"""Stage general: phase 1, distillation on unlabelled text of every language."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from limbeck.blocks import Blocks, read_counts
from limbeck.errors import RecipeError
from limbeck.hub import content_hashes, model_folder
from limbeck.recipe import Recipe
from limbeck.stages.models import Attention, ends_of, keep_history, save_model, trimmed_teacher
from limbeck.stages.record import Job, Outcome, Stage, languages_of, layer_plan_of
from limbeck.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from limbeck.distil import GeneralText


def _section(recipe: Recipe) -> dict[str, Any]:
    if recipe.general.steps == 0:
        return {"steps": 0}
    return {**recipe.general.model_dump(), "seed": recipe.seed}


def _run(job: Job) -> Outcome:
    from limbeck.distil import distil_general
    from limbeck.encoder import load_encoder

    recipe, folder = job.recipe, job.inputs["student"].path("model")
    if recipe.general.steps == 0:
        shutil.copytree(folder, job.folder / "model", dirs_exist_ok=True)
        return Outcome()
    attention: Attention = "eager" if recipe.general.objective.attention else "sdpa"
    student = load_encoder(folder, head="mlm", attention=attention)
    history = distil_general(
        student,
        trimmed_teacher(job, attention=attention),
        plan=layer_plan_of(recipe),
        text=general_text(job),
        general=recipe.general,
        seed=recipe.seed,
        work=job.work,
        machine=recipe.machine,
    )
    save_model(student, job.folder / "model", tokenizer_from=folder)
    kept = keep_history(job, history)
    return Outcome(metrics={"held_out_loss": -kept["dev"]})


def general_text(job: Job) -> "GeneralText":
    """Give the packed text of every language, as phase 1 reads it.

    Raises:
        RecipeError: Masking is asked for, and the tokenizer has no mask piece.
    """
    from limbeck.distil import GeneralText

    recipe, folder = job.recipe, job.inputs["vocabulary"].path("tokenizer")
    tokenizer = load_tokenizer(folder)
    begin, _ = ends_of(tokenizer)
    packed = job.inputs["vocabulary"].path("blocks")

    def part(name: str) -> dict[str, Blocks]:
        paths = {one: packed / f"{one}.{name}" for one in languages_of(recipe)}
        return {
            one: Blocks(path, length=_block_pieces(recipe, path, name), begin=begin)
            for one, path in paths.items()
        }

    mask_id = _mask_id(folder, tokenizer)
    if mask_id < 0 and recipe.general.objective.masking:
        raise RecipeError(
            "the teacher's tokenizer has no mask piece",
            where="general.objective.masking",
            found=str(recipe.general.objective.masking),
            expected="0",
        )
    return GeneralText(
        train=part("train"),
        held_out=part("heldout"),
        mask_id=mask_id,
        special=np.array(sorted(tokenizer.get_added_tokens_decoder())),
        vocabulary_size=tokenizer.get_vocab_size(),
    )


def _block_pieces(recipe: Recipe, path: Path, part: str) -> int:
    """Give the block length; a short held-out text is one short block rather than an error."""
    length = recipe.general.block_pieces
    return min(length, read_counts(path).pieces + 1) if part == "heldout" else length


def _mask_id(folder: Path, tokenizer: Tokenizer) -> int:
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    mask = config.get("mask_token")
    name = mask.get("content") if isinstance(mask, dict) else mask
    found = tokenizer.token_to_id(name) if name else None
    return -1 if found is None else found


def _outside(recipe: Recipe) -> dict[str, str]:
    return content_hashes(model_folder(recipe.teacher.model))


STAGE = Stage("general", 1, ("vocabulary", "student"), _section, _outside, _run)
