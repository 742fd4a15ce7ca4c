import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from limbeck import blocks, reading
from limbeck.blocks import Blocks, mask_pieces, pack, read_counts, schedule
from limbeck.errors import ArtifactError, DataError, RecipeError

BEGIN, END, UNKNOWN = 0, 2, 3
LETTERS = "abcdefgh"


def a_tokenizer(model: str = "WordLevel", last_id: int = 11) -> Tokenizer:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *LETTERS]
    if model == "Unigram":
        tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    else:
        vocabulary = {piece: number for number, piece in enumerate(pieces)} | {"h": last_id}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def packed(path: Path, texts: list[str], **options) -> blocks.PackCounts:
    return pack(texts, a_tokenizer(**options), path, begin=BEGIN, end=END)


def stream(path: Path) -> list[int]:
    return np.fromfile(path, dtype=read_counts(path).dtype).tolist()


def letters(count: int) -> list[str]:
    return [" ".join(LETTERS[(n * n + k) % 8] for k in range(n % 5 + 1)) for n in range(count)]


# packing


@pytest.mark.parametrize("model", ["WordLevel", "Unigram"])
def test_the_stream_is_pieces_and_end_of_each_text(tmp_path, model):
    path = tmp_path / "yor.bin"
    counts = packed(path, ["a b", "", "c x"], model=model)
    assert stream(path) == [4, 5, 2, 2, 6, 3, 2]
    assert counts == blocks.PackCounts("uint16", 7, 3, 1, BEGIN, END) == read_counts(path)


def test_a_model_without_an_unknown_piece_counts_none(tmp_path):
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "</s>": 2}, []))
    assert pack(["ab"], tokenizer, tmp_path / "a.bin", begin=2, end=2).unknown == 0


def test_ids_that_need_more_than_16_bits_get_32(tmp_path):
    for last_id, dtype in ((65_535, "uint16"), (65_536, "uint32"), (250_101, "uint32")):
        path = tmp_path / f"{last_id}.bin"
        assert packed(path, ["a h"], last_id=last_id).dtype == dtype
        assert stream(path) == [4, last_id, 2]


def test_batches_change_nothing(tmp_path, monkeypatch):
    texts = letters(50)
    packed(tmp_path / "a.bin", texts)
    monkeypatch.setattr(reading, "BATCH_TEXTS", 7)
    packed(tmp_path / "b.bin", texts)
    monkeypatch.setattr(reading, "BATCH_CHARACTERS", 3)
    packed(tmp_path / "c.bin", iter(texts))
    a, b, c = ((tmp_path / f"{name}.bin").read_bytes() for name in "abc")
    assert a == b == c


def test_truncation_and_padding_of_the_tokenizer_are_not_applied(tmp_path):
    tokenizer = a_tokenizer()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>", length=9)
    pack(["a b c d"], tokenizer, tmp_path / "a.bin", begin=BEGIN, end=END)
    assert stream(tmp_path / "a.bin") == [4, 5, 6, 7, 2]
    assert tokenizer.truncation["max_length"] == 2 and tokenizer.padding["length"] == 9


def test_nothing_to_pack_is_told_and_leaves_no_sidecar(tmp_path):
    path = tmp_path / "a.bin"
    packed(path, ["a"])
    with pytest.raises(DataError, match="a.bin: no text to pack"):
        packed(path, [])
    with pytest.raises(DataError, match="no packed stream"):
        read_counts(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_in_one_line(tmp_path):
    (tmp_path / "a.bin").symlink_to("/dev/full")
    with pytest.raises(ArtifactError, match="a.bin: the disk is full"):
        packed(tmp_path / "a.bin", ["a b"] * 10_000)


# blocks


@given(st.integers(2, 9), st.integers(4, 40))
def test_blocks_put_together_are_the_stream(tmp_path_factory, length, count):
    path = tmp_path_factory.mktemp("blocks") / "a.bin"
    pieces = packed(path, letters(count)).pieces
    some = Blocks(path, length=length, begin=BEGIN)
    assert len(some) == pieces // (length - 1)
    rows = np.stack([some.block(index) for index in range(len(some))])
    assert rows.shape == (len(some), length) and rows.dtype == np.int64
    assert (rows[:, 0] == BEGIN).all()
    assert rows[:, 1:].ravel().tolist() == stream(path)[: len(some) * (length - 1)]


def test_one_block_must_fit(tmp_path):
    packed(tmp_path / "a.bin", ["a b c"])
    assert len(Blocks(tmp_path / "a.bin", length=5, begin=BEGIN)) == 1
    message = "a.bin: too little text; found 4 pieces; expected 5 or more for blocks of 6"
    with pytest.raises(DataError, match=message):
        Blocks(tmp_path / "a.bin", length=6, begin=BEGIN)
    with pytest.raises(RecipeError, match="a block is too short; found 1 pieces"):
        Blocks(tmp_path / "a.bin", length=1, begin=BEGIN)


def test_a_block_that_is_not_there_is_an_index_error(tmp_path):
    packed(tmp_path / "a.bin", ["a b c"])
    some = Blocks(tmp_path / "a.bin", length=3, begin=BEGIN)
    for index in (-1, 2):
        with pytest.raises(IndexError, match=f"block {index} of 2"):
            some.block(index)


def test_a_stream_of_another_tokenizer_is_told(tmp_path):
    packed(tmp_path / "a.bin", ["a b c"])
    with pytest.raises(DataError, match="other pieces; found begin 0; expected begin 1; pack it"):
        Blocks(tmp_path / "a.bin", length=3, begin=1)


def test_a_damaged_stream_is_told(tmp_path):
    path = tmp_path / "a.bin"
    packed(path, ["a b c"])
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ArtifactError, match="a.bin: damaged; found 6 bytes; expected 8 bytes"):
        Blocks(path, length=3, begin=BEGIN)
    for content in ("{", json.dumps({"pieces": 4})):
        (tmp_path / "a.bin.json").write_text(content)
        with pytest.raises(ArtifactError, match="a.bin.json: damaged; .*pack the stream again"):
            read_counts(path)


