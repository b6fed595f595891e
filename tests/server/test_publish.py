"""What is published follows from plan and final state alone, and hides what is too small to show."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering.algorithm import Outcome, State, init
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.kmeans import Cloud
from fedseg.clustering.model import Estimate, Model
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.shrink import Measured, measured
from fedseg.plan import Plan
from fedseg.segments.segmentation import NumericValue, Segmentation
from fedseg.server.publish import INTERVAL, publish
from tests.small_federation import SmallFederation


@pytest.fixture(scope="session")
def plan(approved_once: SmallFederation) -> Plan:
    """Three segments; those below five customers are suppressed."""
    return approved_once.plan


NOWHERE = np.zeros((3, 2), np.int32)
RADIUS = 400_000


def finished(plan: Plan, segments: NDArray[np.int32], outcome: Outcome) -> State:
    """A run whose last sketch saw twenty customers in each of three places, where also its model's particles are."""
    places = np.array([[0, 0], [300_000, 0], [0, 300_000]], np.int32)
    many = np.full(3, 20.0)
    sketch = Estimate(many, places.astype(np.float64), many, np.full(3, 100.0), np.ones(3))
    model = Model(Cloud(places, np.full(3, 1024)), np.arange(3), np.zeros(3))
    return replace(
        init(plan.settings),
        step=plan.rounds,
        request=None,
        model=model,
        sketch=sketch,
        centers=segments,
        outcome=outcome,
    )


def outcome_of(plan: Plan, release: Measured, centers: NDArray[np.int32] = NOWHERE) -> Outcome:
    """A last round around these reference points; what it was taken to mean is not published."""
    request = RoundRequest(plan.rounds - 1, centers, np.full(3, RADIUS, np.int32))
    nothing = np.zeros(3)
    return Outcome(request, release, Estimate(nothing, np.zeros((3, 2)), nothing, nothing, nothing))


def state_of(plan: Plan, counts: list[float], *, sd: float = 10.0, step_sd: float = 1.0) -> State:
    """A finished run that measured these sizes, and each segment's customers a tenth of the radius from its center."""
    many = np.array(counts)
    release = Measured(many, many[:, None] * [0.1, 0.0], np.full((3, 2), 50.0), sd, step_sd, 1.0)
    segments = np.array([[0, 0], [1000, 0], [0, 1000]], np.int32)
    return finished(plan, segments, outcome_of(plan, release))


def sizes(found: Segmentation) -> list[int | None]:
    return [segment.size for segment in found.segments]


def test_the_largest_segment_comes_first_and_the_small_ones_are_hidden(plan: Plan) -> None:
    found = publish(plan, state_of(plan, [4.9, 80.4, 500.0]), ("north",), noise="system")
    assert sizes(found) == [500, 80, None]
    hidden = found.segments[-1]
    assert hidden.suppressed
    assert (hidden.size_interval, hidden.values, hidden.encoded_center) == (None, (), ())
    assert found.units == ("north",)


def test_sizes_come_with_the_interval_of_their_noise(plan: Plan) -> None:
    first = publish(plan, state_of(plan, [500.0, 6.0, 0.0]), (), noise="system").segments[0]
    half = INTERVAL * 10
    assert first.size_interval == (round(500 - half), round(500 + half))


def test_values_are_the_measured_means_with_the_interval_of_their_noise(plan: Plan) -> None:
    first = publish(plan, state_of(plan, [500.0, 6.0, 0.0]), (), noise="system").segments[0]
    assert first.encoded_center == (0, 0)
    visits, spend = first.values
    assert isinstance(visits, NumericValue)
    assert isinstance(spend, NumericValue)
    per_unit = 100 / (2 * FEATURE_MAX)
    assert visits.center == pytest.approx(50 + 0.1 * RADIUS * per_unit, rel=1e-5)
    assert spend.center == pytest.approx(50, rel=1e-5)
    by_step, by_count = 1.0 / 500, 0.1 * 10.0 / 500
    assert spend.high - spend.center == pytest.approx(INTERVAL * RADIUS * by_step * per_unit, abs=2e-4)
    reach = INTERVAL * RADIUS * math.hypot(by_step, by_count) * per_unit
    assert (visits.center - visits.low, visits.high - visits.center) == pytest.approx((reach, reach), abs=2e-4)


def test_a_mean_that_nothing_is_known_of_may_be_anywhere_in_the_bounds(plan: Plan) -> None:
    found = publish(plan, state_of(plan, [0.0, 500.0, 0.0], step_sd=1e9), (), noise="system")
    values = [value for value in found.segments[0].values if isinstance(value, NumericValue)]
    assert [(value.low, value.high) for value in values] == [(0, 100), (0, 100)]


