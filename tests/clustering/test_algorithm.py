"""The algorithm is a pure function of released numbers: same numbers, same state, whatever the numbers are."""

from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering.algorithm import Aggregate, Settings, State, init, next_request, step
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.lattice import StepTerms, fit_lattice
from fedseg.clustering.request import RADIUS_MAX
from fedseg.clustering.statistics import customer_vectors
from fedseg.privacy.sensitive import sum_of_rows

K, DIMENSIONS, ROUNDS = 4, 3, 3
SETTINGS = Settings(K, DIMENSIONS, (1.0, 0.6, 0.4), seed=3)


def terms_of(step_: int, rho: Fraction = Fraction(1, 10)) -> StepTerms:
    lattice, mechanism = fit_lattice(rho, Fraction(1))
    return StepTerms(step_, K, 1 + DIMENSIONS, lattice, mechanism)


def answer(state: State, sums: NDArray[np.int64], units: int = 2) -> Aggregate:
    return Aggregate(state.step, sums, terms_of(state.step), units)


def same(one: State, other: State) -> bool:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(State)]
    return all(a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b for a, b in pairs)


ENTRIES = st.one_of(
    st.integers(-(2**62), 2**62), st.integers(-(2**21), 2**21), st.sampled_from([0, 1, -1, 2**62, -(2**62)])
)
SUMS = st.lists(ENTRIES, min_size=K * (1 + DIMENSIONS), max_size=K * (1 + DIMENSIONS)).map(
    lambda entries: np.array(entries, np.int64).reshape(K, 1 + DIMENSIONS)
)


@settings(max_examples=150)
@given(seed=st.integers(0, 2**53 - 1), released=st.lists(SUMS, min_size=ROUNDS, max_size=ROUNDS))
def test_whatever_is_released_every_state_is_finite_and_every_request_within_bounds(
    seed: int, released: list[NDArray[np.int64]]
) -> None:
    state = init(Settings(K, DIMENSIONS, SETTINGS.radii, seed))
    for sums in released:
        request = next_request(state)
        assert request is not None
        assert request.step == state.step
        assert request.centers.shape == (K, DIMENSIONS)
        assert (np.abs(request.centers) <= FEATURE_MAX).all()
        assert ((request.radii >= 1) & (request.radii <= RADIUS_MAX)).all()
        once, again = step(state, answer(state, sums)), step(state, answer(state, sums.copy()))
        assert same(once, again)
        state = once
        assert np.isfinite(state.centers).all()
        assert np.isfinite(state.counts).all()
        assert (np.abs(state.centers) <= FEATURE_MAX).all()
        assert (state.center_sds > 0).all()
    assert next_request(state) is None


@given(st.integers(0, 2**53 - 1), st.integers(1, 40), st.integers(1, 60))
def test_the_start_is_spread_public_and_the_same_for_all(seed: int, k: int, dimensions: int) -> None:
    chosen = Settings(k, dimensions, (1.0,), seed)
    start = init(chosen)
    assert same(start, init(chosen))
    assert start.centers.shape == (k, dimensions)
    assert (np.abs(start.centers) <= FEATURE_MAX).all()
    assert len({tuple(center) for center in start.centers.tolist()}) == k


def test_when_all_cells_are_empty_the_centers_stay_in_the_box_and_nothing_is_known() -> None:
    state = init(SETTINGS)
    for _ in range(ROUNDS):
        state = step(state, answer(state, np.zeros((K, 1 + DIMENSIONS), np.int64)))
    assert np.isfinite(state.centers).all()
    assert (state.counts == 0).all()
    assert np.isinf(state.center_sds).all()


def test_a_count_within_the_noise_is_taken_for_an_empty_cell() -> None:
    state = init(SETTINGS)
    weight, sd = terms_of(0).lattice.count_weight, answer(state, np.zeros((K, 4), np.int64)).noise_sd
    sums = np.full((K, 1 + DIMENSIONS), 10**9, np.int64)
    sums[:, 0] = [int(1.9 * sd), int(2.1 * sd), -int(50 * sd), 1000 * weight]
    assert np.isinf(step(state, answer(state, sums)).center_sds).tolist() == [True, False, True, False]


def test_empty_cells_are_seated_beside_the_largest_before_another_round_only() -> None:
    state = init(Settings(K, DIMENSIONS, (1.0, 1.0), seed=3))
    sums = np.zeros((K, 1 + DIMENSIONS), np.int64)
    sums[1, 0] = 10**6 * terms_of(0).lattice.count_weight
    after = step(state, answer(state, sums))
    assert len({tuple(center) for center in after.centers.tolist()}) == K
    assert np.linalg.norm(after.centers - after.centers[1], axis=1).max() <= FEATURE_MAX
    request = next_request(after)
    assert request is not None
    last = step(after, answer(after, sums))
    empty = [0, 2, 3]
    assert np.array_equal(last.centers[empty], request.centers[empty])


def test_a_center_never_moves_farther_than_its_radius() -> None:
    state = init(Settings(K, DIMENSIONS, (0.1, 0.1), seed=3))
    request = next_request(state)
    assert request is not None
    sums = np.full((K, 1 + DIMENSIONS), 2**60, np.int64)
    sums[:, 0] = 10**6 * terms_of(0).lattice.count_weight
    moves = np.linalg.norm(step(state, answer(state, sums)).centers - request.centers, axis=1)
    assert (moves <= request.radii + 1e-6).all()
    assert (moves > request.radii * 0.9).all()


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_well_separated_groups_when_the_noise_is_tiny(seed: int) -> None:
    coins = np.random.default_rng(seed)
    corners = np.array([[-1, -1, -1], [1, 1, -1], [-1, 1, 1], [1, -1, 1]]) * 200_000
    rows = np.rint(np.repeat(corners, 500, axis=0) + coins.normal(scale=15_000, size=(2000, 3))).astype(np.int32)
    state = init(Settings(K, DIMENSIONS, (1.0,) * 8, seed))
    while (request := next_request(state)) is not None:
        terms = terms_of(state.step)
        exact = sum_of_rows(
            [customer_vectors(rows, request, terms.lattice)],
            cells=K,
            width=terms.width,
            l2_sensitivity_squared=terms.lattice.l2_sensitivity_squared,
        )
        state = step(state, answer(state, exact._values.reshape(K, -1), units=1))
    gaps = np.linalg.norm(state.centers[:, None] - corners[None], axis=2)
    assert (gaps.min(axis=0) < 5_000).all()
    assert state.counts.sum() == pytest.approx(2000)


@pytest.mark.parametrize("wrong", ["another step", "another shape", "after the end"])
def test_an_answer_to_another_question_is_refused(wrong: str) -> None:
    state, sums = init(SETTINGS), np.zeros((K, 1 + DIMENSIONS), np.int64)
    aggregate = answer(state, sums)
    if wrong == "another step":
        aggregate = Aggregate(1, sums, terms_of(1), 1)
    if wrong == "another shape":
        aggregate = answer(state, sums[:, 1:])
    if wrong == "after the end":
        state = State(SETTINGS, ROUNDS, state.centers, state.counts, 0.0, state.center_sds)
        aggregate = Aggregate(ROUNDS, sums, terms_of(ROUNDS), 1)
    with pytest.raises(ValueError, match="does not answer"):
        step(state, aggregate)
