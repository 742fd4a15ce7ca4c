"""The sets of the world: tagged sentences, pairs, news, corpora.

A set is drawn once and said in every language, so test sets are parallel; corpora are not. No
sentence comes twice in the labelled sets, and no corpus has a sentence of a dev or test split.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from limbeck.world.chorus import MAX_WORDS, MIN_WORDS, Chorus, length, spoken
from limbeck.world.draw import draw_clause, draw_sentence
from limbeck.world.lexicon import TOPICS
from limbeck.world.logic import LABELS, draw_pair
from limbeck.world.words import Word, join

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class NewsItem:
    """A headline and a text on a topic."""

    topic: str
    headline: str
    text: str


@dataclass(frozen=True, slots=True)
class TextPair:
    """A premise, a hypothesis and their label, in words of one language."""

    premise: tuple[str, ...]
    hypothesis: tuple[str, ...]
    label: str


def tagged(chorus: Chorus, kind: str, split: str, count: int) -> dict[str, list[list[Word]]]:
    """Gives sentences in every language.

    Args:
        chorus: Who says them.
        kind: "pos", "ner" (more names), "ud" or "parallel".
        split: "train", "dev" or "test".
        count: How many.
    """
    rng = Random(f"{kind}/{split}/{chorus.seed}")
    found: dict[str, list[list[Word]]] = {code: [] for code in chorus.speakers}
    done = 0
    while done < count:
        author = chorus.author(rng, split)
        clause = draw_sentence(replace(author, names=0.7 if kind == "ner" else 0.35))
        said = chorus.say([clause], split, min_words=MIN_WORDS)
        if said is None:
            continue
        done += 1
        for code, sentences in said.items():
            found[code] += sentences
    return found


def pairs(chorus: Chorus, split: str, count: int) -> dict[str, list[TextPair]]:
    """Gives `count` entailment pairs in every language, as many of each label."""
    rng = Random(f"nli/{split}/{chorus.seed}")
    found: dict[str, list[TextPair]] = {code: [] for code in chorus.speakers}
    labels = [LABELS[place % len(LABELS)] for place in range(count)]
    rng.shuffle(labels)
    for label in labels:
        said = None
        while said is None:
            pair = draw_pair(chorus.author(rng, split), label)
            said = chorus.say([pair.premise, pair.hypothesis], split)
        for code, sentences in said.items():
            premise, hypothesis = (tuple(word.form for word in words) for words in sentences)
            found[code].append(TextPair(premise, hypothesis, label))
    return found


def news(chorus: Chorus, split: str, count: int) -> dict[str, list[NewsItem]]:
    """Gives news in every language, as many of each topic; 3 to 5 sentences each.

    Subordinate clauses, and every fourth sentence or so, are about another topic.
    """
    rng = Random(f"news/{split}/{chorus.seed}")
    found: dict[str, list[NewsItem]] = {code: [] for code in chorus.speakers}
    topics = [TOPICS[place % len(TOPICS)] for place in range(count)]
    rng.shuffle(topics)
    for topic in topics:
        said = None
        while said is None:
            author = replace(chorus.author(rng, split, topic=topic), focus=0.5)
            clauses = [draw_clause(author, plain=True)]
            for _ in range(rng.randrange(3, 6)):
                aside = replace(author.aside(), cast=author.cast)
                clauses.append(draw_sentence(aside if author.chance(0.25) else author))
            said = chorus.say(clauses, split)
        for code, (headline, *rest) in said.items():
            title = join([headline]).text.rstrip(".")
            found[code].append(NewsItem(topic, title, join(rest).text))
    return found


def corpus(chorus: Chorus, code: str, lines: int) -> Iterator[str]:
    """Gives lines of running text in one language: paragraphs of 2 to 6 sentences on a topic."""
    rng = Random(f"corpus/{code}/{chorus.seed}")
    speaker, held = chorus.speakers[code], chorus.held.get(code, set())
    for _ in range(lines):
        author = chorus.author(rng, "corpus")
        sentences: list[list[Word]] = []
        wanted = rng.randrange(2, 7)
        while len(sentences) < wanted:
            words = speaker.say(draw_sentence(author))
            if MIN_WORDS <= length(words) <= MAX_WORDS and spoken(words) not in held:
                sentences.append(words)
        yield join(sentences).text
