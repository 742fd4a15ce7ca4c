"""Every task of the table keeps one contract, whatever its head."""

import json
from dataclasses import asdict, is_dataclass
from typing import get_args

import numpy as np
import pytest
from tokenizers import processors

from limbeck.heads import HEADS
from limbeck.task_section import TaskKind
from limbeck.tasks import TASKS
from limbeck.tasks.classification import LabelledText
from limbeck.tasks.parsing import ParsedSentence
from limbeck.tasks.reading import Answer, Question
from limbeck.tasks.tagging import TaggedSentence
from test_tagging import wordpiece

PAIRS = [LabelledText("ab c", "de", label="PER"), LabelledText("f", "ab ab", label="LOC")]
TEXTS = [LabelledText("ab c", label="PER"), LabelledText("f", label="LOC")]
EXAMPLES = {
    "ner": [
        TaggedSentence(("ab", "c", "de"), ("O", "B-PER", "I-LOC")),
        TaggedSentence(("f",), ("B-PER",)),
    ],
    "pos": [
        TaggedSentence(("ab", "c", "de"), ("PER", "LOC", "LOC")),
        TaggedSentence(("f",), ("PER",)),
    ],
    "parsing": [
        ParsedSentence(("ab", "c", "de"), (2, 0, 2), ("LOC", "root", "PER")),
        ParsedSentence(("f",), (0,), ("root",)),
    ],
    "nli": PAIRS,
    "paraphrase": PAIRS,
    "topics": TEXTS,
    "sentiment": TEXTS,
    "qa": [
        Question("ab", "c de f", (Answer("de", 2),)),
        Question("de", "ab c f", (Answer("ab c", 0), Answer("ab", 0))),
    ],
}
SETS = {"parsing": ("PER", "LOC", "root"), "qa": ("start", "end")}


def tokenizer():
    """Letters and their continuations, and special pieces around one text or two."""
    made = wordpiece()
    names = [("[CLS]", made.token_to_id("[CLS]")), ("[SEP]", made.token_to_id("[SEP]"))]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=names
    )
    return made


def perfect(window, head, classes):
    """Scores that say the gold answer, and nothing certain elsewhere."""
    marks = window.marks
    if head == "tagging":
        return np.eye(classes)[np.maximum(marks["labels"], 0)]
    if head == "text":
        return np.eye(classes)[marks["labels"][0]]
    if head == "span":
        scores = np.zeros((len(window.pieces), 2))
        scores[marks["start"][0], 0] = scores[marks["end"][0], 1] = 5
        return scores
    count = len(marks["firsts"])
    scores = np.zeros((count, count + 1, 1 + classes))
    words = np.arange(count)
    scores[words, marks["heads"], 0] = 5
    scores[words, marks["heads"], 1 + marks["relations"]] = 5
    return scores


def test_the_table_is_what_a_recipe_can_ask_for():
    assert set(TASKS) == set(EXAMPLES) == set(get_args(TaskKind))
    assert {task.head for task in TASKS.values()} == set(HEADS)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_keeps_its_contract(name):
    task, examples = TASKS[name], EXAMPLES[name]
    labels = task.expand_labels(SETS.get(name, ("PER", "LOC")))
    assert task.name == name
    task.check(examples)
    windows = task.encode(examples, tokenizer(), labels, max_pieces=64, stride=8)
    assert {window.example for window in windows} == {0, 1}
    outputs = [perfect(one, task.head, len(labels)).astype(np.float32) for one in windows]
    predictions = task.decode(examples, windows, outputs, labels)
    statistics = task.statistics(examples, predictions)
    assert statistics.shape[0] == len(examples) and statistics.dtype == np.int64
    values = task.metrics(statistics.sum(axis=0))
    assert float(values[task.primary]) == 1.0
    stacked = task.metrics(np.stack([statistics.sum(axis=0), 0 * statistics.sum(axis=0)]))
    assert {k: v.tolist() for k, v in stacked.items()} == {
        k: [float(v), 0.0] for k, v in values.items()
    }
    assert task.agreement(predictions, predictions) == 1.0
    assert task.count_units(examples) >= len(examples)
    assert all(one.f1 == 1.0 for one in task.per_label(examples, predictions))


@pytest.mark.parametrize("name", TASKS)
def test_what_a_model_answered_can_be_told_and_taken_for_gold(name):
    task, examples = TASKS[name], EXAMPLES[name]
    guesses = task.majority(examples, examples)
    again = [task.relabelled(one, guess) for one, guess in zip(examples, guesses, strict=True)]
    values = task.metrics(task.statistics(again, guesses).sum(axis=0))
    if name != "ner":  # The commonest label may be O, and no entity has no F1.
        assert float(values[task.primary]) == 1.0
    for example, guess in zip(examples, guesses, strict=True):
        told = task.describe(example)
        assert {"where", "gold"} <= told.keys()
        json.dumps(told | {"said": asdict(guess) if is_dataclass(guess) else guess})
        assert all(isinstance(text, str) for text in task.identify(example))


@pytest.mark.parametrize("name", TASKS)
def test_running_text_is_an_example_or_cannot_be_asked(name):
    task = TASKS[name]
    found = task.from_text("ab c de. f f.", "corpus.txt")
    assert (found is None) == (name == "qa")
    if found is not None:
        (window,) = task.encode([found], tokenizer(), None, max_pieces=64, stride=8)
        gold = HEADS[task.head].gold
        assert window.marks and found.where == "corpus.txt" and gold is not None
