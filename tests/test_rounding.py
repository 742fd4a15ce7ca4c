"""Static 8 bits: only what a chosen matrix reads is rounded, and zero stays zero."""

from functools import partial

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from limbeck.backends import session
from limbeck.rounding import dynamic, errors_of, matrices, quantized, ranges_of, static

DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(5, 8)).astype(np.float32)
FIRST, SECOND = (DRAW.normal(size=(8, 8)).astype(np.float32) for _ in range(2))
BIAS = DRAW.normal(size=8).astype(np.float32)


def graph() -> onnx.ModelProto:
    """Give `scores = x @ first + (x @ second.T + bias) + x`, whose matrices read the same."""
    sized = [helper.make_tensor_value_info(one, 1, ["B", 8]) for one in ("input_ids", "scores")]
    made = helper.make_graph(
        [
            helper.make_node("Identity", ["input_ids"], ["x"], name="same"),
            helper.make_node("MatMul", ["x", "first"], ["a"], name="one"),
            helper.make_node("MatMul", ["x", "second"], ["c"], name="two"),
            helper.make_node("Gemm", ["c", "turn", "bias"], ["b"], name="head", transB=1),
            helper.make_node("Add", ["a", "b"], ["both"], name="sum"),
            helper.make_node("Add", ["both", "x"], ["scores"], name="around"),
        ],
        "pair",
        sized[:1],
        sized[1:],
        [
            numpy_helper.from_array(value, name)
            for name, value in {
                "first": FIRST,
                "second": np.ascontiguousarray(SECOND.T),
                "turn": np.eye(8, dtype=np.float32),
                "bias": BIAS,
            }.items()
        ],
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(made, opset_imports=opset, ir_version=10)


def answer(model: onnx.ModelProto, rows: np.ndarray = ROWS) -> np.ndarray:
    onnx.checker.check_model(model)
    return session(model.SerializeToString(), ["input_ids"])({"input_ids": rows})


def test_ranges_are_of_what_matrices_read_and_hold_zero():
    found = ranges_of(graph(), [{"input_ids": ROWS[:2]}, {"input_ids": ROWS[2:]}])
    assert found == {"x": (pytest.approx(ROWS.min()), pytest.approx(ROWS.max()))}
    assert ranges_of(graph(), [{"input_ids": ROWS * 0 + 2}]) == {"x": (0.0, 2.0)}


def test_static_8_bits_are_the_formula():
    ranges = {"x": (float(ROWS.min()), float(ROWS.max()))}
    scale = (ROWS.max() - ROWS.min()) / 255
    zero = np.rint(-ROWS.min() / scale)
    near = (np.clip(np.rint(ROWS / scale) + zero, 0, 255) - zero) * scale
    steps = [np.abs(one).max(axis=0) / 127 for one in (FIRST, SECOND.T)]
    first, second = (
        np.rint(one / step) * step for one, step in zip((FIRST, SECOND.T), steps, strict=True)
    )
    both = static(graph(), ["one", "two"], ranges=ranges)
    assert np.allclose(answer(both), near @ first + near @ second + BIAS + ROWS, atol=1e-4)
    # The other matrix, and the sum, read what was not rounded.
    alone = static(graph(), ["one"], ranges=ranges)
    assert np.allclose(answer(alone), near @ first + ROWS @ SECOND.T + BIAS + ROWS, atol=1e-4)


@pytest.mark.parametrize("name", ["one", "two"])
def test_dynamic_8_bits_round_what_is_chosen_and_it_alone(name: str):
    near = answer(dynamic(graph(), [name])) - answer(graph())
    ranges = ranges_of(graph(), [{"input_ids": ROWS}])
    same = answer(static(graph(), [name], ranges=ranges)) - answer(graph())
    assert np.abs(near).max() > 1e-3 and np.allclose(near, same, atol=1e-4)


def test_nothing_chosen_changes_nothing_and_all_zeros_stay_so():
    whole = graph()
    before = whole.SerializeToString()
    ranges = ranges_of(whole, [{"input_ids": ROWS * 0}])
    kept = quantized(whole, keep=matrices(whole), rounding=partial(static, ranges=ranges))
    assert np.array_equal(answer(kept), answer(whole))
    small = quantized(whole, rounding=partial(static, ranges=ranges))
    assert np.allclose(answer(small, ROWS * 0), BIAS) and whole.SerializeToString() == before


def test_what_reads_one_row_a_text_is_no_matrix():
    assert matrices(graph()) == ["one", "two"]


def test_the_error_of_a_matrix_is_its_own_and_one_large_activation_makes_it():
    found = errors_of(graph(), [{"input_ids": ROWS}])
    ranges = ranges_of(graph(), [{"input_ids": ROWS}])
    small = static(graph(), ["one"], ranges=ranges)
    off, size = (
        np.square(one).sum(axis=-1) for one in (answer(small) - answer(graph()), ROWS @ FIRST)
    )
    expected = np.sqrt((off / size).mean())
    assert found["one"] == pytest.approx(expected, rel=1e-3) and found["one"] < 0.02
    assert errors_of(graph(), [{"input_ids": ROWS}], ranges=ranges) == pytest.approx(found)
    large = ROWS.copy()
    large[0, 0] = 100 * np.abs(ROWS).max()
    wide = ranges_of(graph(), [{"input_ids": large}])
    assert errors_of(graph(), [{"input_ids": ROWS}], ranges=wide)["one"] > 10 * found["one"]