def test_segments_of_equal_size_keep_their_order(plan: Plan) -> None:
    state = state_of(plan, [50.0, 50.0, 50.0])
    centers = [tuple(center.tolist()) for center in state.segments]
    assert [segment.encoded_center for segment in publish(plan, state, (), noise="system").segments] == centers


@given(
    sums=st.lists(st.integers(-(2**52), 2**52), min_size=15, max_size=15),
    units=st.integers(1, 1000),
    position=st.integers(-FEATURE_MAX, FEATURE_MAX),
)
def test_any_outcome_can_be_published(plan: Plan, sums: list[int], units: int, position: int) -> None:
    terms = plan.terms[-1]
    release = measured(np.array(sums, np.int64).reshape(terms.cells, terms.width) * units, terms, units)
    segments = np.full((3, 2), position, np.int32)
    state = finished(plan, segments, outcome_of(plan, release, segments))
    found = publish(plan, state, ("north", "south"), noise="system")
    assert len(found.segments) == plan.k
    assert found.canonical() == publish(plan, state, ("north", "south"), noise="system").canonical()
    for segment in found.segments:
        assert segment.suppressed == (segment.size is None)
        for value in segment.values:
            assert isinstance(value, NumericValue)
            assert 0 <= value.low <= value.center <= value.high <= 100
            assert 0 <= value.spread.low <= value.spread.sd <= value.spread.high <= 50
            assert 0 <= value.spread.typical_low <= value.center <= value.spread.typical_high <= 100


def test_the_loss_it_states_is_over_all_units_a_customer_may_be_in(plan: Plan) -> None:
    found = publish(plan, state_of(plan, [9.0, 9.0, 9.0]), (), noise="system")
    numerator, denominator = found.rho.split("/")
    assert int(numerator) / int(denominator) == pytest.approx(float(plan.rho), rel=1e-4)
    assert int(numerator) / int(denominator) <= float(plan.rho)


def test_what_is_suppressed_is_told_together_unless_even_that_is_too_small(plan: Plan) -> None:
    together = publish(plan, state_of(plan, [3.0, 500.0, 4.0], sd=1.0), (), noise="system").other
    assert together is not None
    half = INTERVAL * math.sqrt(2)
    assert (together.segments, together.size) == (2, 7)
    assert together.size_interval == (round(7 - half), round(7 + half))
    hidden = publish(plan, state_of(plan, [3.0, 500.0, -4.0], sd=1.0), (), noise="system").other
    assert hidden is not None
    assert (hidden.segments, hidden.size, hidden.size_interval) == (2, None, None)
    assert publish(plan, state_of(plan, [300.0, 500.0, 90.0]), (), noise="system").other is None


def test_a_spread_is_the_standard_deviation_in_original_units_with_its_interval(plan: Plan) -> None:
    first = publish(plan, state_of(plan, [500.0, 6.0, 0.0]), (), noise="system").segments[0]
    spend = first.values[1]
    assert isinstance(spend, NumericValue)
    per_unit = 100 / (2 * FEATURE_MAX)
    variance = 50 / 500 + (1 / 500) ** 2
    assert spend.spread.sd == pytest.approx(RADIUS * math.sqrt(variance) * per_unit, rel=1e-5)
    assert spend.spread.typical_high - spend.center == pytest.approx(spend.spread.sd, abs=1e-3)
    assert spend.spread.low < spend.spread.sd < spend.spread.high


def test_only_shown_segments_above_the_noise_are_judged_by_the_numbers_people_see(plan: Plan) -> None:
    found = publish(plan, state_of(plan, [6.0, 500.0, 80.0], sd=10.0), (), noise="system")
    assert [(one.size, one.above_noise, one.stable) for one in found.segments][2] == (6, False, False)
    choice = found.findings.choice
    assert choice is not None
    assert [one.k for one in choice.candidates] == [1, 2]
    assert [(one.first, one.second) for one in found.findings.merges] == [(1, 2)]
    for one in found.findings.alike:
        assert (one.first, one.second) == (1, 2)


def test_where_nothing_stands_above_the_noise_nothing_is_judged(plan: Plan) -> None:
    findings = publish(plan, state_of(plan, [30.0, 20.0, 1.0], sd=1000.0), (), noise="system").findings
    assert findings.choice is None
    assert [*findings.merges, *findings.alike, *findings.mixed] == []
