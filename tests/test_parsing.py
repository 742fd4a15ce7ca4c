"""A sentence becomes windows with arcs between their words, and scores become trees again."""

import dataclasses
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.tasks import parsing, tree_scores
from limbeck.tasks.parsing import ParsedSentence
from limbeck.tasks.scores import LabelScore
from limbeck.tasks.trees import fault, to_conllu
from limbeck.tasks.windows import IGNORED, Window
from test_tagging import TOKENIZERS, bytelevel, unigram, wordpiece

LABELS = ("det", "nsubj", "nsubj:pass", "root")


def sentence(words, heads=(), relations="", **more):
    where = more.pop("where", "a.conllu:1")
    return ParsedSentence(
        tuple(words.split(" ")), tuple(heads), tuple(relations.split()), where=where, **more
    )


ONE = sentence("abc d ef", (2, 3, 0), "det nsubj:pass root")
TREE = ((2, "det"), (3, "nsubj:pass"), (0, "root"))


def scored(windows, relations, *, level=0.0, noise=0.0):
    """Scores that say the gold tree where the window knows it."""
    rng = np.random.default_rng(0)
    outputs = []
    for window in windows:
        count = len(window.marks["words"])
        scores = rng.normal(size=(count, count + 1, 1 + relations)) * noise
        for word, (head, relation) in enumerate(
            zip(window.marks["heads"], window.marks["relations"], strict=True)
        ):
            scores[word, :, 0] += level
            if head != IGNORED:
                scores[word, head, 0] += 4
                scores[word, head, 1 + relation] += 4
        outputs.append(scores.astype(np.float32))
    return outputs


@st.composite
def trees(draw, longest=12):
    """Heads of a random tree: words are hung up one after another in a random order."""
    order = draw(st.permutations(range(1, draw(st.integers(1, longest)) + 1)))
    heads = [0] * len(order)
    for place, word in enumerate(order[1:], start=1):
        heads[word - 1] = order[draw(st.integers(0, place - 1))]
    return heads


def labelled(heads, draw):
    return [draw(st.sampled_from(LABELS[:-1])) if head else "root" for head in heads]


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
def test_marks_say_where_words_stand_and_which_arcs_are_right(make):
    (window,) = parsing.encode([ONE], make(), LABELS)
    start = window.marks["firsts"][0]
    marks = {
        name: (mark - start * (name in ("firsts", "lasts"))).tolist()
        for name, mark in window.marks.items()
    }
    assert marks == {
        "firsts": [0, 3, 4],
        "lasts": [2, 3, 5],
        "words": [0, 1, 2],
        "owned": [1, 1, 1],
        "heads": [2, 3, 0],
        "relations": [0, 2, 3],
    }
    assert {mark.dtype for mark in window.marks.values()} == {np.dtype(np.int64)}
    (tagged,) = parsing.encode([ParsedSentence(ONE.words)], make(), LABELS)
    assert tagged.pieces.tolist() == window.pieces.tolist()


@pytest.mark.parametrize("labels", [None, LABELS])
def test_without_labels_or_trees_heads_and_relations_are_ignored(labels):
    example = ParsedSentence(ONE.words) if labels else ONE
    (window,) = parsing.encode([example], wordpiece(), labels)
    assert window.marks["heads"].tolist() == window.marks["relations"].tolist() == [IGNORED] * 3
    assert window.marks["owned"].tolist() == [1, 1, 1]


def test_a_window_marks_only_arcs_inside_it_of_words_it_owns():
    one = sentence("a b c d e f", (2, 0, 2, 6, 4, 2), "det root det det det nsubj")
    windows = parsing.encode([one], wordpiece(), LABELS, max_pieces=6, stride=2)
    assert [window.marks["words"].tolist() for window in windows] == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert [window.marks["owned"].tolist() for window in windows] == [[1, 1, 1, 0], [0, 1, 1, 1]]
    assert windows[0].marks["heads"].tolist() == [2, 0, 2, IGNORED]
    assert windows[1].marks["heads"].tolist() == [IGNORED, 4, 2, IGNORED]
    assert windows[1].marks["relations"].tolist() == [IGNORED, 0, 0, IGNORED]


def test_the_last_piece_of_a_word_that_is_cut_off_is_the_last_of_the_window():
    (one, *_) = parsing.encode([sentence("a bcdefgh")], wordpiece(), None, max_pieces=5, stride=1)
    assert one.marks["firsts"].tolist() == [1, 2]
    assert one.marks["lasts"].tolist() == [1, 3]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), room=st.integers(1, 14), stride=st.integers(0, 13))
