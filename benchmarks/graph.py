"""What a bundle's graph spends its time on, and what other ways to run it would change.

    python -m benchmarks.graph --int8 BUNDLE --fp32 BUNDLE [--pieces 32] [--threads 1]

Both bundles are of one model. Prints one JSON object: milliseconds by kind of node, from
onnxruntime's profile, and the share of the machine's int8 ceiling that the products of matrices
reach; median milliseconds of a sentence, the ways taken in turn: as it is run, evened out as most
trained models are (`smoothed_by_rows`), with the fusion that is turned off, and with matrices in 8
bits by blocks (`MatMulNBits`).
"""

import argparse
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

from limbeck import backends
from limbeck.bench import latency
from limbeck.bundle import MODEL, read_bundle
from limbeck.roofline import ceilings
from limbeck.rounding import quantized
from limbeck.smoothing import smoothed_by_rows

BLOCK = 128
PRODUCTS = ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger")
"""Nodes that multiply by a matrix in 8 bits, as onnxruntime fuses them."""


def profile(graph: bytes, batch: dict[str, np.ndarray], *, threads: int, runs: int) -> Any:
    """Give milliseconds a run by kind of node, most first, and their sum."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        ready = onnxruntime.InferenceSession(
            graph, options, ["CPUExecutionProvider"], disabled_optimizers=backends._SLOWER
        )
        for _ in range(runs):
            ready.run(None, batch)
        events = json.loads(Path(ready.end_profiling()).read_text())
    spent: Counter[str] = Counter()
    for one in events:
        if one.get("cat") == "Node" and one["name"].endswith("_kernel_time"):
            spent[one["args"]["op_name"]] += one["dur"]
    told = {name: round(time / 1000 / runs, 3) for name, time in spent.most_common()}
    return {"all": round(sum(spent.values()) / 1000 / runs, 3), **told}


def of_ceiling(profiled: dict[str, float], products: int, threads: int) -> dict[str, float]:
    """Give what a graph's products of matrices in 8 bits reach of what this machine can do.

    Args:
        profiled: As `profile` gives it.
        products: Multiplications by matrices.
        threads: Of both.
    """
    milliseconds = sum(time for kind, time in profiled.items() if kind in PRODUCTS)
    reached, limit = 2 * products / milliseconds * 1000, ceilings(threads)["int8_flops"]
    return {
        "products_ms": round(milliseconds, 3),
        "gflops": round(reached / 1e9),
        "ceiling_gflops": round(limit / 1e9),
        "share": round(reached / limit, 3),
    }


def in_blocks(graph: bytes) -> bytes:
    """Give a graph in 32 bits with its matrices in 8 bits by blocks, activations too."""
    config = DefaultWeightOnlyQuantConfig(
        block_size=BLOCK, is_symmetric=True, accuracy_level=4, bits=8
    )
    made = MatMulNBitsQuantizer(onnx.load_from_string(graph), algo_config=config)
    made.process()
    return bytes(made.model.model.SerializeToString())


def with_fusion(graph: bytes, inputs: tuple[str, ...], threads: int) -> backends.Run:
    """Give what runs a graph with every fusion of onnxruntime's."""
    turned_off, backends._SLOWER[:] = list(backends._SLOWER), []
    try:
        return backends.session(graph, inputs, threads=threads)
    finally:
        backends._SLOWER[:] = turned_off


def main() -> None:
    """Print the object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--int8", type=Path, required=True)
    parser.add_argument("--fp32", type=Path, required=True)
    parser.add_argument("--pieces", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=60)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    about, files = read_bundle(given.int8)
    graph = files[MODEL]
    ids = np.random.default_rng(0).integers(5, 1000, (1, given.pieces))
    batch = backends.read_of({"input_ids": ids, "attention_mask": np.ones_like(ids)}, about.inputs)
    _, whole = read_bundle(given.fp32)
    run: Callable[[bytes], backends.Run] = partial(
        backends.session, inputs=about.inputs, threads=given.threads
    )
    systems = {
        "int8": run(graph),
        "int8, evened out by rows": run(
            quantized(smoothed_by_rows(onnx.load_from_string(whole[MODEL]))).SerializeToString()
        ),
        "int8, SkipLayerNormFusion": with_fusion(graph, about.inputs, given.threads),
        f"int8 in blocks of {BLOCK}": run(in_blocks(whole[MODEL])),
        "fp32": run(whole[MODEL]),
    }
    timed = latency(systems, [batch] * given.runs)
    profiled = profile(graph, dict(batch), threads=given.threads, runs=given.runs)
    told = {
        "pieces": given.pieces,
        "threads": given.threads,
        "p50_ms": {name: one.p50_ms for name, one in timed.items()},
        "profile_ms": profiled,
        "int8": of_ceiling(
            profiled, given.pieces * about.cost["products_per_piece"], given.threads
        ),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
