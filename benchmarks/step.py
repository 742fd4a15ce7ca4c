"""What a phase-1 step costs on this machine, and what attention kernels, compile and bf16 change.

    python -m benchmarks.step --teacher TEACHER

Prints one JSON object: GEMM rates, and seconds a step by (attention, compile, precision), medians.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from limbeck.doctor import facts
from limbeck.encoder import base_encoder, layer_states, load_encoder
from limbeck.losses import hidden_mse
from limbeck.plan import layer_plan
from limbeck.student import build_student


def gemm_gflops(dtype: torch.dtype, *, size: int, repeats: int = 5) -> float:
    """Give the rate of a square matrix product, in GFLOP/s, the best of some repeats."""
    a = torch.randn(size, size).to(dtype)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - started)
    return round(2 * size**3 / min(times) / 1e9, 1)


def step_seconds(
    teacher_folder: Path, *, attention: Any, compiled: bool, bf16: bool, steps: int
) -> list[float]:
    """Time phase-1 steps of 8 × 128 pieces, half the layers, hidden states only."""
    teacher = load_encoder(teacher_folder, head="mlm", attention=attention)
    plan = layer_plan(teacher.config.num_hidden_layers, teacher.config.num_hidden_layers // 2)
    student = build_student(teacher, plan).model.train()
    if compiled:
        base_encoder(teacher).compile()
        base_encoder(student).compile()
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-4)
    mask = torch.ones(8, 128, dtype=torch.long)

    def step() -> None:
        ids = torch.randint(5, 1000, (8, 128))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            with torch.no_grad():
                target = layer_states(teacher, ids, mask, attention=False)
            found = layer_states(student, ids, mask, attention=False)
            errors = [
                hidden_mse(mine, target.hidden[layer], mask.bool(), scale="relative")
                for mine, layer in zip(found.hidden, (0, *plan), strict=True)
            ]
            loss = torch.stack(errors).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()

    return [_timed(step) for _ in range(steps)]


def _timed(function: Callable[[], None]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    told: dict[str, Any] = {
        "machine": facts(),
        "gemm_gflops": {
            "fp32, 1024": gemm_gflops(torch.float32, size=1024),
            "bf16, 256": gemm_gflops(torch.bfloat16, size=256),
        },
        "steps": {},
    }
    for attention, compiled, bf16 in itertools.product(
        ("sdpa", "eager"), (False, True), (False, True)
    ):
        if compiled and args.no_compile:
            continue
        times = step_seconds(
            args.teacher, attention=attention, compiled=compiled, bf16=bf16, steps=args.steps
        )
        named = [attention, *["compiled"] * compiled, *["bf16"] * bf16]
        told["steps"][", ".join(named)] = {
            "first_two_seconds": round(sum(times[:2]), 2),
            "median_seconds": round(statistics.median(times[2:]), 4),
        }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
