"""The result in a sentence, in key figures, and what was distilled from what."""

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.bundle import BUNDLED
from limbeck.report.gather import Facts, Place, train_languages
from limbeck.report.view import TERMS, Card, Fact, metric_name, place_name
from limbeck.report.words import (
    SPACE,
    TASKS,
    count,
    listed,
    megabytes,
    millions,
    milliseconds,
    name_of,
    p_value,
    percent,
    points,
    signed,
    units_of,
)
from limbeck.sections import GENERAL_FIELDS
from limbeck.task_section import OBJECTIVE_FIELDS, TaskObjective


def main_places(facts: Facts) -> list[Place]:
    """Give the test set of each target that the headline speaks of: `test` where it was scored."""
    by_language: dict[str, Place] = {}
    for place in facts.places:
        if place.is_target and (place.language not in by_language or place.split == "test"):
            by_language[place.language] = place
    return list(by_language.values())


def headline(facts: Facts) -> str:
    """Give the result in one plain sentence."""
    share = facts.sizes["student"].total / facts.sizes["teacher"].total
    with_what = f"{percent(share, 0)} of its parameters"
    kept = [
        (retention, name_of(place.language))
        for place in main_places(facts)
        if (retention := facts.against[place.key].retention) is not None
    ]
    metric = metric_name(facts.primary)
    if not main_places(facts):
        return f"The student has {with_what.replace('its', 'its teacher’s')}; no target was scored."
    if not kept:
        names = listed([name_of(place.language) for place in main_places(facts)])
        return (
            f"The teacher’s {names} {metric} is 0, so its student, with {with_what}, "
            "has nothing to keep."
        )
    (low, worst), (high, best) = min(kept), max(kept)
    if len(kept) == 1:
        return (
            f"The student keeps {percent(low)} of its teacher’s {best} {metric} with {with_what}."
        )
    if percent(low) == percent(high):
        names = listed([name for _, name in kept])
        return (
            f"The student keeps {percent(low)} of its teacher’s {metric} in {names} "
            f"with {with_what}."
        )
    return (
        f"The student keeps {percent(low)} ({worst}) to {percent(high)} ({best}) "
        f"of its teacher’s {metric} with {with_what}."
    )


def lead(facts: Facts) -> list[str]:
    """Give what must be known to read the headline rightly, a sentence or two a target."""
    told = []
    for place in main_places(facts):
        against, metric = facts.against[place.key], metric_name(facts.primary)
        teacher, student = facts.value("teacher", place), facts.value("student", place)
        low, high = against.interval
        verdict = (
            "chance alone could make such a difference"
            if against.p_value >= 0.05
            else "more than chance would make"
        )
        told.append(
            f"{place_name(place)}: {metric} {points(student)} against the teacher’s "
            f"{points(teacher)}, {signed(against.difference)} points "
            f"(95{SPACE}% interval {signed(low)} to {signed(high)}, {p_value(against.p_value)}): "
            f"{verdict}. They give the same answer for {percent(against.loyalty)} of the "
            f"{units_of(facts.recipe['task']['kind'])}."
        )
        majority = facts.scores.get("majority label", {}).get(place.key)
        if majority is not None and majority.metrics[facts.primary] >= teacher:
            told.append(
                f"The teacher itself does no better in {name_of(place.language)} than always "
                f"giving the commonest label ({points(majority.metrics[facts.primary])})."
            )
    return told


def cards(facts: Facts) -> list[Card]:
    """Give the key figures."""
    teacher, student = facts.sizes["teacher"], facts.sizes["student"]
    found = []
    for place in main_places(facts):
        against = facts.against[place.key]
        values = [points(facts.value(system, place)) for system in ("student", "teacher")]
        label = f"{name_of(place.language)} {metric_name(facts.primary)} kept"
        found.append(Card(label, percent(against.retention), " of ".join(values), True))
    found += [
        Card(
            "Parameters",
            millions(student.total),
            f"{percent(student.total / teacher.total, 0)} of {millions(teacher.total)}",
        ),
        _weight_card(facts),
    ]
    served = BUNDLED if BUNDLED in facts.speeds else "student"
    if facts.speeds.keys() >= {"teacher", served}:
        slow, fast = facts.speeds["teacher"].p50_ms, facts.speeds[served].p50_ms
        of = f"{percent(fast / slow, 0)} of {milliseconds(slow)}" if slow else ""
        found.append(Card("A sentence takes", milliseconds(fast), of))
    plan = facts.counts("student").get("plan")
    if plan:
        of = f"of {facts.teacher_layers}" if facts.teacher_layers else "depth of teacher not known"
        found.append(Card("Layers", str(len(plan)), of))
    pieces = facts.counts("vocabulary")
    if pieces:
        before, kept = pieces["pieces_before"], pieces["pieces_kept"]
        found.append(Card("Vocabulary", count(kept), f"of {count(before)} pieces"))
    return found


