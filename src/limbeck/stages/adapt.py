"""Stage adapt: the teacher's language deltas, those at hand and those learned from text."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.adapt_recipe import AdaptRecipe
from limbeck.deltas import delta_hash, read_delta
from limbeck.errors import ModelError, RecipeError
from limbeck.hub import content_hashes, model_folder
from limbeck.recipe import Recipe
from limbeck.sections import Adaptation
from limbeck.stages.labels import tuning_section
from limbeck.stages.models import delta_file, provenance
from limbeck.stages.record import Job, Outcome, Stage, languages_of
from limbeck.stages.text import mask_id_of, open_corpora, pack_corpora
from limbeck.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from limbeck.delta import SparseDelta

log = logging.getLogger(__name__)

AnyAdapting = Recipe | AdaptRecipe


def _adaptation(recipe: AnyAdapting) -> Adaptation:
    assert recipe.adapt is not None
    return recipe.adapt


def _section(recipe: AnyAdapting) -> dict[str, Any]:
    adaptation = _adaptation(recipe)
    learned = {
        **adaptation.model_dump(exclude={"deltas", "tuning"}),
        "tuning": tuning_section(adaptation.tuning),
        "seed": recipe.seed,
    }
    waiting = _to_learn(recipe)
    foreign = isinstance(recipe, Recipe) and recipe.teacher.foreign
    given = {"deltas": sorted(adaptation.deltas), "foreign": foreign} if adaptation.deltas else {}
    return {**given, "languages": waiting, **(learned if waiting else {})}


def _to_learn(recipe: AnyAdapting) -> list[str]:
    return [one for one in languages_of(recipe) if one not in _adaptation(recipe).deltas]


def _model_name(recipe: AnyAdapting) -> str:
    return recipe.teacher.model if isinstance(recipe, Recipe) else recipe.model


def _outside(recipe: AnyAdapting) -> dict[str, str]:
    found = content_hashes(model_folder(_model_name(recipe)))
    for language, path in _adaptation(recipe).deltas.items():
        if not Path(path).exists():
            raise RecipeError("no such delta", where=f"adapt.deltas.{language}", found=path)
        found[f"delta/{language}"] = delta_hash(Path(path))
    return found


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
    deltas = _given(job.recipe)
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


def _given(recipe: AnyAdapting) -> dict[str, "SparseDelta"]:
    """Read the deltas at hand; what an SFT of others changed in a head is left out.

    Raises:
        LimbeckError: One cannot be read, or is not of this teacher.
    """
    from limbeck.delta import check_base, check_fit
    from limbeck.parameters import encoder_tensors

    given = _adaptation(recipe).deltas
    if not given:
        return {}
    encoder = encoder_tensors(_model(recipe))
    found = {}
    for language, path in given.items():
        delta, where = read_delta(Path(path)), f"adapt.deltas.{language}"
        inside = {name: part for name, part in delta.parts.items() if name in encoder}
        outside = sorted(name for name in delta.parts if name not in encoder)
        if not inside:
            raise ModelError(
                "no tensor of the delta is one of the teacher's encoder",
                where=where,
                found=", ".join(outside[:3]) or "no tensors",
                expected=f"such as {', '.join(list(encoder)[:3])}",
            )
        if outside:
            log.warning("%s: left out, not of the encoder: %s", where, ", ".join(outside))
        found[language] = replace(delta, parts=inside, dense={})
        check_fit(encoder, inside, {})
        if not (isinstance(recipe, Recipe) and recipe.teacher.foreign):
            allow = "set teacher.foreign" if isinstance(recipe, Recipe) else "take another delta"
            check_base(encoder, found[language], where=where, allow=allow)
    return found


def _model(recipe: AnyAdapting) -> "PreTrainedModel":
    from limbeck.encoder import load_encoder

    return load_encoder(
        model_folder(_model_name(recipe)),
        head="mlm",
        attention="sdpa",
        allow_remote_code=isinstance(recipe, Recipe) and recipe.teacher.allow_remote_code,
        seed=recipe.seed,
        whole=bool(_to_learn(recipe)),
    )


def _learn(job: Job[AnyAdapting], language: str) -> "SparseDelta":
    from limbeck.adapt import adapt
    from limbeck.delta import SparseDelta
    from limbeck.sparse_tuning import DELTA

    recipe, adaptation = job.recipe, _adaptation(job.recipe)
    folder, work = model_folder(_model_name(recipe)), job.work / language
    blocks = work / "blocks"
    pack_corpora(job, load_tokenizer(folder), blocks, [language])
    text = open_corpora(blocks, folder, languages=[language], block_pieces=adaptation.block_pieces)
    model = _model(recipe)
    before, after = adapt(
        model,
        text=text,
        adaptation=adaptation,
        seed=recipe.seed,
        work=work,
        machine=recipe.machine,
    )
    if after >= before:
        log.warning(
            "adapt: %s: held-out loss %.3f before, %.3f after; its delta does not help: raise "
            "adapt.steps, lower adapt.learning_rate, or give more text",
            language,
            before,
            after,
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
