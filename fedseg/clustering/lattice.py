"""The integer lattice of a cell-sum release, and the noise that fits it: all derived from the plan, none from data."""

import math
from dataclasses import dataclass
from fractions import Fraction

from fedseg.privacy.mechanism import DiscreteGaussian

SIGMA_TARGET = 2**20
"""The lattice step is chosen so that the integer sigma lies near this: fine enough that truncation costs nothing."""

UNIT_MIN = 2**6
UNIT_MAX = 2**20


@dataclass(frozen=True, slots=True)
class CellLattice:
    """How one customer's vector (count weight, clipped residual) is written in integers.

    A customer in cell j contributes (count_weight, y) to block j, with y an integer vector of L2 norm at most `unit`,
    and nothing to any other block.
    """

    count_weight: int
    """What one customer adds to the count of the cell, in lattice steps."""
    unit: int
    """Lattice steps for a residual as long as the clip radius."""

    def __post_init__(self) -> None:
        if not UNIT_MIN <= self.unit <= UNIT_MAX:
            raise ValueError(
                f"the lattice has {self.unit} steps for the clip radius, it needs {UNIT_MIN} to {UNIT_MAX}"
            )
        if not 1 <= self.count_weight <= UNIT_MAX:
            raise ValueError(f"the count weight must be between 1 and {UNIT_MAX} steps, got {self.count_weight}")

    @property
    def l2_sensitivity_squared(self) -> int:
        """Square of the L2 sensitivity under add-or-remove-one-customer, in lattice steps squared.

        One customer touches one block, by (count_weight, y) with ||y||_2 <= unit; so the vector of all blocks moves
        by at most sqrt(count_weight**2 + unit**2).
        """
        return self.count_weight**2 + self.unit**2


@dataclass(frozen=True, slots=True)
class StepTerms:
    """What a unit releases in one step, and at what price: derived from the plan alone."""

    step: int
    cells: int
    width: int
    """Integers per cell: one count and one residual sum a feature."""
    lattice: CellLattice
    mechanism: DiscreteGaussian

    @property
    def length(self) -> int:
        """Integers in the release."""
        return self.cells * self.width


def fit_lattice(rho: Fraction, count_weight: Fraction) -> tuple[CellLattice, DiscreteGaussian]:
    """The lattice whose noise for `rho` has an integer sigma near SIGMA_TARGET, and that noise.

    With `unit` steps for the clip radius and weight a = count_weight, the sensitivity is unit * sqrt(1 + a^2), and
    sigma = unit * sqrt((1 + a^2) / (2 rho)). Solving for sigma = SIGMA_TARGET gives
    unit = SIGMA_TARGET * sqrt(2 rho / (1 + a^2)), rounded down and limited to [1, UNIT_MAX].

    Raises:
        ValueError: If the budget is so small that the lattice has fewer than UNIT_MIN steps for the clip radius.
    """
    squared = SIGMA_TARGET**2 * 2 * rho / (1 + count_weight**2)
    unit = min(UNIT_MAX, math.isqrt(math.floor(squared)))
    lattice = CellLattice(count_weight=max(1, math.floor(count_weight * unit)), unit=unit)
    return lattice, DiscreteGaussian.calibrated(lattice.l2_sensitivity_squared, rho)
