"""The store: artifacts by key, each done when its manifest is there.

An artifact is a folder `<store>/<stage>-<12 hex>/`. Whoever makes it writes its files, keeps
what a killed run needs under `work/`, and publishes by renaming `manifest.json` into place last.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from limbeck.errors import ArtifactError

FORMAT = 1
"""Version of the store's layout; a store of a newer one is refused."""


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
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError("cannot be read", where=str(path), found=error.strerror or "") from None


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
        values = _check_format(manifest)
        if values.get("key") != hexadecimal:
            raise ArtifactError(
                "belongs to another key",
                where=str(manifest),
                found=str(values.get("key")),
                expected=hexadecimal,
                do=f"delete {folder} and run again",
            )
        return Artifact(folder, Manifest(**values))

    @contextmanager
    def lock(self, stage: str, hexadecimal: str) -> Iterator[None]:
        """Hold the right to make one artifact; a second run waits here, then finds it done."""
        locks = self.root / "locks"
        locks.mkdir(exist_ok=True)
        with FileLock(locks / f"{stage}-{hexadecimal[:12]}.lock"):
            yield

    def publish(self, manifest: Manifest) -> Artifact:
        """Declare an artifact done: hash its files, drop its work folder, write the manifest last.

        Raises:
            ArtifactError: The disk is full.
        """
        folder = self.folder(manifest.stage, manifest.key)
        with disk_errors(folder):
            shutil.rmtree(folder / "work", ignore_errors=True)
            values = asdict(manifest)
            values["files"] = {
                path.relative_to(folder).as_posix(): {
                    "sha256": file_hash(path),
                    "bytes": path.stat().st_size,
                }
                for path in sorted(folder.rglob("*"))
                if path.is_file() and path.name != "manifest.json"
            }
            write_json(folder / "manifest.json", values)
        return Artifact(folder, Manifest(**values))

    def artifacts(self) -> Iterator[tuple[Path, Manifest | None]]:
        """Give every artifact folder with its manifest, or None where it is unfinished."""
        for folder in sorted(self.root.iterdir()):
            if folder.is_dir() and "-" in folder.name:
                manifest = folder / "manifest.json"
                yield folder, Manifest(**_check_format(manifest)) if manifest.exists() else None


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn a full disk into one clear line.

    Raises:
        ArtifactError: No space is left.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(where if where.exists() else where.parent).free
        raise ArtifactError(
            "the disk is full",
            where=str(where),
            found=f"{free / 1e6:.0f} MB free",
            do="make room and run again: finished stages are kept, this one resumes",
        ) from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, ensure_ascii=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _check_format(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            "cannot be read as JSON", where=str(path), found=str(error), do="delete it, run again"
        ) from None
    found = values.get("format")
    if not isinstance(found, int) or found > FORMAT:
        raise ArtifactError(
            "was written by a newer limbeck",
            where=str(path),
            found=f"format {found}",
            expected=f"format {FORMAT} or older",
            do="upgrade limbeck or choose another --store",
        )
    return dict(values)
