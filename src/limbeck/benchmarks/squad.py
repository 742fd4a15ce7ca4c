"""Questions about texts: SQuAD, XQuAD, MLQA, TyDi QA, AfriQA, and your own files like them.

The layout is told from the file: one JSON object with `data` (articles, paragraphs, questions),
or a JSON object a line (AfriQA's gold passages; or `context`, `question`, `answers`). XQuAD and
any file that is alone for its language have no splits of their own: theirs are made by article,
and the same article is in the same split in every language, so nothing leaks across languages.

Real files are not clean. Each rule that mends something has a name and is counted (`rows.RULES`);
what no rule mends is a `DataError` with file and question.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from limbeck.benchmarks.record import Benchmark, Examples
from limbeck.benchmarks.rows import SPLIT_NAMES, Note, Notes, note_at
from limbeck.benchmarks.squad_answers import locate
from limbeck.benchmarks.squad_pages import Asked, read, row_of, titled
from limbeck.benchmarks.tables import HUB_ID, files_of, hub_tables, load_hub
from limbeck.errors import DataError
from limbeck.tasks.reading import ENDS, Answer, Question

# fmt: off
TYDI_CODES = {
    "arabic": "ar", "bengali": "bn", "english": "en", "finnish": "fi", "indonesian": "id",
    "korean": "ko", "russian": "ru", "swahili": "sw", "telugu": "te",
}
"""The names that question ids start with, to codes; either will do for a language."""
# fmt: on

_NAMED_SPLIT = re.compile(r"(train|dev|test) \d+")
# With this seed XQuAD's 48 articles fall 28, 5, 15.
_SEED = 2
_SHARES = (("train", 0.6), ("dev", 0.7), ("test", 1.0))
_PUBLISHED = {"squad": "v1.1", "squad2": "v2.0"}


def load(
    benchmark: Benchmark,
    *,
    root: str | Path,
    language: str,
    split: str,
    labels: Sequence[str] | None = None,
    task: str | None = None,
) -> Examples:
    """Gives the questions of one split of one language.

    Args:
        benchmark: A record of `BENCHMARKS`.
        root: A folder as published, `<root>/<language>/<split>.json`, `<root>/<language>.json`,
            a folder laid out as a hub dataset, or a hub id.
        language: As in the files' names. MLQA: of context and question, `de` or `de.en`. AfriQA:
            of the question; the language of its contexts, and so of the examples, is English.
        split: "train", "dev" or "test".
        labels: Not used: answers have no labels.
        task: Not used: there is one.

    Raises:
        DataError: the split is missing or empty, the file is no JSON of a known layout, or an
            answer is not in its context.
    """
    where, notes = f"{root}/{language}/{split}", dict[str, Note]()
    path = _path(benchmark.name, root, language, split)
    if path is None:
        asked: list[Asked] = _hub_rows(benchmark.name, str(root), language, split, where)
    else:
        asked, where = list(read(path, notes)), str(path)
    if _one_for_all(benchmark.name, path, language):
        asked = [one for one in asked if split_of(one.title or one.context) == split]
    if benchmark.name == "tydiqa":
        names = {code: name for name, code in TYDI_CODES.items()}
        name = names.get(language, language)
        asked = [one for one in asked if one.id.startswith(f"{name}-")]
    spoken = language.partition(".")[0]
    spoken = "eng" if benchmark.name == "afriqa" else TYDI_CODES.get(spoken, spoken)
    return _examples(asked, notes, language=spoken, where=where, split=split)


def load_file(path: Path, *, task: str, labels: Sequence[str], language: str = "") -> Examples:
    """Gives all questions of one file, to be scored.

    Args:
        path: A JSON file in one of the layouts.
        task: Not used: there is one.
        labels: Not used: answers have no labels.
        language: Of the contexts; "" takes it from a name like `xquad.de.json`, and scores
            without a language's articles where the name has none.

    Raises:
        DataError: as `load`.
    """
    notes: Notes = {}
    named = re.fullmatch(r"[\w-]+\.([a-z]{2,3})|(?:.*-context-)([a-z]{2})-question-.*", path.stem)
    told = (named.group(1) or named.group(2)) if named else ""
    asked = list(read(path, notes))
    return _examples(asked, notes, language=language or told, where=str(path), split="")


def files(root: str | Path, language: str, split: str, *, benchmark: str = "squad") -> list[Path]:
    """Gives the files that `load` would read, sorted; none where the root is a hub id.

    Of a folder laid out as a hub dataset these are all tables of the language.
    """
    return files_of(root, language, lambda folder: _candidates(benchmark, folder, language, split))


def split_of(title: str) -> str:
    """Gives the split of an article in a file that is alone for its language.

    A title such as "train 3" names its split; of others a hash decides (60, 10 and 30 percent),
    so that an article is in the same split in every language, also where a file lacks others.
    """
    named = _NAMED_SPLIT.fullmatch(title)
    if named:
        return named.group(1)
    digest = hashlib.blake2b(f"{_SEED}\n{title}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "big") / 2**64
    return next(split for split, share in _SHARES if number < share)


def _path(name: str, root: str | Path, language: str, split: str) -> Path | None:
    folder = Path(root).expanduser()
    if not folder.is_dir():
        if not HUB_ID.fullmatch(str(root)):
            raise DataError("no such folder", where=str(root), do="check the benchmark's root")
        return None
    paths = _candidates(name, folder, language, split)
    if len(paths) > 1:
        raise DataError(
            "more than one file for this split",
            where=str(folder),
            found=", ".join(str(path.relative_to(folder)) for path in paths),
            do="keep one of them",
        )
    if not paths and not hub_tables(folder):
        inner = folder / language
        others = (inner if inner.is_dir() else folder).rglob("*.json")
        there = sorted(str(path.relative_to(folder)) for path in others)
        raise DataError(
            f"no {split} split for {language}",
            where=str(folder),
            found=", ".join(there[:8]) or "no JSON file",
            expected=f"the files of {name}, or {language}/{split}.json, or {language}.json",
        )
    return paths[0] if paths else None


def _candidates(name: str, folder: Path, language: str, split: str) -> list[Path]:
    """Gives the files of the first layout that has any."""
    context, _, asked = language.partition(".")
    stems = SPLIT_NAMES.get(split, (split,))
    patterns = {
        "xquad": [f"xquad.{language}.json"],
        "mlqa": [
            f"{inner}{split}-context-{context}-question-{asked or context}.json"
            for inner in (f"{split}/", "")
        ],
        "tydiqa": [f"tydiqa-goldp-v*-{split}.json"],
    }.get(name, [])
    if name in _PUBLISHED and language in ("en", "eng"):
        patterns = [f"{split}-{_PUBLISHED[name]}.json"]
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if found:
            return found
    inner = folder / language
    if inner.is_dir():
        return [
            path
            for path in sorted(inner.iterdir())
            if path.suffix == ".json" and re.split("[.-]", path.stem)[-1] in stems
        ]
    alone = folder / f"{language}.json"
    return [alone] if alone.is_file() else []


def _one_for_all(name: str, path: Path | None, language: str) -> bool:
    if path is None:
        return name == "xquad"
    return path.name in (f"{language}.json", f"xquad.{language}.json")


def _hub_rows(name: str, root: str, language: str, split: str, where: str) -> list[Asked]:
    context, _, asked = language.partition(".")
    config = {
        "xquad": f"xquad.{language}",
        "mlqa": f"mlqa.{context}.{asked or context}",
        "tydiqa": "secondary_task",
        "squad": "plain_text",
        "squad2": "squad_v2",
    }.get(name, language)
    if (Path(root) / language).is_dir():
        config = language
    table = load_hub(root, config, "dev" if name == "xquad" else split)
    rows = [row_of(row, f"{where}:{number}") for number, row in enumerate(table, start=1)]
    if name == "squad2":
        # The hub's copy says it by an empty list.
        return [replace(one, impossible=not one.texts) for one in rows]
    return titled(rows, where) if name == "xquad" else rows


def _examples(
    asked: Sequence[Asked], notes: Notes, *, language: str, where: str, split: str
) -> Examples:
    found = [_question(one, notes, language=language) for one in asked]
    questions = tuple(one for one in found if one is not None)
    if not questions:
        raise DataError(
            "there is no question" + (f" in the {split} split" if split else " in this file"),
            where=where,
            found=f"{len(asked)} before those that cannot be used were left out",
        )
    return Examples(questions, ENDS, notes, "qa")


def _question(one: Asked, notes: Notes, *, language: str) -> Question | None:
    """Gives the question as an example; None where it is left out, with a note."""
    reason = ""
    if not isinstance(one.context, str) or not one.context.strip():
        reason = "context-missing"
    elif not isinstance(one.question, str) or not one.question.strip():
        reason = "question-blank"
    answers: list[Answer] = []
    if not reason and not one.impossible:
        found = [locate(one, *pair) for pair in zip(one.texts, one.starts, strict=True)]
        for mended in (mended for mended, _ in found if mended):
            note_at(notes, mended, one.where)
        answers = list(dict.fromkeys(answer for _, answer in found if answer))
        if not answers and not any(mended for mended, _ in found):
            reason = "gold-missing"
    if reason:
        note_at(notes, reason, one.where)
    if reason or not (answers or one.impossible):
        return None
    return Question(
        question=one.question,
        context=one.context,
        answers=tuple(answers),
        language=language,
        title=one.title,
        id=one.id,
        answerable=not one.impossible,
        where=one.where,
    )


def _record(
    name: str, version: str, licence: str, citation: str, languages: str, splits: str, hub: str
) -> Benchmark:
    return Benchmark(
        name=name,
        tasks=("qa",),
        version=version,
        licence=licence,
        citation=citation,
        languages=tuple(languages.split()),
        splits=tuple(splits.split()),
        labels=(),
        primary="f1",
        load=load,
        files=partial(files, benchmark=name),
        hub=hub,
    )


# fmt: off
BENCHMARKS: dict[str, Benchmark] = {
    "squad": _record(
        "squad", "1.1", "CC-BY-SA-4.0", "Rajpurkar et al. 2016, SQuAD (EMNLP)",
        "", "train dev", "rajpurkar/squad",
    ),
    "squad2": _record(
        "squad2", "2.0", "CC-BY-SA-4.0", "Rajpurkar et al. 2018, Know What You Don't Know (ACL)",
        "en", "train dev", "rajpurkar/squad_v2",
    ),
    "xquad": _record(
        "xquad", "1.1", "CC-BY-SA-4.0", "Artetxe et al. 2020, Cross-lingual Transferability (ACL)",
        "ar de el en es hi ro ru th tr vi zh", "train dev test", "google/xquad",
    ),
    "mlqa": _record(
        "mlqa", "1.0", "CC-BY-SA-3.0", "Lewis et al. 2020, MLQA (ACL)",
        "ar de en es hi vi zh", "dev test", "facebook/mlqa",
    ),
    "tydiqa": _record(
        "tydiqa", "1.1", "Apache-2.0", "Clark et al. 2020, TyDi QA (TACL 8)",
        "arabic bengali english finnish indonesian korean russian swahili telugu", "train dev",
        "google-research-datasets/tydiqa",
    ),
    "afriqa": _record(
        "afriqa", "1.0", "CC-BY-SA-4.0", "Ogundepo et al. 2023, AfriQA (Findings of EMNLP)",
        "bem fon hau ibo kin swa twi wol yor zul", "train dev test",
        "masakhane/afriqa-gold-passages",
    ),
}
# fmt: on
"""The records of this family; `squad` is also any folder of the reader's layout."""