# the schedule


@pytest.fixture
def two_languages(tmp_path):
    packed(tmp_path / "eng.bin", letters(60))
    packed(tmp_path / "yor.bin", letters(9))
    names = ("yor", "eng")
    return {name: Blocks(tmp_path / f"{name}.bin", length=4, begin=BEGIN) for name in names}


def visits(languages, language, *, batch, steps, seed=5):
    every = [schedule(languages, batch=batch, step=step, seed=seed) for step in range(steps)]
    return [tuple(row) for one in every if one.language == language for row in one.ids.tolist()]


def test_languages_take_turns_whatever_their_size(two_languages):
    given = [schedule(two_languages, batch=3, step=step, seed=0) for step in range(6)]
    assert [one.language for one in given] == ["eng", "yor"] * 3
    assert all(one.ids.shape == (3, 4) and one.ids.dtype == np.int64 for one in given)


def test_every_epoch_visits_every_block_once_in_a_fresh_order(two_languages):
    count = len(two_languages["yor"])
    blocks_of_yor = sorted(tuple(two_languages["yor"].block(n).tolist()) for n in range(count))
    seen = visits(two_languages, "yor", batch=2, steps=2 * 3 * count)
    epochs = [seen[start : start + count] for start in range(0, 6 * count, count)]
    assert all(sorted(epoch) == blocks_of_yor for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_a_batch_may_be_larger_than_a_corpus(two_languages):
    count = len(two_languages["yor"])
    assert len(visits(two_languages, "yor", batch=3 * count + 1, steps=2)) == 3 * count + 1


def test_a_step_depends_on_the_seed_and_on_nothing_read_before(two_languages):
    def ids(step: int, seed: int = 5) -> list:
        return schedule(two_languages, batch=4, step=step, seed=seed).ids.tolist()

    in_order = [ids(step) for step in range(12)]
    blocks._permutation.cache_clear()
    assert [ids(step) for step in (11, 3, 7)] == [in_order[step] for step in (11, 3, 7)]
    assert [ids(step, seed=6) for step in range(12)] != in_order


def test_the_order_of_the_mapping_changes_nothing(two_languages):
    other = dict(reversed(two_languages.items()))
    for step in range(4):
        one, two = (schedule(m, batch=2, step=step, seed=1) for m in (two_languages, other))
        assert one.language == two.language and (one.ids == two.ids).all()


# masking


def masked(ids, seed=0, **options):
    settings = {"mask_id": 4, "vocabulary_size": 50, "special": {0, 1, 2, 3, 4}} | options
    return mask_pieces(ids, rng=np.random.default_rng(seed), **settings)


def test_masking_follows_80_10_10():
    ids = np.random.default_rng(1).integers(5, 50, size=(200, 500))
    before = ids.copy()
    batch = masked(ids)
    chosen = batch.labels != -100
    assert (ids == before).all()
    assert (batch.labels[chosen] == ids[chosen]).all() and (batch.ids == ids)[~chosen].all()
    assert chosen.mean() == pytest.approx(0.15, abs=0.005)
    assert (batch.ids[chosen] == 4).mean() == pytest.approx(0.8, abs=0.02)
    changed = chosen & (batch.ids != 4) & (batch.ids != ids)
    assert changed.sum() / chosen.sum() == pytest.approx(0.1 * 44 / 45, abs=0.01)
    assert batch.ids.dtype == batch.labels.dtype == np.int64


@given(st.integers(0, 9999), st.floats(0.01, 1))
def test_special_pieces_are_never_chosen_nor_drawn(seed, probability):
    ids = np.random.default_rng(seed).integers(0, 8, size=(3, 16))
    special = np.array([0, 1, 2, 3, 4])
    batch = masked(ids, seed, probability=probability, special=special, vocabulary_size=8)
    assert (batch.labels[ids < 5] == -100).all() and (batch.ids == ids)[ids < 5].all()
    assert (batch.ids >= 4)[ids >= 5].all()
    assert (batch.labels != -100).any()


def test_the_random_piece_is_any_but_the_special_ones():
    ids = np.full((50, 50), 5)
    special = [0, 3, 4, 9, 77]
    batch = masked(ids, probability=1.0, special=special, vocabulary_size=10)
    drawn, counts = np.unique(batch.ids[batch.ids != 4], return_counts=True)
    assert drawn.tolist() == [1, 2, 5, 6, 7, 8]
    assert counts[drawn != 5].min() > 20


def test_a_batch_of_special_pieces_has_no_target():
    batch = masked(np.zeros((2, 3), dtype=np.uint16), probability=1.0)
    assert (batch.labels == -100).all() and (batch.ids == 0).all()


def test_the_same_chance_gives_the_same_masks():
    ids = np.random.default_rng(1).integers(5, 50, size=(2, 16))
    assert (masked(ids, 3).ids == masked(ids, 3).ids).all()
    assert any((masked(ids, 3).labels != masked(ids, seed).labels).any() for seed in range(4, 9))


@pytest.mark.parametrize("probability", [0, -0.1, 1.1])
def test_an_impossible_probability_is_told(probability):
    with pytest.raises(RecipeError, match="bad masking probability"):
        masked(np.ones((1, 2)), probability=probability)
