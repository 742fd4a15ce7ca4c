"""Reads tables of texts, or of pairs of texts, with labels: TSV, JSON lines, hub datasets.

What a column holds is told from its name in the header, not from the benchmark. A row is a line,
and quotes are characters like others: social media are full of them. Only a table with a
`headline` (MasakhaNEWS) is quoted as CSV is, and its fields may go over several lines.
"""

import csv
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.benchmarks import tables
from limbeck.benchmarks.lines import lines_of
from limbeck.benchmarks.rows import SPLIT_NAMES, Notes, add_note
from limbeck.errors import DataError

TEXT = ("text", "tweet", "sentence")
FIRST = ("premise", "sentence1", "sentence_A")
SECOND = ("hypothesis", "hypo", "sentence2", "sentence_B")
LABEL = ("label", "gold_label", "category", "entailment_judgment", "entailment_label")
"""Columns that may hold the text, both texts of a pair, the label; the first there is read."""

ENGLISH = ("eng", "en")
"""What English is called; sets of English alone name no language."""

_HUB_SPLITS = {
    "dev": (*SPLIT_NAMES["dev"], "validation_matched"),
    "test": (*SPLIT_NAMES["test"], "validation_mismatched"),
}


@dataclass(frozen=True, slots=True)
class TextRow:
    """A row as published; `pair` is None in tables of single texts, `language` often empty."""

    text: str
    pair: str | None
    label: str
    language: str
    line: int


@dataclass(frozen=True, slots=True)
class TextTable:
    """All rows of a table, where they come from, and what was mended."""

    source: str
    rows: tuple[TextRow, ...]
    notes: Notes


def files(root: str | Path, language: str, split: str) -> list[Path]:
    """Gives the files that `texts.load` would read, sorted; none where the root is a hub id.

    Of a folder laid out as a hub dataset these are all tables of the language, for their names
    need not tell the split.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        return []
    inner = folder / language
    return find(folder, language, split) or hub_tables(inner if inner.is_dir() else folder)


def find(folder: Path, language: str, split: str) -> list[Path]:
    """Gives the files of a split in the first published layout that has any, sorted."""
    for group in _layouts(language, split):
        paths = sorted(folder / name for name in group if (folder / name).is_file())
        if paths:
            return paths
    return []


def _layouts(language: str, split: str) -> list[list[str]]:
    """Gives names of files below the root, those that exclude each other in one group."""
    names = SPLIT_NAMES.get(split, (split,))
    inner = [f"{language}/{name}{kind}" for name in names for kind in (".tsv", ".jsonl")]
    pawsx = "translated_train" if split == "train" else f"{split}_2k"
    xnli = f"multinli.train.{language}.tsv" if split == "train" else f"xnli.{split}.tsv"
    xnli_folder = "XNLI-MT-1.0/multinli" if split == "train" else "XNLI-1.0"
    groups = [
        inner,
        [f"data/{name}" for name in inner],
        [f"{name}/{language}.tsv" for name in names],
        [f"{language}/{pawsx}.tsv", f"x-final/{language}/{pawsx}.tsv"],
        [xnli, f"multinli/{xnli}", f"{xnli_folder}/{xnli}"],
    ]
    if language in ENGLISH:
        multinli = {"dev": "dev_matched", "test": "dev_mismatched"}.get(split, split)
        sick = {"dev": "trial", "test": "test_annotated"}.get(split, split)
        groups += [[f"multinli_1.0_{multinli}{kind}"] for kind in (".jsonl", ".txt")]
        groups.append([f"SICK_{sick}.txt"])
    return groups


def hub_tables(folder: Path) -> list[Path]:
    """Gives the tables of a folder laid out as a hub dataset, sorted; MultiNLI's own are none."""
    return [path for path in tables.hub_tables(folder) if not path.name.startswith("multinli_")]


def read_table_file(path: Path, *, is_pair: bool) -> TextTable:
    """Gives the rows of a file: JSON lines where it ends in `.jsonl`, else TSV with a header.

    A headline and its text are one text, with a line break between them.

    Args:
        path: The file.
        is_pair: Whether it has two texts a row.

    Raises:
        DataError: the file is not UTF-8, is empty, lacks a column, or has a row that is not of
            its header.
    """
    notes: Notes = {}
    source = str(path)
    lines = lines_of(path, notes)
    if not lines[-1]:
        lines.pop()
    if path.suffix == ".jsonl":
        rows = _json_rows(lines, source, notes, is_pair=is_pair)
    else:
        rows = _tsv_rows(lines, source, notes, is_pair=is_pair)
    return _table(source, rows, notes)


def read_hub_table(root: str, configuration: str | None, split: str, *, is_pair: bool) -> TextTable:
    """Gives the rows of a dataset with columns of texts and labels, through `datasets`.

    Args:
        root: Hub id, or a folder laid out as a hub dataset.
        configuration: Of the dataset, or a folder inside `root`; None where it has only one.
        split: "train", "dev" or "test".
        is_pair: Whether it has two texts a row.

    Raises:
        DataError: the dataset does not load, or lacks a column.
    """
    source = f"{root}/{configuration}/{split}" if configuration else f"{root}/{split}"
    table = tables.load_hub(
        root, configuration, split, spellings=_HUB_SPLITS.get(split), where=source
    )
    roles = _roles_of(table.column_names, source, is_pair=is_pair)
    table = table.select_columns(list(roles.columns))
    names = getattr(table.features[roles.label], "names", None)

    def rows() -> Iterator[TextRow]:
        for number, fields in enumerate(table, start=1):
            label = fields[roles.label]
            if names and isinstance(label, int) and 0 <= label < len(names):
                fields = fields | {roles.label: names[label]}
            yield _row(fields, roles, source, number)

    return _table(source, rows(), {})


