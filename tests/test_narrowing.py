"""A narrower student keeps the neurons that add most, and its blocks give what the wide ones do."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from limbeck.architectures import ARCHITECTURES
from limbeck.encoder import base_encoder, load_encoder
from limbeck.narrowing import chosen_neurons, narrow, neuron_moments, neurons_in, refitted
from limbeck.parameters import base_prefix
from limbeck.plan import MULTIPLE, neurons_kept
from limbeck.student import Student, build_student
from test_encoder import EVERY_ARCHITECTURE, PIECES, tiny_batch, tiny_model

PLAN = (2, 4)
NEURONS = 12


def texts(count: int = 64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(5, PIECES, (4, 7), generator=generator) for _ in range(count)]


def narrowed(teacher: PreTrainedModel, share: float) -> Student:
    return narrow(build_student(teacher, PLAN), share, neuron_moments(teacher, PLAN, texts()))


@pytest.mark.parametrize(
    ("total", "share", "kept"),
    [
        (3072, 0.5, 1536),
        (3072, 0.33, 1024),
        (1152, 0.5, 576),
        (384, 0.01, 4),
        (12, 0.5, 6),
        (12, 0.001, 1),
        (2730, 1.0, 2730),
    ],
)
def test_neurons_stay_by_multiples_where_there_are_many(total: int, share: float, kept: int):
    assert neurons_kept(total, share) == kept
    assert kept < MULTIPLE or kept % MULTIPLE == 0 or kept == total


@EVERY_ARCHITECTURE
def test_moments_are_the_means_of_products_of_what_the_block_reads(model_type: str):
    teacher = tiny_model(model_type).train()
    architecture = ARCHITECTURES[model_type]
    seen: list[torch.Tensor] = []
    reader = base_encoder(teacher).get_submodule(
        f"{architecture.layers}.1.{architecture.feed_forward.out}"
    )
    assert isinstance(reader, torch.nn.Linear)
    moments = neuron_moments(teacher, PLAN, texts(3))
    assert teacher.training and [len(one) for one in moments] == [NEURONS + 1] * 2
    hook = reader.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(0, 1)))
    with torch.no_grad():
        for ids in texts(3):
            base_encoder(teacher.eval())(input_ids=ids, attention_mask=torch.ones_like(ids))
    hook.remove()
    active = torch.nn.functional.pad(torch.cat(seen), (0, 1), value=1.0)
    torch.testing.assert_close(moments[0], active.T @ active / len(active), rtol=1e-4, atol=1e-5)
    assert not reader._forward_pre_hooks


@EVERY_ARCHITECTURE
def test_a_narrow_student_is_saved_and_answers(model_type: str, tmp_path: Path):
    teacher = tiny_model(model_type)
    wide, student = build_student(teacher, PLAN), narrowed(teacher, 0.5)
    assert neurons_in(wide.model.config) == NEURONS and neurons_in(student.model.config) == 6
    assert list(student.origin) == list(student.model.state_dict())
    prefix = f"{base_prefix(teacher)}{ARCHITECTURES[model_type].layers}."
    sources = wide.model.state_dict()
    for name, tensor in student.model.state_dict().items():
        cut = "6 of 12 neurons" in student.origin[name]
        assert not cut or name.startswith(prefix)
        assert cut or torch.equal(tensor, sources[name])
    student.model.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    with torch.no_grad():
        found, expected = (one(**tiny_batch()).logits for one in (loaded, student.model))
    assert torch.equal(found, expected)


@EVERY_ARCHITECTURE
def test_neurons_that_never_act_are_the_ones_left_out(model_type: str):
    teacher = tiny_model(model_type)
    block = ARCHITECTURES[model_type].feed_forward
    stack = base_encoder(teacher).get_submodule(ARCHITECTURES[model_type].layers)
    with torch.no_grad():
        for layer in stack.children():
            for module in block.into:
                for parameter in layer.get_submodule(module).parameters():
                    parameter.unflatten(0, (-1, NEURONS))[:, ::2] = 0
    wide = build_student(teacher, PLAN).model
    student = narrowed(teacher, 0.5).model
    with torch.no_grad():
        expected, found = (one(**tiny_batch()).logits for one in (wide, student))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_all_neurons_are_no_change():
    student = build_student(tiny_model("bert"), PLAN)
    assert narrow(student, 1.0, None) is student


def test_a_drawn_student_keeps_what_was_drawn():
    student = build_student(tiny_model("modernbert"), PLAN, init="random", seed=3)
    found = narrow(student, 0.5, None)
    into = "model.layers.0.mlp.Wi.weight"
    wide, small = student.model.state_dict()[into], found.model.state_dict()[into]
    assert torch.equal(small, torch.cat([wide[:6], wide[12:18]]))
    assert found.origin[into] == "random (seed 3), 6 of 12 neurons"


def test_a_block_that_never_acts_is_left_as_it_is():
    weight, bias, chosen = torch.randn(4, 10), torch.randn(4), torch.arange(6)
    moment = torch.zeros(11, 11)
    moment[-1, -1] = 1.0
    found, shift = refitted(weight, bias, moment, chosen)
    assert shift is not None and torch.equal(found, weight[:, :6]) and torch.equal(shift, bias)
    found, shift = refitted(weight, None, moment, chosen)
    assert shift is None and torch.equal(found, weight[:, :6])


def test_the_refit_is_the_least_squares_one():
    generator = torch.Generator().manual_seed(1)
    mixed = torch.randn(10, 10, generator=generator)
    active = torch.randn(500, 10, generator=generator) @ mixed + 0.3
    weight = torch.randn(4, 10, generator=generator)
    bias = torch.randn(4, generator=generator)
    ones = torch.nn.functional.pad(active, (0, 1), value=1.0)
    moment = ones.T @ ones / len(ones)
    chosen = chosen_neurons(weight, moment, 6)
    added = active.square().mean(0) * weight.square().sum(0)
    assert chosen.tolist() == sorted(added.topk(6).indices.tolist())
    found, shift = refitted(weight, bias, moment, chosen)
    assert shift is not None
    expected = active @ weight.T + bias

    def error(weight: torch.Tensor, bias: torch.Tensor) -> float:
        return float((active[:, chosen] @ weight.T + bias - expected).square().mean())

    best = torch.linalg.lstsq(
        torch.nn.functional.pad(active[:, chosen], (0, 1), value=1.0), expected
    ).solution.T
    assert error(found, shift) <= 1.01 * error(best[:, :-1], best[:, -1])
    assert error(found, shift) < 0.8 * error(weight[:, chosen], bias)
