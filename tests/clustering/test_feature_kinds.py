"""Every kind of feature: bounded integers of that row alone, distances that can be compared, and the way back."""

import itertools
import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering.categories import OTHER, YES, BinaryFeature, CategoricalFeature, RegionFeature
from fedseg.clustering.cycles import WHOLE_MAX, CyclicFeature
from fedseg.clustering.features import FEATURE_MAX, MISSING, WEIGHT_MIN, Feature, NumericFeature, Transform
from fedseg.columns import ColumnType

WORDS = ["red", "blue", "Grün", "Gru\u0308n", "<1", "a b", "\u200b", "x" * 80]
TEXTS = st.one_of(
    st.sampled_from([word.encode() for word in WORDS]),
    st.sampled_from(
        [b"", b" ", b"\t red\r", b"RED", b"other", b"missing", b"\xff\xfe", b"\x00", b"red\x00", b"x" * 10**5]
    ),
    st.text(max_size=6).map(str.encode),
    st.binary(max_size=6),
)
CELLS: dict[ColumnType, st.SearchStrategy[Any]] = {
    ColumnType.NUMBER: st.floats() | st.integers(-30, 30).map(float) | st.none(),
    ColumnType.TRUTH: st.booleans() | st.none(),
    ColumnType.TEXT: TEXTS | st.none(),
}

COMMON: dict[str, st.SearchStrategy[Any]] = {
    "weight": st.decimals(WEIGHT_MIN, 1, places=3).map(Fraction) | st.sampled_from([Fraction(1), WEIGHT_MIN]),
    "missing_flag": st.booleans(),
}
VOCABULARIES = st.lists(st.sampled_from(WORDS), min_size=1, unique=True).map(tuple)
NAME = st.just("x")

FEATURES: st.SearchStrategy[Feature] = st.one_of(
    st.builds(
        NumericFeature,
        NAME,
        st.just(0.0),
        st.floats(1, 1e6),
        st.just(0.5),
        transform=st.sampled_from(Transform),
        **COMMON,
    ),
    st.builds(BinaryFeature, NAME, missing=st.booleans(), **COMMON),
    st.builds(CategoricalFeature, NAME, VOCABULARIES, **COMMON),
    st.builds(RegionFeature, NAME, st.just(("re", "01", "Gr")), characters=st.just(2), **COMMON),
    st.builds(CyclicFeature, NAME, st.floats(1e-3, 1e6), start=st.floats(-100, 100), **COMMON),
)


@st.composite
def columns(draw: st.DrawFn) -> tuple[Feature, pa.Array]:
    """A feature of any kind, and cells of its type."""
    feature = draw(FEATURES)
    return feature, pa.array(draw(st.lists(CELLS[feature.type], max_size=12)), feature.type.arrow)


def texts(*cells: str | bytes | None) -> pa.Array:
    return pa.array([cell.encode() if isinstance(cell, str) else cell for cell in cells], pa.large_binary())


def distance(rows: NDArray[np.int32], one: int, other: int) -> float:
    """How far apart two rows are, where 1 is half the range of a number."""
    apart: float = math.dist(rows[one].tolist(), rows[other].tolist()) / FEATURE_MAX
    return apart


@given(columns())
def test_every_cell_becomes_as_many_integers_as_the_feature_is_wide_and_none_leaves_the_box(
    given_: tuple[Feature, pa.Array],
) -> None:
    feature, cells = given_
    encoded = feature.encode(cells)
    assert encoded.dtype == np.int32
    assert encoded.shape == (len(cells), feature.width)
    assert (np.abs(encoded.astype(np.int64)) <= FEATURE_MAX).all()


@given(given_=columns(), seed=st.integers(0, 99), size=st.integers(1, 5))
def test_a_row_has_the_same_integers_alone_in_any_chunk_and_in_any_order(
    given_: tuple[Feature, pa.Array], seed: int, size: int
) -> None:
    feature, cells = given_
    together = feature.encode(cells)
    order = np.random.default_rng(seed).permutation(len(cells))
    assert np.array_equal(feature.encode(cells.take(pa.array(order))), together[order])
    for start in range(0, len(cells), size):
        part = cells.slice(start, size)
        assert np.array_equal(feature.encode(part), together[start : start + size])
        alone = pa.array(part.to_pylist(), feature.type.arrow)  # of memory of its own, not a window on the others'
        assert np.array_equal(feature.encode(alone), together[start : start + size])


@given(columns())
def test_a_cell_is_missing_or_foreseen_or_outside_by_itself(given_: tuple[Feature, pa.Array]) -> None:
    feature, cells = given_
    missing, outside = feature.is_missing(cells), feature.is_outside(cells)
    assert missing.shape == outside.shape == (len(cells),)
    assert not (missing & outside).any()
    assert missing[cells.is_null().to_numpy(zero_copy_only=False)].all()


