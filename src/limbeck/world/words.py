"""Words as a language writes them: forms with endings, tags, and running text made of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

from limbeck.world.languages import Language, spell
from limbeck.world.lexicon import FUNCTIONS, Lexicon
from limbeck.world.meaning import Thing

_MARKS = ".,?"


@dataclass(slots=True, eq=False)
class Word:
    """A word of a sentence.

    Args:
        form: As written.
        lemma: Its stem, as written.
        upos: Universal part of speech.
        relation: To its head; "root" without one.
        head: The word it depends on.
        entity: IOB2 tag.
        features: In the form of CoNLL-U, `_` for none.
        thing: The innermost noun phrase that it belongs to, its adposition not counted.
    """

    form: str
    lemma: str
    upos: str
    relation: str
    head: "Word | None" = None
    entity: str = "O"
    features: str = "_"
    thing: Thing | None = None


@dataclass(slots=True)
class Voice:
    """Gives the words of one language; remembers the forms it has made.

    Args:
        lexicon: The words of the language.
        language: The language, from the lexicon.
    """

    lexicon: Lexicon
    language: Language = field(init=False)
    _forms: dict[tuple[str, ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.language = self.lexicon.language

    def function(self, concept: str, relation: str, head: Word | None, *endings: str) -> Word:
        """Gives a word of grammar, with its own part of speech."""
        return self.word(concept, FUNCTIONS[concept], relation, head, *endings)

    def gender(self, noun: str) -> tuple[str, ...]:
        """Gives the ending that an adjective takes for a noun; names and pronouns ask for none."""
        if not self.language.gender or not noun:
            return ()
        is_feminine = crc32(f"{self.language.code}/{noun}".encode()) % 2
        return ("feminine",) if is_feminine else ()

    def word(
        self,
        concept: str,
        upos: str,
        relation: str,
        head: Word | None,
        *endings: str,
        features: str = "_",
    ) -> Word:
        """Gives the word for a concept, with the endings of these names."""
        form, lemma = self._form(concept, *endings), self._form(concept)
        return Word(form, lemma, upos, relation, head, "O", features)

    def _form(self, concept: str, *endings: str) -> str:
        key = (concept, *endings)
        if key not in self._forms:
            stem = self.lexicon.forms[concept]
            inflected = self.language.inflected(stem, *endings)
            self._forms[key] = spell(inflected, self.language.script)
        return self._forms[key]

    def name(self, name: str, *endings: str) -> Word:
        """Gives one word of a proper name."""
        return Word(self._name_form(name, *endings), self._name_form(name), "PROPN", "")

    def _name_form(self, name: str, *endings: str) -> str:
        # Names have a capital letter and concepts have none, so they can share the table.
        key = (name, *endings)
        if key not in self._forms:
            inflected = self.language.inflected(name.lower(), *endings).capitalize()
            self._forms[key] = spell(inflected, self.language.script)
        return self._forms[key]


def verb_endings(tense: str, plural: bool) -> tuple[str, ...]:
    """Gives the names of the endings of a verb."""
    number = "plural_verb" if plural else "singular_verb"
    return ("past", number) if tense == "past" else (number,)


@dataclass(frozen=True, slots=True)
class Text:
    """Running text of some sentences.

    Args:
        text: The characters.
        starts: Where each word of each sentence starts, in characters.
    """

    text: str
    starts: tuple[tuple[int, ...], ...]


def join(sentences: Sequence[Sequence[Word]]) -> Text:
    """Gives the text of sentences: no space before a mark, one between words."""
    parts: list[str] = []
    starts = []
    at = 0
    for words in sentences:
        places = []
        for word in words:
            if at and word.form not in _MARKS:
                parts.append(" ")
                at += 1
            places.append(at)
            parts.append(word.form)
            at += len(word.form)
        starts.append(tuple(places))
    return Text("".join(parts), tuple(starts))
