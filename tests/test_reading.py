"""Questions become windows, and scores of pieces become exactly the characters of the context."""

import json
import unicodedata
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.tasks import reading
from limbeck.tasks.pair_pieces import nfc_with_places
from limbeck.tasks.reading import (
    Answer,
    Question,
    Span,
    decode,
    encode,
    n_best,
    settle,
)
from limbeck.tasks.windows import IGNORED

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PAIR = {
    "single": "[CLS] $A [SEP]",
    "pair": "[CLS] $A [SEP] $B:1 [SEP]:1",
    "special_tokens": [("[CLS]", 1), ("[SEP]", 2)],
}


def characters(normalizer=None, pair=PAIR):
    """A piece a character: WordPiece with everything in a word cut up, unknown marks included."""
    found = [*LETTERS, *"ABC0123456789éọẹ½", "\u0300", "\u0301", "\u200b", "क", "\u093c", "你好吗"]
    alphabet = list(dict.fromkeys("".join(found)))
    pieces = ["[UNK]", "[CLS]", "[SEP]", *alphabet, *("##" + c for c in alphabet)]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(**pair)
    return tokenizer


def words():
    """Pieces of several characters: `ab` and `cd` where they stand, else single letters."""
    pieces = ["<unk>", "<s>", "</s>", "▁", "▁ab", "cd", *LETTERS, *"XY."]
    vocabulary = [(piece, -float(9 - 3 * len(piece.strip("▁")))) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, 0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 1), ("</s>", 2)],
    )
    return tokenizer


def bytelevel():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *("Ġ" + c for c in LETTERS), "<|b|>", "<|e|>"]
    tokenizer = Tokenizer(
        models.BPE({p: i for i, p in enumerate(pieces)}, [("Ġ", c) for c in LETTERS])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    begin, end = len(pieces) - 2, len(pieces) - 1
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|b|> $A <|e|>",
        pair="<|b|> $A <|e|> $B <|e|>",
        special_tokens=[("<|b|>", begin), ("<|e|>", end)],
    )
    return tokenizer


STRIPPED = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
TOKENIZERS = {
    "plain": characters,
    "nfc": lambda: characters(normalizers.NFC()),
    "nfkc": lambda: characters(normalizers.NFKC()),
    "nfd": lambda: characters(normalizers.NFD()),
    "accents stripped": lambda: characters(STRIPPED),
    "metaspace": words,
    "bytes": bytelevel,
}
every_tokenizer = pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)


def ask(context, answer=None, question="who", at=None, **more):
    if answer is None:
        return Question(question, context, where="a.json:q1", **more)
    start = context.index(answer) if at is None else at
    return Question(question, context, (Answer(answer, start),), where="a.json:q1", **more)


def telling(windows, *, sure=5.0):
    """Scores that say what the marks say."""
    outputs = []
    for window in windows:
        scores = np.zeros((len(window.pieces), 2), dtype=np.float32)
        if window.marks["start"][0] > 0:
            scores[window.marks["start"][0], 0] = scores[window.marks["end"][0], 1] = sure
        outputs.append(scores)
    return outputs


def back(question, tokenizer, **more):
    windows = encode([question], tokenizer, (), **more)
    (span,) = decode([question], windows, telling(windows), (), max_answer=500)
    return span


@every_tokenizer
@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("ab cd ef", "cd"),
        ("ab cd ef", "ab cd"),
        ("ab cd ef", "ef"),
        ("  ab cd ", "ab"),
        ("é x ọ\u0300 y", "ọ\u0300"),
        ("e\u0301 x o\u0323\u0300 y", "o\u0323\u0300"),
        ("e\u0301 x o\u0323\u0300", "e\u0301"),
        ("x e\u0301e\u0301 e\u0301", "e\u0301e\u0301"),
        ("ab \u0958 cd", "\u0958"),
        ("ab \u0958 cd", "cd"),
        ("你 好", "你"),
        ("你 好", "好"),
        ("x ½ y", "½"),
        ("Ab CD", "CD"),
    ],
)
def test_an_answer_on_piece_boundaries_comes_back_exactly(make, context, answer):
    span = back(ask(context, answer), make())
    assert (span.text, span.start) == (answer, context.index(answer))
    assert context[span.start : span.stop] == span.text


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("make", [characters, bytelevel], ids=["characters", "bytes"])
def test_both_unicode_forms_have_the_same_pieces_and_their_own_characters(make, form):
    context = unicodedata.normalize(form, "ọ̀ é bé")
    answer = unicodedata.normalize(form, "bé")
    (window,) = encode([ask(context, answer)], make(), ())
    (composed,) = encode([ask(unicodedata.normalize("NFC", context))], make(), ())
    assert window.pieces.tolist() == composed.pieces.tolist()
    assert back(ask(context, answer), make()).text == answer


