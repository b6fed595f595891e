"""Public bounds from noisy histograms: over which range the values of a number are spread. Pure post-processing.

A plan for bounds asks one question: of each encoded column, how many customers are in each of BINS bins of the range
that the plan foresees. The noise is known exactly, so it is known which bins hold more than noise alone ever would.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.bins import BINS, bins
from fedseg.clustering.features import FEATURE_MAX, NumericFeature, Transform
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.schedule import Budget

FALSE_FINDS = 0.01
"""Largest chance that noise alone is taken for customers anywhere in a plan."""

LENGTHS = (1, 2, 4, 8, 16, 32)
"""How many bins in a row are looked at together: a thin tail stands above the noise when its bins are added up."""

REACH = 6.0
"""How far the bounds reach, in standard deviations of a bell with as many customers in the range that was seen."""

SEEN_SHARES = (0.5, 0.998)
"""A share of the customers in the range that was seen counts as no less and no more than these."""

DIGITS = 2
"""Significant digits of a bound."""

SKEWED = 2.0
"""How many times as far the tenth customer in ten may be from the middle on one side as on the other."""

SHARE_MAX = 0.1
"""A budget is too small if a bin with this share of the customers would drown: then so might a whole range."""

LONG_TAILED = 3.0
"""How many times as far eight customers in ten may be spread as the middle five."""


@dataclass(frozen=True, slots=True, eq=False)
class Histograms:
    """The released histograms of all encoded columns together, in customers."""

    counts: NDArray[np.float64]
    """Noised, shape (columns, BINS)."""
    sd: float
    """Standard deviation of the noise in one count."""

    @classmethod
    def of(cls, sums: NDArray[np.int64], terms: StepTerms, noises: int) -> Self:
        """Decode the sum of all releases.

        Args:
            sums: Shape (1, width), in lattice steps.
            terms: The step's lattice and noise.
            noises: How many independent noises are in it.
        """
        counts = sums.reshape(-1, BINS)
        weight = terms.lattice.bin_weight(len(counts))
        return cls(counts / weight, terms.mechanism.sigma * math.sqrt(noises) / weight)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the customers, noised."""

    share: float
    """From 0 to 1."""
    sd: float
    """Standard deviation of its noise."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What the histogram of one number says."""

    feature: NumericFeature
    """As the plan for bounds has it."""
    bounds: tuple[float, float] | None
    """Lower and upper; None if nothing stands above the noise."""
    transform: Transform
    """The scale that suits what was seen; the plan's own if nothing was."""
    outside: Part
    """Of the customers with a value those beyond the bounds, who would be clamped; all, if there are none."""
    missing: Part | None
    """Customers without a value; None if the plan does not count them."""
    at_limit: bool
    """Whether customers stand at an end of the plan's own range that is not 0, so that some may be beyond it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    """The histogram of a number, of those with a value."""

    feature: NumericFeature
    counts: NDArray[np.float64]
    variances: NDArray[np.float64]
    """Of the noise of each count."""
    customers: float
    """All of them; at least 1."""


def learn_bounds(features: Sequence[NumericFeature], histograms: Histograms) -> tuple[Learned, ...]:
    """What the histograms say of each feature of the plan, in its order."""
    customers, limit = _customers(features, histograms), _limit(len(features))
    return tuple(_learned(column, missing, limit) for column, missing in _columns(features, histograms, customers))


@dataclass(frozen=True, slots=True)
class BoundsForecast:
    """What a plan for bounds will be able to see, from public numbers alone."""

    smallest_group: float
    """How many customers must be in one bin for it to stand above the noise."""
    smallest_share: float
    """The same as a part of those who are expected."""

    @property
    def is_carried(self) -> bool:
        """Whether the budget is enough."""
        return self.smallest_share <= SHARE_MAX


def forecast_bounds(features: int, columns: int, expected_customers: int, budget: Budget) -> BoundsForecast:
    """What so many features, in so many encoded columns, can be seen of."""
    smallest = _limit(features) * budget.noise_sd(Fraction(1), math.sqrt(columns))
    return BoundsForecast(smallest, smallest / expected_customers)


def _limit(features: int) -> float:
    """How many standard deviations of its noise stand above it.

    By the union bound, of all the sums of neighbouring bins that are looked at none is that large by noise alone,
    except with probability FALSE_FINDS.
    """
    sums = features * sum(BINS - length + 1 for length in LENGTHS)
    return NormalDist().inv_cdf(1 - FALSE_FINDS / sums)


def _customers(features: Sequence[NumericFeature], histograms: Histograms) -> float:
    """All customers: every column counts each once. At least 1.

    Columns are weighted by how little noise their total has: only two bins of a flag's can hold anybody.
    """
    totals: list[tuple[float, int]] = []
    for start, feature in zip(_starts(features), features, strict=True):
        totals.append((float(histograms.counts[start].sum()), BINS))
        for column, flag in enumerate(feature.indicators, start + feature.measures):
            both = bins(np.array([flag.off, flag.on], np.int32))
            totals.append((float(histograms.counts[column, both].sum()), len(both)))
    weight = sum(1 / noises for _, noises in totals)
    return max(1.0, sum(total / noises for total, noises in totals) / weight)


def _columns(
    features: Sequence[NumericFeature], histograms: Histograms, customers: float
) -> Iterator[tuple[_Column, Part | None]]:
    """Each feature's own column, and who has no value: they are taken out of the bin where they count."""
    for start, feature in zip(_starts(features), features, strict=True):
        counts, noises = histograms.counts[start].copy(), np.ones(BINS)
        missing, without = None, 0.0
        if feature.missing_flag:
            (flag,) = feature.flag()
            without = float(histograms.counts[start + feature.measures, bins(np.array([flag.on], np.int32))[0]])
            at = bins(feature.positions(np.array([feature.missing])))[0]
            counts[at] -= without
            noises[at] += 1
            missing = _part(without, histograms.sd, customers)
        yield _Column(feature, counts, noises * histograms.sd**2, max(1.0, customers - without)), missing


