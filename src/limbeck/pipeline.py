"""Conduct a recipe: work out each stage's key, make what is missing, resume what was killed."""

import logging
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from limbeck import processes
from limbeck.adapt_recipe import AdaptRecipe
from limbeck.artifact import Artifact, Manifest, Store, disk_errors, key, write_json
from limbeck.errors import RecipeError
from limbeck.hub import model_folder
from limbeck.pretrain_recipe import PretrainRecipe
from limbeck.recipe import Recipe
from limbeck.sections import is_name
from limbeck.stages import ADAPT_STAGES, PRETRAIN_STAGES, STAGES, Job, Stage, layer_plan_of
from limbeck.stages.adapt import check_can_adapt
from limbeck.stages.general import check_mask_piece
from limbeck.stages.labels import read_labelled, read_test_sets
from limbeck.stages.record import AnyRecipe, languages_of
from limbeck.stages.survey import read_parallel
from limbeck.stages.text import mask_id_of
from limbeck.tokenizer import load_tokenizer

log = logging.getLogger(__name__)

_CALL = "call"
"""File by which the first process of a launch calls the others to a stage's work."""
_VERSIONED = ("limbeck", "torch", "transformers", "tokenizers", "numpy")


@dataclass(frozen=True, slots=True)
class Planned:
    """One stage of a plan.

    Args:
        stage: The stage.
        manifest: What its manifest will say, files and measurements left out.
        folder: Where its artifact is or will be.
        is_done: Its artifact is finished.
        differs: Dotted fields that differ from the nearest finished artifact of this stage.
    """

    stage: Stage[Any]
    manifest: Manifest
    folder: Path
    is_done: bool
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its name, its artifacts by stage, and how many of them were made now."""

    name: str
    store: Path
    artifacts: dict[str, Artifact]
    made: int

    def to_dict(self) -> dict[str, Any]:
        """Give the run as the JSON object that `--json` prints, the last stage's metrics in it."""
        *_, last = self.artifacts.values()
        return {
            "run": self.name,
            "store": str(self.store),
            "made": self.made,
            "artifacts": {name: str(one.folder) for name, one in self.artifacts.items()},
            **last.manifest.metrics,
            "seconds": {name: one.manifest.seconds for name, one in self.artifacts.items()},
        }


def plan(recipe: AnyRecipe, store: Store) -> list[Planned]:
    """Work out what a recipe needs, what is there, and what makes the rest differ.

    Raises:
        LimbeckError: A file from outside cannot be read, or a field does not fit the teacher.
    """
    course = COURSES[type(recipe)]
    course.check_fields(recipe)
    planned: list[Planned] = []
    keys: dict[str, str] = {}
    for stage in course.stages:
        if not stage.wanted(recipe):
            continue
        one = _manifest(recipe, stage, keys)
        keys[stage.name] = one.key
        found = store.find(stage.name, one.key)
        differs = () if found else tuple(_nearest_difference(store, one))
        folder = store.folder(stage.name, one.key)
        planned.append(Planned(stage, one, folder, found is not None, differs))
    return planned


def _manifest(recipe: AnyRecipe, stage: Stage[Any], keys: Mapping[str, str]) -> Manifest:
    section = stage.section(recipe)
    inputs = {name: keys[name] for name in stage.inputs if name in keys}
    outside = stage.outside(recipe)
    hexadecimal = key(
        {
            "name": stage.name,
            "version": stage.version,
            "section": section,
            "inputs": inputs,
            "outside": outside,
        }
    )
    return Manifest(
        stage=stage.name,
        version=stage.version,
        key=hexadecimal,
        section=section,
        inputs=inputs,
        outside=outside,
        seed=recipe.seed,
    )


def _nearest_difference(store: Store, wanted: Manifest) -> list[str]:
    """Give the fields in which the most similar finished artifact of the stage differs."""
    differences = [
        sorted(_differences(one.manifest, wanted))
        for one in store.artifacts(wanted.stage)
        if one.manifest is not None
    ]
    return min(differences, key=lambda one: (len(one), one), default=[])


def _differences(have: Manifest, wanted: Manifest) -> Iterator[str]:
    for part in ("section", "inputs", "outside"):
        mine, other = _flat(getattr(wanted, part)), _flat(getattr(have, part))
        yield from (
            f"{part}.{name}"
            for name in mine.keys() | other.keys()
            if mine.get(name) != other.get(name)
        )
    if have.version != wanted.version:
        yield "version"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, one in value.items():
        if isinstance(one, Mapping):
            flat |= _flat(one, f"{prefix}{name}.")
        else:
            flat[prefix + name] = one
    return flat


def run(
    recipe: AnyRecipe, store: Store, *, name: str | None = None, until: str | None = None
) -> Run:
    """Make every artifact that a recipe lacks, in order, and record the run.

    A killed run resumes where it was; two runs on one store share the work.

    Args:
        recipe: Of any kind.
        store: Where artifacts are and go.
        name: The run's; the recipe's if not given.
        until: A stage: only it and what it reads are made, and the run is not recorded.

    Raises:
        LimbeckError: In any stage; what was finished stays.
    """
    name = name or recipe.name
    if not is_name(name):
        raise RecipeError(
            "no name for a run",
            where="--name",
            found=repr(name),
            expected="letters, digits, dot, dash and underscore, a letter or digit first",
        )
    artifacts: dict[str, Artifact] = {}
    made = 0
    with disk_errors(store.root):
        planned = plan(recipe, store)
        if until is not None:
            planned = _needed(planned, until)
        COURSES[type(recipe)].check_early(
            recipe, {one.stage.name for one in planned if not one.is_done}
        )
        for one in planned:
            if processes.rank() > 0:
                artifacts[one.stage.name] = _follow(recipe, one, store, artifacts)
                continue
            with store.lock(one.stage.name, one.manifest.key):
                found = store.find(one.stage.name, one.manifest.key)
                if found is None:
                    found = _make(recipe, one, store, artifacts)
                    made += 1
            artifacts[one.stage.name] = found
        finished = Run(name, store.root, artifacts, made)
        if processes.rank() > 0 or until is not None:
            return finished
        runs = store.root / "runs"
        runs.mkdir(exist_ok=True)
        keys = {stage: artifact.manifest.key for stage, artifact in artifacts.items()}
        record = {"format": 1, "keys": keys, "recipe": recipe.model_dump(mode="json")}
        write_json(runs / f"{name}.json", record | finished.to_dict())
    return finished


