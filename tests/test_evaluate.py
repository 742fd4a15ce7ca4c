import json

import numpy as np
import pytest

from limbeck import evaluate
from limbeck.errors import DataError, RecipeError
from limbeck.evaluate import Scores
from limbeck.tables import confusion_table
from limbeck.tasks import TASKS, tagging
from limbeck.tasks.classification import LabelledText
from limbeck.tasks.tagging import TaggedSentence

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def make_sentences(n, *, seed=0):
    rng = np.random.default_rng(seed)
    return [
        TaggedSentence(("w",) * length, tuple(LABELS[i] for i in rng.integers(5, size=length)))
        for length in rng.integers(1, 8, size=n)
    ]


def answers(sentences, *, right, seed=0):
    """Each word right with this probability, else any label."""
    rng = np.random.default_rng(seed)
    return [
        tuple(label if rng.random() < right else LABELS[rng.integers(5)] for label in one.labels)
        for one in sentences
    ]


@pytest.mark.parametrize("task", ["ner", "pos"])
def test_every_task_scores_between_its_interval_ends_and_comes_back_from_json(task):
    sentences = make_sentences(60)
    found = evaluate.score(TASKS[task], sentences, answers(sentences, right=0.7), language="yor")
    assert (found.task, found.language, found.n) == (task, "yor", 60)
    assert found.units == sum(len(one.words) for one in sentences)
    assert found.primary == TASKS[task].primary
    for name, value in found.metrics.items():
        low, high = found.interval[name]
        assert 0 <= low < value < high <= 1
    shape = json.loads(json.dumps(found.to_dict()))
    assert {"task", "language", "n", "metrics", "interval", "primary"} <= set(shape)
    assert Scores.from_dict(shape) == found


def test_the_same_seed_gives_the_same_interval_and_another_does_not():
    sentences = make_sentences(40)
    predicted = answers(sentences, right=0.6)
    one, two, other = (
        evaluate.score(TASKS["ner"], sentences, predicted, language="x", resamples=200, seed=seed)
        for seed in (3, 3, 4)
    )
    assert one == two
    assert one.interval != other.interval
    assert one.metrics == other.metrics


@pytest.mark.parametrize("task", ["ner", "pos"])
def test_each_resample_scores_what_the_drawn_sentences_score(task):
    sentences = make_sentences(9)
    predicted = answers(sentences, right=0.5)
    record = TASKS[task]
    statistics = record.statistics(sentences, predicted)
    draws = record.metrics(evaluate._resampled(statistics, 20, np.random.default_rng(5)))
    drawn = np.random.default_rng(5).integers(9, size=(20, 9))
    for sample, picked in enumerate(drawn):
        some = [sentences[i] for i in picked]
        totals = record.statistics(some, [predicted[i] for i in picked]).sum(axis=0)
        for name, value in record.metrics(totals).items():
            assert draws[name][sample] == pytest.approx(float(value))


