"""What a student loses of its teacher with its neurons, before any training, and what the refit is.

    python -m benchmarks.narrow --data DATA --teacher TEACHER [--languages eng yor]

Prints Markdown: for each share of neurons and way to choose them, the squared error of the last
layer's states over their mean square, on text that chose nothing. All layers are kept.
"""

import argparse
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.zero_shot import machine_line
from limbeck.architectures import architecture_of
from limbeck.encoder import layer_states, load_encoder
from limbeck.narrowing import narrow, neuron_moments, neurons_in
from limbeck.student import build_student
from limbeck.tokenizer import load_tokenizer

SHARES = (0.75, 0.5, 0.25, 0.125)
BLOCK, CHOOSING, JUDGING = 128, 128, 64
"""Pieces of a block of text, and blocks of a language that choose neurons and that judge them."""


def blocks(path: Path, tokenizer: Any) -> Iterator[torch.Tensor]:
    """Give a corpus in blocks [1, T], from its beginning."""
    ids: list[int] = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            ids += tokenizer.encode(line.strip()).ids
            while len(ids) >= BLOCK:
                yield torch.tensor([ids[:BLOCK]])
                ids = ids[BLOCK:]


def without_refit(model: Any, moments: list[torch.Tensor]) -> list[torch.Tensor]:
    """Give moments by which neurons are chosen alike, and that tell the refit of no relation."""
    return [torch.diag(one.diagonal()) for one in moments]


def by_weights(model: Any, moments: list[torch.Tensor]) -> list[torch.Tensor]:
    """Give moments by which neurons are chosen by their weights alone, without a refit."""
    block, count = architecture_of(model.config).feed_forward, neurons_in(model.config)
    stack = model.base_model.get_submodule(architecture_of(model.config).layers)
    found = []
    for layer in stack.children():
        size = torch.zeros(count)
        for module in block.into:
            size += (
                layer.get_submodule(module)
                .weight.detach()
                .unflatten(0, (-1, count))
                .square()
                .sum((0, 2))
            )
        found.append(torch.diag(torch.cat([size, torch.ones(1)])))
    return found


WAYS = {
    "weights alone": by_weights,
    "text": without_refit,
    "text, refitted (limbeck's)": lambda model, moments: moments,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", default=["eng", "yor"])
    given = parser.parse_args()
    tokenizer = load_tokenizer(given.teacher)
    teacher = load_encoder(given.teacher, head="mlm", attention="sdpa")
    texts = {
        one: list(
            islice(blocks(given.data / "corpora" / f"{one}.txt", tokenizer), CHOOSING + JUDGING)
        )
        for one in given.languages
    }
    plan = tuple(range(1, getattr(teacher.config, architecture_of(teacher.config).depth) + 1))
    chosen = (ids for found in texts.values() for ids in found[:CHOOSING])
    moments = neuron_moments(teacher, plan, chosen)
    wide = build_student(teacher, plan)

    def last(model: Any, ids: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return (
                layer_states(model, ids, torch.ones_like(ids), attention=False).hidden[-1].numpy()
            )

    judged = {one: torch.cat(found[CHOOSING:]) for one, found in texts.items()}
    expected = {one: last(teacher, ids) for one, ids in judged.items()}
    count = neurons_in(teacher.config)
    print(f"Machine: {machine_line()}.\n")
    print("| neurons | chosen by | parameters, M | " + " | ".join(judged) + " |")
    print("|---:|---|---:|" + "---:|" * len(judged))
    for share, (way, told) in product(SHARES, WAYS.items()):
        student = narrow(wide, share, told(teacher, moments)).model
        size = sum(one.numel() for one in student.parameters()) / 1e6
        errors = [
            float(
                np.square(last(student, ids) - expected[one]).mean()
                / np.square(expected[one]).mean()
            )
            for one, ids in judged.items()
        ]
        cells = " | ".join(f"{100 * one:.2f} %" for one in errors)
        print(
            f"| {100 * neurons_in(student.config) / count:.0f} % | {way} | {size:.2f} | {cells} |"
        )


if __name__ == "__main__":
    main()