def test_a_letter_that_nfc_lengthens_keeps_its_place():
    mapped = nfc_with_places("a\u0958b")
    assert mapped.text == "a\u0915\u093cb"
    assert mapped.begin.tolist() == [0, 1, 1, 2]
    assert mapped.stop.tolist() == [1, 2, 2, 3]


@settings(deadline=None)
@given(st.text(alphabet="ae\u0301\u0323\u0300\u0958क\u093c \u1100\u1161\u11a8é\u200b가"))
def test_the_map_is_nfc_and_covers_the_text_in_order(text):
    mapped = nfc_with_places(text)
    assert mapped.text == unicodedata.normalize("NFC", text)
    assert len(mapped.text) == len(mapped.begin) == len(mapped.stop)
    assert (np.diff(mapped.begin) >= 0).all()
    assert (np.diff(mapped.stop) >= 0).all()
    assert {i for a, b in zip(mapped.begin, mapped.stop, strict=True) for i in range(a, b)} == set(
        range(len(text))
    )


@settings(deadline=None, max_examples=60)
@given(
    st.text(alphabet="abé e\u0301\u0323.\u200b 你", min_size=1),
    st.sampled_from([characters(), bytelevel(), words()]),
    st.data(),
)
def test_any_answer_comes_back_within_the_smallest_run_that_covers_it(context, tokenizer, data):
    start = data.draw(st.integers(0, len(context) - 1))
    stop = data.draw(st.integers(start + 1, len(context)))
    if not context[start:stop].strip():
        return
    question = Question("who", context, (Answer(context[start:stop], start),))
    (window,) = encode([question], tokenizer, ())
    begin, end = window.marks["begin"], window.marks["stop"]
    covered = [i for i in np.flatnonzero(begin >= 0) if end[i] > start and begin[i] < stop]
    span = back(question, tokenizer)
    assert span.text == context[span.start : span.stop]
    if covered:
        assert (span.start, span.stop) == (begin[covered[0]], end[covered[-1]])
        assert (window.marks["start"][0], window.marks["end"][0]) == (covered[0], covered[-1])
    else:
        assert window.marks["start"][0] == window.marks["end"][0] == 0


@pytest.mark.parametrize(("answer", "run"), [("b cd", "ab cd"), ("b c", "ab cd"), ("d e", "cd e")])
def test_an_answer_that_cuts_a_piece_gets_the_whole_piece(answer, run):
    context = "x ab cd ef"
    span = back(ask(context, answer), words())
    assert (span.text, span.start) == (run, context.index(run))


def test_a_mark_that_the_tokenizer_drops_belongs_to_its_letter():
    (window,) = encode([ask("ọ\u0300 x")], characters(STRIPPED), None)
    place = np.flatnonzero(window.marks["begin"] >= 0)
    assert window.marks["stop"][place].tolist() == [2, 4]


def test_the_question_stands_before_the_context_with_its_own_type():
    tokenizer = characters()
    (window,) = encode([ask("ab c", "c", question="x")], tokenizer, ())
    names = [tokenizer.id_to_token(piece) for piece in window.pieces]
    assert names == ["[CLS]", "x", "[SEP]", "a", "##b", "c", "[SEP]"]
    assert window.types.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert window.marks["begin"].tolist() == [IGNORED] * 3 + [0, 1, 3] + [IGNORED]
    assert window.marks["stop"].tolist() == [IGNORED] * 3 + [1, 2, 4] + [IGNORED]
    assert (window.marks["start"].tolist(), window.marks["end"].tolist()) == ([5], [5])
    assert {mark.dtype for mark in window.marks.values()} == {np.dtype(np.int64)}


def test_types_that_are_all_zero_are_left_out():
    (window,) = encode([ask("ab", "ab")], words(), ())
    assert window.types is None


def test_a_pair_is_put_together_as_the_post_processor_does_it():
    tokenizer = words()
    (window,) = encode([ask("ab cd", question="de ab")], tokenizer, None)
    assert window.pieces.tolist() == tokenizer.encode("de ab", "ab cd").ids


def test_gold_is_marked_only_where_it_is_known():
    without = ask("ab c", answerable=False)
    for question, labels, mark in [
        (ask("ab c", "c"), None, IGNORED),
        (ask("ab c"), (), IGNORED),
        (without, (), 0),
        (without, None, IGNORED),
    ]:
        (window,) = encode([question], characters(), labels)
        assert window.marks["start"].tolist() == window.marks["end"].tolist() == [mark]


