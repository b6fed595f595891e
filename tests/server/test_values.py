"""What people read of a center: numbers, shares and times that are right without noise, and intervals that cover."""

import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering.categories import BinaryFeature, CategoricalFeature, RegionFeature
from fedseg.clustering.cycles import CyclicFeature
from fedseg.clustering.features import FEATURE_MAX, Feature, NumericFeature, Transform
from fedseg.segments.naming import Parts, Scale, Times
from fedseg.segments.segmentation import CyclicValue, GroupValue, NumericValue, Value
from fedseg.server.values import Columns, read_trait, read_value, split_columns

FEATURES: tuple[Feature, ...] = (
    NumericFeature("spend", 0, 100, 0, missing_flag=True, label="pounds"),
    BinaryFeature("senior", weight=Fraction(1, 2), yes_word="senior", no_word="younger"),
    CategoricalFeature("color", ("red", "blue"), words=("rot", "blau"), missing_flag=True),
    RegionFeature("region", ("01", "80"), weight=Fraction(1, 10), label="postal region"),
    CyclicFeature("hour", 24, missing_flag=True),
    CyclicFeature("weekday", 7, start=1, names=("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")),
)
INTERVAL = NormalDist().inv_cdf(0.975)


def center_of(feature: Feature, cells: list[object]) -> NDArray[np.float64]:
    """The mean of these customers, without noise."""
    typed = [cell.encode() if isinstance(cell, str) else cell for cell in cells]
    center: NDArray[np.float64] = feature.encode(pa.array(typed, feature.type.arrow)).astype(np.float64).mean(axis=0)
    return center


def value_of(feature: Feature, center: NDArray[np.float64], reach: float, variance: float = 0.0) -> Value:
    """What is read of a center whose columns may all have moved this far, variances as far again."""
    columns = [np.full(feature.width, one) for one in (reach, variance, reach)]
    return read_value(feature, Columns(center, *columns))


def exact(feature: Feature, cells: list[object], reach: float = 0.0) -> Value:
    return value_of(feature, center_of(feature, cells), reach)


def test_a_number_is_the_mean_in_original_units_and_its_flag_the_share_without_one() -> None:
    value = exact(FEATURES[0], [10.0, 30.0, None, 40.0])
    assert isinstance(value, NumericValue)
    assert (value.kind, value.feature, value.label) == ("numeric", "spend", "pounds")
    assert (value.low, value.center, value.high) == pytest.approx((20, 20, 20), abs=1e-3)
    assert [(one.category, one.share) for one in value.shares] == [("missing", 0.25)]


def test_a_spread_is_in_original_units_or_in_logarithms() -> None:
    amount = NumericFeature("spend", 0, 100, 0, weight=Fraction(1, 2))
    rooted = NumericFeature("spend", 0, math.e - 1, 0, transform=Transform.LOG1P)
    for feature, scale in ((amount, 100), (rooted, 1)):
        half = feature.scaled(FEATURE_MAX)
        value = read_value(feature, Columns(*(np.array([one]) for one in (0.0, 0.0, 0.01 * half**2, 0.0075 * half**2))))
        assert isinstance(value, NumericValue)
        spread = value.spread
        assert (spread.low, spread.sd, spread.high) == pytest.approx(
            (0.025 * scale, 0.05 * scale, math.sqrt(0.0175) / 2 * scale), rel=1e-5
        )
        assert spread.typical_low == pytest.approx(feature.decode(-0.1 * half), rel=1e-5)
        assert spread.typical_high == pytest.approx(feature.decode(0.1 * half), rel=1e-5)


def test_groups_are_shares_of_the_customers() -> None:
    for feature, cells, expected in (
        (FEATURES[1], [True, False, None, True], {"yes": 0.5}),
        (FEATURES[2], ["red", "red", "pink", None, "blue"], {"red": 0.4, "blue": 0.2, "other": 0.2, "missing": 0.2}),
        (FEATURES[3], ["01067", "80331", "80999", "99"], {"01": 0.25, "80": 0.5, "other": 0.25}),
    ):
        value = exact(feature, list(cells))
        assert isinstance(value, GroupValue)
        assert value.kind == feature.kind
        assert {one.category: one.share for one in value.shares} == pytest.approx(expected)
        assert all(one.low == one.share == one.high for one in value.shares)


def test_a_time_is_the_middle_of_the_times_round_the_clock() -> None:
    late = exact(FEATURES[4], [23.0, 1.0, 0.5, 23.5])
    assert isinstance(late, CyclicValue)
    assert min(late.center, 24 - late.center) == pytest.approx(0, abs=1e-3)
    assert late.concentration == pytest.approx((math.cos(math.tau / 24) + math.cos(math.tau / 48)) / 2, rel=1e-4)
    weekend = exact(FEATURES[5], [6.0, 6.0, 7.0, 7.0])
    assert isinstance(weekend, CyclicValue)
    assert weekend.center == pytest.approx(6.5, abs=1e-3)
    assert weekend.names[round(6.4 - weekend.start)] == "Sa"


