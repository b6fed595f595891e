"""The integer lattices of the statistics and the noise that fits them: derived from the plan, never from data."""

import enum
import math
from dataclasses import dataclass
from fractions import Fraction

from fedseg.clustering.bins import BINS
from fedseg.privacy.mechanism import DiscreteGaussian

SIGMA_TARGET = 2**20
"""The lattice step is chosen so that the integer sigma lies near this: fine enough that truncation costs nothing."""

UNIT_MIN = 2**6
UNIT_MAX = 2**20


class Statistic(enum.StrEnum):
    """What a round asks for."""

    CELLS = "cells"
    """Per cell: count, sum of clipped residuals, sum of their energies."""
    PROFILE = "profile"
    """The same with one energy per feature, for the profiles of the segments."""
    SECOND_MOMENT = "second-moment"
    """Over all customers: sum of clipped residuals and of their products, two features at a time."""
    HISTOGRAM = "histogram"
    """Per encoded column: how many customers are in each of BINS bins."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """How one customer's vector is written in integers; y below is an integer vector with ||y||_2 <= `unit`.

    CELLS: (count_weight, y, energy) in the block of the customer's cell, with 0 <= energy <= energy_weight.
    PROFILE: (count_weight, y, energies), with ||energies||_2 <= energy_weight.
    SECOND_MOMENT: (z, products) with ||z||_2 <= count_weight and ||products||_2 <= energy_weight.
    HISTOGRAM: `bin_weight` in one bin of each column, 0 in all others; the energy weight is 1 and without a meaning.
    """

    statistic: Statistic
    unit: int
    """Lattice steps for a residual as long as the clip radius."""
    count_weight: int
    """What one customer adds to a count; in a second moment the largest norm of its linear part."""
    energy_weight: int
    """Energy of a residual as long as the clip radius; in a second moment the largest norm of the products."""

    def __post_init__(self) -> None:
        if not UNIT_MIN <= self.unit <= UNIT_MAX:
            raise ValueError(
                f"the lattice has {self.unit} steps for the clip radius, it needs {UNIT_MIN} to {UNIT_MAX}"
            )
        if not all(1 <= weight <= UNIT_MAX for weight in (self.count_weight, self.energy_weight)):
            raise ValueError(f"the weights must be between 1 and {UNIT_MAX} steps")

    @property
    def l2_sensitivity_squared(self) -> int:
        """Square of the L2 sensitivity under add-or-remove-one-customer, in lattice steps squared.

        One customer touches one block, and its parts are bounded apart from each other:
        count_weight^2 + unit^2 + energy_weight^2, for a second moment count_weight^2 + energy_weight^2. In a histogram
        of d columns it is in d bins, and d * bin_weight^2 <= unit^2.
        """
        if self.statistic is Statistic.HISTOGRAM:
            return self.unit**2
        linear = 0 if self.statistic is Statistic.SECOND_MOMENT else self.unit**2
        return self.count_weight**2 + linear + self.energy_weight**2

    @property
    def cross_weight(self) -> int:
        """Of a second moment: weight of the product of two different features, sqrt(2) energy_weight rounded down."""
        return math.isqrt(2 * self.energy_weight**2)

    def bin_weight(self, columns: int) -> int:
        """Of a histogram: what a customer adds to a bin of each of so many columns, together no longer than `unit`."""
        return min(self.count_weight, math.isqrt(self.unit**2 // columns))

    def width(self, features: int) -> int:
        """Integers per cell."""
        return {
            Statistic.CELLS: features + 2,
            Statistic.PROFILE: 2 * features + 1,
            Statistic.SECOND_MOMENT: features + features * (features + 1) // 2,
            Statistic.HISTOGRAM: features * BINS,
        }[self.statistic]

    @property
    def facts(self) -> dict[str, int]:
        """The lattice as it stands in the log."""
        return {"unit": self.unit, "count_weight": self.count_weight, "energy_weight": self.energy_weight}


@dataclass(frozen=True, slots=True)
class StepTerms:
    """What a unit releases in one step, and at what price: derived from the plan alone."""

    step: int
    cells: int
    width: int
    """Integers per cell."""
    lattice: Lattice
    mechanism: DiscreteGaussian

    @property
    def length(self) -> int:
        """Integers in the release."""
        return self.cells * self.width


def fit_lattice(
    statistic: Statistic, rho: Fraction, count_weight: Fraction, energy_weight: Fraction
) -> tuple[Lattice, DiscreteGaussian]:
    """The lattice whose noise for `rho` has an integer sigma near SIGMA_TARGET, and that noise.

    With `unit` steps for the clip radius and weights a and b, the sensitivity is unit * s with s^2 = a^2 + 1 + b^2
    (a^2 + b^2 for a second moment), and sigma = unit * s / sqrt(2 rho). Solving for sigma = SIGMA_TARGET gives
    unit = SIGMA_TARGET * sqrt(2 rho) / s, rounded down and limited to UNIT_MAX.

    Args:
        statistic: What is released.
        rho: What it may cost.
        count_weight: Weight a beside a residual as long as the radius, at most 1.
        energy_weight: Weight b of its energy, at most 1.

    Raises:
        ValueError: If the budget is so small that the lattice has fewer than UNIT_MIN steps for the clip radius.
    """
    linear = 0 if statistic is Statistic.SECOND_MOMENT else 1
    unit = _unit(rho, count_weight**2 + linear + energy_weight**2)
    weights = (max(1, math.floor(weight * unit)) for weight in (count_weight, energy_weight))
    return _with_noise(Lattice(statistic, unit, *weights), rho)


def fit_histogram(rho: Fraction, columns: int) -> tuple[Lattice, DiscreteGaussian]:
    """The lattice of a histogram of so many encoded columns for `rho`, and its noise.

    With sensitivity `unit`, solving unit / sqrt(2 rho) = SIGMA_TARGET gives the unit as in `fit_lattice`. A customer is
    in one bin of each of d columns, so its vector has the length sqrt(d) * count_weight, which
    count_weight = floor(unit / sqrt(d)) keeps from passing `unit`, and short of it by less than sqrt(d) steps.

    Raises:
        ValueError: If the budget is so small that the lattice has fewer than UNIT_MIN steps.
    """
    unit = _unit(rho, Fraction(1))
    return _with_noise(Lattice(Statistic.HISTOGRAM, unit, math.isqrt(unit**2 // columns), 1), rho)


def _unit(rho: Fraction, sensitivity_squared: Fraction) -> int:
    """Lattice steps for the clip radius, at which the noise for `rho` comes nearest to SIGMA_TARGET."""
    return min(UNIT_MAX, math.isqrt(math.floor(SIGMA_TARGET**2 * 2 * rho / sensitivity_squared)))


def _with_noise(lattice: Lattice, rho: Fraction) -> tuple[Lattice, DiscreteGaussian]:
    return lattice, DiscreteGaussian.calibrated(lattice.l2_sensitivity_squared, rho)
