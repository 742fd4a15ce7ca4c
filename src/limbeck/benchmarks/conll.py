"""Reads sentences with one tag per word: one word a line, blank lines between sentences.

The layout is told from the first line that is no comment, not from the language or the benchmark:

    word tag                  separated by spaces; more columns may stand between (CoNLL-2003)
    word<TAB>tag              separated by tabs; a word may hold spaces
    1<TAB>word<TAB>tag<TAB>…  numbered words (Universal NER), comments start with #

Real files are not clean. Each rule that mends something has a name and is counted, see `RULES`;
what no rule mends is a `DataError` with file and line. Nothing is left out silently.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import DataError

SUFFIXES = (".txt", ".conll", ".iob2", ".tsv")
SPLIT_NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid"), "test": ("test",)}
"""What the splits are called in folders and on the hub; the first is limbeck's word."""
WORD_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("ner_tags", "upos", "pos_tags", "tags", "labels")
"""Columns of a hub dataset that may hold words and tags; the first that is there is read."""
SAMPLES = 3
"""How many places a note keeps."""

_DOCUMENT_START = "-DOCSTART-"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")

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
    "erratum": "a published tag that is a known mistake: corrected",
    "outside-labels": "a word of an entity type that was not asked for: becomes O",
    "inside-without-begin": "an I- tag that continues nothing: kept, in no span of strict IOB2",
    "label-unseen": "a label of the set that no word has: named instead of a place",
}
"""Every reason that is counted, and what happens; the last four when labels are assigned."""


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


@dataclass(frozen=True, slots=True)
class Layout:
    """Which columns hold what; `separator` is a space, a tab."""

    separator: str
    columns: int
    word: int
    tag: int

    @property
    def numbered(self) -> bool:
        """Whether the first column numbers the words."""
        return self.word == 1


def count(notes: Notes, reason: str, source: str, line: int) -> None:
    """Adds one to the reason, and the place if it is among the first."""
    old = notes.get(reason, Note(0))
    samples = old.samples
    if len(samples) < SAMPLES:
        samples = (*samples, f"{source}:{line}")
    notes[reason] = Note(old.count + 1, samples)


def read(root: str | Path, language: str, split: str) -> Reading:
    """Gives the sentences of one split of one language.

    Args:
        root: A folder `<root>/<language>/<split>.txt` (or `.conll`, `.iob2`, `.tsv`; also
            `<something>-<split>.iob2`); or a folder laid out as a hub dataset; or a hub id.
        language: Name of the folder or of the hub dataset's configuration.
        split: "train", "dev" or "test".

    Raises:
        DataError: the split is not there, is empty, or has a line that no rule mends.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        if not _HUB_ID.fullmatch(str(root)):
            raise DataError("no such folder", where=str(root), do="check the benchmark's root")
        return read_hub(str(root), language, split)
    paths = _candidates(folder / language, split)
    if len(paths) > 1:
        raise DataError(
            "more than one file for this split",
            where=str(folder / language),
            found=", ".join(path.name for path in paths),
            do="keep one of them",
        )
    if paths:
        return read_file(paths[0])
    if _tables(folder):
        return read_hub(str(folder), language, split)
    raise DataError(
        f"no {split} split for {language}",
        where=str(folder),
        found=_inventory(folder),
        expected=f"{language}/{split}" + "|".join(SUFFIXES),
    )


def files(root: str | Path, language: str, split: str) -> list[Path]:
    """Gives the files that `read` would read, sorted; none where the root is a hub id.

    Of a folder laid out as a hub dataset these are all tables of the language, for their names
    need not tell the split.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        return []
    inner = folder / language
    return _candidates(inner, split) or _tables(inner if inner.is_dir() else folder)


def read_file(path: Path) -> Reading:
    """Gives the sentences of a file.

    Raises:
        DataError: the file is not UTF-8, is empty, or has a line that no rule mends.
    """
    notes: Notes = {}
    source = str(path)
    lines = _lines(path, notes)
    layout = _layout(lines, source)
    rows, current = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip(" \t"):
            if line:
                count(notes, "blank-line-with-spaces", source, number)
            fields = None
        else:
            fields = _fields(line, layout, source, number, notes)
            if fields == ():
                continue
        if fields:
            current.append((*fields, number))
        elif current:
            rows.append(_row(current))
            current = []
    if current:
        rows.append(_row(current))
    if not rows:
        raise DataError("there is no sentence in this file", where=source)
    _note_words(rows, source, notes)
    return Reading(source, tuple(rows), notes)


