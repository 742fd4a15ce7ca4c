"""Lines of input as examples of a task, and predictions as what is told of them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.corpus import word_places
from limbeck.errors import DataError
from limbeck.tasks import TASKS
from limbeck.tasks.classification import LabelledText, is_blank
from limbeck.tasks.parsing import MOST_WORDS, ParsedSentence
from limbeck.tasks.reading import Question, Span
from limbeck.tasks.scores import spans
from limbeck.tasks.tagging import TaggedSentence
from limbeck.tasks.trees import to_conllu

PAIRS = ("nli", "paraphrase")


@dataclass(frozen=True, slots=True)
class Asked:
    """A line of input.

    Args:
        task: A name of `TASKS`.
        example: What the task is asked; None where the line holds nothing to answer.
        told: What the answer repeats: the text, the words and their places.
    """

    task: str
    example: Any
    told: Mapping[str, Any]


def read_line(task: str, line: str, where: str) -> Asked:
    """Read one line of input: text, or a JSON object.

    Tagging, parsing, topics and sentiment read text, or `{"text": …}`; words that are split
    already are `{"words": […]}`. Pairs are two texts with a tab between, or `{"text": …,
    "pair": …}`. Questions are `{"question": …, "context": …}`.

    Args:
        task: A name of `TASKS`.
        line: Without or with its line break.
        where: `file:line`, for messages.

    Raises:
        DataError: The line is not what the task is asked of.
    """
    line = line.rstrip("\r\n").removeprefix("\ufeff")
    fields = _fields(line, where)
    return read_text(task, line, where) if fields is None else read_fields(task, fields, where)


def read_text(task: str, text: str, where: str) -> Asked:
    """Read a text as it is, be it in braces: places are told in it.

    Args:
        task: A name of `TASKS`.
        text: For pairs two with a tab between.
        where: For messages.

    Raises:
        DataError: The task is not asked of a text alone, or half of a character is in it.
    """
    head = TASKS[task].head
    if not text.strip():
        return Asked(task, None, {"words": []} if head in ("tagging", "tree") else {"text": text})
    if head == "span":
        raise DataError(
            "a question needs its context",
            where=where,
            found=text[:40],
            expected='{"question": "…", "context": "…"}',
        )
    first, _, second = text.partition("\t") if task in PAIRS else (text, "", "")
    return read_fields(task, {"text": first} | ({"pair": second} if second else {}), where)


def read_fields(task: str, fields: Mapping[str, Any], where: str) -> Asked:
    """Read the fields of an object, as `read_line` names them.

    Raises:
        DataError: They are not what the task is asked of.
    """
    head = TASKS[task].head
    if head == "span":
        return _question(task, fields, where)
    return _text(task, fields, where) if head == "text" else _words(task, fields, where)


def decoded(line: bytes, where: str) -> str:
    """Give a line's text.

    Raises:
        DataError: It is not UTF-8.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            "the line is not UTF-8",
            where=where,
            found=f"byte 0x{line[error.start]:02x} at offset {error.start}",
            do="convert it to UTF-8",
        ) from None


def _fields(line: str, where: str) -> dict[str, Any] | None:
    """Give the fields of a JSON object; None of any other text, be it in braces."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        found: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError) as error:
        if not re.match(r'\s*\{\s*"', line):
            return None
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError("is no JSON", where=where, found=why) from None
    return found


def _string(fields: Mapping[str, Any], name: str, where: str) -> str:
    found = fields.get(name)
    if not isinstance(found, str):
        raise DataError(
            f"the field {name} is no text",
            where=where,
            found="nothing" if found is None else type(found).__name__,
            expected=f'{{"{name}": "…"}}',
        )
    return _whole(found, name, where)


def _whole(text: str, name: str, where: str) -> str:
    """Refuse halves of surrogate pairs, which JSON can spell and no text has."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DataError(
            f"the field {name} holds half a character", where=where, do="write it in UTF-8"
        )
    return text


