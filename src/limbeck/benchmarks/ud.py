"""Universal Dependencies treebanks: reads CoNLL-U, or a hub dataset, as trees.

A treebank is a folder with files `<treebank>-ud-<split>.conllu`; any name that tells the split
will do, and a split may come in several files. Trees are checked as they are read: what is no
tree with one root is a `DataError` with file and line, what can be mended is counted.

*Source*: universaldependencies.org/format.html. Licences differ by treebank, see its README.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from limbeck.benchmarks.lines import lines_of
from limbeck.benchmarks.record import Benchmark, Examples
from limbeck.benchmarks.rows import SPLIT_NAMES, Note, Notes, Row, add_note, note_words
from limbeck.benchmarks.tables import HUB_ID, column_of, files_of, inventory, load_hub
from limbeck.errors import DataError, RecipeError
from limbeck.tasks.parsing import ParsedSentence
from limbeck.tasks.tree_scores import check, universal
from limbeck.tasks.trees import fault

_SUFFIX = ".conllu"
_RANGE = re.compile(r"(\d+)-(\d+)", re.ASCII)
_EMPTY_NODE = re.compile(r"\d+\.\d+", re.ASCII)
_NUMBER = re.compile(r"\d+", re.ASCII)
_NO_HEAD = ("None", "_", "")

_Placed = tuple[ParsedSentence, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Treebank:
    """Sentences as published, the line of each of their words, and what was mended."""

    sentences: tuple[ParsedSentence, ...]
    lines: tuple[tuple[int, ...], ...]
    notes: Notes


@dataclass(frozen=True, slots=True)
class _Arc:
    """A line of a word: what stands there, as text."""

    word: str
    head: str
    relation: str
    line: int


def load(
    benchmark: Benchmark,
    *,
    root: str | Path,
    language: str,
    split: str,
    labels: Sequence[str] | None = None,
    task: str | None = None,
) -> Examples:
    """Gives the trees of one split of one treebank.

    Args:
        benchmark: The record of this reader.
        root: A folder of treebanks `<root>/<language>/*.conllu`, a folder laid out as a hub
            dataset, or a hub id.
        language: Name of the treebank's folder (`eng`, `UD_English-EWT`), of its files
            (`en_ewt`), or of the hub dataset's configuration.
        split: "train", "dev" or "test".
        labels: The relations of a model in its order. In a training split a relation outside
            them becomes its universal part. Other splits keep their relations, which a model
            without them misses. None gives the relations of the split, sorted.
        task: None or "parsing".

    Raises:
        RecipeError: the benchmark has no such task.
        DataError: the split is missing or empty, has a line that no rule mends or a sentence
            that is no tree; or a training split has a relation whose universal part is not
            among `labels` either.
    """
    if task not in (None, "parsing"):
        raise RecipeError(
            f"{benchmark.name} has no labels for this task", found=repr(task), expected="parsing"
        )
    return _examples(read(root, language, split), labels=labels, training=split == "train")


def load_file(path: Path, *, task: str, labels: Sequence[str]) -> Examples:
    """Gives the trees of one file, to be scored with a model's relations.

    Relations that the model does not know stay as they are, and are counted in `notes`.

    Raises:
        RecipeError: another task than "parsing".
        DataError: the file cannot be read, has a line that no rule mends, a sentence that is no
            tree, or none that has more than one word.
    """
    if task != "parsing":
        raise RecipeError("a file of trees is for parsing", found=repr(task), expected="parsing")
    data = _examples(read_files([path]), labels=labels, training=False)
    check(data.examples)
    return data


def files(root: str | Path, language: str, split: str) -> list[Path]:
    """Gives the files that `load` would read, sorted; none where the root is a hub id.

    Of a folder laid out as a hub dataset these are all tables of the language, for their names
    need not tell the split.
    """
    return files_of(root, language, lambda folder: _conllu(folder, language, split))


def read(root: str | Path, language: str, split: str) -> Treebank:
    """Gives the sentences of one split as published.

    Raises:
        DataError: as `load`.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        if not HUB_ID.fullmatch(str(root)):
            raise DataError("no such folder", where=str(root), do="check the benchmark's root")
        return _read_table(str(root), language, split)
    paths = files(root, language, split)
    if paths and paths[0].suffix != _SUFFIX:
        return _read_table(str(folder), language, split)
    if not paths:
        raise DataError(
            f"no {split} split for {language}",
            where=str(folder),
            found=inventory(folder, lambda name, split: _conllu(folder, name, split)),
            expected=f"{language}/…{split}{_SUFFIX}",
        )
    stems = {_split_of(path)[0] for path in paths}
    if len(stems) > 1:
        raise DataError(
            "more than one treebank for this split",
            where=str(paths[0].parent),
            found=", ".join(path.name for path in paths),
            do="name the treebank, as in en_ewt, or keep one of them",
        )
    return read_files(paths)


