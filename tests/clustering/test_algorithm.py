"""The algorithm is a pure function of released numbers and public coins: same numbers, same bytes, on any machine."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.clustering.algorithm import CUSTOMERS_MIN, Aggregate, Settings, State, init, next_request, step
from fedseg.clustering.features import DIMENSIONS_MAX, FEATURE_MAX
from fedseg.clustering.lattice import Statistic
from fedseg.clustering.request import request_bytes
from fedseg.clustering.schedule import Kind, Profile
from fedseg.clustering.statistics import bounded_residuals
from tests.small_run import Turn, aggregate_of, clumps, exact, play, rho_for, settings_of, terms_of

ROOT = Path(__file__).parents[2]


def transcript(state: State, turns: list[Turn]) -> str:
    """Hash of every request and of the segments: what is public about a run."""
    found = hashlib.sha256()
    for turn in turns:
        found.update(request_bytes("5a" * 32, turn.request))
    found.update(state.segments.astype("<i4").tobytes())
    return found.hexdigest()


def small(profile: Profile = Profile.STANDARD, seed: int = 7) -> Settings:
    return settings_of(4, 3, 3000, rho=rho_for(4), noises=2, seed=seed, profile=profile)


UNITS = [clumps(2000, 3, 4, seed=11), clumps(1000, 3, 4, seed=11)]


@given(k=st.integers(1, 60), dimensions=st.integers(1, 40), seed=st.integers(0, 2**53 - 1))
def test_the_start_is_one_cell_over_the_whole_box_whatever_the_plan(k: int, dimensions: int, seed: int) -> None:
    request = init(settings_of(k, dimensions, 1000, rho=rho_for(1), seed=seed)).request
    assert request is not None
    assert request.centers.tolist() == [[0] * dimensions]
    assert int(request.radii[0]) ** 2 > dimensions * FEATURE_MAX**2


@pytest.mark.parametrize("dimensions", [1, 2, 1024, DIMENSIONS_MAX])
def test_at_the_start_nobody_is_clipped(dimensions: int) -> None:
    request = init(settings_of(2, dimensions, 1000, rho=rho_for(1))).request
    assert request is not None
    corner = np.full((dimensions, 1), FEATURE_MAX, np.float64)
    unit = 2**20
    bounded = bounded_residuals(corner, request.radii.astype(np.float64), unit)[:, 0].tolist()
    assert bounded == [FEATURE_MAX * unit // int(request.radii[0])] * dimensions


@pytest.mark.parametrize("profile", Profile)
def test_the_same_released_numbers_give_the_same_requests_and_segments(profile: Profile) -> None:
    once, again = (play(small(profile), UNITS, noise_seed=3) for _ in range(2))
    assert transcript(*once) == transcript(*again)
    state = init(small(profile))
    for turn in once[1]:
        state = step(state, aggregate_of(state.settings, turn))
    assert transcript(state, once[1]) == transcript(*once)


@pytest.mark.parametrize("profile", Profile)
def test_how_customers_are_spread_over_units_makes_no_difference_under_one_noise(profile: Profile) -> None:
    chosen = replace(small(profile), budget=replace(small().budget, noises=1))
    rows = np.concatenate(UNITS)
    by_place = [rows[rows[:, 0] < 0], rows[:0], rows[rows[:, 0] >= 0]]
    at_random = np.array_split(np.random.default_rng(1).permutation(rows), 5)
    runs = {transcript(*play(chosen, units, noise_seed=4)) for units in ([rows], by_place, at_random)}
    assert len(runs) == 1


def test_another_seed_of_the_public_coins_is_another_run() -> None:
    assert transcript(*play(small(seed=1), UNITS, 3)) != transcript(*play(small(seed=2), UNITS, 3))


RUN = """
import sys
from fedseg.clustering.schedule import Profile
from tests.clustering.test_algorithm import UNITS, small, transcript
from tests.small_run import clumps, play, rho_for, settings_of

