"""A tokenizer is the same bytes from the same text, balanced, and what transformers reads."""

import json
import random
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from limbeck.anatomy import anatomy, unknown_id
from limbeck.errors import DataError, RecipeError
from limbeck.tasks.windows import special_pieces
from limbeck.tokenizer_training import (
    Spelling,
    _balanced,
    _covered,
    _in_one_order,
    save_tokenizer,
    train_tokenizer,
)

KINDS = ("unigram", "bpe", "wordpiece")
SIZES = {"unigram": 120, "bpe": 300, "wordpiece": 120}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def words(seed: int) -> list[str]:
    draw = random.Random(seed)
    letters = "abcdefghijklmnoprstuẹọṣáà"
    return ["".join(draw.choices(letters, k=draw.randint(2, 6))) for _ in range(40)]


def lines(seed: int, count: int) -> list[str]:
    draw, known = random.Random(seed), words(seed)
    return [
        unicodedata.normalize("NFC", " ".join(draw.choices(known, k=8)).capitalize() + ".")
        for _ in range(count)
    ]


TEXTS = {"eng": lines(1, 200), "yor": lines(2, 60)}


def train(kind: str, pieces: int = 0, *, exponent: float = 0.5, **options: Any) -> Tokenizer:
    texts = options.pop("texts", TEXTS)
    spelling = Spelling(kind, pieces or SIZES[kind], **options)  # type: ignore[arg-type]
    readers = {language: (lambda own=own: own) for language, own in texts.items()}
    return train_tokenizer(readers, spelling, exponent=exponent, most_characters=10**6)


@EVERY_KIND
def test_the_same_text_gives_the_same_bytes(kind: str):
    found = {train(kind).to_str() for _ in range(5)}
    assert len(found) == 1


@EVERY_KIND
def test_it_has_as_many_pieces_as_asked_for_in_ids_without_a_hole(kind: str):
    vocabulary = train(kind).get_vocab()
    assert sorted(vocabulary.values()) == list(range(SIZES[kind]))


@EVERY_KIND
def test_text_is_wrapped_and_reads_back(kind: str):
    tokenizer = train(kind)
    special = special_pieces(tokenizer)
    assert len(special.begin) == len(special.end) == 1
    for text in (TEXTS["eng"][0], TEXTS["yor"][7]):
        encoded = tokenizer.encode(text)
        assert [encoded.ids[0], encoded.ids[-1]] == [*special.begin, *special.end]
        assert unknown_id(tokenizer) not in encoded.ids
        wanted = text.replace(".", " .") if kind == "wordpiece" else text
        decoded = tokenizer.decode(encoded.ids)
        assert decoded.strip() in (text, wanted), kind


@EVERY_KIND
def test_transformers_reads_the_folder_with_every_role(kind: str, tmp_path: Path):
    spelling = Spelling(kind, SIZES[kind])  # type: ignore[arg-type]
    tokenizer = train(kind)
    save_tokenizer(tokenizer, spelling, tmp_path)
    auto = AutoTokenizer.from_pretrained(tmp_path)
    assert auto.is_fast and len(auto) == SIZES[kind]
    for text in [*TEXTS["yor"][:5], f"{TEXTS['eng'][0]} {auto.mask_token} x"]:
        assert auto(text)["input_ids"] == tokenizer.encode(text).ids
    assert set(auto("a")) == {"input_ids", "attention_mask"}
    roles = (auto.cls_token, auto.sep_token, auto.pad_token, auto.unk_token, auto.mask_token)
    assert set(roles) == set(spelling.specials.pieces)
    assert sorted(auto.all_special_ids) == list(range(5))


@EVERY_KIND
def test_trimming_knows_what_it_is_made_of(kind: str):
    parts = anatomy(train(kind))
    assert parts.kind == {"unigram": "Unigram", "bpe": "BPE", "wordpiece": "WordPiece"}[kind]
    assert set(range(5)) <= set(parts.always.tolist())
    assert parts.is_byte_level == (kind == "bpe")


def test_byte_level_words_keep_their_combining_marks():
    texts = {"yor": [unicodedata.normalize("NFC", "ẹ̀kọ́ náà dára ẹ̀kọ́ gan-an 12, ẹ̀kọ́")] * 9}
    tokenizer = train("bpe", 280, texts=texts)
    pieces = tokenizer.encode(" ẹ̀kọ́", add_special_tokens=False).ids
    assert len(pieces) == 1, "a mark does not end a word"


@EVERY_KIND
@pytest.mark.parametrize(
    ("options", "one", "other", "same"),
    [
        ({}, "Ab", "ab", False),
        ({"lowercase": True}, "Ab", "ab", True),
        ({"normaliser": "nfkc"}, "ﬁ", "fi", True),
        ({"normaliser": "nfc"}, "e\u0301", "\u00e9", True),
    ],
)
def test_text_is_written_as_asked(kind: str, options: Any, one: str, other: str, same: bool):
    texts = {"eng": [*TEXTS["eng"], *["Ab ab fi ﬁ é"] * 9]}
    tokenizer = train(kind, {"unigram": 100}.get(kind, SIZES[kind]), texts=texts, **options)
    ids = [tokenizer.encode(text).ids for text in (one, other)]
    assert (ids[0] == ids[1]) is same


