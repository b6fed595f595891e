"""Learned bounds hold nearly everybody and are not far too wide, are made of noised counts alone, and are never a guess."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering.bins import BINS
from fedseg.clustering.bounds import (
    FALSE_FINDS,
    SHARE_MAX,
    Histograms,
    Learned,
    forecast_bounds,
    learn_bounds,
)
from fedseg.clustering.features import NumericFeature, Transform
from fedseg.clustering.schedule import Budget
from tests.small_run import Rows, bounds_settings, play, rho_for, terms_of

Values = NDArray[np.float64]

WIDEST = 1e9
AMOUNT = NumericFeature("amount", 0, WIDEST, 0, Transform.LOG1P, missing_flag=True)
SIGNED = NumericFeature("signed", -WIDEST, WIDEST, 0, Transform.ASINH, missing_flag=True)
CUSTOMERS = 20_000
UNITS = 5


def encoded(features: Sequence[NumericFeature], columns: Sequence[Values]) -> Rows:
    return np.hstack([one.encode(pa.array(values)) for one, values in zip(features, columns, strict=True)])


def learned(
    features: Sequence[NumericFeature],
    columns: Sequence[Values],
    *,
    epsilon: str = "1/10",
    units: int = UNITS,
    seed: int = 1,
) -> tuple[Learned, ...]:
    """A whole run: the real statistic, the exact sampler's noise at each unit, and what is read from it."""
    rows = encoded(features, columns)
    chosen = bounds_settings(rows.shape[1], max(1, len(rows)), rho=rho_for(Fraction(epsilon)), noises=units)
    state, _ = play(chosen, np.array_split(rows, units), seed)
    assert state.histograms is not None
    assert state.request is None
    return learn_bounds(features, state.histograms)


def alone(feature: NumericFeature, values: Values, *, seed: int = 1) -> Learned:
    (found,) = learned([feature], [values], seed=seed)
    return found


# Quality

Draw = Callable[[np.random.Generator], Values]

SHAPES: dict[str, tuple[NumericFeature, Draw]] = {
    "lognormal, narrow": (AMOUNT, lambda coins: np.exp(coins.normal(4, 0.5, CUSTOMERS))),
    "lognormal": (AMOUNT, lambda coins: np.exp(coins.normal(4, 1, CUSTOMERS))),
    "lognormal, wide": (AMOUNT, lambda coins: np.exp(coins.normal(6, 1.5, CUSTOMERS))),
    "normal": (AMOUNT, lambda coins: coins.normal(50, 10, CUSTOMERS)),
    "uniform": (AMOUNT, lambda coins: coins.uniform(0, 100, CUSTOMERS)),
    "counts": (AMOUNT, lambda coins: coins.geometric(0.1, CUSTOMERS).astype(np.float64)),
    "exponential": (AMOUNT, lambda coins: coins.exponential(300, CUSTOMERS)),
    "around zero": (SIGNED, lambda coins: coins.normal(0, 100, CUSTOMERS)),
    "mostly positive": (SIGNED, lambda coins: coins.normal(200, 300, CUSTOMERS)),
    "small numbers": (SIGNED, lambda coins: coins.normal(0, 3, CUSTOMERS)),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("feature", "draw"), SHAPES.values(), ids=list(SHAPES))
def test_bounds_hold_nearly_everybody_and_are_at_most_five_times_too_wide(
    feature: NumericFeature, draw: Draw, seed: int
) -> None:
    coins = np.random.default_rng(seed)
    found, _, _ = learned([feature, AMOUNT, AMOUNT], [draw(coins) for _ in range(3)], seed=seed)
    assert found.bounds is not None
    values = draw(np.random.default_rng(seed))
    low, high = np.quantile(values, [0.001, 0.999]).tolist()
    lower, upper = found.bounds
    assert np.mean((values < lower) | (values > upper)) < 0.002
    assert lower <= low + 0.02 * (high - low)
    assert high - 0.02 * (high - low) <= upper
    forward = feature.transform.forward
    assert forward(upper) - forward(lower) <= 5 * (forward(high) - forward(low))
    if found.transform is Transform.IDENTITY:  # then people will use them on this scale
        assert upper - lower <= 5 * (high - low)


