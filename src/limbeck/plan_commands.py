"""The command `plan`: what a recipe would do, and what its student may cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limbeck.errors import RecipeError
from limbeck.options import (
    DEFAULT_STORE,
    JsonOption,
    RecipeArgument,
    SetOption,
    StoreOption,
    print_json,
    print_table,
)
from limbeck.tables import offer_lines, offer_table

if TYPE_CHECKING:
    from limbeck.pretrain_recipe import PretrainRecipe
    from limbeck.recipe import Recipe


def plan(
    recipe: RecipeArgument,
    assign: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="COST", help="Such as '20ms 30MB': what fits into it?"),
    ] = None,
    pieces: Annotated[
        int | None,
        typer.Option("--pieces", help="With --budget: length of the sentence that is timed."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what is done, what will run, and which field made it differ.

    Reads recipes of `limbeck run` and of `limbeck pretrain`. With --budget: which depth,
    neurons, vocabulary and precision of student answers in that time and weighs no more, by
    costs measured on this machine in about a minute; nothing is trained, no weights are read.
    """
    from limbeck.pretrain_recipe import read_any_recipe

    read = read_any_recipe(recipe, assign or ())
    if budget is not None:
        _print_offer(read, budget, pieces, as_json=as_json)
        return
    if pieces is not None:
        raise RecipeError(
            "only a budget has a sentence", where="--pieces", do="give --budget too, or neither"
        )
    _print_stages(read, store, as_json=as_json)


def _print_stages(recipe: "Recipe | PretrainRecipe", store: Path, *, as_json: bool) -> None:
    from limbeck import pipeline
    from limbeck.artifact import Store

    rows: list[dict[str, Any]] = [
        {
            "stage": one.stage.name,
            "done": one.is_done,
            "resumes": not one.is_done and (one.folder / "work").exists(),
            "folder": str(one.folder),
            "differs": list(one.differs),
        }
        for one in pipeline.plan(recipe, Store(store))
    ]
    if as_json:
        print_json({"stages": rows})
        return
    for row in rows:
        state = "done" if row["done"] else "resumes" if row["resumes"] else "will run"
        why = "  differs: " + ", ".join(row["differs"][:4]) if row["differs"] else ""
        print(f"{row['stage']:<11} {state:<9} {row['folder']}{why}")


def _print_offer(
    recipe: "Recipe | PretrainRecipe", budget: str, pieces: int | None, *, as_json: bool
) -> None:
    """Print what fits a budget.

    Raises:
        RecipeError: It is no budget, or the recipe is one of pretraining.
    """
    from limbeck.budget import parse_budget
    from limbeck.recipe import Recipe

    wanted = parse_budget(budget)
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            "a recipe of pretraining has no student to fit a budget",
            where="--budget",
            found=recipe.name,
            expected="a recipe of `limbeck run`",
        )
    from limbeck.offer import offer

    found = offer(recipe, wanted, pieces=pieces)
    if as_json:
        print_json(found.to_dict())
        return
    print_table(offer_table(found))
    for line in offer_lines(found):
        print(line)
