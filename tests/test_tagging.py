import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.tasks import find_task, tagging
from limbeck.tasks.tagging import TaggedSentence
from limbeck.tasks.windows import IGNORED, Window, cut, special_pieces

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def wordpiece():
    pieces = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", *LETTERS, *("##" + c for c in LETTERS), "."]
    tokenizer = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def unigram(scheme="always"):
    vocabulary = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    vocabulary += [(c, -3.0) for c in LETTERS] + [("▁" + c, -2.5) for c in LETTERS]
    tokenizer = Tokenizer(models.Unigram(vocabulary, 2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Replace("\u200b", "")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(prepend_scheme=scheme),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


def bytelevel(*, add_prefix_space=False):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *("Ġ" + c for c in LETTERS), "<|end|>"]
    tokenizer = Tokenizer(
        models.BPE({p: i for i, p in enumerate(pieces)}, [("Ġ", c) for c in LETTERS])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", len(pieces) - 1)]
    )
    return tokenizer


def gemma():
    """Spaces become ▁ and nothing is prepended: a lone word has no word-start form."""
    pieces = ["<unk>", "<bos>", "▁", *LETTERS, *("▁" + c for c in LETTERS)]
    tokenizer = Tokenizer(
        models.BPE(
            {p: i for i, p in enumerate(pieces)},
            [("▁", c) for c in LETTERS],
            unk_token="<unk>",
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    return tokenizer


TOKENIZERS = {
    "wordpiece": wordpiece,
    "metaspace": unigram,
    "metaspace-first": lambda: unigram("first"),
    "bytelevel": bytelevel,
    "bytelevel-prefix": lambda: bytelevel(add_prefix_space=True),
    "gemma": gemma,
}


def sentence(text, tags=""):
    return TaggedSentence(tuple(text.split(" ")), tuple(tags.split()), "a.txt:1")


def one_hot(windows, classes):
    """Logits that say the gold label where there is one."""
    return [
        np.eye(classes)[np.where(w.marks["labels"] == IGNORED, 0, w.marks["labels"])]
        for w in windows
    ]


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
def test_words_get_the_pieces_that_they_have_inside_running_text(make):
    tokenizer = make()
    (window,) = tagging.encode([sentence("de ab xyz")], tokenizer, None)
    running = tokenizer.encode("q de ab xyz", add_special_tokens=False).ids
    first = tokenizer.encode("q", add_special_tokens=False).ids
    specials = special_pieces(tokenizer)
    assert running[: len(first)] == first
    assert window.pieces.tolist() == [*specials.begin, *running[len(first) :], *specials.end]


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
def test_labels_sit_on_the_first_piece_of_each_word(make):
    tokenizer = make()
    (window,) = tagging.encode([sentence("abc d ef", "O B-PER I-PER")], tokenizer, TAGS)
    start = len(special_pieces(tokenizer).begin)
    assert (
        window.marks["words"].dtype
        == window.marks["labels"].dtype
        == window.pieces.dtype
        == np.int64
    )
    assert np.flatnonzero(window.marks["words"] >= 0).tolist() == [start, start + 3, start + 4]
    assert window.marks["words"][window.marks["words"] >= 0].tolist() == [0, 1, 2]
    assert window.marks["labels"][window.marks["words"] >= 0].tolist() == [0, 1, 2]
    assert (window.marks["labels"][window.marks["words"] < 0] == IGNORED).all()


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize("word", ["", "\u200b", "\x9d", "\u00ad", " "])
def test_a_word_without_visible_characters_still_gets_one_answer(make, word):
    tokenizer = make()
    one = TaggedSentence(("ab", word, "c"), ("O", "B-PER", "O"))
    windows = tagging.encode([one], tokenizer, TAGS)
    assert tagging.decode([one], windows, one_hot(windows, 5), TAGS) == [("O", "B-PER", "O")]


def test_a_word_without_pieces_is_read_as_the_unknown_piece_and_counted():
    one = TaggedSentence(("ab", "\x9d", "c"))
    (window,) = tagging.encode([one], wordpiece(), None)
    assert window.stand_ins == 1
    assert window.pieces[np.flatnonzero(window.marks["words"] == 1)].tolist() == [0]
    (window,) = tagging.encode([TaggedSentence(("ab", "\u200b"))], unigram(), None)
    assert (window.stand_ins, window.pieces[-2]) == (1, 2)


def test_words_are_read_in_nfc():
    composed, decomposed = TaggedSentence(("\u00e9",)), TaggedSentence(("e\u0301",))
    a, b = tagging.encode([composed, decomposed], bytelevel(), None)
    assert a.pieces.tolist() == b.pieces.tolist()


def test_truncation_and_padding_of_the_tokenizer_are_put_aside_and_come_back():
    tokenizer = wordpiece()
    tokenizer.enable_truncation(4, stride=1)
    tokenizer.enable_padding(length=9, pad_id=3, pad_token="[PAD]")
    before = (tokenizer.truncation, tokenizer.padding)
    (window,) = tagging.encode([sentence("abcdefgh i")], tokenizer, None)
    assert len(window.pieces) == 11
    assert (tokenizer.truncation, tokenizer.padding) == before


def test_a_sentence_without_words_is_one_window_of_special_pieces():
    empty = TaggedSentence(())
    windows = tagging.encode([empty], wordpiece(), TAGS)
    assert [w.pieces.tolist() for w in windows] == [[1, 2]]
    assert tagging.decode([empty], windows, one_hot(windows, 5), TAGS) == [()]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=25),
    room=st.integers(1, 14),
    stride=st.integers(0, 13),
)
def test_every_word_of_a_long_sentence_is_owned_once_and_no_piece_is_lost(lengths, room, stride):
    if stride >= room:
        stride = room - 1
    words = tuple("a" * n for n in lengths)
    tags = tuple(TAGS[i % 5] for i in range(len(words)))
    one = TaggedSentence(words, tags)
    windows = tagging.encode([one], wordpiece(), TAGS, max_pieces=room + 2, stride=stride)
    assert all(len(w.pieces) <= room + 2 for w in windows)
    owned = np.concatenate([w.marks["words"][w.marks["words"] >= 0] for w in windows])
    assert sorted(owned.tolist()) == list(range(len(words)))
    runs = cut(sum(lengths), room=room, stride=stride)
    assert sorted({p for run in runs for p in run}) == list(range(sum(lengths)))
    assert tagging.decode([one], windows, one_hot(windows, 5), TAGS) == [tags]


@pytest.mark.parametrize("stride", [-1, 8, 9])
def test_windows_that_cannot_move_on_are_refused(stride):
    with pytest.raises(RecipeError, match="windows must move on"):
        tagging.encode([sentence("a")], wordpiece(), None, max_pieces=10, stride=stride)


def test_a_label_that_the_model_does_not_know_is_named_with_its_place():
    with pytest.raises(DataError, match=r"a\.txt:1.*B-DATE"):
        tagging.encode([sentence("a", "B-DATE")], wordpiece(), TAGS)


def test_a_sentence_needs_one_label_per_word():
    with pytest.raises(DataError, match="1 labels for 2 words"):
        sentence("a b", "O")


def test_logits_that_do_not_fit_are_refused():
    one = [sentence("a b", "O O")]
    windows = tagging.encode(one, wordpiece(), TAGS)
    with pytest.raises(ModelError, match="one array of scores per window"):
        tagging.decode(one, windows, [], TAGS)
    with pytest.raises(ModelError, match=r"wrong shape.*\(4, 3\).*\(4, 5\)"):
        tagging.decode(one, windows, [np.zeros((4, 3))], TAGS)
    with pytest.raises(ModelError, match="not finite"):
        tagging.decode(one, windows, [np.full((4, 5), np.nan)], TAGS)
    none = Window(0, windows[0].pieces, {**windows[0].marks, "words": np.full(4, IGNORED)})
    with pytest.raises(ModelError, match="got no answer"):
        tagging.decode(one, [none], [np.zeros((4, 5))], TAGS)


def test_an_unknown_task_is_answered_with_the_nearest():
    with pytest.raises(RecipeError, match=r"'nerd'.*did you mean 'ner'"):
        find_task("nerd")
    with pytest.raises(RecipeError, match="one of ner, pos"):
        find_task("poetry")
