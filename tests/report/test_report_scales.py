"""Axes for people: round ticks that keep their distance, numbers that read well."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.report.scales import number, ordinal, position, ticks, whole

bounds = st.tuples(st.floats(0, 1e9), st.floats(1e-3, 1e9)).map(lambda pair: (pair[0], pair[0] + pair[1]))
scales = st.sampled_from(["identity", "log1p", "asinh"])


@given(bounds, scales, st.floats(0.05, 0.4))
def test_ticks_lie_within_the_axis_and_keep_their_distance(ends: tuple[float, float], scale: str, gap: float) -> None:
    low, high = ends
    places = [position(one, low, high, scale) for one in ticks(low, high, scale, gap)]
    assert places == sorted(places)
    assert all(right - left >= gap for left, right in itertools.pairwise(places))


@given(bounds, scales, st.floats(0, 1))
def test_positions_grow_with_the_value_and_stay_on_the_axis(ends: tuple[float, float], scale: str, part: float) -> None:
    low, high = ends
    inner = low + part * (high - low)
    assert 0 <= position(low, low, high, scale) <= position(inner, low, high, scale) <= 1
    assert position(high, low, high, scale) == 1


def test_an_axis_without_length_puts_everything_in_the_middle() -> None:
    assert position(3.0, 3.0, 3.0, "identity") == 0.5
    assert ticks(3.0, 3.0, "identity", 0.2) == [3.0]


def test_a_linear_axis_has_multiples_of_one_two_or_five() -> None:
    assert ticks(0.0, 1250.0, "identity", 0.2) == [0.0, 500.0, 1000.0]
    assert ticks(-5.0, 5.0, "identity", 0.2) == [-5.0, 0.0, 5.0]


def test_an_axis_with_a_signed_logarithm_has_round_values_on_both_sides_of_zero() -> None:
    assert ticks(-5000.0, 5000.0, "asinh", 0.2) == [-5000.0, -100.0, 0.0, 100.0, 5000.0]
    assert position(0.0, -5000.0, 5000.0, "asinh") == 0.5


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.5, "\N{MINUS SIGN}0.5"), (0.00001234, "1.23e-05"), (999.6, "1,000"), (1e6, "1,000,000"), (100.0, "100")],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_whole_numbers_and_places_are_written_as_people_do() -> None:
    assert whole(1234567) == "1,234,567"
    assert [ordinal(one) for one in (1, 12, 23)] == ["1st", "12th", "23rd"]
