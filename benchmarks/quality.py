"""What 8 bits cost on real tasks: finished runs' students as bundles, scored beside torch.

    python -m benchmarks.quality --store STORE --runs sentiment.student--both-phases.0 … --out FILE

Of each run the student is exported as its stage `export` would, judged on the source's dev data,
and torch and the bundle are scored on every test set; "same answers" is the share of answers that
8 bits leave. Adds a line of JSON to FILE for each run and way to round; prints a Markdown table of
all that FILE holds.
"""

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from limbeck.answering import TaskModel
from limbeck.bundle import bytes_on_disk
from limbeck.evaluate import compare, loyalty
from limbeck.export import make_bundle
from limbeck.gates import TOLERANCE, Gate
from limbeck.judge import load_tuned
from limbeck.recipe import Recipe
from limbeck.runtime import load
from limbeck.stages.export import LABELLED, SENTENCES, held_out, sample
from limbeck.stages.labels import read_labelled, read_test_sets
from limbeck.stages.record import languages_of

HEAD = (
    "| run | way | MB | kept in fp32 | dev, n | dev, difference | test set | n | torch | bundle | "
    "difference, 95 % interval | same answers |"
)


def gate_of(recipe: Recipe, corpus: Path, task: Any) -> Gate:
    """Give what the run's stage `export` tries a bundle on."""
    dev = sample(read_labelled(recipe).dev, LABELLED, seed=recipe.seed)
    files = [corpus / f"{one}.heldout.txt" for one in languages_of(recipe)]
    return Gate(held_out(files, task) or dev[:SENTENCES], dev)


def rows_of(record: dict[str, Any], way: dict[str, Any]) -> dict[str, Any]:
    """Export a run's student one way, and score it beside torch."""
    recipe = Recipe.model_validate(record["recipe"])
    folder = Path(record["artifacts"]["task"]) / "model"
    model, asked = load_tuned(str(folder), task=recipe.task.kind)
    gate = gate_of(recipe, Path(record["artifacts"]["corpus"]), asked.task)
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name) / "bundle"
        found = make_bundle(model, asked, gate, folder=folder, output=bundle, **way)
        size = bytes_on_disk(bundle)
        shipped = load(bundle).model
        places = {
            place: difference(recipe, asked, shipped, data.examples)
            for place, _, data in read_test_sets(recipe, read_labelled(recipe).labels)
        }
    return {"run": record["run"], "way": way, "bytes": size, "found": found, "places": places}


def difference(
    recipe: Recipe, whole: TaskModel, shipped: TaskModel, examples: Any
) -> dict[str, Any]:
    """Score both on a test set, with the difference's interval."""
    answers = [model.answer(examples) for model in (shipped, whole)]
    found = compare(whole.task, examples, *answers, resamples=recipe.evaluate.resamples)
    same = loyalty(whole.task, *answers)
    return {**found.to_dict(), "n": len(examples), "same": same}


def lines_of(row: dict[str, Any]) -> list[str]:
    """Give a row's lines of the table, one a test set."""
    told = row["found"]["int8"]
    way = f"{row['found']['backend']}, {told['quantization']}, {100 * row['way']['tolerance']:.1f}"
    dev = f"{told['metric']}, {told['n']} | {-100 * told['fall']:+.2f}"
    kept = len(told["kept"])
    start = f"| {row['run']} | {way} | {row['bytes'] / 1e6:.1f} | {kept} | {dev} "
    return [
        start
        + f"| {place} | {one['n']} | {100 * one['b']:.2f} | {100 * one['a']:.2f} "
        + f"| {100 * one['difference']:+.2f} "
        + f"[{100 * one['interval'][0]:+.2f}, {100 * one['interval'][1]:+.2f}] "
        + f"| {100 * one['same']:.2f} % |"
        for place, one in row["places"].items()
    ]


def main() -> None:
    """Run what is asked, and print the table of all that was."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--runs", nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--quantization", default="auto")
    given = parser.parse_args()
    way = {
        "tolerance": given.tolerance,
        "backend": given.backend,
        "quantization": given.quantization,
    }
    for name in given.runs:
        record = json.loads((given.store / "runs" / f"{name}.json").read_text())
        with given.out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(rows_of(record, way)) + "\n")
    print("\n".join([HEAD, "|---|---|" + "---:|" * 4 + "---|" + "---:|" * 5]))
    for line in given.out.read_text(encoding="utf-8").splitlines():
        print("\n".join(lines_of(json.loads(line))))


if __name__ == "__main__":
    main()
