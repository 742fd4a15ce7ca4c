"""The languages of the world: what makes each one different, as records.

`qaa` … `qtz` are the ISO 639-3 codes that are reserved for local use.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Language:
    """How a language of the world differs from the others.

    Args:
        code: ISO 639-3 code for local use.
        name: What to call it.
        order: Order of subject, verb and object: "SVO", "SOV" or "VSO".
        script: ISO 15924 code of the letters.
        cognates: Share of the concepts whose word descends from the proto-word; the rest are
            the language's own.
        laws: Sound laws, applied in this order to every proto-word: a pattern and what it becomes.
        endings: Grammatical ending by name; one that is missing is empty. `A` and `I` in an ending
            follow the last vowel of the stem (a or e, u or i).
        merged: Function concept → the concept whose word it shares.
        prepositions: Whether adpositions stand before their noun, and not after it.
        adjectives_first: Whether adjectives stand before their noun.
        article: Where the articles stand: "before", "after", or "" for none.
        relatives: "after" the noun with a pronoun, "before" it without, or "extraposed" with a
            pronoun behind the verb, which makes non-projective trees.
        locative_case: Whether "in" is an ending instead of an adposition.
        gender: Whether adjectives agree in gender with their noun.
        copula: Whether "is" is said.
        negation: Whether "not" stands "before" or "after" the verb.
        date: Order of day, month and year.
    """

    code: str
    name: str
    order: str
    script: str
    cognates: float
    laws: tuple[tuple[str, str], ...] = ()
    endings: Mapping[str, str] = field(default_factory=dict)
    merged: Mapping[str, str] = field(default_factory=dict)
    prepositions: bool = True
    adjectives_first: bool = True
    article: str = ""
    relatives: str = "after"
    locative_case: bool = False
    gender: bool = False
    copula: bool = True
    negation: str = "before"
    date: tuple[str, str, str] = ("day", "month", "year")

    def changed(self, proto: str) -> str:
        """Gives what the sound laws make of a proto-word."""
        for pattern, result in self.laws:
            proto = re.sub(pattern, result, proto)
        return proto

    def inflected(self, stem: str, *endings: str) -> str:
        """Gives a stem with the endings of these names."""
        for name in endings:
            ending = self.endings.get(name, "")
            if "A" in ending or "I" in ending:
                last = next((letter for letter in reversed(stem) if letter in "aeiou"), "a")
                front = last in "ei"
                ending = ending.replace("A", "e" if front else "a")
                ending = ending.replace("I", "i" if front else "u")
            if ending and ending[0] in "aeiou" and stem[-1] in "aeiou":
                stem += "y"
            stem += ending
        return stem


_THAT = {"rel": "that", "comp": "that", "have": "verb.make.shared.0"}

LANGUAGES: dict[str, Language] = {
    "qaa": Language(
        code="qaa",
        name="Aran",
        order="SVO",
        script="Latn",
        cognates=1.0,
        laws=((r"(?<=...)[aeiou]$", ""), (r"k(?=[ei])", "c")),
        endings={"plural": "es", "singular_verb": "es", "past": "it", "participle": "it"},
        merged={**_THAT, "because": "from"},
        article="before",
    ),
    "qab": Language(
        code="qab",
        name="Bemish",
        order="SOV",
        script="Latn",
        cognates=0.7,
        laws=((r"p", "f"), (r"^k", "h"), (r"(?<=[aeiou])t(?=[aeiou])", "d"), (r"o$", "u")),
        endings={
            "plural": "lAr",
            "acc": "m",
            "dat": "gA",
            "loc": "dA",
            "past": "dI",
            "plural_verb": "lAr",
            "participle": "An",
        },
        merged={"have": "verb.make.shared.0", "comp": "that", "because": "with"},
        prepositions=False,
        relatives="before",
        locative_case=True,
        negation="after",
        date=("year", "month", "day"),
    ),
    "qac": Language(
        code="qac",
        name="Cadic",
        order="VSO",
        script="Latn",
        cognates=0.6,
        laws=(
            (r"b", "v"),
            (r"(?<=[aeiou])k(?=[aeiou])", "g"),
            (r"(?<=.)s(?=[aeiou])", "z"),
            (r"l$", "r"),
            (r"e$", "i"),
        ),
        endings={
            "plural": "in",
            "feminine": "a",
            "past": "ta",
            "plural_verb": "in",
            "participle": "ul",
        },
        merged={**_THAT, "not": "no", "when": "where"},
        adjectives_first=False,
        article="before",
        gender=True,
        copula=False,
    ),
    "qad": Language(
        code="qad",
        name="Dovian",
        order="SVO",
        script="Cyrl",
        cognates=0.65,
        laws=(
            (r"g(?=[ei])", "zh"),
            (r"g", "h"),
            (r"s(?=i)", "sh"),
            (r"(?<=[aeiou])b(?=[aeiou])", "v"),
            (r"(?<=...)[aeiou]$", "a"),
        ),
        endings={
            "plural": "i",
            "acc": "u",
            "dat": "om",
            "loc": "e",
            "past": "l",
            "plural_verb": "i",
            "participle": "no",
        },
        merged={**_THAT, "because": "from"},
        date=("day", "month", "year"),
    ),
    "qae": Language(
        code="qae",
        name="Elenic",
        order="SOV",
        script="Grek",
        cognates=0.4,
        laws=((r"d(?=[aeiou])", "th"), (r"u", "o"), (r"(?<=[aeiou])p(?=[aeiou])", "v")),
        endings={
            "plural": "es",
            "acc": "an",
            "dat": "is",
            "loc": "on",
            "past": "sa",
            "plural_verb": "es",
            "participle": "men",
        },
        merged={**_THAT, "because": "of"},
        prepositions=False,
        adjectives_first=False,
        article="after",
        relatives="extraposed",
        date=("month", "day", "year"),
    ),
    "qaf": Language(
        code="qaf",
        name="Foran",
        order="VSO",
        script="Latn",
        cognates=0.5,
        laws=((r"[lr](?=[aeiou])", "r"), (r"(?<=.)[nrls]$", ""), (r"t(?=i)", "ch")),
        merged={**_THAT, "not": "no"},
        adjectives_first=False,
        date=("day", "month", "year"),
    ),
}
"""Every language by its code; `qaa` is the source whose words the cognates are measured by."""

DEFAULT_LANGUAGES = ("qaa", "qab", "qac", "qad")

_CYRILLIC = (
    "zh:ж sh:ш ch:ч th:т a:а b:б c:ц d:д e:е f:ф g:г h:х i:и j:й k:к l:л m:м n:н o:о p:п r:р "
    "s:с t:т u:у v:в w:у y:ы z:з"
)
_GREEK = (
    "zh:ζ sh:σ ch:χ th:θ a:α b:β c:κ d:δ e:ε f:φ g:γ h:χ i:ι j:ι k:κ l:λ m:μ n:ν o:ο p:π r:ρ "
    "s:σ t:τ u:υ v:β w:ω y:η z:ζ"
)
_SPELLINGS = {
    script: dict(pair.split(":") for pair in table.split())
    for script, table in (("Cyrl", _CYRILLIC), ("Grek", _GREEK))
}


def spell(word: str, script: str) -> str:
    """Gives a word in the letters of a script (ISO 15924); digits and marks stay.

    A capital letter stays one: `Kora` is `Кора`.
    """
    table = _SPELLINGS.get(script)
    if table is None:
        return word
    spelt = re.sub(
        "[zsct]h|[a-z]", lambda found: table.get(found.group(), found.group()), word.lower()
    )
    if script == "Grek":
        spelt = re.sub("σ$", "ς", spelt)
    return spelt[0].upper() + spelt[1:] if word[:1].isupper() else spelt
