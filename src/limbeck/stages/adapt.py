"""Stage adapt: the teacher's language deltas, those at hand and those learned from text."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.adapt_recipe import AdaptRecipe
from limbeck.artifact import file_hash
from limbeck.deltas import SFT_FILE, read_delta
from limbeck.errors import RecipeError
from limbeck.hub import content_hashes, model_folder
from limbeck.recipe import Recipe
from limbeck.sections import Adaptation
from limbeck.stages.labels import tuning_section
from limbeck.stages.models import delta_file, provenance
from limbeck.stages.record import Job, Outcome, Stage, languages_of
from limbeck.stages.text import mask_id_of, open_corpora, pack_corpora
from limbeck.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from limbeck.delta import SparseDelta

AnyAdapting = Recipe | AdaptRecipe


def _adaptation(recipe: AnyAdapting) -> Adaptation:
    assert recipe.adapt is not None
    return recipe.adapt


def _section(recipe: AnyAdapting) -> dict[str, Any]:
    adaptation = _adaptation(recipe)
    learned = {
        **adaptation.model_dump(exclude={"deltas", "tuning", "foreign"}),
        "tuning": tuning_section(adaptation.tuning),
        "seed": recipe.seed,
    }
    waiting = _to_learn(recipe)
    return {"deltas": sorted(adaptation.deltas), "languages": waiting} | (
        learned if waiting else {}
    )


def _to_learn(recipe: AnyAdapting) -> list[str]:
    return [one for one in languages_of(recipe) if one not in _adaptation(recipe).deltas]


def _model_name(recipe: AnyAdapting) -> str:
    return recipe.teacher.model if isinstance(recipe, Recipe) else recipe.model


def _outside(recipe: AnyAdapting) -> dict[str, str]:
    found = content_hashes(model_folder(_model_name(recipe)))
    for language, path in _adaptation(recipe).deltas.items():
        found[f"delta/{language}"] = _delta_hash(language, Path(path))
    return found


def _delta_hash(language: str, path: Path) -> str:
    file = path / SFT_FILE if path.is_dir() else path
    if not file.is_file():
        raise RecipeError("no such delta", where=f"adapt.deltas.{language}", found=str(path))
    return file_hash(file)


def check_can_adapt(recipe: AnyAdapting) -> None:
    """Refuse a teacher without a mask piece where a language's delta is to be learned.

    Raises:
        RecipeError: It is so.
    """
    folder = model_folder(_model_name(recipe))
    if _to_learn(recipe) and mask_id_of(folder, load_tokenizer(folder)) < 0:
        raise RecipeError(
            "the model's tokenizer has no mask piece, by which a language is learned",
            where=str(folder),
            do="take another model, or give the deltas in adapt.deltas",
        )


def _run(job: Job[AnyAdapting]) -> Outcome:
    deltas = {one: read_delta(Path(path)) for one, path in _adaptation(job.recipe).deltas.items()}
    for language in _to_learn(job.recipe):
        # A killed run keeps the languages that it has learned.
        learned = job.work / language / "learned.safetensors"
        if not learned.exists():
            _learn(job, language).save(learned)
        deltas[language] = read_delta(learned)
    losses = {}
    for language, delta in deltas.items():
        delta.save(job.folder / delta_file(language))
        if "held_out_loss" in delta.provenance:
            losses[language] = delta.provenance["held_out_loss"]
    entries = {language: len(delta) for language, delta in deltas.items()}
    return Outcome(counts={"entries": entries}, metrics={"held_out_loss": losses})


def _learn(job: Job[AnyAdapting], language: str) -> "SparseDelta":
    from limbeck.adapt import adapt
    from limbeck.delta import SparseDelta
    from limbeck.encoder import load_encoder
    from limbeck.sparse_tuning import DELTA

    recipe, adaptation = job.recipe, _adaptation(job.recipe)
    folder, work = model_folder(_model_name(recipe)), job.work / language
    blocks = work / "blocks"
    pack_corpora(job, load_tokenizer(folder), blocks, [language])
    text = open_corpora(blocks, folder, languages=[language], block_pieces=adaptation.block_pieces)
    model = load_encoder(
        folder,
        head="mlm",
        attention="sdpa",
        allow_remote_code=isinstance(recipe, Recipe) and recipe.teacher.allow_remote_code,
        seed=recipe.seed,
    )
    before, after = adapt(
        model,
        text=text,
        adaptation=adaptation,
        seed=recipe.seed,
        work=work,
        machine=recipe.machine,
    )
    losses = {"before": before, "after": after}
    about = {"kind": "language", "language": language, "held_out_loss": losses}
    told = about | provenance(recipe, tuning=adaptation.tuning, model=_model_name(recipe))
    return replace(SparseDelta.load(work / DELTA), provenance=told)


STAGE = Stage(
    "adapt",
    1,
    ("corpus",),
    _section,
    _outside,
    _run,
    wanted=lambda recipe: recipe.adapt is not None,
)
