"""What several commands share: options, and how they print."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

StoreOption = Annotated[Path, typer.Option("--store", help="Folder of artifacts.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field; repeat it."),
]
RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, or a shipped recipe's name.")]
DEFAULT_STORE = Path("store")


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object in a line."""
    print(json.dumps(value, ensure_ascii=False))


def print_table(table: Table) -> None:
    """Print a table, at least 100 columns wide."""
    Console(width=max(100, Console().width)).print(table)
