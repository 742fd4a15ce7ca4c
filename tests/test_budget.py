"""Budgets: how they are written, what they buy, and what nothing beats."""

from dataclasses import replace

import pytest

from limbeck.budget import (
    RECORD_BYTES,
    SHARES,
    Budget,
    Configuration,
    Costs,
    Rate,
    Rates,
    TokenizerSize,
    configurations,
    fullest,
    nearest,
    pareto,
    parse_budget,
    table_bytes,
    vocabulary_sizes,
)
from limbeck.errors import RecipeError

COSTS = Costs(
    layers=4,
    pieces=9000,
    neurons=64,
    width=16,
    embedding_width=8,
    rounded_from_entries=100,
    rates={
        "int8": Rates(Rate(1.0, 2.0, 1000, 5000), Rate(1.0, 0.8, 1000, 1800), 0.2),
        "fp32": Rates(Rate(2.0, 4.0, 4000, 20_000), Rate(2.0, 1.6, 4000, 7200), 0.2),
    },
    tokenizer=TokenizerSize(500, 10.0, "here"),
)


def student(layers: int, pieces: int, time_ms: float, size_bytes: int) -> Configuration:
    return Configuration(layers, 1.0, pieces, "int8", time_ms, size_bytes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20ms 30MB", Budget(20.0, 30_000_000)),
        ("30MB,20ms", Budget(20.0, 30_000_000)),
        (" 0.5s ,  800kB ", Budget(500.0, 800_000)),
        ("1.5MB", Budget(None, 1_500_000)),
        ("7ms", Budget(7.0, None)),
    ],
)
def test_a_budget_is_a_time_a_size_or_both_in_any_order(text: str, expected: Budget):
    assert parse_budget(text) == expected
    assert parse_budget(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "a budget of nothing"),
        (" , ", "a budget of nothing"),
        ("20 ms", "this is no amount; found '20'"),
        ("20ms30MB", "this is no amount; found '20ms30MB'"),
        ("-5ms", "this is no amount; found '-5ms'"),
        ("1e3ms", "this is no amount; found '1e3ms'"),
        ("30mb", "this is no amount; found '30mb'"),
        ("٣ms", "this is no amount; found '٣ms'"),
        ("9999999999999MB", "this is no amount; found '9999999999999MB'"),
        ("0ms", "nothing fits into nothing; found '0ms'"),
        ("0.0MB 2ms", "nothing fits into nothing; found '0.0MB'"),
        ("20ms 1s", "two times; found '20ms 1s'"),
        ("20kB 1MB", "two sizes; found '20kB 1MB'"),
    ],
)
def test_anything_else_is_told_in_one_line(text: str, what: str):
    with pytest.raises(RecipeError) as told:
        parse_budget(text)
    line = str(told.value)
    assert line.startswith(f"--budget: {what}") and "\n" not in line
    assert "expected a time, a size or both, such as '20ms 30MB'" in line


def test_a_budget_that_is_made_with_less_than_nothing_is_refused():
    with pytest.raises(RecipeError, match="a budget of nothing; found '-1ms'"):
        Budget(-1.0)


def test_a_student_costs_its_layers_its_pieces_and_the_rest():
    one = COSTS.configuration(3, 2000, "int8")
    assert one.p50_ms == 1 + 3 * 2
    assert one.disk_bytes == 1000 + 3 * 5000 + 2000 * (8 + 4) + 500 + 2000 * 10 + RECORD_BYTES
    whole = COSTS.configuration(3, 2000, "fp32")
    assert whole.disk_bytes - one.disk_bytes == 3000 + 3 * 15_000 + 2000 * (4 * 8 - 12)


def test_fewer_neurons_cost_their_share_of_a_layer():
    wide, half = (COSTS.configuration(3, 2000, "int8", feed_forward=one) for one in (1.0, 0.5))
    assert wide.p50_ms - half.p50_ms == pytest.approx(3 * 0.5 * 1.5)
    assert wide.disk_bytes - half.disk_bytes == 3 * 0.5 * 4000
    # So few stay one by one: 6.4 of 64 are 7.
    least = COSTS.configuration(3, 2000, "int8", feed_forward=0.1)
    assert wide.p50_ms - least.p50_ms == pytest.approx(3 * 57 / 64 * 1.5)


