"""From examples to answers with whatever gives scores: a torch model or a bundle.

Encoding, batches, decoding and settling are the same for both, so that their scores compare to the
digit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from limbeck.errors import RecipeError
from limbeck.tasks import Task
from limbeck.tasks.windows import IGNORED, Window

ENTRY = "limbeck"
"""Entry of a model's config: its `task`, `max_pieces` of a window, and `settings`, by which its
task's predictions are settled."""

Examples = Sequence[Any]
Outputs = Callable[[Sequence[Window]], list[np.ndarray]]
"""Windows to the scores of each, without what padding added."""

_PART = 256
"""Examples whose scores are kept in memory together."""


def side_by_side(windows: Sequence[Window], pad_id: int) -> dict[str, np.ndarray]:
    """Put windows into one batch.

    Returns:
        `input_ids`, `attention_mask` and, where a window has them, `token_type_ids`, int64 [B, T];
        and each mark of the windows, int64 [B, its longest], filled up with `IGNORED`.
    """
    pieces = [window.pieces for window in windows]
    batch = {
        "input_ids": _table(pieces, fill=pad_id),
        "attention_mask": _table([np.ones_like(one) for one in pieces], fill=0),
    }
    if any(window.types is not None for window in windows):
        types = [
            window.types if window.types is not None else np.zeros_like(window.pieces)
            for window in windows
        ]
        batch["token_type_ids"] = _table(types, fill=0)
    for name in windows[0].marks:
        batch[name] = _table([window.marks[name] for window in windows], fill=IGNORED)
    return batch


def _table(rows: Sequence[np.ndarray], *, fill: int) -> np.ndarray:
    table = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def _of_pieces(scores: np.ndarray, window: Window) -> np.ndarray:
    return scores[: len(window.pieces)]


def _of_words(scores: np.ndarray, window: Window) -> np.ndarray:
    count = len(window.marks["firsts"])
    return scores[:count, : count + 1]


ROWS: dict[str, Callable[[np.ndarray, Window], np.ndarray]] = {
    "tagging": _of_pieces,
    "text": lambda scores, window: scores,
    "span": _of_pieces,
    "tree": _of_words,
}
"""Kind of head to a function that takes from a window's scores what padding added."""


def outputs_by(
    run: Callable[[dict[str, np.ndarray]], np.ndarray],
    windows: Sequence[Window],
    *,
    head: str,
    pad_id: int,
    batch_pieces: int = 8192,
    at_once: Callable[..., Iterable[np.ndarray]] = map,
) -> list[np.ndarray]:
    """Give the scores of every window, float32, in the windows' order.

    Args:
        run: A batch, as `side_by_side` gives it, to its scores [B, …].
        windows: Any number; those of like length are read together.
        head: A key of `ROWS`.
        pad_id: The padding piece.
        batch_pieces: At most so many pieces in a batch, or one window.
        at_once: As `map`, by which several batches are read: an executor's reads them at once.
    """
    order = sorted(range(len(windows)), key=lambda i: -len(windows[i].pieces))
    batches: list[list[int]] = []
    place = 0
    while place < len(order):
        size = max(1, batch_pieces // len(windows[order[place]].pieces))
        batches.append(order[place : place + size])
        place += size
    some = (side_by_side([windows[i] for i in rows], pad_id) for rows in batches)
    found: list[Any] = [None] * len(windows)
    read = at_once if len(batches) > 1 else map
    for rows, scores in zip(batches, read(run, some), strict=True):
        for row, i in zip(scores, rows, strict=True):
            found[i] = ROWS[head](row, windows[i]).copy()
    return found


@dataclass(frozen=True, slots=True)
class TaskModel:
    """Whatever answers a task.

    Args:
        task: A record of `TASKS`.
        tokenizer: Its own.
        labels: In the order of its classes.
        max_pieces: The longest window.
        outputs: Gives the scores of windows.
        settings: By which its predictions are settled.
    """

    task: Task
    tokenizer: Tokenizer
    labels: tuple[str, ...]
    max_pieces: int
    outputs: Outputs
    settings: Mapping[str, float] = field(default_factory=dict)

    def answer(self, examples: Examples) -> list[Any]:
        """Give one prediction an example: encode, run, decode, settle as it was calibrated."""
        parts = in_parts(self.task, examples, self.tokenizer, max_pieces=self.max_pieces)
        found = decoded(parts, self.outputs, task=self.task, labels=self.labels)
        return settled(self.task, found, self.settings)

    def n_best(self, examples: Examples, *, count: int) -> list[tuple[Any, ...]]:
        """Give the best answers of each example, best first, at least one and at most `count`.

        Raises:
            RecipeError: An answer of this task is not one of many.
        """
        rank = self.task.n_best
        if rank is None:
            raise RecipeError(
                "this task gives one answer",
                found=self.task.name,
                expected="one of questions, such as qa",
            )
        answers: list[tuple[Any, ...]] = []
        for part in in_parts(self.task, examples, self.tokenizer, max_pieces=self.max_pieces):
            answers += rank(part.examples, part.windows, self.outputs(part.windows), count=count)
        return answers

    def first_of(self, ranked: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Give of each n-best list what `answer` gives: its first, or no answer."""
        return settled(self.task, [best for best, *_ in ranked], self.settings)


@dataclass(frozen=True, slots=True)
class Part:
    """Some examples and the windows that a model reads of them."""

    examples: Examples
    windows: Sequence[Window]


def in_parts(
    task: Task, examples: Examples, tokenizer: Tokenizer, *, max_pieces: int
) -> Iterator[Part]:
    """Give examples in parts, so that the scores of one part alone are kept in memory.

    A parser scores every pair of words by every relation.
    """
    for start in range(0, len(examples), _PART):
        some = examples[start : start + _PART]
        yield Part(some, task.encode(some, tokenizer, None, max_pieces=max_pieces))


def decoded(
    parts: Iterable[Part], outputs: Outputs, *, task: Task, labels: Sequence[str]
) -> list[Any]:
    """Give one prediction an example, before any setting is applied."""
    found: list[Any] = []
    for part in parts:
        found += task.decode(part.examples, part.windows, outputs(part.windows), labels)
    return found


def settled(task: Task, predictions: list[Any], settings: Mapping[str, float] | None) -> list[Any]:
    """Give the final predictions: those of most tasks are what was decoded."""
    if not settings or task.settle is None:
        return predictions
    return task.settle(predictions, **settings)
