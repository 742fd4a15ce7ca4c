"""Sentences with one tag per word, from the tags as published to a label set."""

import re
from collections.abc import Sequence
from pathlib import Path

from limbeck.benchmarks import conll
from limbeck.benchmarks.record import Benchmark, Examples
from limbeck.benchmarks.rows import Note, Notes, Reading, add_note, hint
from limbeck.errors import DataError, RecipeError
from limbeck.tasks import find_task
from limbeck.tasks.tagging import TaggedSentence

_IOB2 = re.compile(r"O|[BI]-.+")


def load(
    benchmark: Benchmark,
    *,
    root: str | Path,
    language: str,
    split: str,
    labels: Sequence[str] | None = None,
    task: str | None = None,
) -> Examples:
    """Gives the examples of one split of one language: see `benchmarks.load`."""
    return _examples(benchmark, conll.read(root, language, split), labels=labels, task=task)


OWN = Benchmark(
    name="conll",
    tasks=("ner", "pos"),
    version="",
    licence="the owner's",
    citation="your own files",
    languages=(),
    splits=("train", "dev", "test"),
    labels=(),
    primary="",
    load=load,
    files=conll.files,
)
"""Any folder of the reader's layout."""


def load_file(path: Path, *, task: str, labels: Sequence[str]) -> Examples:
    """Gives the examples of one file, to be scored with a model's label set.

    Entities of types that the model does not know become `O`, and each of their words is counted
    in `notes`. A part of speech that it does not know is an error.

    Args:
        path: A file of one word a line.
        task: `ner` or `pos`.
        labels: The model's labels, in its order.

    Raises:
        RecipeError: no such task.
        DataError: the labels are another task's, the file cannot be read, or a score over it
            could mean nothing.
    """
    entities = all(_IOB2.fullmatch(label) for label in labels)
    if entities != (task == "ner"):
        raise DataError(
            "the model's labels are another task's",
            where="--task",
            found=f"{task}, and a model with the labels {' '.join(labels[:8])}",
            expected="ner" if entities else "pos",
        )
    return _examples(OWN, conll.read_file(path), labels=labels, task=task)


def _examples(
    benchmark: Benchmark, reading: Reading, *, labels: Sequence[str] | None, task: str | None
) -> Examples:
    kind = _task_of(benchmark, reading, task)
    legal, kept = _label_sets(benchmark, reading, kind, labels)
    notes = dict(reading.notes)
    examples = []
    for row in reading.rows:
        spelt = []
        for tag, line in zip(row.tags, row.lines, strict=True):
            spelt.append(_spelt(tag, benchmark, reading.source, line, legal, kept, notes))
        if kind == "ner":
            _note_loose_insides(spelt, row.lines, reading.source, notes)
        examples.append(TaggedSentence(row.words, tuple(spelt), f"{reading.source}:{row.lines[0]}"))
    if kind == "ner":
        _check_scheme(examples, notes, reading.source)
    _note_unseen(examples, kept, notes)
    return Examples(tuple(examples), kept, notes, kind)


def _task_of(record: Benchmark, reading: Reading, task: str | None) -> str:
    if task is not None:
        return task
    if record.tasks == ("ner", "pos"):
        entities = all(_IOB2.fullmatch(tag) for row in reading.rows for tag in row.tags)
        return "ner" if entities else "pos"
    return record.tasks[0]


def _label_sets(
    record: Benchmark, reading: Reading, kind: str, labels: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Gives the labels that may occur in the files, and those that are kept, in order."""
    expand = find_task(kind).expand_labels
    published = record.labels or _found_labels(reading, kind)
    legal = expand(published)
    if labels is None:
        return legal, legal
    full = tuple(labels) if kind == "pos" or "O" in labels else expand(labels)
    unknown = [label for label in full if label not in legal]
    # A model's own labels come with O; what a benchmark lacks of them is never found, no mistake.
    if unknown and record.labels and "O" not in labels:
        raise RecipeError(
            f"{record.name} has no such label",
            found=repr(unknown[0]),
            expected="labels of " + " ".join(published),
            do=hint(unknown[0], list(legal)),
        )
    return tuple(dict.fromkeys((*legal, *full))), full


def _found_labels(reading: Reading, kind: str) -> tuple[str, ...]:
    found = {tag for row in reading.rows for tag in row.tags}
    if kind == "pos":
        return tuple(sorted(found - {"_"}))
    return tuple(sorted({tag[2:] for tag in found if tag != "O" and _IOB2.fullmatch(tag)}))


def _spelt(
    tag: str,
    record: Benchmark,
    source: str,
    line: int,
    legal: tuple[str, ...],
    kept: tuple[str, ...],
    notes: Notes,
) -> str:
    if tag in kept:
        return tag
    if tag in record.errata:
        add_note(notes, f"erratum {tag}", source, line)
        tag = record.errata[tag]
    if tag not in legal:
        raise DataError(
            "a tag outside the tag set",
            where=f"{source}:{line}",
            found=repr(tag),
            expected="one of " + " ".join(legal),
            do=hint(tag, list(legal)) or "correct the line",
        )
    if tag in kept:
        return tag
    if "O" not in kept:
        raise DataError(
            "a tag outside the labels asked for",
            where=f"{source}:{line}",
            found=repr(tag),
            expected="one of " + " ".join(kept),
            do="parts of speech have no label for the rest: ask for all of them",
        )
    add_note(notes, f"outside-labels {tag[2:]}", source, line)
    return "O"


def _note_loose_insides(
    tags: Sequence[str], lines: Sequence[int], source: str, notes: Notes
) -> None:
    before = "O"
    for tag, line in zip(tags, lines, strict=True):
        if tag.startswith("I-") and before[2:] != tag[2:]:
            add_note(notes, "inside-without-begin", source, line)
        before = tag


def _check_scheme(examples: Sequence[TaggedSentence], notes: Notes, source: str) -> None:
    begins = sum(label.startswith("B-") for one in examples for label in one.labels)
    loose = notes.get("inside-without-begin", Note(0))
    if loose.count > begins:
        raise DataError(
            "the entities do not begin with B-",
            where=loose.samples[0] if loose.samples else source,
            found=f"{loose.count} that begin with I- and {begins} with B-",
            expected="IOB2",
            do="convert the file from IOB1 to IOB2",
        )


def _note_unseen(examples: Sequence[TaggedSentence], kept: Sequence[str], notes: Notes) -> None:
    seen = {label for one in examples for label in one.labels}
    unseen = tuple(label for label in kept if label not in seen)
    if unseen:
        notes["label-unseen"] = Note(len(unseen), unseen)
