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

from fedseg.clustering.statistics import nearest_center

WEIGHT_MAX = 2**16
"""Largest weight of a point: 2**16 weights times 2**19 coordinates times 2**17 points stay below 2**53."""

POINTS_MAX = 2**17


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

    With fewer distinct points than k the surplus centers coincide with others, which is what the data says.

    Reference: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    runs = (lloyd(cloud, plus_plus(cloud, k, coins), iterations) for _ in range(restarts))
    return min(runs, key=lambda centers: cost(cloud, centers))


def lloyd(cloud: Cloud, centers: NDArray[np.int32], iterations: int) -> NDArray[np.int32]:
    """Lloyd's algorithm from `centers`, until nothing moves; a center without points stays where it is."""
    for _ in range(iterations):
        moved = _means(cloud, nearest_center(cloud.points, centers), centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers


def sample_points(cloud: Cloud, k: int, coins: np.random.Generator) -> NDArray[np.int32]:
    """k points of the cloud, drawn by weight without replacement as far as there are enough."""
    weights = cloud.weights / cloud.weights.sum()
    return cloud.points[coins.choice(len(weights), k, replace=len(weights) < k, p=weights)]


def plus_plus(cloud: Cloud, k: int, coins: np.random.Generator) -> NDArray[np.int32]:
    """k points of the cloud by greedy k-means++; shape (k, features).

    Each is the best of a few candidates, drawn with probability proportional to weight times squared distance to the
    points before it; the best leaves the least cost.
    """
    points = cloud.points.astype(np.float64)
    norms = (points * points).sum(axis=1)
    chosen = np.empty(k, np.intp)
    gaps = np.ones(len(points))
    for index in range(k):
        ladder = np.cumsum(cloud.weights * gaps)
        if ladder[-1] == 0:  # every point is a center already
            ladder = np.cumsum(cloud.weights.astype(np.float64))
        draws = coins.random(1 if index == 0 else 2 + int(math.log(k))) * ladder[-1]
        candidates = np.minimum(np.searchsorted(ladder, draws, side="right"), len(points) - 1)
        away = norms - 2.0 * (points[candidates] @ points.T) + norms[candidates][:, None]
        if index > 0:
            away = np.minimum(away, gaps)
        best = int(np.argmin(np.cumsum(away * cloud.weights, axis=1)[:, -1]))  # summed one by one: in one order
        chosen[index], gaps = candidates[best], away[best]
    return cloud.points[chosen]


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
    columns = [np.bincount(labels, weighted[:, column], cells) for column in range(values.shape[1])]
    return np.stack(columns, axis=1)


def _means(cloud: Cloud, labels: NDArray[np.intp], centers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Each cell's weighted mean, rounded to the lattice; the old center where a cell is empty."""
    totals = cell_totals(labels, len(centers), cloud.weights, cloud.points.astype(np.float64))
    sizes = np.bincount(labels, cloud.weights.astype(np.float64), len(centers))[:, None]
    means = np.where(sizes > 0, np.rint(totals / np.maximum(sizes, 1.0)), centers)
    return means.astype(np.int32)
