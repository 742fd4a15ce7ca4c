"""How meanings are drawn: an author chooses topics, frames, names and what hangs on what."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from limbeck.world.lexicon import FRAMES, Vocabulary
from limbeck.world.meaning import Clause, Date, Thing


@dataclass(frozen=True, slots=True)
class Author:
    """Who draws meanings: what about, and with which words.

    Args:
        rng: Where chance comes from.
        vocabulary: What can be spoken of.
        topic: What the main clauses are about.
        minor: What subordinate clauses are about.
        known_only: Whether to keep to the words and names that training has.
        focus: Share of content words of the topic.
        names: Share of the persons, groups and places that are named.
        cast: Things that the paragraph has mentioned, to come back to.
    """

    rng: Random
    vocabulary: Vocabulary
    topic: str
    minor: str
    known_only: bool = False
    focus: float = 0.5
    names: float = 0.45
    cast: list[Thing] = field(default_factory=list)

    def chance(self, share: float) -> bool:
        """Says yes in this share of cases."""
        return self.rng.random() < share

    def concept(self, kind: str) -> str:
        """Gives a concept of a class, of a topic that this author would choose."""
        number = self.rng.random()
        topic = self.topic if number < self.focus else "shared"
        if number > 0.85:
            topic = self.minor
        if kind == "adverb":
            topic = "shared"
        shelf = self.vocabulary.shelves[kind, topic]
        return shelf.draw(self.rng, known_only=self.known_only)

    def name(self, kind: str) -> str:
        """Gives one word of a name: "given", "family", "place" or "group"."""
        return self.vocabulary.names[kind].draw(self.rng, known_only=self.known_only)

    def aside(self) -> "Author":
        """Gives the author of a subordinate clause: the topics change places, no cast."""
        return Author(
            self.rng,
            self.vocabulary,
            self.minor,
            self.topic,
            self.known_only,
            self.focus,
            self.names,
        )


def draw_named(author: Author, kind: str) -> Thing:
    """Gives a person, place or group with a name."""
    number = author.rng.random()
    if kind == "person":
        parts = ("given", "family") if number < 0.45 else ("given",)
        parts = ("family",) if number > 0.65 else parts
        return Thing(kind, name=tuple(author.name(part) for part in parts))
    if kind == "group" and number < 0.55:
        base = author.name(author.rng.choice(("family", "place", "group")))
        return Thing(kind, noun=author.concept("group"), name=(base,))
    parts = (kind, kind) if number > 0.9 else (kind,)
    return Thing(kind, name=tuple(author.name(part) for part in parts))


def draw_date(author: Author) -> Thing:
    """Gives a weekday, a year, or a day of a month."""
    rng = author.rng
    number = rng.random()
    if number < 0.3:
        return Thing("time", date=Date(weekday=rng.randrange(7)))
    year = rng.randrange(1950, 2030)
    if number < 0.5:
        return Thing("time", date=Date(year=year))
    month, day = rng.randrange(12), rng.randrange(1, 29)
    return Thing("time", date=Date(year if number < 0.8 else 0, month, day))


def draw_thing(author: Author, kind: str, *, subject: bool = False, plain: bool = False) -> Thing:
    """Gives a thing of a kind.

    Args:
        author: Who draws.
        kind: "person", "thing", "place" or "group".
        subject: Whether it may be a pronoun.
        plain: Whether nothing may hang on it: no clause, no second thing.
    """
    rng = author.rng
    cast = [thing for thing in author.cast if thing.kind == kind]
    if cast and author.chance(0.35):
        if subject and kind == "person" and author.chance(0.5):
            word = rng.choice(("he", "she", "they"))
            return Thing(kind, pronoun=word, plural=word == "they")
        return rng.choice(cast)
    named = kind != "thing" and author.chance(author.names * (1.3 if kind == "place" else 1.0))
    thing = draw_named(author, kind) if named else _draw_common(author, kind, plain=plain)
    bare = thing.relative is None and thing.of is None
    author.cast.append(thing if bare else replace(thing, relative=None, of=None))
    if not plain and author.chance(0.1):
        other = draw_thing(author, kind, plain=True)
        thing = replace(thing, other=other, joint="or" if author.chance(0.2) else "and")
    return thing


def _draw_common(author: Author, kind: str, *, plain: bool) -> Thing:
    rng = author.rng
    determiner = rng.choices(
        ("the", "a", "that", "every", "some", "no", ""), (42, 22, 8, 4, 6, 2, 16)
    )[0]
    plural = determiner in ("the", "some", "", "that", "no") and author.chance(0.35)
    count = 0
    if plural and determiner in ("the", "") and author.chance(0.5):
        count = rng.randrange(1900, 2030) if author.chance(0.25) else rng.randrange(2, 60)
    if not plural and not determiner:
        plural = True
    adjectives: tuple[str, ...] = ()
    if author.chance(0.35):
        adjectives = (author.concept("adjective"),)
    noun = author.concept(kind)
    of = relative = None
    if not plain and author.chance(0.12):
        of = draw_thing(author.aside(), rng.choice(("person", "group", "place")), plain=True)
    elif not plain and author.chance(0.14):
        about = Thing(kind, noun=noun, plural=plural)
        frames = ("rest", "make", "visit", "join", "meet", "give")
        frame = rng.choice(frames if kind == "person" else ("hire", "trade"))
        if kind in ("person", "group"):
            relative = draw_clause(author.aside(), frame=frame, subject=about, plain=True)
    return Thing(
        kind,
        noun=noun,
        determiner=determiner,
        plural=plural,
        count=count,
        adjectives=adjectives,
        very=author.chance(0.15),
        of=of,
        relative=relative,
    )


_FRAME_WEIGHTS = {
    "rest": 14,
    "make": 24,
    "meet": 12,
    "visit": 10,
    "join": 8,
    "hire": 7,
    "trade": 8,
    "give": 8,
    "say": 6,
    "know": 3,
}


def draw_clause(
    author: Author, *, frame: str = "", subject: Thing | None = None, plain: bool = False
) -> Clause:
    """Gives a clause.

    Args:
        author: Who draws.
        frame: What the verb takes, see `FRAMES`; empty to draw it.
        subject: Who does; None to draw it.
        plain: Whether no clause may hang on it.
    """
    rng = author.rng
    if not frame:
        frames = list(_FRAME_WEIGHTS)[: -2 if plain else None]
        frame = rng.choices(frames, [_FRAME_WEIGHTS[one] for one in frames])[0]
    takes_subject, takes_object, takes_recipient = FRAMES[frame]
    subject = subject or draw_thing(author, takes_subject, subject=True, plain=plain)
    rest: dict[str, Any]
    if takes_object == "clause":
        rest = {"complement": draw_clause(author.aside(), plain=True)}
    else:
        rest = _draw_circumstances(author, [subject], plain=plain)
        taken = [part for part in (subject, *rest.values()) if isinstance(part, Thing)]
        if takes_object:
            rest["object"] = _draw_another(author, takes_object, taken, plain=plain)
            taken.append(rest["object"])
        if takes_recipient:
            rest["recipient"] = _draw_another(author, takes_recipient, taken, plain=True)
    return Clause(
        author.concept(f"verb.{frame}"),
        subject,
        tense=rng.choices(("past", "present", "perfect", "future"), (50, 25, 13, 12))[0],
        negated=author.chance(0.1),
        object_first=author.chance(0.2),
        **rest,
    )


def _draw_another(author: Author, kind: str, taken: Sequence[Thing], *, plain: bool) -> Thing:
    """Gives a thing that is none of those taken."""
    while True:
        thing = draw_thing(author, kind, plain=plain)
        if not any(thing is one for one in taken):
            return thing


def _draw_circumstances(author: Author, taken: Sequence[Thing], *, plain: bool) -> dict[str, Any]:
    rest: dict[str, Any] = {}
    if author.chance(0.15 if plain else 0.3):
        rest["place"] = _draw_another(author, "place", taken, plain=True)
        rest["place_from"] = author.chance(0.25)
    if author.chance(0.08 if plain else 0.25):
        rest["time"] = draw_date(author)
        rest["time_first"] = author.chance(0.4)
    elif author.chance(0.12):
        rest["companion"] = _draw_another(author, "person", taken, plain=True)
    if author.chance(0.15):
        rest["manner"] = author.concept("adverb")
    elif author.chance(0.06):
        rest["manner"] = author.rng.choice(("now", "often"))
    return rest


def draw_state(author: Author) -> Clause:
    """Gives a clause that says what something is like, sometimes with the opposite denied."""
    kind = author.rng.choice(("person", "thing", "place", "group"))
    subject = draw_thing(author, kind, subject=True)
    adjective = author.concept("adjective")
    clause = Clause(adjective, subject, tense="present", negated=author.chance(0.15))
    if author.chance(0.3) and not subject.other and subject.determiner not in ("every", "no"):
        opposite = Clause(
            author.vocabulary.antonyms[adjective],
            replace(subject, relative=None, of=None),
            tense="present",
            negated=not clause.negated,
        )
        return replace(clause, also=opposite, joint=author.rng.choice(("and", "but")))
    return clause


def draw_sentence(author: Author) -> Clause:
    """Gives a sentence: a state or an event, alone or with other clauses."""
    if author.chance(0.13):
        return draw_state(author)
    clause = draw_clause(author)
    number = author.rng.random()
    if number < 0.13 and clause.complement is None:
        return replace(
            clause,
            mark=author.rng.choice(("because", "when", "if")),
            adverbial=draw_clause(author.aside(), plain=True),
            adverbial_first=author.chance(0.4),
        )
    if number > 0.9:
        joint = "but" if author.chance(0.3) else "and"
        return replace(clause, also=draw_clause(author, plain=True), joint=joint)
    return clause
