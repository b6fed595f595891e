"""What a plan can be expected to yield, and what would help: from public numbers alone, before anything is spent.

Everything follows from how far the segments rise above the noise, the signal n mu / (k sqrt(d)): n customers in k
segments over d encoded columns, and mu, one over the noise that the sums of all rounds together carry. Widths of
intervals are exact but for the sizes of the segments, which nobody knows beforehand: an average segment has n / k
customers. The cost is a curve fitted to made-up customers (`python -m benchmarks.planner --fit`). Nothing here sees
a customer or a released value.
"""

import enum
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from fedseg.clustering.algorithm import Settings
from fedseg.clustering.features import Feature, NumericFeature, Transform
from fedseg.clustering.schedule import Budget, Profile
from fedseg.clustering.shrink import CLIP_MAX, CLIP_MIN, CLIP_NOISE
from fedseg.privacy.budget import RHO_LIMIT, PrivacyBudget, epsilon_of, rho_of

SIGNAL_MIN = 8.0
"""Below this signal most starting points are noise, and the segments with them."""

VISIBLE_SIGNAL = 12.0
"""A group that stands apart is found in most runs if its size times mu / sqrt(d) is at least this: the signal of a plan
whose segments are all as large. Measured at d from 2 to 20, k from 5 to 24, epsilon from 1/4 to 4."""

VISIBLE_SHARE = 0.05
"""A smaller part of an average segment gets no center from k-means even without noise: splitting another saves more."""

COARSE_COLUMNS = 10
"""More columns than this make segments no easier to find; real tables of 30 and 40 columns are like those of 10."""

AMOUNT_MIN = 1000.0
"""A number from 0 to this or more, on a linear scale, is taken for an amount: few customers have most of it."""

EPSILON_ADVISED = 10
"""More epsilon than this is never advised: it would protect hardly anybody."""

TWO_SIDED_95 = 1.959964
"""Half the width of a 95 % interval, in standard deviations."""

ONE_SIDED_95 = 1.644854
"""What a noised number stays above in 95 of 100 cases, below the true one, in standard deviations."""


@dataclass(frozen=True, slots=True)
class ExcessCurve:
    """The k-means cost over the best without privacy, less 1, as it falls with the signal s over d columns:

        (lost / s)^lost_power + amounts^h (coarse / s)^coarse_power / min(d, COARSE_COLUMNS)

    The first part, steep, are segments that were never found; the second those found coarsely, which shows most in few
    dimensions. h is the part of the columns that are amounts on a linear scale: their long tails are clipped.
    """

    lost: float
    lost_power: float
    coarse: float
    coarse_power: float
    amounts: float

    def at(self, signal: float, dimensions: int, amounts_share: float) -> float:
        """The excess at a positive signal; falls with it, grows with `amounts_share`."""
        never_found: float = (self.lost / signal) ** self.lost_power
        coarsely: float = (self.coarse / signal) ** self.coarse_power / min(dimensions, COARSE_COLUMNS)
        longer_tails: float = self.amounts**amounts_share
        return never_found + longer_tails * coarsely


# Written by `python -m benchmarks.planner --fit`; without `--fit` it says how well they hold on other data.
CURVES = {
    Profile.STANDARD: ExcessCurve(lost=4.74, lost_power=2.78, coarse=0.623, coarse_power=0.645, amounts=6.91),
    Profile.SHORT: ExcessCurve(lost=6.79, lost_power=1.83, coarse=0.000544, coarse_power=0.3, amounts=20.7),
}


@dataclass(frozen=True, slots=True)
class Sharing:
    """Who adds noise, and how often one customer is counted."""

    units: int
    """Units that take part."""
    units_per_customer: int
    """In how many of them one customer may be."""
    secure_aggregation: bool
    """Whether only the sum over all units is seen, with one noise, or each unit adds the full noise itself."""

    def budget(self, rho: Fraction) -> Budget:
        """What `rho`, a customer's loss over all units, leaves for each unit, and how many noises the server adds up.

        With noise at the unit a customer of c units loses the sum of c charges, so each unit gets rho / c. Under secure
        aggregation c equal vectors move the one sum c times as far, which costs c^2 as much.
        """
        if self.secure_aggregation:
            return Budget(rho / self.units_per_customer**2, 1)
        return Budget(rho / self.units_per_customer, self.units)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What to expect of a plan."""

    signal: float
    excess: float
    """Cost ratio less 1; measured to hold within a factor of two in four cases of five."""
    average_segment: float
    """Customers."""
    smallest_segment: int
    """Customers that a group needs to be shown as a segment of its own, if it stands apart from the others."""
    size_half_width: float
    """Half the width of the 95 % noise interval of a segment's size, in customers."""
    mean_half_width: float
    """The same of a feature's mean in an average segment, as a part of its standard deviation within the segment."""

    @property
    def is_carried(self) -> bool:
        """Whether the budget carries the question."""
        return _reaches(self.signal)


def signal(settings: Settings) -> float:
    """The signal n mu / (k sqrt(d)), with mu^2 = 2 rho / (number of noises in a sum)."""
    return settings.expected_customers * _mu(settings.budget) / (settings.k * math.sqrt(settings.dimensions))


