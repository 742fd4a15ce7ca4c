"""One grammar for all languages: a meaning becomes words with a part of speech, a head, an entity.

Every tag follows Universal Dependencies and IOB2; they come from the meaning and so are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

from limbeck.world.languages import Language, spell
from limbeck.world.lexicon import FUNCTIONS, Lexicon
from limbeck.world.meaning import Clause, Date, Thing

ENTITIES = {"person": "PER", "group": "ORG", "place": "LOC", "time": "DATE"}

_ORDERS = {
    "SVO": "time1 object1 asked subject verb recipient object place companion manner time "
    "complement",
    "SOV": "time1 object1 subject asked time place companion recipient object manner complement "
    "verb late",
    "VSO": "time1 asked verb subject recipient object place companion manner time complement",
}
_ASKED = {"subject": "who", "object": "who", "place": "where", "time": "whentime"}
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
class Speaker:
    """Says meanings in one language; remembers the forms it has made.

    Args:
        lexicon: The words of the language.
    """

    lexicon: Lexicon
    _forms: dict[tuple[str, ...], str] = field(default_factory=dict)

    @property
    def language(self) -> Language:
        """The language it speaks."""
        return self.lexicon.language

    def say(self, clause: Clause) -> list[Word]:
        """Gives the words of a sentence in their order; a question when something is asked."""
        words, root = self._sentence(clause)
        words.append(Word("?" if clause.asked else ".", "", "PUNCT", "punct", root))
        words[-1].lemma = words[-1].form
        words[0].form = words[0].form[0].upper() + words[0].form[1:]
        return words

    def _sentence(self, clause: Clause) -> tuple[list[Word], Word]:
        words, root = self._clause(clause)
        if clause.adverbial:
            side, head = self._clause(clause.adverbial, relation="advcl", mark=clause.mark)
            head.head = root
            if clause.adverbial_first or self.language.order == "SOV":
                words = [*side, Word(",", ",", "PUNCT", "punct", head), *words]
            else:
                words = [*words, *side]
        if clause.also:
            second, head = self._clause(clause.also, relation="conj")
            head.head = root
            comma = Word(",", ",", "PUNCT", "punct", head)
            words = [*words, comma, self._function(clause.joint, "cc", head), *second]
        return words, root

    def _clause(
        self, clause: Clause, *, relation: str = "root", mark: str = "", gap: bool = False
    ) -> tuple[list[Word], Word]:
        verb_words, root = self._verb(clause, relation, participle=gap and self._is_bare)
        late: list[Word] = []
        slots: dict[str, list[Word]] = {"verb": verb_words, "late": late}
        if not gap:
            slots["subject"] = self._noun_phrase(clause.subject, "nom", "nsubj", root, late)
        elif not self._is_bare:
            slots["subject"] = [self._function("rel", "nsubj", root)]
        if clause.object:
            slots["object"] = self._noun_phrase(clause.object, "acc", "obj", root, late)
        if clause.recipient:
            slots["recipient"] = self._noun_phrase(clause.recipient, "dat", "iobj", root, late)
        self._add_circumstances(slots, clause, root)
        if clause.complement:
            inner, head = self._clause(clause.complement, relation="ccomp", mark="comp")
            head.head = root
            slots["complement"] = inner
        self._move(slots, clause, root)
        words = [word for slot in _ORDERS[self.language.order].split() for word in slots.get(slot, ())]
        if gap and not self._is_bare:
            pronoun = slots["subject"]
            words = pronoun + [word for word in words if word is not pronoun[0]]
        if mark:
            marker = [self._function(mark, "mark", root)]
            words = marker + words if self.language.prepositions else words + marker
        return words, root

    @property
    def _is_bare(self) -> bool:
        # relative clauses without a pronoun
        return self.language.relatives == "before"

    def _move(self, slots: dict[str, list[Word]], clause: Clause, root: Word) -> None:
        """Puts what is asked for, or said first, in its place."""
        if clause.asked:
            slots["asked"] = [self._question(clause, root)]
            slots.pop(clause.asked, None)
            if self.language.order == "SOV":
                slots[clause.asked] = slots.pop("asked")
            return
        if clause.time_first and "time" in slots:
            slots["time1"] = slots.pop("time")
        if clause.object_first and "acc" in self.language.endings and "object" in slots:
            slots["object1"] = slots.pop("object")

    def _question(self, clause: Clause, root: Word) -> Word:
        part: Thing | None = getattr(clause, clause.asked)
        concept = _ASKED[clause.asked]
        if concept == "who" and part is not None and part.kind == "thing":
            concept = "what"
        if FUNCTIONS[concept] == "ADV":
            return self._function(concept, "advmod", root)
        case, relation = ("nom", "nsubj") if clause.asked == "subject" else ("acc", "obj")
        return self._function(concept, relation, root, case)

    def _add_circumstances(self, slots: dict[str, list[Word]], clause: Clause, root: Word) -> None:
        late = slots["late"]
        if clause.place:
            adposition = "from" if clause.place_from else "in"
            slots["place"] = self._noun_phrase(
                clause.place, "loc", "obl", root, late, adposition=adposition
            )
        if clause.companion:
            slots["companion"] = self._noun_phrase(
                clause.companion, "dat", "obl", root, late, adposition="with"
            )
        if clause.time:
            is_year = clause.time.date is not None and clause.time.date.month < 0
            is_year = is_year and clause.time.date.weekday < 0  # type: ignore[union-attr]
            slots["time"] = self._noun_phrase(
                clause.time, "nom", "obl", root, late, adposition="in" if is_year else ""
            )
        if clause.manner:
            slots["manner"] = [self._adverb(clause.manner, root)]

    def _adverb(self, concept: str, head: Word) -> Word:
        if concept in FUNCTIONS:
            return self._function(concept, "advmod", head)
        return self._word(concept, "ADV", "advmod", head)

    def _verb(self, clause: Clause, relation: str, *, participle: bool) -> tuple[list[Word], Word]:
        plural = clause.subject.is_plural
        if clause.is_copular:
            gender = self._gender(clause.subject)
            root = self._word(clause.verb, "ADJ", relation, None, *gender)
            auxiliary = [self._auxiliary("be", "cop", root, "present", plural)]
            auxiliary = auxiliary if self.language.copula else []
        else:
            helper = {"future": "will", "perfect": "have"}.get(clause.tense)
            helper = None if participle else helper
            if participle:
                endings: tuple[str, ...] = ("participle",)
            elif helper:
                endings = ("participle",) if clause.tense == "perfect" else ()
            else:
                endings = _verb_endings(clause.tense, plural)
            features = "Tense=Past" if clause.tense == "past" and not participle else "_"
            root = self._word(clause.verb, "VERB", relation, None, *endings, features=features)
            auxiliary = []
            if helper:
                auxiliary = [self._auxiliary(helper, "aux", root, "present", plural)]
        negation = [self._function("not", "advmod", root)] if clause.negated else []
        before = self.language.negation == "before"
        words = [*(negation if before else ()), root, *(() if before else negation)]
        last = self.language.order == "SOV"
        return ([*words, *auxiliary] if last else [*auxiliary, *words]), root

    def _auxiliary(self, concept: str, relation: str, head: Word, tense: str, plural: bool) -> Word:
        return self._word(concept, "AUX", relation, head, *_verb_endings(tense, plural))

    def _noun_phrase(
        self,
        thing: Thing,
        case: str,
        relation: str,
        head: Word,
        late: list[Word],
        *,
        adposition: str = "",
    ) -> list[Word]:
        """Gives the words of a thing; what is put off to behind the verb goes to `late`."""
        words, noun = self._core(thing, case, late)
        noun.relation, noun.head = relation, head
        if adposition and not (adposition == "in" and self._has_locative(thing)):
            word = self._function(adposition, "case", noun)
            words = [word, *words] if self.language.prepositions else [*words, word]
        if thing.other:
            others, other = self._core(thing.other, case, late)
            other.relation, other.head = "conj", noun
            words = [*words, self._function(thing.joint, "cc", other), *others]
        return words

    def _has_locative(self, thing: Thing) -> bool:
        return self.language.locative_case and thing.date is None

    def _core(self, thing: Thing, case: str, late: list[Word]) -> tuple[list[Word], Word]:
        if thing.pronoun:
            word = self._function(thing.pronoun, "", None, case)
            word.thing = thing
            return [word], word
        if thing.date:
            words, head = self._date(thing.date)
        elif thing.name:
            words, head = self._named(thing, case)
        else:
            return self._common(thing, case, late)
        for place, word in enumerate(words):
            word.thing = thing
            word.entity = f"{'I' if place else 'B'}-{ENTITIES[thing.kind]}"
        return words, head

    def _named(self, thing: Thing, case: str) -> tuple[list[Word], Word]:
        endings = [()] * (len(thing.name) - 1) + [() if thing.noun else (case,)]
        names = [
            self._name(part, *ending) for part, ending in zip(thing.name, endings, strict=True)
        ]
        if not thing.noun:
            for name in names[1:]:
                name.relation, name.head = "flat", names[0]
            return names, names[0]
        noun = self._word(thing.noun, "PROPN", "", None, case)
        noun.form = noun.form[0].upper() + noun.form[1:]
        for name in names:
            name.relation, name.head = "compound", noun
        return ([*names, noun] if self.language.adjectives_first else [noun, *names]), noun

    def _name(self, name: str, *endings: str) -> Word:
        return Word(self._name_form(name, *endings), self._name_form(name), "PROPN", "")

    def _name_form(self, name: str, *endings: str) -> str:
        # Names have a capital letter and concepts have none, so they can share the table.
        key = (name, *endings)
        if key not in self._forms:
            inflected = self.language.inflected(name.lower(), *endings).capitalize()
            self._forms[key] = spell(inflected, self.language.script)
        return self._forms[key]

    def _date(self, date: Date) -> tuple[list[Word], Word]:
        if date.weekday >= 0:
            word = self._word(f"day.{date.weekday}", "PROPN", "", None)
            word.form = self._titled(word.form)
            return [word], word
        year = Word(str(date.year), str(date.year), "NUM", "nummod")
        if date.month < 0:
            return [year], year
        month = self._word(f"month.{date.month}", "PROPN", "", None)
        month.form = self._titled(month.form)
        day = Word(str(date.day), str(date.day), "NUM", "nummod", month)
        year.head = month
        parts = {"day": [day], "month": [month], "year": [year] if date.year else []}
        return [word for part in self.language.date for word in parts[part]], month

    def _titled(self, form: str) -> str:
        # Only the prepositional languages write months and days with a capital letter.
        return form.capitalize() if self.language.prepositions else form

    def _common(self, thing: Thing, case: str, late: list[Word]) -> tuple[list[Word], Word]:
        endings = ("plural", case) if thing.plural else (case,)
        features = "Number=Plur" if thing.plural else "Number=Sing"
        if case in self.language.endings:
            features = f"Case={case.capitalize()}|{features}"
        noun = self._word(thing.noun, "NOUN", "", None, *endings, features=features)
        gender = self._gender(thing)
        adjectives = [self._word(one, "ADJ", "amod", noun, *gender) for one in thing.adjectives]
        if adjectives and thing.very:
            adjectives.insert(0, self._function("very", "advmod", adjectives[0]))
        left, right = [], []
        if thing.determiner in ("the", "a"):
            if self.language.article:
                article = [self._function(thing.determiner, "det", noun)]
                left, right = (article, right) if self.language.article == "before" else (left, article)
        elif thing.determiner:
            left = [self._function(thing.determiner, "det", noun)]
        if thing.count:
            left.append(Word(str(thing.count), str(thing.count), "NUM", "nummod", noun))
        if self.language.adjectives_first:
            words = [*left, *adjectives, noun, *right]
        else:
            words = [*left, noun, *adjectives, *right]
        for word in words:
            word.thing = thing
        return self._with_dependants(thing, words, noun, late), noun

    def _with_dependants(
        self, thing: Thing, words: list[Word], noun: Word, late: list[Word]
    ) -> list[Word]:
        if thing.of:
            owner = self._noun_phrase(thing.of, "nom", "nmod", noun, late, adposition="of")
            words = [*words, *owner] if self.language.prepositions else [*owner, *words]
        if thing.relative:
            clause, head = self._clause(thing.relative, relation="acl:relcl", gap=True)
            head.head = noun
            if self.language.relatives == "extraposed":
                late.extend(clause)
            else:
                words = [*clause, *words] if self._is_bare else [*words, *clause]
        return words

    def _gender(self, thing: Thing) -> tuple[str, ...]:
        code = self.language.code
        if self.language.gender and thing.noun and crc32(f"{code}/{thing.noun}".encode()) % 2:
            return ("feminine",)
        return ()

    def _function(self, concept: str, relation: str, head: Word | None, *endings: str) -> Word:
        return self._word(concept, FUNCTIONS[concept], relation, head, *endings)

    def _word(
        self,
        concept: str,
        upos: str,
        relation: str,
        head: Word | None,
        *endings: str,
        features: str = "_",
    ) -> Word:
        form, lemma = self._form(concept, *endings), self._form(concept)
        return Word(form, lemma, upos, relation, head, "O", features)

    def _form(self, concept: str, *endings: str) -> str:
        key = (concept, *endings)
        if key not in self._forms:
            stem = self.lexicon.forms[concept]
            inflected = self.language.inflected(stem, *endings)
            self._forms[key] = spell(inflected, self.language.script)
        return self._forms[key]


def _verb_endings(tense: str, plural: bool) -> tuple[str, ...]:
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
