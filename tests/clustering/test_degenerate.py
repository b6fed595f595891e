"""Degenerate input ends well: no NaN, no crash, centers in the box, and requests that every unit would answer.

Runs are whole ones: real statistics, the exact sampler's noise, both profiles. NumPy's warnings count as errors here.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering.algorithm import Aggregate, State, init, next_request, step
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.request import parse_request, request_bytes
from fedseg.clustering.schedule import Kind, Profile
from fedseg.server.contribution import PLAUSIBLE_VALUE
from tests.small_run import Rows, bounded, clumps, exact, play, rho_for, settings_of, terms_of

EPSILONS = st.sampled_from(["1/100", "1/4", "1", "4", "100"])


def require_sane(state: State) -> None:
    """Everything a finished run says is finite and inside the box."""
    chosen = state.settings
    assert next_request(state) is None
    assert state.segments.shape == (chosen.k, chosen.dimensions)
    assert state.segments.dtype == np.int32
    require_finite(state)


def require_finite(state: State) -> None:
    assert np.isfinite(state.customers)
    assert state.customers > 0
    if state.centers is not None:
        assert (np.abs(state.centers) <= FEATURE_MAX).all()
    if state.model is not None:
        assert (np.abs(state.model.cloud.points) <= FEATURE_MAX).all()
    for found in (state.sketch, None if state.outcome is None else state.outcome.estimate):
        if found is None:
            continue
        for values in (found.customers, found.means, found.variances, found.position_variances, found.reliabilities):
            assert np.isfinite(values).all()
        assert (found.customers >= 0).all()
        assert (np.abs(found.means) <= FEATURE_MAX).all()


def require_answerable(state: State) -> None:
    """The open round asks for what the plan says, in the byte form that units read."""
    request = next_request(state)
    assert request is not None
    terms = terms_of(state.settings)[state.step]
    assert request.step == state.step == terms.step
    assert request.centers.shape == (terms.cells, state.settings.dimensions)
    plan, again = parse_request(request_bytes("5a" * 32, request))
    assert plan == "5a" * 32
    assert np.array_equal(again.centers, request.centers)
    assert np.array_equal(again.radii, request.radii)


@st.composite
def customers(draw: st.DrawFn) -> Rows:
    """Tables that no one would call a good example."""
    dimensions = draw(st.sampled_from([1, 2, 3, 8]))
    count = draw(st.sampled_from([0, 1, 2, 50, 400]))
    shape, coins = (count, dimensions), np.random.default_rng(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(["equal", "two values", "corners", "constant feature", "uniform", "clumps", "a line"]))
    event(kind)
    rows = coins.integers(-FEATURE_MAX, FEATURE_MAX, shape, np.int32, endpoint=True)
    if kind == "equal":
        rows[:] = coins.integers(-FEATURE_MAX, FEATURE_MAX, dimensions)
    if kind == "two values":
        rows = np.where(coins.random((count, 1)) < 0.1, FEATURE_MAX, -3).astype(np.int32) * np.ones(shape, np.int32)
    if kind == "corners":
        rows = np.where(rows < 0, -FEATURE_MAX, FEATURE_MAX).astype(np.int32)
    if kind == "constant feature":
        rows[:, 0] = draw(st.sampled_from([-FEATURE_MAX, 0, FEATURE_MAX]))
    if kind == "clumps":
        rows = clumps(count, dimensions, 3, seed=count, spread=0.0)
    if kind == "a line":
        rows[:] = rows[:, :1]
    return rows


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=customers(),
    k=st.sampled_from([1, 2, 7, 60]),
    epsilon=EPSILONS,
    profile=st.sampled_from(Profile),
    wrong=st.sampled_from([Fraction(1, 1000), Fraction(1), Fraction(1000)]),
    units=st.sampled_from([1, 2, 10]),
    secure=st.booleans(),
)
def test_a_run_over_any_customers_ends_with_segments_in_the_box(
    *, rows: Rows, k: int, epsilon: str, profile: Profile, wrong: Fraction, units: int, secure: bool
) -> None:
    expected = max(1, round(wrong * max(len(rows), 50)))
    noises = 1 if secure else units
    chosen = settings_of(k, rows.shape[1], expected, rho=rho_for(Fraction(epsilon)), noises=noises, profile=profile)
    tables = [rows, *[rows[:0]] * (units - 1)]  # all customers in one unit, the others empty
    with np.errstate(all="raise"):
        require_sane(play(chosen, tables, noise_seed=len(rows))[0])


@pytest.mark.parametrize(
    ("dimensions", "count", "expected", "profile"),
    [
        (200, 0, 50, Profile.STANDARD),
        (200, 1500, 1500, Profile.STANDARD),
        (256, 50, 50, Profile.SHORT),
        (217, 50, 10**7, Profile.STANDARD),
    ],
)
def test_many_features_end_well(dimensions: int, count: int, expected: int, profile: Profile) -> None:
    chosen = settings_of(4, dimensions, expected, rho=rho_for(4), profile=profile)
    # The second moment of 217 features is the widest that is ever asked for.
    assert (Kind.COVARIANCE in {one.kind for one in chosen.rounds}) == (expected > 50 and profile is Profile.STANDARD)
    with np.errstate(all="raise"):
        require_sane(play(chosen, [clumps(count, dimensions, 4, seed=2)], noise_seed=1)[0])


@pytest.mark.parametrize("k", [1, 3])
def test_well_separated_segments_of_a_few_distinct_customers_are_found_though_k_is_larger(k: int) -> None:
    places = np.array([[-400_000, 0], [0, 300_000], [400_000, -200_000]], np.int32)
    rows = np.repeat(places, 3000, axis=0)
    chosen = settings_of(k + 3, 2, len(rows), rho=rho_for(4))
    state, _ = play(chosen, [rows], noise_seed=5)
    gaps = np.linalg.norm(state.segments[:, None].astype(np.float64) - places, axis=2)
    assert (gaps.min(axis=0) < 15_000).all()


LIES = ("zeros", "all negative", "all huge", "all hugely negative", "huge of any sign", "one huge", "mixed", "noise")


def lies(kind: str, shape: tuple[int, int], coins: np.random.Generator) -> NDArray[np.int64]:
    """Sums of a thousand units, of which at least one lies with the largest values that a server takes."""
    most = 1000 * PLAUSIBLE_VALUE
    noise = np.rint(coins.normal(scale=2**20, size=shape)).astype(np.int64)
    choice = np.array([0, 1, -1, most, -most, 2**20, -(2**20), PLAUSIBLE_VALUE])
    one = noise.copy()
    one.flat[coins.integers(one.size)] = coins.choice([most, -most])
    return {
        "zeros": np.zeros(shape, np.int64),
        "all negative": -np.abs(noise) - 1,
        "all huge": np.full(shape, most),
        "all hugely negative": np.full(shape, -most),
        "huge of any sign": coins.integers(-most, most, shape),
        "one huge": one,
        "mixed": coins.choice(choice, shape),
        "noise": noise,
    }[kind]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    k=st.sampled_from([1, 2, 7, 40]),
    dimensions=st.sampled_from([1, 2, 9]),
    expected=st.sampled_from([1, 1000, 10**6]),
    profile=st.sampled_from(Profile),
    epsilon=EPSILONS,
    noises=st.sampled_from([1, 1000]),
    told=st.lists(st.sampled_from(LIES), min_size=6, max_size=6),
    seed=st.integers(0, 2**53 - 1),
)
def test_whatever_units_say_every_request_can_be_answered_and_every_state_is_finite(
    *,
    k: int,
    dimensions: int,
    expected: int,
    profile: Profile,
    epsilon: str,
    noises: int,
    told: list[str],
    seed: int,
) -> None:
    chosen = settings_of(
        k, dimensions, expected, rho=rho_for(Fraction(epsilon)), noises=noises, profile=profile, seed=seed
    )
    coins, state = np.random.default_rng(seed), init(chosen)
    with np.errstate(all="raise"):
        for terms, lie in zip(terms_of(chosen), told, strict=False):
            require_answerable(state)
            sums = lies(lie, (terms.cells, terms.width), coins)
            state = step(state, Aggregate(terms.step, sums, terms, noises))
            require_finite(state)
    require_sane(state)


@pytest.mark.parametrize("kind", ["all negative", "all huge", "one huge", "mixed"])
@pytest.mark.parametrize("place", range(6))
def test_a_lie_among_honest_rounds_is_survived(place: int, kind: str) -> None:
    rows = clumps(2000, 2, 4, seed=1)
    chosen = settings_of(4, 2, 2000, rho=rho_for(4), noises=3)
    plan, state, coins = terms_of(chosen), init(chosen), np.random.default_rng(place)
    assert len(plan) == 6
    while (request := next_request(state)) is not None:
        terms = plan[state.step]
        sums = exact(rows, request, terms.lattice).reshape(terms.cells, terms.width)
        told = lies(kind, sums.shape, coins) if state.step == place else sums
        with np.errstate(all="raise"):
            state = step(state, Aggregate(terms.step, told, terms, 3))
    require_sane(state)


def test_nobody_anywhere_sums_to_noise_alone() -> None:
    empty = np.empty((0, 3), np.int32)
    assert list(bounded(empty).chunks()) == []
    chosen = settings_of(5, 3, 1000, rho=rho_for(1), noises=4)
    state, turns = play(chosen, [empty] * 4, noise_seed=9)
    assert not any(one.any() for turn in turns for one in turn.exact)
    require_sane(state)
