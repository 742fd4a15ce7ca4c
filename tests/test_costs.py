"""What parts of a student cost: sizes to the byte, times by arithmetic alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from limbeck import costs
from limbeck.architectures import ARCHITECTURES
from limbeck.bench import Latency
from limbeck.budget import table_bytes
from limbeck.costs import (
    DEPTHS,
    PASSES,
    PIECES,
    SECONDS,
    Shape,
    embedding_width,
    random_student,
)
from limbeck.errors import ModelError
from limbeck.narrowing import narrow, neurons_in
from limbeck.parameters import base_prefix
from limbeck.rounding import LARGE_ENTRIES, quantized
from limbeck.student import build_student, trim_model
from limbeck.tracing import to_onnx
from test_encoder import tiny_model

LAYERS, KEPT = 2, 8500
"""A depth that is not measured, and so many pieces that their table is stored in 8 bits."""


def quick(p50_ms: float = 1.0):
    """A stand-in for `latency` that answers at once."""
    return lambda systems, inputs, warmup=5: {
        name: Latency(p50_ms, p50_ms, p50_ms, len(inputs)) for name in systems
    }


EVERY = [(one, head) for one in sorted(ARCHITECTURES) for head in ("tagging", "text", "tree")]
OFTEN = {("bert", "text")}


@pytest.mark.parametrize(
    ("model_type", "head"),
    [pytest.param(*one, marks=() if one in OFTEN else pytest.mark.slow) for one in EVERY],
)
def test_a_students_graph_weighs_what_its_parts_do(model_type: str, head: str, monkeypatch):
    monkeypatch.setattr(costs, "latency", quick())
    depth = {ARCHITECTURES[model_type].depth: LAYERS}
    teacher = tiny_model(model_type, head, vocab_size=9000, **depth)
    student = build_student(trim_model(teacher, np.arange(KEPT)), tuple(range(1, LAYERS + 1)))
    student.model.config._attn_implementation = ARCHITECTURES[model_type].attention[-1]
    student = narrow(student, 0.5, None)
    whole = to_onnx(student.model, head=head, windows=[costs._window(5), costs._window(9)])
    rates = costs.measure(teacher.config, Shape(head, 2, 8))
    for precision, graph in (("fp32", whole), ("int8", quantized(whole))):
        rate, width = rates[precision].at(0.5), embedding_width(teacher.config)
        table = table_bytes(KEPT, width, precision, rounded_from_entries=LARGE_ENTRIES)
        expected = rate.fixed_bytes + LAYERS * rate.layer_bytes + table
        assert graph.ByteSize() == pytest.approx(expected, rel=0.01), precision


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_the_width_of_the_table_of_pieces_is_the_models(model_type: str):
    model = tiny_model(model_type, "tagging")
    table = model.get_parameter(base_prefix(model) + ARCHITECTURES[model_type].pieces)
    assert table.shape[1] == embedding_width(model.config)


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_a_random_student_has_the_layers_asked_for_and_few_pieces(model_type: str):
    config = tiny_model(model_type, "tagging", vocab_size=250_002).config
    config.pad_token_id, config.eos_token_id = 250_000, 250_001
    before, state = config.to_dict(), torch.get_rng_state()
    architecture = ARCHITECTURES[model_type]
    for layers in (1, getattr(config, architecture.depth) + 3):
        model = random_student(config, layers, Shape("tagging", 5, 8))
        assert len(model.base_model.get_submodule(architecture.layers)) == layers
        assert neurons_in(model.config) == neurons_in(config)
        assert neurons_in(random_student(config, 1, Shape("tagging", 5, 8), share=0.5).config) == 6
        assert model.config.vocab_size == PIECES and model.config.num_labels == 5
        assert model.config.pad_token_id == 0 and model.config.eos_token_id == 0
    assert config.to_dict() == before and torch.equal(torch.get_rng_state(), state)


def test_an_architecture_without_the_head_is_told(monkeypatch):
    config = tiny_model("bert", "tagging").config

    def none(_: object) -> type:
        raise KeyError

    monkeypatch.setitem(
        costs.class_for.__globals__["HEADS"], "tagging", SimpleNamespace(model=none)
    )
    with pytest.raises(ModelError, match="here: transformers has no bert with a head of this kind"):
        random_student(config, 1, Shape("tagging", 2, 8), where="here")


@pytest.mark.parametrize(
    ("few", "many", "expected"),
    [
        (3.0, 9.0, (1.0, 2.0)),
        (9.0, 3.0, (6.0, 0.0)),
        (1.0, 8.5, (-1.5, 2.5)),
        (0.0, 0.0, (0, 0)),
    ],
)
def test_what_two_depths_cost_is_divided_and_no_layer_is_negative(few, many, expected):
    assert DEPTHS == (1, 4)
    assert costs._divided(few, many) == pytest.approx(expected)


def test_the_middle_one_of_many_medians_counts(monkeypatch):
    medians = iter([3.0, 2.0, 5.0])
    seen: list[tuple[int, int]] = []

    def latency(systems, inputs, warmup=5):
        seen.append((len(inputs), warmup))
        return quick(next(medians, 4.0))(systems, inputs)

    monkeypatch.setattr(costs, "latency", latency)
    found = costs._times_ms({("int8", 1.0, 1): lambda batch: np.zeros(1)}, {})
    assert found == {("int8", 1.0, 1): 4.0}
    assert len(seen) == PASSES[1], "a quick system is asked as often as is allowed"
    assert seen[0][1] > 0 and {warmup for _, warmup in seen[1:]} == {0}


@pytest.mark.parametrize(("p50_ms", "expected"), [(75.0, 10), (1e6, PASSES[0]), (0.0, PASSES[1])])
def test_slow_students_are_timed_less_often(p50_ms: float, expected: int, monkeypatch):
    passes: list[int] = []

    def latency(systems, inputs, warmup=5):
        passes.append(len(inputs))
        return quick(p50_ms)(systems, inputs)

    monkeypatch.setattr(costs, "latency", latency)
    costs._times_ms({("int8", 1.0, 1): lambda batch: np.zeros(1)}, {})
    assert SECONDS == 15 and len(passes) == expected
