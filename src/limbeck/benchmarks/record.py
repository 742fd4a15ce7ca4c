"""What a published data set is, and what is read from it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.benchmarks.rows import Notes


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A published data set.

    Args:
        name: The word for it in a recipe.
        tasks: The tasks it has labels for.
        version: As its authors count.
        licence: SPDX name, or what the authors say.
        citation: Short.
        languages: As its folders or configurations are called; empty when any name goes.
        splits: Those that every or most languages have.
        labels: Label set as published (for NER its entity types); empty when the files say.
        primary: The metric that its authors report.
        load: As `benchmarks.load`, the benchmark first.
        files: Root, language and split to the files that `load` reads, sorted; none of a hub id.
        hub: Its id on the Hugging Face hub, usable as the root; empty when it is not there.
        errata: Published tags that its authors read as another, and that other.
    """

    name: str
    tasks: tuple[str, ...]
    version: str
    licence: str
    citation: str
    languages: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    primary: str
    load: Callable[..., "Examples"]
    files: Callable[[str | Path, str, str], list[Path]]
    hub: str = ""
    errata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples with labels of one label set.

    Args:
        examples: Records of the task's kind.
        labels: The label set in the order of a model's classes.
        notes: What was mended, mapped or noticed, and how often: the reasons of `rows.RULES`.
            Nothing else was changed.
        task: The task that the labels are for.
    """

    examples: tuple[Any, ...]
    labels: tuple[str, ...]
    notes: Notes
    task: str
