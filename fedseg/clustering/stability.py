"""Would the segments be the same if the noise were drawn again? From released values only. Costs no budget."""

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.algorithm import State
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.kmeans import WEIGHT_MAX, Cloud, kmeans
from fedseg.clustering.model import Estimate
from fedseg.clustering.nearest import nearest_center
from fedseg.clustering.schedule import Kind

REDRAWS = 20
RESTARTS = 10
ITERATIONS = 15

STABLE = 0.75
"""From here on a segment is called stable: Hennig's bound for a cluster that is there."""


def stability(state: State) -> NDArray[np.float64]:
    """How much of each segment comes back when the noise is drawn again, shape (segments,), in [0, 1].

    What the last sketch leaves open is drawn anew: each cell's mean moves by the error it is known to have, each count
    by the noise of the release. The cells are clustered again from fresh starts, and a segment is compared with the new
    one most like it: the customers that both hold, as part of those that either holds (Jaccard). The mean over REDRAWS
    is returned; 0 for a segment in which the sketch saw nobody. Second runs with other noise find about as much again,
    on average a little more; the typical difference is 0.09 (benchmarks/quality.py).

    Raises:
        ValueError: If rounds are still open.

    Reference: Hennig, "Cluster-wise assessment of cluster stability", CSDA 2007, with the noise in place of resampling.
    """
    if state.sketch is None or state.outcome is None:
        raise ValueError("the last round is still open")
    seen = state.sketch.customers > 0
    points = _cloud(state.sketch.means[seen], state.sketch.customers[seen]).points
    sizes, k = state.sketch.customers[seen], len(state.segments)
    now, coins = nearest_center(points, state.segments), np.random.default_rng((state.settings.seed, state.step))
    total = np.zeros(k)
    for _ in range(REDRAWS):
        again = kmeans(_redrawn(state, state.sketch, coins), k, coins, restarts=RESTARTS, iterations=ITERATIONS)
        total += _overlaps(now, nearest_center(points, again), sizes, k)
    return total / REDRAWS


def _redrawn(state: State, sketch: Estimate, coins: np.random.Generator) -> Cloud:
    """The cells of the sketch as they might as well be; all of them as they are if every count falls below zero."""
    seen = sketch.customers > 0
    means, counts = sketch.means[seen], sketch.customers[seen]
    moved = means + np.sqrt(sketch.position_variances[seen])[:, None] * coins.standard_normal(means.shape)
    drawn = counts + _count_sd(state) * coins.standard_normal(len(counts))
    kept = drawn > 0
    return _cloud(moved[kept], drawn[kept]) if kept.any() else _cloud(means, counts)


def _cloud(means: NDArray[np.float64], counts: NDArray[np.float64]) -> Cloud:
    points = np.clip(np.rint(means), -FEATURE_MAX, FEATURE_MAX).astype(np.int32)
    weights = np.maximum(np.rint(counts * (WEIGHT_MAX / counts.max())), 1).astype(np.int64)
    return Cloud(points, weights)


def _count_sd(state: State) -> float:
    """Standard deviation of the noise in a count of the last sketch, from the plan alone."""
    sketch = next(one for one in reversed(state.settings.rounds) if one.kind is Kind.SKETCH)
    return state.settings.budget.noise_sd(sketch.share, sketch.sensitivity) / float(sketch.weights[0])


def _overlaps(
    now: NDArray[np.intp], again: NDArray[np.intp], sizes: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """Jaccard index of each segment with the new one most like it, shape (k,); 0 for an empty one."""
    both = np.bincount(now * k + again, sizes, k * k).reshape(k, k)
    either = np.bincount(now, sizes, k)[:, None] + np.bincount(again, sizes, k) - both
    best: NDArray[np.float64] = (both / np.where(either > 0, either, 1.0)).max(axis=1)
    return best
