"""Scores, sizes, labels and answers of the systems, as tables and figures."""

from dataclasses import dataclass

from limbeck.evaluate import Scores
from limbeck.report import charts
from limbeck.report.charts import Bar, Chart, Measured, Pair, Part
from limbeck.report.gather import Facts, Place
from limbeck.report.mistakes import Answers, Parting
from limbeck.report.view import Figure, Key, Table, metric_name, place_name
from limbeck.report.words import (
    SPACE,
    TASKS,
    count,
    megabytes,
    millions,
    milliseconds,
    p_value,
    percent,
    points,
    signed,
    units_of,
)
from limbeck.tasks.scores import LabelScore

_SIZE_KEYS = (Key("embeddings", "part-3"), Key("layers", "part-1"), Key("head, norms", "part-4"))
_SYSTEM_KEYS = (Key("teacher", "square"), Key("student", "dot"))
_ANSWERS = {
    "both right": "part-3",
    "only the teacher": "part-1",
    "only the student": "part-2",
    "both wrong": "part-4",
}
_MOST_LABELS = 24
_MOST_CONFUSIONS = 8


def score_figures(facts: Facts) -> list[Figure]:
    """Give a plot a test set: every system with its interval."""
    return [_score_figure(facts, place, number) for number, place in enumerate(facts.places)]


def _score_figure(facts: Facts, place: Place, number: int) -> Figure:
    scored = {system: by_place[place.key] for system, by_place in facts.scores.items()}
    rows = []
    for system, told in scored.items():
        low, high = told.interval[told.primary]
        value = _value(told)
        rows.append(Measured(system, 100 * value, 100 * low, 100 * high, points(value)))
    first = next(iter(scored.values()))
    metric = metric_name(facts.primary)
    title = f"{place_name(place)}: {metric}"
    spoken = "; ".join(f"{row.label} {row.text}" for row in rows)
    svg = charts.intervals(Chart(f"scores-{number}", title, f"{spoken}."), rows)
    columns = ("System", *(metric_name(one).capitalize() for one in first.metrics))
    table = Table(
        f"{title}, with 95{SPACE}% intervals",
        columns,
        tuple(
            (system, *(_with_interval(told, one) for one in told.metrics))
            for system, told in scored.items()
        ),
    )
    note = _amount(first) + ("" if place.is_target else "; the language of the labels")
    return Figure(title, svg, table, note)


def _amount(scores: Scores) -> str:
    """Give how much was scored: sentences and words, or texts."""
    _, examples, units = TASKS[scores.task]
    if scores.n == scores.units:
        return f"{count(scores.n)} {examples}"
    return f"{count(scores.n)} {examples}, {count(scores.units)} {units}"


def _units(facts: Facts) -> str:
    return units_of(facts.recipe["task"]["kind"])


def _value(scores: Scores) -> float:
    return scores.metrics[scores.primary]


def _with_interval(scores: Scores, metric: str) -> str:
    low, high = scores.interval[metric]
    return f"{points(scores.metrics[metric])} [{points(low)}, {points(high)}]"


def difference_figure(facts: Facts) -> Figure:
    """Give the plot of student minus teacher on every test set."""
    rows, cells = [], []
    for place in facts.places:
        one = facts.against[place.key]
        low, high = one.interval
        name = place_name(place)
        # A name cut short may hide the split.
        label = name if len(name) <= charts.MOST_CHARACTERS else place.key
        told = signed(one.difference)
        rows.append(Measured(label, 100 * one.difference, 100 * low, 100 * high, told))
        cells.append(
            (
                name,
                percent(one.retention),
                signed(one.difference),
                f"{signed(low)} to {signed(high)}",
                p_value(one.p_value),
                percent(one.loyalty),
                percent(_value(facts.fidelity[place.language]))
                if place.language in facts.fidelity
                else "–",
            )
        )
    title = "Student minus teacher, in points"
    spoken = "; ".join(f"{row.label} {row.text}" for row in rows)
    svg = charts.intervals(
        Chart("difference", title, f"{spoken}. Zero is no difference."), rows, around_zero=True
    )
    columns = ("Test set", "Kept", "Difference", f"95{SPACE}% interval", "Paired test", "Loyalty")
    table = Table(
        f"Student against teacher, on the same {_units(facts)}",
        (*columns, "Fidelity"),
        tuple(cells),
    )
    if not facts.fidelity:
        table = Table(table.caption, columns, tuple(row[:-1] for row in cells))
    return Figure(title, svg, table, f"{metric_name(facts.primary)}, 95{SPACE}% interval")


def size_figure(facts: Facts) -> Figure:
    """Give the plot of where the parameters are, system by system."""
    rows = [
        Bar(
            f"{name}: {millions(size.total)}",
            (
                Part(size.embedding, millions(size.embedding), "part-3"),
                Part(size.layers, millions(size.layers), "part-1"),
                Part(size.other, millions(size.other), "part-4"),
            ),
        )
        for name, size in facts.sizes.items()
    ]
    first = facts.sizes["teacher"].total
    table = Table(
        "Parameters by part, tied tensors once",
        ("System", "Embeddings", "Layers", "Head, norms", "Total", "Of teacher", "Memory"),
        tuple(
            (
                name,
                count(size.embedding),
                count(size.layers),
                count(size.other),
                count(size.total),
                percent(size.total / first),
                megabytes(size.bytes),
            )
            for name, size in facts.sizes.items()
        ),
    )
    spoken = "; ".join(
        f"{name} {millions(size.total)}: embeddings {millions(size.embedding)}, "
        f"layers {millions(size.layers)}, head and norms {millions(size.other)}"
        for name, size in facts.sizes.items()
    )
    title = "Parameters by part"
    svg = charts.stacked(Chart("size", title, f"{spoken}."), rows)
    return Figure(title, svg, table, keys=_SIZE_KEYS)