def test_long_contexts_are_read_through_windows_that_repeat_the_question():
    context = " ".join(LETTERS)
    windows = encode(
        [ask(context, "m n", question="xyz")], characters(), (), max_pieces=16, stride=4
    )
    assert len(windows) > 2
    assert all(len(window.pieces) == 16 for window in windows)
    assert all((window.pieces[:5] == windows[0].pieces[:5]).all() for window in windows)
    begins = [begin for window in windows for begin in window.marks["begin"] if begin >= 0]
    assert set(begins) == {2 * i for i in range(26)}
    seen = [window.marks["start"][0] > 0 for window in windows]
    assert any(seen)
    assert not all(seen)
    assert back(
        ask(context, "m n", question="xyz"), characters(), max_pieces=16, stride=4
    ).text == ("m n")


def test_a_window_that_holds_half_an_answer_holds_none():
    question = ask(" ".join(LETTERS), " ".join(LETTERS[2:16]))
    for window in encode([question], characters(), (), max_pieces=16, stride=2):
        assert window.marks["start"].tolist() == window.marks["end"].tolist() == [0]


def test_a_question_gets_at_most_half_of_the_room():
    question = ask("ab", "ab", question=" ".join(LETTERS))
    (window,) = encode([question], characters(), (), max_pieces=23, stride=4)
    assert (window.types == 0).sum() == 1 + 10 + 1


def test_windows_must_leave_room():
    with pytest.raises(RecipeError, match="windows must move on"):
        encode([ask("ab")], characters(), None, max_pieces=16, stride=8)


@pytest.mark.parametrize("pair", ["$A:0 $B:1", "[CLS] $B:1 [SEP] $A:0", "$A:0 [SEP] $B:1"])
def test_a_tokenizer_that_makes_no_pair_is_refused(pair):
    tokenizer = characters(pair={**PAIR, "pair": pair})
    with pytest.raises(ModelError, match="does not make a pair"):
        encode([ask("ab")], tokenizer, None)


def test_a_tokenizer_without_letters_is_refused():
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Replace(Regex("[a-z0-9]"), "")
    with pytest.raises(ModelError, match="no piece in any Latin letter"):
        encode([ask("ab")], tokenizer, None)


def test_a_context_without_pieces_gets_no_answer():
    tokenizer = characters(normalizers.Replace("\u200b", ""))
    question = ask("\u200b", "\u200b")
    (window,) = encode([question], tokenizer, ())
    assert window.marks["start"].tolist() == [0]
    (span,) = decode([question], [window], telling([window]), ())
    assert (span.text, span.start, span.stop) == ("", 0, 0)
    json.dumps(asdict(span), allow_nan=False)


def scored(windows, *, starts=(), ends=(), no_answer=0.0):
    """Scores by place in the first window; all else is very low."""
    outputs = [np.full((len(window.pieces), 2), -50, dtype=np.float32) for window in windows]
    for place, score in starts:
        outputs[0][place, 0] = score
    for place, score in ends:
        outputs[0][place, 1] = score
    for output in outputs:
        output[0] = no_answer / 2
    return outputs


def test_the_best_span_starts_before_it_ends_and_lies_in_the_context():
    question = ask("a b c", question="xy")
    windows = encode([question], characters(), None)
    outputs = scored(
        windows, starts=[(1, 9), (4, 5), (6, 6)], ends=[(2, 9), (4, 3), (5, 5), (6, 1)]
    )
    (span,) = decode([question], windows, outputs, ())
    assert span == Span("a b", 0, 3, 10.0, 0.0)


def test_an_answer_is_at_most_as_long_as_asked():
    question = ask("a b c d e")
    windows = encode([question], characters(), None)
    first = 5
    outputs = scored(
        windows, starts=[(first, 9), (first + 3, 1)], ends=[(first + 4, 9), (first, 2)]
    )
    assert decode([question], windows, outputs, (), max_answer=5)[0].text == "a b c d e"
    assert decode([question], windows, outputs, (), max_answer=4)[0].text == "a"
    assert decode([question], windows, outputs, (), max_answer=1)[0].text == "a"


def test_a_threshold_refuses_what_no_answer_beats():
    question = ask("a b")
    windows = encode([question], characters(), None)
    outputs = scored(windows, starts=[(5, 1)], ends=[(5, 1)], no_answer=5.0)
    found = decode([question], windows, outputs, ())
    assert found == [Span("a", 0, 1, -3.0, 5.0)]
    assert settle(found, threshold=3.0)[0].text == "a"
    assert settle(found, threshold=2.9)[0] == Span("", 0, 0, -3.0, 5.0)