def test_an_interval_may_pass_the_end_of_the_period() -> None:
    value = exact(FEATURES[4], [23.5], reach=0.2 * 262143)
    assert isinstance(value, CyclicValue)
    half = math.asin(0.2) / math.tau * 24
    assert (value.low, value.high) == pytest.approx((23.5 - half, 23.5 + half - 24), abs=1e-3)
    assert not value.anytime
    assert (value.concentration_low, value.concentration_high) == pytest.approx((0.8, 1), abs=1e-4)


@pytest.mark.parametrize("reach", [1e9, math.inf])
def test_of_a_center_that_nothing_is_known_of_nothing_is_claimed(reach: float) -> None:
    for feature in FEATURES:
        value = value_of(feature, np.zeros(feature.width), reach)
        assert all((one.low, one.high) == (0, 1) for one in value.shares)
        if isinstance(value, NumericValue):
            assert (value.low, value.high) == (0, 100)
        if isinstance(value, CyclicValue):
            assert value.anytime
            assert (value.low, value.high) == (value.start, value.start + value.period)
            assert (value.concentration_low, value.concentration_high) == (0, 1)


@given(
    place=st.integers(0, len(FEATURES) - 1),
    columns=st.lists(st.floats(-FEATURE_MAX, FEATURE_MAX), min_size=4, max_size=4),
    reach=st.floats(0, 1e7) | st.just(math.inf),
    variance=st.floats(-(2.0**60), 2.0**60),
)
def test_any_center_has_values_within_what_is_possible(
    place: int, columns: list[float], reach: float, variance: float
) -> None:
    feature = FEATURES[place]
    value = value_of(feature, np.array(columns[: feature.width]), reach, variance)
    assert all(0 <= one.low <= one.share <= one.high <= 1 for one in value.shares)
    if isinstance(value, NumericValue):
        assert 0 <= value.low <= value.center <= value.high <= 100
        assert 0 <= value.spread.low <= value.spread.sd <= value.spread.high <= 50
        assert 0 <= value.spread.typical_low <= value.center <= value.spread.typical_high <= 100
    if isinstance(value, CyclicValue):
        assert value.start <= value.center < value.start + value.period
        assert 0 <= value.concentration_low <= value.concentration <= value.concentration_high <= 1
        if value.low <= value.high:
            assert value.low <= value.center <= value.high
        else:
            assert value.center >= value.low or value.center <= value.high


@pytest.mark.parametrize("length", [3.0, 6.0, 20.0], ids=lambda length: f"{length} sds from the middle")
def test_the_interval_of_a_time_covers_the_true_one_in_95_of_100_cases(length: float) -> None:
    feature, coins, sd = FEATURES[4], np.random.default_rng(3), 10_000.0
    assert isinstance(feature, CyclicFeature)
    hours, covered, runs = coins.uniform(0, 24, 4000), 0, 4000
    for hour in hours.tolist():
        angle = math.tau * hour / 24
        center = sd * (length * np.array([math.cos(angle), math.sin(angle)]) + coins.normal(size=2))
        value = value_of(feature, np.array([*center, 0.0]), INTERVAL * sd)
        assert isinstance(value, CyclicValue)
        inside = value.low <= hour <= value.high
        covered += inside if value.low <= value.high else hour >= value.low or hour <= value.high
    assert 0.935 < covered / runs < 0.965


def test_a_name_hears_of_numbers_categories_and_times() -> None:
    centers = np.zeros((2, sum(feature.width for feature in FEATURES)))
    traits = [
        read_trait(feature, part) for feature, part in zip(FEATURES, split_columns(FEATURES, centers), strict=True)
    ]
    kinds = [Scale, Parts, Parts, Parts, Times, Times]
    assert [type(trait) for trait in traits] == kinds
    senior, color, region, hour = traits[1:5]
    assert isinstance(senior, Parts)
    assert senior.words == ("senior", "younger")
    assert senior.shares.tolist() == [[0.5, 0.5]] * 2
    assert isinstance(color, Parts)
    assert color.words == ("rot", "blau", "", "")
    assert isinstance(region, Parts)
    assert region.words == ("postal region 01", "postal region 80", "")
    assert isinstance(hour, Times)
    assert hour.words == ("around 00:00",) * 2


def test_columns_are_cut_where_the_features_meet() -> None:
    columns = np.arange(15.0)
    parts = split_columns(FEATURES, columns)
    assert [len(part) for part in parts] == [feature.width for feature in FEATURES]
    assert np.array_equal(np.concatenate(parts), columns)
    assert [part.shape for part in split_columns(FEATURES, np.zeros((0, 15)))] == [(0, len(part)) for part in parts]
