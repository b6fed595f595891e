"""What is published follows from plan and final state alone, and hides what is too small to show."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.clustering.algorithm import State, init
from fedseg.clustering.features import FEATURE_MAX
from fedseg.plan import Plan
from fedseg.segments.segmentation import NumericValue, Segment, Segmentation
from fedseg.server.publish import INTERVAL, publish
from tests.small_federation import SmallFederation


@pytest.fixture(scope="session")
def plan(approved_once: SmallFederation) -> Plan:
    """Three segments; those below five customers are suppressed."""
    return approved_once.plan


def state_of(plan: Plan, counts: list[float], *, sd: float = 10.0) -> State:
    start = init(plan.settings)
    return replace(
        start, step=plan.rounds, counts=np.array(counts), count_sd=sd, center_sds=np.array([1000.0, np.inf, 1000.0])
    )


def numbers(segment: Segment) -> list[NumericValue]:
    return [value for value in segment.values if isinstance(value, NumericValue)]


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


def test_a_center_that_nothing_is_known_of_may_be_anywhere_in_the_bounds(plan: Plan) -> None:
    found = publish(plan, state_of(plan, [0.0, 500.0, 0.0]), (), noise="system")
    assert [(value.low, value.high) for value in numbers(found.segments[0])] == [(0, 100), (0, 100)]


def test_segments_of_equal_size_keep_their_order(plan: Plan) -> None:
    state = state_of(plan, [50.0, 50.0, 50.0])
    centers = [tuple(np.rint(center).astype(int).tolist()) for center in state.centers]
    assert [segment.encoded_center for segment in publish(plan, state, (), noise="system").segments] == centers


@given(
    counts=st.lists(st.floats(-(2.0**50), 2.0**50), min_size=3, max_size=3),
    sd=st.floats(0, 2.0**50),
    position=st.floats(-FEATURE_MAX, FEATURE_MAX),
)
def test_any_state_can_be_published(plan: Plan, counts: list[float], sd: float, position: float) -> None:
    state = replace(state_of(plan, counts, sd=sd), centers=np.full((3, 2), position))
    found = publish(plan, state, ("north", "south"), noise="system")
    assert len(found.segments) == plan.k
    assert found.canonical() == publish(plan, state, ("north", "south"), noise="system").canonical()
    for segment in found.segments:
        assert segment.suppressed == (segment.size is None)
        for value in numbers(segment):
            assert 0 <= value.low <= value.center <= value.high <= 100


def test_the_loss_it_states_is_over_all_units_a_customer_may_be_in(plan: Plan) -> None:
    found = publish(plan, state_of(plan, [9.0, 9.0, 9.0]), (), noise="system")
    numerator, denominator = found.rho.split("/")
    assert int(numerator) / int(denominator) == pytest.approx(float(plan.rho), rel=1e-4)
    assert int(numerator) / int(denominator) <= float(plan.rho)