def test_each_language_gives_its_share_of_text_evenly():
    texts = {"a": ["x" * 10] * 800, "b": ["y" * 10] * 200}
    readers = {language: (lambda own=own: own) for language, own in texts.items()}
    sizes = {"a": 8000, "b": 2000}
    for exponent, expected in ((1.0, (800, 200)), (0.0, (500, 500)), (0.5, (667, 333))):
        found = Counter(_balanced(readers, sizes, exponent=exponent, most_characters=10**9))
        assert (found["x" * 10], found["y" * 10]) == pytest.approx(expected, abs=1)
    capped = list(_balanced(readers, sizes, exponent=0.0, most_characters=1000))
    assert Counter(capped) == {"x" * 10: 50, "y" * 10: 50}
    spread = list(_balanced({"a": lambda: map(str, range(100))}, {"a": 190}, exponent=1.0,
                            most_characters=19))  # fmt: skip
    assert spread == [str(9 + 10 * i) for i in range(10)], "not the start of the corpus alone"


def test_a_small_language_has_more_pieces_with_a_smaller_exponent():
    texts = {"eng": lines(1, 400), "yor": lines(2, 20)}
    length = {}
    for exponent in (0.0, 1.0):
        tokenizer = train("wordpiece", 130, texts=texts, exponent=exponent)
        length[exponent] = sum(len(tokenizer.encode(text).ids) for text in texts["yor"])
    assert length[0.0] < length[1.0]


def test_the_rarest_characters_beyond_the_coverage_are_unknown():
    counted = Counter({"a": 90, "b": 9, "c": 1, " ": 500})
    assert _covered(counted, 1.0) == {"a", "b", "c"}
    assert _covered(counted, 0.99) == {"a", "b"}
    texts = {"eng": [*lines(1, 300), "☃"], "yor": lines(2, 60)}
    for kind in ("unigram", "wordpiece"):
        known = train(kind, texts=texts, coverage=1.0)
        dropped = train(kind, texts=texts, coverage=0.999)
        assert unknown_id(known) not in known.encode("☃").ids
        assert unknown_id(dropped) in dropped.encode("☃").ids
        assert unknown_id(dropped) not in dropped.encode(TEXTS["yor"][0]).ids


def test_scores_that_a_hash_table_ordered_are_put_in_one_order():
    ladder = [-9.0, -9.0, -9.0 + 1e-4, -9.0 + 2e-4]
    others = [("▁the", -3.1), ("th", -9.0), ("e", -5.00005 + 1e-13), ("▁", -2.0)]
    ways = []
    for order in ("bdca", "abcd", "dcba"):
        ways.append(_in_one_order([*zip(order, ladder, strict=True), *others]))
    assert ways[0] == ways[1] == ways[2]
    assert dict(ways[0])["a"] == dict(ways[0])["b"] == -9.0 and dict(ways[0])["d"] == -8.9998
    assert [piece for piece, _ in ways[0]][:3] == ["▁", "▁the", "e"]


@pytest.mark.parametrize(
    ("kind", "pieces", "error", "expected"),
    [
        ("unigram", 20, RecipeError, "too few pieces to spell the text; found 20; expected at l"),
        ("wordpiece", 40, RecipeError, "two forms of "),
        ("bpe", 100, RecipeError, "expected at least 261: the bytes, and the special pieces; rai"),
        ("unigram", 5000, DataError, "tokenizer.pieces: the text does not yield so many pieces"),
        ("bpe", 5000, DataError, "expected 5000; ask for fewer, or give more text"),
        ("wordpiece", 5000, DataError, "the text does not yield so many pieces; found "),
    ],
)
def test_a_number_of_pieces_that_cannot_be_is_told(
    kind: str, pieces: int, error: type[Exception], expected: str
):
    with pytest.raises(error) as told:
        train(kind, pieces)
    assert expected in str(told.value) and "\n" not in str(told.value)


def test_a_language_without_text_is_told():
    with pytest.raises(DataError, match=r"corpus\.yor: no text to learn pieces from"):
        train("unigram", texts={"eng": TEXTS["eng"], "yor": []})


@EVERY_KIND
def test_the_file_is_json_that_loads_alone(kind: str, tmp_path: Path):
    save_tokenizer(train(kind), Spelling(kind, SIZES[kind]), tmp_path)  # type: ignore[arg-type]
    spec = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert spec["truncation"] is None and spec["padding"] is None
    loaded = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert loaded.encode(TEXTS["eng"][3]).ids == train(kind).encode(TEXTS["eng"][3]).ids
