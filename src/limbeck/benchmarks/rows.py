"""Sentences as published, one tag per word, and the account of what was mended in them."""

import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

SPLIT_NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid"), "test": ("test",)}
"""What the splits are called in folders and on the hub; the first is limbeck's word."""
SAMPLES = 3
"""How many places a note keeps."""

RULES = {
    "byte-order-mark": "at the start of the file: left out",
    "carriage-return": "Windows line ends: left out",
    "blank-line-with-spaces": "a line of spaces or tabs: ends the sentence like an empty one",
    "irregular-spacing": "stray tabs, doubled spaces, spaces at the ends: one separator",
    "space-in-word": "a word of several parts in a two-column file: kept as one word",
    "empty-word": "a tag without a word: left out",
    "document-start": "-DOCSTART-: left out, ends the sentence",
    "comment": "a line that starts with #: left out",
    "word-range": "a multiword token or empty node (1-2, 1.1): left out, its words are kept",
    "invisible-word": "a word of zero-width or control characters only: kept",
    "invisible-character": "a word with a zero-width or control character in it: kept",
    "not-nfc": "a word that is not in Unicode NFC: kept; `encode` reads it in NFC",
    "empty-sentence": "a row of a hub dataset without words: left out",
    "empty-node": "a word that is in the enhanced graph only (1.1): left out of the tree",
    "root-relation": "the relation root at another word, or another relation at the root: kept",
    "relation-without-subtype": "a relation outside the labels asked for: its universal part",
    "relation-unknown": "a relation outside the labels, not to be trained on: kept",
    "blank-line": "a line without anything in it: left out",
    "quote-kept": "a field that starts with a quote where quotes mean nothing: kept as it is",
    "other-language": "a row of another language, in a file of several: left out",
    "empty-text": "an empty text, in published sets that have some: the row is left out",
    "untranslated": "NS instead of a sentence (PAWS-X): the row is left out",
    "no-gold-label": "no label in a published set of pairs, but - or -1: the row is left out",
    "label-respelt": "a label in the benchmark's own spelling or number: read as limbeck's",
    "answer-moved": "an answer that is elsewhere in the context: the nearest place is taken",
    "answer-respelt": "an answer in another Unicode form, case, spacing or punctuation than in "
    "the context: the context's is taken",
    "answer-blank": "an answer without text: left out",
    "question-blank": "a question without text: left out",
    "context-missing": "a question without a context: left out",
    "gold-missing": "a question that has no answer and is not said to have none: left out",
    "answer-not-in-context": "an answer that its authors say is not in the context (place -1), "
    "or AfriQA's yes, no and answers in other words: left out, the question too",
    "erratum": "a published tag that its authors read as another: so do we",
    "outside-labels": "a word of an entity type that was not asked for: becomes O",
    "inside-without-begin": "an I- tag that continues nothing: kept, in no span of strict IOB2",
    "label-unseen": "a label of the set that no word has: named instead of a place",
}
"""Every reason that is counted, and what happens; what names a label does so after a space."""


@dataclass(frozen=True, slots=True)
class Note:
    """How often a rule was used, and the first places, `file:line`, where it was."""

    count: int
    samples: tuple[str, ...] = ()


Notes = dict[str, Note]


@dataclass(frozen=True, slots=True)
class Row:
    """A sentence as published: words, tags, and the line of each word in the file."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """All sentences of a split as published, where they come from, and what was mended."""

    source: str
    rows: tuple[Row, ...]
    notes: Notes


def add_note(notes: Notes, reason: str, source: str, line: int) -> None:
    """Adds one to the reason, and the line if it is among the first."""
    note_at(notes, reason, f"{source}:{line}")


def note_at(notes: Notes, reason: str, where: str) -> None:
    """Adds one to the reason, and the place if it is among the first."""
    old = notes.get(reason, Note(0))
    samples = (*old.samples, where) if len(old.samples) < SAMPLES else old.samples
    notes[reason] = Note(old.count + 1, samples)


def row_of(fields: Sequence[tuple[str, str, int]]) -> Row:
    """Makes a row of the word, tag and line of each of its words."""
    words, tags, lines = zip(*fields, strict=True)
    return Row(words, tags, lines)


def note_words(rows: Sequence[Row], source: str, notes: Notes) -> None:
    """Notes words that are not in NFC, and those with characters that cannot be seen."""
    for row in rows:
        for word, line in zip(row.words, row.lines, strict=True):
            if not word.isascii() and not unicodedata.is_normalized("NFC", word):
                add_note(notes, "not-nfc", source, line)
            if not word.replace(" ", "").isprintable():
                visible = any(c.isprintable() and c != " " for c in word)
                reason = "invisible-character" if visible else "invisible-word"
                add_note(notes, reason, source, line)


def hint(word: str, known: Sequence[str]) -> str:
    """Gives what to do about a word that is not among the known ones, if one is near."""
    upper = {name.upper(): name for name in known}
    near = difflib.get_close_matches(word.upper(), upper, n=1, cutoff=0.6)
    return f"did you mean {upper[near[0]]!r}?" if near else ""