@pytest.mark.parametrize("seed", range(3))
def test_a_logarithm_is_advised_where_few_customers_have_most(seed: int) -> None:
    coins = np.random.default_rng(seed)
    wide = np.exp(coins.normal(6, 1.5, CUSTOMERS))
    even = coins.uniform(0, 100, CUSTOMERS)
    both_sides = np.exp(coins.normal(6, 2, CUSTOMERS)) * coins.choice([-1, 1], CUSTOMERS)
    found = learned([AMOUNT, AMOUNT, SIGNED], [wide, even, both_sides], epsilon="1", seed=seed)
    assert [one.transform for one in found] == [Transform.LOG1P, Transform.IDENTITY, Transform.ASINH]


def test_amounts_are_bounded_by_zero_even_where_they_might_have_been_negative() -> None:
    values = np.exp(np.random.default_rng(1).normal(4, 1, CUSTOMERS))
    bounds = alone(SIGNED, values).bounds
    assert bounds is not None
    assert bounds[0] == 0


def test_bounds_have_two_significant_digits() -> None:
    bounds = alone(SIGNED, np.random.default_rng(1).normal(3, 400, CUSTOMERS)).bounds
    assert bounds is not None
    assert [float(f"{one:.2g}") for one in bounds] == list(bounds)


def test_a_second_plan_within_the_bounds_of_the_first_sees_more_finely() -> None:
    born = np.random.default_rng(1).integers(1940, 2005, CUSTOMERS).astype(np.float64)
    first = alone(AMOUNT, born).bounds
    assert first is not None
    second = alone(NumericFeature("born", *first, missing=first[0]), born).bounds
    assert second is not None
    assert second[0] <= 1941
    assert second[1] >= 2003
    assert second[1] - second[0] < (first[1] - first[0]) / 4


def test_customers_at_the_end_of_the_range_are_reported() -> None:
    values = np.random.default_rng(1).uniform(0, 5000, CUSTOMERS)
    assert alone(NumericFeature("x", 0, 1000, 0), values).at_limit
    assert alone(NumericFeature("x", 1000, 9000, 1000), values).at_limit
    assert not alone(NumericFeature("x", 0, 9000, 0), values).at_limit


# Noise


def test_noise_alone_is_hardly_ever_taken_for_customers() -> None:
    """An empty federation of ten features, a thousand times; a bound by a union of all sums that are looked at."""
    coins = np.random.default_rng(1)
    features = [NumericFeature(f"x{number}", 0, 1, 0) for number in range(10)]
    finds = sum(
        any(one.bounds for one in learn_bounds(features, Histograms(coins.normal(0, 50, (10, BINS)), 50.0)))
        for _ in range(1000)
    )
    assert finds <= 2 * 1000 * FALSE_FINDS


def test_what_the_forecast_says_is_seen_is_seen_and_a_third_of_it_is_not() -> None:
    feature = NumericFeature("x", 0, 1, 0)
    expected = forecast_bounds(1, 1, CUSTOMERS, Budget(rho_for(Fraction(1, 10)), UNITS))

    def seen(share: float) -> int:
        values = np.full(round(share * expected.smallest_group), 0.5)
        return sum(alone(feature, values, seed=seed).bounds is not None for seed in range(20))

    assert seen(1.8) == 20
    assert seen(1 / 3) <= 1


def test_the_forecast_is_of_the_noise_that_is_released() -> None:
    chosen = bounds_settings(4, CUSTOMERS, rho=rho_for(1), noises=3)
    (terms,) = terms_of(chosen)
    histograms = Histograms.of(np.zeros((1, terms.width), np.int64), terms, 3)
    smaller = forecast_bounds(2, 4, CUSTOMERS, chosen.budget)
    assert smaller.smallest_group / histograms.sd == pytest.approx(4.5, abs=0.5)
    assert smaller.smallest_share == smaller.smallest_group / CUSTOMERS
    assert smaller.is_carried
    assert not forecast_bounds(2, 4, int(smaller.smallest_group / SHARE_MAX) - 1, chosen.budget).is_carried


@pytest.mark.parametrize("seed", range(5))
def test_the_shares_that_are_published_are_within_their_noise(seed: int) -> None:
    coins = np.random.default_rng(seed)
    values = np.where(coins.random(CUSTOMERS) < 0.3, np.nan, np.exp(coins.normal(4, 1, CUSTOMERS)))
    found = alone(AMOUNT, values, seed=seed)
    assert found.bounds is not None
    assert found.missing is not None
    assert found.missing.share == pytest.approx(0.3, abs=4 * found.missing.sd)
    known = values[~np.isnan(values)]
    outside = float(np.mean((known < found.bounds[0]) | (known > found.bounds[1])))
    assert found.outside.share == pytest.approx(outside, abs=4 * found.outside.sd)


