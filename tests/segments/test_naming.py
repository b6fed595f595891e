"""A name says how a segment differs from the others, in the plan's words, and no two segments share one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.segments.naming import Parts, Scale, Times, Trait, name_segments


def scale(*positions: float) -> Scale:
    return Scale(np.array(positions), "rare", "frequent")


def lines(*fibre: float) -> Parts:
    shares = np.array(fibre)
    return Parts(np.column_stack((shares, 1 - shares)), ("fibre", "DSL"))


def names(*traits: Trait, weights: list[float] | None = None) -> list[str]:
    count = len(weights) if weights else 2
    return name_segments(np.array(weights or [100.0] * count), traits)


def test_a_number_earns_a_word_far_from_the_middle_and_a_very_farther_out() -> None:
    assert names(scale(-900, 100, 100, 100, 600), weights=[100.0] * 5) == [
        "Very rare",
        "Typical (1)",
        "Typical (2)",
        "Typical (3)",
        "Frequent",
    ]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (0.95, 0.30, ["Fibre", "Mostly DSL"]),
        (0.80, 0.20, ["Mostly fibre", "Mostly DSL"]),
        (0.95, 0.90, ["Typical (1)", "Typical (2)"]),  # common everywhere says nothing
        (0.45, 0.02, ["Typical", "DSL"]),  # more of it than elsewhere, but not most
    ],
)
def test_a_category_earns_a_word_where_it_is_common_and_much_more_so_than_elsewhere(
    first: float, second: float, expected: list[str]
) -> None:
    assert names(lines(first, second)) == expected


def test_a_category_without_a_word_is_never_named() -> None:
    shares = np.array([[0.0, 0.9, 0.1], [0.9, 0.0, 0.1]])
    assert names(Parts(shares, ("fibre", "", "DSL"))) == ["Typical", "Fibre"]


def test_a_time_earns_a_word_where_the_times_are_close_together_and_not_those_of_all() -> None:
    words = ("around 23:30", "around 09:00", "around 12:00")
    vectors = np.array([[0.9, 0.0], [-0.9, 0.0], [0.0, 0.3]])
    assert names(Times(vectors, words), weights=[1.0, 1.0, 1.0]) == ["Around 23:30", "Around 09:00", "Typical"]
    same = np.array([[0.9, 0.0], [0.85, 0.0], [0.9, 0.1]])
    assert names(Times(same, words), weights=[1.0, 1.0, 1.0]) == ["Typical (1)", "Typical (2)", "Typical (3)"]


def test_the_words_stand_in_the_plans_order() -> None:
    assert names(lines(0.9, 0.1), scale(1.0, -1.0)) == ["Fibre · frequent", "DSL · rare"]


def test_nobody_needs_no_name() -> None:
    assert name_segments(np.array([]), [scale()]) == []


@given(
    positions=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8),
    seed=st.integers(0, 99),
)
def test_every_segment_has_a_name_of_its_own(positions: list[float], seed: int) -> None:
    coins, count = np.random.default_rng(seed), len(positions)
    traits: list[Trait] = [
        scale(*positions),
        Parts(coins.random((count, 3)), ("a", "b", "")),
        Times(coins.uniform(-1, 1, (count, 2)), ("early",) * count),
    ]
    found = name_segments(coins.normal(size=count) * 100, traits)
    assert len(set(found)) == count
    assert all(found)