wide = settings_of(9, 40, 20_000, rho=rho_for(4))
print(transcript(*play(small(), UNITS, 3)), transcript(*play(small(Profile.SHORT), UNITS, 3)))
print(transcript(*play(wide, [clumps(20_000, 40, 9, seed=1)], 3)))
"""

MACHINES = {
    "one thread": {"OPENBLAS_NUM_THREADS": "1"},
    "two threads": {"OPENBLAS_NUM_THREADS": "2"},
    "an older processor's kernels": {"OPENBLAS_CORETYPE": "Haswell"},
    "a very old processor's kernels": {"OPENBLAS_CORETYPE": "Nehalem"},
    "no wide vectors": {
        "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX2 FMA3"
    },
}


@pytest.mark.processes
def test_every_machine_finds_the_same_requests_and_segments() -> None:
    def found(variables: dict[str, str]) -> str:
        command = [sys.executable, "-W", "ignore", "-c", RUN]
        run = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=True
        )
        return run.stdout

    runs = {name: found(variables) for name, variables in MACHINES.items()}
    assert len(set(runs.values())) == 1, runs
    assert all(len(one.split()) == 3 for one in runs.values())


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_well_separated_groups(seed: int, profile: Profile) -> None:
    corners = np.array([[-1, -1, -1], [1, 1, -1], [-1, 1, 1], [1, -1, 1]]) * 300_000
    coins = np.random.default_rng(seed)
    rows = np.rint(np.repeat(corners, 2000, axis=0) + coins.normal(scale=15_000, size=(8000, 3))).astype(np.int32)
    chosen = settings_of(4, 3, 8000, rho=rho_for(4), seed=seed, profile=profile)
    state, _ = play(chosen, [rows], noise_seed=seed)
    gaps = np.linalg.norm(state.segments[:, None] - corners[None], axis=2)
    assert (gaps.min(axis=0) < 5_000).all()
    assert state.customers == pytest.approx(8000, rel=0.02)
    assert state.outcome is not None
    assert np.sort(state.outcome.estimate.customers) == pytest.approx(np.full(4, 2000), rel=0.05)


def test_without_noise_to_speak_of_the_first_rounds_find_mean_and_covariance() -> None:
    root = np.array([[90_000.0, 40_000.0], [40_000.0, 50_000.0]])
    normal = np.random.default_rng(2).standard_normal((20_000, 2))
    rows = np.rint(normal @ root + [100_000, -200_000]).clip(-FEATURE_MAX, FEATURE_MAX).astype(np.int32)
    chosen = settings_of(4, 2, 20_000, rho=rho_for(1000))
    assert chosen.rounds[1].kind is Kind.COVARIANCE
    state = init(chosen)
    for terms in terms_of(chosen)[:2]:
        request = next_request(state)
        assert request is not None
        sums = exact(rows, request, terms.lattice).reshape(1, -1)
        state = step(state, Aggregate(terms.step, sums, terms, 1))
    assert state.customers == pytest.approx(20_000)
    assert state.model is not None
    points = state.model.cloud.points
    assert points.mean(axis=0) == pytest.approx([100_000, -200_000], abs=6_000)
    # The clip radius cuts off the tails, so the cloud is a little narrower than the customers.
    assert np.asarray(np.cov(points.T)) == pytest.approx(root @ root, rel=0.35)
    assert np.corrcoef(points.T) == pytest.approx(np.corrcoef(rows.T), abs=0.1)


@pytest.mark.parametrize("count", [-(2**40), 0, 5])
def test_a_total_below_the_noise_counts_as_a_few_customers(count: int) -> None:
    state = init(small())
    terms = terms_of(state.settings)[0]
    sums = np.zeros((1, terms.width), np.int64)
    sums[0, 0] = count * terms.lattice.count_weight
    assert step(state, Aggregate(0, sums, terms, 2)).customers == CUSTOMERS_MIN


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_a_step_changes_no_state_it_was_given(seed: int) -> None:
    state = init(small(seed=seed))
    for terms in terms_of(state.settings)[:3]:
        before, request = state, next_request(state)
        sums = np.random.default_rng(seed).integers(-(2**22), 2**22, (terms.cells, terms.width))
        cloud = None if before.model is None else before.model.cloud.points.copy()
        state = step(before, Aggregate(terms.step, sums.copy(), terms, 2))
        assert before.step == terms.step
        assert before.request is request
        assert cloud is None or (before.model is not None and np.array_equal(before.model.cloud.points, cloud))


@pytest.mark.parametrize("wrong", ["another step", "another width", "more cells", "after the end"])
def test_an_answer_to_another_question_is_refused(wrong: str) -> None:
    state = init(small())
    terms = terms_of(state.settings)[0]
    sums = np.zeros((1, terms.width), np.int64)
    if wrong == "another step":
        aggregate = Aggregate(1, sums, terms, 2)
    elif wrong == "another width":
        aggregate = Aggregate(0, sums[:, 1:], terms, 2)
    elif wrong == "more cells":
        aggregate = Aggregate(0, np.concatenate([sums, sums]), terms, 2)
    else:
        state, turns = play(small(), UNITS, noise_seed=3)
        aggregate = aggregate_of(state.settings, turns[-1])
    with pytest.raises(ValueError, match="does not answer"):
        step(state, aggregate)


def test_there_are_no_segments_before_the_last_round_is_in() -> None:
    state = init(small())
    with pytest.raises(ValueError, match="still open"):
        _ = state.segments
    done, turns = play(small(), UNITS, noise_seed=3)
    for turn in turns[:-1]:
        state = step(state, aggregate_of(state.settings, turn))
        with pytest.raises(ValueError, match="still open"):
            _ = state.segments
    assert next_request(done) is None
    assert done.segments.shape == (4, 3)


def test_the_last_round_measures_each_feature() -> None:
    state, turns = play(small(), UNITS, noise_seed=3)
    assert turns[-1].terms.lattice.statistic is Statistic.PROFILE
    assert state.outcome is not None
    assert state.outcome.release.energies.shape == (4, 3)
