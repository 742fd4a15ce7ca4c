"""What simple baselines score on the test sets: what a model must clearly beat.

Three for each set and language: *majority* knows no words, *lookup* learns the words of the
language's own training split, *copy* learns the source language's and is used as it is.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from limbeck.tasks.scores import spans
from limbeck.world.questions import Context
from limbeck.world.sets import NewsItem, TextPair
from limbeck.world.words import Word

Answer = TypeVar("Answer", str, tuple[int, str])
Tree = Sequence[Word]
Splits = Mapping[str, Sequence[Tree]]


@dataclass(frozen=True, slots=True)
class Floor:
    """Scores from 0 to 1 on a test split: accuracy, span F1 (ner), LAS (ud), exact match (xquad).

    Args:
        majority: The commonest answer always (pos, nli, news; ud: the commonest distance and
            relation; ner: no entity; xquad: the first name or number of the context).
        lookup: The commonest tag of the word (pos, ner), its commonest distance to the head and
            relation (ud), naive Bayes over words (news; nli: over the words of the hypothesis and
            those that only one side has), or the first name or number that is not in the question,
            in the sentence most like it (xquad). New words: the majority's answer; ud: that of
            their part of speech.
        copy: `lookup` learnt from the source language's training split; None where nothing is
            learnt (xquad).
    """

    majority: float
    lookup: float
    copy: float | None


def tag_floor(data: Splits, source: Splits, *, entity: bool) -> Floor:
    """Gives the floor of part-of-speech tags, or of entities."""
    gold = [[_tag(word, entity) for word in tree] for tree in data["test"]]

    def score(train: Sequence[Tree], *, words: bool) -> float:
        guess = _lookup(((word.form, _tag(word, entity)) for tree in train for word in tree), words)
        told = [[guess(word.form) for word in tree] for tree in data["test"]]
        return _span_f1(gold, told) if entity else _accuracy(gold, told)

    return Floor(
        score(data["train"], words=False),
        score(data["train"], words=True),
        score(source["train"], words=True),
    )


def tree_floor(data: Splits, source: Splits) -> Floor:
    """Gives the floor of labelled attachment."""

    def score(train: Sequence[Tree], *, words: bool) -> float:
        examples = [
            (word.form, word.upos, arc)
            for tree in train
            for word, arc in zip(tree, _arcs(tree), strict=True)
        ]
        by_tag = _lookup(((upos, arc) for _, upos, arc in examples), words)
        by_word = _lookup(((form, arc) for form, _, arc in examples), words)
        known = {form for form, _, _ in examples}
        right = total = 0
        for tree in data["test"]:
            for word, arc in zip(tree, _arcs(tree), strict=True):
                told = by_word(word.form) if word.form in known else by_tag(word.upos)
                right += told == arc
                total += 1
        return _share(right, total)

    return Floor(
        score(data["train"], words=False),
        score(data["train"], words=True),
        score(source["train"], words=True),
    )


def news_floor(
    data: Mapping[str, Sequence[NewsItem]], source: Mapping[str, Sequence[NewsItem]]
) -> Floor:
    """Gives the floor of topics."""

    def read(items: Iterable[NewsItem]) -> list[tuple[list[str], str]]:
        return [(f"{item.headline} {item.text}".lower().split(), item.topic) for item in items]

    return _bag_floor(read(data["train"]), read(source["train"]), read(data["test"]))


def pair_floor(
    data: Mapping[str, Sequence[TextPair]], source: Mapping[str, Sequence[TextPair]]
) -> Floor:
    """Gives the floor of entailment."""

    def read(items: Iterable[TextPair]) -> list[tuple[list[str], str]]:
        return [(_pair_features(item), item.label) for item in items]

    return _bag_floor(read(data["train"]), read(source["train"]), read(data["test"]))


def question_floor(data: Sequence[Context]) -> Floor:
    """Gives the floor of questions: the exact matches of two guesses."""
    first = best = total = 0
    for context in data:
        for question in context.questions:
            total += 1
            said = set(question.text.rstrip("?").split())
            runs = [_runs(sentence) for sentence in context.sentences]
            first += next((run for found in runs for run in found), "") == question.answer
            overlaps = [len(said & set(sentence)) for sentence in context.sentences]
            found = runs[overlaps.index(max(overlaps))]
            guess = next((run for run in found if not said & set(run.split())), "")
            best += guess == question.answer
    return Floor(_share(first, total), _share(best, total), None)


def _runs(sentence: Sequence[str]) -> list[str]:
    """Gives runs of words with a capital letter or a digit."""
    runs: list[list[str]] = [[]]
    for word in sentence:
        if word[0].isupper() or word[0].isdigit():
            runs[-1].append(word)
        else:
            runs.append([])
    return [" ".join(run) for run in runs if run]


def _tag(word: Word, entity: bool) -> str:
    return word.entity if entity else word.upos


def _arcs(tree: Tree) -> list[tuple[int, str]]:
    place = {id(word): number for number, word in enumerate(tree)}
    return [
        (place[id(word.head)] - number if word.head else 0, word.relation)
        for number, word in enumerate(tree)
    ]


def _lookup(examples: Iterable[tuple[str, Answer]], words: bool) -> Callable[[str], Answer]:
    counts: dict[str, Counter[Answer]] = defaultdict(Counter)
    overall: Counter[Answer] = Counter()
    for word, answer in examples:
        counts[word][answer] += 1
        overall[answer] += 1
    majority = overall.most_common(1)[0][0]
    table = {word: found.most_common(1)[0][0] for word, found in counts.items()} if words else {}
    return lambda word: table.get(word, table.get(word.lower(), majority))


def _accuracy(gold: Sequence[Sequence[str]], told: Sequence[Sequence[str]]) -> float:
    flat_gold = [tag for tags in gold for tag in tags]
    flat_told = [tag for tags in told for tag in tags]
    right = sum(one == other for one, other in zip(flat_gold, flat_told, strict=True))
    return _share(right, len(flat_gold))


def _span_f1(gold: Sequence[Sequence[str]], told: Sequence[Sequence[str]]) -> float:
    right = found = 0
    for one, other in zip(gold, told, strict=True):
        mine, yours = set(spans(one)), set(spans(other))
        right += len(mine & yours)
        found += len(mine) + len(yours)
    return _share(2 * right, found)


def _pair_features(pair: TextPair) -> list[str]:
    premise = {word.lower() for word in pair.premise}
    hypothesis = {word.lower() for word in pair.hypothesis}
    features = [f"said {word}" for word in sorted(hypothesis)]
    features += [f"new {word}" for word in sorted(hypothesis - premise)]
    features += [f"gone {word}" for word in sorted(premise - hypothesis)]
    features.append(f"new words {len(hypothesis - premise)}")
    return features


Example = tuple[list[str], str]


def _bag_floor(train: list[Example], source: list[Example], test: list[Example]) -> Floor:
    majority = Counter(label for _, label in train).most_common(1)[0][0]
    right = sum(label == majority for _, label in test)
    return Floor(_share(right, len(test)), _bayes(train, test), _bayes(source, test))


def _bayes(train: list[Example], test: list[Example]) -> float:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    labels: Counter[str] = Counter()
    for features, label in train:
        labels[label] += 1
        counts[label].update(set(features))
    known = {feature for found in counts.values() for feature in found}
    right = 0
    for features, gold in test:
        present = set(features) & known
        scores = {
            label: math.log(number)
            + math.fsum(math.log((counts[label][one] + 0.5) / (number + 1)) for one in present)
            for label, number in sorted(labels.items())
        }
        right += max(scores, key=scores.__getitem__) == gold
    return _share(right, len(test))


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