def test_the_smallest_no_answer_score_of_the_windows_counts():
    question = ask(" ".join(LETTERS))
    windows = encode([question], characters(), None, max_pieces=16, stride=4)
    outputs = scored(windows)
    for number, output in enumerate(outputs):
        output[0] = number - 1
    assert decode([question], windows, outputs, ())[0].no_answer == -2.0


def test_n_best_agrees_with_trying_every_span():
    draw = np.random.default_rng(0)
    questions = [ask(" ".join(LETTERS), id=str(i)) for i in range(3)]
    windows = encode(questions, characters(), None, max_pieces=16, stride=4)
    outputs = [draw.normal(size=(len(w.pieces), 2)).astype(np.float32) for w in windows]
    found = n_best(questions, windows, outputs, count=5, max_answer=4)
    for number, question in enumerate(questions):
        tried: dict[tuple[int, int], float] = {}
        refusals = []
        for window, scores in zip(windows, outputs, strict=True):
            if window.example != number:
                continue
            scores = scores.astype(float)
            refusals.append(scores[0].sum())
            places = np.flatnonzero(window.marks["begin"] >= 0)
            for i in places:
                for j in places[(places >= i) & (places < i + 4)]:
                    key = (int(window.marks["begin"][i]), int(window.marks["stop"][j]))
                    tried[key] = max(tried.get(key, -99.0), scores[i, 0] + scores[j, 1])
        best = sorted(tried, key=tried.__getitem__, reverse=True)[:5]
        assert [(span.start, span.stop) for span in found[number]] == best
        assert [span.score for span in found[number]] == pytest.approx(
            [tried[key] - min(refusals) for key in best]
        )
        assert all(span.text == question.context[span.start : span.stop] for span in found[number])
    assert [best for best, *_ in found] == decode(questions, windows, outputs, (), max_answer=4)


def test_outputs_must_fit_the_windows():
    question = ask("a b")
    windows = encode([question], characters(), None)
    with pytest.raises(ModelError, match="one array of scores per window"):
        decode([question], windows, [], ())
    with pytest.raises(ModelError, match=r"a\.json:q1: .*wrong shape.*expected \(8, 2\)"):
        decode([question], windows, [np.zeros((8, 3), dtype=np.float32)], ())
    with pytest.raises(ModelError, match="not the windows of these questions"):
        decode([question, question], windows, telling(windows), ())


@pytest.mark.parametrize("place", [0, 5])
def test_a_score_that_is_not_finite_is_refused(place):
    question = ask("a b")
    windows = encode([question], characters(), None)
    (scores,) = telling(windows)
    scores[4] = np.nan  # the separator is never read
    decode([question], windows, [scores], ())
    scores[place, 1] = np.inf
    with pytest.raises(ModelError, match="not finite"):
        decode([question], windows, [scores], ())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"question": " "}, "the question is blank"),
        ({"context": "\n"}, "the context is blank"),
        ({"answers": (Answer("ab", 1),)}, "not where it should be.*'b' at 1.*'ab'"),
        ({"answers": (Answer("ab", 0),), "answerable": False}, "have an answer and have none"),
    ],
)
def test_a_question_checks_itself(more, message):
    with pytest.raises(DataError, match=message):
        Question(**{"question": "who", "context": "ab", "where": "a.json:q1", **more})


@pytest.mark.parametrize(("text", "start"), [(" ", 0), ("", 3), ("ab", -1)])
def test_an_answer_checks_itself(text, start):
    with pytest.raises(DataError, match="a text and a place"):
        Answer(text, start)


def test_the_small_functions_of_the_task():
    question = ask("ab c", "c", title="t", id="7", language="en")
    assert reading.count_units([question, question]) == 2
    assert reading.from_text("ab c", "x.txt:1") is None
    assert reading.identify(question) == ("t",)
    assert reading.identify(replace(question, title="")) == ("ab c",)
    again = reading.relabelled(question, Span("ab", 0, 2, 1.0, 0.0))
    assert again.answers == (Answer("ab", 0),)
    refused = reading.relabelled(question, Span("", 0, 0, -1.0, 0.0))
    assert (refused.answers, refused.answerable, refused.labelled) == ((), False, True)
    assert reading.relabelled(refused, Span("ab", 0, 2, 1.0, 0.0)).answerable
    told = reading.describe(question)
    assert json.loads(json.dumps(told)) == told
    assert (told["where"], told["gold"], told["question"]) == ("a.json:q1", ["c"], "who")
