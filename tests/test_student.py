"""A student is its teacher with fewer pieces and layers, and says where every tensor is from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import PreTrainedModel

from limbeck.architectures import ARCHITECTURES
from limbeck.encoder import (
    base_encoder,
    layer_states,
    load_encoder,
    states_and_logits,
)
from limbeck.errors import ModelError, RecipeError
from limbeck.parameters import base_prefix
from limbeck.plan import layer_plan
from limbeck.student import build_student, trim_model
from test_encoder import DEPTH, EVERY_ARCHITECTURE, EVERY_HEAD, PIECES, tiny_batch, tiny_model

FULL_PLAN = tuple(range(1, DEPTH + 1))
# Piece 0 goes, so every special piece moves and RoBERTa's positions must move with the padding.
KEPT = np.array([1, 2, 3, 4, 6, 7, 11, 13, 20, 21, 30, 41, 52])


def outputs_of(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Hidden states and attention of every layer, and the logits where there is a head."""
    with torch.no_grad():
        if base_encoder(model) is model:
            states = layer_states(model, **batch, attention=True)
            return [*states.hidden, *states.attention]
        both = states_and_logits(model, **batch, attention=True)
    return [*both.states.hidden, *both.states.attention, both.logits]


def assert_same(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> None:
    assert len(found) == len(expected)
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert torch.equal(one, other), f"output {index} differs"


def assert_same_tensors(found: PreTrainedModel, expected: PreTrainedModel) -> None:
    tensors = found.state_dict()
    assert list(tensors) == list(expected.state_dict())
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensors[name], tensor), name


def kept_batch(kept: np.ndarray) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """One batch in new ids and the same in old ids."""
    old = tiny_batch()
    pieces = torch.from_numpy(kept)
    new_ids = torch.randint(4, len(kept), (2, 7), generator=torch.Generator().manual_seed(1))
    new_ids[1, 5:] = int(np.searchsorted(kept, 3))
    new = old | {"input_ids": new_ids}
    return new, old | {"input_ids": pieces[new_ids]}


@pytest.mark.parametrize(
    ("teacher_layers", "layers", "plan", "expected"),
    [
        (12, 6, "every", (2, 4, 6, 8, 10, 12)),
        (8, 2, "every", (4, 8)),
        (12, 5, "every", (2, 5, 7, 10, 12)),
        (12, 5, "spread", (2, 5, 7, 10, 12)),
        (22, 1, "spread", (22,)),
        (12, 3, "bottom", (1, 2, 3)),
        (12, 3, "top", (10, 11, 12)),
        (3, None, "every", (1, 2, 3)),
        (12, None, [1, 5, 12], (1, 5, 12)),
        (12, 3, (1, 5, 12), (1, 5, 12)),
    ],
)
def test_layer_plans(teacher_layers: int, layers: int | None, plan: Any, expected: tuple[int, ...]):
    assert layer_plan(teacher_layers, layers, plan) == expected


def test_every_spread_plan_ascends_to_the_last_layer():
    for teacher_layers in range(1, 25):
        for layers in range(1, teacher_layers + 1):
            plan = layer_plan(teacher_layers, layers, "spread")
            assert len(plan) == layers and plan[-1] == teacher_layers and plan[0] >= 1
            gaps = set(np.diff((0, *plan)).tolist())
            assert max(gaps) - min(gaps) <= 1 and min(gaps) >= 1


@pytest.mark.parametrize(
    ("layers", "plan", "message"),
    [
        (13, "every", "cannot have this many layers; found 13; expected 1 to 12"),
        (0, "every", "cannot have this many layers; found 0"),
        (None, [], "plan is empty"),
        (None, [2, 13], "does not have; found .*13.*; expected layers from 1 to 12"),
        (None, [0, 2], "does not have"),
        (None, [4, 2], "out of order; found .*4, 2"),
        (None, [2, 2], "out of order"),
        (3, [2, 4], "disagree; found 2 layers in the plan; expected student.layers = 3"),
        (6, "middle", "no such layer plan; found 'middle'; expected .*every, bottom"),
    ],
)
def test_impossible_plans_are_refused(layers: int | None, plan: Any, message: str):
    with pytest.raises(RecipeError, match=message):
        layer_plan(12, layers, plan)


@EVERY_HEAD
@EVERY_ARCHITECTURE
def test_a_student_with_every_layer_and_piece_is_its_teacher(model_type: str, head: str):
    teacher = tiny_model(model_type, head)
    student = build_student(trim_model(teacher, np.arange(PIECES)), FULL_PLAN)
    assert type(student.model) is type(teacher) and student.model is not teacher
    assert_same_tensors(student.model, teacher)
    assert_same(outputs_of(student.model, tiny_batch()), outputs_of(teacher, tiny_batch()))
    assert student.origin == {name: f"teacher {name}" for name in teacher.state_dict()}


