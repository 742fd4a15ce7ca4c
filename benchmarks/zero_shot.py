"""The zero-shot table: shipped recipes × ways to make the student, teacher beside.

    python -m benchmarks.zero_shot --data DATA --teacher TEACHER --store STORE --out results/tagging

DATA holds `corpora/`, `pos/`, `ner/`, … as recipes name them; TEACHER is a model folder. Each
variant is the shipped recipe with the overrides of `VARIANTS`, so each row can be had alone by
`limbeck run --set`. Writes OUT.json and OUT.md after every run, so that a stopped table is a
shorter table.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck import bench, pipeline
from limbeck.artifact import Store
from limbeck.doctor import facts
from limbeck.recipe import Recipe, read_recipe, toml_string
from limbeck.tasks import TASKS

VARIANTS: dict[str, list[str]] = {
    "student: both phases": [],
    "phase 1 only": ["task.objective.kind=labels"],
    "phase 2 only": ["general.steps=0"],
    "random init, same budget": ["student.init=random"],
    "both phases, no text": ["task.objective.text=0.0"],
    "both phases, text 0.5": ["task.objective.text=0.5"],
    "both phases, kd, no text": ["task.objective.kind=kd", "task.objective.text=0.0"],
    "both phases, 3 layers": ["student.layers=3"],
    "both phases, 2 layers": ["student.layers=2"],
    "phase 1 only, 2 layers": ["student.layers=2", "task.objective.kind=labels"],
    "both phases, 1 layer": ["student.layers=1"],
    "both phases, half the neurons": ["student.feed_forward=0.5"],
    "both phases, a quarter of the neurons": ["student.feed_forward=0.25"],
    "both phases, 6 layers, a quarter of the neurons": [
        "student.layers=6",
        "student.feed_forward=0.25",
    ],
}
"""Row of the table to what it changes in the shipped recipe."""


def recipe_of(name: str, overrides: list[str], places: argparse.Namespace) -> Recipe:
    """Give a shipped recipe with the data's and the teacher's places put in."""
    shipped = read_recipe(name)
    corpora = [
        f"corpus.{language}={toml_string(places.data / 'corpora' / f'{language}.txt')}"
        for language in shipped.corpus.texts
    ]
    roots = {"task": shipped.task.benchmark, "evaluate": shipped.evaluate.benchmark}
    benchmarks = [
        f"{section}.benchmark.root={toml_string(places.data / Path(one.root).name)}"
        for section, one in roots.items()
        if one is not None
    ]
    return read_recipe(
        name,
        [
            f"teacher.model={toml_string(places.teacher)}",
            *benchmarks,
            f"seed={places.seed}",
            *corpora,
            *overrides,
        ],
    )


def run_name(recipe: str, variant: str, seed: int) -> str:
    """Give the name of a variant's run in its store."""
    slug = "".join(one if one.isalnum() else "-" for one in variant)
    return f"{recipe}.{slug}.{seed}"


def latency(model_folder: Path, *, head: str, length: int = 32) -> float:
    """Give the median milliseconds of one sentence of `length` pieces, batch 1, in torch."""
    from limbeck.encoder import load_encoder

    model = load_encoder(model_folder, head=head, attention="sdpa")
    ids = torch.from_numpy(np.random.default_rng(0).integers(5, 1000, (1, length)))
    mask = torch.ones_like(ids)
    with torch.inference_mode():
        systems = {"it": lambda _: model(input_ids=ids, attention_mask=mask)}
        return bench.latency(systems, range(100), warmup=20)["it"].p50_ms


