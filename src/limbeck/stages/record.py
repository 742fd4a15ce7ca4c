"""What a stage is, what its body is given, and what it tells."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.artifact import Artifact
from limbeck.hub import depth, model_folder, read_config
from limbeck.plan import layer_plan
from limbeck.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Job:
    """What a stage's body is given: the recipe, its folder, and its finished inputs."""

    recipe: Recipe
    folder: Path
    inputs: Mapping[str, Artifact]

    @property
    def work(self) -> Path:
        """Folder of whatever a killed run resumes from."""
        return self.folder / "work"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage tells about its work: counts of things, measured numbers."""

    counts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """One step from recipe to scores.

    Args:
        name: Its name, and the start of its artifacts' folders.
        version: Raised when the body's result changes for the same inputs.
        inputs: Names of earlier stages whose artifacts it reads.
        section: The recipe's fields that decide its result.
        outside: Label to hash of every file from outside that decides its result.
        run: The body.
    """

    name: str
    version: int
    inputs: tuple[str, ...]
    section: Callable[[Recipe], dict[str, Any]]
    outside: Callable[[Recipe], dict[str, str]]
    run: Callable[[Job], Outcome]


def layer_plan_of(recipe: Recipe) -> tuple[int, ...]:
    """Give the recipe's layer plan, resolved against its teacher's depth.

    Raises:
        RecipeError: More layers than the teacher has, or a plan out of order.
    """
    layers = depth(read_config(model_folder(recipe.teacher.model)))
    wanted = recipe.student
    if not isinstance(wanted.plan, str):
        return layer_plan(layers, wanted.layers, plan=wanted.plan)
    share = {"base": 2, "small": 4, "tiny": 8}[wanted.size]
    return layer_plan(layers, wanted.layers or max(1, layers // share), plan=wanted.plan)


def languages_of(recipe: Recipe) -> list[str]:
    """Give the recipe's languages, the source first, each once."""
    return list(dict.fromkeys([recipe.languages.source, *recipe.languages.targets]))
