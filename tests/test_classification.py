import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import BertProcessing, RobertaProcessing, TemplateProcessing

from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.tasks import classification, label_scores
from limbeck.tasks.classification import LabelledText
from limbeck.tasks.windows import IGNORED

NLI = ("entailment", "neutral", "contradiction")
LETTERS = "abcdefgh"
SPECIAL = [("[CLS]", 1), ("[SEP]", 2)]
PROCESSORS = {
    "typed": TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=SPECIAL
    ),
    "untyped": TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] [SEP] $B [SEP]", special_tokens=SPECIAL
    ),
    "bert": BertProcessing(("[SEP]", 2), ("[CLS]", 1)),
    "roberta": RobertaProcessing(("[SEP]", 2), ("[CLS]", 1)),
}


def letters(processor="typed"):
    """Every letter is a piece."""
    pieces = ["[UNK]", "[CLS]", "[SEP]", *LETTERS, *("##" + c for c in LETTERS), "\u00e9"]
    tokenizer = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if processor:
        tokenizer.post_processor = PROCESSORS[processor]
    return tokenizer


def texts(*rows):
    return [LabelledText(*row, where=f"a.tsv:{i}") for i, row in enumerate(rows, start=2)]


def labelled(gold):
    return texts(*(("a", None, label) for label in gold))


@settings(max_examples=80, deadline=None)
@given(
    text=st.text(LETTERS + " ", min_size=1, max_size=20).filter(str.strip),
    pair=st.none() | st.text(LETTERS + " ", min_size=1, max_size=20).filter(str.strip),
    max_pieces=st.integers(6, 20),
    processor=st.sampled_from(sorted(PROCESSORS)),
)
def test_long_texts_are_cut_as_the_tokenizer_itself_would_cut_them(
    text, pair, max_pieces, processor
):
    tokenizer, cutting = letters(processor), letters(processor)
    cutting.enable_truncation(max_pieces, strategy="longest_first")
    example = LabelledText(text, pair)
    (window,) = classification.encode([example], tokenizer, None, max_pieces=max_pieces)
    expected = cutting.encode(text, pair)
    assert window.pieces.tolist() == expected.ids
    if window.types is None:
        assert pair is None or not any(expected.type_ids)
    else:
        assert window.types.tolist() == expected.type_ids
    cut = classification.count_cut([example], tokenizer, max_pieces=max_pieces)
    assert cut == (len(tokenizer.encode(text, pair).ids) > max_pieces)


def test_the_label_is_the_one_mark_and_a_window_is_an_example():
    examples = texts(("a b", None, "neutral"), ("c", None, ""), ("d", None, "entailment"))
    windows = classification.encode(examples, letters(), NLI)
    assert [w.example for w in windows] == [0, 1, 2]
    assert [w.marks["labels"].tolist() for w in windows] == [[1], [IGNORED], [0]]
    assert all(w.marks["labels"].dtype == w.pieces.dtype == np.int64 for w in windows)
    assert windows[0].types is None
    (window, *_) = classification.encode(examples, letters(), None)
    assert window.marks["labels"].tolist() == [IGNORED]


def test_singles_and_pairs_and_more_than_one_batch_keep_their_order():
    examples = [LabelledText(LETTERS[i % 8], "b" if i % 3 else None) for i in range(1100)]
    windows = classification.encode(examples, letters("untyped"), None)
    assert [w.pieces[1] for w in windows] == [3 + i % 8 for i in range(1100)]
    assert [len(w.pieces) for w in windows] == [6 if i % 3 else 3 for i in range(1100)]


def test_truncation_and_padding_of_the_tokenizer_are_put_aside():
    tokenizer = letters()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9, pad_id=0, pad_token="[UNK]")
    (window,) = classification.encode([LabelledText("abcdefgh")], tokenizer, None)
    assert len(window.pieces) == 10
    assert tokenizer.truncation is not None


def test_texts_are_read_in_nfc():
    a, b = classification.encode([LabelledText("\u00e9"), LabelledText("e\u0301")], letters(), None)
    assert a.pieces.tolist() == b.pieces.tolist() == [1, 19, 2]


@pytest.mark.parametrize(("pair", "least"), [(None, 3), ("b", 5)])
def test_windows_without_room_for_text_are_refused(pair, least):
    example = LabelledText("a", pair)
    with pytest.raises(RecipeError, match=rf"no room for text.*at least {least}"):
        classification.encode([example], letters(), None, max_pieces=least - 1)
    classification.encode([example], letters(), None, max_pieces=least)


def test_a_text_that_leaves_nothing_to_read_is_refused():
    tokenizer = letters(None)
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Split("a", "removed")
    with pytest.raises(ModelError, match=r"a\.tsv:2: the tokenizer finds no piece in a text"):
        classification.encode(texts(("a",)), tokenizer, None)


@pytest.mark.parametrize(("text", "pair"), [("", None), (" \u200b", None), ("a", "\n")])
def test_an_empty_text_is_no_example(text, pair):
    with pytest.raises(DataError, match=r"a\.tsv:7: the (second )?text is empty"):
        LabelledText(text, pair, where="a.tsv:7")


def test_a_label_that_the_model_does_not_know_is_named_with_its_place():
    with pytest.raises(DataError, match=r"a\.tsv:2.*sports.*one of entailment neutral"):
        classification.encode(texts(("a", None, "sports")), letters(), NLI)


