"""What matrices read is evened out by columns and rows; answers stay, and 8 bits lose less."""

from functools import partial

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from limbeck.backends import session
from limbeck.rounding import errors_of, quantized, ranges_of, static
from limbeck.smoothing import Even, _ways, smoothed, smoothed_by_rows
from limbeck.tracing import OPSET

DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(3, 7, 16)).astype(np.float32)
WEIGHTS = {
    one: DRAW.normal(size=(16, size)).astype(np.float32)
    for one, size in (("first", 8), ("second", 4))
}


def graph(
    *, norm: bool | str, around: bool = False, columns: np.ndarray | None = None
) -> onnx.ModelProto:
    """Give a graph in which two matrices read the same, of a norm or of the inputs themselves.

    Args:
        norm: Whether a norm makes what they read, or which kind of norm.
        around: Whether something else reads it too.
        columns: Of the norm's weights, or what the inputs are multiplied by.
    """
    factors = np.ones(16, dtype=np.float32) if columns is None else columns
    stored = {**WEIGHTS, "factors": factors}
    kind = {True: "LayerNormalization", False: "Mul"}.get(norm, norm)
    read = ["input_ids", "factors"]
    if kind == "LayerNormalization":
        stored["shift"] = np.full(16, 0.1, dtype=np.float32)
        read.append("shift")
    made = helper.make_node(kind, read, ["x"], name="n")
    nodes = [
        made,
        helper.make_node("MatMul", ["x", "first"], ["a"], name="one"),
        helper.make_node("MatMul", ["x", "second"], ["b"], name="two"),
        helper.make_node("Concat", ["a", "b", *(["x"] if around else [])], ["scores"], axis=-1),
    ]
    given = helper.make_tensor_value_info("input_ids", 1, ["B", "L", 16])
    scores = helper.make_tensor_value_info("scores", 1, ["B", "L", 28 if around else 12])
    constants = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    made_of = helper.make_graph(nodes, "pair", [given], [scores], constants)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made_of, opset_imports=opset, ir_version=10)


def answer(model: onnx.ModelProto, rows: np.ndarray = ROWS) -> np.ndarray:
    onnx.checker.check_model(model)
    return session(model.SerializeToString(), ["input_ids"])({"input_ids": rows})


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def worst(model: onnx.ModelProto, rows: np.ndarray) -> float:
    """How far 8 bits are off: a share of the size of the scores."""
    exact, near = answer(model, rows), answer(quantized(model), rows)
    return float(np.sqrt(np.square(near - exact).sum() / np.square(exact).sum()))


LOUD_COLUMN = np.where(np.arange(16) == 3, 200, 1).astype(np.float32)
QUIET_WEIGHTS = {"first", "second"}


@pytest.mark.parametrize("norm", ["LayerNormalization", "RMSNormalization", False])
def test_a_loud_column_goes_over_into_the_matrices(norm: bool | str):
    loud = graph(norm=norm, columns=LOUD_COLUMN)
    for one in loud.graph.initializer:
        if one.name in QUIET_WEIGHTS:
            quiet = numpy_helper.to_array(one) / LOUD_COLUMN[:, None]
            one.CopyFrom(numpy_helper.from_array(quiet, one.name))
    even = smoothed(loud, [{"input_ids": ROWS}])
    assert np.allclose(answer(even), answer(loud), rtol=1e-4, atol=1e-4)
    assert worst(loud, ROWS) > 0.1 and worst(even, ROWS) < 0.02
    # The norm's own weights take the columns, or those of its last step.
    assert not any(node.name.endswith(".columns") for node in even.graph.node)


def test_a_loud_row_is_divided_and_its_product_multiplied():
    rows = ROWS * np.where(np.arange(7) == 2, 200, 1).astype(np.float32)[:, None]
    plain = graph(norm=False)
    even = smoothed(plain, [{"input_ids": rows}])
    assert {"Abs", "ReduceMax", "Div"} <= set(kinds(even)) and "Abs" not in kinds(plain)
    assert np.allclose(answer(even, rows), answer(plain, rows), rtol=1e-4, atol=1e-4)
    others = np.delete(np.arange(7), 2)
    far, near = (
        np.abs(answer(quantized(one), rows) - answer(plain, rows))[:, others].max()
        for one in (plain, even)
    )
    assert near < far / 20