def read_hub(root: str, language: str, split: str) -> Reading:
    """Gives the sentences of a dataset with word and tag columns, through `datasets`.

    Args:
        root: Hub id, or a folder laid out as a hub dataset.
        language: Configuration of the dataset, or a folder inside `root`.
        split: "train", "dev" or "test".

    Raises:
        DataError: the dataset does not load, or has no column of words or of tags.
    """
    table = _load_hub(root, language, split)
    source = f"{root}/{language}/{split}"
    word_column = _column(table.column_names, WORD_COLUMNS, source)
    tag_column = _column(table.column_names, TAG_COLUMNS, source)
    feature = table.features[tag_column]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    notes: Notes = {}
    rows = []
    for number, (words, tags) in enumerate(
        zip(table[word_column], table[tag_column], strict=True), start=1
    ):
        if len(words) != len(tags):
            raise DataError(
                "a row needs one tag per word",
                where=f"{source}:{number}",
                found=f"{len(tags)} tags for {len(words)} words",
            )
        spelt = [names[tag] if names and 0 <= tag < len(names) else str(tag) for tag in tags]
        kept = [(word, tag, number) for word, tag in zip(words, spelt, strict=True) if word]
        for _ in range(len(words) - len(kept)):
            count(notes, "empty-word", source, number)
        if kept:
            rows.append(_row(kept))
        else:
            count(notes, "empty-sentence", source, number)
    if not rows:
        raise DataError("there is no sentence in this dataset", where=source)
    _note_words(rows, source, notes)
    return Reading(source, tuple(rows), notes)


def _candidates(folder: Path, split: str) -> list[Path]:
    if not folder.is_dir():
        return []
    stems = SPLIT_NAMES.get(split, (split,))
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in SUFFIXES and path.stem.rpartition("-")[2] in stems
    ]


def _tables(folder: Path) -> list[Path]:
    return sorted(path for kind in ("*.parquet", "*.jsonl") for path in folder.rglob(kind))


def _inventory(folder: Path) -> str:
    found = []
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        splits = [split for split in SPLIT_NAMES if _candidates(inner, split)]
        if splits:
            found.append(f"{inner.name} ({', '.join(splits)})")
    return "; ".join(found).replace(";", ",") or "no folder with a train, dev or test file"


def _lines(path: Path, notes: Notes) -> list[str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            "the file cannot be read", where=str(path), found=error.strerror or str(error)
        ) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad_line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            "the file is not UTF-8",
            where=f"{path}:{bad_line}",
            found=f"byte 0x{data[error.start]:02x} at offset {error.start}",
            do="convert it to UTF-8",
        ) from error
    if text.startswith("\ufeff"):
        count(notes, "byte-order-mark", str(path), 1)
        text = text[1:]
    if "\r" not in text:
        return text.split("\n")
    if "\n" not in text:
        text = text.replace("\r", "\r\n")
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if "\r" in line:
            count(notes, "carriage-return", str(path), number)
        lines.append(line.rstrip("\r").replace("\r", " "))
    return lines


def _layout(lines: Sequence[str], source: str) -> Layout:
    filled = [(n, line) for n, line in enumerate(lines, start=1) if line.strip(" \t")]
    if not filled:
        raise DataError("the file is empty", where=source)
    content = [pair for pair in filled if not pair[1].startswith(("#", _DOCUMENT_START))] or filled
    number, first = content[0]
    if "\t" in first.strip(" \t"):
        columns = first.rstrip(" \t").count("\t") + 1
        if columns >= 3 and re.match(r"\d+([-.]\d+)?\t", first):
            return Layout("\t", columns, word=1, tag=2)
        return Layout("\t", columns, word=0, tag=columns - 1)
    columns = len(first.split(" ")) if first == first.strip(" ") else len(first.split())
    if columns < 2:
        raise DataError(
            "a line has one column",
            where=f"{source}:{number}",
            found=repr(first),
            expected="a word and its tag",
        )
    return Layout(" ", columns, word=0, tag=columns - 1)


