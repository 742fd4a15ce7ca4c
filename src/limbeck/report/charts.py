"""The plots of a report, each wide as a phone; wider pages put several beside each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limbeck.report.drawing import (
    ACCENT,
    INK,
    LINE,
    MUTED,
    ON_PARTS,
    PAPER,
    PARTS,
    canvas,
    to_svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

WIDTH = 320
"""Pixels: what a phone of 360 leaves between its margins, so that text keeps its size there."""

MOST_CHARACTERS = 15
"""Longer names of rows are cut."""

_ROW = 34
_STUDENT = "student"
_MARKERS = {"teacher": "s", "trimmed teacher": "D", "student": "o"}


@dataclass(frozen=True, slots=True)
class Chart:
    """What every plot is given: the start of its ids, what it shows, what can be read off it."""

    name: str
    title: str
    description: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A value with its interval.

    Args:
        label: Whose it is.
        value: In the unit of the plot.
        low: Lower end of the interval.
        high: Upper end.
        text: The value as it is written.
    """

    label: str
    value: float
    low: float
    high: float
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a whole: how much it is, how that is written, its colour of `drawing.PARTS`."""

    value: float
    text: str
    colour: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A whole: what is written above it, and its parts from left to right."""

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A label with the teacher's and the student's value."""

    label: str
    teacher: float
    student: float


@dataclass(frozen=True, slots=True)
class Series:
    """A curve: steps and values, drawn as a line or as points."""

    steps: tuple[float, ...]
    values: tuple[float, ...]
    is_line: bool = True


def intervals(chart: Chart, rows: Sequence[Measured], *, around_zero: bool = False) -> str:
    """Draw a point and its interval a row.

    Args:
        chart: Its name and text.
        rows: From top to bottom; the one labelled "student" stands out.
        around_zero: They are differences: zero is marked, and every row stands out.
    """
    height = _ROW * len(rows) + 34
    with canvas(WIDTH, height, left=100, right=48, top=6, bottom=28) as (figure, axes):
        for place, row in enumerate(rows):
            stands_out = around_zero or row.label == _STUDENT
            colour = ACCENT if stands_out else INK if row.label == "teacher" else MUTED
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2.5)
            marker = "o" if around_zero else _MARKERS.get(row.label, "^")
            axes.plot(
                [row.value],
                [place],
                marker,
                color=colour,
                markeredgecolor=PAPER,
                markeredgewidth=1.5,
                markersize=10 if stands_out else 8.5,
            )
            axes.text(
                1.03,
                place,
                row.text,
                color=colour,
                weight="bold" if stands_out else "normal",
                va="center_baseline",
                transform=axes.get_yaxis_transform(),
            )
        _name_rows(axes, [row.label for row in rows], MOST_CHARACTERS)
        ends = [one for row in rows for one in (row.low, row.high)]
        low, high = min(ends), max(ends)
        if around_zero:
            low, high = min(low, 0), max(high, 0)
            axes.axvline(0, color=MUTED, linewidth=1, dashes=(3, 3), zorder=0)
        room = 0.06 * (high - low) or 1
        axes.set_xlim(low - room, high + room)
        _few_ticks(axes.xaxis, 4)
        axes.grid(axis="x", color=LINE, linewidth=1)
        axes.set_axisbelow(True)
        return to_svg(figure, chart.name, title=chart.title, description=chart.description)


def stacked(chart: Chart, bars: Sequence[Bar]) -> str:
    """Draw what wholes are made of, one below the other on one scale."""
    named = 24 if any(bar.name for bar in bars) else 2
    pitch = named + 34
    most = max(sum(part.value for part in bar.parts) for bar in bars) or 1
    with canvas(WIDTH, pitch * len(bars), left=1, right=1, top=0, bottom=0) as (figure, axes):
        for row, bar in enumerate(bars):
            axes.text(0, row * pitch + named - 6, bar.name, va="baseline", color=INK)
            middle, start = row * pitch + named + 15, 0.0
            for part in bar.parts:
                axes.barh(
                    middle,
                    part.value,
                    left=start,
                    height=28,
                    color=PARTS[part.colour],
                    edgecolor=PAPER,
                    linewidth=1.5,
                )
                if part.value / most * WIDTH > 7 * len(part.text) + 6:
                    axes.text(
                        start + part.value / 2,
                        middle,
                        part.text,
                        ha="center",
                        va="center_baseline",
                        color=ON_PARTS[part.colour],
                    )
                start += part.value
        axes.set_xlim(0, most)
        axes.set_ylim(pitch * len(bars), 0)
        axes.set_axis_off()
        return to_svg(figure, chart.name, title=chart.title, description=chart.description)


def curves(chart: Chart, series: Sequence[Series]) -> str:
    """Draw values over steps; logarithmically where they span more than a factor of 30."""
    with canvas(WIDTH, 190, left=50, right=14, top=10, bottom=28) as (figure, axes):
        for one in series:
            if one.is_line and len(one.steps) > 1:
                axes.plot(one.steps, one.values, color=ACCENT, linewidth=2)
            else:
                axes.plot(
                    one.steps,
                    one.values,
                    "o",
                    color=INK if len(series) > 1 else ACCENT,
                    markeredgecolor=PAPER,
                    markersize=8,
                )
                if len(series) == 1 and len(one.steps) > 1:
                    axes.plot(one.steps, one.values, color=ACCENT, linewidth=1.5, zorder=0)
        values = [value for one in series for value in one.values if math.isfinite(value)]
        is_wide = bool(values) and min(values) > 0 and max(values) > 30 * min(values)
        if is_wide:
            _logarithmic(axes)
        else:
            axes.margins(y=0.12)
            _few_ticks(axes.yaxis, 4)
        axes.set_xlim(left=0)
        _few_ticks(axes.xaxis, 4, whole=True)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(axis="y", color=LINE, linewidth=1)
        axes.set_axisbelow(True)
        return to_svg(figure, chart.name, title=chart.title, description=chart.description)


def pairs(chart: Chart, rows: Sequence[Pair]) -> str:
    """Draw teacher and student a row, with what lies between them."""
    height = 22 * len(rows) + 34
    with canvas(WIDTH, height, left=92, right=14, top=6, bottom=28) as (figure, axes):
        for place, row in enumerate(rows):
            axes.plot([row.teacher, row.student], [place, place], color=MUTED, linewidth=2)
            # A frame around a dot: neither hides the other where they agree.
            axes.plot([row.teacher], [place], "s", color=PAPER, markeredgecolor=INK, markersize=10)
            axes.plot([row.student], [place], "o", color=ACCENT, markersize=6.5)
        _name_rows(axes, [row.label for row in rows], 12)
        axes.set_xlim(-3, 103)
        axes.set_xticks([0, 25, 50, 75, 100])
        axes.grid(axis="x", color=LINE, linewidth=1)
        axes.set_axisbelow(True)
        return to_svg(figure, chart.name, title=chart.title, description=chart.description)


def _name_rows(axes: "Axes", names: Sequence[str], most: int) -> None:
    axes.set_yticks(range(len(names)), [_cut(name, most) for name in names], color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _few_ticks(axis: "Axis", most: int, *, whole: bool = False) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, min_n_ticks=2, integer=whole))


def _logarithmic(axes: "Axes") -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    within = (1.0, 3.0) if high < 300 * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=within, numticks=6))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _cut(label: str, most: int) -> str:
    """Give a name that has room at its row, without what XML cannot hold."""
    shown = "".join(one if one.isprintable() else "\ufffd" for one in label)
    return shown if len(shown) <= most else shown[: most - 1] + "…"
