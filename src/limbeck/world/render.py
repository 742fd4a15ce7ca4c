"""One grammar for all languages: a meaning becomes words with a part of speech, a head, an entity.

Every tag follows Universal Dependencies and IOB2; they come from the meaning and so are exact.
"""

from dataclasses import dataclass, field

from limbeck.world.languages import Language
from limbeck.world.lexicon import FUNCTIONS
from limbeck.world.meaning import Clause, Date, Thing
from limbeck.world.words import Voice, Word, verb_endings

ENTITIES = {"person": "PER", "group": "ORG", "place": "LOC", "time": "DATE"}

# fmt: off
_ORDERS = {
    "SVO": ("time1", "object1", "asked", "subject", "verb", "recipient", "object", "place",
            "companion", "manner", "time", "complement"),
    "SOV": ("time1", "object1", "subject", "time", "place", "companion", "recipient", "object",
            "manner", "complement", "verb", "late"),
    "VSO": ("time1", "asked", "verb", "object1", "subject", "recipient", "object", "place",
            "companion", "manner", "time", "complement"),
}
# fmt: on
_ASKED = {"subject": "who", "object": "who", "place": "where", "time": "whentime"}


@dataclass(slots=True)
class Speaker:
    """Says meanings in one language.

    Args:
        voice: The words of the language.
        language: The language, from the voice.
    """

    voice: Voice
    language: Language = field(init=False)

    def __post_init__(self) -> None:
        self.language = self.voice.language

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
            words = [*words, comma, self.voice.function(clause.joint, "cc", head), *second]
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
            slots["subject"] = [self.voice.function("rel", "nsubj", root)]
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
        order = _ORDERS[self.language.order]
        words = [word for slot in order if slot in slots for word in slots[slot]]
        if gap and not self._is_bare:
            pronoun = slots["subject"]
            words = pronoun + [word for word in words if word is not pronoun[0]]
        if mark:
            marker = [self.voice.function(mark, "mark", root)]
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
            return self.voice.function(concept, "advmod", root)
        case, relation = ("nom", "nsubj") if clause.asked == "subject" else ("acc", "obj")
        return self.voice.function(concept, relation, root, case)

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
            is_year = clause.time.date is not None and clause.time.date.is_year
            slots["time"] = self._noun_phrase(
                clause.time, "nom", "obl", root, late, adposition="in" if is_year else ""
            )
        if clause.manner:
            slots["manner"] = [self._adverb(clause.manner, root)]

    def _adverb(self, concept: str, head: Word) -> Word:
        if concept in FUNCTIONS:
            return self.voice.function(concept, "advmod", head)
        return self.voice.word(concept, "ADV", "advmod", head)

    def _verb(self, clause: Clause, relation: str, *, participle: bool) -> tuple[list[Word], Word]:
        plural = clause.subject.is_plural
        if clause.is_copular:
            gender = self.voice.gender(clause.subject.noun)
            root = self.voice.word(clause.verb, "ADJ", relation, None, *gender)
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
                endings = verb_endings(clause.tense, plural)
            features = "Tense=Past" if clause.tense == "past" and not participle else "_"
            root = self.voice.word(clause.verb, "VERB", relation, None, *endings, features=features)
            auxiliary = []
            if helper:
                auxiliary = [self._auxiliary(helper, "aux", root, "present", plural)]
        negation = [self.voice.function("not", "advmod", root)] if clause.negated else []
        before = self.language.negation == "before"
        words = [*(negation if before else ()), root, *(() if before else negation)]
        last = self.language.order == "SOV"
        return ([*words, *auxiliary] if last else [*auxiliary, *words]), root

    def _auxiliary(self, concept: str, relation: str, head: Word, tense: str, plural: bool) -> Word:
        return self.voice.word(concept, "AUX", relation, head, *verb_endings(tense, plural))

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
            word = self.voice.function(adposition, "case", noun)
            words = [word, *words] if self.language.prepositions else [*words, word]
        if thing.other:
            others, other = self._core(thing.other, case, late)
            other.relation, other.head = "conj", noun
            words = [*words, self.voice.function(thing.joint, "cc", other), *others]
        return words

    def _has_locative(self, thing: Thing) -> bool:
        return self.language.locative_case and thing.date is None

    def _core(self, thing: Thing, case: str, late: list[Word]) -> tuple[list[Word], Word]:
        if thing.pronoun:
            word = self.voice.function(thing.pronoun, "", None, case)
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
            self.voice.name(part, *ending) for part, ending in zip(thing.name, endings, strict=True)
        ]
        if not thing.noun:
            for name in names[1:]:
                name.relation, name.head = "flat", names[0]
            return names, names[0]
        noun = self.voice.word(thing.noun, "PROPN", "", None, case)
        noun.form = noun.form[0].upper() + noun.form[1:]
        for name in names:
            name.relation, name.head = "compound", noun
        return ([*names, noun] if self.language.adjectives_first else [noun, *names]), noun

    def _date(self, date: Date) -> tuple[list[Word], Word]:
        if date.weekday >= 0:
            word = self.voice.word(f"day.{date.weekday}", "PROPN", "", None)
            word.form = self._titled(word.form)
            return [word], word
        year = Word(str(date.year), str(date.year), "NUM", "nummod")
        if date.month < 0:
            return [year], year
        month = self.voice.word(f"month.{date.month}", "PROPN", "", None)
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
        noun = self.voice.word(thing.noun, "NOUN", "", None, *endings, features=features)
        gender = self.voice.gender(thing.noun)
        adjectives = [
            self.voice.word(one, "ADJ", "amod", noun, *gender) for one in thing.adjectives
        ]
        if adjectives and thing.very:
            adjectives.insert(0, self.voice.function("very", "advmod", adjectives[0]))
        left: list[Word] = []
        right: list[Word] = []
        is_article = thing.determiner in ("the", "a")
        if thing.determiner and (self.language.article or not is_article):
            after = is_article and self.language.article == "after"
            side = right if after else left
            side.append(self.voice.function(thing.determiner, "det", noun))
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
