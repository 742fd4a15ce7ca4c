"""Texts and pairs of texts with one label each: the published sets, and one's own files.

Labels that mean the same have the same name in every set (`NLI`, `PARAPHRASE`, `SENTIMENT`), so a
model of one can be scored on another. The folder decides what is read, not the benchmark: any of
these layouts is found under the root, `eng` and `en` alone standing for English.

    <language>/<split>.tsv or .jsonl            MasakhaNEWS, AfriSenti, SICK, one's own; also data/…
    <split>/<language>.tsv                      AmericasNLI
    <language>/{translated_train,<split>_2k}.tsv     PAWS-X
    multinli.train.<language>.tsv, xnli.<split>.tsv  XNLI: one file of all languages but for train
    multinli_1.0_{train,dev_matched,dev_mismatched}.jsonl or .txt    MultiNLI
    SICK_{train,trial,test_annotated}.txt       SICK as its authors pack it
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from limbeck.benchmarks.record import Benchmark, Examples
from limbeck.benchmarks.rows import Note, Notes, add_note, hint
from limbeck.benchmarks.tables import HUB_ID, inventory
from limbeck.benchmarks.text_tables import (
    ENGLISH,
    TextRow,
    TextTable,
    files,
    find,
    hub_tables,
    read_hub_table,
    read_table_file,
)
from limbeck.errors import DataError, RecipeError
from limbeck.tasks import label_scores
from limbeck.tasks.classification import LabelledText, is_blank

NLI = ("entailment", "neutral", "contradiction")
PARAPHRASE = ("different", "paraphrase")
SENTIMENT = ("negative", "neutral", "positive")
TOPICS = ("business", "entertainment", "health", "politics", "religion", "sports", "technology")
"""Label sets in the order of a model's classes; MasakhaNEWS' seven in that of its hub dataset."""

PAIR_TASKS = ("nli", "paraphrase")
SINGLE_TASKS = ("topics", "sentiment")

# fmt: off
_MASAKHANEWS_LANGUAGES = (
    "amh", "eng", "fra", "hau", "ibo", "lin", "lug", "orm", "pcm", "run", "sna", "som", "swa",
    "tir", "xho", "yor",
)
_AFRISENTI_LANGUAGES = (
    "amh", "arq", "ary", "hau", "ibo", "kin", "orm", "pcm", "por", "swa", "tir", "tso", "twi",
    "yor",
)
_XNLI_LANGUAGES = (
    "ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh",
)
# fmt: on
_SETS = {"nli": NLI, "paraphrase": PARAPHRASE}
# AmericasNLI's Nahuatl test has 3; machine translation failed in PAWS-X's train, and "NS" stands
# in its dev and test (github.com/google-research-datasets/paws, issues 4 and 15); XNLI's train is
# machine translation too.
_HAVE_EMPTY_TEXTS = ("americasnli", "xnli", "pawsx")


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

    Args:
        benchmark: A record of `TEXT_BENCHMARKS`.
        root: A folder as published, a folder laid out as a hub dataset, or a hub id.
        language: Name of the folder or configuration; need not be a published one.
        split: "train", "dev" or "test". MultiNLI's test labels are not public: "dev" is its
            matched and "test" its mismatched development set.
        labels: The label set of a model in its order. None keeps the published set; of one's own
            topics and sentiments, the labels found, in alphabetical order.
        task: Needed only where the benchmark has several and the labels could be of either.

    Raises:
        RecipeError: the benchmark has no such task.
        DataError: the split is missing or empty, a row is damaged, or a label is outside the set.
    """
    _check_task(benchmark, task)
    is_pair = benchmark.tasks[0] in PAIR_TASKS
    paths = find(Path(root).expanduser(), language, split)
    if len(paths) > 1:
        raise DataError(
            "more than one file for this split",
            where=str(root),
            found=", ".join(map(str, paths)),
            do="keep one of them",
        )
    if paths:
        table = read_table_file(paths[0], is_pair=is_pair)
        if paths[0].name.startswith("xnli."):
            table = _of_language(table, language)
    else:
        table = _from_hub(benchmark, root, language, split)
    return _examples(benchmark, table, labels=labels, task=task)


def load_file(path: Path, *, task: str, labels: Sequence[str]) -> Examples:
    """Gives the examples of one file, to be scored with a model's label set.

    Args:
        path: A TSV file with a header, or JSON lines.
        task: "nli", "paraphrase", "topics" or "sentiment".
        labels: The model's labels, in its order.

    Raises:
        RecipeError: no such task.
        DataError: the file cannot be read, has a label that the model does not know, or a score
            over it could mean nothing.
    """
    if task not in (*PAIR_TASKS, *SINGLE_TASKS):
        raise RecipeError(
            "no such task of labelled texts",
            found=repr(task),
            expected="one of " + ", ".join((*PAIR_TASKS, *SINGLE_TASKS)),
        )
    benchmark = TEXT_BENCHMARKS["pairs" if task in PAIR_TASKS else "texts"]
    table = read_table_file(path, is_pair=task in PAIR_TASKS)
    data = _examples(benchmark, table, labels=labels, task=task)
    label_scores.check(data.examples)
    return data


