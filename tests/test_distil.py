"""Objectives: one contract for all, the formula in numpy, and what a distillation run reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedModel

from limbeck import distil
from limbeck.blocks import Blocks, PackedText, pack
from limbeck.distil import (
    GENERAL_OBJECTIVES,
    TASK_OBJECTIVES,
    TermsOf,
    distil_general,
    held_out_loss,
    state_terms,
    weave_text,
)
from limbeck.encoder import LayerStates, final_norm, layer_states
from limbeck.errors import RecipeError
from limbeck.finetune import exact_share
from limbeck.heads import HEADS
from limbeck.losses import Scale
from limbeck.pretrain import mean_held_out
from limbeck.recipe import Kind, check_as
from limbeck.sections import General, GeneralObjective, Machine
from limbeck.task_section import TaskObjective
from limbeck.training import Batch
from test_encoder import DEPTH, PIECES, tiny_batch, tiny_model

CLASSES, FULL = 3, tuple(range(1, DEPTH + 1))
HALF = (2, 4)
CPU = torch.device("cpu")
WEIGHTS: dict[str, Any] = {"hidden": 1.0, "attention": 1.0, "scale": "relative"}
MASK, SPECIAL = 4, np.array([0, 1, 2, 3, 4])


@dataclass(frozen=True, slots=True)
class Objective:
    """An entry of one of the two tables, ready to be called."""

    head: str
    make: Callable[..., TermsOf]
    record: GeneralObjective | TaskObjective
    zero: frozenset[str]

    def terms(self, teacher: PreTrainedModel, plan: Sequence[int]) -> TermsOf:
        return self.make(self.record, teacher, plan, *self.more)

    @property
    def more(self) -> tuple[str, ...]:
        """What an objective of phase 2 is told beside."""
        return () if self.head == "mlm" else (self.head,)


OBJECTIVES = {
    **{
        f"general-{kind}": Objective(
            "mlm",
            make,
            GeneralObjective.model_validate(WEIGHTS | {"kind": kind}),
            frozenset({"hidden", "attention"}) if kind == "bistil" else frozenset(),
        )
        for kind, make in GENERAL_OBJECTIVES.items()
    },
    **{
        f"task-{kind}-{head}": Objective(
            head,
            make,
            TaskObjective.model_validate(WEIGHTS | {"kind": kind, "logits": 1.0, "gold": 1.0}),
            frozenset({"hidden", "attention"}) if kind == "bistil" else frozenset({"logits"}),
        )
        for kind, make in TASK_OBJECTIVES.items()
        for head in HEADS
    },
}
EVERY_OBJECTIVE = pytest.mark.parametrize("name", OBJECTIVES)
SOME_ARCHITECTURES = pytest.mark.parametrize("model_type", ["bert", "modernbert", "deberta-v2"])


def make_batch(head: str = "tagging") -> Batch:
    """Two windows of 7 and 5 pieces with the marks of a head; three words in each."""
    batch = tiny_batch()
    real = batch["attention_mask"].bool()
    scored = real & (torch.arange(7) % 2 == 1)
    marks: Batch = {
        "labels": torch.where(scored, batch["input_ids"] % CLASSES, -100),
        "words": torch.where(scored, 0, -100),
    }
    if head == "text":
        marks = {"labels": torch.tensor([[2], [0]])}
    elif head == "span":
        inside = real & (torch.arange(7) > 2)
        marks = {
            "begin": torch.where(inside, torch.arange(7), -100),
            "start": torch.tensor([[3], [0]]),
            "end": torch.tensor([[5], [0]]),
        }
    elif head == "tree":
        marks = {
            "firsts": torch.tensor([[1, 3, 5], [1, 3, -100]]),
            "lasts": torch.tensor([[2, 3, 5], [1, 3, -100]]),
            "owned": torch.tensor([[1, 1, 0], [1, 1, -100]]),
            "heads": torch.tensor([[2, 0, -100], [0, 1, -100]]),
            "relations": torch.tensor([[1, 0, -100], [0, 2, -100]]),
        }
    return {**batch, **marks}


def unlabelled(batch: Batch) -> Batch:
    gold = {"labels", "start", "end", "heads", "relations"} & batch.keys()
    return {**batch, **{name: torch.full_like(batch[name], -100) for name in gold}}


def make_model(objective: Objective, model_type: str = "bert", **changes: Any) -> PreTrainedModel:
    classes = {"span": 2}.get(objective.head, CLASSES)
    options = {} if objective.head == "mlm" else {"num_labels": classes}
    return tiny_model(model_type, objective.head, **options, **changes)


def make_student(
    objective: Objective, model_type: str = "bert", layers: int = len(HALF)
) -> PreTrainedModel:
    """A model of another depth and other weights than the teacher's."""
    student = make_model(objective, model_type, num_hidden_layers=layers)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(0.9)
    return student


