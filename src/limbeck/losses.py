"""Masked loss functions, each a pure function of student and teacher tensors.

Axes: B batch, T pieces, D width, H heads, C classes, N scored positions. A mask is bool, true
at real pieces; nothing else is ever counted.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Scale = Literal["relative", "plain"]


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor, *, scale: Scale = "plain") -> Tensor:
    """Mean squared error of one layer's states over real pieces.

    Args:
        student: States [B, T, D].
        teacher: States [B, T, D].
        mask: Real pieces, bool [B, T].
        scale: `relative` divides by the teacher's mean square, so that 1 is as bad as silence.

    Returns:
        A scalar; 0 where no piece is real.

    Source: Ansell et al. 2023, section 3 (plain); `relative` is ours: un-normalised, the layers
    with the largest states rule the sum.
    """
    if not mask.all():
        student, teacher = student[mask], teacher[mask]
    error = _square_error(student, teacher)
    return _scaled(error, teacher, count=torch.as_tensor(student.numel()), scale=scale)


def attention_mse(
    student: Tensor, teacher: Tensor, mask: Tensor, *, scale: Scale = "plain"
) -> Tensor:
    """Mean squared error of one layer's attention probabilities over real queries and keys.

    Args:
        student: Probabilities [B, H, T, T].
        teacher: Probabilities [B, H, T, T].
        mask: Real pieces, bool [B, T].
        scale: `relative` divides by the teacher's mean square.

    Returns:
        A scalar: the mean over heads and pairs of real pieces; 0 where no piece is real.

    Source: Ansell et al. 2023, section 3 (plain).
    """
    if mask.all():
        error, count = _square_error(student, teacher), torch.as_tensor(student.numel())
    else:
        padded = ~(mask[:, None, :, None] & mask[:, None, None, :])
        difference = (student.float() - teacher.float()).masked_fill(padded, 0.0)
        error, count = difference.square().sum(), (~padded).sum() * student.shape[1]
        teacher = teacher.masked_fill(padded, 0.0)
    return _scaled(error, teacher, count=count, scale=scale)


def _square_error(student: Tensor, teacher: Tensor) -> Tensor:
    # One kernel, which keeps nothing but its inputs for the gradient.
    return functional.mse_loss(student.float(), teacher.float(), reduction="sum")


def _scaled(error: Tensor, teacher: Tensor, *, count: Tensor, scale: Scale) -> Tensor:
    whole = teacher.float().square().sum() if scale == "relative" else count.float()
    return error / whole.clamp(min=torch.finfo(torch.float32).tiny)


def soft_cross_entropy(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy of the student's softened distribution under the teacher's, times T squared.

    Args:
        student: Logits [N, C].
        teacher: Logits [N, C].
        temperature: Divides both logits; its square keeps the gradient's size.

    Returns:
        A scalar in nats, the mean over N; 0 where N is 0.

    Source: Ansell et al. 2023, section 3 (task distillation, temperature 2), which leaves the
    square out: the term is then too weak beside the states' (results/README.md).
    """
    if len(student) == 0:
        return student.sum() * 0.0
    target = (teacher.float() / temperature).softmax(-1)
    cross = -(target * (student.float() / temperature).log_softmax(-1)).sum(-1).mean()
    return cross * temperature**2


def soft_kl(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened distributions, times temperature squared.

    Args:
        student: Logits [N, C].
        teacher: Logits [N, C].
        temperature: Divides both logits; its square keeps the gradient's size.

    Returns:
        A scalar in nats, the mean over N; 0 where N is 0.

    Source: Hinton et al. 2015; Soltan et al. 2021.
    """
    if len(student) == 0:
        return student.sum() * 0.0
    target = (teacher.float() / temperature).log_softmax(-1)
    guess = (student.float() / temperature).log_softmax(-1)
    divergence = functional.kl_div(guess, target, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def gold_cross_entropy(student: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with gold labels.

    Args:
        student: Logits [N, C].
        labels: Classes, int64 [N].

    Returns:
        A scalar in nats, the mean over N; 0 where N is 0.
    """
    if len(student) == 0:
        return student.sum() * 0.0
    return functional.cross_entropy(student.float(), labels)


def mlm(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of masked language modelling.

    Args:
        logits: Logits [N, V] at the masked pieces alone, in reading order.
        labels: The masked pieces as they were, int64 [B, T]; negative at all others.

    Returns:
        A scalar in nats, the mean over the N masked pieces; 0 where N is 0.

    Source: Devlin et al. 2019, section 3.1.
    """
    return gold_cross_entropy(logits, labels[labels >= 0])
