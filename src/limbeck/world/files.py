"""The published file formats, as readers of labelled sets know them."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from limbeck.corpus import writing
from limbeck.world.questions import Context
from limbeck.world.sets import NewsItem, TextPair
from limbeck.world.words import Word, join


def write(path: Path, text: str) -> None:
    """Writes a text as UTF-8 with plain line ends, whatever the machine.

    Raises:
        ArtifactError: The disk is full, or `path` cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


def conll(sentences: Iterable[Sequence[Word]], *, entity: bool) -> str:
    """Gives a word, a space and its tag a line, an empty line between sentences."""
    return "\n".join(
        "".join(f"{word.form} {word.entity if entity else word.upos}\n" for word in words)
        for words in sentences
    )


def conllu(sentences: Iterable[Sequence[Word]], *, prefix: str) -> str:
    """Gives CoNLL-U with `sent_id` and `text`; ids are the prefix and a number from 1."""
    return "".join(
        _tree(words, f"{prefix}-{number}") for number, words in enumerate(sentences, start=1)
    )


def _tree(words: Sequence[Word], name: str) -> str:
    place = {id(word): number for number, word in enumerate(words, start=1)}
    lines = [f"# sent_id = {name}", f"# text = {join([words]).text}"]
    for number, word in enumerate(words, start=1):
        head = place[id(word.head)] if word.head else 0
        tight = number < len(words) and words[number].upos == "PUNCT"
        fields = (
            str(number),
            word.form,
            word.lemma,
            word.upos,
            "_",
            word.features,
            str(head),
            word.relation,
            "_",
            "SpaceAfter=No" if tight else "_",
        )
        lines.append("\t".join(fields))
    return "\n".join(lines) + "\n\n"


def pair_table(pairs: Iterable[TextPair]) -> str:
    """Gives the columns premise, hypothesis and label, separated by tabs."""
    rows = ["premise\thypothesis\tlabel\n"]
    rows += [f"{_text(one.premise)}\t{_text(one.hypothesis)}\t{one.label}\n" for one in pairs]
    return "".join(rows)


def _text(words: Sequence[str]) -> str:
    return join([[Word(form, form, "X", "") for form in words]]).text


def news_table(items: Iterable[NewsItem], *, prefix: str) -> str:
    """Gives the columns of MasakhaNEWS: category, headline, text, url; tabs, CSV quoting."""
    page = io.StringIO()
    table = csv.writer(page, delimiter="\t", lineterminator="\n")
    table.writerow(("category", "headline", "text", "url"))
    for number, item in enumerate(items, start=1):
        url = f"https://example.org/{prefix}/{number}"
        table.writerow((item.topic, item.headline, item.text, url))
    return page.getvalue()


def squad(contexts: Iterable[tuple[str, Context]]) -> str:
    """Gives SQuAD v1.1: an article a context; from pairs of title and context."""
    articles = []
    for title, context in contexts:
        asked = [
            {
                "answers": [{"answer_start": question.start, "text": question.answer}],
                "id": f"{title.replace(' ', '-')}-{number}",
                "question": question.text,
            }
            for number, question in enumerate(context.questions, start=1)
        ]
        paragraph = {"context": context.text, "qas": asked}
        articles.append({"paragraphs": [paragraph], "title": title})
    page = {"data": articles, "version": "1.1"}
    return json.dumps(page, ensure_ascii=False, indent=1) + "\n"
