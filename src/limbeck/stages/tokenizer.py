"""Stage tokenizer: trained on the corpora, which are then packed with it."""

from functools import partial
from typing import Any

from limbeck.corpus import read_texts
from limbeck.pretrain_recipe import PretrainRecipe
from limbeck.stages.record import Job, Outcome, Stage, languages_of
from limbeck.stages.text import pack_corpora
from limbeck.tokenizer import load_tokenizer
from limbeck.tokenizer_training import Spelling, save_tokenizer, train_tokenizer


def spelling_of(recipe: PretrainRecipe) -> Spelling:
    """Give what kind of tokenizer the recipe asks for."""
    wanted = recipe.tokenizer
    return Spelling(
        wanted.kind,
        wanted.pieces,
        normaliser=wanted.normaliser,
        lowercase=wanted.lowercase,
        coverage=wanted.coverage,
    )


def _section(recipe: PretrainRecipe) -> dict[str, Any]:
    return recipe.tokenizer.model_dump()


def _outside(recipe: PretrainRecipe) -> dict[str, str]:
    return {}


def _run(job: Job[PretrainRecipe]) -> Outcome:
    recipe, texts = job.recipe, job.inputs["corpus"]
    tokenizer = train_tokenizer(
        {one: partial(read_texts, texts.path(f"{one}.train.txt")) for one in languages_of(recipe)},
        spelling_of(recipe),
        exponent=recipe.tokenizer.sampling_exponent,
        most_characters=recipe.tokenizer.characters,
    )
    folder = job.folder / "tokenizer"
    save_tokenizer(tokenizer, spelling_of(recipe), folder)
    packed = pack_corpora(
        job, load_tokenizer(folder), job.folder / "blocks", languages_of(job.recipe)
    )
    return Outcome(counts={"pieces": tokenizer.get_vocab_size(), "packed_pieces": packed})


STAGE = Stage("tokenizer", 1, ("corpus",), _section, _outside, _run)
