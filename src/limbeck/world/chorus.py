"""All languages say the same: new sentences, of a good length in each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from limbeck.world.draw import Author
from limbeck.world.lexicon import TOPICS, Vocabulary
from limbeck.world.meaning import Clause
from limbeck.world.render import Speaker
from limbeck.world.words import Word

MIN_WORDS, MAX_WORDS = 4, 25
"""Words of a sentence of the corpora and of the tagged sets, marks not counted."""


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
            if not all(min_words <= length(words) <= MAX_WORDS for words in sentences):
                return None
            texts[code] = {spoken(words) for words in sentences}
            before = self._said.setdefault(code, set())
            if len(texts[code]) < len(sentences) or texts[code] & before:
                return None
            said[code] = sentences
        for code, new in texts.items():
            self._said[code] |= new
            if split != "train":
                self.held.setdefault(code, set()).update(new)
        return said


def spoken(words: Sequence[Word]) -> str:
    """Gives the sentence with all words set apart: what makes it the same or another."""
    return " ".join([word.form for word in words])


def length(words: Sequence[Word]) -> int:
    """Gives the number of words, marks not counted."""
    return sum(word.upos != "PUNCT" for word in words)
