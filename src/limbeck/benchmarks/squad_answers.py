"""Where an answer stands in its context: where it is told, or, if not there, nearby or respelt."""

import re
import unicodedata
from collections.abc import Iterator
from html import unescape
from typing import Any

from limbeck.benchmarks.squad_pages import Asked
from limbeck.errors import DataError
from limbeck.tasks.answer_scores import is_unspaced
from limbeck.tasks.reading import Answer

_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|nbsp|#39);")


def locate(one: Asked, text: Any, start: Any) -> tuple[str, Answer | None]:
    """Gives what had to be done, if anything, and the answer where it is in the context.

    Args:
        one: The question.
        text: Of the answer, as published.
        start: Its first character in the context; -1 where that is not told.

    Raises:
        DataError: the answer is no text with a place, or is not in the context.
    """
    if not isinstance(text, str) or not isinstance(start, int):
        raise DataError(
            "an answer needs a text and a whole number",
            where=one.where,
            found=f"{text!r} at {start!r}",
        )
    if not text.strip():
        return "answer-blank", None
    # A yes or no stands in a text by chance only; AfriQA finds some of them inside words.
    if (start < 0 or one.rephrased) and text.strip().lower() in ("yes", "no"):
        return "answer-not-in-context", None
    if start >= 0 and one.context.startswith(text, start):
        return "", Answer(text, start)
    anywhere = _occurrences(one.context, text)
    for reason, places in (
        ("answer-moved", [place for place in anywhere if _whole(one.context, place)]),
        ("answer-respelt", _respelt(one.context, text)),
        ("answer-moved", anywhere if start >= 0 else []),
    ):
        if places:
            place = min(places, key=lambda place: abs(place.start - start))
            return reason, Answer(one.context[place.start : place.stop], place.start)
    if start < 0 or one.rephrased:
        return "answer-not-in-context", None
    raise DataError(
        "an answer is not in its context",
        where=one.where,
        found=repr(one.context[start : start + len(text)]) + f" at {start}",
        expected=repr(text),
        do="correct the answer, or delete the question",
    )


def _occurrences(context: str, text: str) -> list[range]:
    found, start = [], context.find(text)
    while start >= 0:
        found.append(range(start, start + len(text)))
        start = context.find(text, start + 1)
    return found


def _whole(context: str, place: range) -> bool:
    """Whether the place neither begins nor ends inside a word."""
    before = context[max(place.start - 1, 0) : place.start + 1] if place.start else ""
    after = context[place.stop - 1 : place.stop + 1]
    return not any(len(pair) == 2 and _one_word(*pair) for pair in (before, after))


def _one_word(left: str, right: str) -> bool:
    if unicodedata.category(right)[0] == "M":
        return True
    spaced = not is_unspaced(left) and not is_unspaced(right)
    inner = left.isalnum() or unicodedata.category(left)[0] == "M"
    return spaced and inner and right.isalnum()


def _respelt(context: str, text: str) -> list[range]:
    """Gives where the context has the letters and digits of the text, in whole words.

    Compared are letters, digits and marks in NFKC without case; HTML entities are read.
    """
    wanted = "".join(key for key, _ in _keys(text))
    if not wanted:
        return []
    keys = list(_keys(context))
    key = "".join(part for part, _ in keys)
    begins: dict[int, int] = {}
    stops: dict[int, int] = {}
    length = 0
    for part, place in keys:
        begins.setdefault(length, place.start)
        length += len(part)
        stops[length] = place.stop
    places = [
        range(begins[found.start], stops[found.stop])
        for found in _occurrences(key, wanted)
        if found.start in begins and found.stop in stops
    ]
    return [place for place in places if _whole(context, place)]


def _keys(text: str) -> Iterator[tuple[str, range]]:
    """Gives what is compared of each character with its marks, where that is anything."""
    start = 0
    while start < len(text):
        entity = _ENTITY.match(text, start)
        stop = entity.end() if entity else start + 1
        while stop < len(text) and unicodedata.category(text[stop])[0] == "M":
            stop += 1
        plain = unicodedata.normalize("NFKC", unescape(text[start:stop])).casefold()
        key = "".join(c for c in plain if c.isalnum() or unicodedata.category(c)[0] == "M")
        if key:
            yield key, range(start, stop)
        start = stop
