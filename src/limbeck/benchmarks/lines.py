"""Text files as lines: UTF-8 or an error, whatever the line ends."""

from pathlib import Path

from limbeck.benchmarks.rows import Notes, add_note
from limbeck.errors import DataError


def lines_of(path: Path, notes: Notes) -> list[str]:
    """Gives the lines of a text file, the last one empty where the file ends with a line break.

    A byte-order mark and carriage returns are left out and noted.

    Raises:
        DataError: the file cannot be read, or is not UTF-8.
    """
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
        add_note(notes, "byte-order-mark", str(path), 1)
        text = text[1:]
    if "\r" not in text:
        return text.split("\n")
    if "\n" not in text:
        text = text.replace("\r", "\r\n")
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if "\r" in line:
            add_note(notes, "carriage-return", str(path), number)
        lines.append(line.rstrip("\r").replace("\r", " "))
    return lines