@EVERY_HEAD
@EVERY_ARCHITECTURE
def test_a_trimmed_model_encodes_new_ids_as_the_whole_one_does_old_ids(model_type: str, head: str):
    model = tiny_model(model_type, head)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trimmed = trim_model(model, KEPT)
    new, old = kept_batch(KEPT)
    expected = outputs_of(model, old)
    if head == "mlm":
        expected[-1] = expected[-1][..., torch.from_numpy(KEPT)]
    assert_same(outputs_of(trimmed, new), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.config.vocab_size == PIECES and trimmed.config.vocab_size == len(KEPT)


@EVERY_ARCHITECTURE
def test_a_trimmed_config_and_padding_follow_the_new_ids(model_type: str):
    model = tiny_model(model_type)
    trimmed = trim_model(model, KEPT)
    old, new = model.config.to_dict(), trimmed.config.to_dict()
    for key in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "mask_token_id"):
        assert new.get(key) == (None if old.get(key) is None else old[key] - 1)
    assert trimmed.get_input_embeddings().padding_idx == 2
    assert trimmed.get_input_embeddings().num_embeddings == len(KEPT)


@EVERY_ARCHITECTURE
def test_tied_tensors_stay_tied(model_type: str):
    teacher = tiny_model(model_type)

    def ties(model: PreTrainedModel) -> set[frozenset[str]]:
        groups: dict[int, set[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            groups.setdefault(id(parameter), set()).add(name)
        return {frozenset(names) for names in groups.values() if len(names) > 1}

    assert ties(trim_model(teacher, KEPT)) == ties(teacher)
    assert ties(build_student(teacher, FULL_PLAN).model) == ties(teacher)


def test_an_untied_decoder_is_trimmed_on_its_own():
    model = tiny_model("eurobert", tie_word_embeddings=False)
    trimmed = trim_model(model, KEPT)
    rows = torch.from_numpy(KEPT)
    assert torch.equal(trimmed.lm_head.weight, model.lm_head.weight[rows])
    assert not torch.equal(trimmed.lm_head.weight, trimmed.model.embed_tokens.weight)


def test_the_newer_deberta_head_is_trimmed_too():
    model = tiny_model("deberta-v2", legacy=False)
    new, old = kept_batch(KEPT)
    logits = outputs_of(model, old)[-1][..., torch.from_numpy(KEPT)]
    assert torch.equal(outputs_of(trim_model(model, KEPT), new)[-1], logits)


def test_lists_of_special_ids_follow_and_ids_beyond_the_vocabulary_stay():
    model = tiny_model("eurobert")
    model.config.eos_token_id = [2, 4]
    model.config.mask_token_id = 128_002
    config = trim_model(model, KEPT).config
    assert (config.eos_token_id, config.mask_token_id) == ([1, 3], 128_002)


@pytest.mark.parametrize(
    "kept",
    [
        np.array([2, 1, 3]),
        np.array([1, 1, 2, 3]),
        np.array([-1, 1, 2, 3]),
        np.array([1.0, 2.0, 3.0]),
        np.array([], dtype=np.int64),
        np.array([[1, 2, 3]]),
    ],
)
def test_kept_pieces_that_are_no_ascending_ids_are_refused(kept: np.ndarray):
    with pytest.raises(ModelError, match="not ids of this vocabulary; .*from 0 to 52"):
        trim_model(tiny_model("bert"), kept)


def test_a_tokenizer_with_more_pieces_than_the_model_has_rows_is_told():
    with pytest.raises(ModelError, match="than the model; .*id 53; expected ids below 53"):
        trim_model(tiny_model("bert"), np.array([1, 2, 3, PIECES]))


def test_losing_a_special_piece_is_refused():
    with pytest.raises(ModelError, match=r"not kept; found id 3 \(pad_token_id\)"):
        trim_model(tiny_model("bert"), np.array([1, 2, 5, 9]))


@pytest.mark.parametrize("plan", [(2, 4), (1, 3, 4), (3,)])
@EVERY_ARCHITECTURE
def test_every_tensor_of_a_shallow_student_has_its_origin(model_type: str, plan: tuple[int, ...]):
    teacher = tiny_model(model_type)
    student = build_student(teacher, plan)
    tensors, source = student.model.state_dict(), teacher.state_dict()
    assert list(student.origin) == list(tensors)
    stack = f"{base_prefix(teacher)}{ARCHITECTURES[model_type].layers}."
    for name, tensor in tensors.items():
        told = student.origin[name].removeprefix("teacher ").split(" folded with ")
        if name.startswith(stack):
            layer, rest = name.removeprefix(stack).split(".", 1)
            assert told[0] == f"{stack}{plan[int(layer)] - 1}.{rest}"
        else:
            assert told[0] == name
        assert torch.equal(tensor, source[told[0]]) is (len(told) == 1)
    # What the student leaves out of a layer that it copies is told as folded, nothing is lost.
    copied = [f"{stack}{layer - 1}." for layer in plan]
    wanted = {name for name in source if any(name.startswith(start) for start in copied)}
    all_told = " ".join(student.origin.values())
    assert [name for name in wanted if name.removesuffix(".weight") not in all_told] == []


@EVERY_ARCHITECTURE
def test_a_student_comes_back_from_its_folder(model_type: str, tmp_path: Path):
    student = build_student(trim_model(tiny_model(model_type), KEPT), (2, 4)).model
    student.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    assert_same_tensors(loaded, student)
    new, _ = kept_batch(KEPT)
    assert_same(outputs_of(loaded, new), outputs_of(student, new))
    tagger = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path)
    encoder = base_encoder(student).state_dict()
    for name, tensor in base_encoder(tagger).state_dict().items():
        assert torch.equal(tensor, encoder[name])


@EVERY_ARCHITECTURE
def test_a_student_has_no_dropout_and_leaves_the_teacher_its_own(model_type: str):
    teacher = tiny_model(model_type)
    before = teacher.config.to_dict()
    student = build_student(teacher, (2, 4)).model.train()
    assert teacher.config.to_dict() == before
    dropouts = [module.p for module in student.modules() if isinstance(module, torch.nn.Dropout)]
    assert not any(dropouts)
    with torch.no_grad():
        runs = [student(**tiny_batch()).logits for _ in range(2)]
    assert torch.equal(*runs)


@EVERY_ARCHITECTURE
def test_a_random_student_depends_on_the_seed_alone(model_type: str):
    teacher = tiny_model(model_type)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    student = build_student(teacher, (2, 4), init="random", seed=5)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(12)
    assert_same_tensors(build_student(teacher, (2, 4), init="random", seed=5).model, student.model)
    other = build_student(teacher, (2, 4), init="random", seed=6).model
    name = base_prefix(teacher) + ARCHITECTURES[model_type].pieces
    pieces = student.model.state_dict()[name]
    assert not torch.equal(pieces, other.state_dict()[name])
    assert not torch.equal(pieces, teacher.state_dict()[name])
    assert set(student.origin.values()) == {"random (seed 5)"}
    assert list(student.origin) == list(student.model.state_dict())
    assert not torch.isnan(torch.cat([p.flatten() for p in student.model.parameters()])).any()


def test_copying_leaves_the_global_generator_as_it_was():
    teacher = tiny_model("modernbert")
    before = torch.get_rng_state()
    build_student(trim_model(teacher, KEPT), (2, 4))
    assert torch.equal(before, torch.get_rng_state())


def test_a_student_keeps_mode_and_dtype_of_its_teacher():
    teacher = tiny_model("bert").double().train()
    student = build_student(teacher, (2,)).model
    assert student.training and student.dtype == torch.float64
    assert not build_student(tiny_model("bert"), (2,)).model.training


@pytest.mark.parametrize(
    ("plan", "message"), [((), "is empty"), ((2, 9), "does not have"), ((2, 1), "out of order")]
)
def test_a_student_needs_a_plan_of_its_teacher(plan: tuple[int, ...], message: str):
    with pytest.raises(RecipeError, match=message):
        build_student(tiny_model("bert"), plan)


def test_layer_types_follow_the_copied_layers():
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    teacher = tiny_model("modernbert", layer_types=kinds)
    student = build_student(teacher, (2, 4)).model
    assert student.config.layer_types == ["sliding_attention", "full_attention"]
    assert [layer.attention_type for layer in student.model.layers] == student.config.layer_types
    assert student.config.rope_parameters == teacher.config.rope_parameters


@pytest.mark.parametrize("biased", [False, True])
def test_a_folded_norm_does_what_the_norm_does(biased: bool):
    # A wide embedding output with a near-uniform gain has almost the same std for every piece.
    teacher = tiny_model("modernbert", norm_bias=biased, attention_bias=biased)
    layer = teacher.model.layers[1]
    gain = torch.linspace(0.99, 1.01, teacher.config.hidden_size)
    with torch.no_grad():
        teacher.model.embeddings.norm.weight.copy_(gain)
        if biased:
            teacher.model.embeddings.norm.bias.fill_(0.3)
        student = build_student(teacher, (2, 3))
        output = teacher.model.embeddings(torch.arange(PIECES)[None])
        expected = layer.attn.Wqkv(layer.attn_norm(output))
        folded = student.model.model.layers[0].attn.Wqkv(output)
    error = (folded - expected).pow(2).mean() / expected.pow(2).mean()
    assert float(error) < 1e-4
    assert student.origin["model.layers.0.attn.Wqkv.weight"] == (
        "teacher model.layers.1.attn.Wqkv.weight folded with model.layers.1.attn_norm"
    )
    assert ("folded" in student.origin.get("model.layers.0.attn.Wqkv.bias", "")) is biased
    assert "folded" not in student.origin["model.layers.1.attn.Wqkv.weight"]


def test_a_pooler_is_kept_where_there_is_one():
    config = tiny_model("bert").config
    teacher = transformers.BertModel(config).eval()
    assert_same_tensors(build_student(teacher, FULL_PLAN).model, teacher)
    assert "pooler.dense.weight" in trim_model(teacher, KEPT).state_dict()
