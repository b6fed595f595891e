"""The yardstick: the k-means cost of any centers, and the best that non-private scikit-learn finds in ten runs."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from fedseg.clustering.features import FEATURE_MAX

RUNS = 10

CACHE = Path(tempfile.gettempdir()) / f"fedseg-benchmarks-{os.getuid()}"
"""Where references are kept between runs, by a hash of the data: they take longer than most of what is measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Non-private clustering of all customers in one place."""

    cost: float
    """Sum of squared distances in the box [-1, 1]."""
    labels: NDArray[np.intp]
    """Cluster of each customer, shape (n,)."""


def reference(points: NDArray[np.int32], k: int) -> Reference:
    """The best of ten scikit-learn runs on encoded points; read from `CACHE` if it was computed before."""
    facts = f"{sklearn.__version__} {RUNS} {k} {points.shape} "
    path = CACHE / f"{hashlib.sha256(facts.encode() + points.tobytes()).hexdigest()}.npz"
    if not path.exists():
        fitted = KMeans(k, n_init=RUNS, random_state=0).fit(unit_box(points))
        CACHE.mkdir(mode=0o700, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(unfinished, centers=fitted.cluster_centers_)
        unfinished.replace(path)
    with np.load(path, allow_pickle=False) as kept:
        centers: NDArray[np.float64] = kept["centers"]
    rows = unit_box(points)
    return Reference(cost(rows, centers), nearest(rows, centers))


def unit_box(points: NDArray[np.int32]) -> NDArray[np.float64]:
    """Encoded points as positions in [-1, 1]."""
    positions: NDArray[np.float64] = points / FEATURE_MAX
    return positions


def cost(rows: NDArray[np.float64], centers: NDArray[np.float64]) -> float:
    """Sum over rows of the squared distance to the nearest center."""
    return float(np.square(rows - centers[nearest(rows, centers)]).sum())


def nearest(rows: NDArray[np.float64], centers: NDArray[np.float64]) -> NDArray[np.intp]:
    """Index of the center nearest to each row, shape (n,)."""
    index: NDArray[np.intp] = np.argmin(np.square(centers).sum(axis=1) - 2 * (rows @ centers.T), axis=1)
    return index


def unlike_units(points: NDArray[np.int32], labels: NDArray[np.intp], units: int) -> NDArray[np.intp]:
    """Which unit each customer is in: equally large units, as unlike each other as can be.

    Customers stand in the order of their non-private cluster, within it in that of their first feature, and each unit
    takes the next part of the queue: one cluster or a few, or one end of a large one.
    """
    places = np.empty(len(points), np.intp)
    places[np.lexsort((points[:, 0], labels))] = np.arange(len(points)) * units // len(points)
    return places
