"""Published private k-means, written afresh from the papers and small: each is sums over customers with noise.

They get what ours gets: the same box, the same budget, the same trust model. Their starting points come from public
coins, and nothing else reaches them but what `Noise.release` returns.
"""

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from benchmarks.accuracy.noise import Noise
from benchmarks.accuracy.reference import nearest

Rows = NDArray[np.float64]
"""Customers in the box [-1, 1], shape (n, d)."""

Centers = NDArray[np.float64]
"""Shape (k, d)."""

LLOYD_ROUNDS = 7
CLIPPED_ROUNDS = 10
CLIPPED_COUNT_WEIGHT = 0.6
EMPTY_SDS = 2.0
"""A cell with fewer customers than so many standard deviations of its count's noise is taken for empty."""

GRID_THETA = 10.0
"""Customers times epsilon per cell at which noise and coarseness are in balance, by the grid's authors."""

GRID_COUNT_SHARE = 0.05
"""Part of the budget for the number of customers, which sizes the grid; its authors take that number for public."""

GRID_CELLS_MAX = 2**15
"""Most cells of a grid: more take minutes and gain little where the formula asks for them, in ten dimensions and up."""

GRID_EMPTY_SDS = 1.0
"""A grid cell whose count is below so many standard deviations of its noise is left out, which helps the grid."""


def dp_lloyd(rows: Rows, k: int, noise: Noise) -> Centers:
    """Lloyd's rounds on noised counts and sums of whole rows, from well-spread public points.

    A customer adds (a, x / sqrt(d)) to its cell, a vector no longer than sqrt(a^2 + 1) in a box of half diagonal
    sqrt(d). The weight a = d^(-1/4) balances the noise of counts and sums.

    Reference: Su, Cao, Li, Bertino, Jin, "Differentially Private K-Means Clustering", CODASPY 2016, sections 3 and 5;
    with Gaussian noise in place of Laplace's, which suits more features.
    """
    d = rows.shape[1]
    weight, half_diagonal = d**-0.25, math.sqrt(d)
    vectors = np.column_stack([np.full(len(rows), weight), rows / half_diagonal])
    centers = well_spread(k, d, noise.coins)
    for _ in range(LLOYD_ROUNDS):
        exact = cell_sums(nearest(rows, centers), vectors, k)
        sums = noise.release(exact, math.hypot(weight, 1), 1 / LLOYD_ROUNDS)
        counts, least = sums[:, 0] / weight, EMPTY_SDS * noise.sd(math.hypot(weight, 1), 1 / LLOYD_ROUNDS) / weight
        means = half_diagonal * sums[:, 1:] / np.maximum(counts, least)[:, None]
        centers = _moved(means, counts, least, centers, noise.coins)
    return centers


def clipped_lloyd(rows: Rows, k: int, noise: Noise) -> Centers:
    """Lloyd's rounds on residuals to the last centers, clipped to a radius that shrinks on a public schedule.

    A customer adds (a, clip(x - c, r) / r) to its cell, a vector no longer than sqrt(a^2 + 1). The radius falls from
    the box's to that of k balls that fill it.

    Reference: Diaa, Humphries, Kerschbaum, "FastLloyd: Federated, Accurate, Secure, and Tunable k-Means Clustering with
    Differential Privacy", USENIX Security 2025, arXiv 2405.02437. Its idea, not its code.
    """
    d = rows.shape[1]
    bound, share = math.hypot(CLIPPED_COUNT_WEIGHT, 1), 1 / CLIPPED_ROUNDS
    least = EMPTY_SDS * noise.sd(bound, share) / CLIPPED_COUNT_WEIGHT
    centers = well_spread(k, d, noise.coins)
    for radius in math.sqrt(d) * np.geomspace(0.9, 0.8 * k ** (-1 / min(d, 6)), CLIPPED_ROUNDS):
        labels = nearest(rows, centers)
        residuals = (rows - centers[labels]) / radius
        residuals /= np.maximum(1, np.linalg.norm(residuals, axis=1, keepdims=True))
        vectors = np.column_stack([np.full(len(rows), CLIPPED_COUNT_WEIGHT), residuals])
        sums = noise.release(cell_sums(labels, vectors, k), bound, share)
        counts = sums[:, 0] / CLIPPED_COUNT_WEIGHT
        means = centers + radius * sums[:, 1:] / np.maximum(counts, least)[:, None]
        centers = _moved(means, counts, least, centers, noise.coins)
    return centers


