"""The layer plan as a drawing: which layer of the teacher each layer of the student copies."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 320
_LEFT, _RIGHT, _BOX = 2, 194, 124
_TALLEST = 440


@dataclass(frozen=True, slots=True)
class Box:
    """A layer: its place and height in pixels, its number, whether it is copied."""

    y: float
    height: float
    number: int
    is_copied: bool


@dataclass(frozen=True, slots=True)
class Diagram:
    """Two stacks of layers, and the copies between them.

    Args:
        height: Of the whole, pixels.
        teacher: The teacher's layers, the first at the bottom.
        student: The student's.
        paths: A path a copy, from teacher to student; none where weights were drawn.
        base: Where the embeddings stand, pixels from the top.
        embedding_width: Width of the student's embedding table beside the teacher's, pixels.
        top: Where the student's stack begins.
    """

    height: float
    teacher: tuple[Box, ...]
    student: tuple[Box, ...]
    paths: tuple[str, ...]
    base: float
    embedding_width: float
    top: float
    left: float = _LEFT
    right: float = _RIGHT
    box: float = _BOX


def draw_plan(plan: Sequence[int], *, layers: int, kept_pieces: float, is_copied: bool) -> Diagram:
    """Give the geometry of a layer plan.

    Args:
        plan: The teacher's layer, from 1, that each of the student's copies.
        layers: The teacher's depth.
        kept_pieces: Share of the vocabulary that the student keeps, 0 to 1.
        is_copied: The student starts from the teacher's weights.
    """
    pitch = min(26.0, max(9.0, _TALLEST / layers))
    gap = 4.0 if pitch > 16 else 2.0
    base = 26 + layers * pitch
    copied = set(plan) if is_copied else set()

    def boxes(count: int, marked: set[int]) -> tuple[Box, ...]:
        return tuple(
            Box(round(base - number * pitch, 1), round(pitch - gap, 1), number, number in marked)
            for number in range(1, count + 1)
        )

    teacher, student = boxes(layers, copied), boxes(len(plan), set(range(1, len(plan) + 1)))
    middle = (_LEFT + _BOX + _RIGHT) / 2
    paths = []
    for box, number in zip(student, plan, strict=True):
        start = teacher[number - 1].y + box.height / 2
        end = box.y + box.height / 2
        curve = f"C{middle} {start:.1f} {middle} {end:.1f} {_RIGHT} {end:.1f}"
        paths.append(f"M{_LEFT + _BOX} {start:.1f}{curve}")
    return Diagram(
        height=round(base + 46, 1),
        teacher=teacher,
        student=student,
        paths=tuple(paths) if is_copied else (),
        base=round(base, 1),
        embedding_width=round(max(6.0, _BOX * kept_pieces), 1),
        top=student[-1].y,
    )