def test_every_word_of_a_long_sentence_is_answered_once_by_a_tree(data, room, stride):
    heads = data.draw(trees())
    words = tuple("a" * data.draw(st.integers(1, 9)) for _ in heads)
    one = ParsedSentence(words, tuple(heads), tuple(labelled(heads, data.draw)))
    stride = min(stride, room - 1)
    windows = parsing.encode([one], wordpiece(), LABELS, max_pieces=room + 2, stride=stride)
    assert all(len(window.pieces) <= room + 2 for window in windows)
    owned = [window.marks["words"][window.marks["owned"] == 1] for window in windows]
    assert sorted(np.concatenate(owned).tolist()) == list(range(len(words)))
    for window in windows:
        known = window.marks["heads"] > 0
        seen = window.marks["words"][window.marks["heads"][known] - 1] + 1
        assert seen.tolist() == np.array(heads)[window.marks["words"][known]].tolist()
    (found,) = parsing.decode([one], windows, scored(windows, 4, noise=0.1), LABELS)
    assert fault([head for head, _ in found]) is None
    assert [relation == "root" for _, relation in found] == [head == 0 for head, _ in found]


def test_a_text_longer_than_a_stretch_has_one_root_on_which_the_others_hang(monkeypatch):
    monkeypatch.setattr(parsing, "STRETCH", 4)
    heads = (2, 0, 2, 3, 6, 2, 6, 7, 10, 2, 10)
    one = ParsedSentence(("ab",) * len(heads), heads, ("det",) * len(heads))
    windows = parsing.encode([one], unigram(), LABELS, max_pieces=20, stride=2)
    (found,) = parsing.decode([one], windows, scored(windows, 4, noise=0.1), LABELS)
    assert fault([head for head, _ in found]) is None
    assert tuple(head for head, _ in found) == heads
    assert [relation == "root" for _, relation in found] == [head == 0 for head in heads]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_scores_that_say_the_tree_give_it_back(data):
    heads = data.draw(trees())
    one = ParsedSentence(("ab",) * len(heads), tuple(heads), tuple(labelled(heads, data.draw)))
    windows = parsing.encode([one], unigram(), LABELS)
    outputs = scored(windows, 4, level=1e4, noise=0.1)
    gold = tuple(zip(one.heads, one.relations, strict=True))
    assert parsing.decode([one], windows, outputs, LABELS) == [gold]


def test_a_head_outside_the_window_is_taken_only_where_no_tree_can_do_without():
    one = sentence("a b c d e f", (2, 0, 2, 3, 4, 5), "det root det det det nsubj")
    windows = parsing.encode([one], wordpiece(), LABELS, max_pieces=6, stride=2)
    outputs = scored(windows, 4)
    assert parsing.decode([one], windows, outputs, LABELS) == [
        tuple(zip(one.heads, one.relations, strict=True))
    ]
    alone = parsing.encode([one], wordpiece(), LABELS, max_pieces=3, stride=0)
    (found,) = parsing.decode([one], alone, scored(alone, 4), LABELS)
    assert fault([head for head, _ in found]) is None


def test_root_is_the_relation_of_the_root_and_of_no_other_word():
    (window,) = parsing.encode([ONE], wordpiece(), LABELS)
    (scores,) = scored([window], 4)
    scores[:, :, 4] = 99
    scores[2, 0, 1] = 999
    assert parsing.decode([ONE], [window], [scores], LABELS) == [TREE]
    labels = ("det", "nsubj", "nsubj:pass", "dep")
    (found,) = parsing.decode([ONE], [window], [scores], labels)
    assert [relation for _, relation in found] == ["dep", "dep", "det"]


def test_a_sentence_without_words_is_one_window_of_special_pieces():
    empty = ParsedSentence(())
    (window,) = parsing.encode([empty], wordpiece(), LABELS)
    assert window.pieces.tolist() == [1, 2]
    assert {len(mark) for mark in window.marks.values()} == {0}
    assert parsing.decode([empty], [window], [np.zeros((0, 1, 5))], LABELS) == [()]


def test_words_are_read_in_nfc_and_stand_ins_are_counted():
    a, b = parsing.encode([sentence("\u00e9"), sentence("e\u0301")], bytelevel(), None)
    assert a.pieces.tolist() == b.pieces.tolist()
    (window,) = parsing.encode([sentence("ab \x9d c")], wordpiece(), None)
    assert window.stand_ins == 1


