"""What the knobs of phase 1 change: short trainings that differ in one field, judged alike.

    python -m benchmarks.defaults --data DATA --teacher TEACHER --store STORE --out results/defaults

Their losses cannot be compared, since the knobs change what a loss is. So each student is judged
by what no knob touches, on held-out text of each language: the relative error of its last states
on unmasked text, and how often it names the same masked piece as its teacher, whose decoder it
shares. No label is read.
"""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.zero_shot import machine_line, recipe_of
from limbeck import pipeline
from limbeck.artifact import Store
from limbeck.blocks import PackedText
from limbeck.distil import distil_general
from limbeck.encoder import states_and_logits
from limbeck.losses import hidden_mse
from limbeck.recipe import Recipe
from limbeck.stages import general
from limbeck.stages.models import Attention, trimmed_teacher
from limbeck.stages.record import Job, layer_plan_of

VARIANTS: dict[str, list[str]] = {
    "default": [],
    "plain MSE": ["general.objective.scale=plain"],
    "masking 0.15": ["general.objective.masking=0.15"],
    "attention 1, relative": ["general.objective.attention=1.0"],
    "S2: plain, attention 1, masking 0.15": [
        "general.objective.scale=plain",
        "general.objective.attention=1.0",
        "general.objective.masking=0.15",
    ],
    "batch twice as large, half the steps": ["general.batch_pieces=2048"],
    "learning rate 5e-4": ["general.learning_rate=5e-4"],
    "learning rate 2e-3": ["general.learning_rate=2e-3"],
}
"""Row of the table to what it changes in the shipped recipe."""
BLOCKS = 64
"""Held-out blocks a language on which students are judged."""


def judged(
    student: PreTrainedModel, teacher: PreTrainedModel, text: PackedText
) -> dict[str, dict[str, float]]:
    """Judge a student on held-out text.

    Returns:
        Language to `error`, the relative error of the last states on unmasked text, and `agrees`,
        the share of masked pieces at which both models' first guess is the same piece.
    """
    told = {}
    for language, one in text.held_out.items():
        ids = np.stack([one.block(i) for i in range(min(BLOCKS, len(one)))])
        masked = text.mask(ids, rng=np.random.default_rng(0), probability=0.15)
        errors, same = [], []
        for start in range(0, len(ids), 8):
            rows = slice(start, start + 8)
            device = student.device
            plain, hidden = (torch.from_numpy(x[rows]).to(device) for x in (ids, masked.ids))
            mask = torch.ones_like(plain)
            chosen = torch.from_numpy(masked.labels[rows] >= 0).to(device)
            with torch.inference_mode():
                a, b = (
                    states_and_logits(m, plain, mask, attention=False).states
                    for m in (student, teacher)
                )
                errors.append(
                    float(hidden_mse(a.hidden[-1], b.hidden[-1], mask.bool(), scale="relative"))
                )
                first = [
                    m(input_ids=hidden, attention_mask=mask).logits[chosen].argmax(-1)
                    for m in (student, teacher)
                ]
            same.append((first[0] == first[1]).float())
        told[language] = {
            "error": float(np.mean(errors)),
            "agrees": float(torch.cat(same).mean()),
        }
    return told


def row_of(recipe: Recipe, store: Store, *, steps: int) -> dict[str, Any]:
    """Train one student for some steps, on the pieces of text that the default would see."""
    from limbeck.encoder import load_encoder

    planned = {one.stage.name: one for one in pipeline.plan(recipe, store)}
    inputs = {}
    for name in ("vocabulary", "student"):
        found = store.find(name, planned[name].manifest.key)
        if found is None:
            raise SystemExit(f"{name} is not done; run the recipe on this store first")
        inputs[name] = found
    with tempfile.TemporaryDirectory() as work:
        job = Job(recipe, Path(work), inputs)
        attention: Attention = "eager" if recipe.general.objective.attention else "sdpa"
        student = load_encoder(inputs["student"].path("model"), head="mlm", attention=attention)
        teacher = trimmed_teacher(job, attention=attention)
        text = general.general_text(job)
        paced = recipe.general.model_copy(
            update={"steps": steps * 1024 // recipe.general.batch_pieces}
        )
        started = time.monotonic()
        distil_general(
            student,
            teacher,
            plan=layer_plan_of(recipe),
            text=text,
            general=paced,
            seed=recipe.seed,
            work=job.work,
            machine=recipe.machine,
        )
        seconds = time.monotonic() - started
        student.eval()
        teacher.eval()
        return {"seconds": seconds, **judged(student, teacher, text)}


def markdown(rows: Mapping[str, dict[str, Any]], args: argparse.Namespace) -> str:
    """Give the table as Markdown."""
    languages = [one for one in next(iter(rows.values())) if one != "seconds"]
    lines = [
        "# What the knobs of phase 1 change",
        "",
        f"Made by `python -m benchmarks.defaults --data $DATA --teacher $TEACHER --store $STORE "
        f"--out results/defaults --recipe {args.recipe} --steps {args.steps}`. Machine: "
        f"{machine_line()}; seed {args.seed}. Short trainings ({args.steps} steps of 1,024 pieces "
        "or their equal), each judged on held-out text by what no knob touches: *error*, the "
        "relative error of the last states (unmasked text, lower is better); *agrees*, how often "
        "student and teacher guess the same masked piece (percent, higher is better).",
        "",
        "| variant | seconds | " + " | ".join(f"{o} error | {o} agrees" for o in languages) + " |",
        "|---|---:|" + "---:|---:|" * len(languages),
    ]
    for name, row in rows.items():
        cells = [f"{row[o]['error']:.4f} | {100 * row[o]['agrees']:.1f}" for o in languages]
        lines.append(f"| {name} | {row['seconds']:.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the table; written after every row."""
    logging.basicConfig(level=logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True, help="where the recipe has run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="eng-yor-pos")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    rows: dict[str, dict[str, Any]] = {}
    for variant in args.variants:
        recipe = recipe_of(args.recipe, VARIANTS[variant], args)
        rows[variant] = row_of(recipe, Store(args.store), steps=args.steps)
        args.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
        args.out.with_suffix(".md").write_text(markdown(rows, args))


if __name__ == "__main__":
    main()
