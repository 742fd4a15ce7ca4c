"""Every metric of finished runs, where the zero-shot tables have the primary one.

    python -m benchmarks.metrics --store STORE --runs parsing.student--both-phases.0 …

Prints a Markdown table for each recipe: a row each system, a column each language and metric. Of a
recipe's first run all systems are shown, of its others the student, under the run's name.
"""

import argparse
import json
from pathlib import Path
from typing import Any


def scores_of(store: Path, run: str) -> dict[str, dict[str, Any]]:
    """Give a run's scores by system and language."""
    record = json.loads((store / "runs" / f"{run}.json").read_text(encoding="utf-8"))
    folder = store / Path(record["artifacts"]["evaluate"]).name
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = manifest["metrics"]["scores"]
    return found


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Give rows, by name, as Markdown."""
    first = next(iter(rows.values()))
    columns = [(place, name) for place, told in first.items() for name in told["metrics"]]
    heads = ["system", *(f"{place} {name}" for place, name in columns)]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * len(columns)]
    for system, told in rows.items():
        values = (told[place]["metrics"].get(name) for place, name in columns)
        cells = ["" if one is None else f"{100 * one:.1f}" for one in values]
        lines.append("| " + " | ".join([system, *cells]) + " |")
    return lines


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--runs", nargs="+", required=True)
    given = parser.parse_args()
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for run in given.runs:
        recipe, variant, _ = run.split(".")
        scores = scores_of(given.store, run)
        if recipe in tables:
            tables[recipe][variant.replace("--", ", ").replace("-", " ")] = scores["student"]
        else:
            tables[recipe] = scores
    for recipe, rows in tables.items():
        print("\n".join([f"### {recipe}", "", *table(rows), ""]))


if __name__ == "__main__":
    main()
