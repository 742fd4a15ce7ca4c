"""Test texts that stand in unlabelled text, where a model has read them without their labels."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

SHORTEST = 20
"""Letters and digits: a shorter text may stand anywhere."""
_WORDS_AT_HAND = 1 << 18


def bare(text: str) -> str:
    """Give a text's letters and digits: no case, no marks, no spaces."""
    folded = unicodedata.normalize("NFD", text).casefold()
    return "".join(one for one in folded if one.isalnum())


def standing_in(texts: Sequence[str], lines: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Give the places of a line and of a text that stands in it, for each such pair.

    Letters and digits are compared, without case, marks and spaces. A text stands in one line, and
    begins where a word does; one with fewer than `SHORTEST` is passed over. Memory is that of the
    texts, time that of one pass over the lines.

    Args:
        texts: Test sentences, say.
        lines: A corpus.
    """
    bares = [bare(text) for text in texts]
    beginnings: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(bares):
        if len(one) >= SHORTEST:
            beginnings[one[:SHORTEST]].append(place)
    letters = lru_cache(_WORDS_AT_HAND)(bare)
    for number, line in enumerate(lines):
        words = [letters(word) for word in line.split()]
        whole, start = "".join(words), 0
        found: set[int] = set()
        for word in words:
            for place in beginnings.get(whole[start : start + SHORTEST], ()):
                if whole.startswith(bares[place], start):
                    found.add(place)
            start += len(word)
        yield from ((number, place) for place in sorted(found))