def _starts(features: Sequence[NumericFeature]) -> list[int]:
    """Where each feature's encoded columns begin."""
    return [sum(one.width for one in features[:place]) for place in range(len(features))]


def _part(count: float, sd: float, customers: float) -> Part:
    return Part(min(1.0, max(0.0, count / customers)), min(1.0, sd / customers))


def _learned(column: _Column, missing: Part | None, limit: float) -> Learned:
    seen = _seen(column, limit)
    if seen is None:
        return Learned(column.feature, None, column.feature.transform, Part(1.0, 0.0), missing, at_limit=False)
    suited = _suited(column, seen)
    bounds = _rounded(column.feature, *_stretched(column, seen, suited))
    low, high = seen
    ends = (low == 0 and column.feature.lower != 0, high == BINS and column.feature.upper != 0)
    return Learned(column.feature, bounds, suited, _outside(column, bounds), missing, at_limit=any(ends))


def _seen(column: _Column, limit: float) -> tuple[int, int] | None:
    """The bins from the first to before the last that stand above the noise; None if none does.

    Short runs of bins are looked at first, and longer ones only outside of what those have found: so a run is no longer
    than it takes to see it. Of several runs the nearest counts, and where there is nothing yet, the clearest.
    """
    found: tuple[int, int] | None = None
    for length in LENGTHS:
        window = np.ones(length)
        scores = np.convolve(column.counts, window, "valid") / np.sqrt(np.convolve(column.variances, window, "valid"))
        runs = [int(start) for start in np.flatnonzero(scores > limit)]
        if found is None and runs:
            first = max(runs, key=lambda start: float(scores[start]))
            found = (first, first + length)
        while found is not None:
            low, high = found
            apart = [start for start in runs if start + length <= low or start >= high]
            if not apart:
                break
            nearest = min(apart, key=lambda start: max(low - start - length, start - high))
            found = (min(low, nearest), max(high, nearest + length))
    return found


