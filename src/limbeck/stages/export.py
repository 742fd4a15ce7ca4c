"""Stage export: the student as a bundle that answers without torch."""

import logging
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.corpus import read_texts
from limbeck.errors import ExportError
from limbeck.recipe import Recipe
from limbeck.stages.labels import labels_section, read_labelled, train_files
from limbeck.stages.record import Job, Outcome, Stage, languages_of
from limbeck.tasks import Task

log = logging.getLogger(__name__)

BUNDLE = "bundle"
"""Folder of the bundle in the artifact."""

SENTENCES, LABELLED = 300, 2000
"""Sentences on which the graph is compared with torch, and dev examples that judge 8 bits."""


def _section(recipe: Recipe) -> dict[str, Any]:
    assert recipe.export is not None
    return {**recipe.export.model_dump(), **labels_section(recipe), "seed": recipe.seed}


def _outside(recipe: Recipe) -> dict[str, str]:
    return train_files(recipe)


def _run(job: Job[Recipe]) -> Outcome:
    from limbeck.export import make_bundle
    from limbeck.gates import Gate
    from limbeck.judge import load_tuned

    recipe, folder = job.recipe, job.inputs["task"].path("model")
    assert recipe.export is not None
    model, asked = load_tuned(folder)
    dev = sample(read_labelled(recipe).dev, LABELLED, seed=recipe.seed)
    files = [job.inputs["corpus"].path(f"{one}.heldout.txt") for one in languages_of(recipe)]
    texts = held_out(files, asked.task)
    write = partial(
        make_bundle,
        model,
        asked,
        Gate(texts or dev[:SENTENCES], dev),
        folder=folder,
        output=job.folder / BUNDLE,
        tolerance=recipe.export.tolerance,
        backend=recipe.export.backend,
        quantization=recipe.export.quantization,
        languages=(recipe.languages.source, *recipe.languages.targets),
    )
    try:
        return Outcome(metrics=write(int8=recipe.export.int8))
    except ExportError as error:
        if not recipe.export.int8:
            raise
        # The scores of a long run must not be lost to its bundle.
        log.warning("%s; the bundle is in 32 bits", error)
        return Outcome(metrics={**write(int8=False), "refused_int8": str(error)})


def sample(examples: Any, count: int, *, seed: int) -> list[Any]:
    """Give at most `count` examples, drawn without order being lost: files may be sorted."""
    chosen = np.random.default_rng(seed).permutation(len(examples))[:count]
    return [examples[i] for i in sorted(chosen)]


def held_out(paths: Sequence[Path], task: Task) -> list[Any]:
    """Give running text as examples, as many lines of each file, where the task can be asked of it.

    Args:
        paths: A file of held-out text for each language.
        task: A record of `TASKS`.
    """
    found = []
    for path in paths:
        lines = islice(read_texts(path), -(-SENTENCES // len(paths)))
        found += [task.from_text(line, str(path)) for line in lines]
    return [one for one in found if one is not None]


STAGE = Stage(
    "export",
    4,
    ("corpus", "task"),
    _section,
    _outside,
    _run,
    wanted=lambda recipe: recipe.export is not None,
)
