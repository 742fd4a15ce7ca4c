"""What reads one row has one computed, and the same scores as before to the last digits."""

from functools import cache

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser, shape_inference

from limbeck import tracing
from limbeck.architectures import ARCHITECTURES
from limbeck.backends import Batch, read_of, session
from limbeck.last_rows import drop_unread_rows, products_on_one_row
from limbeck.rounding import dynamic, matrices, quantized
from limbeck.tasks.windows import Window
from test_encoder import PIECES, shallow_model

Traced = tuple[onnx.ModelProto, onnx.ModelProto, tuple[str, ...]]
DRAW = np.random.default_rng(0)
CONSTANTS = {
    "zero": np.array(0),
    "one": np.array([1]),
    "two": np.array([2]),
    "six": np.array([6]),
    "last": np.array([-1]),
    "split": np.array([0, 0, 2, 3]),
    "six_of_all": np.array([0, 0, 6]),
    "flat": np.array([-1, 6]),
    "any": DRAW.normal(size=(6, 6)).astype(np.float32),
    "scale": DRAW.normal(size=6).astype(np.float32),
    "small": np.array([0.5], dtype=np.float32),
    "column": DRAW.integers(0, 6, size=(1, 1, 6)),
}


def window(pieces: int) -> Window:
    ids = np.random.default_rng(pieces).integers(4, PIECES, pieces)
    words = np.arange(1, pieces - 1)
    return Window(0, ids, {"firsts": words, "lasts": words})


@cache
def traced(model_type: str, attention: str = "eager", head: str = "text", **changes: str) -> Traced:
    """Give an architecture's graph of two layers with all rows, and as it is exported."""
    before = onnx.ModelProto()
    model = shallow_model(model_type, head, **changes)
    model.set_attn_implementation(attention)

    def kept(graph: onnx.ModelProto) -> bool:
        before.CopyFrom(graph)
        return drop_unread_rows(graph)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "drop_unread_rows", kept)
        after = tracing.to_onnx(model, head=head, windows=[window(5), window(9)])
    del before.graph.value_info[:]
    tracing._name_products(before)
    tracing._forget_making(before)
    return before, after, tracing.inputs_of(model, head)


