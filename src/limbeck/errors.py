"""The errors limbeck raises on purpose.

    LimbeckError
    ├── RecipeError      the recipe or the command line asks for something impossible
    ├── DataError        a corpus, label file or benchmark is not what it should be
    ├── ModelError       a model folder cannot be read, or its architecture is not known
    ├── ArtifactError    the store is damaged, full, or written by a newer version
    └── ExportError      a bundle could not be made or disagrees with its model

Each carries one line for the user; the command line prints it and exits with 2.
"""


class LimbeckError(Exception):
    """A mistake that the user can mend, told in one line.

    Args:
        what: What is wrong.
        where: File and line, dotted recipe field, or tensor name.
        found: What was found there.
        expected: What should have been there.
        do: What to do next.
    """

    def __init__(
        self, what: str, *, where: str = "", found: str = "", expected: str = "", do: str = ""
    ):
        parts = [f"{where}: {what}" if where else what]
        if found:
            parts.append(f"found {found}")
        if expected:
            parts.append(f"expected {expected}")
        if do:
            parts.append(do)
        super().__init__(" ".join("; ".join(parts).split()))


class RecipeError(LimbeckError):
    """The recipe or the command line asks for something impossible."""


class DataError(LimbeckError):
    """A corpus, label file or benchmark is not what it should be."""


class ModelError(LimbeckError):
    """A model folder cannot be read, or its architecture is not known."""


class ArtifactError(LimbeckError):
    """The store is damaged, full, or written by a newer version."""


class ExportError(LimbeckError):
    """A bundle could not be made or disagrees with its model."""