def _stretched(column: _Column, seen: tuple[int, int], suited: Transform) -> tuple[float, float]:
    """The bounds in original units: as far as a bell would reach that has as many customers in the range that was seen.

    Thin tails drown in the noise. Of a bell a share s lies within Phi^-1((1 + s) / 2) standard deviations; so each end
    of the range that was seen is moved away from the median until it is at REACH of them. Where a logarithm suits that
    is done on the plan's own scale, and from the median of those on the end's own side of 0. No end is moved over 0:
    customers on the other side would have been seen, or are few.
    """
    feature, (low, high) = column.feature, seen
    inside = float(column.counts[low:high].sum())
    share = min(SEEN_SHARES[1], max(SEEN_SHARES[0], inside / column.customers))
    stretch = max(1.0, REACH / NormalDist().inv_cdf((1 + share) / 2))
    zero = _zero(feature)
    split = min(high, max(low, round((zero / FEATURE_MAX + 1) / 2 * BINS)))
    is_split = suited is not Transform.IDENTITY and low < split < high
    sides = ((low, split), (split, high)) if is_split else (seen, seen)
    first, last = (
        _moved(feature, _quantiles(column, side, (0.5,))[0], _edge(end), stretch, suited)
        for side, end in zip(sides, seen, strict=True)
    )
    return (max(first, 0.0) if _edge(low) >= zero else first), (min(last, 0.0) if _edge(high) <= zero else last)


def _moved(feature: NumericFeature, center: float, edge: float, stretch: float, suited: Transform) -> float:
    """An edge so many times as far from a center, both given as positions; in original units."""
    if suited is not Transform.IDENTITY:
        return feature.decode(center + (edge - center) * stretch)
    middle = feature.decode(center)
    return middle + (feature.decode(edge) - middle) * stretch


def _edge(place: int) -> float:
    """Position of the lower edge of a bin."""
    return float(FEATURE_MAX) * (2 * place / BINS - 1)


def _zero(feature: NumericFeature) -> float:
    """Position of 0, or of the plan's end that is nearer to it."""
    return float(feature.positions(np.array([0.0]))[0])


def _rounded(feature: NumericFeature, low: float, high: float) -> tuple[float, float]:
    """The bounds rounded outwards to DIGITS significant digits, and to 0 within a bin of it; none beyond the plan's."""
    found: list[float] = []
    for value, rounding, towards in ((low, ROUND_FLOOR, 1), (high, ROUND_CEILING, -1)):
        steps = towards * (float(feature.positions(np.array([value]))[0]) - _zero(feature))
        if feature.lower <= 0 <= feature.upper and -1 <= steps < 2 * FEATURE_MAX / BINS:
            found.append(0.0)  # one step on the wrong side of it is a 0 that rounding has moved
            continue
        exact = Decimal(value)
        step = Decimal(1).scaleb(exact.adjusted() - DIGITS + 1)
        outwards = float((exact / step).to_integral_value(rounding) * step)
        found.append(min(feature.upper, max(feature.lower, outwards)))
    return found[0], found[1]


def _outside(column: _Column, bounds: tuple[float, float]) -> Part:
    """Customers beyond the bounds; of a bin that a bound cuts, the part beyond it."""
    low, high = column.feature.positions(np.array(bounds)).tolist()
    edges = np.array([_edge(place) for place in range(BINS + 1)])
    inside = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0.0, None) / np.diff(edges)
    beyond = 1.0 - inside
    return _part(float(beyond @ column.counts), math.sqrt(float(beyond**2 @ column.variances)), column.customers)


def _suited(column: _Column, seen: tuple[int, int]) -> Transform:
    """A logarithm if few customers have most, on one side or on both; else the values as they are."""
    positions = _quantiles(column, seen, (0.1, 0.25, 0.5, 0.75, 0.9))
    tenth, quarter, middle, three, nine = (column.feature.decode(one) for one in positions)
    below, above = middle - tenth, nine - middle
    skewed = max(below, above) > SKEWED * min(below, above)
    if not skewed and nine - tenth <= LONG_TAILED * (three - quarter):
        return Transform.IDENTITY
    return Transform.LOG1P if _edge(seen[0]) >= _zero(column.feature) else Transform.ASINH


def _quantiles(column: _Column, part: tuple[int, int], shares: Sequence[float]) -> list[float]:
    """Positions below which these shares of the customers in some bins are; within a bin they are spread evenly."""
    low, high = part
    upto = np.concatenate([[0.0], np.cumsum(np.maximum(column.counts[low:high], 0.0))])
    edges = [_edge(place) for place in range(low, high + 1)]
    return [float(np.interp(share * upto[-1], upto, edges)) for share in shares]
