"""Which pieces a trimmed vocabulary keeps: old ids to new ones and back."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import ArtifactError, DataError

UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, DataError)


@dataclass(frozen=True, slots=True, eq=False)
class PieceMap:
    """Which old pieces a trimmed vocabulary keeps, as ids both ways.

    Args:
        kept: Old id of every new piece, strictly rising, int32 [V'].
        old_size: Number of old ids, V.

    Raises:
        DataError: If `kept` is no rising list of ids below `old_size`.
    """

    kept: np.ndarray
    old_size: int
    old_to_new: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the ids and build `old_to_new`, int32 [V], -1 for a piece that is gone."""
        given = np.asarray(self.kept)
        if given.ndim != 1 or not given.size or given.dtype.kind not in "iu":
            found = f"{given.dtype} of shape {given.shape}"
            raise DataError("a piece map needs a list of ids", where="kept", found=found)
        if (
            given[0] < 0
            or given[-1] >= self.old_size
            or np.any(np.diff(given.astype(np.int64)) < 1)
        ):
            raise DataError(
                "kept ids must rise and lie in the old vocabulary",
                where="kept",
                found=f"{int(given.min())} to {int(given.max())}",
                expected=f"0 to {self.old_size - 1}, each once, in order",
            )
        kept = given.astype(np.int32)
        old_to_new = np.full(self.old_size, -1, np.int32)
        old_to_new[kept] = np.arange(kept.size, dtype=np.int32)
        kept.flags.writeable = old_to_new.flags.writeable = False
        object.__setattr__(self, "kept", kept)
        object.__setattr__(self, "old_size", int(self.old_size))
        object.__setattr__(self, "old_to_new", old_to_new)

    def __len__(self) -> int:
        return int(self.kept.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PieceMap):
            return NotImplemented
        return self.old_size == other.old_size and np.array_equal(self.kept, other.kept)

    def apply(self, ids: ArrayLike) -> np.ndarray:
        """New ids of old ids, int32 of the same shape; -1 where the piece is gone.

        Raises:
            DataError: If an id is not an old id.
        """
        return _take(self.old_to_new, ids, "old")

    def invert(self, ids: ArrayLike) -> np.ndarray:
        """Old ids of new ids, int32 of the same shape.

        Raises:
            DataError: If an id is not a new id.
        """
        return _take(self.kept, ids, "new")

    def save(self, path: Path) -> None:
        """Write one .npz file at exactly this path; the same map gives the same bytes."""
        with Path(path).open("wb") as file:
            np.savez(file, kept=self.kept, old_size=np.int64(self.old_size))

    @classmethod
    def load(cls, path: Path) -> PieceMap:
        """The map that `save` wrote.

        Raises:
            ArtifactError: If the file is missing, damaged, or no piece map.
        """
        try:
            arrays = load_arrays(path)
            return cls(arrays["kept"], int(arrays["old_size"]))
        except UNREADABLE as error:
            raise ArtifactError(
                "this is no piece map", where=str(path), found=str(error), do="trim the model again"
            ) from error


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; raises one of `UNREADABLE` if it is none."""
    # numpy 2.4 leaves the file open when the archive is damaged, so it is opened here.
    with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _take(table: np.ndarray, ids: ArrayLike, side: str) -> np.ndarray:
    rows = np.asarray(ids)
    if not rows.size:
        return np.zeros(rows.shape, np.int32)
    if rows.min() < 0 or rows.max() >= table.size:
        found = f"{rows.min()} to {rows.max()}"
        expected = f"0 to {table.size - 1}"
        raise DataError(f"not an id of the {side} vocabulary", found=found, expected=expected)
    return table[rows]
