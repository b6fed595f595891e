"""Which segments are two halves of one group, and which hold two: from the released model. Costs no budget.

Both questions take one measure. On the line through the means of two groups of customers, the gap is the distance of
the means in typical spreads of a group: D / sqrt((s^2 + t^2) / 2). Cutting one evenly filled stretch in the middle
makes halves with a gap of sqrt(12), and a single hump less; so a smaller gap shows no valley between the groups.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.algorithm import State
from fedseg.clustering.kmeans import Cloud, kmeans
from fedseg.clustering.model import Model
from fedseg.clustering.nearest import nearest_center

ALIKE_GAP = math.sqrt(12)
"""Neighbours with a smaller gap may be one group."""

GAP_MAX = 1000.0
"""Larger gaps count as this one, and so does that to a group of which the model holds nothing."""

MIXED_GAP = 4.0
"""A segment whose halves have a larger gap may be two groups, ..."""

MIXED_SPREAD = 1.4
"""... if its variance is also so many times the middle one of all segments, ..."""

MIXED_COUNT = 8.0
"""... and each half holds as many customers as this many standard deviations of the noise of a count.

The last two keep false alarms below 2 in 100 segments: the model has few particles in a tight segment, and those may
form two heaps by chance.
"""


@dataclass(frozen=True, slots=True)
class Alike:
    """Two neighbouring segments without a valley between them."""

    first: int
    second: int
    """Above `first`."""
    gap: float


@dataclass(frozen=True, slots=True)
class Mixed:
    """A segment that holds two heaps."""

    segment: int
    gap: float
    share: float
    """Part of its customers in the smaller heap."""


def alike(state: State, which: Sequence[int]) -> tuple[Alike, ...]:
    """Segments and their nearest neighbours that may be one group, the most alike first.

    Args:
        state: After the last round.
        which: The segments to speak of: those that stand above the noise.

    Raises:
        ValueError: If rounds are still open.
    """
    model, groups = _model(state), _particles(state)
    pairs = {(min(one, other), max(one, other)) for one, other in _neighbours(state, which)}
    found = [Alike(one, other, _gap(model.cloud, groups[one], groups[other])) for one, other in sorted(pairs)]
    return tuple(sorted((one for one in found if one.gap < ALIKE_GAP), key=lambda one: one.gap))


def mixed(state: State, which: Sequence[int], *, least: float = 0.0) -> tuple[Mixed, ...]:
    """Segments that may be two groups, the clearest first.

    Args:
        state: After the last round.
        which: The segments to speak of: those that stand above the noise.
        least: Fewest customers that each of the two must have.

    Raises:
        ValueError: If rounds are still open, or a segment is none.
    """
    model, groups = _model(state), _particles(state)
    assert state.outcome is not None
    estimate = state.outcome.estimate
    fewest = max(least, MIXED_COUNT * state.outcome.release.count_sd)
    middle = float(np.median(estimate.variances[list(which)])) if which else 0.0
    found: list[Mixed] = []
    for segment in which:
        if estimate.variances[segment] < MIXED_SPREAD * middle or len(groups[segment]) < 2:  # noqa: PLR2004 (two halves)
            continue
        one, other = _halves(model.cloud, groups[segment], np.random.default_rng((state.settings.seed, segment)))
        share = _share(model.cloud, one, other)
        gap = _gap(model.cloud, one, other)
        if gap > MIXED_GAP and share * estimate.customers[segment] >= fewest:
            found.append(Mixed(segment, gap, share))
    return tuple(sorted(found, key=lambda one: -one.gap))


def _model(state: State) -> Model:
    if state.model is None or state.outcome is None:
        raise ValueError("the last round is still open")
    return state.model


def _particles(state: State) -> list[NDArray[np.intp]]:
    """Indices of the model's particles in each cell of the last round."""
    cells = _model(state).cell
    return [np.flatnonzero(cells == segment) for segment in range(state.settings.k)]


def _neighbours(state: State, which: Sequence[int]) -> list[tuple[int, int]]:
    """Each segment with the one whose mean is nearest."""
    assert state.outcome is not None
    means = np.rint(state.outcome.estimate.means[list(which)])
    pairs: list[tuple[int, int]] = []
    for place in range(len(which) if len(which) > 1 else 0):
        away = ((means - means[place]) ** 2).sum(axis=1)
        away[place] = np.inf
        pairs.append((which[place], which[int(np.argmin(away))]))
    return pairs


def _halves(
    cloud: Cloud, group: NDArray[np.intp], coins: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    part = Cloud(cloud.points[group], cloud.weights[group])
    labels = nearest_center(part.points, kmeans(part, 2, coins, restarts=4, iterations=15))
    return group[labels == 0], group[labels == 1]


def _share(cloud: Cloud, one: NDArray[np.intp], other: NDArray[np.intp]) -> float:
    weights = sorted((int(cloud.weights[one].sum()), int(cloud.weights[other].sum())))
    return weights[0] / sum(weights)


def _gap(cloud: Cloud, one: NDArray[np.intp], other: NDArray[np.intp]) -> float:
    """Distance of two groups of particles in their spreads along it; 0 if they are in one place.

    Means are rounded to the lattice, so the products are sums of integers below 2**53: exact in any order.
    """
    if not len(one) or not len(other):
        return GAP_MAX
    start = _mean(cloud, one)
    line = _mean(cloud, other) - start
    squared = float(line @ line)
    if squared == 0:
        return 0.0
    along = (cloud.points - start) @ line / squared
    variances = [_variance(along[group], cloud.weights[group]) for group in (one, other)]
    return min(math.sqrt(2 / sum(variances)), GAP_MAX) if any(variances) else GAP_MAX


def _mean(cloud: Cloud, group: NDArray[np.intp]) -> NDArray[np.float64]:
    totals = cloud.weights[group] @ cloud.points[group].astype(np.int64)
    mean: NDArray[np.float64] = np.rint(totals / cloud.weights[group].sum())
    return mean


def _variance(places: NDArray[np.float64], weights: NDArray[np.int64]) -> float:
    """Weighted variance, the same in any order of summation."""
    total = int(weights.sum())
    mean = math.fsum(places * weights) / total
    return math.fsum((places - mean) ** 2 * weights) / total
