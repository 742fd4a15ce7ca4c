"""Answers are compared as SQuAD does in English and as MLQA does elsewhere."""

import collections
import re
import string
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import DataError
from limbeck.tasks.answer_scores import (
    MILLION,
    agreement,
    answer_words,
    check,
    choose_threshold,
    exact_match,
    majority,
    metrics,
    per_label,
    statistics,
    word_f1,
)
from limbeck.tasks.reading import Answer, Question, Span


def published_words(text):
    """SQuAD's normalisation, written anew from its description."""
    lowered = "".join(" " if c.isspace() else c for c in text.lower())
    bare = lowered.translate({ord(c): None for c in string.punctuation})
    kept = re.compile(r"\b(?:the|an|a)\b").sub(" ", bare)
    return [word for word in kept.split(" ") if word]


def published_scores(prediction, golds):
    """Exact match and F1 of SQuAD v2.0, written anew; golds of nothing but articles drop out."""
    golds = [gold for gold in golds if published_words(gold)] or [""]
    exact = max(published_words(prediction) == published_words(gold) for gold in golds)
    best = 0.0
    for gold in golds:
        left, right = published_words(prediction), published_words(gold)
        if not left or not right:
            best = max(best, float(left == right))
            continue
        rest, same = collections.Counter(right), 0
        for word in left:
            if rest[word] > 0:
                rest[word] -= 1
                same += 1
        best = max(best, 2 * same / (len(left) + len(right)))
    return float(exact), best


def question(gold, context=None, *, language="en", **more):
    golds = (gold,) if isinstance(gold, str) else gold
    context = context or " ".join(golds)
    answers = tuple(Answer(one, context.index(one)) for one in golds)
    return Question("who", context, answers, language, where="a.json:q1", **more)


def said(text, score=0.0):
    return Span(text, 0, len(text), score, 0.0)


NO_ANSWER = Question("who", "ab", answerable=False, language="en")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The  Broncos!", ["broncos"]),
        ("A's an a-b U.S.", ["as", "ab", "us"]),
        ("1992–1993", ["1992–1993"]),
        ("The", []),
        ("theatre\u00a0an ant", ["theatre", "ant"]),
        ("e\u0301 a\u0301", ["é", "á"]),
    ],
)
def test_english_is_read_as_in_squad(text, words):
    assert answer_words(text, "en") == answer_words(text, "eng") == words


ASCII = st.text(alphabet="the an A,.-'$ \tTH bé–", max_size=12)


@given(ASCII, st.lists(ASCII, min_size=1, max_size=3))
def test_english_scores_equal_the_published_ones(prediction, golds):
    exact, f1 = published_scores(prediction, golds)
    assert exact_match(prediction, golds, "en") == exact
    assert word_f1(prediction, golds, "en") == pytest.approx(f1)


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("the Denver Broncos", ["Denver Broncos", "Broncos"], 1, 1),
        ("Denver", ["Denver Broncos", "Carolina"], 0, 2 / 3),
        ("to to be", ["to be or to"], 0, 6 / 7),
        ("x", ["y", "z"], 0, 0),
        ("", [], 1, 1),
        ("x", [], 0, 0),
        ("", ["x"], 0, 0),
        ("the", ["a"], 1, 1),
    ],
)
def test_scores_made_by_hand(prediction, golds, exact, f1):
    assert exact_match(prediction, golds, "en") == exact
    assert word_f1(prediction, golds, "en") == pytest.approx(f1)


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("es", "¿El Niño, o las niñas?", ["niño", "o", "niñas"]),
        ("spa", "los gatos", ["gatos"]),
        ("es-MX", "los gatos", ["gatos"]),
        ("de", "Der „Sächsische“ Garten", ["sächsische", "garten"]),
        ("deu_Latn", "eines Tages", ["tages"]),
        ("fr", "L’homme et l'eau, les amis", ["homme", "et", "eau", "amis"]),
        ("vi", "những của Hà Nội là", ["hà", "nội"]),
        ("ar", "الكتاب، الأول؟", ["كتاب", "أول"]),
        ("ar", "خالد", ["خالد"]),
        ("hi", "काउंटियों।", ["काउंटियों"]),
        ("ru", "«The» Москва", ["the", "москва"]),
        ("zh", "卡万·肖特 3D", ["卡", "万", "肖", "特", "3d"]),
        ("zh", "ABC公司2015年", ["abc", "公", "司", "2015", "年"]),
        ("ja", "カタカナ", list("カタカナ")),
        ("th", "ดีมาก", ["ดี", "ม", "า", "ก"]),
        ("", "the Ａ–½", ["the", "a1⁄2"]),
        ("yor", "o\u0323\u0300 E\u0323", ["ọ\u0300", "ẹ"]),
    ],
)
def test_other_languages_are_read_as_in_mlqa(language, text, words):
    assert answer_words(text, language) == words