def total(found: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(found.values())).sum()


@SOME_ARCHITECTURES
@EVERY_OBJECTIVE
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(name: str, model_type: str) -> None:
    objective = OBJECTIVES[name]
    teacher, student = (make_model(objective, model_type) for _ in range(2))
    found = objective.terms(teacher, FULL)(student, make_batch(objective.head))
    for term, value in found.items():
        assert value.shape == () and torch.isfinite(value)
        if term in objective.zero:
            assert value.item() == pytest.approx(0.0, abs=1e-6), term
    assert objective.zero <= found.keys()


@SOME_ARCHITECTURES
@EVERY_OBJECTIVE
def test_the_gradient_flows_to_the_student_alone(name: str, model_type: str) -> None:
    objective = OBJECTIVES[name]
    teacher, student = make_model(objective, model_type), make_student(objective, model_type)
    before = {key: tensor.clone() for key, tensor in teacher.state_dict().items()}
    # A plan that ends below the teacher's last layer asks for the teacher's final norm too.
    for plan in (HALF, (1, 3)):
        total(objective.terms(teacher, plan)(student, make_batch(objective.head))).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(before[key], tensor) for key, tensor in teacher.state_dict().items())
    moved = {
        key
        for key, parameter in student.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    assert any(f"{len(HALF) - 1}." in key for key in moved)
    assert any("embeddings" in key for key in moved)


@SOME_ARCHITECTURES
@EVERY_OBJECTIVE
def test_padding_changes_neither_terms_nor_gradients(name: str, model_type: str) -> None:
    objective = OBJECTIVES[name]
    batch = make_batch(objective.head)
    teacher, student = make_model(objective, model_type), make_student(objective, model_type)
    terms = objective.terms(teacher, HALF)
    fills = {"input_ids": 3, "attention_mask": 0}
    wide = {
        key: nn.functional.pad(tensor, (0, 3), value=fills.get(key, -100))
        for key, tensor in batch.items()
    }
    found = {}
    for way, one in (("short", batch), ("wide", wide)):
        student.zero_grad()
        values = terms(student, one)
        total(values).backward()
        gradients = [p.grad.clone() for p in student.parameters() if p.grad is not None]
        found[way] = ({key: value.item() for key, value in values.items()}, gradients)
    assert found["wide"][0] == pytest.approx(found["short"][0], rel=1e-4)
    for short, long in zip(found["short"][1], found["wide"][1], strict=True):
        assert torch.allclose(short, long, atol=1e-4, rtol=1e-3)


@EVERY_OBJECTIVE
def test_weights_multiply_their_terms(name: str) -> None:
    objective = OBJECTIVES[name]
    teacher, student = make_model(objective), make_student(objective)
    once = objective.terms(teacher, HALF)(student, make_batch(objective.head))
    # A term that stands alone needs no weight.
    weights = dict.fromkeys(once.keys() & type(objective.record).model_fields.keys(), 3.0)
    assert weights or len(once) == 1
    record = objective.record.model_copy(update=weights)
    thrice = objective.make(record, teacher, HALF, *objective.more)
    assert all(
        value.item() == pytest.approx(weights.get(term, 1.0) * once[term].item(), rel=1e-5)
        for term, value in thrice(student, make_batch(objective.head)).items()
    )


def test_every_kind_of_a_recipe_has_its_objective() -> None:
    for record, table in ((GeneralObjective, GENERAL_OBJECTIVES), (TaskObjective, TASK_OBJECTIVES)):
        kinds = set(record.model_json_schema()["properties"]["kind"]["enum"])
        assert kinds - {"labels"} == set(table)


def test_a_text_batch_without_labels_is_learnt_from_through_the_teacher() -> None:
    for name in (name for name in OBJECTIVES if name.startswith("task-")):
        objective = OBJECTIVES[name]
        teacher, student = make_model(objective), make_student(objective)
        batch = unlabelled(make_batch(objective.head))
        found = objective.terms(teacher, HALF)(student, batch)
        assert found["logits"].item() > 0 and found.get("gold", torch.zeros(())).item() == 0.0
        total(found).backward()


# the formula


def reference(
    student: LayerStates, teacher: LayerStates, plan: Sequence[int], mask: Tensor, scale: str
) -> dict[str, float]:
    """The two means of S2, section 3, written out in numpy."""
    real = mask.bool().numpy()
    pairs = real[:, :, None] & real[:, None, :]

    def error(mine: Tensor, theirs: Tensor, kept: Callable[[np.ndarray], np.ndarray]) -> float:
        a, b = (kept(x.detach().double().numpy()) for x in (mine, theirs))
        return float(((a - b) ** 2).mean() / ((b**2).mean() if scale == "relative" else 1.0))

    hidden = [
        error(mine, teacher.hidden[layer], lambda x: x[real])
        for mine, layer in zip(student.hidden, (0, *plan), strict=True)
    ]
    attention = [
        error(mine, teacher.attention[layer - 1], lambda x: x.transpose(0, 2, 3, 1)[pairs])
        for mine, layer in zip(student.attention, plan, strict=True)
    ]
    return {"hidden": float(np.mean(hidden)), "attention": float(np.mean(attention))}


@pytest.mark.parametrize("plan", [(2, 4), (1, 4), (3, 4)])
@pytest.mark.parametrize("scale", ["plain", "relative"])
def test_state_terms_are_the_formula(plan: tuple[int, int], scale: Scale) -> None:
    objective = OBJECTIVES["general-bistil"]
    batch = tiny_batch()
    with torch.no_grad():
        teacher = layer_states(make_model(objective), **batch, attention=True)
        student = layer_states(make_student(objective), **batch, attention=True)
    mask = batch["attention_mask"].bool()
    found = state_terms(
        student, teacher, plan=plan, mask=mask, hidden=2.0, attention=0.5, scale=scale
    )
    expected = reference(student, teacher, plan, mask, scale)
    assert found["hidden"].item() == pytest.approx(2.0 * expected["hidden"], rel=1e-5)
    assert found["attention"].item() == pytest.approx(0.5 * expected["attention"], rel=1e-5)


@pytest.mark.parametrize("weight", ["hidden", "attention"])
def test_a_term_of_weight_zero_is_left_out(weight: str) -> None:
    states = LayerStates((torch.randn(1, 2, 4),) * 3, (torch.rand(1, 1, 2, 2),) * 2)
    weights: dict[str, Any] = {"hidden": 1.0, "attention": 1.0} | {weight: 0.0}
    found = state_terms(
        states, states, plan=(1, 2), mask=torch.ones(1, 2).bool(), scale="plain", **weights
    )
    assert set(found) == {"hidden", "attention"} - {weight}


def test_phase_one_without_any_weight_is_refused() -> None:
    record, teacher = GeneralObjective(hidden=0.0, attention=0.0), tiny_model("bert")
    with pytest.raises(RecipeError, match="general.objective: phase 1 has nothing to minimise"):
        GENERAL_OBJECTIVES["bistil"](record, teacher, FULL)


def test_mlm_masks_by_itself_and_refuses_to_predict_nothing() -> None:
    assert GeneralObjective(kind="mlm").masking == 0.15
    assert GeneralObjective(kind="mlm", masking=0.3).masking == 0.3
    assert GeneralObjective().masking == 0.0
    with pytest.raises(RecipeError, match="r: objective: kind mlm predicts what is masked, and m"):
        check_as(Kind(General, "general"), {"objective": {"kind": "mlm", "masking": 0}}, where="r")


def test_mlm_needs_no_teacher_and_lowers_the_held_out_loss(
    text: PackedText, tmp_path: Path
) -> None:
    student = make_student(OBJECTIVES["general-mlm"])
    section = general(objective={"kind": "mlm"}, steps=60, learning_rate=3e-2)
    before = mean_held_out(student, text, batch=8, masking=0.15, device=CPU)
    history = distil_general(
        student,
        None,
        plan=HALF,
        text=text,
        general=section,
        seed=0,
        work=tmp_path,
        machine=Machine(device="cpu", precision="fp32"),
    )
    after = mean_held_out(student, text, batch=3, masking=0.15, device=CPU)
    assert after < 0.8 * before
    judged = [row["judged"] for row in history if "judged" in row]
    assert after == pytest.approx(-max(judged), rel=1e-4)
    assert "mlm" in history[0] and "hidden" not in history[0]


def test_attention_maps_are_not_asked_for_where_they_have_no_weight() -> None:
    record = GeneralObjective(hidden=1.0, attention=0.0)
    teacher, student = (tiny_model("bert") for _ in range(2))
    for model in (teacher, student):
        model.config._attn_implementation = "sdpa"
    found = GENERAL_OBJECTIVES["bistil"](record, teacher, FULL)(student, tiny_batch())
    assert set(found) == {"hidden"}


@pytest.mark.parametrize("model_type", ["modernbert", "eurobert"])
def test_a_last_state_from_inside_the_teacher_is_normed_as_the_student_s_is(
    model_type: str,
) -> None:
    objective, batch = OBJECTIVES["general-bistil"], tiny_batch()
    teacher = make_model(objective, model_type)
    student = make_student(objective, model_type)
    norm = final_norm(teacher)
    assert norm is not None
    with torch.no_grad():
        theirs = layer_states(teacher, **batch, attention=True)
        mine = layer_states(student, **batch, attention=True)
        found = objective.terms(teacher, (1, 3))(student, batch)["hidden"]
        inner = (*theirs.hidden[:3], norm(theirs.hidden[3]), *theirs.hidden[4:])
        normed = reference(mine, LayerStates(inner, theirs.attention), (1, 3), *_rest(batch))
        plain = reference(mine, theirs, (1, 3), *_rest(batch))
        last = objective.terms(teacher, (1, 4))(student, batch)["hidden"]
        expected_last = reference(mine, theirs, (1, 4), *_rest(batch))
    assert found.item() == pytest.approx(normed["hidden"], rel=1e-5)
    assert found.item() != pytest.approx(plain["hidden"], rel=1e-2)
    assert last.item() == pytest.approx(expected_last["hidden"], rel=1e-5)


def _rest(batch: Batch) -> tuple[Tensor, str]:
    return batch["attention_mask"], "relative"


# phase 1


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> PackedText:
    folder = tmp_path_factory.mktemp("text")
    names = ["<s>", "</s>", "<x>", "<pad>", "<mask>", *(f"w{i}" for i in range(PIECES - 5))]
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<x>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()

    def packed(name: str, seed: int) -> Blocks:
        draw = np.random.default_rng(seed)
        texts = [" ".join(f"w{i}" for i in draw.integers(0, 12, 9)) for _ in range(60)]
        pack(texts, tokenizer, folder / name, begin=0, end=1)
        return Blocks(folder / name, length=12, begin=0)

    return PackedText(
        train={one: packed(f"{one}.train", i) for i, one in enumerate(("aaa", "bbb"))},
        held_out={one: packed(f"{one}.held", 9 + i) for i, one in enumerate(("aaa", "bbb"))},
        mask_id=MASK,
        special=SPECIAL,
        vocabulary_size=PIECES,
    )


def general(**changes: Any) -> General:
    options: dict[str, Any] = {"steps": 40, "batch_pieces": 96, "block_pieces": 12}
    return General(**(options | {"learning_rate": 1e-2} | changes))


def run_general(text: PackedText, work: Path, **changes: Any) -> tuple[list[Any], TermsOf, Any]:
    objective = OBJECTIVES["general-bistil"]
    teacher, student = make_model(objective), make_student(objective)
    history = distil_general(
        student,
        teacher,
        plan=HALF,
        text=text,
        general=general(objective=WEIGHTS, **changes),
        seed=0,
        work=work,
        machine=Machine(device="cpu", precision="fp32"),
    )
    return history, objective.terms(teacher, HALF), student


def test_training_on_a_teacher_lowers_the_held_out_loss(text: PackedText, tmp_path: Path) -> None:
    history, terms, student = run_general(text, tmp_path)
    before = held_out_loss(
        make_student(OBJECTIVES["general-bistil"]), terms, text.held_out, batch=8, device=CPU
    )
    after = held_out_loss(student, terms, text.held_out, batch=8, device=CPU)
    judged = [row["judged"] for row in history if "judged" in row]
    assert after < 0.7 * before
    assert len(judged) == 5 and after == pytest.approx(-max(judged), rel=1e-5)
    assert {"hidden", "attention"} <= history[0].keys()


def test_the_held_out_loss_is_the_mean_over_languages_of_the_mean_over_blocks(
    text: PackedText,
) -> None:
    objective = OBJECTIVES["general-bistil"]
    terms = objective.terms(make_model(objective), HALF)
    student = make_student(objective)
    seen: list[np.ndarray] = []

    def first_column(model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
        seen.append(batch["input_ids"].numpy())
        return {"mean": batch["input_ids"].float().mean()}

    found = held_out_loss(student, first_column, text.held_out, batch=8, device=CPU, most=19)
    blocks = {
        language: np.stack([one.block(i) for i in range(19)])
        for language, one in text.held_out.items()
    }
    assert [len(ids) for ids in seen] == [8, 8, 3] * 2
    assert np.array_equal(np.concatenate(seen), np.concatenate([blocks["aaa"], blocks["bbb"]]))
    expected = np.mean([ids.mean() for ids in blocks.values()])
    assert found == pytest.approx(expected, rel=1e-5)
    one, many = (
        held_out_loss(student, terms, {"aaa": text.held_out["aaa"]}, batch=n, device=CPU, most=16)
        for n in (4, 16)
    )
    assert one == pytest.approx(many, rel=0.05)


@pytest.fixture
def batches_of(
    monkeypatch: pytest.MonkeyPatch, text: PackedText, tmp_path: Path
) -> Callable[..., Callable[[int], Batch]]:
    """Give a function from a general section to the batches that `fit` would ask for."""
    given: list[Callable[[int], Batch]] = []
    monkeypatch.setattr(distil, "fit", lambda model, batches, **_: given.append(batches))

    def get(seed: int = 0, **changes: Any) -> Callable[[int], Batch]:
        teacher = tiny_model("bert")
        distil_general(
            tiny_model("bert"),
            teacher,
            plan=FULL,
            text=text,
            general=general(**changes),
            seed=seed,
            work=tmp_path,
            machine=Machine(device="cpu"),
        )
        return given[-1]

    return get


Batches = Callable[..., Callable[[int], Batch]]


def ids(batches: Callable[[int], Batch], steps: Sequence[int]) -> list[np.ndarray]:
    return [batches(step)["input_ids"].numpy() for step in steps]


def test_masking_is_a_pure_function_of_seed_and_step(batches_of: Batches) -> None:
    masking = {"objective": {"masking": 0.15}}
    first, again = batches_of(**masking), batches_of(**masking)
    steps = range(30)
    forward, backward = ids(first, steps), ids(again, steps[::-1])[::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))
    other = ids(batches_of(seed=1, **masking), steps)
    assert not any(np.array_equal(a, b) for a, b in zip(forward, other, strict=True))
    plain = ids(batches_of(), steps)
    places = [a != b for a, b in zip(forward, plain, strict=True)]
    assert 0.10 < np.mean(places) < 0.18
    assert not any(np.array_equal(a, b) for a, b in pairwise(places))
    assert not any(np.isin(b[at], SPECIAL).any() for b, at in zip(plain, places, strict=True))


def test_batches_of_phase_one_are_monolingual_unpadded_and_of_the_size_asked_for(
    batches_of: Batches, text: PackedText
) -> None:
    batches = batches_of(batch_pieces=100)
    own = {
        one: {tuple(text.train[one].block(i).tolist()) for i in range(len(text.train[one]))}
        for one in text.train
    }
    for step in range(20):
        batch = batches(step)
        assert batch["input_ids"].shape == (8, 12) and batch["attention_mask"].all()
        language = ("aaa", "bbb")[step % 2]
        assert {tuple(row) for row in batch["input_ids"].tolist()} <= own[language]
    assert batches_of(batch_pieces=5)(0)["input_ids"].shape == (1, 12)


# weaving


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.29, 0.3, 0.5, 0.7, 0.75, 0.9, 0.99])
def test_text_is_woven_in_at_an_exact_and_even_share(share: float) -> None:
    woven = weave_text(lambda i: {"labelled": i}, lambda i: {"text": i}, share)  # type: ignore[dict-item,return-value]
    steps = [woven(step) for step in range(1000)]
    labelled = [batch["labelled"] for batch in steps if "labelled" in batch]
    texts = [batch["text"] for batch in steps if "text" in batch]
    assert labelled == list(range(len(labelled))) and texts == list(range(len(texts)))
    for count in range(1001):
        found = sum("text" in batch for batch in steps[:count]) if count % 100 == 0 else None
        assert found is None or found == int(count * exact_share(share)) == round(count * share)
    places = [step for step, batch in enumerate(steps) if "text" in batch]
    gaps = {later - earlier for earlier, later in pairwise(places)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert [woven(step) for step in reversed(range(1000))] == steps[::-1]
