"""Read unlabelled text, clean it, drop what is no text with a named reason, and split it.

Everything streams: a corpus larger than memory works. What stays in memory is one line and one
table of 64-bit hashes that finds duplicates, about 16 bytes a kept line (32 while it grows).
"""

import errno
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path

import numpy as np

from limbeck.errors import ArtifactError, DataError, RecipeError
from limbeck.reading import CorpusSource, Line, find_files, read, read_texts

__all__ = [
    "CorpusCounts", "CorpusSource", "Seen", "find_files", "held_out", "normalise", "prepare",
    "read", "read_texts", "why_dropped", "writing",
]  # fmt: skip

REASONS = ("empty", "too short", "mostly not letters", "wrong script", "duplicate")

# ISO 15924 code → first words of the Unicode names of its letters.
# fmt: off
SCRIPTS = {
    "Adlm": "ADLAM", "Arab": "ARABIC", "Armn": "ARMENIAN", "Beng": "BENGALI", "Cans": "CANADIAN",
    "Cher": "CHEROKEE", "Cyrl": "CYRILLIC", "Deva": "DEVANAGARI", "Ethi": "ETHIOPIC",
    "Geor": "GEORGIAN", "Grek": "GREEK", "Gujr": "GUJARATI", "Guru": "GURMUKHI", "Hang": "HANGUL",
    "Hani": "CJK IDEOGRAPHIC", "Hans": "CJK IDEOGRAPHIC", "Hant": "CJK IDEOGRAPHIC BOPOMOFO",
    "Hebr": "HEBREW", "Java": "JAVANESE", "Jpan": "HIRAGANA KATAKANA KATAKANA-HIRAGANA CJK "
    "IDEOGRAPHIC", "Khmr": "KHMER", "Knda": "KANNADA", "Kore": "HANGUL CJK", "Laoo": "LAO",
    "Latn": "LATIN", "Mlym": "MALAYALAM", "Mong": "MONGOLIAN", "Mymr": "MYANMAR", "Nkoo": "NKO",
    "Olck": "OL", "Orya": "ORIYA", "Sinh": "SINHALA", "Sund": "SUNDANESE", "Syrc": "SYRIAC",
    "Taml": "TAMIL", "Telu": "TELUGU", "Tfng": "TIFINAGH", "Thaa": "THAANA", "Thai": "THAI",
    "Tibt": "TIBETAN", "Vaii": "VAI",
}
# fmt: on
_SHARED = ("MODIFIER", "FULLWIDTH", "HALFWIDTH", "FEMININE", "MASCULINE", "MICRO", "MATHEMATICAL")

_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")
# Soft hyphen, zero-width space, direction marks, word joiner, byte-order mark. Not U+200C and
# U+200D: Persian and the Indic scripts spell with them, and emoji are joined by them.
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")