def test_a_row_of_nothing_stays_nothing():
    rows = ROWS * np.where(np.arange(7) == 2, 200, 1).astype(np.float32)[:, None]
    even = smoothed(graph(norm=False), [{"input_ids": rows}])
    assert "Div" in kinds(even)
    assert np.array_equal(answer(even, ROWS * 0), np.zeros((3, 7, 12), dtype=np.float32))


def test_what_something_else_reads_too_stays_for_it():
    loud = graph(norm=True, around=True, columns=LOUD_COLUMN)
    even = smoothed(loud, [{"input_ids": ROWS}])
    assert any(node.name.endswith(".columns") for node in even.graph.node)
    assert np.allclose(answer(even), answer(loud), rtol=1e-4, atol=1e-2)
    assert np.array_equal(answer(even)[..., 12:], answer(loud)[..., 12:])


@pytest.mark.parametrize(("norm", "expected"), [(True, 0), (False, 1)])
def test_by_rows_evens_out_what_activations_make(norm: bool, expected: int):
    # Read by something else too, a product with weights is an activation's and no norm's.
    plain = graph(norm=norm, around=True)
    even = smoothed_by_rows(plain)
    assert kinds(even).count("Div") == expected, "once for both matrices"
    assert np.allclose(answer(even), answer(plain), rtol=1e-4, atol=1e-4)


def test_nothing_is_done_where_8_bits_are_near_enough():
    rows = np.ones_like(ROWS)
    plain = graph(norm=False)
    assert max(errors_of(plain, [{"input_ids": rows}]).values()) < 0.01
    assert kinds(smoothed(plain, [{"input_ids": rows}])) == kinds(plain)


def test_a_column_that_was_silent_is_not_raised_above_all_others():
    largest = np.where(np.arange(16) == 5, 0, 1.0)
    plain, columns, *_ = _ways(largest, [np.ones((16, 4))])
    assert plain.columns is None and columns.columns is not None
    # It may wake in another text, and must not take all steps then.
    assert columns.columns.max() / columns.columns.min() < 6


def test_static_8_bits_read_what_is_evened_out():
    rows = ROWS * np.where(np.arange(7) == 2, 200, 1).astype(np.float32)[:, None]
    even = smoothed(graph(norm=False), [{"input_ids": rows}])
    ranges = ranges_of(even, [{"input_ids": rows}])
    small = quantized(even, rounding=partial(static, ranges=ranges))
    exact, near = answer(even, rows), answer(small, rows)
    assert np.abs(near - exact)[:, 0].max() < 0.05 * np.abs(exact[:, 0]).max()


def test_what_stays_in_32_bits_is_not_touched():
    loud = graph(norm=True, columns=LOUD_COLUMN)
    rows = ROWS * np.where(np.arange(7) == 2, 200, 1).astype(np.float32)[:, None]
    even = smoothed(loud, [{"input_ids": rows}], keep=["one", "two"])
    assert even == loud
    half = smoothed(loud, [{"input_ids": ROWS}], keep=["two"])
    (kept,) = (node for node in half.graph.node if node.name == "two")
    assert list(kept.input) == ["x", "second"]
    assert np.allclose(answer(half), answer(loud), rtol=1e-4, atol=1e-2)


def test_a_graph_with_graphs_inside_stays_as_it_is():
    given = graph(norm=True, columns=LOUD_COLUMN)
    inner = helper.make_tensor_value_info("inner", 1, [16])
    same = helper.make_graph([helper.make_node("Identity", ["shift"], ["inner"])], "i", [], [inner])
    branch = helper.make_node("If", ["yes"], ["branch"], then_branch=same, else_branch=same)
    given.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    given.graph.node.append(branch)
    assert smoothed(given, [{"input_ids": ROWS}]) == given


def test_evening_out_is_undone_by_the_weights():
    columns = DRAW.uniform(0.1, 10, size=16).astype(np.float32)
    for way in (Even(None, False), Even(columns, False), Even(None, True), Even(columns, True)):
        table, by = way(ROWS)
        product = table @ way.weights(WEIGHTS["first"]) * by
        assert np.allclose(product, ROWS @ WEIGHTS["first"], rtol=1e-4, atol=1e-4)
