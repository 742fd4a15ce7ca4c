"""The words of the world: concepts, names, and what each language calls them.

A concept has a proto-word. A language says its cognate, changed by the language's sound laws, or
a word of its own. Some concepts share a proto-word (a noun and a verb, an adjective and an
adverb), and a language's own words do the same, so a word alone does not tell what it is.
"""

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from limbeck.world.languages import LANGUAGES, Language, spell

TOPICS = (
    "business",
    "entertainment",
    "health",
    "politics",
    "religion",
    "sports",
    "technology",
)
"""MasakhaNEWS's seven topics."""

FRAMES: dict[str, tuple[str, str, str]] = {
    "rest": ("person", "", ""),
    "make": ("person", "thing", ""),
    "meet": ("person", "person", ""),
    "visit": ("person", "place", ""),
    "join": ("person", "group", ""),
    "hire": ("group", "person", ""),
    "trade": ("group", "thing", ""),
    "give": ("person", "thing", "person"),
    "say": ("person", "clause", ""),
    "know": ("person", "clause", ""),
}
"""What the verbs of a frame take: subject, object, recipient. What one *knows* is true, what one
*says* need not be. The frame tells what a bare name stands for."""

FUNCTIONS: dict[str, str] = {
    "the": "DET",
    "a": "DET",
    "that": "DET",
    "every": "DET",
    "no": "DET",
    "some": "DET",
    "and": "CCONJ",
    "or": "CCONJ",
    "but": "CCONJ",
    "not": "PART",
    "in": "ADP",
    "from": "ADP",
    "with": "ADP",
    "of": "ADP",
    "because": "SCONJ",
    "when": "SCONJ",
    "if": "SCONJ",
    "comp": "SCONJ",
    "rel": "PRON",
    "be": "AUX",
    "will": "AUX",
    "have": "AUX",
    "he": "PRON",
    "she": "PRON",
    "they": "PRON",
    "who": "PRON",
    "what": "PRON",
    "where": "ADV",
    "whentime": "ADV",
    "very": "ADV",
    "now": "ADV",
    "often": "ADV",
}
"""The words of grammar, each with its part of speech."""

_PER_TOPIC = {"person": 5, "thing": 9, "place": 4, "group": 3, "adjective": 6}
_PER_FRAME = 2
_HOMOGRAPHS = 0.4
_KNOWN_NAMES = 0.7
_KNOWN_WORDS = 0.85


@dataclass(frozen=True, slots=True)
class Shelf:
    """Things to choose from, the first most often: the k-th as 1/k.

    Args:
        items: What there is.
        known: How many of the first come up in training; the rest are new in dev and test.
    """

    items: tuple[str, ...]
    known: int
    _sums: tuple[float, ...]

    @classmethod
    def of(cls, items: Sequence[str], share: float) -> "Shelf":
        """Gives a shelf whose first `share` of items come up in training."""
        sums, total = [], 0.0
        for rank in range(1, len(items) + 1):
            total += 1 / rank
            sums.append(total)
        return cls(tuple(items), max(1, round(share * len(items))), tuple(sums))

    def draw(self, rng: Random, *, known_only: bool) -> str:
        """Gives one item."""
        stop = self.known if known_only else len(self.items)
        return self.items[bisect(self._sums, rng.random() * self._sums[stop - 1], hi=stop - 1)]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What can be spoken of, whatever the language.

    Args:
        protos: Concept → proto-word.
        shelves: (class, topic or "shared") → concepts.
        names: "given", "family", "place" or "group" → names; some stand on several shelves.
        antonyms: Adjective → its opposite.
    """

    protos: Mapping[str, str]
    shelves: Mapping[tuple[str, str], Shelf]
    names: Mapping[str, Shelf]
    antonyms: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What a language calls the concepts.

    Args:
        language: The language.
        forms: Concept → stem, in Latin letters.
        cognates: Share of the concepts whose word is the changed proto-word.
    """

    language: Language
    forms: Mapping[str, str]
    cognates: float