def test_students_of_other_widths_are_priced_by_what_is_fixed_too():
    rates = Rates(Rate(1.0, 2.0, 10, 20), Rate(2.0, 1.0, 10, 10), 0.5)
    assert rates.at(1.0) == rates.whole and rates.at(0.5) == rates.narrow
    assert rates.at(0.75) == Rate(1.5, 1.5, 10, 15) and rates.at(0.25) == Rate(2.5, 0.5, 10, 5)
    assert Rates(rates.whole, rates.narrow, 1.0).at(1.0) == rates.whole


def test_a_small_table_of_pieces_stays_in_32_bits():
    assert table_bytes(9, 10, "int8", rounded_from_entries=100) == 9 * 40
    assert table_bytes(10, 10, "int8", rounded_from_entries=100) == 10 * 14
    assert table_bytes(10, 10, "fp32", rounded_from_entries=100) == 10 * 40


def test_vocabularies_double_up_to_the_teachers_and_have_the_recipes():
    assert vocabulary_sizes(9000) == (2000, 4000, 8000, 9000)
    assert vocabulary_sizes(9000, 3000) == (2000, 3000, 4000, 8000, 9000)
    assert vocabulary_sizes(8000, 10**6) == (2000, 4000, 8000)
    assert vocabulary_sizes(300) == (300,)


def test_every_depth_vocabulary_and_precision_is_on_offer_largest_first():
    offered = configurations(COSTS, (2000, 9000))
    assert len(set(offered)) == len(offered) == 4 * len(SHARES) * 2 * 2
    assert [(one.layers, one.feed_forward, one.pieces) for one in offered[::2]][:3] == [
        (4, 1.0, 9000),
        (4, 1.0, 2000),
        (4, 0.5, 9000),
    ]
    assert [one.layers for one in configurations(COSTS, (9000,), (1.0,))] == [
        4,
        4,
        3,
        3,
        2,
        2,
        1,
        1,
    ]


def test_nothing_beats_what_is_on_the_front_and_something_beats_all_else():
    offered = [
        student(4, 100, 4.0, 40),
        student(4, 100, 5.0, 40),
        student(2, 100, 2.0, 20),
        student(2, 200, 2.0, 30),
        student(2, 100, 2.0, 21),
        student(1, 100, 4.0, 40),
    ]
    assert pareto(offered) == (offered[0], offered[2], offered[3])


def test_two_that_are_equal_are_both_on_the_front():
    same = Configuration(1, 1.0, 100, "fp32", 2.0, 20)
    assert pareto([student(1, 100, 2.0, 20), same]) == (student(1, 100, 2.0, 20), same)


def test_the_fullest_of_each_depth_has_the_most_pieces():
    offered = [student(2, 100, 2, 1), student(2, 300, 2, 3), student(1, 200, 1, 2)]
    narrow = replace(offered[0], feed_forward=0.5)
    assert fullest([*offered, narrow]) == (offered[1], offered[2], narrow)


def test_a_student_fits_where_both_time_and_size_do():
    one = student(2, 100, 10.0, 1000)
    assert Budget(10.0, 1000).fits(one) and Budget(10.0).fits(one) and Budget(None, 1000).fits(one)
    assert not Budget(9.9, 1000).fits(one) and not Budget(10.0, 999).fits(one)


def test_the_nearest_misses_by_the_smallest_factor_and_fits_what_it_is_said_to_need():
    budget = Budget(2.0, 1_000_000)
    offered = [student(2, 100, 9.0, 100), student(1, 100, 3.01, 1_400_001), student(1, 9, 1, 10**7)]
    one = nearest(offered, budget)
    assert one == offered[1]
    needed = budget.raised_for(one)
    assert str(needed) == "3.1ms 1.5MB" and parse_budget(str(needed)).fits(one)
    assert Budget(2.0).raised_for(one) == Budget(3.1)


@pytest.mark.parametrize("size_bytes", [1, 30_000, 60_000, 10**9])
def test_the_most_pieces_fit_and_one_more_does_not(size_bytes: int):
    budget = Budget(None, size_bytes)
    most = COSTS.most_pieces(1, "int8", budget)
    assert 0 <= most <= COSTS.pieces
    if most:
        assert budget.fits(COSTS.configuration(1, most, "int8"))
    if most < COSTS.pieces:
        assert not budget.fits(COSTS.configuration(1, most + 1, "int8"))


def test_no_pieces_fit_where_the_layers_alone_are_too_slow():
    assert COSTS.most_pieces(2, "fp32", Budget(9.9)) == 0
    assert COSTS.most_pieces(2, "fp32", Budget(10.0)) == COSTS.pieces
