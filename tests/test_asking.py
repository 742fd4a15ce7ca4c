"""Lines of input are read for every task, and answers are told with their places."""

import json

import pytest

from limbeck.asking import as_conllu, read_line, told
from limbeck.errors import DataError
from limbeck.tasks import TASKS
from limbeck.tasks.parsing import MOST_WORDS
from limbeck.tasks.reading import Span


def test_words_of_running_text_keep_their_places():
    asked = read_line("ner", "Ada  lives in\tLagos.\r\n", "f:1")
    found = told(asked, ("B-PER", "O", "O", "B-LOC", "O"))
    assert found["words"] == ["Ada", "lives", "in", "Lagos", "."]
    assert [one["text"] for one in found["entities"]] == ["Ada", "Lagos"]
    for one in found["entities"]:
        assert found["text"][one["start"] : one["stop"]] == one["text"]


def test_words_that_are_split_already_stay_as_they_are():
    asked = read_line("ner", '{"words": ["New York", "!"]}', "f:1")
    assert asked.example.words == ("New York", "!")
    found = told(asked, ("B-LOC", "O"))
    assert found["entities"] == [{"type": "LOC", "first_word": 0, "words": ["New York"]}]


def test_pairs_are_two_texts_with_a_tab_between_or_named():
    for line in ("a b\tc", '{"text": "a b", "pair": "c"}'):
        asked = read_line("nli", line, "f:1")
        assert (asked.example.text, asked.example.pair) == ("a b", "c")
        assert told(asked, "neutral") == {"text": "a b", "pair": "c", "label": "neutral"}


def test_trees_and_answers_are_told_by_their_parts():
    tree = told(read_line("parsing", "x y", "f:1"), ((2, "det"), (0, "root")))
    assert (tree["heads"], tree["relations"]) == ([2, 0], ["det", "root"])
    block = as_conllu(json.dumps(tree), 7).splitlines()
    assert block[0] == "# sent_id = 7"
    fields = [line.split("\t") for line in block if line[:1].isdigit()]
    assert [(one[1], one[6], one[7]) for one in fields] == [("x", "2", "det"), ("y", "0", "root")]
    asked = read_line("qa", '{"question": "who?", "context": "Ada did"}', "f:1")
    answer = told(asked, Span("Ada", 0, 3, 1.5, -1.0))
    assert answer == {"question": "who?", "answer": "Ada", "start": 0, "stop": 3, "score": 1.5}


EMPTY = {
    "nli": '{"text": " ", "pair": "x"}',
    "paraphrase": "\tx",
    "qa": '{"question": "", "context": "x"}',
}


def test_a_text_of_too_many_words_for_a_parser_is_told_and_a_tagger_reads_it():
    line = "a " * (MOST_WORDS + 1)
    with pytest.raises(DataError, match=r"x:1: more words than a parser.*10,001.*line of its own"):
        read_line("parsing", line, "x:1")
    assert len(read_line("pos", line, "x:1").example.words) == MOST_WORDS + 1


def test_braces_are_text_where_they_hold_no_field_and_a_byte_order_mark_is_none():
    assert read_line("pos", "{hello} world", "f:1").example.words == ("{", "hello", "}", "world")
    assert read_line("pos", '\ufeff{"text": "a"}', "f:1").example.words == ("a",)


@pytest.mark.parametrize("task", TASKS)
def test_an_empty_line_is_answered_with_nothing(task: str):
    assert read_line(task, "\n", "f:1").example is None


@pytest.mark.parametrize("task", TASKS)
def test_a_line_without_anything_is_answered_with_nothing(task: str):
    asked = read_line(task, EMPTY.get(task, " \n"), "f:1")
    assert asked.example is None
    json.dumps(told(asked, None))


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("ner", '{"words": "a b"}', "f:7: the field words is no list of texts"),
        ("ner", '{"text": 3}', "f:7: the field text is no text; found int"),
        ("ner", '{"text": oops', "f:7: is no JSON"),
        ("ner", '{"text": "\\ud800 x"}', "f:7: the field text holds half a character"),
        ("pos", '{"words": ["\\udfff"]}', "f:7: the field words holds half a character"),
        ("topics", '{"title": "a"}', "f:7: the field text is no text; found nothing"),
        ("nli", "only one", "f:7: the field pair is no text; found nothing"),
        ("qa", "who?", "f:7: a question needs its context"),
        ("qa", '{"question": "who?"}', "f:7: the field context is no text"),
    ],
)
def test_what_the_task_is_not_asked_of_is_one_line(task: str, line: str, message: str):
    with pytest.raises(DataError, match=message):
        read_line(task, line, "f:7")
