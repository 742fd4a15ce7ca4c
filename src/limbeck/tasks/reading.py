"""Extractive question answering: the answer to a question is a piece of a given text.

A question and its context go in as a pair; a context too long for the model is read through
overlapping windows, each with the question before it. Scores of starts and ends over pieces come
out; one span of the context as published, or none, is the answer. Position 0 of every window
stands for "no answer".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from limbeck.anatomy import unlimited
from limbeck.errors import DataError, ModelError
from limbeck.tasks.pair_pieces import (
    ContextPieces,
    Frame,
    context_pieces,
    frame_of,
    question_pieces,
)
from limbeck.tasks.windows import IGNORED, Window, check_scores, cut, with_scores

MAX_ANSWER = 30
"""The longest answer, in pieces, that `decode` gives unless told otherwise (as in SQuAD)."""

_NOTHING = float(np.finfo(np.float32).min)


ENDS = ("start", "end")
"""What a model's two classes are: scores of the first and of the last piece of the answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A gold answer: its text, and the character of the context as published where it starts.

    Raises:
        DataError: the text is blank or the start is negative.
    """

    text: str
    start: int

    def __post_init__(self) -> None:
        if not self.text.strip() or self.start < 0:
            raise DataError(
                "an answer must have a text and a place",
                found=f"{self.text!r} at {self.start}",
                expected="for a question without an answer: answerable=False",
            )

    @property
    def stop(self) -> int:
        """The character of the context after the last one."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a text.

    Args:
        question: As published.
        context: The text that holds the answer, as published.
        answers: What counts as right; `encode` marks the first. Empty where the question is
            unlabelled or has no answer.
        language: Of the context, ISO 639; answers are compared as is usual in it.
        title: Of the article.
        id: As published.
        answerable: False where the context is known not to hold the answer.
        where: `file:id`, for messages.

    Raises:
        DataError: question or context is blank, an answer is not in the context where it says,
            or a question without an answer has one.
    """

    question: str
    context: str
    answers: tuple[Answer, ...] = ()
    language: str = ""
    title: str = ""
    id: str = ""
    answerable: bool = True
    where: str = ""

    def __post_init__(self) -> None:
        if not self.question.strip() or not self.context.strip():
            part = "context" if self.question.strip() else "question"
            raise DataError(f"the {part} is blank", where=self.where)
        if self.answers and not self.answerable:
            raise DataError(
                "a question cannot have an answer and have none",
                where=self.where,
                found=repr(self.answers[0].text),
            )
        for answer in self.answers:
            found = self.context[answer.start : answer.stop]
            if found != answer.text:
                raise DataError(
                    "an answer is not where it should be in the context",
                    where=self.where,
                    found=f"{found!r} at {answer.start}",
                    expected=repr(answer.text),
                )

    @property
    def labelled(self) -> bool:
        """Whether the right answer is known, be it that there is none."""
        return bool(self.answers) or not self.answerable


@dataclass(frozen=True, slots=True)
class Span:
    """An answer: `context[start:stop]`, or "" for "there is none".

    Args:
        text: Exactly as in the context.
        start: First character.
        stop: Character after the last.
        score: Of the best span less `no_answer`.
        no_answer: Score of "no answer": the smallest over the windows.
    """

    text: str
    start: int
    stop: int
    score: float
    no_answer: float


def encode(
    questions: Sequence[Question],
    tokenizer: Tokenizer,
    labels: Sequence[str] | None,
    *,
    max_pieces: int = 256,
    stride: int | None = None,
) -> list[Window]:
    """Gives the windows of all questions, in order: the question first, the context after.

    Marks: `begin` and `stop` [T], the characters of the context as published that a context piece
    covers, without the spaces at its ends (ignored at all other pieces, and at pieces of spaces);
    `start` and `end` [1], the first and the last piece of the gold answer, or 0 where this window
    does not hold it whole. A gold answer that begins or ends inside a piece is marked by the
    smallest run of pieces that covers it.

    Both texts are read in NFC. A question that needs more than half of a window is cut there. A
    combining mark that the tokenizer drops belongs to the piece before it.

    Args:
        questions: With answers, or without for prediction.
        tokenizer: Its truncation and padding are ignored; its post-processor joins the pair.
        labels: None leaves `start` and `end` ignored; what else is there does not matter.
        max_pieces: Length of the longest window, special pieces included.
        stride: How many pieces of the context neighbouring windows share; None for a quarter of
            the longest window.

    Raises:
        RecipeError: half a window leaves no room beside special pieces and overlap.
        ModelError: the tokenizer does not put something before a pair, and the question before
            the context.
    """
    tokenizer = unlimited(tokenizer)
    frame = frame_of(tokenizer)
    stride = max_pieces // 4 if stride is None else stride
    room = max_pieces - frame.size
    cut(0, room=room - room // 2, stride=stride)
    asked = question_pieces((one.question for one in questions), tokenizer)
    contexts = context_pieces((one.context for one in questions), tokenizer)
    windows = []
    for example, question in enumerate(questions):
        head = asked[question.question][: room // 2]
        context = contexts[question.context]
        gold = _gold_run(question, context) if labels is not None else None
        known = labels is not None and question.labelled
        for run in cut(len(context.ids), room=room - len(head), stride=stride):
            windows.append(_window(example, frame, head, context, run, gold=gold, known=known))
    return windows


def decode(
    questions: Sequence[Question],
    windows: Sequence[Window],
    outputs: Sequence[np.ndarray],
    labels: Sequence[str] = (),
    *,
    max_answer: int = MAX_ANSWER,
) -> list[Span]:
    """Gives the best span of every question over all its windows: it answers always.

    Args:
        questions: What was encoded.
        windows: What `encode` gave for them.
        outputs: Scores of starts and ends: one float array [T, 2] per window, in order.
        labels: Not used.
        max_answer: The longest answer, in pieces.

    Returns:
        One span per question. A context in which the tokenizer finds nothing gets "".

    Raises:
        ModelError: the outputs do not fit the windows, or are not finite.
    """
    best = n_best(questions, windows, outputs, count=1, max_answer=max_answer)
    return [span for (span, *_) in best]


def settle(predictions: Sequence[Span], *, threshold: float) -> list[Span]:
    """Gives "" for answers whose score is less than minus the threshold: SQuAD v2's "no answer".

    Args:
        predictions: What `decode` gave.
        threshold: `answer_scores.choose_threshold` finds one.
    """
    return [
        replace(span, text="", start=0, stop=0) if -span.score > threshold else span
        for span in predictions
    ]


def n_best(
    questions: Sequence[Question],
    windows: Sequence[Window],
    outputs: Sequence[np.ndarray],
    *,
    count: int,
    max_answer: int = MAX_ANSWER,
) -> list[tuple[Span, ...]]:
    """Gives the best spans of every question, best first: at least one, at most `count`.

    A span that several windows show counts once, with its best score. Equal scores keep the order
    of the text.

    Raises:
        ModelError: the outputs do not fit the windows, or are not finite.
    """
    found: list[dict[tuple[int, int], float]] = [{} for _ in questions]
    refusals: list[float | None] = [None] * len(questions)
    for window, scores in with_scores(windows, outputs):
        example, read = window.example, window.marks["begin"] >= 0
        read[0] = True
        check_scores(scores, (len(window.pieces), 2), read=read, where=questions[example].where)
        refusal, old = float(scores[0, 0]) + float(scores[0, 1]), refusals[example]
        refusals[example] = refusal if old is None else min(refusal, old)
        for place, score in _candidates(window, scores, count=count, longest=max_answer):
            found[example][place] = max(score, found[example].get(place, -np.inf))
    return [
        _spans(question, places, refusal, count=count)
        for question, places, refusal in zip(questions, found, refusals, strict=True)
    ]


def count_units(questions: Sequence[Question]) -> int:
    """Gives the number of questions."""
    return len(questions)


def from_text(text: str, where: str) -> Question | None:
    """Gives None: running text asks nothing."""
    return None


def relabelled(question: Question, prediction: Span) -> Question:
    """Gives the question with the prediction for gold; "" makes it one without an answer."""
    if not prediction.text:
        return replace(question, answers=(), answerable=False)
    answer = Answer(prediction.text, prediction.start)
    return replace(question, answers=(answer,), answerable=True)


def describe(question: Question) -> dict[str, Any]:
    """Gives what a file of predictions tells of a question, ready for JSON."""
    return {
        "where": question.where,
        "id": question.id,
        "title": question.title,
        "language": question.language,
        "question": question.question,
        "context": question.context,
        "gold": [answer.text for answer in question.answers],
        "answerable": question.answerable,
    }


def identify(question: Question) -> tuple[str]:
    """Gives what must not be divided: the article, or the context where it has no title."""
    return (question.title or question.context,)


def _gold_run(question: Question, context: ContextPieces) -> range | None:
    """Gives the pieces that the first answer touches; None where there is none."""
    if not question.answers:
        return None
    answer = question.answers[0]
    touched = np.flatnonzero((context.stop > answer.start) & (context.begin < answer.stop))
    touched = touched[context.begin[touched] >= 0]
    return range(touched[0], touched[-1] + 1) if len(touched) else None


def _window(
    example: int,
    frame: Frame,
    head: list[int],
    context: ContextPieces,
    run: range,
    *,
    gold: range | None,
    known: bool,
) -> Window:
    first = len(frame.before) + len(head) + len(frame.between)
    inner = context.ids[run.start : run.stop].tolist()
    pieces = [*frame.before, *head, *frame.between, *inner, *frame.after]
    types = [
        *frame.types[0],
        *[frame.question_type] * len(head),
        *frame.types[1],
        *[frame.context_type] * len(inner),
        *frame.types[2],
    ]
    begin, stop = (np.full(len(pieces), IGNORED, dtype=np.int64) for _ in range(2))
    begin[first : first + len(inner)] = context.begin[run.start : run.stop]
    stop[first : first + len(inner)] = context.stop[run.start : run.stop]
    ends = [0, 0] if known else [IGNORED, IGNORED]
    if gold and run.start <= gold.start and gold.stop <= run.stop:
        ends = [first + gold.start - run.start, first + gold.stop - 1 - run.start]
    return Window(
        example=example,
        pieces=np.array(pieces, dtype=np.int64),
        marks={
            "begin": begin,
            "stop": stop,
            "start": np.array(ends[:1], dtype=np.int64),
            "end": np.array(ends[1:], dtype=np.int64),
        },
        types=np.array(types, dtype=np.int64) if any(types) else None,
    )


def _candidates(
    window: Window, scores: np.ndarray, *, count: int, longest: int
) -> Iterable[tuple[tuple[int, int], float]]:
    """Gives the best `count` spans of a window, characters and score: [T, longest] sums at once."""
    begin, stop = window.marks["begin"], window.marks["stop"]
    places = np.flatnonzero(begin >= 0)
    if not len(places):
        return []
    low, high = places[0], places[-1] + 1
    readable = begin[low:high] >= 0
    starts, ends = (
        np.where(readable, scores[low:high, side].astype(np.float64), -np.inf) for side in (0, 1)
    )
    padded = np.concatenate([ends, np.full(longest - 1, -np.inf)])
    sums = starts[:, None] + np.lib.stride_tricks.sliding_window_view(padded, longest)
    flat = sums.ravel()
    # Several pieces may cover the same characters (the bytes of a letter), so more than asked for
    # are looked at before equal spans are joined.
    wanted = min(len(flat), 16 * count if count > 1 else 1)
    if wanted == 1:
        chosen = np.array([flat.argmax()])
    else:
        chosen = np.sort(np.argpartition(-flat, wanted - 1)[:wanted])
        chosen = chosen[np.argsort(-flat[chosen], kind="stable")]
    chosen = chosen[np.isfinite(flat[chosen])]
    first = low + chosen // longest
    last = first + chosen % longest
    characters = zip(begin[first].tolist(), stop[last].tolist(), strict=True)
    return list(zip(characters, flat[chosen].tolist(), strict=True))


def _spans(
    question: Question,
    places: dict[tuple[int, int], float],
    refusal: float | None,
    *,
    count: int,
) -> tuple[Span, ...]:
    if refusal is None:
        raise ModelError(
            "a question got no answer: these are not the windows of these questions",
            where=question.where,
        )
    if not places:
        return (Span("", 0, 0, _NOTHING, refusal),)
    ranked = sorted(places.items(), key=lambda pair: (-pair[1], pair[0]))[:count]
    return tuple(
        Span(question.context[start:stop], start, stop, score - refusal, refusal)
        for (start, stop), score in ranked
    )
