"""The rounds of a plan: what each asks for, with how many cells, at what part of the budget. From public numbers alone.

Nothing here waits for a released value, so a unit knows before it approves how many integers it will send and when.
The plan's `expected_customers` stands where the true number would: a guess three times
too high or too low costs nothing to speak of where the budget is ample, and up to a tenth of the cost where it is poor.
"""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from fedseg.clustering.bins import BINS
from fedseg.clustering.lattice import Statistic, StepTerms, fit_histogram, fit_lattice
from fedseg.privacy.budget import RHO_GRID

CELLS_MAX = 512
"""Most cells of a sketch."""

INTEGERS_MAX = 24_000
"""Most integers in a reply, 8 bytes each: replies stay under 200 kB."""

COVARIANCE_NOISE_MAX = 0.25
"""The second moment is asked for only if its noise stays below this part of the total variance."""

COVARIANCE_RADIUS = Fraction(13, 10)
"""Clip radius of the second moment, in standard deviations of the whole (root of the total variance)."""


class Profile(enum.StrEnum):
    """How many rounds a plan for segments has."""

    STANDARD = "standard"
    """Six rounds, five where the second moment would be all noise."""
    SHORT = "short"
    """Three rounds, for units that cannot stay online."""


class Single(enum.StrEnum):
    """Plans of one round."""

    BOUNDS = "bounds"
    """A histogram of each encoded column, from which public bounds are read."""


class Kind(enum.Enum):
    """What a round is for."""

    MOMENTS = "moments"
    """One cell over the whole box: how many customers, where, how widely spread."""
    COVARIANCE = "covariance"
    """In which directions they spread."""
    SKETCH = "sketch"
    """Many cells: where the customers are dense."""
    REFINE = "refine"
    """One cell per segment."""
    PROFILE = "profile"
    """The last refinement, which also measures each feature's spread."""
    HISTOGRAM = "histogram"
    """Over which range the values of each column are spread."""

    @property
    def sends(self) -> str:
        """What a unit sends in such a round, in words."""
        return _SENDS[self]


_SENDS = {
    Kind.MOMENTS: "of all customers together: how many, where their middle is, how widely they spread",
    Kind.COVARIANCE: "of all customers together: where their middle is, which columns rise and fall together",
    Kind.SKETCH: "of those around each of many points: how many, where their middle is, how widely they spread",
    Kind.REFINE: "of those around the center of each segment: how many, where their middle is, how widely they spread",
    Kind.PROFILE: "of those around the center of each segment: how many, where their middle is, each column's spread",
    Kind.HISTOGRAM: f"of all customers together: how many are in each of {BINS} equal parts of each column's range",
}


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the schedule."""

    kind: Kind
    share: Fraction
    """Part of the budget."""
    cells: int

    @property
    def statistic(self) -> Statistic:
        """What units compute."""
        return _STATISTICS.get(self.kind, Statistic.CELLS)

    @property
    def weights(self) -> tuple[Fraction, Fraction]:
        """Weight of the count and of the energy beside a residual as long as the clip radius."""
        return _WEIGHTS[self.kind]

    @property
    def sensitivity(self) -> float:
        """L2 norm of the longest vector, in clip radii."""
        linear = 0 if self.kind in (Kind.COVARIANCE, Kind.HISTOGRAM) else 1
        return math.sqrt(float(sum(weight**2 for weight in self.weights)) + linear)


_STATISTICS = {
    Kind.COVARIANCE: Statistic.SECOND_MOMENT,
    Kind.PROFILE: Statistic.PROFILE,
    Kind.HISTOGRAM: Statistic.HISTOGRAM,
}
"""Of the kinds of rounds that do not ask for cells."""

_WEIGHTS = {
    Kind.MOMENTS: (Fraction(1, 2), Fraction(1, 2)),
    Kind.COVARIANCE: (Fraction(5, 13), Fraction(1)),
    Kind.SKETCH: (Fraction(3, 4), Fraction(3, 10)),
    Kind.REFINE: (Fraction(1, 2), Fraction(3, 20)),
    Kind.PROFILE: (Fraction(1, 2), Fraction(3, 20)),
    Kind.HISTOGRAM: (Fraction(1), Fraction(0)),
}

_SHARES: Mapping[Profile | Single, tuple[tuple[Kind, Fraction], ...]] = {
    Profile.STANDARD: (
        (Kind.MOMENTS, Fraction(8, 100)),
        (Kind.COVARIANCE, Fraction(12, 100)),
        (Kind.SKETCH, Fraction(25, 100)),
        (Kind.SKETCH, Fraction(25, 100)),
        (Kind.REFINE, Fraction(15, 100)),
        (Kind.PROFILE, Fraction(15, 100)),
    ),
    Profile.SHORT: (
        (Kind.MOMENTS, Fraction(15, 100)),
        (Kind.SKETCH, Fraction(50, 100)),
        (Kind.PROFILE, Fraction(35, 100)),
    ),
    Single.BOUNDS: ((Kind.HISTOGRAM, Fraction(1)),),
}

_SKETCHES = ((1.0, 4), (3.0, 1))
"""Of the first and of every later sketch: customers expected in a cell, in standard deviations of its count's noise,
and the fewest cells per segment."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What there is to spend at a unit, and how many noises the server adds up."""

    rho: Fraction
    """zCDP of all rounds at one unit."""
    noises: int
    """Independent noises in a sum: the number of units with noise at the unit, 1 under secure aggregation."""

    def noise_sd(self, share: Fraction, sensitivity: float) -> float:
        """Standard deviation of the noise of a sum, in clip radii."""
        return sensitivity * math.sqrt(self.noises / (2 * float(self.rho * share)))