def rows_of(told: dict[str, Any], variant: str, *, is_first: bool) -> list[dict[str, Any]]:
    """Give the table's rows of one run: the student's, and once a recipe the teacher's."""
    names = {"student": variant}
    if is_first:
        names = {
            "teacher": "teacher",
            "trimmed teacher": "trimmed teacher",
            **names,
            "majority label": "majority label",
        }
    rows = []
    for system, shown in names.items():
        row: dict[str, Any] = {"system": shown, "scores": {}}
        size = told["size"].get(system)
        if size:
            row |= {"parameters": size["total"], "bytes": size["bytes"]}
        for place, scores in told["scores"][system].items():
            primary = scores["primary"]
            row["metric"] = primary
            row["scores"][place] = {
                "value": scores["metrics"][primary],
                "interval": scores["interval"][primary],
                "n": scores["n"],
            }
            if system == "student":
                against = told["student_against_teacher"][place]
                language = place.partition(".")[0]
                row["scores"][place] |= {
                    "retention": against["retention"],
                    "loyalty": against["loyalty"],
                    # A question cannot be had from running text.
                    "fidelity": told["fidelity"]
                    .get(language, {"metrics": {}})["metrics"]
                    .get(primary),
                    "difference": against["difference"],
                    "difference_interval": against["interval"],
                    "p_value": against["p_value"],
                }
        rows.append(row)
    return rows


def machine_line() -> str:
    """Give the machine in words."""
    found = facts()
    gigabytes = (found["memory_bytes"] or 0) / 2**30
    flags = ", ".join(found["cpu_flags"])
    return f"{found['cores']} cores, {found['cpu']} ({flags}), {gigabytes:.0f} GiB, no GPU"


HEAD = """# {title}

Made by `python -m benchmarks.zero_shot --data $DATA --teacher $TEACHER --store $STORE --out
results/{out} --recipes …`; every row is the shipped recipe of that name with the overrides that
`VARIANTS` in `benchmarks/zero_shot.py` gives. Machine: {machine}. One seed ({seed}) so far.

Labels are the source's only; the target's are read once, for the score. Models are selected on
the source's dev data. Scores are percent with a bootstrap 95 % interval over test examples; *kept*
is the student's score over its full teacher's, *loyal* the share of the test set's answers
(percent) in which both agree, *fidelity* the student's score on held-out unlabelled text, its
teacher's answers taken for gold. *ms*: median latency of one sentence of 32 pieces in torch, batch
1, {threads} threads. {note}
What the tables say stands in [README.md](README.md). First the target's scores, a row each recipe;
then every table whole.
"""


