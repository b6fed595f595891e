"""The server's model of the customers: a cloud of weighted particles, conditioned on one released round after another.

Each round places its reference points by k-means on the cloud, predicts from the cloud what each cell will hold, and
afterwards moves, scales and reweights the particles of each cell to agree with what came back. So whatever earlier
rounds have found, shape within the cells included, is kept until a later round says otherwise.

Everything here is post-processing of released values and public coins. Positions are in encoded units and rounded to
the lattice, so the cloud is the same on every machine.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.kmeans import WEIGHT_MAX, Cloud, cell_totals, squared_distances
from fedseg.clustering.nearest import nearest_center

PARTICLE_WEIGHT = 2**10
"""Mean weight of a particle."""

PSEUDO_PARTICLES = 2.0
"""A cell's predicted variance counts this many particles of the cloud's mean variance besides its own."""

SCALE_SQUARED_MIN = 0.05
SCALE_SQUARED_MAX = 4.0
"""A cell's particles are drawn together or apart by no more than this in one round."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What the server believes after some rounds."""

    cloud: Cloud
    cell: NDArray[np.intp]
    """Cell of each particle in the last round, shape (particles,)."""
    position_variances: NDArray[np.float64]
    """Per cell of the last round: variance of each coordinate of its particles' common error, encoded units squared."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the model expects at some reference points; arrays over cells."""

    labels: NDArray[np.intp]
    """Cell of each particle, shape (particles,)."""
    shares: NDArray[np.float64]
    """Part of the customers in each cell; they add up to 1."""
    means: NDArray[np.float64]
    """Shape (cells, features); the reference point itself where nothing is expected."""
    energies: NDArray[np.float64]
    """Mean squared distance to the reference point, smoothed; positive."""
    position_variances: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """What a round says, after shrinking; arrays over cells."""

    customers: NDArray[np.float64]
    """At least 0, adding up to all customers."""
    means: NDArray[np.float64]
    """Shape (cells, features), inside the box."""
    variances: NDArray[np.float64]
    """Mean squared distance to the cell's own mean."""
    position_variances: NDArray[np.float64]
    """Variance per coordinate of the error of `means`."""
    reliabilities: NDArray[np.float64]
    """Part of each cell's measured shift that was believed, in [0, 1]."""


def gaussian_model(
    mean: NDArray[np.float64], root: NDArray[np.float64], particles: int, coins: np.random.Generator
) -> Model:
    """Particles from a normal distribution with covariance root root^T, clamped to the box.

    `root` must be the symmetric root, which no change of an eigenvector's sign alters.
    """
    drawn = mean + coins.standard_normal((particles, len(mean))) @ root
    points = np.clip(np.rint(drawn), -FEATURE_MAX, FEATURE_MAX).astype(np.int32)
    weights = np.full(particles, PARTICLE_WEIGHT, np.int64)
    return Model(Cloud(points, weights), np.zeros(particles, np.intp), np.zeros(1))


def predict(model: Model, centers: NDArray[np.int32]) -> Prediction:
    """What the cloud holds around each reference point.

    A cell's position error mixes those of the last round's cells that its particles come from, which are independent:
    with parts p_i from cell i, sum_i p_i^2 e_i.
    """
    points, weights = model.cloud.points.astype(np.float64), model.cloud.weights
    labels, cells = nearest_center(model.cloud.points, centers), len(centers)
    sizes = np.bincount(labels, weights.astype(np.float64), cells)
    full = sizes > 0
    safe = np.where(full, sizes, 1.0)
    means = np.where(full[:, None], cell_totals(labels, cells, weights, points) / safe[:, None], centers)
    spread = np.bincount(labels, weights * squared_distances(points, centers[labels].astype(np.float64)), cells)
    total = float(weights.sum())
    pseudo = PSEUDO_PARTICLES * total / len(weights)
    energies = np.maximum((spread + pseudo * spread.sum() / total) / (sizes + pseudo), 1.0)
    origins = np.zeros((cells, len(model.position_variances)))
    np.add.at(origins, (labels, model.cell), weights.astype(np.float64))
    position_variances = (origins**2 * model.position_variances).sum(axis=1) / safe**2
    return Prediction(labels, sizes / total, means, energies, position_variances)


def condition(model: Model, centers: NDArray[np.int32], predicted: Prediction, found: Estimate) -> Model:
    """The cloud after a round: each cell's particles take its weight, mean and spread; those of empty cells go.

    If nothing is left, for example because all counts were noise, the cloud stays as it was.
    """
    labels, points = predicted.labels, model.cloud.points.astype(np.float64)
    gaps = squared_distances(predicted.means, centers.astype(np.float64))
    within = np.maximum(predicted.energies - gaps, 1.0)
    scale = np.sqrt(np.clip(found.variances / within, SCALE_SQUARED_MIN, SCALE_SQUARED_MAX))
    moved = found.means[labels] + scale[labels][:, None] * (points - predicted.means[labels])
    growth = found.customers / np.maximum(predicted.shares, 1e-12) * (predicted.shares > 0)
    raw = model.cloud.weights * growth[labels]
    total = raw.sum()
    if total <= 0:
        return Model(model.cloud, labels, predicted.position_variances)
    weights = np.minimum(np.rint(raw * (PARTICLE_WEIGHT * len(raw) / total)), WEIGHT_MAX).astype(np.int64)
    kept = weights > 0
    rounded = np.clip(np.rint(moved[kept]), -FEATURE_MAX, FEATURE_MAX).astype(np.int32)
    return Model(Cloud(rounded, weights[kept]), labels[kept], found.position_variances)
