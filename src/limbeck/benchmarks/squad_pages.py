"""Questions as published: SQuAD's one object of articles, an object a line, the hub's tables.

Nothing is mended here; see `squad`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from limbeck.benchmarks.lines import lines_of
from limbeck.benchmarks.rows import Notes
from limbeck.errors import DataError

_XQUAD_TITLES = """
Super_Bowl_50 Warsaw Normans Nikola_Tesla Computational_complexity_theory Teacher Martin_Luther
Southern_California Sky_(United_Kingdom) Victoria_(Australia) Huguenot Steam_engine Oxygen
1973_oil_crisis Apollo_program European_Union_law Amazon_rainforest Ctenophora Fresno,_California
Packet_switching Black_Death Geology Newcastle_upon_Tyne Victoria_and_Albert_Museum
American_Broadcasting_Company Genghis_Khan Pharmacy Immune_system Civil_disobedience Construction
Private_school Harvard_University Jacksonville,_Florida Economic_inequality Doctor_Who
University_of_Chicago Yuan_dynasty Kenya Intergovernmental_Panel_on_Climate_Change Chloroplast
Prime_number Rhine Scottish_Parliament Islamism Imperialism United_Methodist_Church
French_and_Indian_War Force
"""
# In order, five paragraphs each: XQuAD's hub dataset leaves the titles out.
XQUAD_TITLES = tuple(title for title in _XQUAD_TITLES.split() for _ in range(5))
"""The article of each of XQuAD's paragraphs, in order."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as published.

    `impossible` is None where the file does not say; `rephrased` in AfriQA, whose answers need
    not be the words of the context.
    """

    question: Any
    context: Any
    texts: list[Any]
    starts: list[Any]
    id: str
    title: str
    impossible: bool | None
    rephrased: bool
    where: str


def read(path: Path, notes: Notes) -> Iterator[Asked]:
    """Gives the questions of a file, whichever its layout.

    Args:
        path: Of JSON, or of JSON lines.
        notes: What its lines needed is counted there.

    Raises:
        DataError: it is empty, no JSON, or of no known layout.
    """
    lines = lines_of(path, notes)
    text, source = "\n".join(lines), str(path)
    if not text.strip():
        raise DataError("the file is empty", where=source)
    try:
        page = json.loads(text)
    except json.JSONDecodeError as error:
        # A first line that is an object of its own makes it a file of one object a line.
        if error.msg != "Extra data":
            raise _broken(error, source, error.lineno) from error
        page = None
    if isinstance(page, dict) and "data" in page:
        yield from _articles(page["data"], source)
    elif page is None or (isinstance(page, dict) and "context" in page):
        yield from _rows(lines, source)
    else:
        raise DataError(
            "no questions in a known layout",
            where=source,
            found=f"a JSON {type(page).__name__}",
            expected="an object with data, or one with context and question a line",
        )


def _broken(error: json.JSONDecodeError, source: str, line: int) -> DataError:
    return DataError("the JSON is broken", where=f"{source}:{line}", found=error.msg)


def _articles(articles: Any, source: str) -> Iterator[Asked]:
    number = 0
    try:
        for number, article in enumerate(articles):
            title = str(article.get("title") or f"article {number}")
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    where = f"{source}:{asked['id']}"
                    yield _asked({**asked, "context": paragraph["context"]}, title, where)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "not laid out as SQuAD",
            where=f"{source}:data[{number}]",
            found=f"{type(error).__name__}: {error}",
            expected="data, paragraphs, context, qas, id, question",
        ) from error


def _rows(lines: Sequence[str], source: str) -> Iterator[Asked]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise _broken(error, source, number) from error
        yield row_of(row, f"{source}:{number}")


def row_of(row: Any, where: str) -> Asked:
    """Gives the question of a line, or of a row of the hub's.

    Raises:
        DataError: it has no context, or answers without text and place.
    """
    if not isinstance(row, dict) or "context" not in row:
        raise DataError(
            "a line without a context", where=where, expected="context, question and answers"
        )
    return _asked(row, str(row.get("title") or ""), where)


def _asked(row: dict[str, Any], title: str, where: str) -> Asked:
    """Makes one record of SQuAD's, the hub's and AfriQA's fields."""
    answers = row.get("answers", row.get("answer_pivot"))
    answers = [] if answers is None else answers
    try:
        if isinstance(answers, dict):
            texts, starts = list(answers["text"]), list(answers["answer_start"])
        else:
            texts = [answer["text"] for answer in answers]
            starts = [answer["answer_start"] for answer in answers]
        # AfriQA leaves the place out where it has no context.
        starts = starts or [-1] * len(texts)
        if len(texts) != len(starts):
            raise KeyError("a text or a place")
    except (KeyError, TypeError) as error:
        raise DataError(
            "answers without text and answer_start", where=where, found=repr(answers)[:80]
        ) from error
    return Asked(
        question=row.get("question", row.get("question_lang")),
        context=row["context"],
        texts=texts,
        starts=starts,
        id=str(row.get("id", "")),
        title=title,
        impossible=row.get("is_impossible"),
        rephrased="answer_pivot" in row,
        where=where,
    )


def titled(rows: Sequence[Asked], where: str) -> list[Asked]:
    """Gives the hub's rows of XQuAD with the titles of their articles.

    Raises:
        DataError: they have none, and are not XQuAD's.
    """
    if all(one.title for one in rows):
        return list(rows)
    contexts = list(dict.fromkeys(one.context for one in rows))
    if len(contexts) != len(XQUAD_TITLES):
        raise DataError(
            "articles cannot be told apart: there is no title",
            where=where,
            found=f"{len(contexts)} contexts",
            expected=f"a column title, or the {len(XQUAD_TITLES)} of XQuAD",
        )
    titles = dict(zip(contexts, XQUAD_TITLES, strict=True))
    return [replace(one, title=titles[one.context]) for one in rows]
