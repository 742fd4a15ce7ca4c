"""Where student and teacher part: what was asked, and what each answered."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import ArtifactError

MOST_LOST, MOST_WON = 8, 4
"""Examples of words that the student lost and won: twelve a test set together."""

_KEPT = 6
_LONGEST = 160
_AROUND = 14


@dataclass(frozen=True, slots=True)
class Example:
    """A word in its sentence, or a text, answered rightly by one of the two only.

    Args:
        before: Words before it, cut where the sentence is long.
        word: The word, the text, or the question.
        after: Words after it.
        gold: Its label in the test set.
        teacher: What the teacher said.
        student: What the student said.
        where: File and line.
    """

    before: str
    word: str
    after: str
    gold: str
    teacher: str
    student: str
    where: str


@dataclass(frozen=True, slots=True)
class Confusion:
    """A label that was taken for another, and how often."""

    gold: str
    said: str
    count: int


@dataclass(frozen=True, slots=True)
class Parting:
    """Words that one system answers rightly and the other does not.

    Args:
        count: How many words.
        confusions: Gold label and wrong answer, the most frequent first.
        examples: One of each of the most frequent confusions in turn.
    """

    count: int
    confusions: tuple[Confusion, ...]
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """What teacher and student answered on a test set.

    Args:
        both_right: Words that both answer rightly.
        both_wrong: Words that neither does.
        lost: Words that only the teacher answers rightly.
        won: Words that only the student answers rightly.
    """

    both_right: int
    both_wrong: int
    lost: Parting
    won: Parting


@dataclass(frozen=True, slots=True)
class _Sentence:
    where: str
    words: Sequence[str]
    gold: Sequence[str]
    teacher: Sequence[str]
    student: Sequence[str]


class _Tally:
    """Counts confusions as they come, and keeps the shortest sentences of each."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.kept: dict[tuple[str, str], list[Example]] = {}

    def add(self, sentence: _Sentence, place: int, said: str) -> None:
        pair = (sentence.gold[place], said)
        self.counts[pair] += 1
        kept, one = self.kept.setdefault(pair, []), _example(sentence, place)
        if not any(_said(one) == _said(other) for other in kept):
            kept.append(one)
            # Stable: of sentences equally long the first read stays.
            kept.sort(key=_awkwardness)
            del kept[_KEPT:]

    def parting(self, most: int) -> Parting:
        ranked = sorted(self.counts.items(), key=lambda one: (-one[1], one[0]))
        confusions = tuple(Confusion(gold, said, number) for (gold, said), number in ranked)
        lists = [self.kept[one.gold, one.said] for one in confusions]
        return Parting(self.counts.total(), confusions, tuple(_in_turn(lists))[:most])


def read_answers(path: Path) -> Answers:
    """Read the predictions of a test set, word by word.

    Args:
        path: `predictions.<place>.jsonl` of an evaluate artifact.

    Raises:
        ArtifactError: A line is not what `limbeck run` writes.
    """
    both_right = both_wrong = 0
    lost, won = _Tally(), _Tally()
    for sentence in _sentences(path):
        for place, gold in enumerate(sentence.gold):
            teacher, student = sentence.teacher[place], sentence.student[place]
            if teacher == gold == student:
                both_right += 1
            elif teacher == gold:
                lost.add(sentence, place, student)
            elif student == gold:
                won.add(sentence, place, teacher)
            else:
                both_wrong += 1
    return Answers(both_right, both_wrong, lost.parting(MOST_LOST), won.parting(MOST_WON))


def _sentences(path: Path) -> Iterator[_Sentence]:
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield _sentence(json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                raise ArtifactError(
                    "is no line of predictions",
                    where=f"{path}:{number}",
                    found=f"{type(error).__name__}: {error}",
                    do=f"delete {path.parent} and run again",
                ) from None


def _sentence(row: Mapping[str, Any]) -> _Sentence:
    """Give what was asked, piece by piece: words, or one text or question."""
    where, said = str(row["where"]), [row[name] for name in ("gold", "teacher", "student")]
    if "question" in row:
        return _Sentence(where, [row["question"]], *_told_spans(*said))
    if "text" in row:
        text = " ⏵ ".join([row["text"], *([row["pair"]] if "pair" in row else [])])
        return _Sentence(where, [_cut(text)], *([one] for one in said))
    words = row["words"]
    if {len(words), *map(len, said)} != {len(words)}:
        raise ValueError("words and labels differ in number")
    return _Sentence(where, words, *([_label(one, words) for one in part] for part in said))


def _label(said: Any, words: Sequence[str]) -> str:
    """Give a tag as it is, and a head with its relation as "nsubj of word"."""
    if isinstance(said, str):
        return said
    head, relation = said
    if not head:
        return str(relation)
    word = words[head - 1]
    which = f" ({head})" if words.count(word) > 1 else ""
    return f"{relation} of {word}{which}"


def _told_spans(
    gold: Sequence[str], teacher: Mapping[str, Any], student: Mapping[str, Any]
) -> Iterator[list[str]]:
    """Give answers as one of the gold answers where they are one, and "(none)" for none."""
    first = gold[0] if gold else ""
    answers = (first if one["text"] in gold else one["text"] for one in (teacher, student))
    for text in (first, *answers):
        yield [_cut(text) or "(none)"]


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _example(sentence: _Sentence, place: int) -> Example:
    first, last = max(0, place - _AROUND), place + 1 + _AROUND
    before, after = sentence.words[first:place], sentence.words[place + 1 : last]
    return Example(
        before=" ".join([*(["…"] if first else []), *before]),
        word=sentence.words[place],
        after=" ".join([*after, *(["…"] if last < len(sentence.words) else [])]),
        gold=sentence.gold[place],
        teacher=sentence.teacher[place],
        student=sentence.student[place],
        where=sentence.where.replace("\\", "/").rpartition("/")[2],
    )


def _said(example: Example) -> tuple[str, str, str]:
    return example.before, example.word, example.after


def _awkwardness(example: Example) -> int:
    """Give how ill a sentence serves as an example: far from twelve words or so."""
    return abs(len(example.before) + len(example.after) - 60)


def _in_turn(lists: Sequence[Sequence[Example]]) -> Iterator[Example]:
    """Give the first of each list, then the second of each; no sentence's word twice."""
    seen: set[tuple[str, str, str]] = set()
    for turn in range(_KEPT):
        for one in lists:
            if turn < len(one) and _said(one[turn]) not in seen:
                seen.add(_said(one[turn]))
                yield one[turn]
