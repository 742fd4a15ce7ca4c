"""Questions with answers in a paragraph: who, to whom, where, when; the role decides."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from limbeck.world.chorus import Chorus
from limbeck.world.draw import Author, draw_date, draw_named, draw_state
from limbeck.world.lexicon import FRAMES
from limbeck.world.meaning import Clause, Thing
from limbeck.world.render import Speaker
from limbeck.world.words import Text, Word, join


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
        for dropped in (("place", "time"), ("place",), ("time",), ()):
            told = [slot for slot in slots if slot != asked and slot not in dropped]
            if _is_unique(event, events, told):
                question = replace(
                    event,
                    asked=asked,
                    place=event.place if "place" in (*told, asked) else None,
                    time=event.time if "time" in (*told, asked) else None,
                    time_first=False,
                    object_first=False,
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
