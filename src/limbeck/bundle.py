"""The bundle: a folder, or one `.limbeck` file, that answers a task without torch.

It holds `model.onnx`, `tokenizer.json`, `limbeck.json` (what is answered and how, checksums of the
other files) and `README.md`. Nothing in it is code, and nothing is unpickled.
"""

import hashlib
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_origin

from limbeck.artifact import check_new_folder, disk_errors, file_hash, key, write_json
from limbeck.backends import USUAL
from limbeck.errors import ArtifactError

FORMAT = 2
"""Version of the layout; a bundle of a newer one is refused. In 1, `backend` is not told."""

RECORD, MODEL, TOKENIZER, CARD = "limbeck.json", "model.onnx", "tokenizer.json", "README.md"
BUNDLED = "student, bundle"
"""What a run calls the student as it is shipped, beside the student in torch."""
SUFFIX = ".limbeck"
"""Of a bundle in one file, a zip archive."""
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError,
)  # fmt: skip
_FILES = (RECORD, MODEL, TOKENIZER, CARD)
_SMALL_BYTES, _MOST_SWOLLEN = 1 << 20, 100
"""A file in an archive may be so many bytes and so many times what it is packed; weights hardly
shrink, and a hundred is far more than text does."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What `limbeck.json` says.

    Args:
        task: A name of `TASKS`.
        labels: In the order of the classes.
        max_pieces: The longest window.
        pad_id: The padding piece.
        inputs: Names of the graph's inputs, of `answering.side_by_side`'s batch.
        precision: "fp32" or "int8".
        settings: By which the task's predictions are settled.
        languages: The source and the targets, where known.
        scores: What was measured when it was made.
        cost: The fields of `bench.Cost`; of a bundle made before them, none.
        versions: Of the packages that made it.
        backend: What runs the graph, a key of `BACKENDS`.
    """

    task: str
    labels: tuple[str, ...]
    max_pieces: int
    pad_id: int
    inputs: tuple[str, ...]
    precision: str
    settings: Mapping[str, float] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    scores: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    backend: str = USUAL


def is_bundle(path: Path) -> bool:
    """Whether a path stands for a bundle, be it whole, damaged or missing, and not for a model.

    A file, whatever its name; a name that ends with `.limbeck`; a folder with a record, or with a
    graph and no model beside it.
    """
    if (path / RECORD).is_file() or path.is_file() or path.suffix == SUFFIX:
        return True
    return (path / MODEL).is_file() and not (path / "config.json").is_file()


def bytes_on_disk(path: Path) -> int:
    """Give the bytes of a bundle or a model, be it one file or a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(one.stat().st_size for one in files if one.is_file())


def write_bundle(files: Path, about: Bundle, output: Path) -> None:
    """Write a bundle from a folder that holds its files but the record.

    Args:
        files: Folder with the model, the tokenizer and the card.
        about: What the record says.
        output: A new folder, or a new file where the name ends with `.limbeck`.

    Raises:
        ArtifactError: A file is missing, or the output cannot be written.
        RecipeError: The output is there already.
    """
    check_new_folder(output)
    sums = {name: file_hash(files / name) for name in _FILES if name != RECORD}
    record = {"format": FORMAT, **asdict(about), "sha256": sums}
    write_json(files / RECORD, record | {"record": _digest(record)})
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    partial = output.absolute().with_name(f".{output.name}.{os.getpid()}.part")
    with disk_errors(output):
        try:
            if output.suffix == SUFFIX:
                with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
                    for name in _FILES:
                        # No date of the files': the same model gives the same bytes.
                        entry = zipfile.ZipInfo(name)
                        entry.compress_type = zipfile.ZIP_DEFLATED
                        archive.writestr(entry, (files / name).read_bytes())
            else:
                partial.mkdir()
                for name in _FILES:
                    shutil.copyfile(files / name, partial / name)
            partial.replace(output)
        finally:
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)


def read_bundle(path: Path) -> tuple[Bundle, dict[str, bytes]]:
    """Read a bundle whole, and check every byte of it.

    Returns:
        What the record says, and the files' contents by name.

    Raises:
        ArtifactError: It is missing or damaged, a newer limbeck's, or holds files that no bundle
            holds.
    """
    record, files = _from_archive(path) if path.is_file() else _from_folder(path)
    sums = record.pop("sha256", None)
    for name, content in files.items():
        if not isinstance(sums, dict) or sums.get(name) != hashlib.sha256(content).hexdigest():
            raise _damaged(path, name)
    return _about(record, path), files


def card(about: Bundle) -> str:
    """Give a bundle's card, in Markdown."""
    found = about.scores
    lines = [
        f"# A bundle of limbeck: {about.task}",
        "",
        f"- Languages: {', '.join(about.languages) or 'not recorded'}",
        f"- Labels: {', '.join(about.labels)}",
        f"- Precision: {about.precision}, run by {about.backend}; windows of at most "
        f"{about.max_pieces} pieces",
        f"- In 32 bits it agrees with torch in {100 * found['agreement']:.2f} % of the answers on "
        f"{found['sentences']} sentences; scores differ by "
        f"at most {found['largest_difference']:.2g}",
    ]
    if "int8" in found:
        told = found["int8"]
        kept = f"; kept in 32 bits: {', '.join(told['kept'])}" if told["kept"] else ""
        alone = ""
        over = 100 * (told["fall"] - told["tolerance"])
        if over > 0.005:
            alone = f"; {over:.2f} more than the {100 * told['tolerance']:.2f} allowed, which is "
            alone += "no more than one of them makes"
        lines.append(
            f"- In 8 bits {told['metric']} is {100 * told['int8']:.2f}, in 32 bits "
            f"{100 * told['fp32']:.2f} (n = {told['n']}{alone}){kept}"
        )
    lines += [f"- Tried: {trial(one)}" for one in found.get("tried", ())]
    return "\n".join(
        [
            *lines,
            "",
            "`limbeck predict BUNDLE FILE` answers; so does",
            "",
            "```python",
            "import limbeck",
            "",
            'limbeck.load("BUNDLE").predict(["…"])',
            "```",
            "",
        ]
    )


