"""Opacus' Renyi accountant, a third independent oracle, and the exact curve that no valid bound may undercut."""

import importlib
from fractions import Fraction

import numpy as np
import pytest
from scipy import optimize, stats

from fedseg.privacy.budget import epsilon_of

pytestmark = pytest.mark.extras

CASES = [
    (sigma, releases, delta)
    for sigma, releases in [(1, 1), (2, 3), (10, 1), (10, 20), (4096, 6), (50, 1000)]
    for delta in (1e-5, 1e-6, 1e-9)
]


def exact_epsilon(sigma: int, releases: int, delta: float) -> float:
    """Exact for the composed continuous Gaussian: Balle and Wang, ICML 2018, Theorem 8, with mu = sqrt(releases) / sigma."""
    mu = releases**0.5 / sigma

    def excess(epsilon: float) -> float:
        tail = epsilon + stats.norm.logcdf(-epsilon / mu - mu / 2)
        return float(stats.norm.cdf(-epsilon / mu + mu / 2) - np.exp(tail) - delta)

    return float(optimize.brentq(excess, 0, 100, xtol=1e-13))


@pytest.mark.parametrize(("sigma", "releases", "delta"), CASES)
def test_epsilon_agrees_with_opacus(sigma: int, releases: int, delta: float) -> None:
    rdp = importlib.import_module("opacus.accountants.analysis.rdp")  # fails where the extra is not installed
    orders = (1 + np.geomspace(1e-3, 1e5, 4000)).tolist()
    spent = rdp.compute_rdp(q=1.0, noise_multiplier=float(sigma), steps=releases, orders=orders)
    theirs, _ = rdp.get_privacy_spent(orders=orders, rdp=spent, delta=delta)
    assert float(epsilon_of(Fraction(releases, 2 * sigma**2), Fraction(delta))) == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize(("sigma", "releases", "delta"), CASES)
def test_epsilon_is_never_below_the_exact_curve_and_close_to_it(sigma: int, releases: int, delta: float) -> None:
    ours, exact = (
        float(epsilon_of(Fraction(releases, 2 * sigma**2), Fraction(delta))),
        exact_epsilon(sigma, releases, delta),
    )
    assert exact <= ours <= 1.25 * exact + 1e-3
