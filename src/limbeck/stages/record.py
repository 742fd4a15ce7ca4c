"""What a stage is, what its body is given, and what it tells."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from limbeck.adapt_recipe import AdaptRecipe
from limbeck.artifact import Artifact
from limbeck.hub import depth, model_folder, read_config
from limbeck.plan import layer_plan
from limbeck.pretrain_recipe import PretrainRecipe
from limbeck.recipe import Recipe
from limbeck.sections import SIZES

AnyRecipe = Recipe | PretrainRecipe | AdaptRecipe
Recipe_co = TypeVar("Recipe_co", bound=AnyRecipe, covariant=True)
Recipe_contra = TypeVar("Recipe_contra", bound=AnyRecipe, contravariant=True)


@dataclass(frozen=True, slots=True)
class Job(Generic[Recipe_co]):
    """What a stage's body is given: the recipe, its folder, and its finished inputs."""

    recipe: Recipe_co
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
class Stage(Generic[Recipe_contra]):
    """One step from a recipe of some kind to its last artifact.

    Args:
        name: Its name, and the start of its artifacts' folders.
        version: Raised when the body's result changes for the same inputs.
        inputs: Names of earlier stages whose artifacts it reads, where the recipe has them.
        section: The recipe's fields that decide its result.
        outside: Label to hash of every file from outside that decides its result.
        run: The body.
        together: All processes of a launch carry out the body; else the first, and others wait.
        wanted: Whether a recipe has this stage at all; the others then do without its artifact.
    """

    name: str
    version: int
    inputs: tuple[str, ...]
    section: Callable[[Recipe_contra], dict[str, Any]]
    outside: Callable[[Recipe_contra], dict[str, str]]
    run: Callable[[Job[Recipe_contra]], Outcome]
    together: bool = False
    wanted: Callable[[Recipe_contra], bool] = lambda _: True


def layer_plan_of(recipe: Recipe) -> tuple[int, ...]:
    """Give the recipe's layer plan, resolved against its teacher's depth.

    Raises:
        RecipeError: More layers than the teacher has, or a plan out of order.
    """
    return layer_plan_in(recipe, depth(read_config(model_folder(recipe.teacher.model))))


def layer_plan_in(recipe: Recipe, layers: int) -> tuple[int, ...]:
    """Give the recipe's layer plan in a teacher of so many layers.

    Raises:
        RecipeError: As `layer_plan_of`.
    """
    wanted = recipe.student
    if not isinstance(wanted.plan, str):
        return layer_plan(layers, wanted.layers, plan=wanted.plan)
    divisor, _ = SIZES[wanted.size]
    return layer_plan(layers, wanted.layers or max(1, layers // divisor), plan=wanted.plan)


def languages_of(recipe: AnyRecipe) -> list[str]:
    """Give the languages whose text is read, each once: the source first, or the corpora's.

    Further languages of the labels are among them where they have text.
    """
    if not isinstance(recipe, Recipe):
        return list(recipe.corpus.texts)
    more = [one for one in recipe.train_languages if one in recipe.corpus.texts]
    return list(dict.fromkeys([recipe.languages.source, *recipe.languages.targets, *more]))
