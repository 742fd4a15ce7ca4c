"""The best tree is the best of all trees, and what is written is CoNLL-U to its validator."""

import inspect
import itertools
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from limbeck.errors import DataError
from limbeck.tasks.parsing import ParsedSentence
from limbeck.tasks.trees import fault, maximum_tree, to_conllu

NUMBERS = st.one_of(
    st.integers(-2, 2).map(float), st.floats(-50, 50, width=32), st.floats(-1e9, 1e9, width=32)
)


def total(scores, heads):
    return sum(scores[word, head] for word, head in enumerate(heads))


def best_by_trying_all(scores):
    count = len(scores)
    choices = [[head for head in range(count + 1) if head != word + 1] for word in range(count)]
    return max(
        total(scores, heads)
        for heads in itertools.product(*choices)
        if heads.count(0) == 1 and fault(heads) is None
    )


@settings(max_examples=150, deadline=None)
@given(
    scores=st.integers(1, 5).flatmap(
        lambda n: arrays.arrays(np.float64, (n, n + 1), elements=NUMBERS)
    )
)
def test_the_tree_is_the_best_of_all_trees_with_one_root(scores):
    before = scores.copy()
    heads = maximum_tree(scores)
    assert heads.dtype == np.int64
    assert (heads == 0).sum() == 1
    assert fault(heads.tolist()) is None
    assert (scores == before).all()
    scale = max(1.0, np.abs(scores).max())
    assert total(scores, heads) == pytest.approx(best_by_trying_all(scores), abs=1e-9 * scale)


def test_one_root_is_kept_where_the_best_scores_want_two():
    scores = np.array([[9.0, 0, 0, 1], [9, 2, 0, 0], [0, 0, 5, 0]])
    assert maximum_tree(scores).tolist() == [0, 1, 2]


def test_a_long_sentence_gives_back_the_tree_its_scores_are_made_of():
    rng = np.random.default_rng(0)
    heads = np.array([0, *(int(rng.integers(1, word + 1)) for word in range(1, 200))])
    scores = rng.normal(size=(200, 201))
    scores[np.arange(200), heads] += 20
    assert maximum_tree(scores).tolist() == heads.tolist()


def test_sentences_of_no_word_and_of_one_are_trees():
    assert maximum_tree(np.zeros((0, 1))).tolist() == []
    assert maximum_tree(np.zeros((1, 2))).tolist() == [0]


@pytest.mark.parametrize(
    ("heads", "what", "found", "word"),
    [
        ((0, 1, 0), "more than one root", "the words 1, 3", 2),
        ((2, 3, 1), "in a circle", "1 → 2 → 3 → 1", 0),
        ((0, 3, 4, 3), "in a circle", "3 → 4 → 3", 2),
        ((1,), "in a circle", "1 → 1", 0),
    ],
)
def test_what_is_no_tree_says_why_and_where(heads, what, found, word):
    broken = fault(heads)
    assert broken is not None
    assert what in broken.what
    assert (broken.found, broken.word) == (found, word)


@pytest.mark.parametrize("heads", [(), (0,), (2, 0), (2, 3, 0, 3)])
def test_a_tree_has_no_fault(heads):
    assert fault(heads) is None


EXAMPLES = [
    ParsedSentence(
        ("de", "el", "10 000", "e\u0301", "\u200b"), ranges=((1, 2, "del"), (4, 5, "é\u200b"))
    ),
    ParsedSentence(("Hi",)),
]
TREES = [
    ((3, "case"), (3, "det"), (0, "root"), (3, "nmod:poss"), (3, "punct")),
    ((0, "root"),),
]


def test_a_file_has_ten_columns_multiword_tokens_and_a_text():
    lines = to_conllu(EXAMPLES, TREES).split("\n")
    assert lines[:5] == [
        "# sent_id = 1",
        "# text = del 10 000 é\u200b",
        "1-2\tdel" + 8 * "\t_",
        "1\tde" + 4 * "\t_" + "\t3\tcase\t_\t_",
        "2\tel" + 4 * "\t_" + "\t3\tdet\t_\t_",
    ]
    assert lines[-3:] == ["1\tHi" + 4 * "\t_" + "\t0\troot\t_\t_", "", ""]
    assert all(line.count("\t") == 9 for line in lines if line and line[0] != "#")


def test_a_sentence_without_words_is_left_out_and_keeps_its_number():
    text = to_conllu([ParsedSentence(()), EXAMPLES[1]], [(), TREES[1]])
    assert text.count("# sent_id") == 1
    assert text.startswith("# sent_id = 2\n")


@pytest.mark.parametrize(
    ("examples", "trees"),
    [
        (EXAMPLES, TREES),
        ([ParsedSentence((" a ", "b\u00a0 c", "\u0085"))], [((2, "dep"), (0, "root"), (2, "dep"))]),
    ],
    ids=["plain", "spaces"],
)
def test_the_official_validator_finds_nothing_but_missing_and_unknown_tags(
    examples, trees, tmp_path
):
    validator = pytest.importorskip("udtools.validator")
    path = tmp_path / "system.conllu"
    path.write_text(to_conllu(examples, trees), encoding="utf-8")
    for level in (1, 2):
        state = validator.Validator(lang="ud", level=level, output=None).validate_files([str(path)])
        assert {one.testid for one in state.error_tracker} <= (
            {"unknown-upos"} if level > 1 else set()
        )


def test_trees_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="one prediction per sentence; found 1 for 2"):
        to_conllu(EXAMPLES, TREES[:1])
    one = ParsedSentence(("a", "b"), where="a.conllu:3")
    with pytest.raises(DataError, match=r"a\.conllu:3: a tree needs one head per word; found 1"):
        to_conllu([one], [((0, "root"),)])


def test_a_long_text_of_rings_within_rings_is_no_matter():
    # Each word is drawn to the next, the last to the first: one ring after the other grows by one.
    count = 300
    scores = np.full((count, count + 1), -1e6)
    for word in range(count):
        scores[word, word + 2 if word + 1 < count else count - 1] = 0.0
        scores[word, word] = -float(count - word)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    tracemalloc.start()
    try:
        heads = maximum_tree(scores)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        sys.setrecursionlimit(limit)
    assert fault(heads.tolist()) is None
    assert most < 8 * scores.nbytes
