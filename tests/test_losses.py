"""Each loss against its formula in numpy, and what padding, scale and emptiness may do to it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.losses import (
    attention_mse,
    gold_cross_entropy,
    hidden_mse,
    mlm,
    soft_cross_entropy,
    soft_kl,
)

B, T, D, H, C, N = 3, 5, 4, 2, 6, 7
LENGTHS = (5, 3, 1)
MASKS = {
    "full": torch.ones(B, T, dtype=torch.bool),
    "padded": torch.arange(T)[None] < torch.tensor(LENGTHS)[:, None],
}
SCALES = ("plain", "relative")
EVERY_MASK = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
EVERY_SCALE = pytest.mark.parametrize("scale", SCALES)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def states() -> tuple[Tensor, Tensor]:
    return draw(B, T, D, seed=1).requires_grad_(), draw(B, T, D, seed=2)


def maps() -> tuple[Tensor, Tensor]:
    return draw(B, H, T, T, seed=1).softmax(-1).requires_grad_(), draw(B, H, T, T).softmax(-1)


def logits() -> tuple[Tensor, Tensor]:
    return draw(N, C, seed=1).requires_grad_(), draw(N, C, seed=2)


STATE_LOSSES: dict[str, tuple[Callable[..., Tensor], Callable[[], tuple[Tensor, Tensor]]]] = {
    "hidden": (hidden_mse, states),
    "attention": (attention_mse, maps),
}
EVERY_STATE_LOSS = pytest.mark.parametrize("name", STATE_LOSSES)


def real(name: str, values: Tensor, mask: Tensor) -> np.ndarray:
    """The real entries, collected by plain loops."""
    found = []
    for b in range(B):
        places = [t for t in range(T) if mask[b, t]]
        for t in places:
            if name == "hidden":
                found += values[b, t].tolist()
            else:
                found += [float(values[b, h, t, key]) for h in range(H) for key in places]
    return np.array(found)


@EVERY_STATE_LOSS
@EVERY_MASK
@EVERY_SCALE
def test_state_losses_are_the_formula(name: str, mask: Tensor, scale: str) -> None:
    loss, make = STATE_LOSSES[name]
    student, teacher = make()
    mine, theirs = (real(name, x.detach(), mask) for x in (student, teacher))
    expected = np.mean((mine - theirs) ** 2)
    if scale == "relative":
        expected /= np.mean(theirs**2)
    assert loss(student, teacher, mask, scale=scale).item() == pytest.approx(expected, rel=1e-5)


@EVERY_STATE_LOSS
@EVERY_SCALE
def test_a_mask_without_padding_takes_the_same_values_as_the_masked_way(
    name: str, scale: str
) -> None:
    loss, make = STATE_LOSSES[name]
    student, teacher = make()
    row = torch.zeros(1, *student.shape[1:])
    more = torch.cat([student, row]), torch.cat([teacher, row])
    mask = torch.cat([MASKS["full"], torch.zeros(1, T, dtype=torch.bool)])
    short = loss(student, teacher, MASKS["full"], scale=scale)
    assert loss(*more, mask, scale=scale).item() == pytest.approx(short.item(), rel=1e-6)


def padding_of(name: str, mask: Tensor) -> Tensor:
    if name == "hidden":
        return ~mask[..., None].expand(B, T, D)
    return ~(mask[:, None, :, None] & mask[:, None, None, :]).expand(B, H, T, T)


@EVERY_STATE_LOSS
@EVERY_SCALE
@pytest.mark.parametrize("junk", [1e4, float("nan"), float("inf")])
def test_padding_changes_neither_value_nor_gradient(name: str, scale: str, junk: float) -> None:
    loss, make = STATE_LOSSES[name]
    padding = padding_of(name, MASKS["padded"])
    student, teacher = make()
    clean = loss(student, teacher, MASKS["padded"], scale=scale)
    clean.backward()
    spoilt = student.detach().masked_fill(padding, junk).requires_grad_()
    found = loss(spoilt, teacher.masked_fill(padding, -junk), MASKS["padded"], scale=scale)
    found.backward()
    assert student.grad is not None and spoilt.grad is not None
    assert found.item() == clean.item()
    assert torch.equal(spoilt.grad, student.grad)
    assert not spoilt.grad[padding].any() and spoilt.grad[~padding].any()


@EVERY_STATE_LOSS
@EVERY_MASK
def test_a_silent_student_is_wrong_by_one_in_relative_scale(name: str, mask: Tensor) -> None:
    loss, make = STATE_LOSSES[name]
    _, teacher = make()
    assert loss(teacher * 0, teacher, mask, scale="relative").item() == pytest.approx(1.0)
    loud = loss(teacher * 3000, teacher * 1000, mask, scale="relative").item()
    assert loud == pytest.approx(4.0, rel=1e-5)


@EVERY_STATE_LOSS
@EVERY_MASK
@EVERY_SCALE
def test_equal_models_have_no_loss_and_no_gradient(name: str, mask: Tensor, scale: str) -> None:
    loss, make = STATE_LOSSES[name]
    student, _ = make()
    found = loss(student, student.detach(), mask, scale=scale)
    found.backward()
    assert found.item() == 0.0 and student.grad is not None and not student.grad.any()


@EVERY_STATE_LOSS
@EVERY_MASK
def test_state_losses_are_float32_for_bfloat16_states(name: str, mask: Tensor) -> None:
    loss, make = STATE_LOSSES[name]
    student, teacher = (x.detach().bfloat16() for x in make())
    found = loss(student, teacher, mask, scale="relative")
    exact = loss(student.double(), teacher.double(), mask, scale="relative")
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)


@EVERY_STATE_LOSS
@EVERY_SCALE
def test_states_without_a_real_piece_give_nothing_but_a_gradient(name: str, scale: str) -> None:
    loss, make = STATE_LOSSES[name]
    student, teacher = make()
    found = loss(student, teacher, torch.zeros(B, T, dtype=torch.bool), scale=scale)
    found.backward()
    assert found.item() == 0.0 and student.grad is not None and not student.grad.any()


def softmax(values: Tensor, temperature: float) -> np.ndarray:
    powers = np.exp(values.detach().double().numpy() / temperature)
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_soft_losses_are_the_formula(temperature: float) -> None:
    student, teacher = logits()
    p, q = softmax(teacher, temperature), softmax(student, temperature)
    cross = -(p * np.log(q)).sum(-1).mean() * temperature**2
    kl = (p * np.log(p / q)).sum(-1).mean() * temperature**2
    assert soft_cross_entropy(student, teacher, temperature=temperature).item() == pytest.approx(
        cross, rel=1e-5
    )
    assert soft_kl(student, teacher, temperature=temperature).item() == pytest.approx(kl, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_soft_losses_agree_up_to_the_entropy_of_the_teacher(temperature: float) -> None:
    student, teacher = logits()
    p = softmax(teacher, temperature)
    entropy = -(p * np.log(p)).sum(-1).mean() * temperature**2
    cross = soft_cross_entropy(student, teacher, temperature=temperature)
    kl = soft_kl(student, teacher, temperature=temperature)
    assert kl.item() == pytest.approx(cross.item() - entropy, rel=1e-4)
    (by_cross,) = torch.autograd.grad(cross, student)
    (by_kl,) = torch.autograd.grad(kl, student)
    assert torch.allclose(by_kl, by_cross, atol=1e-6)


def test_soft_kl_is_zero_only_for_equal_distributions() -> None:
    student, teacher = logits()
    shifted = teacher + draw(N, 1, seed=5)
    assert soft_kl(shifted, teacher, temperature=2.0).item() == pytest.approx(0.0, abs=1e-6)
    assert soft_kl(student, teacher, temperature=2.0).item() > 0.01


def test_gold_cross_entropy_is_the_formula() -> None:
    student, _ = logits()
    labels = torch.arange(N) % C
    expected = -np.log(softmax(student, 1.0)[np.arange(N), labels.numpy()]).mean()
    assert gold_cross_entropy(student, labels).item() == pytest.approx(expected, rel=1e-5)


def test_mlm_is_the_cross_entropy_at_masked_pieces_alone() -> None:
    labels = torch.full((B, T), -100)
    labels[0, 1], labels[0, 4], labels[2, 0] = 3, 0, 5
    dense = draw(B, T, C, seed=4)
    found = mlm(dense[labels >= 0], labels).item()
    whole = torch.nn.functional.cross_entropy(dense.flatten(0, 1), labels.flatten())
    assert found == pytest.approx(whole.item(), rel=1e-6)
    by_hand = [-np.log(softmax(dense[b, t], 1.0)[label]) for b, t, label in ((0, 1, 3), (0, 4, 0))]
    by_hand.append(-np.log(softmax(dense[2, 0], 1.0)[5]))
    assert found == pytest.approx(np.mean(by_hand), rel=1e-5)


EMPTY: dict[str, Callable[[Tensor], Tensor]] = {
    "cross": lambda x: soft_cross_entropy(x, x.detach(), temperature=2.0),
    "kl": lambda x: soft_kl(x, x.detach(), temperature=2.0),
    "mlm": lambda x: mlm(x, torch.full((2, 3), -100)),
    "gold": lambda x: gold_cross_entropy(x, torch.zeros(0, dtype=torch.int64)),
}


@pytest.mark.parametrize("name", EMPTY)
def test_no_scored_position_gives_zero_with_a_gradient(name: str) -> None:
    student, _ = logits()
    found = EMPTY[name](student[:0])
    found.backward()
    assert found.item() == 0.0 and student.grad is not None and not student.grad.any()
