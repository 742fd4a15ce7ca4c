"""A graph in 8 bits: its matrices in one of two ways, its tables of embeddings row by row.

Dynamic: activations are rounded by their own range as they come, which onnxruntime runs fast.
Static: by ranges found beforehand on real sentences, which OpenVINO too runs in 8 bits.
"""

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Rounding = Callable[[onnx.ModelProto, Sequence[str]], onnx.ModelProto]
"""A graph and names of `matrices` to a graph in which those are in 8 bits."""
Ranges = Mapping[str, tuple[float, float]]
"""Name of a tensor to the least and the largest of its entries."""

LARGE_ENTRIES = 1 << 16
"""Entries from which a table of embeddings is worth 8 bits."""
_LEAST = 1e-12
"""Scale of what is all zeros."""


def matrices(graph: onnx.ModelProto) -> list[str]:
    """Give the names of the nodes that multiply by a constant matrix of two axes.

    A `Gemm` is none: it reads one row, a head's of a whole text. There 8 bits save next to nothing,
    and cost more than anywhere else.
    """
    constants = {
        one.name
        for one in graph.graph.initializer
        if len(one.dims) == 2 and min(one.dims) > 1 and one.data_type == TensorProto.FLOAT
    }
    return [
        node.name
        for node in graph.graph.node
        if node.op_type == "MatMul" and node.input[1] in constants
    ]


def tables(graph: onnx.ModelProto) -> list[str]:
    """Give the names of the tables that are looked up in by row and are worth 8 bits."""
    stored = {one.name: one for one in graph.graph.initializer}
    uses = Counter(name for node in graph.graph.node for name in node.input)
    return [
        node.input[0]
        for node in graph.graph.node
        if node.op_type == "Gather"
        and uses[node.input[0]] == 1
        and node.input[0] in stored
        and _is_table(node, stored[node.input[0]])
    ]


def dynamic(graph: onnx.ModelProto, nodes: Sequence[str]) -> onnx.ModelProto:
    """Give a graph with some matrices in 8 bits, a scale a column, activations as they come.

    Args:
        graph: In 32 bits; it is not touched.
        nodes: Names of `matrices`.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if not nodes:  # onnxruntime takes an empty list for all
        return copied(graph)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # it recommends a preparation that the exporter has done
        try:
            quantize_dynamic(
                copied(graph),
                path,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=list(nodes),
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
        finally:
            root.setLevel(level)
        return onnx.load(path)


def static(graph: onnx.ModelProto, nodes: Sequence[str], *, ranges: Ranges) -> onnx.ModelProto:
    """Give a graph with some matrices in 8 bits, a scale a column, activations by known ranges.

    What a matrix reads is rounded before it alone: onnxruntime's own `quantize_static` (1.31) gives
    what was rounded to all that read it, the sums beside the layers and matrices in 32 bits too.

    Args:
        graph: In 32 bits; it is not touched.
        nodes: Names of `matrices`.
        ranges: Of what these read; see `ranges_of`.
    """
    small = copied(graph)
    chosen = set(nodes)
    stored = {one.name: one for one in small.graph.initializer}
    made: list[Any] = []
    there: set[str] = set()
    for node in small.graph.node:
        if node.name not in chosen:
            made.append(node)
            continue
        table = stored[node.input[1]]
        read, weight = f"{node.input[0]}.near", f"{table.name}.near"
        if read not in there:
            made += _around(small, node.input[0], ranges[node.input[0]])
        if weight not in there:
            made.append(_stored(small, numpy_helper.to_array(table), weight))
        there |= {read, weight}
        made.append(helper.make_node("MatMul", [read, weight], node.output, name=node.name))
    del small.graph.node[:]
    small.graph.node.extend(made)
    drop_unused(small)
    return small


def ranges_of(graph: onnx.ModelProto, batches: Iterable[Mapping[str, np.ndarray]]) -> Ranges:
    """Give the ranges of what the matrices of a graph read.

    Args:
        graph: In 32 bits; it is not touched.
        batches: What the graph is run on, real sentences; by the names of its inputs.
    """
    found: dict[str, tuple[float, float]] = {}
    for tables in readings(graph, batches):
        for name, table in tables.items():
            # Nothing, padding's 0, must stay exactly that.
            least, most = found.get(name, (0.0, 0.0))
            found[name] = min(least, float(table.min())), max(most, float(table.max()))
    return found


def errors_of(
    graph: onnx.ModelProto,
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    ranges: Ranges | None = None,
) -> dict[str, float]:
    """Give how far the product of each matrix is off in 8 bits: a share of its own size.

    Root of the mean square over all pieces; what a matrix reads is exact here, so the error is its
    own. One large activation widens the step of all others: gated layers have such.

    Args:
        graph: In 32 bits; it is not touched.
        batches: As `ranges_of` takes them.
        ranges: Of what matrices read; None: each batch's own, as by `dynamic`.
    """
    readers = {
        name: [(node, columns, rounded_columns(columns)) for node, columns in read.items()]
        for name, read in readers_of(graph).items()
    }
    off = {name: [0.0, 0.0] for name in matrices(graph)}
    for tables in readings(graph, batches):
        for name, table in tables.items():
            near = rounded(table, None if ranges is None else ranges[name])
            for node, columns, short in readers[name]:
                apart = squares_apart(near @ short, table @ columns)
                off[node] = [off[node][0] + apart.sum(), off[node][1] + apart.size]
    return {node: float(np.sqrt(total / max(pieces, 1))) for node, (total, pieces) in off.items()}


def squares_apart(near: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Give of each piece how far its product is off, squared: a share of its own size, at most 1.

    A loud piece drowns no other: what follows brings all of them to one size.

    Args:
        near: Products [..., M].
        exact: The same in 32 bits.
    """
    off, size = (np.square(one).sum(axis=-1) for one in (near - exact, exact))
    return np.minimum(off / np.maximum(size, _LEAST), 1.0)