def _fields(
    line: str, layout: Layout, source: str, number: int, notes: Notes
) -> tuple[str, str] | tuple[()] | None:
    """Gives word and tag; an empty tuple for a line left out; None for the end of a sentence."""
    if line.startswith(_DOCUMENT_START):
        count(notes, "document-start", source, number)
        return None
    fields = line.split(layout.separator)
    if layout.numbered:
        reason = _left_out(line, fields[0])
    elif line.startswith("# ") and len(fields) != layout.columns:
        reason = "comment"
    else:
        reason = ""
    if reason:
        count(notes, reason, source, number)
        return ()
    regular = len(fields) == layout.columns and fields[layout.word] and fields[layout.tag]
    if not regular or (layout.separator == " " and "\t" in line):
        fields = _mended(line, layout, source, number, notes)
        if not fields:
            return ()
    return fields[layout.word], fields[layout.tag]


def _left_out(line: str, index: str) -> str:
    if line.startswith("#"):
        return "comment"
    return "word-range" if re.fullmatch(r"\d+[-.]\d+", index) else ""


def _mended(line: str, layout: Layout, source: str, number: int, notes: Notes) -> list[str]:
    """Gives as many fields as the layout has; none for a line without a word."""
    if layout.numbered:
        fields = [field.strip(" ") for field in line.split("\t")]
        if len(fields) == layout.columns and fields[layout.tag] and not fields[layout.word]:
            count(notes, "empty-word", source, number)
            return []
    else:
        separator = "\t" if layout.separator == "\t" and "\t" in line.strip(" \t") else None
        fields = [field for field in re.split(separator or "[ \t]+", line.strip(" \t")) if field]
    if len(fields) == layout.columns:
        count(notes, "irregular-spacing", source, number)
        return fields
    if len(fields) == layout.columns - 1 and line[0] in " \t" and not layout.numbered:
        count(notes, "empty-word", source, number)
        return []
    if layout.columns == 2 and len(fields) > 2:
        count(notes, "space-in-word", source, number)
        return [" ".join(fields[:-1]), fields[-1]]
    raise DataError(
        "a line has the wrong number of columns",
        where=f"{source}:{number}",
        found=repr(line),
        expected=f"{layout.columns} columns",
        do="give every word a tag, or delete the line",
    )


def _row(fields: Sequence[tuple[str, str, int]]) -> Row:
    words, tags, lines = zip(*fields, strict=True)
    return Row(words, tags, lines)


def _note_words(rows: Sequence[Row], source: str, notes: Notes) -> None:
    for row in rows:
        for word, line in zip(row.words, row.lines, strict=True):
            if not word.isascii() and not unicodedata.is_normalized("NFC", word):
                count(notes, "not-nfc", source, line)
            if not word.replace(" ", "").isprintable():
                visible = any(c.isprintable() and c != " " for c in word)
                reason = "invisible-character" if visible else "invisible-word"
                count(notes, reason, source, line)


def _column(present: Sequence[str], wanted: Sequence[str], source: str) -> str:
    for name in wanted:
        if name in present:
            return name
    raise DataError(
        "the dataset lacks a column",
        where=source,
        found="the columns " + ", ".join(present),
        expected="one of " + ", ".join(wanted),
    )


def _load_hub(root: str, language: str, split: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "reading from the hub needs the library datasets",
            where=f"{root}/{language}/{split}",
            do="type: pip install 'limbeck[train]'",
        ) from error
    local = Path(root) / language
    path, name = (str(local), None) if local.is_dir() else (root, language)
    last: Exception | None = None
    for spelling, revision in _attempts(split, hub=not Path(root).is_dir()):
        try:
            return datasets.load_dataset(path, name, split=spelling, revision=revision)
        except (OSError, ValueError, RuntimeError) as error:
            last = last or error
    raise DataError(
        "neither a folder here nor a dataset that loads",
        where=f"{root}/{language}/{split}",
        found=f"{type(last).__name__}: {last}",
        do="check the path, the configuration's name and the connection",
    ) from last


def _attempts(split: str, *, hub: bool) -> Iterator[tuple[str, str | None]]:
    """Gives names of the split and revisions to try.

    `datasets` 4 and later do not run loading scripts; the hub keeps a parquet conversion of
    datasets that have one under its own revision.
    """
    for revision in (None, "refs/convert/parquet") if hub else (None,):
        for spelling in SPLIT_NAMES.get(split, (split,)):
            yield spelling, revision
