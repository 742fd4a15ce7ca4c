"""The quickstart's world, seed by seed: floors, ceilings, teacher, student, baseline, per task.

    python -m benchmarks.quickstart run --store STORE --seeds 0 1 2 3 4
    python -m benchmarks.quickstart table --store STORE --seeds 0 1 2 3 4 --out results/quickstart

`run` is `limbeck quickstart` of each seed; then, on the teacher that it pretrained, one student
for all target languages a task, the same without phase 1, and the ceiling: the teacher tuned and
scored in the same language. Seeds can be run by several processes on one store. `table` reads what
is there and writes OUT.json and OUT.md.
"""

import argparse
import json
import logging
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.zero_shot import machine_line
from limbeck import pipeline, quickstart
from limbeck.artifact import Store
from limbeck.recipe import Recipe, read_recipe, toml_string
from limbeck.world import facts, make_world

TASKS = {
    "ner": ("conll", "ner", []),
    "pos": ("conll", "pos", []),
    "parsing": ("ud", "ud", []),
    "nli": ("pairs", "nli", []),
    "topics": ("masakhanews", "news", []),
    "qa": ("xquad", "xquad", ["teacher.epochs=15", "task.epochs=15"]),
}
"""Task to the benchmark that reads the world's files, the set, and what the recipe needs beside."""
SOURCE, *TARGETS = ("qaa", "qab", "qac", "qad")


def recipe_of(store: Path, seed: int, task: str, overrides: Sequence[str]) -> Recipe:
    """Give the quickstart's recipe for all target languages and some task."""
    benchmark, name, needed = TASKS[task]
    world = world_of(store, seed, name)
    record = record_of(store, "world", seed)
    places = {f"corpus.{one}": world / "corpora" / f"{one}.txt" for one in (SOURCE, *TARGETS)}
    places |= {
        "teacher.model": Path(record["artifacts"]["pretrain"]) / "model",
        "task.benchmark.root": world / name,
    }
    given = [f"{field}={toml_string(path)}" for field, path in places.items()]
    wide = [f"languages.targets={json.dumps(TARGETS)}", f"task.kind={task}", f"seed={seed}"]
    wide += [f"task.benchmark.name={benchmark}", *needed]
    return read_recipe("quickstart", [*given, *wide, *overrides])


def world_of(store: Path, seed: int, name: str) -> Path:
    """Give the world with a set: the quickstart's, or the same with the sets that it leaves out."""
    if name in ("ner", "pos"):
        return store / f"world-small-{seed}"
    folder = store / f"world-small-{seed}-more"
    if not (folder / "world.json").exists():
        make_world(folder, seed=seed, size="small", only=("ud", "nli", "news", "xquad"))
    return folder


def run_name(name: str, seed: int, *rest: str) -> str:
    """Give the name of a run, as `limbeck quickstart` gives them."""
    return "-".join([name, *([str(seed)] if seed else []), *rest])


def run(store: Path, seed: int, tasks: Sequence[str]) -> None:
    """Run everything of one seed."""
    quickstart.quickstart(store, seed=seed)
    run_tasks(store, seed, tasks)


def run_tasks(store: Path, seed: int, tasks: Sequence[str]) -> None:
    """Run the tasks on the teacher that the quickstart pretrained."""
    for task in tasks:
        ways = {
            f"{task}-all": [],
            **{
                f"{task}-all-{row.replace(' ', '-')}": changes
                for row, changes in quickstart.BASELINES.items()
            },
            # Its teacher's score in the language is read, nothing else.
            **{
                f"{task}-ceiling-{one}": [
                    f"task.train_language={one}",
                    f"evaluate.languages={json.dumps([one])}",
                    "student.layers=1",
                    "general.steps=0",
                    "task.epochs=0.1",
                ]
                for one in TARGETS
            },
        }
        for way, overrides in ways.items():
            recipe = recipe_of(store, seed, task, overrides)
            pipeline.run(recipe, Store(store), name=run_name(way, seed))


