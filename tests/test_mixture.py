"""Languages are mixed at the shares that the exponent gives, and every block is visited."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from limbeck.blocks import Blocks, pack
from limbeck.mixture import mixture, sampling_shares, turns

SIZES = {"eng": 8000, "hau": 500, "yor": 1500}


@pytest.mark.parametrize("exponent", [0.0, 0.3, 0.5, 1.0])
def test_shares_are_the_formula(exponent: float):
    found = sampling_shares(SIZES, exponent)
    total = sum(count**exponent for count in SIZES.values())
    assert found == pytest.approx({one: n**exponent / total for one, n in SIZES.items()})
    assert sum(found.values()) == pytest.approx(1.0)


def test_the_ends_of_the_exponent_are_even_and_proportional():
    assert set(sampling_shares(SIZES, 0.0).values()) == {1 / 3}
    assert sampling_shares(SIZES, 1.0)["eng"] == pytest.approx(0.8)


def test_turns_keep_the_shares_anywhere_not_only_at_the_end():
    shares = sampling_shares(SIZES, 0.5)
    order = turns(shares)
    for start, count in ((0, 30), (1000, 100), (4000, 500), (100_000, 1000)):
        seen = Counter(order.at(turn)[0] for turn in range(start, start + count))
        for language, share in shares.items():
            assert abs(seen[language] - share * count) <= 2, (language, start)


def test_each_language_counts_its_own_turns_without_a_gap_across_rounds():
    order = turns({"a": 0.61, "b": 0.3, "c": 0.09}, round_turns=50)
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for turn in range(260):
        language, number = order.at(turn)
        seen[language].append(number)
    assert all(numbers == list(range(len(numbers))) for numbers in seen.values())


def test_the_rarest_language_still_has_its_turn():
    order = turns({"a": 1 - 1e-9, "b": 1e-9}, round_turns=100)
    assert {order.at(turn)[0] for turn in range(101)} == {"a", "b"}


@pytest.fixture
def blocks(tmp_path: Path) -> dict[str, Blocks]:
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(40)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    draw = np.random.default_rng(0)
    found = {}
    for language, count in (("eng", 40), ("yor", 10)):
        texts = [" ".join(f"w{i}" for i in draw.integers(5, 40, 7)) for _ in range(count)]
        pack(texts, tokenizer, tmp_path / language, begin=0, end=1)
        found[language] = Blocks(tmp_path / language, length=9, begin=0)
    return found


def test_a_batch_is_a_pure_function_of_the_step(blocks: dict[str, Blocks]):
    order = turns({"eng": 0.7, "yor": 0.3})
    there = [mixture(blocks, order, batch=4, step=step, seed=3) for step in range(12)]
    back = [mixture(blocks, order, batch=4, step=step, seed=3) for step in reversed(range(12))]
    assert all(np.array_equal(a, b) for a, b in zip(there, reversed(back), strict=True))
    assert there[0].shape == (4, 9) and there[0].dtype == np.int64
    other = [mixture(blocks, order, batch=4, step=step, seed=4) for step in range(12)]
    assert not all(np.array_equal(a, b) for a, b in zip(there, other, strict=True))


def test_an_epoch_visits_every_block_of_a_language_once(blocks: dict[str, Blocks]):
    order = turns({"eng": 0.5, "yor": 0.5})
    yor = blocks["yor"]
    own = sorted(tuple(yor.block(i).tolist()) for i in range(len(yor)))
    rows = [
        tuple(row)
        for step in range(2 * len(yor))
        for row in mixture(blocks, order, batch=1, step=step, seed=0).tolist()
    ]
    seen = [row for turn, row in enumerate(rows) if order.at(turn)[0] == "yor"]
    assert sorted(seen) == own
