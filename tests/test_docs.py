"""The documents say what the code does."""

import re
from pathlib import Path

import pytest

from limbeck.cli import app
from limbeck.pretrain_recipe import PRETRAINING, read_pretrain_recipe
from limbeck.recipe import check_as, check_recipe, explain, read_recipe, shipped_recipes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def reference() -> str:
    """What docs/recipe.md must hold."""
    lines = [
        "# Recipe reference",
        "",
        "Made from the code: `python tests/test_docs.py`. `limbeck explain FIELD` tells the same.",
        "",
    ]
    lines += [f"- {line}" for line in explain("recipe")]
    lines += ["", "## Of `limbeck pretrain`", ""]
    lines += [f"- {line}" for line in explain(PRETRAINING.name, PRETRAINING)]
    return "\n".join(lines) + "\n"


def test_the_recipe_reference_is_made_from_the_code():
    assert (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8") == reference()


def test_the_readme_recipe_is_a_valid_recipe(tmp_path: Path):
    (block,) = re.findall(r"```toml\n(.*?)```", README, re.S)
    path = tmp_path / "recipe.toml"
    path.write_text(block, encoding="utf-8")
    assert read_recipe(path).languages.targets == ["yor"]


def test_commands_in_the_readme_exist():
    commands = {command.callback.__name__ for command in app.registered_commands}
    named = set(re.findall(r"^limbeck (\w+)", README, re.M))
    assert named and named <= commands


def test_files_that_the_readme_links_to_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads_and_is_named_after_its_file(name: str):
    recipe = read_recipe(name)
    assert recipe.name == name
    assert check_recipe(recipe.model_dump(mode="json")) == recipe


@pytest.mark.parametrize("name", shipped_recipes(PRETRAINING))
def test_every_shipped_recipe_of_pretraining_loads(name: str):
    recipe = read_pretrain_recipe(name)
    assert recipe.name == name
    assert check_as(PRETRAINING, recipe.model_dump(mode="json")) == recipe


def test_the_recipe_in_the_page_on_pretraining_is_valid(tmp_path: Path):
    page = (ROOT / "docs" / "pretrain.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    path = tmp_path / "recipe.toml"
    path.write_text(block, encoding="utf-8")
    assert list(read_pretrain_recipe(path).corpus.texts) == ["eng", "hau", "yor"]


if __name__ == "__main__":
    (ROOT / "docs" / "recipe.md").write_text(reference(), encoding="utf-8")