def joined(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the rows of two tables of one recipe; of a system that both have, the first one's."""
    have = {row["system"] for row in rows}
    return rows + [row for row in others if row["system"] not in have]


def pareto(rows: list[dict[str, Any]], place: str, cost: str) -> list[dict[str, Any]]:
    """Give the rows that no cheaper or equally cheap row beats in a place, cheapest first."""
    best, front = -1.0, []
    for row in sorted(
        (row for row in rows if cost in row), key=lambda r: (r[cost], -r["scores"][place]["value"])
    ):
        if row["scores"][place]["value"] > best:
            best = row["scores"][place]["value"]
            front.append(row)
    return front


def front_lines(rows: list[dict[str, Any]], place: str) -> list[str]:
    """Give the Pareto fronts of score against parameters and against latency, a line each."""
    lines = []
    for cost, shown in (
        ("parameters", lambda row: f"{row['parameters'] / 1e6:.2f} M"),
        ("p50_ms", lambda row: f"{row['p50_ms']:.1f} ms"),
    ):
        told = [
            f"{row['system']} ({shown(row)}: {100 * row['scores'][place]['value']:.1f})"
            for row in pareto(rows, place, cost)
        ]
        lines.append(f"Pareto front in {place}: " + " → ".join(told) + ".  ")
    return lines


BASELINES = ("phase 1 only", "phase 2 only", "random init, same budget", "majority label")


def summary(tables: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Give one row a recipe: target scores of teacher, student and baselines."""
    heads = ["recipe", "teacher", "student", "kept", "difference, 95 % interval", *BASELINES]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    for name, rows in tables.items():
        found = {row["system"]: row["scores"] for row in rows}
        target = list(rows[0]["scores"])[-1]
        if "student: both phases" not in found:
            continue
        student = found["student: both phases"][target]
        low, high = student["difference_interval"]
        cells = [
            name,
            f"{100 * found['teacher'][target]['value']:.1f}",
            f"{100 * student['value']:.1f}",
            f"{100 * student['retention']:.1f} %" if student["retention"] else "–",
            f"{100 * student['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
        ]
        for system in BASELINES:
            one = found.get(system)
            cells.append(f"{100 * one[target]['value']:.1f}" if one else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def markdown(tables: dict[str, list[dict[str, Any]]], given: argparse.Namespace) -> str:
    """Give every table as Markdown."""
    seed = given.seed
    head = HEAD.format(
        title=given.title,
        out=given.out.name,
        machine=machine_line(),
        seed=seed,
        threads=torch.get_num_threads(),
        note=given.note,
    )
    lines = [head, *summary(tables), ""]
    for name, rows in tables.items():
        places = list(rows[0]["scores"])
        lines += [f"### {name}: {rows[0]['metric']}, seed {seed}", ""]
        columns = ["system", "parameters", "ms"]
        for place in places:
            columns += [f"{place} (n={rows[0]['scores'][place]['n']})", "kept, loyal, fidelity"]
        lines += ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
        for row in rows:
            cells = [
                row["system"],
                f"{row['parameters'] / 1e6:.2f} M" if "parameters" in row else "",
                f"{row['p50_ms']:.1f}" if "p50_ms" in row else "",
            ]
            for place in places:
                one = row["scores"][place]
                low, high = one["interval"]
                cells.append(f"{100 * one['value']:.1f} [{100 * low:.1f}, {100 * high:.1f}]")
                kept = one.get("retention")
                told = [one.get("loyalty"), one.get("fidelity")]
                cells.append(
                    ", ".join(
                        [
                            f"{100 * kept:.1f} %",
                            *("–" if value is None else f"{100 * value:.1f}" for value in told),
                        ]
                    )
                    if kept is not None
                    else ""
                )
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", *front_lines(rows, places[-1]), ""]
    return "\n".join(lines)


def write(tables: dict[str, list[dict[str, Any]]], places: argparse.Namespace) -> None:
    """Write OUT.json and OUT.md."""
    places.out.with_suffix(".json").write_text(json.dumps(tables, indent=1) + "\n")
    places.out.with_suffix(".md").write_text(markdown(tables, places))


def main() -> None:
    """Run the table."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("limbeck").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", nargs="*", default=["eng-yor-pos"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--set", nargs="+", default=[], help="FIELD=VALUE for every recipe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--note", default="", help="a sentence for the page: how it was trained")
    parser.add_argument("--title", default="Zero-shot transfer on real text")
    parser.add_argument(
        "--also",
        nargs="+",
        type=Path,
        default=[],
        help="JSON of earlier tables; their rows are joined",
    )
    parser.add_argument("--only-done", action="store_true", help="leave out what is not done yet")
    places = parser.parse_args()
    store = Store(places.store)
    tables: dict[str, list[dict[str, Any]]] = {}
    for path in places.also:
        for name, more in json.loads(path.read_text()).items():
            tables[name] = joined(tables.get(name, []), more)
    if tables:
        write(tables, places)
    for name in places.recipes:
        rows: list[dict[str, Any]] = []
        for variant in places.variants:
            recipe = recipe_of(name, [*VARIANTS[variant], *places.set], places)
            if places.only_done and not all(one.is_done for one in pipeline.plan(recipe, store)):
                continue
            run = pipeline.run(recipe, store, name=run_name(name, variant, places.seed))
            new = rows_of(run.to_dict(), variant, is_first=not rows)
            for row in new:
                stage = {"teacher": "teacher", variant: "task"}.get(row["system"])
                if stage:
                    folder = run.artifacts[stage].folder / "model"
                    row["p50_ms"] = latency(folder, head=TASKS[recipe.task.kind].head)
            rows += new
            tables[name] = rows
            write(tables, places)


if __name__ == "__main__":
    main()
