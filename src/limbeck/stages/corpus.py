"""Stage corpus: unlabelled text, cleaned, counted and split."""

from dataclasses import asdict
from typing import Any

from limbeck.artifact import file_hash
from limbeck.corpus import CorpusSource, find_files, prepare
from limbeck.stages.record import AnyRecipe, Job, Outcome, Stage, languages_of


def _section(recipe: AnyRecipe) -> dict[str, Any]:
    texts = {
        one: recipe.corpus.texts[one].model_dump(exclude={"path"}) for one in languages_of(recipe)
    }
    return {"texts": texts, "filter": recipe.corpus.filter.model_dump()}


def _source(recipe: AnyRecipe, language: str) -> CorpusSource:
    return CorpusSource(**recipe.corpus.texts[language].model_dump(exclude_none=True))


def _outside(recipe: AnyRecipe) -> dict[str, str]:
    found = {}
    for language in languages_of(recipe):
        files = find_files(_source(recipe, language), language=language)
        for number, file in enumerate(files):
            found[f"{language}/{number}"] = file_hash(file)
    return found


def _run(job: Job[AnyRecipe]) -> Outcome:
    filters = job.recipe.corpus.filter
    counts = prepare(
        {one: _source(job.recipe, one) for one in languages_of(job.recipe)},
        job.folder,
        held_out_fraction=filters.held_out,
        min_characters=filters.min_characters,
        scripts=filters.scripts,
    )
    return Outcome(counts={one: asdict(counted) for one, counted in counts.items()})


STAGE = Stage("corpus", 1, (), _section, _outside, _run)