def schedule(
    profile: Profile | Single, k: int, dimensions: int, expected_customers: int, budget: Budget
) -> tuple[Round, ...]:
    """The rounds of a plan.

    The second moment is left out when the spectral norm of its noise, about sigma / n * sqrt(2 d), would pass
    COVARIANCE_NOISE_MAX of the total variance, with one feature, or where it would not fit into a reply; its share
    then goes to the rounds after it, in proportion.
    """
    problem = Problem(k, dimensions, expected_customers, budget)
    rounds = [Round(kind, share, 1) for kind, share in _SHARES[profile]]
    covariance = next((one for one in rounds if one.kind is Kind.COVARIANCE), None)
    if covariance is not None and not _is_worth_it(covariance, problem):
        at = rounds.index(covariance)
        before, after = rounds[:at], rounds[at + 1 :]
        stretch = 1 + covariance.share / sum(one.share for one in after)
        rounds = before + [Round(one.kind, one.share * stretch, 1) for one in after]
    first = next((index for index, one in enumerate(rounds) if one.kind is Kind.SKETCH), None)
    return tuple(
        replace(one, cells=_cells(one, problem, _SKETCHES[0 if index == first else 1]))
        for index, one in enumerate(rounds)
    )


def step_terms(rounds: tuple[Round, ...], dimensions: int, rho: Fraction) -> tuple[StepTerms, ...]:
    """What a unit releases in each round: lattice, noise and price, each round's part rounded down to the grid.

    Raises:
        ValueError: If the budget is too small for a lattice.
    """
    made: list[StepTerms] = []
    for step, one in enumerate(rounds):
        part = Fraction(rho * one.share * RHO_GRID // 1, RHO_GRID)
        if one.kind is Kind.HISTOGRAM:
            lattice, mechanism = fit_histogram(part, dimensions)
        else:
            lattice, mechanism = fit_lattice(one.statistic, part, *one.weights)
        made.append(StepTerms(step, one.cells, lattice.width(dimensions), lattice, mechanism))
    return tuple(made)


@dataclass(frozen=True, slots=True)
class Problem:
    """The public numbers that size a round."""

    k: int
    dimensions: int
    expected_customers: int
    budget: Budget


def _is_worth_it(covariance: Round, problem: Problem) -> bool:
    dimensions = problem.dimensions
    if dimensions == 1 or dimensions + dimensions * (dimensions + 1) // 2 > INTEGERS_MAX:
        return False
    clip = float(COVARIANCE_RADIUS) ** 2
    noise = clip * problem.budget.noise_sd(covariance.share, covariance.sensitivity) / problem.expected_customers
    return noise * math.sqrt(2 * dimensions) < COVARIANCE_NOISE_MAX


def _cells(one: Round, problem: Problem, sketch: tuple[float, int]) -> int:
    """How many cells a round has; a sketch as many as its noise allows and a reply holds."""
    if one.kind is not Kind.SKETCH:
        return problem.k if one.kind in (Kind.REFINE, Kind.PROFILE) else 1
    occupancy, fewest = sketch
    count_sd = problem.budget.noise_sd(one.share, one.sensitivity) / float(one.weights[0])
    wanted = min(int(problem.expected_customers / (occupancy * count_sd)), CELLS_MAX)
    fitting = max(INTEGERS_MAX // (problem.dimensions + 2), problem.k)
    return min(max(wanted, fewest * problem.k), fitting)
