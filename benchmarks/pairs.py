"""Students of two variants on the same test sentences: which is better, which nearer its teacher.

    python -m benchmarks.pairs --store STORE --recipes eng-swa-ner [--seeds 0 1]
        --pair "both phases, a quarter of the neurons" "both phases, 2 layers"

Both variants are finished runs of `benchmarks.zero_shot` in STORE. Prints a Markdown table: a row
each recipe, seed and language; the scores of both by the gold labels, their difference with its
95 % interval by a paired bootstrap over sentences; and the same, the teacher's answers for gold.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.zero_shot import VARIANTS, run_name
from limbeck.evaluate import Comparison, compare
from limbeck.recipe import Recipe, check_recipe
from limbeck.stages.labels import read_labelled, read_test_sets
from limbeck.tasks import TASKS


def record_of(store: Path, name: str) -> tuple[Recipe, Path]:
    """Give a run's recipe, and the folder of its predictions."""
    record = json.loads((store / "runs" / f"{name}.json").read_text(encoding="utf-8"))
    return check_recipe(record["recipe"]), store / Path(record["artifacts"]["evaluate"]).name


def answers(folder: Path, place: str, system: str) -> list[Any]:
    """Give a system's predictions for a test set, as its task gives them."""
    lines = (folder / f"predictions.{place}.jsonl").read_text(encoding="utf-8").splitlines()
    return [_of_task(json.loads(line)[system]) for line in lines]


def _of_task(told: Any) -> Any:
    """Give labels, or the pairs of a tree, as they were before they were written."""
    if not isinstance(told, list):
        return told
    return [tuple(one) if isinstance(one, list) else one for one in told]


def compared(store: Path, names: Sequence[str]) -> Iterator[tuple[str, Comparison, Comparison]]:
    """Compare the students of two runs.

    Args:
        store: Of both runs.
        names: The two runs' names.

    Yields:
        A test set's place, the comparison by gold labels, and that by the teacher's answers.
    """
    (recipe, first), (_, second) = (record_of(store, name) for name in names)
    task = TASKS[recipe.task.kind]
    for place, _, data in read_test_sets(recipe, read_labelled(recipe).labels):
        pair = [answers(folder, place, "student") for folder in (first, second)]
        teacher = answers(first, place, "teacher")
        asked = [task.relabelled(*one) for one in zip(data.examples, teacher, strict=True)]
        yield place, compare(task, data.examples, *pair), compare(task, asked, *pair)


def _cells(one: Comparison) -> list[str]:
    low, high = (100 * end for end in one.interval)
    difference = f"{100 * one.difference:+.1f} [{low:+.1f}, {high:+.1f}]"
    return [f"{100 * one.a:.1f}", f"{100 * one.b:.1f}", difference]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--pair", nargs=2, required=True, choices=list(VARIANTS))
    parser.add_argument("--recipes", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    heads = ["recipe", "seed", "language (n)"]
    heads += [f"{by}: {one}" for by in ("gold", "teacher") for one in ("a", "b", "a - b")]
    print("| " + " | ".join(heads) + " |")
    print("|---|---:|---|" + "---:|" * 6)
    for recipe in given.recipes:
        for seed in given.seeds:
            names = [run_name(recipe, variant, seed) for variant in given.pair]
            for place, gold, teacher in compared(given.store, names):
                cells = [
                    recipe,
                    str(seed),
                    f"{place} ({gold.n:,})",
                    *_cells(gold),
                    *_cells(teacher),
                ]
                print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