def some_batch(texts: int, pieces: int) -> Batch:
    """Give texts of which every second one is padded to twice its length."""
    mask = np.ones((texts, pieces), dtype=np.int64)
    mask[1::2, (pieces + 1) // 2 :] = 0
    draw = np.random.default_rng(texts * pieces)
    ids = np.where(mask == 1, draw.integers(4, PIECES, mask.shape), 3)
    types = draw.integers(0, 2, mask.shape)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def rows_of(graph: onnx.ModelProto, batch: Batch) -> list[int]:
    """Give how many rows each matrix of a graph multiplies."""
    import onnxruntime

    read = [node.input[0] for node in graph.graph.node if node.name in matrices(graph)]
    told = onnx.ModelProto()
    told.CopyFrom(graph)
    names = [name for name in dict.fromkeys(read) if name not in batch]
    told.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    cpu = ["CPUExecutionProvider"]
    ready = onnxruntime.InferenceSession(told.SerializeToString(), providers=cpu)
    found = dict(zip(names, ready.run(names, batch), strict=True)) | batch
    return [found[name].size // found[name].shape[-1] for name in read]


EVERY = [
    pytest.param(name, kind, marks=() if (name, kind) == ("bert", "sdpa") else pytest.mark.slow)
    for name in sorted(ARCHITECTURES)
    for kind in ARCHITECTURES[name].attention
]
FIRST = {"eurobert": {"classifier_pooling": "bos"}}
"""By which a head reads one row, where it does not by itself."""
ONE_ROW = {"modernbert": 3, "gte": 5, "nomic_bert": 5, "eurobert": 5}
"""Matrices of the last layer that multiply one row, where they are not 4: ModernBERT has one matrix
for queries, keys and values, others have a gate."""


@pytest.mark.parametrize(("model_type", "attention"), EVERY)
def test_scores_are_the_same_and_a_last_layer_multiplies_one_row(model_type: str, attention: str):
    before, after, inputs = traced(model_type, attention, **FIRST.get(model_type, {}))
    onnx.checker.check_model(after)
    run, other = (session(one.SerializeToString(), inputs) for one in (before, after))
    for texts, pieces in ((1, 1), (1, 3), (3, 8), (2, 17), (5, 20), (4, 2)):
        batch = some_batch(texts, pieces)
        np.testing.assert_allclose(other(batch), run(batch), rtol=1e-5, atol=1e-5)
    batch = read_of(some_batch(2, 7), inputs)
    whole, found = rows_of(before, batch), rows_of(after, batch)
    assert min(whole) > 2 and found.count(2) == ONE_ROW.get(model_type, 4)
    rest = [number for number, rows in enumerate(found) if rows != 2]
    assert [found[one] for one in rest] == [whole[one] for one in rest]
    assert 2 not in found[: len(found) // 2]
    sizes = {one.name: int(np.prod(one.dims)) for one in after.graph.initializer}
    products = [node for node in after.graph.node if node.name in matrices(after)]
    of_one = [node.input[1] for node, rows in zip(products, found, strict=True) if rows == 2]
    assert products_on_one_row(after) == sum(sizes[name] for name in of_one)
    assert products_on_one_row(before) == 0


@pytest.mark.parametrize(
    "model_type",
    [
        "bert",
        pytest.param("xlm-roberta", marks=pytest.mark.slow),
        pytest.param("modernbert", marks=pytest.mark.slow),
    ],
)
def test_one_row_is_rounded_to_8_bits_too(model_type: str):
    _, after, inputs = traced(model_type, "sdpa")
    small = quantized(after, rounding=dynamic)
    kinds = [node.op_type for node in small.graph.node]
    assert kinds.count("MatMulInteger") == len(matrices(after))
    batch = some_batch(3, 9)
    exact, rounded = (session(one.SerializeToString(), inputs)(batch) for one in (after, small))
    assert 0 < np.abs(exact - rounded).max() < 0.1


@pytest.mark.parametrize(
    ("model_type", "rotary"), [("bert", 0), pytest.param("modernbert", 4, marks=pytest.mark.slow)]
)
def test_attention_and_rotary_embeddings_are_one_operator_each(model_type: str, rotary: int):
    _, after, _ = traced(model_type, "sdpa")
    kinds = [node.op_type for node in after.graph.node]
    assert kinds.count("Attention") == 2 and kinds.count("RotaryEmbedding") == rotary
    assert "Softmax" not in kinds and "IsNaN" not in kinds
    angles = [node for node in after.graph.node if node.name.endswith(".of.each")]
    # Of all layers that turn by the same angles the cosines are one table, and so are the sines.
    assert len(angles) in ((2, 4) if rotary else (0,))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "head", "changes"),
    [
        ("modernbert", "text", {"classifier_pooling": "mean"}),
        ("eurobert", "text", {"classifier_pooling": "late"}),
        ("bert", "span", {}),
        ("bert", "tagging", {}),
        ("deberta-v2", "tree", {}),
    ],
)
def test_a_graph_that_reads_all_rows_stays_as_it_is(
    model_type: str, head: str, changes: dict[str, str]
):
    before, after, _ = traced(model_type, head=head, **changes)
    assert before.SerializeToString() == after.SerializeToString()


def small_graph(lines: str, *, opset: int = tracing.OPSET) -> onnx.ModelProto:
    """Give a graph of `y`, made by some lines of `x` [B, T, 6], of which one row is read."""
    text = f"""<ir_version: 10, opset_import: ["" : {opset}]>
        rows (float[B, T, 6] input_ids) => (float[B, N] scores) {{
            x = Identity(input_ids)
            h = MatMul(x, any)
            {lines}
            scores = Gather<axis = 1>(y, zero)
        }}"""
    graph = parser.parse_model(text)
    for number, node in enumerate(graph.graph.node):
        node.name = f"node.{number}"
    graph.graph.initializer.extend(numpy_helper.from_array(b, a) for a, b in CONSTANTS.items())
    return shape_inference.infer_shapes(graph, data_prop=True)


HEADS = (
    "r = Reshape(h, split) q = Transpose<perm = [0, 2, 1, 3]>(r)"
    " l = Reshape(x, split) k = Transpose<perm = [0, 2, 1, 3]>(l)"
)
"""What is asked `q` and what answers `k` [B, 2, T, 3]."""
JOINED = "u = Transpose<perm = [0, 2, 1, 3]>(a) y = Reshape(u, six_of_all)"
FOLLOWED = {
    "an entry": "y = Gelu(h)",
    "two": "y = Add(x, h)",
    "repeated": "m = ReduceMean(h, one) p = MatMul(h, any) y = Sub(p, m)",
    "scalar": "y = Clip(h, small)",
    "norm": "y = LayerNormalization(h, scale)",
    "norm by squares": "y = RMSNormalization(h, scale)",
    "softmax": "y = Softmax(h)",
    "mean of a row": "m = ReduceMean(h, last) y = Div(h, m)",
    "turned": "t = Transpose<perm = [2, 1, 0]>(h) e = Neg(t) y = Transpose<perm = [2, 1, 0]>(e)",
    "turned around": "t = Transpose(h) e = Neg(t) y = Transpose(e)",
    "an axis more": "u = Unsqueeze(h, one) e = Neg(u) y = Squeeze(e, one)",
    "halves": "a, b = Split<axis = -1, num_outputs = 2>(h) y = Concat<axis = 2>(b, a)",
    "a part": "e = Slice(h, one, two, last) y = Tanh(e)",
    "heads": "r = Reshape(h, split) e = Exp(r) t = Transpose<perm = [0, 1, 3, 2]>(e)"
    " s = Softmax(t) m = ReduceSum(s, two) y = Squeeze(m, two)",
    "looked up": "s = Shape(x) c = Expand(column, s) y = GatherElements<axis = 2>(h, c)",
    "a computed shape": "k = Transpose<perm = [0, 2, 1]>(x) p = MatMul(h, k)"
    " b = Shape<start = 0, end = 2>(x) t = Shape<start = 1, end = 2>(x)"
    " s = Concat<axis = 0>(b, one, t) r = Reshape<allowzero = 1>(p, s) e = Softmax(r)"
    " q = Squeeze(e, two) y = MatMul(q, x)",
    "asked alone": f"{HEADS} a = Attention(q, k, k) {JOINED}",
    "asked behind a mask": f"{HEADS} t = Transpose<perm = [0, 2, 1]>(x) p = MatMul(x, t)"
    f" m = Unsqueeze(p, one) a = Attention<softcap = 2.0>(q, k, k, m) {JOINED}",
    "rotated": "r = Unsqueeze(h, one) b, c = Split<axis = -1, num_outputs = 2>(x)"
    " e = RotaryEmbedding(r, b, c) y = Squeeze(e, one)",
    "twice": "k = Transpose<perm = [0, 2, 1]>(h) p = MatMul(x, k) y = MatMul(p, h)",
}
STOPPED = {
    "along the rows": "y = Softmax<axis = 1>(h)",
    "mean of rows": "m = ReduceMean(h, one) y = Mul(m, scale)",
    "norm of all": "y = LayerNormalization<axis = 1>(h, scale)",
    "flattened": "r = Reshape(h, flat) e = Exp(r) s = Shape(x) y = Reshape(e, s)",
    "asked from the left": f"{HEADS} a = Attention<is_causal = 1>(q, k, k) {JOINED}",
    "asked in three axes": "y = Attention<q_num_heads = 2, kv_num_heads = 2>(h, x, x)",
    "unknown": "y = CumSum(h, two)",
    "a part of the rows": "y = Slice(h, one, two, one)",
    "no axes": "u = Unsqueeze(h, last) e = Squeeze(u) y = Neg(e)",
    "rows of columns": "t = Transpose<perm = [0, 2, 1]>(h) y = Gelu(t)",
}


def scores_of(graph: onnx.ModelProto) -> list[np.ndarray]:
    onnx.checker.check_model(graph, full_check=True)
    run = session(graph.SerializeToString(), ["input_ids"])
    draw = np.random.default_rng(1)
    shapes = ((1, 3, 6), (2, 5, 6), (6, 6, 6))
    return [run({"input_ids": draw.normal(size=one).astype(np.float32)}) for one in shapes]


@pytest.mark.parametrize("kind", FOLLOWED)
def test_rows_are_followed_up_to_where_all_are_read(kind: str):
    graph = small_graph(FOLLOWED[kind])
    expected = scores_of(graph)
    assert drop_unread_rows(graph)
    for one, other in zip(scores_of(graph), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    batch = {"input_ids": np.ones((2, 5, 6), dtype=np.float32)}
    first, *others = rows_of(graph, batch)
    assert first == (10 if kind in ("repeated", "twice") else 2) and others in ([], [2])


@pytest.mark.parametrize("lines", STOPPED.values(), ids=STOPPED)
def test_what_hangs_on_all_rows_stays_as_it_is(lines: str):
    graph = small_graph(lines)
    before = graph.SerializeToString()
    assert not drop_unread_rows(graph)
    assert graph.SerializeToString() == before


def test_an_axis_that_is_as_long_but_grouped_anew_is_not_followed():
    graph = small_graph(
        "b = Shape<start = 0, end = 1>(x) t = Shape<start = 1, end = 2>(x)"
        " s = Concat<axis = 0>(t, b, six) r = Reshape<allowzero = 1>(h, s) y = MatMul(r, any)"
    )
    expected = scores_of(graph)
    assert drop_unread_rows(graph)
    for one, other in zip(scores_of(graph), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert rows_of(graph, {"input_ids": np.ones((2, 5, 6), dtype=np.float32)}) == [10, 5]


def test_a_graph_of_older_nodes_or_with_branches_stays_as_it_is():
    old = small_graph(FOLLOWED["an entry"].replace("Gelu", "Tanh"), opset=17)
    branch = small_graph(
        "c = Cast<to = 9>(small) e = If(c) <then_branch = g () => (float[B, T, 6] z)"
        " { z = Neg(h) }, else_branch = f () => (float[B, T, 6] z) { z = Exp(h) }>"
        " m = ReduceMean(e, one) y = Add(h, m)"
    )
    for graph in (old, branch):
        before = graph.SerializeToString()
        assert not drop_unread_rows(graph)
        assert graph.SerializeToString() == before


def test_without_noted_shapes_nothing_is_followed():
    graph = small_graph(FOLLOWED["two"])
    del graph.graph.value_info[:]
    before = graph.SerializeToString()
    assert not drop_unread_rows(graph)
    assert graph.SerializeToString() == before
