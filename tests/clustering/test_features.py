"""A customer's value becomes an integer in the box by a public rule, and back."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.clustering.features import FEATURE_MAX, NumericFeature, Transform

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def specifications(draw: st.DrawFn) -> NumericFeature:
    """Features with any bounds that are allowed."""
    transform = draw(st.sampled_from(Transform))
    number = st.floats(min_value=0 if transform is Transform.LOG1P else None, allow_nan=False, allow_infinity=False)
    lower, upper = sorted(draw(st.tuples(number, number)))
    try:
        return NumericFeature("x", lower, upper, missing=draw(st.sampled_from([lower, upper])), transform=transform)
    except ValueError:
        return NumericFeature("x", 0, 100, missing=50, transform=transform)


@given(feature=specifications(), values=st.lists(st.floats(), max_size=20))
def test_every_value_lands_in_the_box(feature: NumericFeature, values: list[float]) -> None:
    encoded = feature.positions(np.array(values, np.float64))
    assert encoded.dtype == np.int32
    assert (np.abs(encoded.astype(np.int64)) <= FEATURE_MAX).all()


@given(feature=specifications(), values=st.lists(FINITE, min_size=2, max_size=20))
def test_a_larger_value_never_gets_a_smaller_integer(feature: NumericFeature, values: list[float]) -> None:
    encoded = feature.positions(np.array(sorted(values)))
    assert (np.diff(encoded.astype(np.int64)) >= 0).all()


@given(feature=specifications(), position=st.floats(-2 * FEATURE_MAX, 2 * FEATURE_MAX))
def test_a_position_decodes_into_the_bounds(feature: NumericFeature, position: float) -> None:
    assert feature.lower <= feature.decode(position) <= feature.upper


@pytest.mark.parametrize("transform", Transform)
def test_decoding_undoes_encoding_within_a_step(transform: Transform) -> None:
    feature = NumericFeature("x", 0, 730, missing=0, transform=transform)
    values = np.linspace(0, 730, 101)
    decoded = [feature.decode(position) for position in feature.positions(values).tolist()]
    assert np.abs(np.array(decoded) - values).max() < 730 * math.log(731) / FEATURE_MAX


def test_the_bounds_are_the_ends_of_the_box_and_beyond_them_is_the_same() -> None:
    feature = NumericFeature("x", -3, 5, missing=1)
    assert (
        feature.positions(np.array([-3, -4, -np.inf, 5, 6, np.inf])).tolist() == [-FEATURE_MAX] * 3 + [FEATURE_MAX] * 3
    )


def test_a_missing_value_is_the_plans_value_for_missing() -> None:
    feature = NumericFeature("x", 0, 10, missing=2.5)
    missing, same = feature.positions(np.array([np.nan, 2.5])).tolist()
    assert missing == same


REFUSED: dict[str, dict[str, Any]] = {
    "upper below lower": {"lower": 2, "upper": 1, "missing": 1},
    "no interval": {"lower": 1, "upper": 1, "missing": 1},
    "endless": {"lower": 0, "upper": math.inf, "missing": 1},
    "not a number": {"lower": math.nan, "upper": 1, "missing": 1},
    "missing outside": {"lower": 0, "upper": 1, "missing": 2},
    "missing not a number": {"lower": 0, "upper": 1, "missing": math.nan},
    "log of a negative": {"lower": -0.5, "upper": 1, "missing": 0, "transform": Transform.LOG1P},
    "an interval that the logarithm closes": {
        "lower": 1e19,
        "upper": 1e19 + 2048,
        "missing": 1e19,
        "transform": Transform.LOG1P,
    },
    "an interval longer than any number": {"lower": -1.7e308, "upper": 1.7e308, "missing": 0},
}


@pytest.mark.parametrize("bounds", REFUSED.values(), ids=list(REFUSED))
def test_bounds_that_cannot_work_are_refused(bounds: dict[str, Any]) -> None:
    with warnings.catch_warnings(), pytest.raises(ValueError, match="feature x: "):
        NumericFeature("x", **bounds)
