"""What this machine can do at most: products of matrices in three precisions, and memory.

    python -m limbeck.roofline THREADS

In a process of its own, for the count of threads is the process's.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from limbeck.bench import calm_environment

_SIDE = 1024
"""Rows and columns of the matrices: 1 to 4 MB each, far more work than traffic."""
_BYTES = 1 << 28
_SECONDS = 0.4
"""How long each is tried."""


def ceilings(threads: int) -> dict[str, float]:
    """Measure the ceilings with so many threads.

    Returns:
        `fp32_flops`, `bf16_flops`, `int8_flops` a second (a product and its sum are two), and
        `memory_bytes` a second, read and written. Empty where torch or onnx is not installed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "limbeck.roofline", str(threads)],
        capture_output=True,
        text=True,
        env=calm_environment(threads),
        check=False,
    )
    found: dict[str, float] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def share(figures: Mapping[str, Any], limits: Mapping[str, float]) -> dict[str, float]:
    """Give the shares of the ceilings that a system reaches while it answers.

    Args:
        figures: A system's, as `race` gives them.
        limits: As `ceilings` gives them, of as many threads as read one text.

    Returns:
        `compute`, by the ceiling of the system's precision, and `memory`: what is read if each
        answer reads every matrix once. Empty where either is not known.
    """
    if not limits or "flops_per_second" not in figures:
        return {}
    precision = figures["precision"]
    read = figures["weights_per_second"] * (1 if precision == "int8" else 4)
    return {
        "compute": round(figures["flops_per_second"] / limits[f"{precision}_flops"], 3),
        "memory": round(read / limits["memory_bytes"], 3),
    }


def _measure(threads: int) -> dict[str, float]:
    import torch

    torch.set_num_threads(threads)
    flops = 2 * _SIDE**3
    found = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        square = torch.ones(_SIDE, _SIDE, dtype=kind)
        found[f"{name}_flops"] = flops / _fastest(partial(torch.mm, square, square))
    found["int8_flops"] = flops / _fastest(_int8_product(threads))
    source = torch.ones(_BYTES // 8, dtype=torch.float32)
    copy = partial(torch.empty_like(source).copy_, source)
    found["memory_bytes"] = _BYTES / _fastest(copy)
    return {name: round(value) for name, value in found.items()}


def _int8_product(threads: int) -> Callable[[], object]:
    """Give the product as onnxruntime carries it out: unsigned by a constant signed matrix."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from limbeck.backends import session
    from limbeck.tracing import OPSET

    square = [_SIDE, _SIDE]
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, square)],
        [helper.make_tensor_value_info("c", TensorProto.INT32, square)],
        [numpy_helper.from_array(np.ones(square, dtype=np.int8), "b")],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    run = session(model.SerializeToString(), ("a",), threads=threads)
    batch = {"a": np.ones(square, dtype=np.uint8), "input_ids": np.ones(square, dtype=np.uint8)}
    return lambda: run(batch)


def _fastest(work: Callable[[], object]) -> float:
    """Give the least seconds of several tries."""
    work()
    best, until = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]))))
