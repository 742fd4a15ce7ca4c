"""A graph that reads one row of its last layer computes that row there, and no other.

A head of whole texts reads the first position's state alone. From there up to the keys and values
of the last attention every position is computed by itself, so the others need not be: the row is
taken above, where the states are that all positions read. No architecture is asked for its name.
For each kind of node it is known which rows of its inputs one row of its output hangs on; a kind
that is not known reads all.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

Axes = list[int | None]
"""Of each input of a node, the axis of which it reads the first row alone; None: it reads all."""

_OPSET = 18
"""The first in which all `_RULES` hold: `Reduce…` take their axes as an input."""
_SMALL = 8
"""Entries up to which a constant may be one that names axes or places."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a graph's tensors.

    Args:
        dims: Name to lengths: a number, a symbol with one value in the whole graph, or None.
        constants: Name to value, of what may name axes and places.
    """

    dims: Mapping[str, tuple[int | str | None, ...]]
    constants: Mapping[str, np.ndarray]

    def rank(self, name: str) -> int:
        """Give how many axes a tensor has."""
        return len(self.dims[name])

    def axes(self, node: Any, number: int, rank: int) -> set[int] | None:
        """Give the axes that an input of a node names, from 0 up; None if they are not known."""
        value = self.constants.get(node.input[number]) if len(node.input) > number else None
        return None if value is None else {int(axis) % rank for axis in value.ravel()}


@dataclass(frozen=True, slots=True)
class _Row:
    """A node that need compute one row: the axis of its outputs, and what it reads for it."""

    axis: int
    reads: Axes


def drop_unread_rows(graph: onnx.ModelProto) -> bool:
    """Have a graph compute one row wherever the first one along an axis is all that it reads.

    The graph is changed in place; its inputs and outputs stay as they are. One in which no product
    of matrices gets smaller is not touched.

    Args:
        graph: With the shapes of its tensors noted (`value_info`): rows are followed as far as
            these tell. In a graph that is changed they no longer hold, and are taken out.

    Returns:
        Whether it was changed.
    """
    nodes, known = graph.graph.node, _known(graph.graph)
    versions = (one.version for one in graph.opset_import if one.domain in ("", "ai.onnx"))
    if max(versions, default=0) < _OPSET or any(has_graph(node) for node in nodes):
        return False
    rows = _rows(graph.graph, known)
    if not any(nodes[place].op_type == "MatMul" for place in rows):
        return False
    _rewrite(graph.graph, rows, known)
    del graph.graph.value_info[:]
    return True


def products_on_one_row(graph: onnx.ModelProto) -> int:
    """Give the entries of the matrices by which a graph multiplies one row of each text alone.

    Args:
        graph: As `drop_unread_rows` leaves it.
    """
    sizes = {one.name: int(np.prod(one.dims)) for one in graph.graph.initializer}
    narrow: set[str] = set()
    found = 0
    for node in graph.graph.node:
        if _is_first_row(node) or not narrow.isdisjoint(node.input):
            narrow.update(node.output)
        if node.op_type == "MatMul" and node.input[0] in narrow:
            found += sizes.get(node.input[1], 0)
    return found


def _is_first_row(node: Any) -> bool:
    return node.op_type == "Gather" and ".first." in node.name and node.name == node.output[0]


def has_graph(node: Any) -> bool:
    """Tell whether a node holds graphs of its own, such as an `If`."""
    return any(one.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for one in node.attribute)


def _known(graph: Any) -> _Known:
    dims: dict[str, tuple[int | str | None, ...]] = {}
    for one in (*graph.value_info, *graph.input, *graph.output):
        if one.type.tensor_type.HasField("shape"):
            dims[one.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
                for dim in one.type.tensor_type.shape.dim
            )
    dims |= {one.name: tuple(one.dims) for one in graph.initializer}
    small = (one for one in graph.initializer if len(one.dims) <= 1 and np.prod(one.dims) <= _SMALL)
    return _Known(dims, {one.name: numpy_helper.to_array(one) for one in small})


def _rows(graph: Any, known: _Known) -> dict[int, _Row]:
    """Give the nodes that need compute one row, by place.

    From the last node to the first: what reads a node's outputs has then told what it reads.
    """
    asked: defaultdict[str, set[int | None]] = defaultdict(set)
    for one in graph.output:
        asked[one.name].add(None)
    rows: dict[int, _Row] = {}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        reads: Axes = [None] * len(node.input)
        row = _row(node, {axis for name in node.output for axis in asked[name]}, known)
        if row is not None:
            rows[place], reads = row, row.reads
        elif _takes_first(node, known):
            axis = _attribute(node, "axis", 0) % known.rank(node.input[0])
            reads = _of_longer(node, [axis, None], known)
        for name, axis in zip(node.input, reads, strict=True):
            asked[name].add(axis)
    return rows


def _takes_first(node: Any, known: _Known) -> bool:
    if node.op_type != "Gather" or node.input[0] not in known.dims:
        return False
    place = known.constants.get(node.input[1])
    return place is not None and place.ndim == 0 and int(place) == 0


def _row(node: Any, wanted: Iterable[int | None], known: _Known) -> _Row | None:
    """Give how a node computes what is wanted of it, if that is one row that can be followed."""
    axis, *others = wanted or [None]
    rule = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if axis is None or others or rule is None:
        return None
    if not all(name in known.dims for name in (*node.input, *node.output) if name):
        return None
    reads = rule(node, axis, known)
    if reads is None:
        return None
    return _Row(axis, _of_longer(node, reads, known))


def _of_longer(node: Any, reads: Axes, known: _Known) -> Axes:
    """Read all where an axis has the length 1: that is the row."""
    pairs = zip(node.input, reads, strict=True)
    return [None if at is None or known.dims[name][at] == 1 else at for name, at in pairs]


def _rewrite(graph: Any, rows: Mapping[int, _Row], known: _Known) -> None:
    """Have nodes compute one row; where its input is whole, the row is taken there."""
    narrow = {name for place in rows for name in graph.node[place].output}
    constants: dict[str, list[int]] = {}
    made: list[Any] = []
    taken: set[str] = set()
    for place, node in enumerate(graph.node):
        row = rows.get(place)
        for number, axis in enumerate(row.reads if row else ()):
            name = node.input[number]
            if axis is None or name in narrow:
                continue
            node.input[number] = part = f"{name}.first.{axis}"
            if part not in taken:
                first = _constant(constants, [0])
                made.append(helper.make_node("Gather", [name, first], [part], part, axis=axis))
            taken.add(part)
        if row and node.op_type == "Reshape":
            made += _reshaped(node, row.axis, known, constants)
        made.append(node)
    del graph.node[:]
    graph.node.extend(made)
    for name, values in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))


def _constant(constants: dict[str, list[int]], values: list[int]) -> str:
    """Give the name of a constant, noted to be stored."""
    name = f"first.of.{'x'.join(map(str, values))}"
    constants[name] = values
    return name


def _reshaped(node: Any, axis: int, known: _Known, constants: dict[str, list[int]]) -> list[Any]:
    """Have a `Reshape` give one row along an axis; give what computes its new shape, if anything.

    At most one length is found by itself; where more hang on the input, the shape is computed.
    """
    lengths: list[Any] = list(known.dims[node.output[0]])
    lengths[axis] = 1
    if sum(not isinstance(one, int) for one in lengths) <= 1:
        fixed = [one if isinstance(one, int) else -1 for one in lengths]
        node.input[1] = _constant(constants, fixed)
        return []
    parts = [node.input[1], _constant(constants, [axis]), _constant(constants, [1])]
    node.input[1] = shape = f"{node.output[0]}.shape"
    return [helper.make_node("ScatterElements", parts, [shape], shape, axis=0)]


def _attribute(node: Any, name: str, usual: Any) -> Any:
    found = (helper.get_attribute_value(one) for one in node.attribute if one.name == name)
    return next(found, usual)


def _each(node: Any, axis: int, known: _Known) -> Axes | None:
    """Entries each by itself, axes aligned from the last; what is repeated there is read whole."""
    after = known.rank(node.output[0]) - axis
    return [
        known.rank(name) - after if name and known.rank(name) >= after else None
        for name in node.input
    ]


def _beside(busy: Callable[[Any, int, _Known], Iterable[int] | None], *, alike: bool) -> Any:
    """Rows along any axis but those in which a node works.

    Args:
        busy: Gives these, by the rank of the node's first input; None if they are not known.
        alike: Whether all inputs have the axis, not the first alone.
    """

    def rule(node: Any, axis: int, known: _Known) -> Axes | None:
        rank = known.rank(node.input[0])
        axes = busy(node, rank, known)
        if axes is None or axis in axes or rank != known.rank(node.output[0]):
            return None
        return _each(node, axis, known) if alike else [axis] + [None] * (len(node.input) - 1)

    return rule


def _product(node: Any, axis: int, known: _Known) -> Axes | None:
    """A row of a product of matrices is that row of the first by the second."""
    ranks = [known.rank(name) for name in node.input]
    if min(ranks) < 2 or axis != max(ranks) - 2:
        return None
    return [ranks[0] - 2, None]


def _transposed(node: Any, axis: int, known: _Known) -> Axes | None:
    turned = reversed(range(known.rank(node.input[0])))
    return [list(_attribute(node, "perm", turned))[axis]]


def _unsqueezed(node: Any, axis: int, known: _Known) -> Axes | None:
    rank = known.rank(node.output[0])
    added = known.axes(node, 1, rank)
    if added is None or axis in added:
        return None
    return [axis - sum(one < axis for one in added), None]


def _squeezed(node: Any, axis: int, known: _Known) -> Axes | None:
    rank = known.rank(node.input[0])
    dropped = known.axes(node, 1, rank)
    if dropped is None:
        return None
    return [[one for one in range(rank) if one not in dropped][axis], None]


def _looked_up(node: Any, axis: int, known: _Known) -> Axes | None:
    """`GatherElements`: along its own axis any entry may be looked up."""
    along = _attribute(node, "axis", 0) % known.rank(node.input[0])
    return [None if axis == along else axis, axis]


def _regrouped(node: Any, axis: int, known: _Known) -> Axes | None:
    """`Reshape`: an axis is the same before and after where it is as long and as much is within."""
    before, after = known.dims[node.input[0]], known.dims[node.output[0]]
    within = _size(after[axis + 1 :])
    if after[axis] is None or within is None:
        return None
    computed = sum(not isinstance(one, int) for at, one in enumerate(after) if at != axis) > 1
    if computed and not _attribute(node, "allowzero", 0):
        return None
    for at, length in enumerate(before):
        if length == after[axis] and _size(before[at + 1 :]) == within:
            return [at, None]
    return None


def _size(lengths: Sequence[int | str | None]) -> tuple[int, Counter[str]] | None:
    """Give the product of lengths: a number, and how often each symbol."""
    if None in lengths:
        return None
    number = int(np.prod([one for one in lengths if isinstance(one, int)]))
    return number, Counter(one for one in lengths if isinstance(one, str))


def _rotated(node: Any, axis: int, known: _Known) -> Axes | None:
    """`RotaryEmbedding`: each position [B, H, S, D] by its own angles [B, S, D/2]."""
    by_place = len(node.input) > 3  # angles are looked up then
    return [2, 1, 1] if axis == 2 and known.rank(node.input[0]) == 4 and not by_place else None


def _attended(node: Any, axis: int, known: _Known) -> Axes | None:
    """`Attention`: a position asks by itself [B, H, S, D]; of keys and values all are read."""
    others, masks = node.input[4:], [name for name in node.input[3:4] if name]
    if axis != 2 or known.rank(node.input[0]) != 4 or any(others) or len(node.output) > 1:
        return None
    if _attribute(node, "is_causal", 0):
        return None
    mask = [known.rank(name) - 2 for name in masks]
    if min(mask, default=0) < 0:
        return None
    return ([2, None, None, *mask] + [None] * len(node.input))[: len(node.input)]


def _reduced(node: Any, rank: int, known: _Known) -> Iterable[int] | None:
    return known.axes(node, 1, rank) if _attribute(node, "keepdims", 1) else None


def _along(usual: int) -> Callable[[Any, int, _Known], Iterable[int]]:
    return lambda node, rank, known: {_attribute(node, "axis", usual) % rank}


def _from_axis(node: Any, rank: int, known: _Known) -> Iterable[int]:
    return range(_attribute(node, "axis", -1) % rank, rank)


def _cut(node: Any, rank: int, known: _Known) -> Iterable[int] | None:
    return known.axes(node, 3, rank)


_EACH = (
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Cos", "Div", "Equal", "Erf", "Exp", "Floor",
    "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN",
    "Less", "LessOrEqual", "Log", "Max", "Min", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal",
    "Relu", "Round", "Sigmoid", "Sign", "Sin", "Softplus", "Sqrt", "Sub", "Tanh", "Where", "Xor",
)  # fmt: skip
_RULES: dict[str, Callable[[Any, int, _Known], Axes | None]] = {
    **dict.fromkeys(_EACH, _each),
    "Attention": _attended,
    "Concat": _beside(_along(0), alike=True),
    "GatherElements": _looked_up,
    "LayerNormalization": _beside(_from_axis, alike=True),
    "MatMul": _product,
    "RMSNormalization": _beside(_from_axis, alike=True),
    "ReduceMax": _beside(_reduced, alike=False),
    "ReduceMean": _beside(_reduced, alike=False),
    "ReduceSum": _beside(_reduced, alike=False),
    "Reshape": _regrouped,
    "RotaryEmbedding": _rotated,
    "Slice": _beside(_cut, alike=False),
    "Softmax": _beside(_along(-1), alike=False),
    "Split": _beside(_along(0), alike=False),
    "Squeeze": _squeezed,
    "Transpose": _transposed,
    "Unsqueeze": _unsqueezed,
}
"""Kind of node to what it reads for one row of its output along an axis; None: that is not told."""
