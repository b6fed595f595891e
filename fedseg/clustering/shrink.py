"""What a noised release says, shrunk towards the prediction by as much as its known noise asks for.

The noise of a release is known exactly, so what the cells' measurements vary by beyond it is signal: its size is
estimated over all cells together and each cell's measurement believed in that proportion (James and Stein 1961; Efron
and Morris 1973). Pure post-processing.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.model import Estimate, Prediction
from fedseg.clustering.request import RADIUS_MAX, RoundRequest

CLIP_MIN = 1.2
"""Clip radius in root mean squared residuals, where noise is dear."""

CLIP_MAX = 3.0
"""Clip radius in root mean squared residuals, where noise costs nothing."""

CLIP_NOISE = 0.01
"""Between the two the radius is as wide as keeps the noise of a cell's mean below this part of its variance."""

POOL_WEIGHT = 5.0
"""The evidence of all cells together counts as this many features of a cell's own."""

ENERGY_MIN = 0.02
"""A measured mean energy below this part of a squared radius is taken for it."""

VARIANCE_STEP = (0.05, 4.0)
"""A cell's variance changes by no more than these factors in one round."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A release in units of customers and clip radii; arrays over cells."""

    counts: NDArray[np.float64]
    steps: NDArray[np.float64]
    """Sum of clipped residuals, shape (cells, features)."""
    energies: NDArray[np.float64]
    """Sum of squared clipped residuals: of all features, shape (cells, 1), or of each, shape (cells, features)."""
    count_sd: float
    step_sd: float
    energy_sd: float
    """Standard deviation of the noise in one entry of each."""


def measured(sums: NDArray[np.int64], terms: StepTerms, noises: int) -> Measured:
    """Decode the sum of all releases of a step.

    Args:
        sums: Shape (cells, width), in lattice steps.
        terms: The step's lattice and noise.
        noises: How many independent noises are in it.
    """
    lattice, sd = terms.lattice, terms.mechanism.sigma * math.sqrt(noises)
    features = (terms.width - 2) if lattice.width(terms.width - 2) == terms.width else (terms.width - 1) // 2
    return Measured(
        counts=sums[:, 0] / lattice.count_weight,
        steps=sums[:, 1 : 1 + features] / lattice.unit,
        energies=sums[:, 1 + features :] / lattice.energy_weight,
        count_sd=sd / lattice.count_weight,
        step_sd=sd / lattice.unit,
        energy_sd=sd / lattice.energy_weight,
    )


def clip_radii(predicted: Prediction, customers: float, step_sd: float) -> NDArray[np.int32]:
    """Clip radius of each cell in encoded units, from its predicted spread, its size and the noise to come."""
    features = predicted.means.shape[1]
    wide = math.sqrt(CLIP_NOISE) * predicted.shares * customers / (step_sd * math.sqrt(features))
    radii = np.sqrt(predicted.energies) * np.clip(wide, CLIP_MIN, CLIP_MAX)
    rounded: NDArray[np.int32] = np.clip(np.rint(radii), 1, RADIUS_MAX).astype(np.int32)
    return rounded


def shrink(release: Measured, request: RoundRequest, predicted: Prediction, customers: float) -> Estimate:
    """Counts, means and variances of the cells, each measurement believed as far as its noise allows.

    Args:
        release: The decoded sum of all releases.
        request: Its reference points and radii.
        predicted: What the model expected.
        customers: All customers together, from the first round.
    """
    features = request.centers.shape[1]
    radii = request.radii.astype(np.float64)
    believed = simplex(release.counts, customers)
    counts = np.maximum(release.counts, release.count_sd)
    steps = release.steps / counts[:, None]
    noise = (release.step_sd / counts) ** 2
    weights = counts * (believed > 0) + 1e-12

    beyond = (steps**2).mean(axis=1) - noise
    pooled = max(_mean(beyond, weights), 1e-3 / features)
    prior = (features * np.maximum(beyond, 0.0) + POOL_WEIGHT * pooled) / (features + POOL_WEIGHT)
    prior = np.maximum(prior, predicted.position_variances / radii**2)
    gains = prior / (prior + noise)
    means = request.centers + (gains * radii)[:, None] * steps

    energy = np.clip(release.energies.sum(axis=1) / counts, ENERGY_MIN, 1.0)
    variances = radii**2 * (energy - np.maximum((steps**2).sum(axis=1) - features * noise, 0.0))
    entries = release.energies.shape[1]
    variance_noise = entries * (release.energy_sd / counts) ** 2 * radii**4
    spread = max(_mean((variances - predicted.energies) ** 2 - variance_noise, weights), 0.0)
    moved = predicted.energies + spread / (spread + variance_noise + 1e-9) * (variances - predicted.energies)
    low, high = (factor * predicted.energies for factor in VARIANCE_STEP)
    return Estimate(
        customers=believed,
        means=np.clip(means, -FEATURE_MAX, FEATURE_MAX),
        variances=np.clip(moved, low, high),
        position_variances=gains * noise * radii**2,
        reliabilities=gains,
    )


def simplex(counts: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """The nearest nonnegative counts that add up to `total`: a threshold for noise that has no parameter.

    Reference: Duchi, Shalev-Shwartz, Singer, Chandra, "Efficient projections onto the l1-ball", ICML 2008, figure 1.

    >>> simplex(np.array([6.0, 5.0, -3.0, 0.5]), 10.0)
    array([5.5, 4.5, 0. , 0. ])
    """
    # Only differences count, and small ones would drown in the largest count.
    counts = counts - counts.max()
    ordered = np.sort(counts)[::-1]
    thresholds = (np.cumsum(ordered) - total) / np.arange(1, len(counts) + 1)
    threshold = thresholds[np.flatnonzero(ordered > thresholds)[-1]]
    projected: NDArray[np.float64] = np.maximum(counts - threshold, 0.0)
    return projected


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    return float((values * weights).sum() / weights.sum())