@dataclass(frozen=True, slots=True)
class _Roles:
    """Which columns hold what."""

    text: tuple[str, ...]
    pair: str | None
    label: str
    language: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(
            name for name in (*self.text, self.pair, self.label, self.language) if name is not None
        )


def _roles_of(columns: Sequence[str], source: str, *, is_pair: bool) -> _Roles:
    def find(wanted: Sequence[str]) -> str:
        for name in wanted:
            if name in columns:
                return name
        raise DataError(
            "the table lacks a column",
            where=source,
            found="the columns " + ", ".join(columns),
            expected="one of " + ", ".join(wanted),
            do="name the columns in the first line" if source.endswith(":1") else "",
        )

    language = "language" if "language" in columns else None
    if is_pair:
        return _Roles((find(FIRST),), find(SECOND), find(LABEL), language)
    headline = ("headline",) if "headline" in columns else ()
    return _Roles((*headline, find(TEXT)), None, find(LABEL), language)


def _row(fields: Mapping[str, Any], roles: _Roles, source: str, line: int) -> TextRow:
    found = {}
    for name in roles.columns:
        if name not in fields:
            raise DataError(
                "a row lacks a column",
                where=f"{source}:{line}",
                found=", ".join(fields),
                expected=name,
            )
        value = fields[name]
        if value is not None and not isinstance(value, str | int):
            raise DataError(
                "a row has something else than a text",
                where=f"{source}:{line}",
                found=f"{name} = {value!r}",
                expected="a text",
            )
        found[name] = "" if value is None else str(value)
    texts = [found[name] for name in roles.text]
    return TextRow(
        text="\n".join(texts) if all(text.strip() for text in texts) else "",
        pair=None if roles.pair is None else found[roles.pair],
        label=found[roles.label].strip(),
        language="" if roles.language is None else found[roles.language].strip(),
        line=line,
    )


def _table(source: str, rows: Iterable[TextRow], notes: Notes) -> TextTable:
    found = tuple(rows)
    if not found:
        raise DataError("there is no row in this table", where=source)
    for row in found:
        text = row.text + (row.pair or "")
        if not text.isascii() and not unicodedata.is_normalized("NFC", text):
            add_note(notes, "not-nfc", source, row.line)
    return TextTable(source, found, notes)


def _tsv_rows(
    lines: Sequence[str], source: str, notes: Notes, *, is_pair: bool
) -> Iterator[TextRow]:
    start = next((i for i, line in enumerate(lines) if line.strip(" \t")), None)
    if start is None:
        raise DataError("the file is empty", where=source)
    columns = [name.strip() for name in lines[start].split("\t")]
    roles = _roles_of(columns, f"{source}:{start + 1}", is_pair=is_pair)
    split = _quoted if "headline" in columns else _plain
    for line, fields in split(lines, start + 1, source, notes):
        if len(fields) != len(columns):
            raise DataError(
                "a row has the wrong number of fields",
                where=f"{source}:{line}",
                found=f"{len(fields)}: {' | '.join(field[:30] for field in fields)!r}",
                expected=f"{len(columns)}: {', '.join(columns)}",
                do="look for a tab inside a text, or a line break",
            )
        yield _row(dict(zip(columns, fields, strict=True)), roles, source, line)


def _plain(
    lines: Sequence[str], start: int, source: str, notes: Notes
) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines[start:], start=start + 1):
        if not line.strip(" \t"):
            add_note(notes, "blank-line", source, number)
            continue
        fields = line.split("\t")
        if any(field.startswith('"') for field in fields):
            add_note(notes, "quote-kept", source, number)
        yield number, fields


_LONGEST_FIELD = 2**31 - 1
"""The csv module takes fields over 128 kB for damage; an article may be longer."""


def _quoted(
    lines: Sequence[str], start: int, source: str, notes: Notes
) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader((line + "\n" for line in lines[start:]), delimiter="\t", strict=True)
    while True:
        number = start + reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                "a row is not quoted as CSV is",
                where=f"{source}:{number}",
                found=f"{error}, in the row that begins {lines[number - 1][:60]!r}",
                do="double the quotes inside a field, and close the one around it",
            ) from error
        if fields:
            yield number, fields
        else:
            add_note(notes, "blank-line", source, number)


def _json_rows(
    lines: Sequence[str], source: str, notes: Notes, *, is_pair: bool
) -> Iterator[TextRow]:
    roles = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            add_note(notes, "blank-line", source, number)
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise DataError(
                "a line is not JSON", where=f"{source}:{number}", found=str(error)
            ) from error
        if not isinstance(fields, dict):
            raise DataError("a line is no JSON object", where=f"{source}:{number}", found=line[:60])
        roles = roles or _roles_of(list(fields), f"{source}:{number}", is_pair=is_pair)
        yield _row(fields, roles, source, number)
