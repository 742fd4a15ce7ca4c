"""Reads sentences with one tag per word: one word a line, blank lines between sentences.

The layout is told from the first line that is no comment, not from the language or the benchmark:

    word tag                  separated by spaces; more columns may stand between (CoNLL-2003)
    word<TAB>tag              separated by tabs; a word may hold spaces
    1<TAB>word<TAB>tag<TAB>…  numbered words (Universal NER), comments start with #

Real files are not clean. Each rule that mends something has a name and is counted (`rows.RULES`);
what no rule mends is a `DataError` with file and line. Nothing is left out silently.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limbeck.benchmarks.lines import lines_of
from limbeck.benchmarks.rows import SPLIT_NAMES, Notes, Reading, add_note, note_words, row_of
from limbeck.benchmarks.tables import HUB_ID, files_of, hub_tables, inventory, read_table
from limbeck.errors import DataError

SUFFIXES = (".txt", ".conll", ".iob2", ".tsv")

_DOCUMENT_START = "-DOCSTART-"


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
        if not HUB_ID.fullmatch(str(root)):
            raise DataError("no such folder", where=str(root), do="check the benchmark's root")
        return read_table(str(root), language, split)
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
    if hub_tables(folder):
        return read_table(str(folder), language, split)
    raise DataError(
        f"no {split} split for {language}",
        where=str(folder),
        found=inventory(folder, lambda name, split: _candidates(folder / name, split)),
        expected=f"{language}/{split}" + "|".join(SUFFIXES),
    )


def files(root: str | Path, language: str, split: str) -> list[Path]:
    """Gives the files that `read` would read, sorted; none where the root is a hub id.

    Of a folder laid out as a hub dataset these are all tables of the language, for their names
    need not tell the split.
    """
    return files_of(root, language, lambda folder: _candidates(folder / language, split))


def read_file(path: Path) -> Reading:
    """Gives the sentences of a file.

    Raises:
        DataError: the file is not UTF-8, is empty, or has a line that no rule mends.
    """
    notes: Notes = {}
    source = str(path)
    lines = lines_of(path, notes)
    layout = _layout(lines, source)
    rows, current = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip(" \t"):
            if line:
                add_note(notes, "blank-line-with-spaces", source, number)
            fields = None
        else:
            fields = _fields(line, layout, source, number, notes)
            if fields == ():
                continue
        if fields:
            current.append((*fields, number))
        elif current:
            rows.append(row_of(current))
            current = []
    if current:
        rows.append(row_of(current))
    if not rows:
        raise DataError("there is no sentence in this file", where=source)
    note_words(rows, source, notes)
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
    columns = len(re.split(" +", first.strip(" ")))
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
        add_note(notes, "document-start", source, number)
        return None
    fields = line.split(layout.separator)
    if layout.numbered:
        reason = _left_out(line, fields[0])
    elif line.startswith("# ") and len(fields) != layout.columns:
        reason = "comment"
    else:
        reason = ""
    if reason:
        add_note(notes, reason, source, number)
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
            add_note(notes, "empty-word", source, number)
            return []
    else:
        separator = "\t" if layout.separator == "\t" and "\t" in line.strip(" \t") else None
        fields = [field for field in re.split(separator or "[ \t]+", line.strip(" \t")) if field]
    if len(fields) == layout.columns and fields[layout.tag]:
        add_note(notes, "irregular-spacing", source, number)
        return fields
    if len(fields) == layout.columns - 1 and line[0] in " \t" and not layout.numbered:
        add_note(notes, "empty-word", source, number)
        return []
    if layout.columns == 2 and len(fields) > 2:
        add_note(notes, "space-in-word", source, number)
        return [" ".join(fields[:-1]), fields[-1]]
    raise DataError(
        "a line has the wrong number of columns",
        where=f"{source}:{number}",
        found=repr(line),
        expected=f"{layout.columns} columns",
        do="give every word a tag, or delete the line",
    )
