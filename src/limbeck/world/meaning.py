"""What is said, before any language says it: clauses, things and dates."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Date:
    """A point in time; what is 0 or -1 is not said.

    Args:
        year: Such as 1987.
        month: From 0.
        day: From 1.
        weekday: From 0; said alone.
    """

    year: int = 0
    month: int = -1
    day: int = 0
    weekday: int = -1

    @property
    def is_year(self) -> bool:
        """Whether it is a whole year."""
        return self.month < 0 and self.weekday < 0


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """What a noun phrase stands for.

    Args:
        kind: "person", "thing", "place", "group", or "time".
        noun: Concept of the head noun; empty for a bare name or a pronoun.
        name: The proper name, if it has one, in its words.
        pronoun: A function concept that stands for the whole.
        determiner: A function concept: "the", "a", "that", "every", "no", "some", or empty.
        count: A number of them, 0 for none said; more than one is plural.
        plural: Whether it is more than one.
        adjectives: Concepts, and whether "very" goes with the first is `very`.
        very: Whether the first adjective is very much so.
        of: Whose or which it is.
        relative: What is told about it; the clause's subject is this thing and is not said.
        other: A second one beside it.
        joint: "and" or "or", before `other`.
        date: For a "time".
    """

    kind: str
    noun: str = ""
    name: tuple[str, ...] = ()
    pronoun: str = ""
    determiner: str = ""
    count: int = 0
    plural: bool = False
    adjectives: tuple[str, ...] = ()
    very: bool = False
    of: "Thing | None" = None
    relative: "Clause | None" = None
    other: "Thing | None" = None
    joint: str = "and"
    date: Date | None = None

    @property
    def is_plural(self) -> bool:
        """Whether the verb agrees with more than one."""
        return self.plural or (self.other is not None and self.joint == "and")


@dataclass(frozen=True, slots=True)
class Clause:
    """Who does what to whom.

    Args:
        verb: Concept of the verb, or of the adjective of a clause with "is".
        subject: Who does; or what is.
        object: To whom or what.
        recipient: For whom.
        complement: What is said or known.
        place: Where, with its adposition in `place_from`.
        place_from: Whether the place is where it comes from.
        companion: With whom.
        time: When.
        time_first: Whether the time is said first.
        manner: Concept of an adverb.
        tense: "present", "past", "future" or "perfect".
        negated: Whether it is not so.
        object_first: Whether the object is said first, where endings allow it.
        mark: "because", "when" or "if" before `adverbial`.
        adverbial: The subordinate clause.
        adverbial_first: Whether it is said first, where the language has a choice.
        joint: "and" or "but" before `also`.
        also: A second main clause.
        asked: The part that is asked for: "subject", "object", "place", "time", or empty.
    """

    verb: str
    subject: Thing
    object: Thing | None = None
    recipient: Thing | None = None
    complement: "Clause | None" = None
    place: Thing | None = None
    place_from: bool = False
    companion: Thing | None = None
    time: Thing | None = None
    time_first: bool = False
    manner: str = ""
    tense: str = "past"
    negated: bool = False
    object_first: bool = False
    mark: str = "because"
    adverbial: "Clause | None" = None
    adverbial_first: bool = False
    joint: str = "and"
    also: "Clause | None" = None
    asked: str = ""

    @property
    def is_copular(self) -> bool:
        """Whether it says what the subject is like."""
        return self.verb.startswith("adjective")
