"""A graph whose matrices read entries of like sizes, so that one step of 8 bits suits them all.

All that a matrix reads is rounded by one step: an entry a hundred times larger than the others
leaves them a hundredth of the steps. Two things even them out, and the function stays the same. By
columns: a column is divided by a number, and the matrix's row multiplied by it. By rows: a piece's
entries are divided by the largest of them, and their product is multiplied by it.

Source: by columns, SmoothQuant (Xiao et al. 2023, arXiv 2211.10438), section 4.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from limbeck.last_rows import has_graph
from limbeck.rounding import (
    copied,
    drop_unused,
    readers_of,
    readings,
    rounded,
    rounded_columns,
    squares_apart,
)

STRENGTH = 0.75
"""How far the sizes of columns go over into the matrix: 0 not at all, 1 whole.
Of 0.5, 0.75 and 1 the one with the least errors of products on unlabelled text."""
NEAR = 0.015
"""Error of a product, as a share of its size, that no time is spent on. One of evenly spread
entries is off by 0.012."""
_WORTH = 1.1
"""By how much the errors of two ways may differ for the cheaper one to be taken."""
_NORMS = ("LayerNormalization", "RMSNormalization")
_ACTIVATIONS = ("Gelu", "Mul")
"""What ends a feed-forward block's first half, plain or gated."""
_LEAST = 1e-5
"""Largest entry of a row of nothing."""
_QUIET = 0.1
"""Of the middle column: quieter ones count as so loud, for another text may wake them."""


@dataclass(frozen=True, slots=True)
class Even:
    """How what is read is evened out.

    Args:
        columns: What each column is divided by [D]; None: they stay.
        rows: Whether each row is divided by its largest entry.
    """

    columns: np.ndarray | None
    rows: bool

    def __call__(self, table: np.ndarray) -> tuple[np.ndarray, np.ndarray | float]:
        """Give a table [..., D] evened out, and by what a product is to be multiplied [..., 1]."""
        even = table if self.columns is None else table / self.columns
        if not self.rows:
            return even, 1.0
        largest = np.maximum(np.abs(even).max(axis=-1, keepdims=True), _LEAST)
        return even / largest, largest

    def weights(self, columns: np.ndarray) -> np.ndarray:
        """Give the matrix [D, M] that reads what is evened out."""
        return columns if self.columns is None else columns * self.columns[:, None]


def smoothed(
    graph: onnx.ModelProto,
    batches: Sequence[Mapping[str, np.ndarray]],
    *,
    keep: Sequence[str] = (),
) -> onnx.ModelProto:
    """Give a graph with the same answers whose matrices bear 8 bits better.

    Of the ways to even out what they read, the cheapest is taken that leaves the products near
    enough; where none does, the cheapest of those that leave them about as near as any. Columns
    that a norm can divide cost nothing: there the better is taken. Near is told by dynamic
    rounding, whichever comes after. A graph that holds graphs of its own stays as it is.

    Args:
        graph: In 32 bits; it is not touched.
        batches: What the graph is run on, real sentences; by the names of its inputs.
        keep: Names of `matrices` that will stay in 32 bits.
    """
    if _holds_graphs(graph):
        return copied(graph)
    readers = _readers(graph, keep)
    chosen = _choose(graph, batches, readers, free=set(_norms(graph, readers)))
    return _evened(graph, readers, chosen)