def speed_table(facts: Facts) -> Table | None:
    """Give how long one sentence takes each system; nothing where it was not measured."""
    if not facts.speeds:
        return None
    timed, examples = next(iter(facts.speeds.values())).n, TASKS[facts.recipe["task"]["kind"]][1]
    return Table(
        f"Time of one, from text to answer ({count(timed)} {examples} in turn)",
        ("System", "Median", f"90{SPACE}% take less", f"99{SPACE}% take less"),
        tuple(
            (name, *map(milliseconds, (one.p50_ms, one.p90_ms, one.p99_ms)))
            for name, one in facts.speeds.items()
        ),
    )


def size_sentence(facts: Facts) -> str:
    """Give what trimming and leaving out layers each took away."""
    teacher, student = facts.sizes["teacher"].total, facts.sizes["student"].total
    trimmed = facts.sizes.get("trimmed teacher")
    if trimmed is None:
        return f"{millions(teacher - student)} of {millions(teacher)} parameters are gone."
    saved, left_out = teacher - trimmed.total, trimmed.total - student
    return (
        f"Trimming the vocabulary took away {millions(saved)} parameters "
        f"({percent(saved / teacher, 0)} of the teacher’s), leaving out layers "
        f"{millions(left_out)} ({percent(left_out / teacher, 0)})."
    )


def label_figure(facts: Facts, place: Place, number: int) -> Figure | None:
    """Give the plot of F1 by label, the most frequent labels; nothing where there is no label."""
    rows = _labels(facts, place)
    if not rows:
        return None
    shown = rows[:_MOST_LABELS]
    pairs = [Pair(one.label, 100 * one.teacher.f1, 100 * one.student.f1) for one in shown]
    spoken = "; ".join(
        f"{one.label} teacher {one.teacher:.1f}, student {one.student:.1f}" for one in pairs
    )
    title = f"{place_name(place)}: F1 by label, the most frequent first"
    svg = charts.pairs(Chart(f"labels-{number}", title, f"{spoken}."), pairs)
    table = Table(
        f"{place_name(place)}: labels",
        (
            "Label",
            "Words or spans",
            "Teacher F1",
            "Student F1",
            "Difference",
            "Student precision",
            "Student recall",
        ),
        tuple(
            (
                one.label,
                count(one.student.support),
                points(one.teacher.f1),
                points(one.student.f1),
                signed(one.student.f1 - one.teacher.f1),
                points(one.student.precision),
                points(one.student.recall),
            )
            for one in rows
        ),
    )
    hidden = len(rows) - len(shown)
    note = f"and {count(hidden)} rarer labels in the table" if hidden else ""
    return Figure(title, svg, table, note, _SYSTEM_KEYS)


@dataclass(frozen=True, slots=True)
class _Label:
    label: str
    teacher: LabelScore
    student: LabelScore


def _labels(facts: Facts, place: Place) -> list[_Label]:
    """Give the labels of a test set, the most frequent first."""
    teacher = {one.label: one for one in facts.scores["teacher"][place.key].per_label}
    nothing = LabelScore("", 0.0, 0.0, 0.0, 0)
    found = [
        _Label(one.label, teacher.get(one.label, nothing), one)
        for one in facts.scores["student"][place.key].per_label
    ]
    return sorted(found, key=lambda one: (-one.student.support, one.label))


def answers_figure(facts: Facts, place: Place, answers: Answers, number: int) -> Figure:
    """Give the plot of how many answers both, one and none of the two give rightly."""
    counts = {
        "both right": answers.both_right,
        "only the teacher": answers.lost.count,
        "only the student": answers.won.count,
        "both wrong": answers.both_wrong,
    }
    total = sum(counts.values()) or 1
    parts = tuple(
        Part(counts[name], percent(counts[name] / total, 0), colour)
        for name, colour in _ANSWERS.items()
    )
    keys = tuple(
        Key(f"{name}: {percent(counts[name] / total)}", colour) for name, colour in _ANSWERS.items()
    )
    title = f"{place_name(place)}: who answers rightly"
    spoken = "; ".join(f"{name} {percent(one / total)}" for name, one in counts.items())
    svg = charts.stacked(Chart(f"answers-{number}", title, f"{spoken}."), [Bar("", parts)])
    table = Table(
        title,
        ("Rightly answered by", _units(facts).capitalize(), "Share"),
        tuple((name, count(one), percent(one / total)) for name, one in counts.items()),
    )
    return Figure(title, svg, table, f"{count(total)} {_units(facts)}", keys)


def confusions(caption: str, parting: Parting, wrong: str) -> Table:
    """Give the most frequent confusions of one side.

    Args:
        caption: What they are.
        parting: What one of the two answers rightly.
        wrong: Who does not.
    """
    return Table(
        caption,
        ("Gold", f"{wrong} says", "Times", "Share"),
        tuple(
            (one.gold, one.said, count(one.count), percent(one.count / parting.count))
            for one in parting.confusions[:_MOST_CONFUSIONS]
        ),
        words=2,
    )