def _weight_card(facts: Facts) -> Card:
    """Give what is shipped, or what lies in memory where nothing was made to be shipped."""
    teacher = facts.sizes["teacher"].bytes
    name = BUNDLED if BUNDLED in facts.sizes else "student"
    what = "Bundle, tokenizer included" if name == BUNDLED else "Weights in memory"
    own = facts.sizes[name].bytes
    return Card(what, megabytes(own), f"{percent(own / teacher, 0)} of {megabytes(teacher)}")


def origin(facts: Facts) -> list[Fact]:
    """Give what was distilled from what."""
    recipe, sizes = facts.recipe, facts.sizes
    task, languages = recipe["task"], listed([name_of(one) for one in train_languages(recipe)])
    targets = listed([name_of(one) for one in recipe["languages"]["targets"]])
    labelled = facts.counts("teacher")
    sentences = (
        f", {count(labelled['train'])} {TASKS[task['kind']][1]} to learn from "
        f"and {count(labelled['dev'])} to select by"
        + (f"; {count(labelled['cut'])} cut to fit" if labelled.get("cut") else "")
        if labelled
        else ""
    )
    return [
        Fact("Teacher", f"{_last(recipe['teacher']['model'])}, {millions(sizes['teacher'].total)}"),
        Fact("Task", f"{TASKS[task['kind']][0]} ({task['kind']})"),
        Fact("Labels", f"{languages}, from {task['benchmark']['name']}{sentences}"),
        Fact("Served without labels", targets),
        Fact("Layers", plan_text(facts)),
        Fact("Vocabulary", _vocabulary_text(facts)),
        Fact("Unlabelled text", _text_text(facts)),
        Fact("Phase 1, on unlabelled text", _general_text(recipe["general"])),
        Fact("Phase 2, on labels", _task_text(task)),
    ]


def _last(model: str) -> str:
    """Give a folder's name, or a hub id whole."""
    if model.count("/") <= 1 and model[:1] not in "./~":
        return model
    # An artifact's folder of weights is called model whatever it is a model of.
    return model.rstrip("/").removesuffix("/model").rpartition("/")[2]


def plan_text(facts: Facts) -> str:
    """Give which layers the student copies, in words."""
    plan = facts.counts("student").get("plan")
    if not plan:
        return "not known: the student’s artifact is gone from the store"
    of = f"{len(plan)} of {facts.teacher_layers}" if facts.teacher_layers else str(len(plan))
    if facts.recipe["student"]["init"] == "random":
        drawn = f"{of}, their weights drawn at random"
        has_teacher = facts.recipe["general"]["objective"]["kind"] != "mlm"
        return f"{drawn}; they learn from {_numbers(plan)}" if has_teacher else drawn
    return f"{of}: copies of the teacher’s {_numbers(plan)}"


def _numbers(plan: Sequence[int]) -> str:
    return listed([str(one) for one in plan])


def pieces_text(facts: Facts) -> tuple[str, str]:
    """Give the size of the teacher's and of the student's vocabulary, as they are written."""
    pieces = facts.counts("vocabulary")
    if not pieces:
        return ("", "")
    return (f"{count(pieces['pieces_before'])} pieces", f"{count(pieces['pieces_kept'])} pieces")


def _vocabulary_text(facts: Facts) -> str:
    pieces = facts.counts("vocabulary")
    if not pieces:
        return "not known: its artifact is gone from the store"
    before, kept = pieces["pieces_before"], pieces["pieces_kept"]
    return f"{count(kept)} of {count(before)} pieces ({percent(kept / before, 0)})"


def _text_text(facts: Facts) -> str:
    counts = facts.counts("corpus")
    if not counts:
        return "not known: its artifact is gone from the store"
    return "; ".join(
        f"{name_of(language)} {count(counts[language]['words'])} words" for language in counts
    )


def _general_text(general: Mapping[str, Any]) -> str:
    if general["steps"] == 0:
        return "left out"
    pace = f"{count(general['steps'])} steps of {count(general['batch_pieces'])} pieces"
    objective = general["objective"]
    read = {
        name: objective[name] for name in objective if name in GENERAL_FIELDS[objective["kind"]]
    }
    return f"{pace}; {_objective(read)}"


def _task_text(task: Mapping[str, Any]) -> str:
    passes = f"{task['epochs']:g} {'pass' if task['epochs'] == 1 else 'passes'}"
    objective = TaskObjective.model_validate(task["objective"])
    if objective.kind == "labels":
        return f"{passes}; gold labels only, without a teacher"
    read = objective.model_dump(include=OBJECTIVE_FIELDS[objective.kind] - {"text"})
    text = objective.text_share
    told = f"{passes}; {_objective(read | {'gold': objective.gold_weight})}"
    return f"{told}; {percent(text, 0)} of the steps on unlabelled text" if text else told


def _objective(objective: Mapping[str, Any]) -> str:
    """Give an objective by the weights that are not 0."""
    weights = [
        f"{TERMS.get(name, name)} × {value:g}"
        for name, value in objective.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and value
        and name in TERMS
    ]
    others = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in objective.items()
        if name not in TERMS and name != "kind" and value
    ]
    return f"{objective['kind']}: {', '.join(weights + others)}"
