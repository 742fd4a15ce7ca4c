"""Published data sets with labels: what they are, and how to read them as examples.

`BENCHMARKS` is the table; `load` gives the examples of one split in one language, with the label
set and an account of everything that was not clean. A reader of another kind of data is a sibling
module with a `read` of its own.
"""

import difflib
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.benchmarks import conll, masakhane, uner
from limbeck.benchmarks.rows import Note, Notes, Reading, add_note
from limbeck.errors import DataError, RecipeError
from limbeck.tasks import find_task
from limbeck.tasks.tagging import TaggedSentence


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
        labels: Entity types or tags of the published set; empty when the files say.
        primary: The metric that its authors report.
        read: Root, language and split to sentences as published.
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
    read: Callable[[str | Path, str, str], Reading]
    hub: str = ""
    errata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Examples:
    """Sentences with labels of one label set.

    Args:
        examples: The sentences.
        labels: The label set in the order of a model's classes.
        notes: What was mended, mapped or noticed, and how often: the reasons of `rows.RULES`.
            Nothing else was changed.
        task: The task that the labels are for.
    """

    examples: tuple[TaggedSentence, ...]
    labels: tuple[str, ...]
    notes: Notes
    task: str


BENCHMARKS: dict[str, Benchmark] = {
    "masakhaner": Benchmark(
        name="masakhaner",
        tasks=("ner",),
        version="2.0",
        licence="CC-BY-NC-4.0",
        citation=masakhane.NER_CITATION,
        languages=masakhane.LANGUAGES,
        splits=("train", "dev", "test"),
        labels=masakhane.ENTITY_TYPES,
        primary="f1",
        read=conll.read,
        hub="masakhane/masakhaner2",
    ),
    "masakhapos": Benchmark(
        name="masakhapos",
        tasks=("pos",),
        version="1.0",
        licence="MIT",
        citation=masakhane.POS_CITATION,
        languages=masakhane.LANGUAGES,
        splits=("train", "dev", "test"),
        labels=masakhane.UPOS,
        primary="accuracy",
        read=conll.read,
        hub="masakhane/masakhapos",
    ),
    "uner": Benchmark(
        name="uner",
        tasks=("ner",),
        version="1",
        licence="CC-BY-SA-4.0",
        citation=uner.CITATION,
        languages=uner.TREEBANKS,
        splits=("train", "dev", "test"),
        labels=uner.ENTITY_TYPES,
        primary="f1",
        read=conll.read,
        hub="universalner/universal_ner",
        errata=uner.ERRATA,
    ),
    "conll": Benchmark(
        name="conll",
        tasks=("ner", "pos"),
        version="",
        licence="the owner's",
        citation="your own files",
        languages=(),
        splits=("train", "dev", "test"),
        labels=(),
        primary="",
        read=conll.read,
    ),
}
"""Every benchmark by its name; `conll` is any folder of the reader's layout."""

_IOB2 = re.compile(r"O|[BI]-.+")


def find_benchmark(name: str) -> Benchmark:
    """Gives the benchmark of this name.

    Raises:
        RecipeError: there is none.
    """
    if name not in BENCHMARKS:
        raise RecipeError(
            "no such benchmark",
            found=repr(name),
            expected="one of " + ", ".join(BENCHMARKS),
            do=_hint(name, list(BENCHMARKS)),
        )
    return BENCHMARKS[name]


def files(root: str | Path, language: str, split: str) -> list[Path]:
    """Gives the files that `load` would read, sorted; none where the root is a hub id."""
    return conll.files(root, language, split)


def load(
    benchmark: Benchmark,
    *,
    root: str | Path,
    language: str,
    split: str,
    labels: Sequence[str] | None = None,
    task: str | None = None,
) -> Examples:
    """Gives the examples of one split of one language.

    A language need not be one of the published ones: the folder decides, and so does the layout
    of its file, so one root may hold MasakhaNER's and Universal NER's files side by side.

    Args:
        benchmark: A record of `BENCHMARKS`.
        root: A folder as published, a folder laid out as a hub dataset, or a hub id.
        language: Name of the folder or configuration.
        split: "train", "dev" or "test".
        labels: Entity types or tags to keep, or the full label set of a model in its order.
            Entities of other types become `O`, and each of their words is counted. None keeps
            the published set.
        task: Needed only where the benchmark has several and the tags could be of either.

    Raises:
        RecipeError: the benchmark has no such task, or `labels` names an unknown one.
        DataError: the split is missing or empty, or a tag is outside the published set.
    """
    return _examples(benchmark, benchmark.read(root, language, split), labels=labels, task=task)


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
    record = find_task(task)
    entities = all(_IOB2.fullmatch(label) for label in labels)
    if entities != (task == "ner"):
        raise DataError(
            "the model's labels are another task's",
            where="--task",
            found=f"{task}, and a model with the labels {' '.join(labels[:8])}",
            expected="ner" if entities else "pos",
        )
    data = _examples(BENCHMARKS["conll"], conll.read_file(path), labels=labels, task=task)
    record.check(data.examples)
    return data


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


def check_labels(task: str, examples: Examples) -> None:
    """Makes sure that a score over these examples can mean something.

    Raises:
        DataError: there is no entity (NER), or fewer than two tags (POS).
        RecipeError: no such task.
    """
    find_task(task).check(examples.examples)


def divide(
    sentences: Sequence[TaggedSentence], *, fraction: float, seed: int = 0
) -> tuple[tuple[TaggedSentence, ...], tuple[TaggedSentence, ...]]:
    """Holds sentences out of a training split, for a language without a dev file.

    A sentence goes where the hash of its words says: equal sentences stay together, and a
    sentence keeps its side when others are added or removed.

    Args:
        sentences: A training split.
        fraction: The share to hold out, near enough; between 0 and 1.
        seed: Another seed holds out others.

    Returns:
        The sentences to train on, and those held out.

    Raises:
        RecipeError: `fraction` is not between 0 and 1.
        DataError: one side would be empty.
    """
    if not 0 < fraction < 1:
        raise RecipeError(
            "the held-out share must lie between 0 and 1", found=str(fraction), do="try 0.1"
        )
    train: list[TaggedSentence] = []
    held_out: list[TaggedSentence] = []
    for sentence in sentences:
        text = "\n".join((str(seed), *sentence.words)).encode()
        number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        (held_out if number < fraction * 2**64 else train).append(sentence)
    if not train or not held_out:
        raise DataError(
            "too few sentences to divide",
            where=sentences[0].where if sentences else "",
            found=f"{len(train)} to train on and {len(held_out)} held out",
        )
    return tuple(train), tuple(held_out)


def _task_of(record: Benchmark, reading: Reading, task: str | None) -> str:
    if task is not None:
        find_task(task)
        if task not in record.tasks:
            raise RecipeError(
                f"{record.name} has no labels for this task",
                found=repr(task),
                expected="one of " + ", ".join(record.tasks),
            )
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
    if unknown and record.labels:
        raise RecipeError(
            f"{record.name} has no such label",
            found=repr(unknown[0]),
            expected="labels of " + " ".join(published),
            do=_hint(unknown[0], list(legal)),
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
            do=_hint(tag, list(legal)) or "correct the line",
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


def _hint(word: str, known: Sequence[str]) -> str:
    upper = {name.upper(): name for name in known}
    near = difflib.get_close_matches(word.upper(), upper, n=1, cutoff=0.6)
    return f"did you mean {upper[near[0]]!r}?" if near else ""