@given(columns())
def test_the_mean_of_an_indicator_is_the_share_of_those_it_speaks_of(given_: tuple[Feature, pa.Array]) -> None:
    feature, cells = given_
    if len(cells) == 0:
        return
    encoded = feature.encode(cells)[:, feature.measures :].astype(np.float64)
    for indicator, column in zip(feature.indicators, encoded.T, strict=True):
        assert set(column.tolist()) <= {indicator.on, indicator.off}
        assert indicator.share(float(column.mean())) == pytest.approx(float((column == indicator.on).mean()))
    if feature.missing_flag:
        share = feature.indicators[-1].share(float(encoded[:, -1].mean()))
        assert feature.indicators[-1].says == MISSING
        assert share == pytest.approx(float(feature.is_missing(cells).mean()))


@given(columns())
def test_a_weight_scales_every_column_and_rounds_to_the_nearest_integer(given_: tuple[Feature, pa.Array]) -> None:
    feature, cells = given_
    whole, scaled = replace(feature, weight=Fraction(1)).encode(cells), feature.encode(cells)
    # A table's levels are scaled before the choice, a point on a circle after it: so at most one step of rounding.
    assert (np.abs(scaled - whole * float(feature.weight)) <= 1).all()


@pytest.mark.parametrize(
    "weight", ["0", "-1", "0.0009", "1.000001", "0.0010001", "0.99999999"], ids=lambda weight: f"weight {weight}"
)
def test_a_weight_is_at_most_one_and_not_too_fine(weight: str) -> None:
    with pytest.raises(ValueError, match="the weight must lie between"):
        BinaryFeature("x", weight=Fraction(Decimal(weight)))


def test_two_categories_two_answers_and_opposite_times_are_as_far_apart_as_half_a_range() -> None:
    numbers = NumericFeature("x", 0, 100, 0).encode(pa.array([0.0, 50.0]))
    categories = CategoricalFeature("x", ("a", "b"), missing_flag=True).encode(texts("a", "b", "c", None))
    regions = RegionFeature("x", ("01", "02"), characters=2).encode(texts("01067", "02999", "80331"))
    answers = BinaryFeature("x", missing_flag=True).encode(pa.array([False, True, None]))
    times = CyclicFeature("x", 24).encode(pa.array([3.0, 15.0]))
    for rows in (numbers, categories, regions, answers[:2], times):
        for one, other in itertools.combinations(range(len(rows)), 2):
            assert distance(rows, one, other) == pytest.approx(1, abs=1e-5)
    assert distance(answers, 0, 2) == pytest.approx(1, abs=1e-5)


# Yes and no


def test_a_missing_answer_is_the_plans_answer_for_missing() -> None:
    answers = pa.array([True, False, None])
    assert BinaryFeature("x", missing=True).encode(answers)[:, 0].tolist() == [262143, -262143, 262143]
    assert BinaryFeature("x", missing=False).encode(answers)[:, 0].tolist() == [262143, -262143, -262143]


# Categories

COLORS = CategoricalFeature("color", ("red", "Grün", "a b"), missing_flag=True)


def said(feature: CategoricalFeature, *cells: str | bytes | None) -> list[str]:
    """Which indicator each cell switches on; exactly one."""
    encoded = feature.encode(texts(*cells))
    assert ((encoded != 0).sum(axis=1) == 1).all()
    return [feature.indicators[place].says for place in encoded.argmax(axis=1)]


def test_a_cell_is_in_the_category_whose_text_it_is() -> None:
    assert said(COLORS, "red", " red\t", "Grün", "a b") == ["red", "red", "Grün", "a b"]


def test_every_other_text_is_in_no_category_of_the_plan() -> None:
    others: list[str | bytes] = [
        "Red",
        "re",
        "redd",
        "a  b",
        "Gru\u0308n",
        b"\xff",
        b"red\x00",
        "other",
        "missing",
        "\u202ered",
        "x" * 10**6,
    ]
    assert said(COLORS, *others) == [OTHER] * len(others)


def test_a_cell_with_nothing_in_it_is_missing_and_without_a_flag_that_is_other() -> None:
    nothing = [None, "", " ", "\t\r\n", "\u00a0"]
    assert said(COLORS, *nothing) == [MISSING] * len(nothing)
    assert said(CategoricalFeature("color", ("red",)), *nothing) == [OTHER] * len(nothing)
    assert COLORS.is_missing(texts(*nothing, "red", "pink")).tolist() == [True] * len(nothing) + [False, False]
    assert COLORS.is_outside(texts(*nothing, "red", "pink")).tolist() == [False] * len(nothing) + [False, True]


def test_a_code_is_cut_to_its_first_characters_not_bytes() -> None:
    regions = RegionFeature("region", ("01", "DE", "ÄÖ", "SW"), characters=2)
    cells = ["01067", "DE212", " DE", "ÄÖÜ", "D", "80331", "", "SW1A 1AA", "S W", "de212"]
    assert said(regions, *cells) == ["01", "DE", "DE", "ÄÖ", OTHER, OTHER, OTHER, "SW", OTHER, OTHER]


