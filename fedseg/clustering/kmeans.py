"""Weighted k-means on integer points: the server's only optimiser, and the same bit for bit on every machine.

scikit-learn's k-means sums floating-point products in whatever order the linear algebra library likes, so two machines
may part ways, and an auditor could not recompute what a server published. Here points, centers and weights are
integers: distances and sums are exact in float64 in any order (all below 2**53), and each center is rounded to the
lattice by one correctly rounded division.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.nearest import SCORE_ENTRIES, nearest_center

WEIGHT_MAX = 2**16
"""Largest weight of a point: 2**16 weights times 2**19 coordinates times 2**17 points stay below 2**53."""

POINTS_MAX = 2**17

COARSE_POINTS = 512
COARSE_PER_CENTER = 20
"""Points of the coarse copy on which many runs are tried."""

FINISHED_RUNS = 3
"""How many of them are finished on the cloud itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Cloud:
    """Weighted points on the encoded lattice."""

    points: NDArray[np.int32]
    """Shape (points, features), within +-FEATURE_MAX."""
    weights: NDArray[np.int64]
    """Shape (points,), in [1, WEIGHT_MAX]."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.points) <= POINTS_MAX or self.weights.shape != (len(self.points),):
            raise ValueError(f"a cloud has 1 to {POINTS_MAX} points, each with a weight")
        if int(self.weights.min()) < 1 or int(self.weights.max()) > WEIGHT_MAX:
            raise ValueError(f"a weight lies in [1, {WEIGHT_MAX}]")


def kmeans(
    cloud: Cloud, k: int, coins: np.random.Generator, *, restarts: int = 1, iterations: int = 50
) -> NDArray[np.int32]:
    """The best of several runs of Lloyd's algorithm from k-means++ starts; shape (k, features).

    Many runs are cheap on a coarse copy of the cloud, all at once; the best of them are then finished on the cloud
    itself. With fewer distinct points than k the surplus centers coincide with others, which is what the data says.

    Reference: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    if restarts == 1:
        return lloyd(cloud, plus_plus(cloud, k, coins), iterations)
    copy = coarse(cloud, max(COARSE_POINTS, COARSE_PER_CENTER * k), coins)
    starts = _starts(copy, k, coins, restarts)
    at_once = max(1, SCORE_ENTRIES // (len(copy.points) * k))
    groups = (starts[first : first + at_once] for first in range(0, restarts, at_once))
    runs = [centers for group in groups for centers in _lloyd_runs(copy, group, iterations)]
    ranked = sorted(runs, key=lambda centers: cost(copy, centers))
    finished = (lloyd(cloud, centers, iterations) for centers in ranked[:FINISHED_RUNS])
    return min(finished, key=lambda centers: cost(cloud, centers))


def coarse(cloud: Cloud, points: int, coins: np.random.Generator) -> Cloud:
    """The cloud with its points gathered into at most so many, each with the weight of what it stands for."""
    if len(cloud.points) <= points:
        return cloud
    drawn = sample_points(cloud, points, coins)
    labels = nearest_center(cloud.points, drawn)
    sizes = np.bincount(labels, cloud.weights.astype(np.float64), points)
    weights = np.maximum(np.rint(sizes * (WEIGHT_MAX / max(float(sizes.max()), WEIGHT_MAX))), 1.0).astype(np.int64)
    return Cloud(_means(cloud, labels, drawn)[sizes > 0], weights[sizes > 0])


def lloyd(cloud: Cloud, centers: NDArray[np.int32], iterations: int) -> NDArray[np.int32]:
    """Lloyd's algorithm from `centers`, until nothing moves; a center without points stays where it is."""
    for _ in range(iterations):
        moved = _means(cloud, nearest_center(cloud.points, centers), centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers


def sample_points(cloud: Cloud, k: int, coins: np.random.Generator) -> NDArray[np.int32]:
    """Points of the cloud, drawn by weight without replacement as far as there are enough."""
    weights = cloud.weights / cloud.weights.sum()
    drawn = coins.choice(len(weights), k, replace=len(weights) < k, p=weights)
    taken: NDArray[np.int32] = cloud.points[drawn]
    return taken


def plus_plus(cloud: Cloud, k: int, coins: np.random.Generator) -> NDArray[np.int32]:
    """A start by greedy k-means++: points of the cloud, shape (k, features).

    Each is the best of a few candidates, drawn with probability proportional to weight times squared distance to the
    points before it; the best leaves the least cost.
    """
    start: NDArray[np.int32] = _starts(cloud, k, coins, 1)[0]
    return start


def _starts(cloud: Cloud, k: int, coins: np.random.Generator, runs: int) -> NDArray[np.int32]:
    """The starts of several runs at once; shape (runs, k, features)."""
    points, weights = cloud.points.astype(np.float64), cloud.weights.astype(np.float64)
    norms = (points * points).sum(axis=1)
    chosen = np.empty((runs, k), np.intp)
    gaps = np.ones((runs, len(points)))
    each = np.arange(runs)
    for index in range(k):
        ladders = np.cumsum(weights * gaps, axis=1)
        spent = ladders[:, -1] == 0  # every point is a center already
        ladders[spent] = np.cumsum(weights)
        draws = coins.random((runs, 1 if index == 0 else 2 + int(math.log(k)))) * ladders[:, -1:]
        found = [np.searchsorted(ladder, row, side="right") for ladder, row in zip(ladders, draws, strict=True)]
        candidates = np.minimum(np.stack(found), len(points) - 1)
        away = norms - 2.0 * (points[candidates] @ points.T) + norms[candidates][:, :, None]
        if index > 0:
            away = np.minimum(away, gaps[:, None])
        best = np.argmin(np.cumsum(away * weights, axis=2)[:, :, -1], axis=1)  # summed one by one: in one order
        chosen[:, index], gaps = candidates[each, best], away[each, best]
    starts: NDArray[np.int32] = cloud.points[chosen]
    return starts


def _lloyd_runs(cloud: Cloud, centers: NDArray[np.int32], iterations: int) -> NDArray[np.int32]:
    """Lloyd's algorithm from several starts at once; `centers` and result have shape (runs, k, features)."""
    runs, k, features = centers.shape
    points = cloud.points.astype(np.float64)
    weighted = np.column_stack((np.ones(len(points)), points)) * cloud.weights[:, None]
    offsets = k * np.arange(runs)[:, None]
    for _ in range(iterations):
        scores = (centers.astype(np.float64) ** 2).sum(axis=2).ravel() - 2.0 * (
            points @ centers.reshape(-1, features).T.astype(np.float64)
        )
        cells = (np.argmin(scores.reshape(len(points), runs, k), axis=2).T + offsets).ravel()
        sums = [np.bincount(cells, np.tile(column, runs), runs * k) for column in weighted.T]
        sizes, totals = sums[0][:, None], np.stack(sums[1:], axis=1)
        means = np.rint(totals / np.maximum(sizes, 1.0)).astype(np.int32)
        moved = np.where(sizes > 0, means, centers.reshape(-1, features)).reshape(centers.shape)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers


def cost(cloud: Cloud, centers: NDArray[np.int32]) -> float:
    """Sum of weighted squared distances to the nearest center, in squared lattice units."""
    near = centers[nearest_center(cloud.points, centers)].astype(np.float64)
    return float(np.cumsum(cloud.weights * squared_distances(cloud.points.astype(np.float64), near))[-1])


def squared_distances(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exact squared L2 distances between integer-valued rows, shape (points,)."""
    exact: NDArray[np.float64] = ((points - others) ** 2).sum(axis=1)
    return exact


def cell_totals(
    labels: NDArray[np.intp], cells: int, weights: NDArray[np.int64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Per cell the weighted sum of integer-valued columns, exact; shape (cells, columns)."""
    weighted = weights.astype(np.float64)[:, None] * values
    totals = np.empty((cells, values.shape[1]))
    for column in range(values.shape[1]):
        totals[:, column] = np.bincount(labels, weighted[:, column], cells)
    return totals


def _means(cloud: Cloud, labels: NDArray[np.intp], centers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each cell's weighted mean, rounded to the lattice; the old center where a cell is empty."""
    totals = cell_totals(labels, len(centers), cloud.weights, cloud.points.astype(np.float64))
    sizes = np.bincount(labels, cloud.weights.astype(np.float64), len(centers))[:, None]
    means = np.where(sizes > 0, np.rint(totals / np.maximum(sizes, 1.0)), centers)
    return means.astype(np.int32)