def rounded(table: np.ndarray, ends: tuple[float, float] | None = None) -> np.ndarray:
    """Give what is left of activations in 8 bits.

    Args:
        table: Any shape.
        ends: A range that holds 0; None: the table's own, 0 included.
    """
    least, most = (table.min(initial=0.0), table.max(initial=0.0)) if ends is None else ends
    scale, zero = _step((float(least), float(most)))
    return (np.clip(np.rint(table / scale) + zero, 0, 255) - zero) * scale


def rounded_columns(columns: np.ndarray) -> np.ndarray:
    """Give what is left of a matrix [N, M] in 8 bits, a scale a column."""
    short, scale = _in_columns(columns)
    return short * scale


def readers_of(graph: onnx.ModelProto) -> dict[str, dict[str, np.ndarray]]:
    """Give the `matrices` that read each tensor: name of the tensor to name to what it holds."""
    chosen, stored = set(matrices(graph)), {one.name: one for one in graph.graph.initializer}
    found: dict[str, dict[str, np.ndarray]] = {}
    for node in graph.graph.node:
        if node.name in chosen:
            columns = numpy_helper.to_array(stored[node.input[1]])
            found.setdefault(node.input[0], {})[node.name] = columns
    return found


def readings(
    graph: onnx.ModelProto, batches: Iterable[Mapping[str, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
    """Give what the matrices of a graph read of each batch, by the tensor's name."""
    import onnxruntime

    chosen = set(matrices(graph))
    names = sorted({node.input[0] for node in graph.graph.node if node.name in chosen})
    open_graph = copied(graph)
    given = {one.name for one in open_graph.graph.output}
    more = [onnx.ValueInfoProto(name=name) for name in names if name not in given]
    open_graph.graph.output.extend(more)
    ready = onnxruntime.InferenceSession(
        open_graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for batch in batches:
        yield dict(zip(names, ready.run(names, dict(batch)), strict=True))


def quantized(
    graph: onnx.ModelProto, *, keep: Sequence[str] = (), rounding: Rounding = dynamic
) -> onnx.ModelProto:
    """Give a graph with its matrices and its embeddings in 8 bits.

    Args:
        graph: In 32 bits; it is not touched.
        keep: Names of `matrices` and `tables` that stay as they are.
        rounding: How the other matrices are rounded.
    """
    small = rounding(graph, [one for one in matrices(graph) if one not in keep])
    _shorten_tables(small, [one for one in tables(graph) if one not in keep])
    return small


def copied(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Give a graph's copy, to be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    return copy


def _around(graph: onnx.ModelProto, name: str, ends: tuple[float, float]) -> list[Any]:
    """Give the two nodes that round a tensor to 8 bits and back."""
    scale, zero = _step(ends)
    by = [f"{name}.near.scale", f"{name}.near.zero"]
    for one, value in zip(by, (scale, zero), strict=True):
        graph.graph.initializer.append(numpy_helper.from_array(np.asarray(value), one))
    short, wide = f"{name}.uint8", f"{name}.near"
    return [
        helper.make_node("QuantizeLinear", [name, *by], [short], name=short),
        helper.make_node("DequantizeLinear", [short, *by], [wide], name=wide),
    ]


def _step(ends: tuple[float, float]) -> tuple[np.float32, np.uint8]:
    """Give the step of unsigned 8 bits over a range that holds 0, and which of them is 0."""
    scale = np.float32(max((ends[1] - ends[0]) / 255, _LEAST))
    return scale, np.uint8(np.clip(np.rint(-ends[0] / scale), 0, 255))


def _in_columns(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give a matrix as int8, and the scale of each column."""
    scale = (np.maximum(np.abs(columns).max(axis=0), _LEAST) / 127).astype(np.float32)
    return np.rint(columns / scale).astype(np.int8), scale


def _stored(graph: onnx.ModelProto, columns: np.ndarray, name: str) -> Any:
    """Store a matrix as int8, a scale a column, and give the node that reads it."""
    short, scale = _in_columns(columns)
    parts = {"int8": short, "scale": scale, "zero": np.zeros(len(scale), dtype=np.int8)}
    names = [f"{name}.{part}" for part in parts]
    for one, value in zip(names, parts.values(), strict=True):
        graph.graph.initializer.append(numpy_helper.from_array(value, one))
    return helper.make_node("DequantizeLinear", names, [name], name=name, axis=1)


def drop_unused(graph: onnx.ModelProto) -> None:
    """Take the constants out of a graph that nothing reads."""
    used = {name for node in graph.graph.node for name in node.input}
    left = [one for one in graph.graph.initializer if one.name in used]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(left)


def _shorten_tables(graph: onnx.ModelProto, names: Sequence[str]) -> None:
    """Store some of a graph's `tables` as int8: a scale a row, a factor a column."""
    stored = {one.name: one for one in graph.graph.initializer}
    made: list[Any] = []
    for node in graph.graph.node:
        if node.op_type != "Gather" or node.input[0] not in names:
            made.append(node)
            continue
        table = stored[node.input[0]]
        rows = numpy_helper.to_array(table)
        # Some columns are several times larger than the others; a row has one step for all.
        factors = np.maximum(np.sqrt(np.square(rows).mean(axis=0)), _LEAST)
        even = rows / factors
        scale = np.maximum(np.abs(even).max(axis=1, keepdims=True), _LEAST) / 127
        short = np.rint(even / scale).astype(np.int8)
        name = table.name
        graph.graph.initializer.remove(table)
        for part, value in (("int8", short), ("scale", scale), ("factors", factors)):
            kept = value if part == "int8" else value.astype(np.float32)
            graph.graph.initializer.append(numpy_helper.from_array(kept, f"{name}.{part}"))
        index, out = node.input[1], node.output[0]
        made += [
            helper.make_node("Gather", [f"{name}.int8", index], [f"{out}.int8"]),
            helper.make_node("Cast", [f"{out}.int8"], [f"{out}.wide"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}.scale", index], [f"{out}.scale"]),
            helper.make_node("Mul", [f"{out}.wide", f"{out}.scale"], [f"{out}.even"]),
            helper.make_node("Mul", [f"{out}.even", f"{name}.factors"], [out]),
        ]
    del graph.graph.node[:]
    graph.graph.node.extend(made)


def _is_table(node: Any, table: Any) -> bool:
    axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
    is_float = table.data_type == TensorProto.FLOAT
    return axis == 0 and is_float and len(table.dims) == 2 and np.prod(table.dims) >= LARGE_ENTRIES
