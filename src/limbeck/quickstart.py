"""The whole path on a generated world, offline: world, teacher, student, baselines.

What is shown is what `limbeck pretrain` and `limbeck run` do with recipes of one's own; nothing
here is special but where the text and the labels come from.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck import pipeline
from limbeck.artifact import Store
from limbeck.errors import DataError
from limbeck.pipeline import Run
from limbeck.pretrain_recipe import PretrainRecipe, read_pretrain_recipe
from limbeck.recipe import Recipe, read_recipe, toml_string
from limbeck.world import facts, make_world

log = logging.getLogger(__name__)

BASELINES = {
    "phase 2 only": ["general.steps=0"],
    "no distillation": ["general.steps=0", "task.objective.kind=labels"],
}
"""What is run beside the recipe, with the same student: row of the table to what it changes."""


@dataclass(frozen=True, slots=True)
class Quickstart:
    """What a quickstart leaves.

    Args:
        teacher: The run that pretrained the teacher.
        run: The run of the recipe `quickstart`.
        baselines: Row to the run of that baseline.
        seconds: What all of it took this time.
    """

    teacher: Run
    run: Run
    baselines: dict[str, Run]
    seconds: float

    @property
    def made(self) -> int:
        """How many artifacts were made now."""
        runs = (self.teacher, self.run, *self.baselines.values())
        return sum(one.made for one in runs)


def quickstart(
    store: Path,
    *,
    seed: int = 0,
    size: str = "small",
    pretrain_overrides: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> Quickstart:
    """Make the world and the teacher, run the recipe and its baselines; nothing is done twice.

    Args:
        store: Folder of artifacts; the world is made in it.
        seed: Of the world and of every training.
        size: Of the world, as `make_world` knows it.
        pretrain_overrides: `--set` of the recipe `world`.
        overrides: `--set` of the recipe `quickstart`.

    Raises:
        LimbeckError: In any stage; what was finished stays.
    """
    started = time.monotonic()
    ground = Store(store)
    world = _world(store / f"world-{size}-{seed}", seed=seed, size=size)
    ending = f"-{seed}" if seed else ""
    given = [f"seed={seed}", *pretrain_overrides]
    teacher = pipeline.run(_pretraining(world, given), ground, name=f"world{ending}")
    model = teacher.artifacts["pretrain"].path("model")
    given = [f"seed={seed}", *overrides]
    run = pipeline.run(_distilling(world, model, given), ground, name=f"quickstart{ending}")
    baselines = {}
    for row, changes in BASELINES.items():
        # One bundle is enough to see.
        changed = _distilling(world, model, [*given, *changes]).model_copy(update={"export": None})
        name = f"quickstart{ending}-{row.replace(' ', '-')}"
        baselines[row] = pipeline.run(changed, ground, name=name)
    return Quickstart(teacher, run, baselines, time.monotonic() - started)


def _pretraining(world: Path, overrides: Sequence[str]) -> PretrainRecipe:
    shipped = read_pretrain_recipe("world")
    places = _texts(world, shipped.corpus.texts)
    places |= {
        f"survey.parallel.{one}": world / f"parallel/{one}.txt" for one in shipped.survey.parallel
    }
    return read_pretrain_recipe("world", [*_assigned(places), *overrides])


def _distilling(world: Path, teacher: Path, overrides: Sequence[str]) -> Recipe:
    shipped = read_recipe("quickstart")
    places = _texts(world, shipped.corpus.texts)
    places |= {"teacher.model": teacher, "task.benchmark.root": world / shipped.task.kind}
    return read_recipe("quickstart", [*_assigned(places), *overrides])


def _texts(world: Path, languages: Iterable[str]) -> dict[str, Path]:
    return {f"corpus.{one}": world / "corpora" / f"{one}.txt" for one in languages}


def _assigned(places: dict[str, Path]) -> list[str]:
    """Give `--set` assignments."""
    return [f"{field}={toml_string(path)}" for field, path in places.items()]


def _world(folder: Path, *, seed: int, size: str) -> Path:
    """Make a world unless it is there; its facts are written last."""
    try:
        facts(folder)
    except DataError:
        started = time.monotonic()
        log.info("world: starts")
        make_world(folder, seed=seed, size=size, only=("pos", "ner"))
        log.info("world: done in %.1f s", time.monotonic() - started)
    return folder
