import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import DataError
from limbeck.tasks import scores
from limbeck.tasks.tagging import TaggedSentence
from test_tagging import TAGS, sentence

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2


def test_an_inside_that_continues_nothing_is_in_no_span():
    found = scores.spans(("I-PER", "B-PER", "I-PER", "I-LOC", "I-PER", "B-LOC", "B-LOC"))
    assert [(s.kind, s.start, s.stop) for s in found] == [
        ("PER", 1, 3),
        ("LOC", 5, 6),
        ("LOC", 6, 7),
    ]


tag_lists = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=12),
    min_size=1,
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(tag_lists)
def test_span_scores_agree_with_seqeval_in_strict_mode(pairs):
    gold = [[g for g, _ in one] for one in pairs]
    predicted = [[p for _, p in one] for one in pairs]
    sentences = [TaggedSentence(("w",) * len(g), tuple(g)) for g in gold]
    totals = scores.span_statistics(sentences, predicted).sum(axis=0)
    ours = scores.span_metrics(totals)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, theirs in (
            ("f1", f1_score),
            ("precision", precision_score),
            ("recall", recall_score),
        ):
            expected = theirs(gold, predicted, mode="strict", scheme=IOB2, zero_division=0)
            assert float(ours[name]) == pytest.approx(float(expected), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(tag_lists)
def test_tag_scores_agree_with_their_formulas(pairs):
    sentences = [TaggedSentence(("w",) * len(one), tuple(g for g, _ in one)) for one in pairs]
    predicted = [[p for _, p in one] for one in pairs]
    flat = [pair for one in pairs for pair in one]
    ours = scores.tag_metrics(scores.tag_statistics(sentences, predicted).sum(axis=0))
    assert float(ours["accuracy"]) == pytest.approx(sum(g == p for g, p in flat) / len(flat))
    per_tag = []
    for tag in {tag for pair in flat for tag in pair}:
        right = sum(g == p == tag for g, p in flat)
        per_tag.append(
            2 * right / (sum(g == tag for g, _ in flat) + sum(p == tag for _, p in flat))
        )
    assert float(ours["macro_f1"]) == pytest.approx(sum(per_tag) / len(per_tag))


def test_scores_per_label_count_support_in_the_gold_labels():
    sentences = [sentence("a b c d", "B-PER I-PER O B-LOC")]
    (loc, per) = scores.span_scores(sentences, [("B-PER", "I-PER", "B-PER", "O")])
    assert (loc.label, loc.support, loc.f1) == ("LOC", 1, 0.0)
    assert (per.label, per.support, per.precision, per.recall) == ("PER", 1, 0.5, 1.0)


def test_predictions_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="one prediction per sentence"):
        scores.span_statistics([sentence("a", "O")], [])
    with pytest.raises(DataError, match=r"a\.txt:1.*one gold and one predicted label"):
        scores.tag_statistics([sentence("a b", "O O")], [("O",)])
    with pytest.raises(DataError, match="one gold and one predicted label"):
        scores.tag_statistics([sentence("a")], [("O",)])


def test_sentences_over_which_a_score_means_nothing_are_refused():
    with pytest.raises(DataError, match="no entity"):
        scores.check_spans([sentence("a b", "O I-PER")])
    with pytest.raises(DataError, match="do not tell tags apart"):
        scores.check_tags([sentence("a b", "NOUN NOUN")])
    with pytest.raises(DataError, match="no entity"):
        scores.check_spans([])
    scores.check_spans([sentence("a b", "B-PER I-PER")])
    scores.check_tags([sentence("a b", "NOUN VERB")])


def test_agreement_needs_the_same_words():
    assert scores.agreement([("O", "O")], [("O", "B-PER")]) == 0.5
    with pytest.raises(DataError, match="did not answer the same"):
        scores.agreement([("O",)], [("O", "O")])
    with pytest.raises(DataError, match="no answer to agree on"):
        scores.agreement([()], [()])
