"""The store: artifacts by key, each done when its manifest is there.

An artifact is a folder `<store>/<stage>-<12 hex>/`. Whoever makes it writes its files, keeps
what a killed run needs under `work/`, and publishes by renaming `manifest.json` into place last.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from limbeck.errors import ArtifactError, LimbeckError, RecipeError

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the store's layout; a store of a newer one is refused."""

_UMASK = os.umask(0)
os.umask(_UMASK)
_FOLDER = re.compile(r"([a-z]+)-[0-9a-f]{12}")
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
# What safetensors and torch say of a full disk; neither raises OSError.
_FULL = ("os error 28", "No space left on device", "PytorchStreamWriter failed", "unexpected pos")


def key(value: Any) -> str:
    """Give the SHA-256 (hex) of a value's canonical JSON: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def file_hash(path: Path) -> str:
    """Give the SHA-256 (hex) of a file's bytes.

    Raises:
        ArtifactError: The file cannot be read.
    """
    try:
        facts = path.stat()
        return _hash_of(path, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise ArtifactError("cannot be read", where=str(path), found=error.strerror or "") from None


@lru_cache(maxsize=1024)
def _hash_of(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact is, made from what, and what was measured while making it."""

    stage: str
    version: int
    key: str
    section: dict[str, Any]
    inputs: dict[str, str]
    outside: dict[str, str]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    seconds: float = 0.0
    counts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished artifact: its folder and its manifest."""

    folder: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """Give the path of one of its files or folders.

        Raises:
            ArtifactError: It is not there.
        """
        path = self.folder / name
        if not path.exists():
            raise ArtifactError(
                "is missing from the artifact",
                where=str(path),
                do=f"delete {self.folder} and run again",
            )
        return path


@dataclass(frozen=True, slots=True)
class Entry:
    """An artifact's folder as it lies in a store.

    Args:
        folder: The folder.
        stage: The stage that its name tells.
        manifest: Its manifest; None where it is unfinished or damaged.
        problem: Why the manifest cannot be read; empty where it can, or is not there.
    """

    folder: Path
    stage: str
    manifest: Manifest | None = None
    problem: str = ""


class Store:
    """A folder of artifacts, shared by any number of runs.

    Args:
        root: The folder; made if it does not exist.

    Raises:
        ArtifactError: It cannot be made, or a newer limbeck made it.
    """

    def __init__(self, root: Path):
        self.root = root
        marker = root / "store.json"
        try:
            root.mkdir(parents=True, exist_ok=True)
            if not marker.exists():
                write_json(marker, {"format": FORMAT})
        except OSError as error:
            raise ArtifactError(
                "the store cannot be made", where=str(root), found=error.strerror or str(error)
            ) from None
        _check_format(marker)

    def folder(self, stage: str, hexadecimal: str) -> Path:
        """Give the folder that an artifact has or would have."""
        return self.root / f"{stage}-{hexadecimal[:12]}"

    def find(self, stage: str, hexadecimal: str) -> Artifact | None:
        """Give the finished artifact of that key, or nothing.

        Raises:
            ArtifactError: Its manifest cannot be read or is another key's.
        """
        folder = self.folder(stage, hexadecimal)
        manifest = folder / "manifest.json"
        if not manifest.exists():
            return None
        found = _read_manifest(manifest)
        if found.key != hexadecimal:
            raise ArtifactError(
                "belongs to another key",
                where=str(manifest),
                found=found.key,
                expected=hexadecimal,
                do=f"delete {folder} and run again",
            )
        return Artifact(folder, found)

    @contextmanager
    def lock(self, stage: str, hexadecimal: str) -> Iterator[None]:
        """Hold the right to make one artifact; a second run waits here, then finds it done."""
        locks = self.root / "locks"
        locks.mkdir(exist_ok=True)
        lock = FileLock(locks / f"{stage}-{hexadecimal[:12]}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("%s: waits for another run that is making it", stage)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def publish(self, manifest: Manifest) -> Artifact:
        """Declare an artifact done: hash its files, write the manifest, then drop its work folder.

        Raises:
            ArtifactError: The disk is full.
        """
        folder = self.folder(manifest.stage, manifest.key)
        work = folder / "work"
        with disk_errors(folder):
            let_read(path for path in folder.rglob("*") if work not in path.parents)
            values = asdict(manifest)
            values["files"] = {
                path.relative_to(folder).as_posix(): {
                    "sha256": file_hash(path),
                    "bytes": path.stat().st_size,
                }
                for path in sorted(folder.rglob("*"))
                if path.is_file() and work not in path.parents
            }
            write_json(folder / "manifest.json", values)
            # Only now: a run killed before the manifest stands still has what it resumes from.
            shutil.rmtree(work, ignore_errors=True)
        return Artifact(folder, Manifest(**values))

    def artifacts(self, stage: str = "") -> Iterator[Entry]:
        """Give every artifact's folder, of one stage or of all, ordered by name."""
        for folder in sorted(self.root.iterdir()):
            named = _FOLDER.fullmatch(folder.name)
            if not named or stage not in ("", named[1]):
                continue
            manifest = folder / "manifest.json"
            try:
                found = _read_manifest(manifest) if manifest.exists() else None
                yield Entry(folder, named[1], found)
            except ArtifactError as error:
                yield Entry(folder, named[1], problem=str(error))


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn a disk that is full or refuses to be written to into one clear line.

    Raises:
        ArtifactError: No space is left, or writing is not allowed.
    """
    try:
        yield
    except LimbeckError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error, OSError) and number in _REFUSED:
            raise ArtifactError(
                "cannot be written",
                where=str(error.filename or where),
                found=error.strerror or "",
                do="check its permissions or choose another --store",
            ) from error
        if number not in (errno.ENOSPC, errno.EDQUOT) and not any(
            sign in str(error) for sign in _FULL
        ):
            raise
        free = shutil.disk_usage(where if where.exists() else where.parent).free
        raise ArtifactError(
            "the disk is full",
            where=str(where),
            found=f"{free / 1e6:.0f} MB free",
            do="make room and run again: finished stages are kept, this one resumes",
        ) from error


def check_new_folder(output: Path) -> None:
    """Check that a folder can be made: it is not there, or empty.

    Raises:
        RecipeError: It holds something, or is a file.
    """
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        do = "name another folder, or empty this one"
        raise RecipeError("the output folder is not empty", where=str(output), do=do)


def copy_folder(source: Path, output: Path) -> None:
    """Copy a folder; the copy appears whole or not at all.

    Raises:
        RecipeError: The output is not empty.
        ArtifactError: The disk is full, or the output cannot be written.
    """
    check_new_folder(output)
    partial = output.absolute().with_name(f".{output.name}.{os.getpid()}.part")
    with disk_errors(output):
        try:
            shutil.copytree(source, partial)
            partial.replace(output)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def let_read(places: Iterable[Path]) -> None:
    """Give files that safetensors wrote the permissions that other new files have.

    It leaves them readable by their owner alone, and whoever serves a model may be another. Files
    with other permissions, and those of other owners, stay as they are.
    """
    for path in places:
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o777 == 0o600:
            with suppress(PermissionError):
                path.chmod(0o666 & ~_UMASK)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the whole new one."""
    # A process number alone would meet its like from another machine on shared storage.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(value, stream, indent=1, ensure_ascii=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_manifest(path: Path) -> Manifest:
    values = _check_format(path)
    try:
        return Manifest(**values)
    except TypeError as error:
        raise ArtifactError(
            "is no manifest of an artifact",
            where=str(path),
            found=str(error).partition("() ")[2],
            do=_mend(path),
        ) from None


def _check_format(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            "cannot be read as JSON", where=str(path), found=str(error), do=_mend(path)
        ) from None
    found = values.get("format") if isinstance(values, dict) else None
    if not isinstance(found, int):
        raise ArtifactError(
            "was not written by limbeck",
            where=str(path),
            found="no format" if found is None else f"format {found!r}",
            expected=f"format {FORMAT} or older",
            do=_mend(path),
        )
    if found > FORMAT:
        raise ArtifactError(
            "was written by a newer limbeck",
            where=str(path),
            found=f"format {found}",
            expected=f"format {FORMAT} or older",
            do="upgrade limbeck or choose another --store",
        )
    return dict(values)


def _mend(path: Path) -> str:
    if path.name == "manifest.json":
        return f"delete {path.parent} and run again"
    return "delete it and run again, or choose another --store"