def read_files(paths: Sequence[Path]) -> Treebank:
    """Gives the sentences of CoNLL-U files, one file after another.

    Raises:
        DataError: a file is not UTF-8, has no sentence, a line that no rule mends, or a sentence
            that is no tree with one root.
    """
    notes: Notes = {}
    found = [one for path in paths for one in _sentences(path, notes)]
    sentences, lines = zip(*found, strict=True)
    return Treebank(sentences, lines, notes)


def _sentences(path: Path, notes: Notes) -> list[_Placed]:
    source = str(path)
    found: list[_Placed] = []
    block: list[tuple[int, str]] = []
    comments = 0
    for number, line in enumerate([*lines_of(path, notes), ""], start=1):
        if line.strip(" \t"):
            if line.startswith("#"):
                add_note(notes, "comment", source, number)
                comments += 1
            else:
                block.append((number, line))
            continue
        if line:
            add_note(notes, "blank-line-with-spaces", source, number)
        if block:
            found.append(_sentence(block, source, notes))
        elif comments:
            add_note(notes, "empty-sentence", source, number)
        block, comments = [], 0
    return _checked(source, found, notes)


def _sentence(block: Sequence[tuple[int, str]], source: str, notes: Notes) -> _Placed:
    arcs: list[_Arc] = []
    ranges: list[tuple[int, int, str]] = []
    for number, line in block:
        where = f"{source}:{number}"
        fields = line.split("\t")
        if len(fields) != 10:
            raise DataError(
                "a line has the wrong number of columns",
                where=where,
                found=f"{len(fields)} in {line!r}",
                expected="10 columns separated by tabs",
            )
        stripped = [field.strip(" ") for field in fields]
        if stripped != fields:
            add_note(notes, "irregular-spacing", source, number)
        index, form, head, relation = (stripped[i] for i in (0, 1, 6, 7))
        if _EMPTY_NODE.fullmatch(index):
            add_note(notes, "empty-node", source, number)
            continue
        if span := _RANGE.fullmatch(index):
            ranges.append((int(span[1]), int(span[2]), form))
            if ranges[-1][0] == len(arcs) + 1:
                continue
        if index != str(len(arcs) + 1) or not form:
            raise DataError(
                "a word without a form, or not numbered after the one before",
                where=where,
                found=repr(line),
                expected=f"word {len(arcs) + 1}",
            )
        arcs.append(_Arc(form, head, relation, number))
    if not arcs:
        raise DataError("a sentence has no words", where=f"{source}:{block[0][0]}")
    return _parsed(arcs, source, notes, ranges=ranges)


def _parsed(
    arcs: Sequence[_Arc],
    source: str,
    notes: Notes,
    *,
    ranges: Sequence[tuple[int, int, str]] = (),
) -> _Placed:
    heads = []
    for word, arc in enumerate(arcs, start=1):
        where = f"{source}:{arc.line}"
        if not _NUMBER.fullmatch(arc.head) or int(arc.head) > len(arcs) or int(arc.head) == word:
            raise DataError(
                "a head must be 0 or the number of another word",
                where=where,
                found=f"{arc.head!r} for word {word} ({arc.word})",
                expected=f"0 to {len(arcs)}",
            )
        if arc.relation in _NO_HEAD:
            raise DataError(
                "a word has a head but no relation", where=where, found=f"word {word} ({arc.word})"
            )
        heads.append(int(arc.head))
        if (heads[-1] == 0) != (universal(arc.relation) == "root"):
            add_note(notes, "root-relation", source, arc.line)
    broken = fault(heads)
    if broken:
        raise DataError(
            broken.what,
            where=f"{source}:{arcs[broken.word].line}",
            found=broken.found,
            expected="a tree with one root",
        )
    sentence = ParsedSentence(
        words=tuple(arc.word for arc in arcs),
        heads=tuple(heads),
        relations=tuple(arc.relation for arc in arcs),
        ranges=tuple(ranges),
        where=f"{source}:{arcs[0].line}",
    )
    return sentence, tuple(arc.line for arc in arcs)


