"""Read unlabelled text: files of four kinds, or a dataset of the hub, one text after another."""

import gzip
import importlib
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import DataError, LimbeckError, RecipeError

SUFFIXES = (".txt", ".jsonl", ".json", ".parquet")
BATCH_TEXTS, BATCH_CHARACTERS = 2048, 1 << 20


@dataclass(frozen=True, slots=True)
class CorpusSource:
    """Where the text of one language is: files, or a dataset of the hub.

    Args:
        path: A file or a glob; .txt (one text a line), .jsonl or .json (one object a line), each
            also with .gz, or .parquet.
        hub: A dataset id, or a local folder laid out like one; read in streaming.
        name: The configuration of the hub dataset.
        split: The split of the hub dataset.
        column: The field that holds the text; not used for .txt.

    Raises:
        RecipeError: Neither or both of `path` and `hub` are given.
    """

    path: str | None = None
    hub: str | None = None
    name: str | None = None
    split: str = "train"
    column: str = "text"

    def __post_init__(self) -> None:
        if bool(self.path) == bool(self.hub):
            found = f"path={self.path!r}, hub={self.hub!r}"
            raise RecipeError("a corpus is read from a path or from the hub", found=found)


@dataclass(frozen=True, slots=True)
class Line:
    """One text as it was read: `number` counts lines (rows) of `file` from 1."""

    text: str
    file: str
    number: int


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        do = "fetch or compress it again"
        raise DataError("damaged gzip", where=str(file), found=str(problem), do=do) from problem
    except OSError as problem:
        found = problem.strerror or str(problem)
        raise DataError("cannot be read", where=str(file), found=found) from problem


def _need(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        do = "type: pip install 'limbeck[train]'"
        raise DataError(f"{module.split('.')[0]} is not installed", do=do) from problem


def find_files(source: CorpusSource, *, language: str) -> list[Path]:
    """List the files of a source, sorted by name; none for the hub.

    Raises:
        DataError: No file matches, a folder was given, or a file has a suffix not known.
    """
    if source.hub:
        return []
    where, path = f"corpus.{language}", Path(source.path or "").expanduser()
    files = [path]
    if not path.exists() and any(sign in str(path) for sign in "*?["):
        pattern = str(path.relative_to(path.anchor))
        files = sorted(file for file in Path(path.anchor).glob(pattern) if file.is_file())
        if not files:
            raise DataError("no file matches", where=where, found=str(path))
    for file in files:
        if file.is_dir():
            do = f"write {path}/*.txt, or {{ hub = ... }} for a dataset folder"
            raise DataError("a folder where a file is needed", where=where, found=str(file), do=do)
        if not file.exists():
            raise DataError("no such file", where=where, found=str(file))
        if _suffix(file) not in SUFFIXES:
            expected = f"{', '.join(SUFFIXES)}, or one of the first three with .gz"
            raise DataError("unknown suffix", where=where, found=file.name, expected=expected)
    return files


def _suffix(file: Path) -> str:
    suffix = Path(file.name.lower().removesuffix(".gz")).suffix
    return ".gz" if suffix == ".parquet" and file.suffix.lower() == ".gz" else suffix


def read(source: CorpusSource, *, language: str) -> Iterator[Line]:
    r"""Yield the texts of a source as they are written, in order.

    A line ends at ``\n``, ``\r\n`` or ``\r``; a byte-order mark at the start is skipped; a null
    in a column is an empty text. Files are found at once, read as the result is iterated.

    Raises:
        DataError: A file is missing, unreadable, damaged, not UTF-8 or not JSON lines; the column
            is missing or holds no text; the hub dataset cannot be read; a library is missing.
    """
    files = find_files(source, language=language)
    if source.hub:
        return _read_hub(source, language)
    readers = {".txt": _read_text, ".parquet": _read_parquet}
    return (line for file in files for line in readers.get(_suffix(file), _read_json)(file, source))


def _decoded(file: Path) -> Iterator[tuple[int, str]]:
    offset = 0
    with (
        _reading(file),
        gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as handle,
    ):
        for number, raw in enumerate(handle, start=1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as problem:
                utf16 = " (it looks like UTF-16)" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
                start = problem.start + 3 * (number == 1 and raw.startswith(b"\xef\xbb\xbf"))
                found = f"byte 0x{raw[start]:02x} at byte offset {offset + start}{utf16}"
                where, do = f"{file}:{number}", "save it as UTF-8"
                raise DataError("not UTF-8", where=where, found=found, do=do) from problem
            offset += len(raw)
            yield number, text


def _read_text(file: Path, source: CorpusSource) -> Iterator[Line]:
    for number, text in _decoded(file):
        for part in text.rstrip("\r\n").split("\r"):
            yield Line(part, str(file), number)


def _read_json(file: Path, source: CorpusSource) -> Iterator[Line]:
    for number, text in _decoded(file):
        if not text.strip():
            yield Line("", str(file), number)
            continue
        where = f"{file}:{number}"
        try:
            row = json.loads(text)
        except ValueError as problem:
            expected = "one JSON object a line"
            raise DataError(
                "bad JSON", where=where, found=str(problem), expected=expected
            ) from problem
        if not isinstance(row, dict):
            found, expected = type(row).__name__, "one JSON object a line"
            raise DataError("not an object", where=where, found=found, expected=expected)
        _check_column(source.column, list(row), where)
        yield Line(_text(row[source.column], source.column, where), str(file), number)


def _read_parquet(file: Path, source: CorpusSource) -> Iterator[Line]:
    arrow, parquet = _need("pyarrow"), _need("pyarrow.parquet")
    number = 0
    try:
        with _reading(file), parquet.ParquetFile(file) as table:
            _check_column(source.column, table.schema_arrow.names, str(file))
            for batch in table.iter_batches(batch_size=1024, columns=[source.column]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    text = _text(value, source.column, f"{file}:{number}")
                    yield Line(text, str(file), number)
    except arrow.ArrowException as problem:
        raise DataError("cannot be read", where=str(file), found=str(problem)) from problem


def _read_hub(source: CorpusSource, language: str) -> Iterator[Line]:
    datasets = _need("datasets")
    where = f"corpus.{language}: {source.hub}"
    try:
        rows = datasets.load_dataset(source.hub, source.name, split=source.split, streaming=True)
        if rows.column_names is not None:
            _check_column(source.column, rows.column_names, where)
            rows = rows.select_columns([source.column])
        for number, row in enumerate(rows, start=1):
            _check_column(source.column, list(row), where)
            text = _text(row[source.column], source.column, f"{where}:{number}")
            yield Line(text, str(source.hub), number)
    except LimbeckError:
        raise
    except Exception as problem:  # the hub raises from four libraries, without a common parent
        do = "check the id, `name`, `split` and the network"
        found = f"{type(problem).__name__}: {problem}"
        raise DataError("cannot be read", where=where, found=found, do=do) from problem


def _check_column(column: str, columns: list[str], where: str) -> None:
    if column not in columns:
        do, found = "set `column`", f"columns {', '.join(columns)}"
        raise DataError(f"no column {column!r}", where=where, found=found, do=do)


def _text(value: object, column: str, where: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    found = type(value).__name__
    raise DataError(f"column {column!r} holds no text", where=where, found=found)


def read_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a file of one clean text a line, as `corpus.prepare` writes it.

    Raises:
        DataError: The file is missing, unreadable or not UTF-8.
    """
    for _, text in _decoded(path):
        yield text.rstrip("\n")


def batches_of(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield texts in batches of `BATCH_TEXTS`, or fewer once they hold `BATCH_CHARACTERS`."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) >= BATCH_TEXTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