def eugkm(rows: Rows, k: int, noise: Noise) -> Centers:
    """Non-private k-means on the noised counts of a uniform grid, whose size follows from n, d and epsilon.

    A customer adds one to the number of customers, and in a second release one to its grid cell. The paper's
    (n epsilon / theta)^(2 d / (2 + d)) cells are spread over the axes as evenly as whole numbers allow; where there
    are fewer cells than 2^d, some axes stay undivided.

    Reference: Su et al. as above, section 4.
    """
    d = rows.shape[1]
    count = float(noise.release(np.array([len(rows)], np.float64), 1.0, GRID_COUNT_SHARE)[0])
    # sqrt(2) / sd is epsilon itself with one noise, and less with many units' noises: then fewer cells are better.
    sd = noise.sd(1.0, 1 - GRID_COUNT_SHARE)
    cells = (max(count, 1.0) * math.sqrt(2) / sd / GRID_THETA) ** (2 * d / (2 + d))
    bins = _bins(d, min(max(cells, 2 * k), GRID_CELLS_MAX), noise.coins)
    strides = np.cumprod(bins) // bins
    places = np.minimum(((rows + 1) / 2 * bins).astype(np.intp), bins - 1) @ strides
    exact = np.bincount(places, minlength=int(bins.prod())).astype(np.float64)
    counts = noise.release(exact, 1.0, 1 - GRID_COUNT_SHARE)
    middles = (np.arange(len(counts))[:, None] // strides % bins + 0.5) / bins * 2 - 1
    kept = np.argsort(counts)[-max(k, int((counts > GRID_EMPTY_SDS * sd).sum())) :]
    means = KMeans(k, n_init=3, random_state=int(noise.coins.integers(2**31)))
    centers: Centers = means.fit(middles[kept], sample_weight=np.maximum(counts[kept], sd)).cluster_centers_
    return centers


def well_spread(k: int, d: int, coins: Generator) -> Centers:
    """k points that are at least 2a apart and a from the box's faces, a as large as bisection finds: sphere packing."""
    low, high, best = 0.0, 1.0, coins.uniform(-0.5, 0.5, (k, d))
    for _ in range(12):
        gap = (low + high) / 2
        packed = next((one for one in (_packed(k, d, gap, coins) for _ in range(5)) if one is not None), None)
        if packed is None:
            high = gap
        else:
            low, best = gap, packed
    return best


def _packed(k: int, d: int, gap: float, coins: Generator, tries: int = 30) -> Centers | None:
    placed = np.empty((0, d))
    for _ in range(k):
        candidates = coins.uniform(gap - 1, 1 - gap, (tries, d))
        is_free = (np.square(candidates[:, None] - placed).sum(axis=2) >= 4 * gap**2).all(axis=1)
        if not is_free.any():
            return None
        placed = np.vstack([placed, candidates[np.argmax(is_free)]])
    return placed


def cell_sums(labels: NDArray[np.intp], vectors: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    """The sum of each cell's vectors, shape (cells, width)."""
    sums: NDArray[np.float64] = np.eye(cells)[labels].T @ vectors
    return sums


def _moved(means: Centers, counts: NDArray[np.float64], least: float, centers: Centers, coins: Generator) -> Centers:
    """The means in the box; centers of empty cells go beside the largest cell's."""
    beside = centers[np.argmax(counts)] + 0.1 * coins.standard_normal(centers.shape)
    return np.clip(np.where((counts > least)[:, None], means, beside), -1, 1)


def _bins(d: int, cells: float, coins: Generator) -> NDArray[np.intp]:
    """Parts of each axis: m or m + 1, the latter on axes chosen by public coins, with a product of at most `cells`."""
    bins = np.full(d, max(1, math.floor(cells ** (1 / d) + 1e-9)))
    for axis in coins.permutation(d):
        finer = bins.copy()
        finer[axis] += 1
        if finer.astype(np.float64).prod() > cells:
            break
        bins = finer
    return bins