def test_truncation_of_the_tokenizer_is_put_aside():
    tokenizer = wordpiece()
    tokenizer.enable_truncation(4)
    (window,) = parsing.encode([sentence("abcdefgh i")], tokenizer, None)
    assert len(window.pieces) == 11


def test_windows_that_cannot_move_on_are_refused():
    with pytest.raises(RecipeError, match="windows must move on"):
        parsing.encode([ONE], wordpiece(), None, max_pieces=10, stride=8)


def test_a_relation_that_the_model_does_not_know_is_named_with_its_place():
    with pytest.raises(DataError, match=r"a\.conllu:1.*found nsubj:pass"):
        parsing.encode([ONE], wordpiece(), ("det", "nsubj", "root"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"heads": (0,), "relations": "root"}, "found 1 and 1 for 2 words"),
        ({"heads": (0, 1), "relations": "root"}, "found 2 and 1 for 2 words"),
        ({"heads": (0, 3), "relations": "root det"}, "found 3 for word 2 of 2"),
        ({"heads": (0, -1), "relations": "root det"}, "found -1 for word 2 of 2"),
        ({"heads": (0, 2), "relations": "root det"}, "found 2 for word 2 of 2"),
        ({"ranges": ((1, 3, "ab"),)}, "found 1-3 after word 0 in a sentence of 2"),
        ({"ranges": ((1, 2, "ab"), (2, 2, "b"))}, "found 2-2 after word 2"),
        ({"ranges": ((2, 1, "ab"),)}, "found 2-1 after word 0"),
    ],
)
def test_a_sentence_checks_itself(more, message):
    with pytest.raises(DataError, match=r"a\.conllu:1: .*" + message):
        sentence("a b", **more)


def test_scores_that_do_not_fit_are_refused():
    windows = parsing.encode([ONE], wordpiece(), LABELS)
    with pytest.raises(ModelError, match="one array of scores per window; found 0 for 1"):
        parsing.decode([ONE], windows, [], LABELS)
    with pytest.raises(ModelError, match=r"wrong shape; found \(3, 4, 4\); expected \(3, 4, 5\)"):
        parsing.decode([ONE], windows, [np.zeros((3, 4, 4))], LABELS)
    with pytest.raises(ModelError, match=r"a\.conllu:1.*not finite"):
        parsing.decode([ONE], windows, [np.full((3, 4, 5), np.nan)], LABELS)
    marks = {**windows[0].marks, "owned": np.array([1, 0, 1])}
    with pytest.raises(ModelError, match="got no answer"):
        parsing.decode([ONE], [Window(0, windows[0].pieces, marks)], [np.zeros((3, 4, 5))], LABELS)
    with pytest.raises(ModelError, match="no relation for a word that is not the root"):
        parsing.decode([ONE], windows, [np.zeros((3, 4, 2))], ("root",))


GOLD = [
    ONE,
    sentence("a b", (0, 1), "root nsubj"),
]
ANSWERS = [((2, "det:x"), (1, "nsubj"), (0, "root")), ((2, "nsubj"), (0, "root"))]


def test_statistics_count_words_heads_and_relations():
    counts = tree_scores.statistics(GOLD, ANSWERS)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[3, 2, 2, 1, 3], [2, 0, 0, 0, 0]]
    assert tree_scores.metrics(counts.sum(axis=0)) == {
        "uas": 0.4,
        "las": 0.4,
        "las_full": 0.2,
        "relations": 0.6,
    }


def test_metrics_are_vectorised_and_nothing_gives_zero():
    counts = tree_scores.statistics(GOLD, ANSWERS)
    values = tree_scores.metrics(np.stack([counts, 0 * counts]))
    assert values["las"].tolist() == [[2 / 3, 0], [0, 0]]
    perfect = [TREE, ((0, "root"), (1, "nsubj"))]
    counts = tree_scores.statistics(GOLD, perfect)
    assert all(value == 1 for value in tree_scores.metrics(counts.sum(axis=0)).values())
    assert all(one.f1 == 1 for one in tree_scores.per_label(GOLD, perfect))