@pytest.mark.parametrize("language", ["es", "vi", "yor", "en", "hi"])
@given(text=st.text(alphabet="aeọ\u0301\u0323\u0300क\u093c lsu", max_size=8))
def test_unicode_forms_make_no_difference(language, text):
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    assert answer_words(forms[0], language) == answer_words(forms[1], language)
    assert exact_match(forms[0], [forms[1]], language) == 1


def test_a_gold_of_punctuation_only_is_no_gold():
    assert exact_match("x", ["%", "x"], "zh") == 1
    assert exact_match("", ["%"], "zh") == 1


def test_statistics_are_whole_millionths_that_may_be_summed():
    questions = [question("a b c"), question(("x y", "x")), NO_ANSWER, NO_ANSWER]
    rows = statistics(questions, [said("b"), said("x"), said(""), said("ab")])
    assert rows.dtype == np.int64
    assert rows.tolist() == [
        [round(MILLION * 2 / 3), 0, 1],
        [MILLION, MILLION, 1],
        [MILLION, MILLION, 1],
        [0, 0, 1],
    ]
    both = metrics(np.stack([rows.sum(axis=0), rows[:2].sum(axis=0), np.zeros(3, dtype=np.int64)]))
    assert list(both) == ["f1", "em"]
    assert both["f1"] == pytest.approx([(2 / 3 + 2) / 4, (2 / 3 + 1) / 2, 0.0], abs=1e-6)
    assert both["em"].tolist() == [0.5, 0.5, 0.0]


def test_statistics_need_one_prediction_and_a_gold_each():
    with pytest.raises(DataError, match="one prediction per question"):
        statistics([question("a b")], [])
    with pytest.raises(DataError, match=r"a\.json:q1: a question has no gold answer"):
        statistics([Question("who", "ab", where="a.json:q1")], [said("ab")])


def test_a_score_needs_gold_and_at_least_one_answer():
    check([question("x"), NO_ANSWER])
    with pytest.raises(DataError, match="no question here has an answer; found 0"):
        check([])
    with pytest.raises(DataError, match="no question here has an answer; found 1"):
        check([NO_ANSWER])
    with pytest.raises(DataError, match="a question has no gold answer"):
        check([question("x"), Question("who", "ab")])


def test_answers_have_no_labels():
    assert per_label([question("x")], [said("x")]) == ()


def test_agreement_is_the_share_of_equal_texts():
    assert agreement([said("x"), said("y")], [said("x", 3.0), said("z")]) == 0.5
    with pytest.raises(DataError, match="did not answer the same"):
        agreement([said("x")], [])
    with pytest.raises(DataError, match="no answer to agree on"):
        agreement([], [])


def test_the_baseline_is_the_sentence_nearest_to_the_question():
    context = "Ada was born in Lagos. She lives in Kano now.  Bees fly?"
    one = Question("Where does she live now?", context, language="en")
    (span,) = majority([question("x")], [one])
    assert span.text == "She lives in Kano now." == context[span.start : span.stop]
    (first,) = majority([], [Question("zzz?", context, language="en")])
    assert first.text == "Ada was born in Lagos."
    (chinese,) = majority([], [Question("他住在哪里", "我是人。他住在上海。", language="zh")])
    assert chinese.text == "他住在上海。"
    (whole,) = majority([], [Question("zzz?", "no stop", language="en")])
    assert whole.text == "no stop"


def test_the_baseline_refuses_where_most_questions_have_no_answer():
    assert majority([NO_ANSWER, NO_ANSWER, question("x")], [question("x")])[0].text == ""


def test_the_threshold_is_the_one_with_the_best_f1():
    questions = [question("x"), NO_ANSWER, question("y"), NO_ANSWER]
    predictions = [said("x", 4.0), said("ab", -1.0), said("y", 1.0), said("ab", -3.0)]
    threshold = choose_threshold(questions, predictions)
    assert threshold == -1.0


def refused(predictions, threshold):
    return [said("", one.score) if -one.score > threshold else one for one in predictions]


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(-3, 3)), min_size=1, max_size=8)
)
def test_no_other_threshold_is_better(drawn):
    questions = [question("x") if known else NO_ANSWER for known, _, _ in drawn]
    predictions = [said("x" if right else "ab", float(score)) for _, right, score in drawn]

    def total(threshold):
        return statistics(questions, refused(predictions, threshold))[:, 0].sum()

    best = max(total(t) for t in np.arange(-4, 4.5, 0.5))
    assert total(choose_threshold(questions, predictions)) == best


def test_a_threshold_needs_questions():
    with pytest.raises(DataError, match="no question to choose a threshold by"):
        choose_threshold([], [])
