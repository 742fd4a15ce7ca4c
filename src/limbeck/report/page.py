"""The page: facts poured into the template."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from math import ceil
from typing import Any

from limbeck import __version__
from limbeck.report import curves, origins, results, summary
from limbeck.report.diagram import Diagram, draw_plan
from limbeck.report.gather import Facts, Place
from limbeck.report.mistakes import Example
from limbeck.report.summary import TASKS
from limbeck.report.view import Fact, Figure, Table, place_name
from limbeck.report.words import listed, name_of, tag_of

_STILL = (
    '<path fill="currentColor" d="M13 3h5v2h-1v5.2c3.9 1.1 6.7 4.3 6.7 8.3 0 2.6-1.2 5-3.2 6.5H10.5'
    "A8.3 8.3 0 0 1 7.3 18.500c0-4 2.800-7.200 6.700-8.300V5h-1z"
    "M17 5.500c5 0 9.500 2 12.500 8.500l-1.800.9C25 9.500 21.500 7.700 17 7.700z"
    "M28.600 17c1 1.700 1.900 3 1.900 4.200a1.900 1.900 0 0 1-3.800 0c0-1.200.9-2.500 1.900-4.200z"
    'M9 27h13v2H9z"/>'
)
"""A limbeck: boiler, neck, a drop; in the colour around it."""

_SECTIONS = {
    "origin": "What was distilled from what",
    "scores": "Scores",
    "size": "Size and speed",
    "training": "Training",
    "labels": "Label by label",
    "mistakes": "Where student and teacher part",
    "vocabulary": "Vocabulary kept",
    "corpus": "Text kept",
    "reproduce": "How to reproduce this",
}


@dataclass(frozen=True, slots=True)
class Parted:
    """Words that only one of the two answers rightly: in short, the confusions, some sentences."""

    name: str
    table: Table
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is told of one test set where student and teacher part.

    Args:
        place: The test set.
        name: As it is written.
        tag: BCP 47 tag of its language.
        figure: How many words each answers rightly; None where the predictions are gone.
        partings: What the student lost, then what it won; without what there is none of.
    """

    place: Place
    name: str
    tag: str
    figure: Figure | None
    partings: tuple[Parted, ...]


def render(facts: Facts) -> str:
    """Give the report as one HTML page that needs nothing beside itself.

    Raises:
        ModuleNotFoundError: matplotlib or Jinja is not installed.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(_context(facts))
    return page.rstrip() + "\n"


def _source(name: str) -> str:
    return resources.files("limbeck.report").joinpath(name).read_text(encoding="utf-8")


def _context(facts: Facts) -> Mapping[str, Any]:
    """Give what the template names, in the order of the page."""
    recipe, cards = facts.recipe, summary.cards(facts)
    return {
        "facts": facts,
        "style": _source("page.css"),
        "version": __version__,
        "sections": _SECTIONS,
        "still": _STILL,
        "icon": _icon(),
        "title": _title(facts),
        "headline": summary.headline(facts),
        "lead": summary.lead(facts),
        "cards": cards,
        # Rows of at most five, all about as long.
        "card_columns": ceil(len(cards) / ceil(len(cards) / 5)),
        "origin": summary.origin(facts),
        "diagram": _diagram(facts),
        "plan_text": summary.plan_text(facts),
        "pieces_text": summary.pieces_text(facts),
        "score_figures": results.score_figures(facts),
        "all_kept": all(one.retention is not None for one in facts.against.values()),
        "difference": results.difference_figure(facts),
        "size": results.size_figure(facts),
        "speed": results.speed_table(facts),
        "size_sentence": results.size_sentence(facts),
        "curves": curves.curve_figures(facts),
        "labels": _label_figures(facts),
        "comparisons": [_comparison(facts, place, n) for n, place in enumerate(facts.places)],
        "vocabulary": origins.vocabulary_table(facts),
        "lost": origins.lost_table(facts),
        "corpus": origins.corpus_table(facts),
        "notes": origins.notes_table(facts),
        "recipe": origins.recipe_text(facts),
        "artifacts": origins.artifact_table(facts),
        "versions": origins.version_table(facts),
        "machine": [Fact(name, str(value)) for name, value in recipe.get("machine", {}).items()],
    }


def _icon() -> str:
    """Give the page's icon; without one a browser asks the server for it."""
    drawn = _STILL.replace("currentColor", "#a8471b")
    whole = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{drawn}</svg>'
    return f"data:image/svg+xml;base64,{b64encode(whole.encode()).decode()}"


def _title(facts: Facts) -> str:
    languages = facts.recipe["languages"]
    targets = listed([name_of(one) for one in languages["targets"]])
    task = TASKS.get(facts.recipe["task"]["kind"], facts.recipe["task"]["kind"])
    return f"{name_of(languages['source'])} to {targets}, {task}"


def _diagram(facts: Facts) -> Diagram | None:
    plan, pieces = facts.counts("student").get("plan"), facts.counts("vocabulary")
    layers = facts.teacher_layers
    if not plan or not pieces or layers is None or max(plan) > layers:
        return None
    share = pieces["pieces_kept"] / pieces["pieces_before"]
    is_copied = facts.recipe["student"]["init"] == "teacher"
    return draw_plan(plan, layers=layers, kept_pieces=share, is_copied=is_copied)


def _label_figures(facts: Facts) -> list[Figure]:
    found = (results.label_figure(facts, place, n) for n, place in enumerate(facts.places))
    return [figure for figure in found if figure]


def _comparison(facts: Facts, place: Place, number: int) -> Comparison:
    answers = facts.answers.get(place.key)
    name, tag = place_name(place), tag_of(place.language)
    if answers is None:
        return Comparison(place, name, tag, None, ())
    sides = (
        ("Lost: only the teacher is right", answers.lost, "Student"),
        ("Won: only the student is right", answers.won, "Teacher"),
    )
    partings = tuple(
        Parted(told, results.confusions(told, parting, wrong), parting.examples)
        for told, parting, wrong in sides
        if parting.count
    )
    return Comparison(
        place, name, tag, results.answers_figure(facts, place, answers, number), partings
    )