def make_vocabulary(seed: int, scale: float) -> Vocabulary:
    """Gives the concepts and names of a world.

    Args:
        seed: Another seed gives other words.
        scale: How many times the smallest sensible number of content words.
    """
    rng = Random(f"vocabulary/{seed}")
    counts = _PER_TOPIC | {f"verb.{frame}": _PER_FRAME for frame in FRAMES}
    shelves = {}
    for kind, count in counts.items():
        for topic in (*TOPICS, "shared"):
            number = max(2, round(count * scale * (2 if topic == "shared" else 1)) // 2 * 2)
            concepts = [f"{kind}.{topic}.{place}" for place in range(number)]
            # Antonyms go in pairs: both known in training, or both new.
            share = 1.0 if kind == "adjective" else _KNOWN_WORDS
            shelves[kind, topic] = Shelf.of(concepts, share)
    adverbs = [f"adverb.shared.{place}" for place in range(round(8 * scale))]
    shelves["adverb", "shared"] = Shelf.of(adverbs, _KNOWN_WORDS)
    concepts = [concept for shelf in shelves.values() for concept in shelf.items]
    times = [f"month.{n}" for n in range(12)] + [f"day.{n}" for n in range(7)]
    protos = _protos(rng, [*concepts, *times])
    antonyms: dict[str, str] = {}
    for (kind, _), shelf in shelves.items():
        if kind == "adjective":
            for one, other in zip(shelf.items[::2], shelf.items[1::2], strict=True):
                antonyms |= {one: other, other: one}
    months = [LANGUAGES["qaa"].changed(protos[f"month.{n}"]).capitalize() for n in range(3)]
    return Vocabulary(protos, shelves, _names(rng, scale, months), antonyms)


def make_lexicon(seed: int, vocabulary: Vocabulary, language: Language) -> Lexicon:
    """Gives the words of a language; no two concepts of one class are spelt the same."""
    rng = Random(f"lexicon/{seed}/{language.code}")
    forms: dict[str, str] = {}
    taken: dict[str, set[str]] = {}
    cognates = 0
    for concept, proto in vocabulary.protos.items():
        kind = concept.partition(".")[0] if "." in concept else "function"
        used = taken.setdefault(kind, set())
        form = language.changed(proto)
        if rng.random() < language.cognates and spell(form, language.script) not in used:
            cognates += 1
        else:
            form = _own_word(rng, concept, forms, used)
            while spell(form, language.script) in used - {form}:
                form = _own_word(rng, concept, forms, used)
        used |= {form, spell(form, language.script)}
        forms[concept] = form
    for concept, same in language.merged.items():
        forms[concept] = forms[same]
    return Lexicon(language, forms, cognates / len(forms))


def _own_word(rng: Random, concept: str, forms: Mapping[str, str], used: set[str]) -> str:
    form = forms.get(_twin(rng, concept), "")
    if form and form not in used:
        return form
    return _new_word(rng, used, short="." not in concept)


def _protos(rng: Random, concepts: Sequence[str]) -> dict[str, str]:
    used: set[str] = set()
    protos = {name: _new_word(rng, used, short=True) for name in FUNCTIONS}
    twins: set[str] = set()
    for concept in concepts:
        twin = _twin(rng, concept)
        if twin in protos and twin not in twins:
            twins.add(twin)
            protos[concept] = protos[twin]
        else:
            protos[concept] = _new_word(rng, used)
    return protos


def _twin(rng: Random, concept: str) -> str:
    """Gives the concept that is to share its proto-word, if any: a common one."""
    kind, _, rest = concept.partition(".")
    place = rng.randrange(4)
    if kind == "verb" and rng.random() < _HOMOGRAPHS:
        return f"thing.{rest.split('.')[1]}.{place}"
    if kind == "adverb" and rng.random() < _HOMOGRAPHS:
        return f"adjective.shared.{place}"
    return ""


def _names(rng: Random, scale: float, months: Sequence[str]) -> dict[str, Shelf]:
    count = round(24 * scale)
    used: set[str] = set(map(str.lower, months))
    fresh = [_new_word(rng, used, name=True).capitalize() for _ in range(4 * count)]
    given, family, place, group = (fresh[n * count : (n + 1) * count] for n in range(4))
    place = place[: count // 2] + rng.sample(family, count // 2)
    group = group[: count // 2] + rng.sample(family, count // 4) + rng.sample(place, count // 4)
    given = given[3:] + list(months)
    names = {"given": given, "family": family, "place": place, "group": group}
    for items in names.values():
        rng.shuffle(items)
    return {
        kind: Shelf.of(list(dict.fromkeys(items)), _KNOWN_NAMES) for kind, items in names.items()
    }


def _new_word(rng: Random, used: set[str], *, short: bool = False, name: bool = False) -> str:
    while True:
        count = 1 if short else rng.choices((2, 3), (1, 1) if name else (3, 2))[0]
        syllables = [rng.choice("ptkbdgmnslrf") + rng.choice("aeiou") for _ in range(count)]
        word = "".join(syllables)
        if short or rng.random() < 0.5:
            word += rng.choice("nrsl")
        # Final vowels are lost in some languages: no two words differ by them alone.
        root = word.rstrip("aeiou") if len(word) > 3 else word
        if word not in used and root not in used:
            used |= {word, root}
            return word