def trial(row: Mapping[str, Any]) -> str:
    """Give in words how a candidate fared, one of `scores["tried"]`."""
    name = f"{row['backend']}, {row['quantization']}"
    if "refused" in row:
        return f"{name}: refused ({row['refused']})"
    score = f", {row['metric']} {100 * row['score']:.2f}" if "score" in row else ""
    return f"{name}: {row['p50_ms']:.2f} ms a sentence (median of {row['n']}){score}"


def _digest(record: Mapping[str, Any]) -> str:
    """Give the hash of a record's fields, but for the one that holds it."""
    return key({name: value for name, value in record.items() if name != "record"})


def _damaged(path: Path, name: str) -> ArtifactError:
    return ArtifactError(
        "the bundle is damaged: a file has another checksum",
        where=f"{path}: {name}",
        do="fetch or export it again",
    )


def _from_folder(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    if not path.is_dir():
        raise ArtifactError("no such bundle", where=str(path), expected="a folder or a .limbeck")
    try:
        record = _record((path / RECORD).read_bytes(), path)
        return record, {name: (path / name).read_bytes() for name in _FILES if name != RECORD}
    except OSError as error:
        raise _missing(path, Path(str(error.filename)).name) from None


def _from_archive(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            # Nothing is unpacked to disk, and no name but a bundle's own is read. The record comes
            # first: a newer bundle may hold more.
            record = _record(_unpacked(archive, RECORD), path)
            strange = [name for name in archive.namelist() if name not in _FILES]
            if strange:
                raise ArtifactError(
                    "the archive holds a file that no bundle holds",
                    where=str(path),
                    found=repr(strange[0]),
                    expected=", ".join(_FILES),
                )
            return record, {name: _unpacked(archive, name) for name in _FILES if name != RECORD}
    except KeyError as error:
        name = next((name for name in _FILES if name in str(error)), str(error))
        raise _missing(path, name) from None
    except _UNREADABLE as error:
        raise ArtifactError(
            "this is no bundle: not a readable zip archive",
            where=str(path),
            found=str(error),
            do="fetch or export it again",
        ) from None


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    """Give a file's content, but for one that would swell out of all proportion."""
    entry = archive.getinfo(name)
    if entry.file_size > _SMALL_BYTES + _MOST_SWOLLEN * entry.compress_size:
        raise zipfile.BadZipFile(f"{name} would unpack to {entry.file_size:,} bytes")
    return archive.read(name)


def _missing(path: Path, name: str) -> ArtifactError:
    return ArtifactError(
        "a file of the bundle is missing",
        where=str(path),
        found=f"no {name}",
        expected=", ".join(_FILES),
        do="fetch or export it again",
    )


def _record(content: bytes, path: Path) -> dict[str, Any]:
    where = f"{path}: {RECORD}"
    try:
        record = json.loads(content)
        version = int(record.pop("format"))
        if version < 1:
            raise ValueError(version)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            "the bundle's record cannot be read", where=where, found=str(error)
        ) from None
    if version > FORMAT:
        raise ArtifactError(
            "the bundle is a newer limbeck's",
            where=where,
            found=f"format {version}",
            expected=f"at most {FORMAT}",
            do="upgrade limbeck",
        )
    if record.get("record") != _digest({"format": version, **record}):
        raise _damaged(path, RECORD)
    del record["record"]
    return dict(record)


def _about(record: Mapping[str, Any], path: Path) -> Bundle:
    """Give what a record says.

    Raises:
        ArtifactError: A field is missing, strange or of another kind.
    """
    known = {one.name: one for one in fields(Bundle)}
    needed = {name for name, one in known.items() if one.default_factory is one.default is MISSING}
    wrong = [f"no {name}" for name in sorted(needed - record.keys())]
    for name, value in record.items():
        if name not in known:
            wrong.append(f"a field {name}")
        elif not _is_of_kind(value, known[name].type):
            wrong.append(f"{name} is of another kind")
    if wrong:
        raise ArtifactError(
            "the bundle's record is not as limbeck writes it",
            where=f"{path}: {RECORD}",
            found=", ".join(wrong),
            do="export it again, or upgrade limbeck",
        )
    lists = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
    return Bundle(**{**record, **lists})


def _is_of_kind(value: Any, kind: Any) -> bool:
    if kind == tuple[str, ...]:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, get_origin(kind) or kind)