def _from_hub(benchmark: Benchmark, root: str | Path, language: str, split: str) -> TextTable:
    folder = Path(root).expanduser()
    if not folder.is_dir() and not HUB_ID.fullmatch(str(root)):
        raise DataError("no such folder", where=str(root), do="check the benchmark's root")
    if folder.is_dir() and not hub_tables(folder):
        raise DataError(
            f"no {split} split for {language}",
            where=str(folder),
            found=inventory(folder, lambda name, split: find(folder, name, split)),
            expected=f"{language}/{split}.tsv or another published layout",
        )
    return read_hub_table(
        str(folder if folder.is_dir() else root),
        None if _is_one_language(benchmark, folder, language) else language,
        split,
        is_pair=benchmark.tasks[0] in PAIR_TASKS,
    )


def _is_one_language(benchmark: Benchmark, folder: Path, language: str) -> bool:
    """Whether a dataset of English alone, without configurations, is asked for English.

    Where the tables of a folder lie in folders of their own, those may be other languages.
    """
    if benchmark.languages != ("eng",) or language not in ENGLISH:
        return False
    places = {path.parent for path in hub_tables(folder)} if folder.is_dir() else set()
    return places <= {folder, folder / "data"}


def _of_language(table: TextTable, language: str) -> TextTable:
    rows = tuple(row for row in table.rows if row.language == language)
    if not rows:
        raise DataError(
            f"no row of the language {language}",
            where=table.source,
            found="the languages " + ", ".join(sorted({row.language for row in table.rows})),
        )
    notes = dict(table.notes)
    for row in table.rows:
        if row.language != language:
            add_note(notes, "other-language", table.source, row.line)
    return TextTable(table.source, rows, notes)


def _check_task(benchmark: Benchmark, task: str | None) -> None:
    if task is not None and task not in benchmark.tasks:
        raise RecipeError(
            f"{benchmark.name} has no labels for this task",
            found=repr(task),
            expected="one of " + ", ".join(benchmark.tasks),
        )


def _examples(
    benchmark: Benchmark, table: TextTable, *, labels: Sequence[str] | None, task: str | None
) -> Examples:
    notes = dict(table.notes)
    rows = [row for row in table.rows if not _left_out(row, benchmark, table.source, notes)]
    if not rows:
        raise DataError(
            "every row of this table is left out",
            where=table.source,
            found=", ".join(f"{note.count} {reason}" for reason, note in notes.items()),
        )
    kind = task or _task_of(benchmark, rows)
    published = benchmark.labels or _SETS.get(kind) or tuple(sorted({r.label for r in rows} - {""}))
    kept = published if labels is None else tuple(labels)
    spellings = _spellings(published, kept, benchmark.errata)
    examples = []
    for row in rows:
        where = f"{table.source}:{row.line}"
        label = row.label if row.label in kept else spellings.get(row.label.casefold(), row.label)
        if label not in kept:
            raise _unknown_label(row.label, rows, kept, where)
        if label != row.label:
            add_note(notes, f"label-respelt {row.label}", table.source, row.line)
        examples.append(LabelledText(row.text, row.pair, label, where))
    seen = {example.label for example in examples}
    unseen = tuple(label for label in kept if label not in seen)
    if unseen:
        notes["label-unseen"] = Note(len(unseen), unseen)
    return Examples(tuple(examples), kept, notes, kind)


def _left_out(row: TextRow, benchmark: Benchmark, source: str, notes: Notes) -> bool:
    texts = (row.text,) if row.pair is None else (row.text, row.pair)
    if benchmark.name in _HAVE_EMPTY_TEXTS and any(map(is_blank, texts)):
        reason = "empty-text"
    elif benchmark.name == "pawsx" and "NS" in texts:
        reason = "untranslated"
    elif row.pair is not None and _has_no_gold(row.label, benchmark):
        reason = "no-gold-label"
    else:
        return False
    add_note(notes, reason, source, row.line)
    return True


def _has_no_gold(label: str, benchmark: Benchmark) -> bool:
    return label in ("-", "-1") or (not label and benchmark.name == "pawsx")


