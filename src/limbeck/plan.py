"""A student's shape: which teacher layer each layer copies, and how many neurons stay."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, get_args

from limbeck.errors import RecipeError

NamedPlan = Literal["every", "bottom", "top", "spread"]

MULTIPLE = 32
"""Neurons stay by so many, which suits 8-bit kernels; where fewer stay, one by one."""


def layer_plan(
    teacher_layers: int, layers: int | None = None, plan: Sequence[int] | NamedPlan = "every"
) -> tuple[int, ...]:
    """Say which teacher layer each student layer copies, counted from 1, ascending.

    Args:
        teacher_layers: Number of the teacher's layers, Lt.
        layers: Number of the student's layers, Ls; without it, Lt or the length of `plan`.
        plan: "every": r, 2r, … with r = Lt / Ls, and "spread" where that is no whole number;
            "bottom" and "top": the first or last Ls; "spread": evenly, always with the last
            layer; or the layers themselves.

    Raises:
        RecipeError: If the plan asks for no layer, more layers than there are, a layer that does
            not exist, layers out of order, another number than `layers`, or is no known name.

    Source: "every" is S2 (Ansell et al. 2023, §3: arXiv 2306.01709).
    """
    if not isinstance(plan, str):
        chosen = tuple(int(layer) for layer in plan)
        check_plan(chosen, teacher_layers)
        if layers not in (None, len(chosen)):
            raise RecipeError(
                "the layer plan and the number of layers disagree",
                where="student.plan",
                found=f"{len(chosen)} layers in the plan",
                expected=f"student.layers = {layers}",
                do="leave one of the two out",
            )
        return chosen
    if plan not in get_args(NamedPlan):
        raise RecipeError(
            "no such layer plan",
            where="student.plan",
            found=repr(plan),
            expected=f"a list of layers or one of {', '.join(get_args(NamedPlan))}",
        )
    count = teacher_layers if layers is None else layers
    if not 1 <= count <= teacher_layers:
        raise RecipeError(
            "the student cannot have this many layers",
            where="student.layers",
            found=str(count),
            expected=f"1 to {teacher_layers}, the teacher's depth",
        )
    if plan == "bottom":
        return tuple(range(1, count + 1))
    if plan == "top":
        return tuple(range(teacher_layers - count + 1, teacher_layers + 1))
    # Halves round up; where Lt is a multiple of Ls this is r, 2r, …, so "every" needs no branch.
    return tuple((2 * i * teacher_layers + count) // (2 * count) for i in range(1, count + 1))


def check_plan(plan: tuple[int, ...], teacher_layers: int) -> None:
    """Check that a plan fits a teacher's depth.

    Raises:
        RecipeError: It is empty, out of order, or names a layer that is not there.
    """
    found = str(list(plan))
    if not plan:
        raise RecipeError("the layer plan is empty", where="student.plan", found=found)
    if not all(1 <= layer <= teacher_layers for layer in plan):
        raise RecipeError(
            "the layer plan names a layer that the teacher does not have",
            where="student.plan",
            found=found,
            expected=f"layers from 1 to {teacher_layers}",
        )
    if any(below >= above for below, above in itertools.pairwise(plan)):
        raise RecipeError(
            "the layer plan is out of order",
            where="student.plan",
            found=found,
            expected="each layer above the one before",
        )


def neurons_kept(total: int, share: float) -> int:
    """Give how many neurons of a block stay: a share, rounded up.

    Args:
        total: The teacher's.
        share: Above 0, at most 1.
    """
    wanted = math.ceil(round(total * share, 6))
    if wanted > MULTIPLE:
        wanted = MULTIPLE * math.ceil(wanted / MULTIPLE)
    return min(total, wanted)
