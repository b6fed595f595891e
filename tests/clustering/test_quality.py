"""What is said of a segment comes with the noise that is in it: right where there is none, honest where there is much."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.quality import Cell
from fedseg.clustering.algorithm import Outcome, State, init
from fedseg.clustering.nearest import nearest_center
from fedseg.clustering.quality import CLIPPED_ENERGY, CLIPPED_ENERGY_SHORT_TAILS, SEEN_SDS, profiles
from fedseg.clustering.shrink import Measured
from tests.small_run import clumps, play, rho_for, settings_of

TWO_SIDED_95 = 1.96


@pytest.fixture(scope="module")
def finished() -> State:
    rows = clumps(4000, 3, 4, 1, spread=0.05)
    return play(settings_of(4, 3, 4000, rho=rho_for(2)), [rows], 1)[0]


def outcome(state: State) -> Outcome:
    assert state.outcome is not None
    return state.outcome


def test_without_noise_it_says_size_mean_and_variance_of_the_customers_nearest_to_the_reference_points() -> None:
    rows = clumps(3000, 4, 3, 2, spread=0.03)
    state, turns = play(settings_of(3, 4, 3000, rho=rho_for(4)), [rows], 1)
    terms, (sums,) = turns[-1].terms, turns[-1].exact
    unit, weight = terms.lattice.unit, terms.lattice.count_weight
    exact = sums.reshape(3, terms.width)
    last = outcome(state)
    noiseless = Measured(
        counts=exact[:, 0] / weight,
        steps=exact[:, 1:5] / unit,
        energies=exact[:, 5:] / terms.lattice.energy_weight,
        count_sd=1e-9,
        step_sd=1e-9,
        energy_sd=1e-9,
    )
    wide = (np.linalg.norm(rows - last.request.centers[nearest_center(rows, last.request.centers)], axis=1)).max()
    assert wide < last.request.radii.max() * 2  # few are clipped, and the test says so if that changes
    found = profiles(replace(state, outcome=Outcome(last.request, noiseless, last.estimate)))
    labels = nearest_center(rows, last.request.centers)
    for segment in range(3):
        inside = rows[labels == segment].astype(np.float64)
        away = np.linalg.norm(inside - last.request.centers[segment], axis=1)
        assert found.counts[segment] == len(inside)
        if (away > last.request.radii[segment]).any():
            continue
        assert found.means[segment] == pytest.approx(inside.mean(axis=0), abs=10)
        assert found.variances[segment] == pytest.approx(inside.var(axis=0), rel=0.01)


def test_a_segment_is_seen_from_four_standard_deviations_of_the_noise_on(finished: State) -> None:
    last = outcome(finished)
    sd = last.release.count_sd
    release = replace(last.release, counts=np.array([SEEN_SDS * sd, SEEN_SDS * sd - 1, -5.0, 1e6]))
    assert profiles(replace(finished, outcome=replace(last, release=release))).seen.tolist() == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(("long_tails", "limit"), [(True, CLIPPED_ENERGY), (False, CLIPPED_ENERGY_SHORT_TAILS)])
def test_a_segment_too_wide_for_its_clip_radius_is_flagged_as_clipped(
    finished: State, long_tails: bool, limit: float
) -> None:
    last = outcome(finished)
    squared = last.request.radii.astype(np.float64) ** 2
    shift = ((last.estimate.means - last.request.centers) ** 2).sum(axis=1)
    estimate = replace(last.estimate, variances=np.array([0.9, 1.1, 2.0, 0.1]) * limit * squared - shift)
    found = profiles(replace(finished, outcome=replace(last, estimate=estimate)), long_tails=long_tails)
    assert found.clipped.tolist() == [False, True, True, False]


def test_more_noise_widens_every_interval(finished: State) -> None:
    last = outcome(finished)
    release = last.release
    noisier = replace(
        release, count_sd=2 * release.count_sd, step_sd=2 * release.step_sd, energy_sd=2 * release.energy_sd
    )
    found, wider = profiles(finished), profiles(replace(finished, outcome=replace(last, release=noisier)))
    assert wider.count_sd > found.count_sd
    assert (wider.mean_sds > found.mean_sds).all()
    assert (wider.variance_sds > found.variance_sds).all()


VALUES = st.floats(-(2.0**60), 2.0**60)


@given(st.lists(VALUES, min_size=4, max_size=4), VALUES, VALUES, st.floats(1e-3, 2.0**40))
def test_whatever_is_released_every_number_is_finite(
    finished: State, counts: list[float], place: float, energy: float, sd: float
) -> None:
    last = outcome(finished)
    shape = last.request.centers.shape
    release = Measured(np.array(counts), np.full(shape, place), np.full(shape, energy), sd, sd, sd)
    found = profiles(replace(finished, outcome=replace(last, release=release)))
    for values in (found.counts, found.means, found.mean_sds, found.variances, found.variance_sds):
        assert np.isfinite(values).all()


def test_before_the_last_round_there_is_nothing_to_say() -> None:
    with pytest.raises(ValueError, match="still open"):
        profiles(init(settings_of(3, 2, 100, rho=rho_for(1))))


def covered(errors: list[NDArray[np.float64]]) -> float:
    return float((np.abs(np.concatenate(errors)) <= TWO_SIDED_95).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "epsilon"),
    [("overlap", "1/2"), ("rfm", "1/2"), ("loose", "1/2"), ("unbal", "2")],
)
def test_the_intervals_hold_the_truth_as_often_as_they_say(family: str, epsilon: str) -> None:
    """Nominal 95 %, in segments above the noise that are not flagged as clipped; data of other seeds than the tables.

    The expected coverages are within 0.93 and 0.97; 12 runs of eight segments with ten features, whose errors go
    together in part, may miss them by 0.03.
    """
    from benchmarks.accuracy.families import Shape

    cell, shape = Cell(family, Fraction(epsilon), 1, 1), Shape(family, 20_000, 10, 8)
    draws = [shape.draw(seed) for seed in range(2000, 2005)]
    found = [one for noise in range(12) for one in cell.errors(draws[noise % 5], noise)]
    clear = [one for one in found if one.seen and not one.clipped]
    assert len(clear) > len(found) / 3
    assert covered([one.means for one in clear]) == pytest.approx(0.95, abs=0.05)
    assert covered([one.variances for one in clear]) == pytest.approx(0.95, abs=0.05)
    assert covered([np.array([one.size]) for one in found]) == pytest.approx(0.95, abs=0.07)
