"""Reads datasets of the hub, or folders laid out like one, that have word and tag columns."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from limbeck.benchmarks.rows import SPLIT_NAMES, Notes, Reading, add_note, note_words, row_of
from limbeck.errors import DataError

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")
"""What may be the id of a hub dataset: a name, or an owner and a name."""
WORD_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("ner_tags", "upos", "pos_tags", "tags", "labels")
"""Columns that may hold words and tags; the first that is there is read."""


def read_table(root: str, language: str, split: str) -> Reading:
    """Gives the sentences of a dataset with word and tag columns, through `datasets`.

    Args:
        root: Hub id, or a folder laid out as a hub dataset.
        language: Configuration of the dataset, or a folder inside `root`.
        split: "train", "dev" or "test".

    Raises:
        DataError: the dataset does not load, or has no column of words or of tags.
    """
    table = load_hub(root, language, split)
    source = f"{root}/{language}/{split}"
    word_column = column_of(table.column_names, WORD_COLUMNS, source)
    tag_column = column_of(table.column_names, TAG_COLUMNS, source)
    feature = table.features[tag_column]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    notes: Notes = {}
    rows = []
    for number, (words, tags) in enumerate(
        zip(table[word_column], table[tag_column], strict=True), start=1
    ):
        words, tags = words or [], tags or []
        if len(words) != len(tags):
            raise DataError(
                "a row needs one tag per word",
                where=f"{source}:{number}",
                found=f"{len(tags)} tags for {len(words)} words",
            )
        spelt = [names[tag] if names and 0 <= tag < len(names) else str(tag) for tag in tags]
        kept = [(word, tag, number) for word, tag in zip(words, spelt, strict=True) if word]
        for _ in range(len(words) - len(kept)):
            add_note(notes, "empty-word", source, number)
        if kept:
            rows.append(row_of(kept))
        else:
            add_note(notes, "empty-sentence", source, number)
    if not rows:
        raise DataError("there is no sentence in this dataset", where=source)
    note_words(rows, source, notes)
    return Reading(source, tuple(rows), notes)


def column_of(present: Sequence[str], wanted: Sequence[str], source: str) -> str:
    """Gives the first of the wanted columns that is there.

    Raises:
        DataError: none is.
    """
    for name in wanted:
        if name in present:
            return name
    raise DataError(
        "the dataset lacks a column",
        where=source,
        found="the columns " + ", ".join(present),
        expected="one of " + ", ".join(wanted),
    )


def hub_tables(folder: Path) -> list[Path]:
    """Gives the tables of a folder laid out as a hub dataset, sorted."""
    return sorted(path for kind in ("*.parquet", "*.jsonl") for path in folder.rglob(kind))


def files_of(root: str | Path, language: str, find: Callable[[Path], list[Path]]) -> list[Path]:
    """Gives the files that `find` finds below a root, or else a hub layout's tables.

    Args:
        root: A folder; of a hub id there is no file.
        language: A folder in it, whose tables alone are taken where it is there.
        find: Folder to the files of a published layout.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        return []
    inner = folder / language
    return find(folder) or hub_tables(inner if inner.is_dir() else folder)


def inventory(folder: Path, find: Callable[[str, str], object]) -> str:
    """Tells which folders inside hold which splits, for messages.

    Args:
        folder: Where to look.
        find: Name of an inner folder and split to the files there, if any.
    """
    found = []
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        splits = [split for split in SPLIT_NAMES if find(inner.name, split)]
        if splits:
            found.append(f"{inner.name} ({', '.join(splits)})")
    return ", ".join(found) or "no folder with a train, dev or test file"


def load_hub(
    root: str,
    configuration: str | None,
    split: str,
    *,
    spellings: Sequence[str] | None = None,
    where: str = "",
) -> Any:
    """Gives a split of a hub dataset, or of a folder laid out as one, as a `datasets.Dataset`.

    Args:
        root: Hub id or folder.
        configuration: Usually a language.
        split: "train", "dev" or "test".
        spellings: What the split may be called; None for the usual names.
        where: The place as a message tells it; the three before with slashes if not given.

    Raises:
        DataError: it cannot be loaded.
    """
    where = where or f"{root}/{configuration}/{split}"
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "reading from the hub needs the library datasets",
            where=where,
            do="type: pip install 'limbeck[train]'",
        ) from error
    local = Path(root) / configuration if configuration else None
    path, name = (str(local), None) if local and local.is_dir() else (root, configuration)
    names = spellings or SPLIT_NAMES.get(split, (split,))
    last: Exception | None = None
    for spelling, revision in _attempts(names, hub=not Path(root).is_dir()):
        try:
            return datasets.load_dataset(path, name, split=spelling, revision=revision)
        except (OSError, ValueError, RuntimeError) as error:
            last = last or error
    raise DataError(
        "neither a folder here nor a dataset that loads",
        where=where,
        found=f"{type(last).__name__}: {last}",
        do="check the path, the configuration's name and the connection",
    ) from last


def _attempts(names: Sequence[str], *, hub: bool) -> Iterator[tuple[str, str | None]]:
    """Gives names of the split and revisions to try.

    `datasets` 4 and later do not run loading scripts; the hub keeps a parquet conversion of
    datasets that have one under its own revision.
    """
    for revision in (None, "refs/convert/parquet") if hub else (None,):
        for spelling in names:
            yield spelling, revision