def _task_of(benchmark: Benchmark, rows: Iterable[TextRow]) -> str:
    """Gives the task of a set that may be of two: inference and sentiment have known labels."""
    if len(benchmark.tasks) == 1:
        return benchmark.tasks[0]
    found = {row.label.casefold() for row in rows}
    if benchmark.tasks == PAIR_TASKS:
        return "nli" if found <= {*NLI, *benchmark.errata} - {"0", "1"} else "paraphrase"
    return "sentiment" if found <= set(SENTIMENT) else "topics"


def _spellings(
    published: Sequence[str], kept: Sequence[str], errata: dict[str, str]
) -> dict[str, str]:
    known = {name.casefold(): name for name in (*published, *kept)}
    return {spelling.casefold(): name for spelling, name in errata.items()} | known


def _unknown_label(
    label: str, rows: Iterable[TextRow], kept: Sequence[str], where: str
) -> DataError:
    found = sorted({row.label for row in rows})
    listed = ", ".join(map(repr, found[:12])) + (", …" if len(found) > 12 else "")
    return DataError(
        "a label outside the label set" if label else "a row without a label",
        where=where,
        found=f"{label!r}, in a table with the labels {listed}",
        expected="one of " + ", ".join(kept),
        do=hint(label, list(kept)) or "load with labels that fit, or correct the row",
    )


_set = partial(Benchmark, splits=("train", "dev", "test"), load=load, files=files)
_nli_set = partial(
    _set,
    tasks=("nli",),
    labels=NLI,
    primary="accuracy",
    errata={
        "contradictory": "contradiction",
        "0": "entailment",
        "1": "neutral",
        "2": "contradiction",
    },
)

_RECORDS = (
    _set(
        name="masakhanews",
        tasks=("topics",),
        version="1.0",
        licence="AFL-3.0",
        citation="Adelani et al. 2023, MasakhaNEWS (IJCNLP-AACL)",
        languages=_MASAKHANEWS_LANGUAGES,
        labels=TOPICS,
        primary="macro_f1",
        hub="masakhane/masakhanews",
    ),
    _set(
        name="afrisenti",
        tasks=("sentiment",),
        version="1.0",
        licence="CC-BY-4.0",
        citation="Muhammad et al. 2023, AfriSenti (EMNLP)",
        languages=_AFRISENTI_LANGUAGES,
        labels=SENTIMENT,
        primary="macro_f1",
        hub="shmuhammad/AfriSenti-twitter-sentiment",
    ),
    _nli_set(
        name="sick",
        version="2014",
        licence="CC-BY-NC-SA-3.0",
        citation="Marelli et al. 2014, SICK (LREC)",
        languages=("eng",),
        hub="RobZamp/sick",
    ),
    _nli_set(
        name="multinli",
        version="1.0",
        licence="several, by genre: see the paper",
        citation="Williams et al. 2018, MultiNLI (NAACL)",
        languages=("eng",),
        hub="nyu-mll/multi_nli",
    ),
    _nli_set(
        name="xnli",
        version="1.0",
        licence="CC-BY-NC-4.0",
        citation="Conneau et al. 2018, XNLI (EMNLP)",
        languages=_XNLI_LANGUAGES,
        hub="facebook/xnli",
    ),
    _nli_set(
        name="americasnli",
        version="1.0",
        licence="CC-BY-SA-4.0",
        citation="Ebrahimi et al. 2022, AmericasNLI (ACL)",
        languages=("aym", "bzd", "cni", "gn", "hch", "nah", "oto", "quy", "shp", "tar"),
        splits=("dev", "test"),
        hub="nala-cub/americas_nli",
    ),
    _set(
        name="pawsx",
        tasks=("paraphrase",),
        version="1.0",
        licence="any use, with acknowledgement of Google LLC",
        citation="Yang et al. 2019, PAWS-X (EMNLP)",
        languages=("de", "en", "es", "fr", "ja", "ko", "zh"),
        labels=PARAPHRASE,
        primary="accuracy",
        hub="google-research-datasets/paws-x",
        errata={"0": "different", "1": "paraphrase"},
    ),
    _set(
        name="texts",
        tasks=SINGLE_TASKS,
        version="",
        licence="the owner's",
        citation="your own files",
        languages=(),
        labels=(),
        primary="",
    ),
    _set(
        name="pairs",
        tasks=PAIR_TASKS,
        version="",
        licence="the owner's",
        citation="your own files",
        languages=(),
        labels=(),
        primary="",
        errata={"contradictory": "contradiction", "0": "different", "1": "paraphrase"},
    ),
)

TEXT_BENCHMARKS: dict[str, Benchmark] = {record.name: record for record in _RECORDS}
"""Every benchmark of texts by its name; `texts` and `pairs` are one's own TSV with a header."""