def smoothed_by_rows(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Give a graph evened out by rows where an activation is read: trained ones mostly are there.

    What that costs in time can be told by it before there are weights to look at.

    Args:
        graph: In 32 bits; it is not touched.
    """
    if _holds_graphs(graph):
        return copied(graph)
    readers = _readers(graph, ())
    norms = _norms(graph, readers)
    active = {
        name for node in graph.graph.node if node.op_type in _ACTIVATIONS for name in node.output
    } - norms.keys()
    return _evened(graph, readers, {name: Even(None, name in active) for name in readers})


def _holds_graphs(graph: onnx.ModelProto) -> bool:
    """Tell whether a graph holds graphs of its own: what reads inside of them is not seen."""
    return any(has_graph(node) for node in graph.graph.node)


_Readers = Mapping[str, Mapping[str, np.ndarray]]
"""Name of a tensor to name to matrix [D, M], of those that read it."""


def _readers(graph: onnx.ModelProto, keep: Sequence[str]) -> _Readers:
    """Give what reads each tensor in 8 bits, for tensors that have such."""
    read_by = {
        name: {node: one for node, one in read.items() if node not in keep}
        for name, read in readers_of(graph).items()
    }
    return {name: read for name, read in read_by.items() if read}


def _evened(
    graph: onnx.ModelProto, readers: _Readers, chosen: Mapping[str, Even]
) -> onnx.ModelProto:
    """Give a graph in which what matrices read is evened out.

    Args:
        graph: In 32 bits; it is not touched.
        readers: Of what is evened out.
        chosen: How, by its name.
    """
    even = copied(graph)
    stored = {one.name: one for one in even.graph.initializer}
    norms = _norms(even, readers)
    now_read: dict[str, str] = {}
    made: list[Any] = []
    for node in even.graph.node:
        name = node.input[0] if node.input else ""
        if node.name not in readers.get(name, {}):
            made.append(node)
            continue
        way = chosen[name]
        if name not in now_read:
            before, now_read[name] = _evening(even, name, way, norm=norms.get(name))
            made += before
        node.input[0] = now_read[name]
        if way.columns is not None:
            weights = way.weights(numpy_helper.to_array(stored[node.input[1]]))
            node.input[1] = _constant(even, f"{node.input[1]}.{node.name}", weights)
        made.append(node)
        if way.rows:
            product = node.output[0]
            node.output[0] = f"{product}.even"
            made.append(_node("Mul", [f"{product}.even", f"{name}.largest"], product))
    del even.graph.node[:]
    even.graph.node.extend(made)
    drop_unused(even)
    return even


def _choose(
    graph: onnx.ModelProto,
    batches: Sequence[Mapping[str, np.ndarray]],
    readers: _Readers,
    *,
    free: Set[str],
) -> dict[str, Even]:
    """Give how what is read is evened out, by the tensor's name.

    Args:
        graph: In 32 bits.
        batches: What it is run on.
        readers: Of what is evened out.
        free: Tensors whose columns cost no time.
    """
    largest: dict[str, np.ndarray] = {}
    for tables in readings(graph, batches):
        for name, table in _of(tables, readers):
            found = np.abs(table).reshape(-1, table.shape[-1]).max(axis=0)
            largest[name] = np.maximum(largest.get(name, found), found)
    ways = {name: _ways(largest[name], [*read.values()]) for name, read in readers.items()}
    short = {
        (name, way.columns is None): [rounded_columns(way.weights(one)) for one in read.values()]
        for name, read in readers.items()
        for way in ways[name][:2]
    }
    off = {name: np.zeros(len(ways[name])) for name in readers}
    pieces = dict.fromkeys(readers, 0)
    for tables in readings(graph, batches):
        for name, table in _of(tables, readers):
            exact = [table @ one for one in readers[name].values()]
            pieces[name] += sum(one[..., 0].size for one in exact)
            for place, way in enumerate(ways[name]):
                even, by = way(table)
                near = rounded(even)
                pairs = zip(short[name, way.columns is None], exact, strict=True)
                off[name][place] += sum(squares_apart(near @ a * by, b).sum() for a, b in pairs)
    chosen = {}
    for name, errors in off.items():
        shares = np.sqrt(errors / max(pieces[name], 1))
        if name in free:  # whichever of the two is worse is no way
            shares[int(shares[0] < shares[1])] = np.inf
        enough = max(NEAR, _WORTH * float(shares.min()))
        chosen[name] = ways[name][int(np.argmax(shares <= enough))]
    return chosen


def _of(tables: Mapping[str, np.ndarray], readers: _Readers) -> Iterator[tuple[str, np.ndarray]]:
    return ((name, table) for name, table in tables.items() if name in readers)


def _ways(largest: np.ndarray, matrices: Sequence[np.ndarray]) -> list[Even]:
    """Give what may be done to what some matrices [D, M] read, the cheapest first.

    Args:
        largest: Entry of each column in size [D].
        matrices: All that read it: they are to agree on one number a column.
    """
    read = np.max([np.abs(one).max(axis=1) for one in matrices], axis=0)
    floors = (max(_QUIET * float(np.median(one)), _LEAST) for one in (largest, read))
    logs = [np.log(np.maximum(*pair)) for pair in zip((largest, read), floors, strict=True)]
    scale = STRENGTH * logs[0] - (1 - STRENGTH) * logs[1]
    columns = np.exp(scale - scale.mean()).astype(np.float32)
    return [Even(None, False), Even(columns, False), Even(None, True), Even(columns, True)]


def _norms(graph: onnx.ModelProto, readers: _Readers) -> dict[str, Any]:
    """Give what makes a tensor, by its name, if that is a norm that these matrices alone read.

    A norm, or its last step: a product with its weights. What the columns are divided by then goes
    into these.
    """
    uses = Counter(name for node in graph.graph.node for name in node.input)
    uses.update(one.name for one in graph.graph.output)
    weights = _vectors(graph)
    found = {}
    for node in graph.graph.node:
        held = [name in weights for name in node.input]
        is_norm = node.op_type in _NORMS and all(held[1:])
        is_last_step = node.op_type == "Mul" and sum(held) == 1
        alone = uses[node.output[0]] == len(readers.get(node.output[0], ()))
        if (is_norm or is_last_step) and alone:
            found[node.output[0]] = node
    return found


def _vectors(graph: onnx.ModelProto) -> dict[str, Any]:
    """Give the constants of one axis, by name."""
    return {one.name: one for one in graph.graph.initializer if len(one.dims) == 1}


def _evening(graph: onnx.ModelProto, name: str, way: Even, *, norm: Any) -> tuple[list[Any], str]:
    """Give the nodes that even a tensor out, and the name of what they make.

    Args:
        graph: Constants are added to it.
        name: The tensor's.
        way: What is done.
        norm: What makes it, if the columns can be divided there; else None.
    """
    made, now = [], name
    if way.columns is not None and norm is not None:
        vectors = _vectors(graph)
        for place, read in enumerate(norm.input):
            if read in vectors:
                weights = numpy_helper.to_array(vectors[read]) / way.columns
                norm.input[place] = _constant(graph, f"{read}.{name}", weights)
    elif way.columns is not None:
        factors = _constant(graph, f"{name}.factors", 1 / way.columns)
        made.append(_node("Mul", [name, factors], f"{name}.columns"))
        now = f"{name}.columns"
    if way.rows:
        axes = _constant(graph, f"{name}.axes", np.array([-1]))
        least = _constant(graph, f"{name}.least", np.float32(_LEAST))
        made += [
            _node("Abs", [now], f"{name}.sizes"),
            _node("ReduceMax", [f"{name}.sizes", axes], f"{name}.most", keepdims=1),
            _node("Max", [f"{name}.most", least], f"{name}.largest"),
            _node("Div", [now, f"{name}.largest"], f"{name}.rows"),
        ]
        now = f"{name}.rows"
    return made, now


def _node(kind: str, read: list[str], output: str, **settings: Any) -> Any:
    return helper.make_node(kind, read, [output], name=output, **settings)


def _constant(graph: onnx.ModelProto, name: str, value: np.ndarray | np.generic) -> str:
    graph.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name