@dataclass(frozen=True, slots=True)
class CorpusCounts:
    """What became of a corpus; `read` = `kept` + all of `dropped`.

    Args:
        read: Texts read.
        kept: Texts written, held-out ones included.
        heldout: Texts written to the held-out file.
        bytes: UTF-8 bytes kept, line ends not counted.
        characters: Unicode characters kept.
        words: Words kept, split at spaces; no measure for scripts written without spaces.
        dropped: Texts dropped, one entry for each of `REASONS`.
    """

    read: int
    kept: int
    heldout: int
    bytes: int
    characters: int
    words: int
    dropped: dict[str, int]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell a failed write in one line.

    Raises:
        ArtifactError: The disk is full, or `path` cannot be written.
    """
    try:
        yield
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else "cannot be written"
        do = "free some space, then run again" if full else "check the folder and its permissions"
        raise ArtifactError(what, where=str(path), found=problem.strerror or "", do=do) from problem


def normalise(text: str) -> str:
    """Give the text in NFC on one line, with single spaces and nothing invisible.

    Every run of white space, control characters and lone surrogates becomes one space; zero-width
    space, direction marks, soft hyphen and byte-order mark go. ZWJ and ZWNJ stay: they spell.
    """
    text = _INVISIBLE.sub("", _CONTROLS.sub(" ", text))
    return " ".join(unicodedata.normalize("NFC", text).split())


def words_of(text: str) -> list[str]:
    """Split raw text into words as label files do: punctuation stands alone.

    Letters, marks, joiners (ZWJ, ZWNJ) and digits stay together, and so do hyphens and apostrophes
    between them. No measure for scripts written without spaces: a Chinese or Thai clause is one
    word.
    """
    return [text[start:stop] for start, stop in word_places(text)]


def word_places(text: str) -> list[tuple[int, int]]:
    """Give where each word of `words_of` starts and stops, in characters."""
    return [one.span() for one in _word_pattern().finditer(text)]


@cache
def _word_pattern() -> re.Pattern[str]:
    marks = "".join(
        chr(code) for code in range(0x300, 0x1E944) if unicodedata.category(chr(code))[0] == "M"
    )
    inside = rf"[\w\u200c\u200d{marks}]+"
    return re.compile(rf"\d+(?:[.,]\d+)+|{inside}(?:[-'’]{inside})*|\S")


@cache
def _kind(character: str) -> str:
    # a word of SCRIPTS for a letter, "shared" for one of no script, "mark", or "other"
    category = unicodedata.category(character)
    if category[0] != "L":
        return "mark" if category[0] == "M" else "other"
    word = unicodedata.name(character, "shared").split()[0]
    return "shared" if word in _SHARED else word


def why_dropped(text: str, *, min_characters: int = 10, script: str = "") -> str:
    """Say which of `REASONS` drops a normalised text; empty if it stays. No duplicates here.

    Args:
        text: What `normalise` gave.
        min_characters: A shorter text is "too short". 10: below it there are page numbers, names
            and interjections, little context to learn from; a short Chinese sentence still fits.
        script: ISO 15924 code; the text is in the "wrong script" when fewer than half of its
            letters are. Empty: any script.

    "mostly not letters" are texts where letters and combining marks are less than half of all
    characters but spaces: tables, scores, links, rows of emoji.
    """
    if not text:
        return "empty"
    if len(text) < min_characters:
        return "too short"
    not_spaces = len(text) - text.count(" ")
    if not script and 2 * sum(map(str.isalpha, text)) >= not_spaces:
        return ""
    kinds: Counter[str] = Counter()
    for character, count in Counter(text).items():
        kinds[_kind(character)] += count
    letters_and_marks = len(text) - kinds["other"]
    if 2 * letters_and_marks < not_spaces:
        return "mostly not letters"
    if script:
        letters = letters_and_marks - kinds["mark"] - kinds["shared"]
        if 2 * sum(kinds[word] for word in SCRIPTS[script].split()) < letters:
            return "wrong script"
    return ""


def _digest(encoded: bytes) -> int:
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "little")


class Seen:
    """A growing set of 64-bit hashes in one numpy table, between 11 and 22 bytes a hash.

    Two different texts share a hash with a chance of n² / 2⁶⁵: 0.0003 for 100 million texts.
    """

    def __init__(self) -> None:
        self._table = np.zeros(1 << 12, dtype=np.uint64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def table_bytes(self) -> int:
        """Bytes of the table."""
        return self._table.nbytes

    def add(self, digest: int) -> bool:
        """Put a hash in; False if it was there."""
        digest = digest or 1  # 0 marks a free slot
        mask = len(self._table) - 1
        slot = digest & mask
        while (there := self._table.item(slot)) != 0:
            if there == digest:
                return False
            slot = (slot + 1) & mask
        self._table[slot] = digest
        self._count += 1
        if 4 * self._count > 3 * len(self._table):
            self._grow()
        return True

    def _grow(self) -> None:
        waiting = self._table[self._table != 0]
        table = np.zeros(2 * len(self._table), dtype=np.uint64)
        mask = np.uint64(len(table) - 1)
        slots = waiting & mask
        while len(waiting):
            free = table[slots] == 0
            table[slots[free]] = waiting[free]
            left = table[slots] != waiting
            waiting, slots = waiting[left], (slots[left] + np.uint64(1)) & mask
        self._table = table


def held_out(text: str, *, fraction: float) -> bool:
    """Say whether a text is held out: by its hash alone, so in any run and in any order."""
    return _digest(text.encode()) < fraction * 2**64


def prepare(
    sources: Mapping[str, CorpusSource],
    folder: Path,
    *,
    held_out_fraction: float = 0.01,
    min_characters: int = 10,
    scripts: Mapping[str, str] | None = None,
) -> dict[str, CorpusCounts]:
    """Write `<language>.train.txt` and `<language>.heldout.txt`, one clean text a line, UTF-8.

    The split is `held_out`, with two exceptions for tiny corpora: a training file is never empty
    (the text with the largest hash trains), and of two or more texts one is held out (the one
    with the smallest hash), unless the fraction is 0.

    Args:
        sources: Language → where its text is.
        folder: Where to write; made if need be, files in it are replaced.
        held_out_fraction: Share of texts held out, 0 ≤ fraction < 1.
        min_characters: See `why_dropped`.
        scripts: Language → ISO 15924 code that its texts must be in; others are not checked.

    Raises:
        RecipeError: The fraction is out of range, or a script is not known.
        DataError: A corpus cannot be read, or nothing of it is left.
        ArtifactError: The disk is full, or the folder cannot be written.
    """
    scripts = scripts or {}
    if not 0 <= held_out_fraction < 1:
        found, expected = str(held_out_fraction), "0 ≤ fraction < 1"
        raise RecipeError("bad held-out fraction", found=found, expected=expected)
    for language, script in scripts.items():
        if script not in SCRIPTS:
            known = f"one of {', '.join(SCRIPTS)}"
            raise RecipeError("unknown script", where=language, found=script, expected=known)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return {
        language: _prepare_one(
            read(source, language=language),
            folder / f"{language}.train.txt",
            folder / f"{language}.heldout.txt",
            fraction=held_out_fraction,
            min_characters=min_characters,
            script=scripts.get(language, ""),
        )
        for language, source in sources.items()
    }


def _prepare_one(
    lines: Iterator[Line],
    train: Path,
    heldout: Path,
    *,
    fraction: float,
    min_characters: int,
    script: str,
) -> CorpusCounts:
    counts, seen = Counter[str](), Seen()
    lowest, highest = 2**64, -1
    with writing(train), train.open("wb") as train_file, heldout.open("wb") as heldout_file:
        for line in lines:
            counts["read"] += 1
            text = normalise(line.text)
            reason = why_dropped(text, min_characters=min_characters, script=script)
            encoded = text.encode()
            digest = _digest(encoded)
            if reason or not seen.add(digest):
                counts[reason or "duplicate"] += 1
                continue
            lowest, highest = min(lowest, digest), max(highest, digest)
            is_held_out = digest < fraction * 2**64
            (heldout_file if is_held_out else train_file).write(encoded + b"\n")
            counts["kept"] += 1
            counts["heldout"] += is_held_out
            counts["bytes"] += len(encoded)
            counts["characters"] += len(text)
            counts["words"] += text.count(" ") + 1
    dropped = {reason: counts[reason] for reason in REASONS}
    if not counts["kept"]:
        said = ", ".join(f"{n} {reason}" for reason, n in dropped.items() if n) or "no line at all"
        where = f"corpus.{train.name.removesuffix('.train.txt')}"
        do = "check the file, `min_characters` and the script"
        raise DataError("the corpus is empty", where=where, found=said, do=do)
    if counts["heldout"] == counts["kept"]:
        _move(highest, heldout, train)
        counts["heldout"] -= 1
    elif counts["heldout"] == 0 and counts["kept"] > 1 and fraction > 0:
        _move(lowest, train, heldout)
        counts["heldout"] += 1
    names = ("read", "kept", "heldout", "bytes", "characters", "words")
    return CorpusCounts(**{name: counts[name] for name in names}, dropped=dropped)


def _move(digest: int, source: Path, target: Path) -> None:
    rest = source.with_suffix(".rest")
    with writing(source):
        with source.open("rb") as texts, rest.open("wb") as kept, target.open("ab") as moved:
            for encoded in texts:
                (moved if _digest(encoded.rstrip(b"\n")) == digest else kept).write(encoded)
        rest.replace(source)