def _checked(source: str, found: list[_Placed], notes: Notes) -> list[_Placed]:
    if not found:
        raise DataError("there is no sentence here", where=source)
    note_words([Row(one.words, one.relations, lines) for one, lines in found], source, notes)
    return found


def _read_table(root: str, language: str, split: str) -> Treebank:
    """Reads columns tokens, head, deprel; the lines of its sentences are rows.

    A multiword token or empty node stands among the published tokens with the head "None": it is
    left out and counted as `word-range`, for which words it covers is not told.
    """
    table = load_hub(root, language, split)
    source = f"{root}/{language}/{split}"
    names = [
        column_of(table.column_names, (name,), source) for name in ("tokens", "head", "deprel")
    ]
    notes: Notes = {}
    found = []
    columns = zip(*(table[name] for name in names), strict=True)
    for number, (words, heads, relations) in enumerate(columns, start=1):
        if not len(words or ()) == len(heads or ()) == len(relations or ()):
            raise DataError(
                "a row needs one head and one relation per word", where=f"{source}:{number}"
            )
        arcs = []
        for word, head, relation in zip(words or (), heads or (), relations or (), strict=True):
            if str(head) in _NO_HEAD:
                add_note(notes, "word-range", source, number)
            else:
                arcs.append(_Arc(word, str(head), relation, number))
        if arcs:
            found.append(_parsed(arcs, source, notes))
        else:
            add_note(notes, "empty-sentence", source, number)
    sentences, lines = zip(*_checked(source, found, notes), strict=True)
    return Treebank(sentences, lines, notes)


def _examples(bank: Treebank, *, labels: Sequence[str] | None, training: bool) -> Examples:
    kept = tuple(labels or sorted({name for one in bank.sentences for name in one.relations}))
    notes = dict(bank.notes)
    sentences = tuple(
        _fitted(one, lines, kept, notes, training=training)
        for one, lines in zip(bank.sentences, bank.lines, strict=True)
    )
    used = {relation for one in sentences for relation in one.relations}
    unseen = tuple(label for label in kept if label not in used)
    if unseen:
        notes["label-unseen"] = Note(len(unseen), unseen)
    return Examples(sentences, kept, notes, "parsing")


def _fitted(
    sentence: ParsedSentence,
    lines: Sequence[int],
    kept: Sequence[str],
    notes: Notes,
    *,
    training: bool,
) -> ParsedSentence:
    source = sentence.where.rpartition(":")[0]
    relations = list(sentence.relations)
    for word, relation in enumerate(sentence.relations):
        if relation in kept:
            continue
        if not training:
            add_note(notes, f"relation-unknown {relation}", source, lines[word])
        elif universal(relation) in kept:
            add_note(notes, f"relation-without-subtype {relation}", source, lines[word])
            relations[word] = universal(relation)
        else:
            raise DataError(
                "a relation outside the labels asked for",
                where=f"{source}:{lines[word]}",
                found=repr(relation),
                expected="one of " + " ".join(kept),
                do="train with the relations of this split",
            )
    return replace(sentence, relations=tuple(relations))


def _conllu(folder: Path, language: str, split: str) -> list[Path]:
    inner = folder / language
    paths = inner.glob("*" + _SUFFIX) if inner.is_dir() else folder.glob(f"*/*-ud-*{_SUFFIX}")
    return sorted(
        path
        for path in paths
        if _split_of(path)[1] == split
        and (path.parent == inner or path.name.startswith(language + "-ud-"))
    )


def _split_of(path: Path) -> tuple[str, str]:
    """Gives what stands before the split's name in a file's name, and the split; or nothing."""
    parts = re.split(r"[-_.]", path.stem)
    for split, spellings in SPLIT_NAMES.items():
        for place, part in enumerate(parts):
            if part in spellings:
                return "-".join(parts[:place]), split
    return "", ""


BENCHMARK = Benchmark(
    name="ud",
    tasks=("parsing",),
    version="2",
    licence="each treebank's own; CC-BY-SA-4.0 for most",
    citation="de Marneffe et al. 2021, Universal Dependencies (Computational Linguistics 47)",
    languages=(),
    splits=("train", "dev", "test"),
    labels=(),
    primary="las",
    load=load,
    files=files,
    hub="universal-dependencies/universal_dependencies",
)
"""Any treebank."""