def test_a_bootstrap_interval_is_as_wide_as_the_binomial_says():
    rng = np.random.default_rng(1)
    sentences = [TaggedSentence(("w",), ("NOUN",)) for _ in range(400)]
    predicted = [("NOUN" if rng.random() < 0.8 else "VERB",) for _ in sentences]
    found = evaluate.score(TASKS["pos"], sentences, predicted, language="x", resamples=2000)
    p = found.metrics["accuracy"]
    low, high = found.interval["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * (p * (1 - p) / 400) ** 0.5, rel=0.1)


def test_a_system_compared_with_itself_shows_no_difference():
    sentences = make_sentences(30)
    predicted = answers(sentences, right=0.6)
    found = evaluate.compare(TASKS["ner"], sentences, predicted, predicted, resamples=100)
    assert (found.difference, found.interval, found.p_value) == (0.0, (0.0, 0.0), 1.0)
    assert (
        found.a
        == found.b
        == evaluate.score(TASKS["ner"], sentences, predicted, language="x").metrics["f1"]
    )


def test_a_clearly_better_system_is_found_out_and_the_sign_follows_the_order():
    sentences = make_sentences(150)
    good, bad = answers(sentences, right=0.9), answers(sentences, right=0.4, seed=1)
    found = evaluate.compare(TASKS["ner"], sentences, good, bad, resamples=500)
    assert found.metric == "f1"
    assert found.difference == pytest.approx(found.a - found.b)
    assert 0 < found.interval[0] < found.difference < found.interval[1]
    assert found.p_value == pytest.approx(1 / 501)
    assert json.loads(json.dumps(found.to_dict()))["interval"] == list(found.interval)
    back = evaluate.compare(TASKS["ner"], sentences, bad, good, resamples=500)
    assert back.difference == -found.difference


def test_equally_good_systems_are_rarely_told_apart():
    sentences = make_sentences(60)
    small = 0
    for seed in range(20):
        a = answers(sentences, right=0.6, seed=2 * seed)
        b = answers(sentences, right=0.6, seed=2 * seed + 1)
        small += evaluate.compare(TASKS["pos"], sentences, a, b, resamples=200).p_value < 0.05
    assert small <= 4


def test_loyalty_counts_equal_answers_right_or_wrong():
    assert evaluate.loyalty(
        TASKS["ner"], [("O", "O"), ("B-PER",)], [("O", "B-LOC"), ("B-PER",)]
    ) == (pytest.approx(2 / 3))


def test_the_majority_baseline_says_the_commonest_label_and_finds_no_entity():
    train = [TaggedSentence(("a", "b", "c"), ("O", "O", "B-PER"))]
    test = [TaggedSentence(("d", "e"), ("B-PER", "O"))]
    predicted = tagging.majority(train, test)
    assert predicted == [("O", "O")]
    assert evaluate.score(TASKS["ner"], test, predicted, language="x").metrics["f1"] == 0.0
    tied = [TaggedSentence(("a", "b"), ("VERB", "NOUN"))]
    assert tagging.majority(tied, test) == [("NOUN", "NOUN")]


def test_what_cannot_be_scored_is_refused():
    one = [TaggedSentence(("a",), ("O",))]
    with pytest.raises(DataError, match="no example to score"):
        evaluate.score(TASKS["ner"], [], [], language="x")
    with pytest.raises(DataError, match="0 for 1 examples"):
        evaluate.score(TASKS["ner"], one, [], language="x")
    with pytest.raises(DataError, match="0 for 1 examples"):
        evaluate.compare(TASKS["ner"], one, [("O",)], [])
    with pytest.raises(DataError, match="no label to take"):
        tagging.majority([TaggedSentence(("a",))], one)
    with pytest.raises(RecipeError, match="an interval needs resamples"):
        evaluate.score(TASKS["ner"], one, [("O",)], language="x", resamples=0)


@pytest.mark.parametrize("broken", [{}, {"n": "many"}, {"metrics": 3}])
def test_a_damaged_score_is_refused(broken):
    sentences = make_sentences(5)
    whole = evaluate.score(
        TASKS["pos"], sentences, answers(sentences, right=0.5), language="x"
    ).to_dict()
    found = {**whole, **broken} if broken else {"task": "ner"}
    with pytest.raises(DataError, match="not scores that limbeck wrote"):
        Scores.from_dict(found)


def test_single_labels_come_with_their_confusions_and_back():
    texts = [
        LabelledText("a", label="x"),
        LabelledText("b", label="y"),
        LabelledText("c", label="x"),
    ]
    found = evaluate.score(TASKS["topics"], texts, ["x", "x", "y"], language="und", resamples=5)
    assert found.confusion == evaluate.Confusion(("x", "y"), ((1, 1), (1, 0)))
    assert Scores.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert [column.header for column in confusion_table(found.confusion).columns] == [
        "gold",
        "x",
        "y",
    ]
