"""How many segments there are, from one run with more of them than needed. Costs no budget.

The segments that a run with a large k has released are merged step by step (`hierarchy.py`), and two criteria say which
number of groups fits best: how far the groups stand apart (silhouette), and where one group more stops paying (elbow).
They err in different ways: where they agree the number may be trusted, and where they do not, that is said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.hierarchy import Merge, groups_after, merge_tree

JUDGED_MAX = 64
"""Largest number of groups that is judged."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One number of segments."""

    k: int
    silhouette: float
    """How much nearer customers are to their own group than to the next: from 0, no nearer, to 1; 0 for one group."""
    within: float
    """Part of the customers' variance that is left within the groups, in (0, 1]."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the released segments say about how many there are."""

    candidates: tuple[Candidate, ...]
    """From one group to as many as there are segments, at most JUDGED_MAX."""
    silhouette: int
    """The number that stands out by its silhouette; 1 if there is no other."""
    elbow: int
    """The number after which one more gains least beside what the last one gained; 1 if nothing could be compared."""

    @property
    def agreed(self) -> bool:
        """Whether both suggest the same number, of at least two segments."""
        return self.silhouette == self.elbow > 1


def choose_k(centers: NDArray[np.int32], sizes: NDArray[np.float64], variances: NDArray[np.float64]) -> Choice:
    """Judge every number of groups up to the number of segments.

    Args:
        centers: Of the segments that stand above the noise, shape (segments, features), encoded units.
        sizes: Their customers, shape (segments,), positive.
        variances: Mean squared distance of their customers to the center, shape (segments,), at least 0.
    """
    tree = merge_tree(centers, sizes)
    largest = min(len(sizes), JUDGED_MAX)
    squares = [_squares(groups_after(tree, k), centers, sizes, variances) for k in range(1, largest + 1)]
    total = _mean(squares[0][0], sizes)
    candidates = tuple(
        Candidate(k, _silhouette(own, other, sizes), _mean(own, sizes) / total if total > 0 else 1.0)
        for k, (own, other) in enumerate(squares, 1)
    )
    return Choice(candidates, _stands_out(candidates), _elbow(tree, largest))


def _squares(
    groups: NDArray[np.intp],
    centers: NDArray[np.int32],
    sizes: NDArray[np.float64],
    variances: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each segment's mean squared distance to its group's mean, and to the nearest other group's; shapes (segments,).

    A customer of a segment with mean m and variance v is ||m - c||^2 + v from c in the mean square.
    """
    totals = np.bincount(groups, sizes)
    points = centers.astype(np.float64)
    means = np.rint(np.stack([np.bincount(groups, sizes * column) / totals for column in points.T], axis=1))
    away = np.stack([((points - mean) ** 2).sum(axis=1) for mean in means], axis=1) + variances[:, None]
    everyone = np.arange(len(groups))
    own = away[everyone, groups].copy()
    away[everyone, groups] = np.inf
    return own, away.min(axis=1)


def _silhouette(own: NDArray[np.float64], other: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """The simplified silhouette: (b - a) / max(a, b), a and b the distances to the own and to the next group's mean.

    Reference: Hruschka, de Castro, Campello, "Evolutionary algorithms for clustering gene-expression data", ICDM 2004.
    """
    if not np.isfinite(other).all():
        return 0.0
    near, far = np.sqrt(own), np.sqrt(other)
    longest = np.maximum(near, far)
    return _mean(np.where(longest > 0, (far - near) / np.where(longest > 0, longest, 1.0), 0.0), sizes)


def _stands_out(candidates: Sequence[Candidate]) -> int:
    """The k whose silhouette is high and falls most with one group more: s(k) + (s(k) - s(k + 1)) is largest.

    The largest silhouette alone prefers too few groups where some are small or close together; the fall after the right
    number, when a true group is cut, gives it away. Of the last k nothing is known beyond, so it counts as no fall.
    """
    if len(candidates) == 1:
        return 1
    following = (*candidates[1:], candidates[-1])
    scores = [2 * one.silhouette - after.silhouette for one, after in zip(candidates, following, strict=True)]
    return max(range(2, len(candidates) + 1), key=lambda k: scores[k - 1])


def _elbow(tree: Sequence[Merge], largest: int) -> int:
    """The k for which the k-th group gains most beside what one more would gain; 1 if there are fewer than three.

    The gain of the k-th group is what the merge from k to k - 1 groups costs.
    """
    gains = {k: tree[len(tree) + 1 - k].cost for k in range(2, largest + 1)}
    return max(range(2, largest), key=lambda k: gains[k] / max(gains[k + 1], 1.0), default=1)


def _mean(values: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """Weighted mean, the same in any order of summation."""
    return math.fsum(values * sizes) / math.fsum(sizes)
