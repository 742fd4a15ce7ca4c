"""The sets of the world: tagged sentences, pairs, news, questions, corpora.

A set is drawn once and said in every language, so test sets are parallel; corpora are not. No
sentence comes twice in the labelled sets, and no corpus has a sentence of a dev or test split.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from limbeck.world.lexicon import FRAMES, TOPICS, Vocabulary
from limbeck.world.logic import LABELS, draw_pair
from limbeck.world.meaning import (
    Author,
    Clause,
    Thing,
    draw_clause,
    draw_date,
    draw_named,
    draw_sentence,
    draw_state,
)
from limbeck.world.render import Speaker, Text, Word, join

SPLITS = ("train", "dev", "test")
MIN_WORDS, MAX_WORDS = 4, 25
"""Words of a sentence of the corpora and of the tagged sets, marks not counted."""


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


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a context: the answer is the context's characters from `start`."""

    text: str
    answer: str
    start: int


@dataclass(frozen=True, slots=True)
class Context:
    """A paragraph, its sentences, and questions about it."""

    text: str
    sentences: tuple[tuple[str, ...], ...]
    questions: tuple[Question, ...]


@dataclass(slots=True)
class Chorus:
    """All speakers together, who never say the same sentence twice.

    Args:
        seed: Of the world.
        vocabulary: What can be spoken of.
        speakers: Language → who speaks it.
        held: Language → sentences of dev and test splits, all words set apart.
    """

    seed: int
    vocabulary: Vocabulary
    speakers: Mapping[str, Speaker]
    held: dict[str, set[str]] = field(default_factory=dict)
    _said: dict[str, set[str]] = field(default_factory=dict)

    def author(self, rng: Random, split: str, *, topic: str = "") -> Author:
        """Gives an author for a split: training has not all words and names."""
        topic = topic or rng.choice(TOPICS)
        minor = rng.choice([one for one in TOPICS if one != topic])
        return Author(rng, self.vocabulary, topic, minor, known_only=split == "train")

    def say(
        self, clauses: Sequence[Clause], split: str, *, min_words: int = 2
    ) -> dict[str, list[list[Word]]] | None:
        """Gives the sentences in every language; None if one is not new or not of a good length."""
        said = {}
        texts = {}
        for code, speaker in self.speakers.items():
            sentences = [speaker.say(clause) for clause in clauses]
            if not all(min_words <= _length(words) <= MAX_WORDS for words in sentences):
                return None
            texts[code] = {_spoken(words) for words in sentences}
            before = self._said.setdefault(code, set())
            if len(texts[code]) < len(sentences) or texts[code] & before:
                return None
            said[code] = sentences
        for code, new in texts.items():
            self._said[code] |= new
            if split != "train":
                self.held.setdefault(code, set()).update(new)
        return said


def _spoken(words: Sequence[Word]) -> str:
    return " ".join([word.form for word in words])


def _length(words: Sequence[Word]) -> int:
    return sum(word.upos != "PUNCT" for word in words)


def tagged(
    chorus: Chorus, kind: str, split: str, count: int
) -> dict[str, list[list[Word]]]:
    """Gives sentences in every language.

    Args:
        chorus: Who says them.
        kind: "pos", "ner" (more names) or "ud".
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

    Subordinate clauses, and every fifth sentence or so, are about another topic.
    """
    rng = Random(f"news/{split}/{chorus.seed}")
    found: dict[str, list[NewsItem]] = {code: [] for code in chorus.speakers}
    topics = [TOPICS[place % len(TOPICS)] for place in range(count)]
    rng.shuffle(topics)
    for topic in topics:
        said = None
        while said is None:
            author = replace(chorus.author(rng, split, topic=topic), focus=0.3)
            clauses = [draw_clause(author, plain=True)]
            for _ in range(rng.randrange(3, 6)):
                aside = replace(author.aside(), cast=author.cast)
                clauses.append(draw_sentence(aside if author.chance(0.3) else author))
            said = chorus.say(clauses, split)
        for code, (headline, *rest) in said.items():
            title = join([headline]).text.rstrip(".")
            found[code].append(NewsItem(topic, title, join(rest).text))
    return found