def test_each_universal_relation_is_scored_by_its_arcs():
    assert tree_scores.per_label(GOLD, ANSWERS) == (
        LabelScore("det", 1.0, 1.0, 1.0, 1),
        LabelScore("nsubj", 0.0, 0.0, 0.0, 2),
        LabelScore("root", 0.5, 0.5, 0.5, 2),
    )


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_uas_and_las_are_those_of_the_official_scorer(data):
    udeval = pytest.importorskip("udtools.udeval")
    examples, answers = [], []
    for _ in range(data.draw(st.integers(1, 4))):
        gold = data.draw(trees(6))
        order = data.draw(st.permutations(range(len(gold))))
        shuffled = [0] * len(gold)
        for word, head in enumerate(gold):
            shuffled[order[word]] = order[head - 1] + 1 if head else 0
        heads = data.draw(st.sampled_from([gold, shuffled]))
        words = tuple("abcdef"[: len(gold)])
        relations = tuple(labelled(gold, data.draw))
        examples.append(ParsedSentence(words, tuple(gold), relations))
        answers.append(tuple(zip(heads, labelled(heads, data.draw), strict=True)))
    golds = [tuple(zip(one.heads, one.relations, strict=True)) for one in examples]
    files = [
        udeval.load_conllu(io.StringIO(to_conllu(examples, each)), "x", {})
        for each in (golds, answers)
    ]
    official = udeval.evaluate(*files)
    found = tree_scores.metrics(tree_scores.statistics(examples, answers).sum(axis=0))
    assert found["uas"] == pytest.approx(official["UAS"].f1)
    assert found["las"] == pytest.approx(official["LAS"].f1)


@pytest.mark.parametrize("score", [tree_scores.statistics, tree_scores.per_label])
def test_predictions_that_do_not_fit_are_refused(score):
    with pytest.raises(DataError, match="one prediction per sentence; found 1 for 2"):
        score(GOLD, ANSWERS[:1])
    with pytest.raises(DataError, match=r"a\.conllu:1.*found 2 and 3; expected 2"):
        score(GOLD[1:], ANSWERS[:1])
    with pytest.raises(DataError, match="found 0 and 3; expected 3"):
        score([sentence("a b c")], ANSWERS[:1])


def test_sentences_that_could_tell_nothing_are_refused():
    tree_scores.check(GOLD)
    for nothing in ([], [sentence("a", (0,), "root")], [sentence("a b")]):
        with pytest.raises(DataError, match=f"{len(nothing)} sentences; expected trees"):
            tree_scores.check(nothing)


def test_agreement_is_the_share_of_words_with_equal_head_and_relation():
    assert tree_scores.agreement(ANSWERS, ANSWERS) == 1
    assert tree_scores.agreement(ANSWERS, [TREE, ((0, "root"), (1, "nsubj"))]) == 0.2
    with pytest.raises(DataError, match="found 5 answers against 3"):
        tree_scores.agreement(ANSWERS, ANSWERS[:1])
    with pytest.raises(DataError, match="no answer to agree on"):
        tree_scores.agreement([()], [()])


def test_the_baseline_knows_the_commonest_arc_only():
    train = [sentence("a b c", (2, 0, 2), "det root nsubj"), sentence("a b", (2, 0), "det root")]
    tests = [sentence("x y z"), sentence("x"), ParsedSentence(())]
    assert parsing.majority(train, tests) == [
        ((0, "root"), (3, "det"), (2, "det")),
        ((0, "root"),),
        (),
    ]
    back = [sentence("a b c", (0, 1, 1), "root det det")]
    assert parsing.majority(back, tests[:1]) == [((0, "root"), (1, "det"), (1, "det"))]
    lone = [sentence("a", (0,), "root")]
    assert parsing.majority(lone, tests[:1]) == [((0, "root"), (1, "root"), (2, "root"))]
    with pytest.raises(DataError, match="no head to take the commonest of; found 1 sentences"):
        parsing.majority([sentence("a")], tests)


def test_running_text_is_a_sentence_without_a_tree():
    found = parsing.from_text("Hi, you.", "c.txt:4")
    assert found == ParsedSentence(("Hi", ",", "you", "."), where="c.txt:4")
    assert parsing.from_text("  ", "c.txt:5") is None


def test_a_prediction_can_be_taken_for_gold_and_told_as_json():
    one = parsing.relabelled(sentence("a b c", ranges=((1, 2, "ab"),)), TREE)
    assert (one.heads, one.relations, one.ranges) == (ONE.heads, ONE.relations, ((1, 2, "ab"),))
    assert json.loads(json.dumps(parsing.describe(one))) == {
        "where": "a.conllu:1",
        "words": ["a", "b", "c"],
        "gold": [[2, "det"], [3, "nsubj:pass"], [0, "root"]],
    }
    assert parsing.describe(sentence("a"))["gold"] == []
    assert json.dumps(dataclasses.asdict(one))
    assert parsing.count_units(GOLD) == 5
    assert parsing.identify(one) == ("a", "b", "c")