def told_by(store: Path, seed: int, tasks: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Give task → language → system or floor → score of one seed, 0 to 1."""

    def scores(way: str, system: str) -> dict[str, float]:
        found = record_of(store, way, seed)["scores"][system]
        return {one: row["metrics"][row["primary"]] for one, row in found.items()}

    found: dict[str, dict[str, dict[str, float]]] = {}
    for task in tasks:
        name = TASKS[task][1]
        floors = facts(world_of(store, seed, name)).floors
        systems = {
            "teacher": scores(f"{task}-all", "teacher"),
            "student": scores(f"{task}-all", "student"),
        }
        for row in quickstart.BASELINES:
            systems[row] = scores(f"{task}-all-{row.replace(' ', '-')}", "student")
        systems["ceiling"] = {
            one: scores(f"{task}-ceiling-{one}", "teacher")[one] for one in TARGETS
        }
        systems["ceiling"][SOURCE] = systems["teacher"][SOURCE]
        found[task] = {}
        for one in (SOURCE, *TARGETS):
            floor = floors[name][one]
            found[task][one] = {name: row[one] for name, row in systems.items()}
            found[task][one] |= {
                "majority": floor.majority,
                "lookup": floor.lookup,
                "copy": floor.copy or 0.0,
            }
    return found


def retrieval_of(store: Path, seed: int) -> dict[str, float]:
    """Give language → the best layer's share of its sentences found from the source's, and back."""
    found = record_of(store, "world", seed)["retrieval"]
    pairs = {one: zip(found[SOURCE][one], found[one][SOURCE], strict=True) for one in TARGETS}
    return {one: max(sum(both) / 2 for both in pair) for one, pair in pairs.items()}


HEAD = """# The quickstart's world

Made by `python -m benchmarks.quickstart run --store $STORE --seeds {seeds} --tasks {tasks}` and
then `… table`.
Machine: {machine}. {note}

Percent. {count} seeds, each another world; of several the mean, and in brackets the lowest and the
highest.
*majority*: the commonest answer. *copy*: the source's words and their commonest labels. *lookup*:
the language's own words and theirs. *ceiling*: the teacher tuned on the language's own labels.
*teacher*, *student*: tuned on {source}'s labels alone; the student has half of the layers, and one
serves all four languages. *kept*: student over teacher. Each task's first metric, but floors of
topics are accuracy and those of qa exact match.
"""
COLUMNS = ("majority", "copy", "lookup", "ceiling", "teacher", "student", *quickstart.BASELINES)


def cell(values: Sequence[float]) -> str:
    """Give the mean in percent, and the span of several values."""
    if len(values) == 1:
        return f"{100 * values[0]:.1f}"
    low, high = 100 * min(values), 100 * max(values)
    return f"{100 * statistics.fmean(values):.1f} [{low:.1f}, {high:.1f}]"


def markdown(told: dict[int, dict[str, Any]], note: str) -> str:
    """Give the page."""
    seeds = " ".join(map(str, told))
    page = HEAD.format(
        seeds=seeds,
        tasks=" ".join(next(iter(told.values()))["tasks"]),
        machine=machine_line(),
        note=note,
        count=len(told),
        source=SOURCE,
    )
    lines = [page]
    for task in next(iter(told.values()))["tasks"]:
        lines += [f"## {task}", "", "| language | " + " | ".join((*COLUMNS, "kept")) + " |"]
        lines += ["|---|" + "---:|" * (len(COLUMNS) + 1)]
        for one in (SOURCE, *TARGETS):
            rows = [seed["tasks"][task][one] for seed in told.values()]
            kept = cell([row["student"] / row["teacher"] for row in rows])
            cells = [cell([row[name] for row in rows]) for name in COLUMNS]
            lines.append(f"| {one} | " + " | ".join([*cells, kept]) + " |")
        lines.append("")
    lines += ["## Do the languages meet?", ""]
    lines += ["Parallel sentences found by cosine at the best layer, of 200, both ways:", ""]
    lines += [
        f"- {SOURCE}–{one}: {cell([seed['retrieval'][one] for seed in told.values()])}"
        for one in TARGETS
    ]
    lines += ["", "## Answers on unlabelled text beside the teacher's (fidelity)", ""]
    systems = ("student", *quickstart.BASELINES)
    for task in next(iter(told.values()))["fidelity"]:
        lines += [f"| {task} | " + " | ".join(systems) + " |", "|---|" + "---:|" * len(systems)]
        for one in (SOURCE, *TARGETS):
            rows = [seed["fidelity"][task][one] for seed in told.values()]
            cells = [cell([row[name] for row in rows]) for name in systems]
            lines.append(f"| {one} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["## `limbeck quickstart`, the pair of the recipe (ner)", ""]
    heads = ["seed", "teacher", "student", "kept", *quickstart.BASELINES]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
    for number, seed in told.items():
        teacher, student, *plain = seed["pair"].values()
        shown = [teacher, student, student / teacher, *plain]
        lines.append(f"| {number} | " + " | ".join(f"{100 * one:.1f}" for one in shown) + " |")
    return "\n".join(lines) + "\n"


def record_of(store: Path, name: str, seed: int, *rest: str) -> dict[str, Any]:
    """Give what a run told."""
    path = store / "runs" / f"{run_name(name, seed, *rest)}.json"
    return dict(json.loads(path.read_text()))


def fidelity_of(
    store: Path, seed: int, tasks: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Give task → language → system → fidelity."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for task in tasks:
        if task == "qa":
            continue  # It cannot be asked of running text.
        found[task] = {one: {} for one in (SOURCE, *TARGETS)}
        for row in ("student", *quickstart.BASELINES):
            rest = () if row == "student" else (row.replace(" ", "-"),)
            told = record_of(store, "-".join((f"{task}-all", *rest)), seed)
            for one, scored in told["fidelity"].items():
                found[task][one][row] = scored["metrics"][scored["primary"]]
    return found


def pair_of(store: Path, seed: int) -> dict[str, float]:
    """Give the target's score in `limbeck quickstart` itself, the teacher's first."""
    target = TARGETS[0]
    runs = {"teacher": (), "student": ()}
    runs |= {row: (row.replace(" ", "-"),) for row in quickstart.BASELINES}
    found = {}
    for row, rest in runs.items():
        system = "teacher" if row == "teacher" else "student"
        scored = record_of(store, "quickstart", seed, *rest)["scores"][system][target]
        found[row] = scored["metrics"][scored["primary"]]
    return found


def main() -> None:
    """Run seeds, or write the table."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("limbeck").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["ner", "pos"])
    parser.add_argument("--out", type=Path, default=Path("results/quickstart"))
    parser.add_argument("--note", default="", help="a sentence for the page")
    given = parser.parse_args()
    if given.what == "run":
        for seed in given.seeds:
            run(given.store, seed, given.tasks)
        return
    told = {
        seed: {
            "tasks": told_by(given.store, seed, given.tasks),
            "retrieval": retrieval_of(given.store, seed),
            "pair": pair_of(given.store, seed),
            "fidelity": fidelity_of(given.store, seed, given.tasks),
        }
        for seed in given.seeds
    }
    given.out.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    given.out.with_suffix(".md").write_text(markdown(told, given.note))


if __name__ == "__main__":
    main()