@pytest.mark.parametrize("seed", range(5))
def test_missing_values_do_not_stretch_the_bounds(seed: int) -> None:
    """A third of the customers have no value, and count as one that nobody has."""
    coins = np.random.default_rng(seed)
    values = np.where(coins.random(CUSTOMERS) < 0.3, np.nan, np.exp(coins.normal(4, 0.5, CUSTOMERS)))
    far = NumericFeature("x", 0, WIDEST, 1e8, Transform.LOG1P, missing_flag=True)
    bounds = alone(far, values, seed=seed).bounds
    assert bounds is not None
    assert bounds[1] < 1e6


# Degenerate tables


def test_customers_who_are_all_equal_have_a_narrow_range() -> None:
    bounds = alone(AMOUNT, np.full(CUSTOMERS, 42.0)).bounds
    assert bounds is not None
    assert 10 < bounds[0] < 42 < bounds[1] < 120


def test_customers_who_all_have_nothing_have_a_range_that_begins_at_nothing() -> None:
    for feature in (AMOUNT, SIGNED):
        bounds = alone(feature, np.zeros(CUSTOMERS)).bounds
        assert bounds is not None
        assert bounds[0] <= 0 < bounds[1] < 3


@pytest.mark.parametrize(
    "values",
    [np.full(CUSTOMERS, np.nan), np.array([7.0]), np.array([]), np.full(100, 5.0)],
    ids=["nobody has a value", "a single customer", "nobody", "a few"],
)
def test_where_nothing_stands_above_the_noise_that_is_the_result(values: Values) -> None:
    found = alone(AMOUNT, values)
    assert found.bounds is None
    assert found.outside.share == 1
    assert not found.at_limit


def test_a_unit_without_customers_only_adds_noise() -> None:
    rows = encoded([AMOUNT], [np.exp(np.random.default_rng(1).normal(4, 1, CUSTOMERS))])
    chosen = bounds_settings(2, CUSTOMERS, rho=rho_for(1), noises=3)
    state, _ = play(chosen, [rows, rows[:0], rows[:0]], 1)
    assert state.histograms is not None
    assert learn_bounds([AMOUNT], state.histograms)[0].bounds is not None


@st.composite
def searches(draw: st.DrawFn) -> tuple[list[NumericFeature], Histograms]:
    """Any features that a plan may have, with counts that even hostile units could not pass."""
    features: list[NumericFeature] = []
    for number in range(draw(st.integers(1, 3))):
        transform = draw(st.sampled_from(Transform))
        least = 0.0 if transform is Transform.LOG1P else -1e19
        ends = st.floats(least, 1e19, allow_subnormal=False)
        lower, upper = sorted((draw(ends), draw(ends)))
        flag = draw(st.booleans())
        try:
            features.append(NumericFeature(f"x{number}", lower, upper, upper, transform, missing_flag=flag))
        except ValueError:
            features.append(NumericFeature(f"x{number}", 0, 1, 1, transform, missing_flag=flag))
    columns = sum(one.width for one in features)
    coins, scale = np.random.default_rng(draw(st.integers(0, 999))), draw(st.sampled_from([1.0, 30.0, 1e6, 1e15]))
    peaks = coins.standard_normal((columns, BINS)) * np.where(coins.random((columns, BINS)) < 0.1, scale, 1.0)
    return features, Histograms(peaks, 1.0)


@settings(max_examples=300)
@given(searches())
def test_whatever_comes_back_the_bounds_are_a_range_within_the_plans_and_all_else_is_finite(
    search: tuple[list[NumericFeature], Histograms],
) -> None:
    features, histograms = search
    for feature, one in zip(features, learn_bounds(features, histograms), strict=True):
        assert one.feature is feature
        if one.bounds is not None:
            lower, upper = one.bounds
            assert feature.lower <= lower <= upper <= feature.upper
        for part in (one.outside, one.missing):
            if part is not None:
                assert 0 <= part.share <= 1
                assert 0 <= part.sd <= 1
        assert one.transform is not Transform.LOG1P or one.bounds is None or one.bounds[0] >= 0
        assert math.isfinite(one.outside.sd)