def forecast(settings: Settings, *, min_segment_size: int, amounts_share: float) -> Forecast:
    """What to expect.

    Args:
        settings: Of the algorithm.
        min_segment_size: Segments whose noised size is below are suppressed.
        amounts_share: Part of the columns that are `amounts`.
    """
    found, root = signal(settings), math.sqrt(settings.dimensions)
    average = settings.expected_customers / settings.k
    last = settings.rounds[-1]
    step_sd = settings.budget.noise_sd(last.share, last.sensitivity)
    count_sd = step_sd / float(last.weights[0])
    # As `shrink.clip_radii` chooses the clip radius, in root mean squared residuals: sqrt(d) within-segment deviations.
    clip = min(max(math.sqrt(CLIP_NOISE) * average / (step_sd * root), CLIP_MIN), CLIP_MAX)
    visible = (
        min_segment_size + ONE_SIDED_95 * count_sd,
        VISIBLE_SIGNAL * root / _mu(settings.budget),
        VISIBLE_SHARE * average,
    )
    return Forecast(
        signal=found,
        excess=CURVES[Profile(settings.profile)].at(found, settings.dimensions, amounts_share),
        average_segment=average,
        smallest_segment=math.ceil(max(visible)),
        size_half_width=TWO_SIDED_95 * count_sd,
        mean_half_width=TWO_SIDED_95 * clip * root * step_sd / average,
    )


def amounts(features: Sequence[Feature]) -> tuple[str, ...]:
    """Names of the features that are amounts on a linear scale, to which `log1p` would do good."""
    return tuple(
        one.name
        for one in features
        if isinstance(one, NumericFeature)
        and one.transform is Transform.IDENTITY
        and one.lower == 0
        and one.upper >= AMOUNT_MIN
    )


class Change(enum.StrEnum):
    """What in a plan can be changed so that the budget carries it."""

    FEATURES = "fewer encoded columns"
    SEGMENTS = "fewer segments"
    CUSTOMERS = "more customers"
    EPSILON = "more epsilon"
    UNITS_PER_CUSTOMER = "fewer units per customer"
    SECURE_AGGREGATION = "secure aggregation"


@dataclass(frozen=True, slots=True)
class Remedy:
    """How far one change alone would have to go."""

    change: Change
    needed: float | None
    """The value that gives SIGNAL_MIN: the largest, or the smallest for customers and epsilon. None if no value does,
    or only an epsilon above EPSILON_ADVISED; and of secure aggregation, which has no value."""
    signal: float
    """What the change reaches: at `needed`, or else at its best."""

    @property
    def is_enough(self) -> bool:
        """Whether this change alone is enough."""
        return _reaches(self.signal)


def remedies(settings: Settings, budget: PrivacyBudget, sharing: Sharing) -> Iterator[Remedy]:
    """What would help a plan whose signal is too small, each change alone.

    Args:
        settings: Of the algorithm; its budget is `sharing`'s.
        budget: Of each customer over all units.
        sharing: Who adds noise.
    """
    missing = SIGNAL_MIN / signal(settings)
    columns = max(math.floor(settings.dimensions / missing**2), 1)
    yield _remedy(Change.FEATURES, columns, replace(settings, dimensions=columns))
    segments = max(math.floor(settings.k / missing), min(2, settings.k))
    yield _remedy(Change.SEGMENTS, segments, replace(settings, k=segments))
    customers = math.ceil(settings.expected_customers * missing)
    yield _remedy(Change.CUSTOMERS, customers, replace(settings, expected_customers=customers))
    yield _more_epsilon(settings, budget, sharing, missing)
    if sharing.units_per_customer > 1:
        power = 1 if sharing.secure_aggregation else 2
        fewer = max(math.floor(sharing.units_per_customer / missing**power), 1)
        shared = replace(sharing, units_per_customer=fewer)
        yield _remedy(Change.UNITS_PER_CUSTOMER, fewer, replace(settings, budget=shared.budget(rho_of(budget))))
    if not sharing.secure_aggregation:
        secure = replace(sharing, secure_aggregation=True)
        reached = signal(replace(settings, budget=secure.budget(rho_of(budget))))
        yield Remedy(Change.SECURE_AGGREGATION, None, reached)


def _more_epsilon(settings: Settings, budget: PrivacyBudget, sharing: Sharing, missing: float) -> Remedy:
    """The epsilon that gives SIGNAL_MIN, or what the largest advised one gives."""
    rho = rho_of(budget) * Fraction(missing) ** 2
    needed = epsilon_of(rho, budget.delta) if rho <= RHO_LIMIT else None
    if needed is not None and needed <= EPSILON_ADVISED:
        return _remedy(Change.EPSILON, float(needed), replace(settings, budget=sharing.budget(rho)))
    most = rho_of(PrivacyBudget(max(budget.epsilon, Fraction(EPSILON_ADVISED)), budget.delta))
    return Remedy(Change.EPSILON, None, signal(replace(settings, budget=sharing.budget(most))))


def _remedy(change: Change, needed: float, changed: Settings) -> Remedy:
    reached = signal(changed)
    return Remedy(change, needed if _reaches(reached) else None, reached)


def _reaches(signal: float) -> bool:
    """Whether a signal is enough, up to rounding."""
    return signal >= SIGNAL_MIN * (1 - 1e-9)


def _mu(budget: Budget) -> float:
    return math.sqrt(2 * float(budget.rho) / budget.noises)