REFUSED_VOCABULARIES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "a category twice": ("a", "b", "a"),
    "what is there anyway": ("a", "other"),
    "what a flag says": ("a", "missing"),
    "an empty text": ("a", ""),
    "white space around it": ("a", " b"),
}


@pytest.mark.parametrize("vocabulary", REFUSED_VOCABULARIES.values(), ids=list(REFUSED_VOCABULARIES))
def test_a_vocabulary_that_cannot_work_is_refused(vocabulary: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="feature x: "):
        CategoricalFeature("x", vocabulary)


def test_a_code_longer_than_what_is_read_of_it_is_refused() -> None:
    with pytest.raises(ValueError, match="no cell would ever be read as '010'"):
        RegionFeature("x", ("01", "010"), characters=2)
    with pytest.raises(ValueError, match="at least one character"):
        RegionFeature("x", ("01",), characters=0)


def test_there_are_as_many_words_as_categories_or_none() -> None:
    with pytest.raises(ValueError, match="as many words as categories"):
        CategoricalFeature("x", ("a", "b"), words=("one",))


# Times


@given(value=st.floats(-1e6, 1e6), turns=st.integers(-1000, 1000), start=st.integers(-24, 24))
def test_a_time_is_the_same_a_whole_period_later(value: float, turns: int, start: int) -> None:
    hours = CyclicFeature("hour", 24, start=start)
    now, later = hours.encode(pa.array([value, value + 24 * turns])).tolist()
    assert max(abs(one - other) for one, other in zip(now, later, strict=True)) <= 1


@given(st.floats(0, 24, exclude_max=True))
@example(0.0)
@example(math.nextafter(24, 0))
def test_a_time_is_found_again_from_its_point_on_the_circle(hour: float) -> None:
    hours = CyclicFeature("hour", 24)
    cosine, sine = hours.encode(pa.array([hour])).tolist()[0]
    found = hours.time(math.atan2(sine, cosine))
    assert 0 <= found < 24
    assert min(abs(found - hour), 24 - abs(found - hour)) < 1e-4
    assert math.hypot(cosine, sine) == pytest.approx(hours.radius, abs=1)


def test_a_time_that_is_none_stands_in_the_middle_of_the_circle() -> None:
    flagged = CyclicFeature("hour", 24, missing_flag=True)
    none = flagged.encode(pa.array([None, math.nan, math.inf, -math.inf]))
    assert none[:, :2].tolist() == [[0, 0]] * 4
    assert (none[:, 2] == flagged.indicators[0].on).all()


@pytest.mark.parametrize("value", [1.7976931348623157e308, -1.7976931348623157e308, 5e-324, -0.0, 2.0**53 + 2])
def test_the_most_extreme_numbers_are_times_too(value: float) -> None:
    for feature in (CyclicFeature("x", 5e-324), CyclicFeature("x", WHOLE_MAX, start=-WHOLE_MAX), CyclicFeature("x", 7)):
        cosine, sine = feature.encode(pa.array([value])).tolist()[0]
        assert math.hypot(cosine, sine) == pytest.approx(feature.radius, abs=1)


REFUSED_CYCLES: dict[str, dict[str, Any]] = {
    "no period": {"period": 0},
    "a negative period": {"period": -24},
    "a period that is no number": {"period": math.nan},
    "an endless period": {"period": math.inf},
    "a start that is no number": {"period": 24, "start": math.nan},
    "a period that vanishes beside its start": {"period": 1e-9, "start": 1e15},
    "too few names": {"period": 7, "names": ("Monday",)},
    "names for parts of a step": {"period": 1.5, "names": ("a", "b")},
}


@pytest.mark.parametrize("terms", REFUSED_CYCLES.values(), ids=list(REFUSED_CYCLES))
def test_a_period_that_cannot_work_is_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="feature x: "):
        CyclicFeature("x", **terms)


# What people are told


def test_a_feature_says_what_it_foresees_and_what_a_missing_value_counts_as() -> None:
    features: list[Feature] = [
        NumericFeature("x", 0, 730, 30, Transform.LOG1P),
        BinaryFeature("x"),
        CategoricalFeature("x", ("a", "b"), missing_flag=True),
        RegionFeature("x", ("01",), characters=2),
        CyclicFeature("x", 7, start=1),
    ]
    assert [(one.kind, one.width, one.foreseen, one.missing_text) for one in features] == [
        ("numeric", 1, "0 to 730, log1p", "30"),
        ("binary", 1, "yes or no", "no"),
        ("categorical", 4, "a, b or other", MISSING),
        ("region", 2, "first 2: 01 or other", OTHER),
        ("cyclic", 2, "every 7 from 1", "no time"),
    ]
    assert [one.says for one in features[1].indicators] == [YES]
