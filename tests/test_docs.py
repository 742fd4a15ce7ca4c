"""The documents say what the code does."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from limbeck.cli import app
from limbeck.pretrain_recipe import PRETRAINING, read_any_recipe, read_pretrain_recipe
from limbeck.recipe import (
    DISTILLATION,
    check_as,
    check_recipe,
    explain,
    fields,
    read_recipe,
    shipped_recipes,
)

ROOT = Path(__file__).parents[1]
# The design is the contract: it runs ahead of the code.
WRITTEN = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.stem != "design"),
]


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


def commands() -> Iterator[tuple[str, Any]]:
    """Give every command by its name, those of a group after the group's."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        yield from (
            [(f"{name} {one}", inner) for one, inner in command.commands.items()]
            if hasattr(command, "commands")
            else [(name, command)]
        )


def command_reference() -> str:
    """What docs/cli.md must hold."""
    lines = [
        "# The command line",
        "",
        "Made from the code: `python tests/test_docs.py`. Results go to stdout, progress and "
        "messages to stderr; with `--json`, stdout is exactly one JSON object. Exit code 0: done; "
        "2: a mistake of the user's, told in one line; 1: anything else.",
    ]
    for name, command in commands():
        context = command.make_context(
            f"limbeck {name}", [], resilient_parsing=True, terminal_width=88, max_content_width=88
        )
        told = command.get_help(context).rstrip()
        lines += ["", f"## limbeck {name}", "", "```text", told, "```"]
    return "\n".join(lines) + "\n"


PAGES = {"recipe.md": reference, "cli.md": command_reference}


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_is_made_from_the_code(name: str):
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == PAGES[name]()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def commands_in(page: Path) -> list[list[str]]:
    """Give the words of each `limbeck …` line in a page."""
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in re.findall(r"^limbeck .*", text, re.M)]


RECIPES = [
    (page.name, number)
    for page in WRITTEN
    for number, text in enumerate(blocks(page, "toml"))
    if text.startswith("name")
]


@pytest.mark.parametrize("page, number", RECIPES)
def test_a_recipe_in_a_page_is_valid(page: str, number: int, tmp_path: Path):
    (where,) = (one for one in WRITTEN if one.name == page)
    path = tmp_path / "recipe.toml"
    path.write_text(blocks(where, "toml")[number], encoding="utf-8")
    assert read_any_recipe(path).name


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_commands_and_options_and_fields_in_a_page_exist(page: Path):
    known = {path for kind in (DISTILLATION, PRETRAINING) for path, _ in fields(kind)}
    for words in commands_in(page):
        found = dict(commands())
        command = found.get(words[1]) or found[" ".join(words[1:3])]
        options = {option for one in command.params for option in one.opts} | {"--help"}
        for word, value in itertools.zip_longest(words[2:], words[3:]):
            assert not word.startswith("-") or word in options, words
            if word == "--set":
                field = re.sub(r"^corpus\.\w+$", "corpus", value.partition("=")[0])
                assert field == "corpus" or field in known, words


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_files_that_a_page_links_to_exist(page: Path):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


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


if __name__ == "__main__":
    for page, make in PAGES.items():
        (ROOT / "docs" / page).write_text(make(), encoding="utf-8")
