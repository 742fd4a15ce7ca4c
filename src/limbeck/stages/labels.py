"""The labelled data of a recipe: which files they are, and what is in them."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from limbeck.artifact import file_hash
from limbeck.benchmarks import Examples, check_labels, divide, find_benchmark, load
from limbeck.recipe import Recipe
from limbeck.sections import TUNING_FIELDS, Tuning
from limbeck.task_section import BenchmarkChoice


def labels_section(recipe: Recipe) -> dict[str, Any]:
    """Give the fields that decide what is learned from the labels and how it is selected."""
    task, languages = recipe.task, recipe.train_languages
    return {
        "kind": task.kind,
        "benchmark": benchmark_section(task.benchmark),
        "language": languages[0] if len(languages) == 1 else languages,
        "max_pieces": task.window_pieces,
        "evaluations": task.evaluations,
    }


def tuning_section(tuning: Tuning) -> dict[str, Any]:
    """Give the fields of a tuning that its kind reads."""
    return tuning.model_dump(include=TUNING_FIELDS[tuning.kind])


def benchmark_section(chosen: BenchmarkChoice) -> dict[str, Any]:
    """Give what is read of a benchmark; of a folder its files' hashes tell more than its place."""
    is_folder = Path(chosen.root).expanduser().is_dir()
    return chosen.model_dump(exclude={"root"} if is_folder else None)


def benchmark_files(recipe: Recipe, wanted: Mapping[str, list[str]]) -> dict[str, str]:
    """Give the hashes of the label files of these splits of these languages."""
    found = {}
    for language, splits in wanted.items():
        chosen = recipe.benchmark_of(language)
        files = find_benchmark(chosen.name).files
        for split in splits:
            for path in files(chosen.root, language, split):
                found[f"{language}/{split}/{path.name}"] = file_hash(path)
    return found


def train_files(recipe: Recipe) -> dict[str, str]:
    """Give the hashes of the label files that are learned from or selected by."""
    chosen = recipe.task.benchmark
    splits = [one for one in (chosen.train_split, chosen.dev_split) if one]
    return benchmark_files(recipe, dict.fromkeys(recipe.train_languages, splits))


def read_split(
    recipe: Recipe, language: str, split: str, *, labels: tuple[str, ...] | None = None
) -> Examples:
    """Read one split of one language of the recipe's benchmark, with a label set if given."""
    chosen = recipe.benchmark_of(language)
    return load(
        find_benchmark(chosen.name),
        root=chosen.root,
        language=language,
        split=split,
        labels=labels or chosen.labels,
        task=recipe.task.kind,
    )


def read_test_sets(recipe: Recipe, labels: tuple[str, ...]) -> Iterator[tuple[str, str, Examples]]:
    """Read the test sets, each with its place in the tables and its language.

    Those of another benchmark are read in the labels learned.
    """
    for language in recipe.scored_languages:
        for split in recipe.evaluate.splits:
            place = language if len(recipe.evaluate.splits) == 1 else f"{language}.{split}"
            is_other = recipe.benchmark_of(language) != recipe.task.benchmark
            read = read_split(recipe, language, split, labels=labels if is_other else None)
            yield place, language, read


@dataclass(frozen=True, slots=True)
class Labelled:
    """The source's labels: to train on, to select by, the label set, and what was mended."""

    train: tuple[Any, ...]
    dev: tuple[Any, ...]
    labels: tuple[str, ...]
    notes: dict[str, Any]


def read_labelled(recipe: Recipe) -> Labelled:
    """Read the labels to train on and to select by; those of several languages are pooled."""
    parts = [_read_language(recipe, language) for language in recipe.train_languages]
    labels = parts[0].labels
    if any(part.labels != labels for part in parts):
        # What the files say may differ from language to language.
        labels = tuple(sorted({label for part in parts for label in part.labels}))
        parts = [_read_language(recipe, one, labels) for one in recipe.train_languages]
    notes = parts[0].notes
    if len(parts) > 1:
        notes = dict(zip(recipe.train_languages, (part.notes for part in parts), strict=True))
    train = tuple(one for part in parts for one in part.train)
    dev = tuple(one for part in parts for one in part.dev)
    return Labelled(train, dev, labels, notes)


def _read_language(
    recipe: Recipe, language: str, labels: tuple[str, ...] | None = None
) -> Labelled:
    chosen = recipe.task.benchmark
    read = read_split(recipe, language, chosen.train_split, labels=labels)
    check_labels(recipe.task.kind, read)
    if chosen.dev_split:
        held_out = read_split(recipe, language, chosen.dev_split)
        check_labels(recipe.task.kind, held_out)
        train, dev = read.examples, held_out.examples
    else:
        train, dev = divide(read.examples, task=recipe.task.kind, fraction=0.1)
    return Labelled(train, dev, read.labels, notes_of(read))


def notes_of(data: Examples) -> dict[str, Any]:
    """Give what the reader mended or noted, by reason, ready for JSON."""
    return {reason: asdict(note) for reason, note in data.notes.items()}
