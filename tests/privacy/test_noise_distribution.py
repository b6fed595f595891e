"""The sampler has the claimed distribution. An alarm of this file is false less than once in 10^6 runs."""

import numpy as np
import opendp.prelude as dp
import pytest
from numpy.typing import NDArray
from scipy import stats

from fedseg.privacy import noise as noise_module
from fedseg.privacy.noise import SystemNoise, discrete_gaussian

pytestmark = pytest.mark.slow

FALSE_ALARM = 2e-8
DRAWS = 400_000
SOURCE = SystemNoise()


def probabilities(sigma: int, reach: int) -> NDArray[np.float64]:
    """The exact pmf on [-reach, reach]; what lies beyond is below 1e-30 for reach >= 12 sigma."""
    weights: NDArray[np.float64] = np.exp(-(np.arange(-reach, reach + 1, dtype=np.float64) ** 2) / (2 * sigma**2))
    return weights / float(weights.sum())


def chi_square(values: NDArray[np.int64], sigma: int) -> float:
    """p-value against the exact pmf; cells with fewer than 40 expected draws are one cell."""
    reach = 12 * sigma
    expected = probabilities(sigma, reach) * values.size
    observed = np.bincount(np.clip(values, -reach, reach) + reach, minlength=2 * reach + 1)
    large = expected >= 40
    cells = np.append(observed[large], observed[~large].sum())
    return float(stats.chisquare(cells, np.append(expected[large], expected[~large].sum())).pvalue)


def distance_allowed(draws: int) -> float:
    """Massart's constant in the Dvoretzky-Kiefer-Wolfowitz inequality: holds for every n, also for discrete values."""
    return float(np.sqrt(np.log(2 / FALSE_ALARM) / (2 * draws)))


def distance_to_exact(values: NDArray[np.int64], sigma: int) -> float:
    """Kolmogorov-Smirnov distance. P(Z <= z) = Phi((z + 1/2) / sigma) up to 1/(24 sigma^2), 1e-8 for sigma >= 4096."""
    points, counts = np.unique(values, return_counts=True)
    after = np.cumsum(counts) / values.size
    below, above = stats.norm.cdf((points - 0.5) / sigma), stats.norm.cdf((points + 0.5) / sigma)
    return float(max(np.abs(after - above).max(), np.abs(after - counts / values.size - below).max()))


@pytest.mark.parametrize("sigma", [1, 2, 5, 100])
def test_small_sigmas_have_the_exact_pmf(sigma: int) -> None:
    assert chi_square(discrete_gaussian(sigma, DRAWS, SOURCE), sigma) > FALSE_ALARM


@pytest.mark.parametrize("sigma", [4096, 2**20, 2**24 - 1])
def test_large_sigmas_have_the_exact_cdf(sigma: int) -> None:
    assert distance_to_exact(discrete_gaussian(sigma, DRAWS, SOURCE), sigma) < distance_allowed(DRAWS)


@pytest.mark.parametrize("sigma", [1, 4096, 2**20])
def test_the_distribution_is_that_of_opendp(sigma: int) -> None:
    draws = 20_000
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T=int)), dp.l2_distance(T=float)
    theirs = np.array(dp.m.make_gaussian(*space, scale=float(sigma))([0] * draws))
    ours = discrete_gaussian(sigma, DRAWS, SOURCE)
    points = np.unique(np.concatenate([ours, theirs]))
    mine, other = (np.searchsorted(np.sort(x), points, side="right") / x.size for x in (ours, theirs))
    assert np.abs(mine - other).max() < distance_allowed(DRAWS) + distance_allowed(draws)


@pytest.mark.parametrize("sigma", [3, 2**20])
def test_moments_and_independence(sigma: int) -> None:
    z = discrete_gaussian(sigma, DRAWS, SOURCE) / sigma
    limit = stats.norm.isf(FALSE_ALARM / 2) / np.sqrt(DRAWS)
    assert abs(z.mean()) < limit
    assert abs((z**2).mean() - 1) < limit * np.sqrt(2)
    assert abs((z**3).mean()) < limit * np.sqrt(15)
    assert abs((z**4).mean() - 3) < limit * np.sqrt(96)
    for lag in (1, 2, noise_module._CHUNK):
        assert abs((z[lag:] * z[:-lag]).mean()) < limit * np.sqrt(DRAWS / (DRAWS - lag))


@pytest.mark.parametrize("numerator", [0, 1, 3, 7, 10, 16, 25, 37])
def test_a_trial_succeeds_with_probability_exp_minus_x(numerator: int) -> None:
    successes = int(noise_module._bernoulli_exp(np.full(DRAWS, numerator, np.uint64), 10, SOURCE).sum())
    assert stats.binomtest(successes, DRAWS, float(np.exp(-numerator / 10))).pvalue > FALSE_ALARM


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 1000])
def test_uniform_integers_are_uniform(bound: int) -> None:
    counts = np.bincount(noise_module._uniform_below(bound, DRAWS, SOURCE).astype(np.int64), minlength=bound)
    assert counts.size == bound
    assert bound == 1 or stats.chisquare(counts).pvalue > FALSE_ALARM


def test_the_alarm_rings_for_a_sampler_that_is_slightly_off() -> None:
    """Without power these tests would promise nothing: a zero too many in 200, a sigma or a mean off by 3 %."""
    generator = np.random.default_rng(7)

    def wrong(mean: float, sigma: float) -> NDArray[np.int64]:
        return np.rint(generator.normal(mean, sigma, DRAWS)).astype(np.int64)

    right = discrete_gaussian(100, DRAWS, SOURCE)
    assert chi_square(np.where(generator.random(DRAWS) < 0.005, 0, right), 100) < FALSE_ALARM
    assert chi_square(wrong(0, 103), 100) < FALSE_ALARM
    assert distance_to_exact(wrong(0, 1.03 * 4096), 4096) > distance_allowed(DRAWS)
    assert distance_to_exact(wrong(0.03 * 4096, 4096), 4096) > distance_allowed(DRAWS)