def contexts(chorus: Chorus, split: str, count: int) -> dict[str, list[Context]]:
    """Gives paragraphs of events with questions, in every language."""
    rng = Random(f"xquad/{split}/{chorus.seed}")
    found: dict[str, list[Context]] = {code: [] for code in chorus.speakers}
    for _ in range(count):
        said = None
        while said is None:
            author = chorus.author(rng, split)
            events = _draw_events(author)
            questions = _draw_questions(author, events)
            clauses = [*events, draw_state(replace(author, cast=[]))]
            rng.shuffle(clauses)
            said = chorus.say(clauses, split) if questions else None
        for code, sentences in said.items():
            speaker = chorus.speakers[code]
            found[code].append(_context(speaker, sentences, questions))
    return found


def _context(
    speaker: Speaker, sentences: Sequence[Sequence[Word]], questions: Sequence[tuple[Clause, Thing]]
) -> Context:
    text = join(sentences)
    asked = []
    for clause, thing in questions:
        start, stop = _span(text, sentences, thing)
        asked.append(Question(join([speaker.say(clause)]).text, text.text[start:stop], start))
    words = tuple(tuple(word.form for word in sentence) for sentence in sentences)
    return Context(text.text, words, tuple(asked))


def _span(text: Text, sentences: Sequence[Sequence[Word]], thing: Thing) -> tuple[int, int]:
    places = [
        (start, start + len(word.form))
        for words, starts in zip(sentences, text.starts, strict=True)
        for word, start in zip(words, starts, strict=True)
        if word.thing is thing
    ]
    return places[0][0], places[-1][1]


def _draw_events(author: Author) -> list[Clause]:
    """Gives events of few people and places and one or two verbs, so that roles matter."""
    rng = author.rng
    frame = rng.choice(("meet", "meet", "visit", "hire", "make", "join"))
    subject_kind, object_kind, _ = FRAMES[frame]
    verbs = [author.concept(f"verb.{frame}") for _ in range(2)]
    subjects = [draw_named(author, subject_kind) for _ in range(3)]
    objects = subjects if frame == "meet" else [_goal(author, object_kind) for _ in range(3)]
    places = [draw_named(author, "place") for _ in range(2)]
    events = []
    for _ in range(rng.randrange(3, 5)):
        one, other = rng.choice(subjects), rng.choice(objects)
        events.append(
            Clause(
                rng.choice(verbs),
                replace(one),
                object=replace(other),
                place=replace(rng.choice(places)) if frame != "visit" else None,
                time=draw_date(author) if author.chance(0.7) else None,
                time_first=author.chance(0.4),
                object_first=author.chance(0.3),
            )
        )
    return events


def _goal(author: Author, kind: str) -> Thing:
    if kind == "thing":
        return Thing(kind, noun=author.concept(kind), determiner="the")
    return draw_named(author, kind)


_SLOTS = ("subject", "object", "place", "time")


def _key(thing: Thing | None) -> str:
    return "" if thing is None else f"{thing.noun} {thing.name} {thing.date}"


def _draw_questions(author: Author, events: Sequence[Clause]) -> list[tuple[Clause, Thing]]:
    """Gives questions with what they ask for; none if the events would confuse a reader."""
    for event in events:
        if _key(event.subject) == _key(event.object):
            return []
    things = {_key(part): part for one in events for part in (one.subject, one.object, one.place)}
    names = [name for part in things.values() if part is not None for name in part.name]
    if len(names) > len(set(names)):
        return []
    found = []
    for event in author.rng.sample(list(events), 2):
        slots = [slot for slot in _SLOTS if getattr(event, slot) is not None]
        asked = author.rng.choice(slots)
        for dropped in ({"place", "time"}, {"place"}, {"time"}, set[str]()):
            told = [slot for slot in slots if slot != asked and slot not in dropped]
            if _is_unique(event, events, told):
                gone = {slot: None for slot in ("place", "time") if slot not in {*told, asked}}
                question = replace(
                    event, asked=asked, time_first=False, object_first=False, **gone
                )
                found.append((question, getattr(event, asked)))
                break
    return found


def _is_unique(event: Clause, events: Sequence[Clause], told: Sequence[str]) -> bool:
    same = [
        one
        for one in events
        if one.verb == event.verb
        and all(_key(getattr(one, slot)) == _key(getattr(event, slot)) for slot in told)
    ]
    return len(same) == 1


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
            if MIN_WORDS <= _length(words) <= MAX_WORDS and _spoken(words) not in held:
                sentences.append(words)
        yield join(sentences).text