def test_the_highest_logit_is_the_answer():
    examples = texts(("a",), ("b", "c"))
    windows = classification.encode(examples, letters(), None)
    logits = [np.array(row, dtype=np.float32) for row in ([0, 2, 1], [-1, -3, -2])]
    assert classification.decode(examples, windows, logits, NLI) == ["neutral", "entailment"]


def test_logits_that_do_not_fit_are_refused():
    one = texts(("a",))
    windows = classification.encode(one, letters(), None)
    with pytest.raises(ModelError, match="one array of scores per window"):
        classification.decode(one, windows, [], NLI)
    with pytest.raises(ModelError, match=r"a\.tsv:2.*wrong shape.*\(1, 3\).*\(3,\)"):
        classification.decode(one, windows, [np.zeros((1, 3))], NLI)
    with pytest.raises(ModelError, match=r"a\.tsv:2.*not finite"):
        classification.decode(one, windows, [np.array([0, np.inf, 0])], NLI)
    with pytest.raises(ModelError, match="not the windows of these texts"):
        classification.decode([*one, *one], windows, [np.zeros(3)], NLI)


@settings(max_examples=40, deadline=None)
@given(
    # scikit-learn warns where there is one label only.
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcde")), min_size=1).filter(
        lambda rows: len({label for row in rows for label in row}) > 1
    )
)
def test_scores_agree_with_scikit_learn(rows):
    from sklearn import metrics

    gold, said = zip(*rows, strict=True)
    examples = labelled(gold)
    counts = label_scores.statistics(examples, said)
    assert counts.dtype == np.int64 and len(counts) == len(rows)
    values = label_scores.metrics(counts.sum(axis=0))
    assert values["accuracy"] == pytest.approx(metrics.accuracy_score(gold, said))
    assert values["macro_f1"] == pytest.approx(
        metrics.f1_score(gold, said, average="macro", zero_division=0)
    )
    names, matrix = label_scores.confusion(examples, said)
    assert matrix.tolist() == metrics.confusion_matrix(gold, said, labels=names).tolist()
    table = metrics.precision_recall_fscore_support(gold, said, labels=names, zero_division=0)
    found = label_scores.per_label(examples, said)
    assert tuple(one.label for one in found) == names
    for column, name in enumerate(("precision", "recall", "f1", "support")):
        assert [getattr(one, name) for one in found] == pytest.approx(list(table[column]))


def test_statistics_may_be_summed_over_any_sample_of_examples():
    gold, said = list("aabbcc"), list("abbbca")
    counts = label_scores.statistics(labelled(gold), said)
    samples = np.array([[0, 0, 1, 2], [5, 4, 3, 3]])
    values = label_scores.metrics(counts[samples].sum(axis=1))
    for row, sample in enumerate(samples):
        alone = label_scores.statistics(
            labelled([gold[i] for i in sample]), [said[i] for i in sample]
        )
        for name, value in label_scores.metrics(alone.sum(axis=0)).items():
            assert values[name][row] == pytest.approx(float(value))


def test_statistics_need_a_prediction_and_a_gold_label_per_text():
    with pytest.raises(DataError, match="1 for 2 texts"):
        label_scores.statistics(labelled("ab"), ["a"])
    with pytest.raises(DataError, match=r"a\.tsv:3.*without a label"):
        label_scores.statistics(labelled(["a", ""]), ["a", "a"])


def test_texts_that_cannot_be_scored_are_refused():
    label_scores.check(labelled("ab"))
    with pytest.raises(DataError, match=r"a\.tsv:3.*without a label"):
        label_scores.check(labelled(["a", ""]))
    with pytest.raises(DataError, match=r"do not tell labels apart.*\['a'\]"):
        label_scores.check(labelled("aa"))
    with pytest.raises(DataError, match="do not tell labels apart"):
        label_scores.check([])


def test_agreement_is_the_share_of_equal_answers():
    assert label_scores.agreement(list("abcd"), list("abca")) == 0.75
    with pytest.raises(DataError, match="2 answers against 1"):
        label_scores.agreement(list("ab"), ["a"])
    with pytest.raises(DataError, match="no answer to agree on"):
        label_scores.agreement([], [])


def test_the_baseline_gives_the_commonest_label_of_the_training_set():
    assert classification.majority(labelled("cbbca"), labelled("abc")) == ["b"] * 3
    with pytest.raises(DataError, match=r"a\.tsv:2.*1 texts without labels"):
        classification.majority(labelled([""]), labelled("a"))


def test_running_text_is_a_text_and_never_a_pair():
    assert classification.from_text("a b", "c.txt:4") == LabelledText("a b", where="c.txt:4")
    assert classification.from_text(" \u200b", "c.txt:5") is None
    assert classification.pair_from_text("a b.", "c.txt:4") is None
    found = classification.pair_from_text("A b. C d! E f.", "c.txt:4")
    assert found is not None and (found.text, found.pair) == ("A b.", "C d! E f.")


def test_a_prediction_may_stand_for_gold():
    (example,) = texts(("a", "b", "neutral"))
    again = classification.relabelled(example, "entailment")
    assert again == dataclasses.replace(example, label="entailment")
    assert classification.count_units([example, again]) == 2


def test_an_example_is_described_ready_for_json():
    pair, single = texts(("a", "b", "neutral"), ("\u00e9",))
    told = classification.describe(pair)
    assert told == {"where": "a.tsv:2", "text": "a", "pair": "b", "gold": "neutral"}
    assert classification.describe(single) == {"where": "a.tsv:3", "text": "\u00e9", "gold": None}
    assert json.loads(json.dumps(told)) == told
