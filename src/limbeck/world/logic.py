"""Entailment pairs whose label follows from the meanings, not from the words.

A pair says *entailment* when the hypothesis holds wherever the premise does, *contradiction* when
it holds nowhere the premise does, else *neutral*. Three conventions: a kind that is named is not
empty ("every old smith rests" is only said where there is an old smith), "or" may be both, and
what one knows, or does not know, is true. The seven families give all three labels with much the
same words.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from limbeck.world.draw import Author, draw_named
from limbeck.world.lexicon import FRAMES
from limbeck.world.meaning import Clause, Thing

LABELS = ("entailment", "neutral", "contradiction")

_DETAILS = ("place", "manner", "size")


@dataclass(frozen=True, slots=True)
class Claim:
    """How many of which things do something in which way.

    Args:
        quantifier: "some", "every" or "no". A named subject is a kind of one: "some" when it
            does, "no" when it does not.
        restrictions: What the things must be, besides their noun.
        details: How it must be done, besides the verb.
    """

    quantifier: str
    restrictions: frozenset[str] = frozenset()
    details: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Pair:
    """A premise, a hypothesis, and one of `LABELS`."""

    premise: Clause
    hypothesis: Clause
    label: str


def judge(premise: Claim, hypothesis: Claim) -> str:
    """Gives the label of two claims about the same noun and verb.

    `tests/test_world.py` compares it with all small models.
    """
    narrower = hypothesis.restrictions >= premise.restrictions
    wider = hypothesis.restrictions <= premise.restrictions
    less_said = hypothesis.details <= premise.details
    more_said = hypothesis.details >= premise.details
    said, asked = premise.quantifier, hypothesis.quantifier
    if said == "no":
        if asked == "no":
            return "entailment" if narrower and more_said else "neutral"
        kinds_meet = narrower if asked == "some" else narrower or wider
        return "contradiction" if kinds_meet and more_said else "neutral"
    kinds_meet = wider if said == "some" else narrower or wider
    if asked == "no":
        return "contradiction" if kinds_meet and less_said else "neutral"
    if asked == "every":
        return "entailment" if said == "every" and narrower and less_said else "neutral"
    return "entailment" if kinds_meet and less_said else "neutral"


def draw_pair(author: Author, label: str) -> Pair:
    """Gives a pair with this label, of any of the families."""
    family = author.rng.choice(_FAMILIES)
    while True:
        pair = family(author)
        if pair.label == label:
            return pair


def _subset(author: Author, names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name for name in names if author.chance(0.5))


def _event(author: Author, frames: tuple[str, ...]) -> Clause:
    """Gives an event with every detail that a claim may have."""
    frame = author.rng.choice(frames)
    _, takes_object, _ = FRAMES[frame]
    goal = None
    if takes_object:
        adjective = author.concept("adjective")
        noun = author.concept(takes_object)
        goal = Thing(takes_object, noun=noun, determiner="a", adjectives=(adjective,))
    return Clause(
        author.concept(f"verb.{frame}"),
        draw_named(author, FRAMES[frame][0]),
        object=goal,
        place=draw_named(author, "place"),
        manner=author.concept("adverb"),
    )


def _with_details(event: Clause, details: frozenset[str]) -> Clause:
    goal = event.object
    if goal is not None and "size" not in details:
        goal = replace(goal, adjectives=())
    return replace(
        event,
        object=goal,
        place=event.place if "place" in details else None,
        manner=event.manner if "manner" in details else "",
    )


def _claims(author: Author, quantifiers: tuple[str, ...], details: tuple[str, ...]) -> list[Claim]:
    kinds = author.rng.choices(((), ("first",), ("second",)), (4, 3, 1), k=2)
    named = len(quantifiers) == 2
    claims: list[Claim] = []
    while len(set(claims)) < 2:
        claims = [
            Claim(
                author.rng.choice(quantifiers),
                frozenset(() if named else kind),
                _subset(author, details),
            )
            for kind in kinds
        ]
        kinds = author.rng.choices(((), ("first",), ("second",)), (4, 3, 1), k=2)
    return claims


def _quantified(author: Author) -> Pair:
    event = _event(author, ("rest", "make", "meet", "visit", "hire", "trade"))
    adjectives = {name: author.concept("adjective") for name in ("first", "second")}
    if len(set(adjectives.values())) < 2:
        return _quantified(author)
    noun = author.concept(event.subject.kind)
    details = _DETAILS if event.object else _DETAILS[:2]
    claims = _claims(author, ("some", "every", "no"), details)

    def build(claim: Claim) -> Clause:
        chosen = tuple(adjectives[name] for name in sorted(claim.restrictions))
        subject = Thing(
            event.subject.kind, noun=noun, determiner=claim.quantifier, adjectives=chosen
        )
        return replace(_with_details(event, claim.details), subject=subject)

    return Pair(build(claims[0]), build(claims[1]), judge(*claims))


def _named(author: Author) -> Pair:
    event = _event(author, ("rest", "make", "meet", "visit", "hire", "trade"))
    details = _DETAILS if event.object else _DETAILS[:2]
    claims = _claims(author, ("some", "no"), details)
    premise, hypothesis = (
        replace(_with_details(event, claim.details), negated=claim.quantifier == "no")
        for claim in claims
    )
    verb = author.concept("verb." + event.verb.split(".")[1])
    if author.chance(0.15) and verb != event.verb:
        return Pair(premise, replace(hypothesis, verb=verb), "neutral")
    return Pair(premise, hypothesis, judge(*claims))


def _two(author: Author, kind: str = "person") -> tuple[Thing, Thing]:
    while True:
        one, other = draw_named(author, kind), draw_named(author, kind)
        if not set(one.name) & set(other.name):
            return one, other


def _roles(author: Author) -> Pair:
    """Who did it to whom: the same words, other roles."""
    one, other = _two(author)
    event = replace(_event(author, ("meet",)), subject=one, object=other)
    premise = _with_details(event, _subset(author, ("place", "manner")) | {"place"})
    plain = replace(premise, place=None)
    kept = author.chance(0.5)
    if not kept:
        plain = replace(plain, subject=other, object=one)
    negated = author.chance(0.5)
    label = ("contradiction" if negated else "entailment") if kept else "neutral"
    return Pair(premise, replace(plain, negated=negated), label)


def _beliefs(author: Author) -> Pair:
    """What one knows is so; what one says may not be."""
    event = _with_details(_event(author, ("rest", "make", "visit", "join")), frozenset())
    frame = author.rng.choice(("say", "know"))
    believer, subject = _two(author)
    event = replace(event, subject=subject, negated=author.chance(0.3))
    belief = Clause(
        author.concept(f"verb.{frame}"), believer, complement=event, negated=author.chance(0.3)
    )
    flipped = author.chance(0.5)
    label = "contradiction" if flipped else "entailment"
    hypothesis = replace(event, negated=event.negated != flipped)
    return Pair(belief, hypothesis, label if frame == "know" else "neutral")


def _relatives(author: Author) -> Pair:
    """Who did what, when one is told apart by what one did."""
    about = Thing("person", noun=author.concept("person"), determiner="the")
    met, stranger = _two(author)
    told = Clause(author.concept("verb.meet"), about, object=met)
    second = _with_details(_event(author, ("rest", "make", "visit")), frozenset())
    subject = replace(about, relative=told)
    premise = replace(second, subject=subject)
    choice = author.rng.randrange(5)
    negated = author.chance(0.5)
    label = "contradiction" if negated else "entailment"
    if choice < 2:
        hypothesis = (told, replace(second, subject=about))[choice]
    else:
        label = "neutral"
        swapped = replace(told, subject=met, object=about)
        hypothesis = (
            swapped,
            replace(second, subject=met),
            replace(told, object=stranger),
        )[choice - 2]
    return Pair(premise, replace(hypothesis, negated=negated), label)


def _coordinations(author: Author) -> Pair:
    """Both, or one or the other, or the one alone."""
    event = _event(author, ("rest", "make", "visit", "join"))
    event = _with_details(event, _subset(author, ("manner", "size")))
    one, other = _two(author)
    if author.chance(0.5):
        one, other = other, one
    both = author.chance(0.5)
    pair = replace(one, other=other, joint="and" if both else "or")
    alone = author.rng.choice((one, other))
    if author.chance(0.4):
        premise = replace(event, subject=alone)
        hypothesis = replace(event, subject=pair)
        return Pair(premise, hypothesis, "neutral" if both else "entailment")
    negated = author.chance(0.5)
    label = ("contradiction" if negated else "entailment") if both else "neutral"
    premise = replace(event, subject=pair)
    return Pair(premise, replace(event, subject=alone, negated=negated), label)


def _states(author: Author) -> Pair:
    """What is big is not small; what is not big need not be small."""
    adjective = author.concept("adjective")
    opposite = author.vocabulary.antonyms[adjective]
    kind = author.rng.choice(("person", "group", "place", "thing"))
    subject = (
        Thing(kind, noun=author.concept(kind), determiner="that")
        if kind == "thing" or author.chance(0.4)
        else draw_named(author, kind)
    )
    detail = Thing(kind, noun=author.concept(kind), determiner="the")
    premise = Clause(
        adjective,
        subject,
        tense="present",
        negated=author.chance(0.4),
        place=draw_named(author, "place"),
    )
    choice = author.rng.randrange(4)
    negated = author.chance(0.5)
    if choice == 3:
        hypothesis = Clause(adjective, detail, tense="present", negated=negated)
        same = detail.noun == subject.noun
        return _states(author) if same else Pair(premise, hypothesis, "neutral")
    verb = adjective if choice == 0 else opposite
    hypothesis = Clause(verb, subject, tense="present", negated=negated, place=premise.place)
    if verb == adjective:
        label = "entailment" if negated == premise.negated else "contradiction"
    elif premise.negated:
        label = "neutral"
    else:
        label = "entailment" if negated else "contradiction"
    return Pair(premise, hypothesis, label)


_FAMILIES: tuple[Callable[[Author], Pair], ...] = (
    _quantified,
    _named,
    _roles,
    _beliefs,
    _relatives,
    _coordinations,
    _states,
)
