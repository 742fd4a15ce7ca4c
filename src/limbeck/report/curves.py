"""The training curves of teacher, phase 1 and phase 2."""

from collections.abc import Mapping, Sequence

from limbeck.report import charts
from limbeck.report.charts import Chart, Series
from limbeck.report.gather import Facts
from limbeck.report.view import TERMS, Figure, Table, metric_name
from limbeck.report.words import count, significant

_CURVES = {"teacher": "Teacher", "general": "Phase 1", "task": "Phase 2"}
_NOT_TERMS = {"step", "learning_rate", "pieces_per_second", "judged"}


def curve_figures(facts: Facts) -> list[Figure]:
    """Give the training curves: a plot a term of each stage that trained, and its judgements."""
    figures = []
    for stage, name in _CURVES.items():
        rows = facts.curves.get(stage, ())
        terms = dict.fromkeys(one for row in rows for one in row if one not in _NOT_TERMS)
        judged = _series(rows, "judged")
        if stage == "general":
            figures += _general_figures(rows, list(terms), judged)
            continue
        for term in terms:
            title = f"{name}: {TERMS.get(term, term)}"
            figures.append(_curve(f"{stage}-{term}", title, _series(rows, term), "training loss"))
        if judged.steps:
            judged = Series(judged.steps, tuple(100 * one for one in judged.values), is_line=False)
            metric = f"dev {metric_name(facts.primary)}"
            title = f"{name}: {metric}"
            told = "on the labelled language; the best is kept"
            figures.append(_curve(f"{stage}-dev", title, judged, told))
    return figures


def _general_figures(
    rows: Sequence[Mapping[str, float]], terms: Sequence[str], judged: Series
) -> list[Figure]:
    """Give phase 1's curves; what is judged there is the loss on held-out text, negated."""
    held_out = Series(judged.steps, tuple(-one for one in judged.values), is_line=False)
    figures = []
    for term in terms:
        title = f"Phase 1: {TERMS.get(term, term)}"
        series = _series(rows, term)
        points_too = held_out if len(terms) == 1 else None
        note = "training loss" + ("; points: held-out text" if points_too else "")
        figures.append(_curve(f"general-{term}", title, series, note, also=points_too))
    if len(terms) > 1 and held_out.steps:
        title = "Phase 1: held-out loss"
        figures.append(_curve("general-dev", title, held_out, "all terms, on text never seen"))
    return figures


def _series(rows: Sequence[Mapping[str, float]], name: str) -> Series:
    found = [(row["step"], row[name]) for row in rows if name in row]
    return Series(tuple(step for step, _ in found), tuple(value for _, value in found))


def _curve(
    name: str, title: str, series: Series, note: str, *, also: Series | None = None
) -> Figure:
    drawn = [series] + ([also] if also and also.steps else [])
    spoken = f"From {significant(series.values[0])} at step {count(series.steps[0])} to "
    spoken += f"{significant(series.values[-1])} at step {count(series.steps[-1])}."
    columns, held = (
        ("Step", "Value"),
        dict(zip(also.steps, also.values, strict=True)) if also else {},
    )
    rows: dict[float, list[str]] = {
        step: [significant(value)] for step, value in zip(series.steps, series.values, strict=True)
    }
    if held:
        columns = (*columns, "Held out")  # type: ignore[assignment]
        for step in held:
            rows.setdefault(step, ["–"])
        for step, cells in rows.items():
            cells.append(significant(held[step]) if step in held else "–")
        spoken += f" On held-out text {significant(also.values[-1])}."  # type: ignore[union-attr]
    cells_of = tuple((count(step), *rows[step]) for step in sorted(rows))
    svg = charts.curves(Chart(f"curve-{name}", title, spoken), drawn)
    return Figure(title, svg, Table(title, columns, cells_of), note)