def _question(task: str, fields: Mapping[str, Any], where: str) -> Asked:
    question, context = (_string(fields, name, where) for name in ("question", "context"))
    is_empty = is_blank(question) or is_blank(context)
    example = None if is_empty else Question(question, context, where=where)
    return Asked(task, example, {"question": question})


def _text(task: str, fields: Mapping[str, Any], where: str) -> Asked:
    texts = {"text": _string(fields, "text", where)}
    if task in PAIRS:
        texts["pair"] = _string(fields, "pair", where)
    if any(map(is_blank, texts.values())):
        return Asked(task, None, texts)
    return Asked(task, LabelledText(texts["text"], texts.get("pair"), where=where), texts)


def _words(task: str, fields: Mapping[str, Any], where: str) -> Asked:
    if "words" in fields:
        words = fields["words"]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError(
                "the field words is no list of texts",
                where=where,
                found=_kinds(words),
                expected='{"words": ["…", "…"]}',
            )
        words = [_whole(word, "words", where) for word in words]
        repeated: dict[str, Any] = {"words": words}
    else:
        text = _string(fields, "text", where)
        places = word_places(text)
        words = [text[start:stop] for start, stop in places]
        repeated = {"text": text, "words": words, "places": [list(place) for place in places]}
    is_tree = TASKS[task].head == "tree"
    if is_tree and len(words) > MOST_WORDS:
        raise DataError(
            "more words than a parser reads at once",
            where=where,
            found=f"{len(words):,}",
            expected=f"at most {MOST_WORDS:,}",
            do="put each sentence on a line of its own",
        )
    kind: Any = ParsedSentence if is_tree else TaggedSentence
    return Asked(task, kind(words=tuple(words), where=where) if words else None, repeated)


def _kinds(found: Any) -> str:
    """Give in words what stands where a list of texts should: any of it may be huge."""
    if not isinstance(found, list):
        return type(found).__name__
    return "a list of " + ", ".join(sorted({type(one).__name__ for one in found}))


def told(asked: Asked, prediction: Any) -> dict[str, Any]:
    """Give what is told of an answer, ready for JSON.

    Args:
        asked: The line.
        prediction: The task's prediction; None where there was nothing to answer.

    Returns:
        What was asked, and `labels` with `entities` (ner), `heads` and `relations`, `label`, or
        `answer` with `start`, `stop` and `score`. Places are in characters, the end excluded.
    """
    head = TASKS[asked.task].head
    if head == "span":
        if prediction is None:
            return {**asked.told, "answer": ""}
        return {**asked.told, **placed(prediction)}
    if head == "text":
        return {**asked.told, "label": prediction}
    if head == "tree":
        heads, relations = zip(*prediction, strict=True) if prediction else ((), ())
        return {**asked.told, "heads": list(heads), "relations": list(relations)}
    labels = list(prediction or ())
    found = {"entities": _entities(asked.told, labels)} if asked.task == "ner" else {}
    return {**asked.told, "labels": labels, **found}


def placed(answer: Span) -> dict[str, Any]:
    """Give an answer with its place, ready for JSON."""
    place = {"start": answer.start, "stop": answer.stop, "score": answer.score}
    return {"answer": answer.text} | place


def as_conllu(line: str, number: int) -> str:
    """Give a parser's answer, as JSON, as a block of CoNLL-U; nothing where there are no words.

    Args:
        line: What `told` gave.
        number: Of the sentence.
    """
    found = json.loads(line)
    sentence = ParsedSentence(words=tuple(found["words"]))
    pairs = list(zip(found["heads"], found["relations"], strict=True))
    return to_conllu([sentence], [pairs], first=number).removesuffix("\n")


def _entities(repeated: Mapping[str, Any], labels: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for span in spans(labels):
        words = repeated["words"][span.start : span.stop]
        one = {"type": span.kind, "first_word": span.start, "words": words}
        if "places" in repeated:
            start, stop = repeated["places"][span.start][0], repeated["places"][span.stop - 1][1]
            one |= {"start": start, "stop": stop, "text": repeated["text"][start:stop]}
        found.append(one)
    return found