def _needed(planned: list[Planned], until: str) -> list[Planned]:
    """Give a stage's plan and those of all that it reads, in order."""
    by_name = {one.stage.name: one for one in planned}
    wanted, waiting = set(), [until]
    while waiting:
        name = waiting.pop()
        wanted.add(name)
        waiting += by_name[name].manifest.inputs
    return [one for one in planned if one.stage.name in wanted]


def _check_early(recipe: Recipe, waiting: set[str]) -> None:
    """Read what is cheap to read, so that a mistake is told before hours of work, not after."""
    if not waiting:
        return
    unused = [one for one in recipe.corpus.texts if one not in languages_of(recipe)]
    if unused:
        log.warning("corpus.%s is not used: [languages] does not name it", ", corpus.".join(unused))
    if waiting & {"vocabulary", "teacher", "student", "general"}:
        from limbeck.architectures import most_pieces
        from limbeck.encoder import checked_name, read_config

        folder = model_folder(recipe.teacher.model)
        config = read_config(checked_name(folder), recipe.teacher.allow_remote_code)
        _check_window(recipe, most_pieces(config))
        tokenizer = load_tokenizer(folder)
        if "general" in waiting and (folder / "tokenizer_config.json").exists():
            check_mask_piece(recipe, mask_id_of(folder, tokenizer))
    if "adapt" in waiting:
        check_can_adapt(recipe)
    if waiting & {"teacher", "task", "evaluate"}:
        labels = read_labelled(recipe).labels
        if "evaluate" in waiting:
            for _ in read_test_sets(recipe, labels):
                pass


def _check_window(recipe: Recipe, most: int | None) -> None:
    wanted = recipe.task.window_pieces
    if most is not None and wanted > most:
        raise RecipeError(
            "a window is longer than the teacher reads",
            where="task.max_pieces",
            found=f"{wanted} pieces",
            expected=f"at most {most}",
            do=f"set task.max_pieces = {most}",
        )


def _check_adapting(recipe: AdaptRecipe, waiting: set[str]) -> None:
    if "adapt" in waiting:
        check_can_adapt(recipe)


def _check_pretraining(recipe: PretrainRecipe, waiting: set[str]) -> None:
    if "survey" in waiting:
        read_parallel(recipe)


@dataclass(frozen=True, slots=True)
class Course:
    """How one kind of recipe is carried out.

    Args:
        stages: Its stages, in order.
        check_fields: Refuses fields that do not fit each other or the teacher.
        check_early: Reads what is cheap to read, given the names of the stages that will run.
    """

    stages: tuple[Stage[Any], ...]
    check_fields: Callable[[Any], object]
    check_early: Callable[[Any, set[str]], None]


COURSES: dict[type, Course] = {
    Recipe: Course(STAGES, layer_plan_of, _check_early),
    PretrainRecipe: Course(PRETRAIN_STAGES, lambda _: None, _check_pretraining),
    AdaptRecipe: Course(ADAPT_STAGES, lambda _: None, _check_adapting),
}
"""Kind of recipe to how it is carried out."""


def _make(
    recipe: AnyRecipe, one: Planned, store: Store, artifacts: Mapping[str, Artifact]
) -> Artifact:
    resumes = (one.folder / "work").exists()
    log.info("%s: %s", one.stage.name, "resumes" if resumes else "starts")
    started = time.monotonic()
    with disk_errors(one.folder):
        _clear(one.folder)
        inputs = {name: artifacts[name] for name in one.manifest.inputs}
        if one.stage.together:
            (one.folder / "work" / _CALL).write_text(processes.launch(), encoding="utf-8")
        outcome = one.stage.run(Job(recipe, one.folder, inputs))
        seconds = round(time.monotonic() - started, 2)
    manifest = replace(
        one.manifest,
        versions=_versions(),
        seconds=seconds,
        counts=outcome.counts,
        metrics=outcome.metrics,
    )
    log.info("%s: done in %.1f s", one.stage.name, seconds)
    return store.publish(manifest)


def _follow(
    recipe: AnyRecipe, one: Planned, store: Store, artifacts: Mapping[str, Artifact]
) -> Artifact:
    """Wait for an artifact that the first process makes, and help where it calls for it."""
    call, has_helped = one.folder / "work" / _CALL, False
    while (found := store.find(one.stage.name, one.manifest.key)) is None:
        if not has_helped and call.exists() and call.read_text("utf-8") == processes.launch():
            inputs = {name: artifacts[name] for name in one.manifest.inputs}
            with tempfile.TemporaryDirectory(prefix="limbeck-") as name:
                # What is resumed from is shared; what a helper would publish is thrown away.
                (Path(name) / "work").symlink_to((one.folder / "work").resolve())
                one.stage.run(Job(recipe, Path(name), inputs))
            has_helped = True
        time.sleep(0.1)
    return found


def _clear(folder: Path) -> None:
    """Leave of an unfinished artifact only what it resumes from."""
    (folder / "work").mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and path.name != "work":
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
