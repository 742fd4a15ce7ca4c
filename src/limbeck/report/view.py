"""What a report is made of: tables, figures, key figures, and how things are called."""

from dataclasses import dataclass

from limbeck.report.gather import Place
from limbeck.report.words import name_of

TERMS = {
    "hidden": "hidden states",
    "attention": "attention maps",
    "logits": "teacher’s soft labels",
    "gold": "gold labels",
}
"""Terms of the objectives, as a recipe names them, and as they are written."""

_METRICS = {"f1": "F1", "macro_f1": "macro F1"}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a caption; the first column names the row.

    Args:
        caption: What the rows are.
        columns: Names of the columns.
        rows: Cells, as many as columns.
        words: How many columns, from the first, hold words rather than numbers.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


@dataclass(frozen=True, slots=True)
class Key:
    """What a colour or a sign of a plot stands for."""

    label: str
    kind: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot with its caption and its data.

    Args:
        title: What it shows.
        svg: The plot.
        table: The plot's data.
        note: What to know when reading it.
        keys: What its colours stand for, where it does not say so itself.
    """

    title: str
    svg: str
    table: Table
    note: str = ""
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """A key figure: what, how much, against what; the result stands out."""

    label: str
    value: str
    note: str
    is_result: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of a description list."""

    term: str
    text: str


def metric_name(metric: str) -> str:
    """Give a metric as it is written: accuracy, F1."""
    return _METRICS.get(metric, metric.replace("_", " "))


def place_name(place: Place) -> str:
    """Give a test set as it is written: Yoruba, or Yoruba, dev."""
    name = name_of(place.language)
    return name if place.is_only_split else f"{name}, {place.split}"
