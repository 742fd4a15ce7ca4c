"""A graph answers alike whatever runs it, and a backend that is not there is told."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from limbeck.answering import outputs_by, side_by_side
from limbeck.backends import BACKENDS, USUAL, is_installed, read_of, session
from limbeck.candidates import Candidate, candidates
from limbeck.errors import ArtifactError, RecipeError
from limbeck.rounding import quantized, ranges_of, static
from limbeck.tracing import inputs_of, to_onnx
from test_bundle import needs_openvino, window
from test_encoder import tiny_model

HEADS = [("modernbert", "tree"), ("xlm-roberta", "span"), ("bert", "text"), ("bert", "tagging")]
EACH = [USUAL, pytest.param("openvino", marks=needs_openvino)]
WINDOWS = [window(pieces) for pieces in (3, 17, 8, 5)]


@needs_openvino
@pytest.mark.parametrize(("model_type", "head"), HEADS)
def test_every_head_s_scores_are_the_same_by_both(model_type: str, head: str):
    loaded = tiny_model(model_type, head)
    names, pad = inputs_of(loaded, head), loaded.config.pad_token_id or 0
    graph = to_onnx(loaded, head=head, windows=[window(5), window(9)])
    shown = [read_of(side_by_side([one], pad), names) for one in WINDOWS]
    small = quantized(graph, rounding=partial(static, ranges=ranges_of(graph, shown)))
    # In 8 bits a number between two steps may fall to either side.
    for one, apart in ((graph, 1e-4), (small, 0.02)):
        found = [
            outputs_by(
                session(one.SerializeToString(), names, backend=backend, threads=1),
                WINDOWS,
                head=head,
                pad_id=pad,
                batch_pieces=1,
            )
            for backend in BACKENDS
        ]
        for first, second in zip(*found, strict=True):
            assert first.dtype == second.dtype == np.float32
            assert np.allclose(first, second, atol=apart)


def product() -> bytes:
    """Give a graph that adds up a batch's pieces, one number a window."""
    shape = ["B", "T"]
    made = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Cast", ["input_ids"], ["wide"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("ReduceSum", ["wide", "axes"], ["scores"], keepdims=0),
        ],
        "sum",
        [onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, shape)],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["B"])],
        [onnx.numpy_helper.from_array(np.array([1]), "axes")],
    )
    opset = [onnx.helper.make_opsetid("", 20)]
    model: bytes = onnx.helper.make_model(
        made, opset_imports=opset, ir_version=10
    ).SerializeToString()
    return model


@pytest.mark.parametrize("backend", EACH)
def test_threads_may_share_a_session(backend: str):
    run = session(product(), ["input_ids"], backend=backend)
    tables = [np.arange(n * 4, dtype=np.int64).reshape(2, -1) for n in range(1, 40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: run({"input_ids": one}), tables * 5))
    for one, table in zip(found, tables * 5, strict=True):
        assert np.array_equal(one, table.sum(axis=1))


@pytest.mark.parametrize("backend", EACH)
def test_a_graph_that_cannot_be_run_is_told(backend: str):
    with pytest.raises(ArtifactError, match=r"x\.limbeck: the bundle's graph cannot be run"):
        session(b"no graph", ["input_ids"], backend=backend, where="x.limbeck")


def test_a_backend_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert not is_installed("openvino") and is_installed(USUAL)
    with pytest.raises(ArtifactError) as told:
        session(product(), ["input_ids"], backend="openvino", where="x.limbeck")
    assert str(told.value) == (
        "x.limbeck: OpenVINO, which is to run this bundle, is not installed; pip install "
        "'limbeck[openvino]', or load it with backend=\"onnxruntime\""
    )


@needs_openvino
def test_openvino_tells_nobody_that_it_was_imported(tmp_path: Path):
    code = f"""
import sys
from pathlib import Path
Path.home = lambda: Path({str(tmp_path)!r})
from limbeck.backends import session
assert session({product()!r}, ["input_ids"], backend="openvino")
import openvino
assert openvino.convert_model
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not list(tmp_path.iterdir()), "no name of the user is made up"


DYNAMIC, STATIC = Candidate(USUAL, "dynamic"), Candidate(USUAL, "static")
OTHER, WIDE = Candidate("openvino", "static"), Candidate("openvino", "none")


def test_each_choice_has_its_candidates(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("limbeck.candidates.is_installed", lambda _: True)
    assert candidates() == (DYNAMIC,)
    assert candidates(backend="openvino") == (OTHER,)
    assert candidates(quantization="static") == (STATIC,)
    assert candidates(backend="auto") == (DYNAMIC, STATIC, OTHER)
    assert candidates(backend="auto", quantization="static") == (STATIC, OTHER)
    assert candidates(int8=False, backend="openvino", quantization="dynamic") == (WIDE,)
    assert len(candidates(int8=False, backend="auto")) == 2
    for wrong in ({"backend": "openvino", "quantization": "dynamic"}, {"backend": "abacus"}):
        with pytest.raises(RecipeError, match="no such way to make a bundle.*openvino, static"):
            candidates(**wrong)


def test_what_is_not_installed_is_no_candidate(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("limbeck.candidates.is_installed", lambda name: name == USUAL)
    assert candidates(backend="auto") == (DYNAMIC, STATIC)
    with pytest.raises(RecipeError, match=r"not installed; found no openvino; pip install"):
        candidates(backend="openvino")
