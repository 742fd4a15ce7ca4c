"""Published data sets with labels: what they are, and how to read them as examples.

`BENCHMARKS` is the table; `load` gives the examples of one split in one language, with the label
set and an account of everything that was not clean. A reader of another kind of data is a sibling
module with a `load` of its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.benchmarks import conll, masakhane, squad, tagged, texts, ud, uner
from limbeck.benchmarks.divide import divide
from limbeck.benchmarks.record import Benchmark, Examples
from limbeck.benchmarks.rows import hint
from limbeck.errors import RecipeError
from limbeck.tasks import find_task

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Examples",
    "check_labels",
    "divide",
    "find_benchmark",
    "load",
    "load_file",
]

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
        load=tagged.load,
        files=conll.files,
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
        load=tagged.load,
        files=conll.files,
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
        load=tagged.load,
        files=conll.files,
        hub="universalner/universal_ner",
        errata=uner.ERRATA,
    ),
    "conll": tagged.OWN,
    "ud": ud.BENCHMARK,
    **texts.TEXT_BENCHMARKS,
    **squad.BENCHMARKS,
}
"""Every benchmark by its name; `conll`, `ud`, `texts`, `pairs` and `squad` read one's own files."""


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
            do=hint(name, list(BENCHMARKS)),
        )
    return BENCHMARKS[name]


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
        labels: The labels to keep, or the full label set of a model in its order. Entities of
            other types become `O`, and each of their words is counted. None keeps the published
            set.
        task: Needed only where the benchmark has several and the labels could be of either.

    Raises:
        RecipeError: the benchmark has no such task, or `labels` names an unknown one.
        DataError: the split is missing or empty, or a label is outside the published set.
    """
    if task is not None:
        find_task(task)
        if task not in benchmark.tasks:
            raise RecipeError(
                f"{benchmark.name} has no labels for this task",
                found=repr(task),
                expected="one of " + ", ".join(benchmark.tasks),
            )
    return benchmark.load(
        benchmark, root=root, language=language, split=split, labels=labels, task=task
    )


_FILES: dict[str, Any] = {
    "tagging": tagged.load_file,
    "text": texts.load_file,
    "tree": ud.load_file,
    "span": squad.load_file,
}
"""Head of a task to what reads one file of it."""


def load_file(path: Path, *, task: str, labels: Sequence[str], language: str = "und") -> Examples:
    """Gives the examples of one file, to be scored with a model's label set.

    Args:
        path: A file in the layout that the task's benchmarks have.
        task: A name of `TASKS`.
        labels: The model's labels, in its order. Entities of types that the model does not know
            become `O`, and each of their words is counted in `notes`; of other tasks, labels that
            it does not know are an error.
        language: Of the answers to questions, whose articles and punctuation do not count; "und"
            where the file's name may tell.

    Raises:
        RecipeError: no such task.
        DataError: the labels are another task's, the file cannot be read, or a score over it
            could mean nothing.
    """
    record = find_task(task)
    more = {"language": language} if record.head == "span" and language != "und" else {}
    data: Examples = _FILES[record.head](path, task=task, labels=labels, **more)
    record.check(data.examples)
    return data


def check_labels(task: str, examples: Examples) -> None:
    """Makes sure that a score over these examples can mean something.

    Raises:
        DataError: it cannot: there is no entity (NER), or fewer than two labels.
        RecipeError: no such task.
    """
    find_task(task).check(examples.examples)
