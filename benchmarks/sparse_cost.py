"""What LT-SFT costs: a step of either training, and the choice of entries of a large model.

    python -m benchmarks.sparse_cost --teacher TEACHER > results/sparse.md

Steps of full tuning, of LT-SFT's second training and of LoRA are timed in turn, so that whatever
else the machine does falls on all alike. The choice is of 8 % of an XLM-R-base's 278 M entries,
drawn at random.
"""

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.zero_shot import machine_line

RATE, BATCH, PIECES, CLASSES = 3e-4, 32, 32, 17


def optimizer_of(model: Any) -> torch.optim.Optimizer:
    """Give the optimizer that training takes."""
    moving = [one for one in model.parameters() if one.requires_grad]
    return torch.optim.AdamW(moving, lr=RATE, weight_decay=0.01, fused=True)


def stepper(teacher: Path, kind: str) -> Any:
    """Give a function that takes one step of a way of tuning."""
    from limbeck.encoder import load_encoder
    from limbeck.parameters import encoder_tensors, head_tensors, linear_layers
    from limbeck.sparse import Hold, choose

    labels = [str(number) for number in range(CLASSES)]
    model = load_encoder(teacher, head="tagging", attention="sdpa", labels=labels).train()
    hold = None
    if kind == "lora":
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel

        heads = list(head_tensors(model))
        LoraModel(model, LoraConfig(r=40, target_modules=linear_layers(model)), "default")
        for name in heads:
            model.get_parameter(name).requires_grad_(True)
    elif kind != "full":
        before = {name: one.detach() for name, one in encoder_tensors(model).items()}
        after = {name: one + torch.randn_like(one) for name, one in before.items()}
        count = round(float(kind) * sum(one.numel() for one in before.values()))
        hold = Hold(model, choose(before, after, count))
    optimizer = optimizer_of(model)
    if hold is not None:
        hold.attach(optimizer)
    ids = torch.randint(5, 1000, (BATCH, PIECES))
    mask, gold = torch.ones_like(ids), torch.randint(0, CLASSES, (BATCH * PIECES,))

    def step() -> None:
        logits = model(input_ids=ids, attention_mask=mask).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), gold).backward()
        if hold is not None:
            hold.collect_gradients()
        moving = hold.moving(model.parameters()) if hold else model.parameters()
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimizer.step()
        model.zero_grad()

    return step


def steps(teacher: Path, rounds: int) -> None:
    """Print seconds a step."""
    rows = {"full tuning": "full", "LoRA, rank 40": "lora"}
    rows |= {f"LT-SFT {share} %": str(share / 100) for share in (1, 4, 8, 16)}
    ready = {row: stepper(teacher, kind) for row, kind in rows.items()}
    for step in ready.values():
        step()
    taken: dict[str, list[float]] = {row: [] for row in rows}
    for _ in range(rounds):
        for row, step in ready.items():
            started = time.perf_counter()
            step()
            taken[row].append(time.perf_counter() - started)
    full = np.median(taken["full tuning"])
    print("| tuning | ms a step, median | quartiles | of full tuning |\n|---|---:|---:|---:|")
    for row, seconds in taken.items():
        low, middle, high = 1000 * np.percentile(seconds, [25, 50, 75])
        share = 100 * np.median(seconds) / full
        print(f"| {row} | {middle:.0f} | {low:.0f} to {high:.0f} | {share:.0f} % |")


def choice() -> None:
    """Print what it takes to choose 8 % of 278 M entries."""
    from limbeck.sparse import choose

    shapes = {"pieces": (250_002, 768), "positions": (514, 768)}
    shapes |= {f"layer {i}": (7_087_872,) for i in range(12)}
    before = {name: torch.randn(shape) for name, shape in shapes.items()}
    after = {name: torch.randn(shape) for name, shape in shapes.items()}
    total = sum(one.numel() for one in before.values())
    held = _peak()
    started = time.perf_counter()
    chosen = choose(before, after, round(0.08 * total))
    seconds = time.perf_counter() - started
    found = sum(map(len, chosen.values()))
    print(
        f"{found:,} of {total:,} entries chosen in {seconds:.1f} s; the two models take "
        f"{2 * 4 * total / 1e9:.2f} GB, the choice at most {(_peak() - held) / 1e9:.2f} GB more."
    )


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=60)
    given = parser.parse_args()
    print("# What LT-SFT costs\n")
    print("Made by `python -m benchmarks.sparse_cost --teacher $TEACHER` (afro-mini);")
    print(f"machine: {machine_line()}; {torch.get_num_threads()} threads.\n")
    choice()  # first: a process' memory is known by its peak alone
    print(f"\nSteps of {BATCH} x {PIECES} pieces, in turn:\n")
    steps(given.teacher, given.rounds)


if __name__ == "__main__":
    main()
