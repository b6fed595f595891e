"""The noise that peers add, with the budget it spends. Floating point and seeded: for measuring, NEVER PRIVATE.

Unlike fedseg's own, which the benchmark draws as integers from the exact sampler, in its seeded form.
"""

import math
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Sums = NDArray[np.float64]


class Noise(Protocol):
    """One run's budget, spent in shares that add up to at most one."""

    coins: Generator
    """Where a peer takes its public coins from."""

    def release(self, sums: Sums, sensitivity: float, share: float) -> Sums:
        """The sums with noise of so large a share of the budget.

        Args:
            sums: Over all customers of all units.
            sensitivity: The most that one customer, added or removed, moves `sums`: in L2 norm under Gaussian noise,
                in L1 norm under Laplace noise.
            share: Of the budget; in (0, 1].

        Raises:
            ValueError: If the budget does not reach.
        """
        ...

    def sd(self, sensitivity: float, share: float) -> float:
        """Standard deviation of what `release` adds to each entry, over all units."""
        ...


class GaussianNoise:
    """Gaussian noise for a zCDP budget: sigma = sensitivity / sqrt(2 rho share), from each of so many units."""

    def __init__(self, rho: float, units: int, coins: Generator) -> None:
        self.coins = coins
        self._rho, self._units, self._left = rho, units, 1.0

    def release(self, sums: Sums, sensitivity: float, share: float) -> Sums:
        """The sums of all units' releases; see `Noise`."""
        self._left = _spend(self._left, share)
        noised: Sums = sums + self.sd(sensitivity, share) * self.coins.standard_normal(sums.shape)
        return noised

    def sd(self, sensitivity: float, share: float) -> float:
        """See `Noise`."""
        return math.sqrt(self._units) * sensitivity / math.sqrt(2 * self._rho * share)


class LaplaceNoise:
    """Laplace noise for a pure budget: scale = sensitivity / (epsilon share), from each of so many units."""

    def __init__(self, epsilon: float, units: int, coins: Generator) -> None:
        self.coins = coins
        self._epsilon, self._units, self._left = epsilon, units, 1.0

    def release(self, sums: Sums, sensitivity: float, share: float) -> Sums:
        """The sums of all units' releases; see `Noise`."""
        self._left = _spend(self._left, share)
        # A Laplace variable is the difference of two exponential ones, and m exponential ones add up to a gamma one.
        gains, losses = self.coins.standard_gamma(self._units, (2, *sums.shape))
        noised: Sums = sums + sensitivity / (self._epsilon * share) * (gains - losses)
        return noised

    def sd(self, sensitivity: float, share: float) -> float:
        """See `Noise`."""
        return math.sqrt(2 * self._units) * sensitivity / (self._epsilon * share)


def _spend(left: float, share: float) -> float:
    if not 0 < share <= left + 1e-9:
        raise ValueError(f"a release takes {share:.3g} of the budget, {left:.3g} is left; shares add up to one at most")
    return left - share
