"""Made-up customers: seven families of mixtures in the public box, each a function of its seed alone."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fedseg.clustering.features import FEATURE_MAX

Rows = NDArray[np.float64]
"""Shape (customers, features), in the box [-1, 1]."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A family and its sizes."""

    family: str
    """A name in `FAMILIES`."""
    n: int
    """Customers."""
    d: int
    """Features."""
    k: int
    """True clusters, and segments asked for."""

    @property
    def name(self) -> str:
        """How the table calls it: `sep-20k-d10-k8`."""
        return f"{self.family}-{self.n // 1000}k-d{self.d}-k{self.k}"

    def draw(self, seed: int) -> NDArray[np.int32]:
        """The customers, encoded: shape (n, d), within +-FEATURE_MAX; the same for the same seed."""
        coins = np.random.default_rng([seed, self.n, self.d, self.k])
        rows = FAMILIES[self.family](coins, self.n, self.d, self.k)
        encoded: NDArray[np.int32] = np.rint(np.clip(rows, -1, 1) * FEATURE_MAX).astype(np.int32)
        return encoded


SHAPES = (
    Shape("loose", 5_000, 10, 8),
    Shape("loose", 20_000, 10, 8),
    Shape("lowrank", 5_000, 20, 8),
    Shape("overlap", 5_000, 20, 16),
    Shape("overlap", 20_000, 2, 16),
    Shape("overlap", 20_000, 5, 16),
    Shape("rfm", 5_000, 10, 8),
    Shape("rfm", 20_000, 10, 8),
    Shape("rfmlog", 20_000, 10, 8),
    Shape("sep", 5_000, 20, 16),
    Shape("sep", 20_000, 10, 8),
    Shape("unbal", 5_000, 10, 8),
    Shape("unbal", 20_000, 20, 16),
)
"""The thirteen whose geometric mean is reported."""


def separated(coins: Generator, n: int, d: int, k: int) -> Rows:
    """Tight clusters of equal weight, far apart."""
    return _gaussians(coins, n, _apart(coins, d, k, gap=5.0 * 0.08), spread=0.08, weights=np.full(k, 1 / k))


def overlapping(coins: Generator, n: int, d: int, k: int) -> Rows:
    """Wide clusters of equal weight that run into each other."""
    return _gaussians(coins, n, _apart(coins, d, k, gap=1.5 * 0.22), spread=0.22, weights=np.full(k, 1 / k))


def unbalanced(coins: Generator, n: int, d: int, k: int) -> Rows:
    """Clusters far apart whose weights differ by up to fifty times."""
    centers, weights = _apart(coins, d, k, gap=5.0 * 0.10), 0.02 + coins.dirichlet(np.ones(k))
    return _gaussians(coins, n, centers, spread=0.10, weights=weights / weights.sum())


def heavy_tailed(coins: Generator, n: int, d: int, k: int) -> Rows:
    """Amounts as shops have them: log-normal within a segment, capped at public bounds and not transformed."""
    values, caps = np.exp(_log_amounts(coins, n, d, k)), np.exp(1.0 + 2.0 * coins.uniform(0.8, 1.3, d))
    return 2 * np.minimum(values / caps, 1) - 1


def log_amounts(coins: Generator, n: int, d: int, k: int) -> Rows:
    """The same kind of amounts after a public logarithm, within generous bounds."""
    logs = _log_amounts(coins, n, d, k)
    low, high = -4 * coins.uniform(0.8, 1.3, d), 4 * coins.uniform(0.8, 1.3, d)
    return 2 * (np.clip(logs, low, high) - low) / (high - low) - 1


def low_rank(coins: Generator, n: int, d: int, k: int) -> Rows:
    """Clusters in three hidden dimensions, seen through many correlated features."""
    hidden = 3
    centers, mixing = coins.uniform(-1, 1, (k, hidden)), coins.standard_normal((hidden, d))
    mixing *= 0.8 / np.abs(mixing).sum(axis=0).max()
    latent = centers[coins.integers(k, size=n)] + 0.12 * coins.standard_normal((n, hidden))
    return latent @ mixing + 0.03 * coins.standard_normal((n, d))


def loose_bounds(coins: Generator, n: int, d: int, k: int) -> Rows:
    """The separated family in a fifth of the box, off its center: public bounds were guessed five times too wide."""
    return 0.2 * np.clip(separated(coins, n, d, k), -1, 1) + coins.uniform(-0.5, 0.5, d)


FAMILIES: Mapping[str, Callable[[Generator, int, int, int], Rows]] = {
    "sep": separated,
    "overlap": overlapping,
    "unbal": unbalanced,
    "rfm": heavy_tailed,
    "rfmlog": log_amounts,
    "lowrank": low_rank,
    "loose": loose_bounds,
}


def _apart(coins: Generator, d: int, k: int, *, gap: float) -> Rows:
    """k points of the inner box, no two nearer than the gap, which shrinks by a tenth whenever no place is found."""
    least, centers, failures = gap * math.sqrt(min(d, 4) / 2), np.empty((0, d)), 0
    while len(centers) < k:
        candidate = coins.uniform(-0.75, 0.75, d)
        if (np.linalg.norm(centers - candidate, axis=1) >= least).all():
            centers = np.vstack([centers, candidate])
        elif (failures := failures + 1) > 2000:  # noqa: PLR2004 (many)
            least, failures = 0.9 * least, 0
    return centers


def _gaussians(coins: Generator, n: int, centers: Rows, *, spread: float, weights: NDArray[np.float64]) -> Rows:
    """A mixture with axis-parallel spreads between 0.6 and 1.4 times `spread`."""
    labels, spreads = coins.choice(len(centers), n, p=weights), spread * coins.uniform(0.6, 1.4, centers.shape)
    rows: Rows = centers[labels] + coins.standard_normal((n, centers.shape[1])) * spreads[labels]
    return rows


def _log_amounts(coins: Generator, n: int, d: int, k: int) -> Rows:
    """Segments whose features share a few factors."""
    factors = 0.35 * coins.standard_normal((max(2, d // 3), d))
    centers, weights = coins.standard_normal((k, d)), coins.dirichlet(np.full(k, 2.0))
    rows: Rows = centers[coins.choice(k, n, p=weights)]
    return rows + coins.standard_normal((n, len(factors))) @ factors + 0.3 * coins.standard_normal((n, d))
