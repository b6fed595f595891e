"""The noise mechanisms and what they cost. Pure: no random bits, no data.

Each mechanism knows its charge from its own integers, and `recompute` finds the same charge from a ledger entry's
facts, so an auditor trusts no stored rho.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Self

from fedseg.privacy.budget import RHO_GRID, Charge

SIGMA_MIN = 2**10
"""Smallest sigma of a calibrated mechanism: below it the lattice is coarse enough to cost accuracy."""

SIGMA_LIMIT = 2**24
"""Every sigma is smaller than this; the sampler's overflow bounds are proved up to here (`noise.py`)."""

DISCRETE_GAUSSIAN_ZCDP = "discrete-gaussian-zcdp"
"""rho = Delta^2 / (2 sigma^2), delta = 0. Facts: `sigma`, `l2_sensitivity_squared`."""


@dataclass(frozen=True, slots=True)
class DiscreteGaussian:
    """Independent discrete Gaussian noise on every coordinate of an integer vector.

    P(Z = z) is proportional to exp(-z^2 / (2 sigma^2)) for every integer z.
    """

    sigma: int
    """Scale, in lattice steps; in [1, SIGMA_LIMIT)."""

    def __post_init__(self) -> None:
        _refuse_other_than_int(sigma=self.sigma)
        if not 1 <= self.sigma < SIGMA_LIMIT:
            raise ValueError(f"sigma must lie in [1, {SIGMA_LIMIT}), got {self.sigma}")

    def charge(self, l2_sensitivity_squared: int) -> Charge:
        """What releasing an integer vector with this noise costs: rho = Delta^2 / (2 sigma^2), rounded up; delta = 0.

        Args:
            l2_sensitivity_squared: Delta^2, the largest squared L2 distance, in lattice steps, between the vectors of
                neighbouring tables; positive.

        Reference: Canonne, Kamath, Steinke 2020, arXiv 2004.00010, Theorem 14: the multivariate discrete Gaussian.

        >>> DiscreteGaussian(sigma=1024).charge(l2_sensitivity_squared=2048).rho
        Fraction(1, 1024)
        """
        _check_sensitivity(l2_sensitivity_squared)
        return Charge.of(Fraction(l2_sensitivity_squared, 2 * self.sigma**2), Fraction(0), DISCRETE_GAUSSIAN_ZCDP)

    @classmethod
    def calibrated(cls, l2_sensitivity_squared: int, rho: Fraction) -> Self:
        """The mechanism with the smallest sigma whose charge is at most `rho`.

        With s whole steps of the grid in rho, ceil(Delta^2 RHO_GRID / (2 sigma^2)) <= s exactly when
        sigma^2 >= Delta^2 RHO_GRID / (2 s): an integer square root, rounded up twice.

        Raises:
            ValueError: If that sigma is not in [SIGMA_MIN, SIGMA_LIMIT): choose a finer or coarser lattice step.
        """
        _check_sensitivity(l2_sensitivity_squared)
        if type(rho) is not Fraction:
            raise TypeError(f"rho must be a Fraction, got {type(rho).__name__}")
        steps = math.floor(rho * RHO_GRID)
        if steps < 1:
            raise ValueError(f"rho must be at least 1/{RHO_GRID}, got {rho}")
        sigma_squared = -(-l2_sensitivity_squared * RHO_GRID // (2 * steps))
        sigma = math.isqrt(sigma_squared - 1) + 1
        if not SIGMA_MIN <= sigma < SIGMA_LIMIT:
            raise ValueError(f"sigma would be {sigma} lattice steps, it must lie in [{SIGMA_MIN}, {SIGMA_LIMIT})")
        return cls(sigma)


def recompute(formula: str, parameters: Mapping[str, int]) -> Charge:
    """The charge of a mechanism from the facts its ledger entry states.

    Args:
        formula: A name in `FORMULAS`.
        parameters: Exactly the facts that formula needs.

    Raises:
        ValueError: If the formula is unknown, or a fact is missing, unknown, not an integer or out of range: what
            cannot be recomputed is not a charge.
    """
    if formula not in FORMULAS:
        raise ValueError("a charge names a formula that this version does not know")
    if any(type(value) is not int for value in parameters.values()):
        raise ValueError(f"the facts of {formula} are integers")
    return FORMULAS[formula](parameters)


def _discrete_gaussian_zcdp(parameters: Mapping[str, int]) -> Charge:
    if set(parameters) != {"sigma", "l2_sensitivity_squared"}:
        raise ValueError(f"{DISCRETE_GAUSSIAN_ZCDP} needs exactly sigma and l2_sensitivity_squared")
    return _charge(parameters["sigma"], parameters["l2_sensitivity_squared"])


@functools.lru_cache(maxsize=4096)
def _charge(sigma: int, l2_sensitivity_squared: int) -> Charge:
    """An auditor meets the same few mechanisms in every ledger."""
    return DiscreteGaussian(sigma).charge(l2_sensitivity_squared)


FORMULAS: Final[Mapping[str, Callable[[Mapping[str, int]], Charge]]] = MappingProxyType(
    {DISCRETE_GAUSSIAN_ZCDP: _discrete_gaussian_zcdp}
)
"""From a formula's name to what recomputes it. A later mechanism adds a line, and its charge may have a delta."""


def _check_sensitivity(l2_sensitivity_squared: int) -> None:
    _refuse_other_than_int(l2_sensitivity_squared=l2_sensitivity_squared)
    if l2_sensitivity_squared < 1:
        # A statistic no customer can move needs no noise; a sensitivity of 0 is a forgotten one.
        raise ValueError(f"l2_sensitivity_squared must be positive, got {l2_sensitivity_squared}")


def _refuse_other_than_int(**values: int) -> None:
    """Types are not checked at run time; a float, a NumPy scalar that wraps, or a bool is refused here."""
    for name, value in values.items():
        if type(value) is not int:
            raise TypeError(f"{name} must be an int, got {type(value).__name__}")
