"""Lloyd's algorithm on noised counts and sums, as a pure state machine: `init`, `next_request`, `step`.

Everything here is post-processing of released values and public coins: it may be rerun by anybody, and gives the same
result bit for bit. Nothing here ever sees a customer.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.request import RoundRequest

START_SPREAD = 0.5
"""The starting points are drawn from this central part of the box: loose public bounds leave its rim empty."""

START_CANDIDATES = 16
"""Public draws per starting point, of which the one farthest from the points before it is taken."""

EMPTY_SDS = 2.0
"""A cell whose count is below this many standard deviations of its noise is taken for empty."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the plan says about the algorithm."""

    k: int
    """Number of segments."""
    dimensions: int
    """Number of features."""
    radii: tuple[float, ...]
    """Clip radius of each round as a part of FEATURE_MAX; as many as there are rounds."""
    seed: int
    """Seed of the public coins that draw the starting points."""


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """The sum of all units' releases of one step: noised, public."""

    step: int
    sums: NDArray[np.int64]
    """Shape (cells, 1 + features), in lattice steps."""
    terms: StepTerms
    units: int
    """How many releases were added; each carries its own noise."""

    @property
    def noise_sd(self) -> float:
        """Standard deviation of the noise in every entry, in lattice steps."""
        return self.terms.mechanism.sigma * math.sqrt(self.units)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where the protocol stands after `step` rounds."""

    settings: Settings
    step: int
    centers: NDArray[np.float64]
    """Shape (k, features), in encoded units."""
    counts: NDArray[np.float64]
    """Customers per cell of the last round, noised; zeros before the first. Shape (k,)."""
    count_sd: float
    """Standard deviation of the noise in `counts`."""
    center_sds: NDArray[np.float64]
    """Standard deviation of the noise in each center's coordinates, encoded units; infinite where empty. Shape (k,)."""


def init(settings: Settings) -> State:
    """The start: k well-spread points from public coins, independent of any data."""
    coins = np.random.default_rng(settings.seed)
    spread = START_SPREAD * FEATURE_MAX
    centers = np.empty((settings.k, settings.dimensions))
    centers[0] = coins.uniform(-spread, spread, settings.dimensions)
    for taken in range(1, settings.k):
        candidates = coins.uniform(-spread, spread, (START_CANDIDATES, settings.dimensions))
        gaps = np.linalg.norm(candidates[:, None, :] - centers[None, :taken, :], axis=2).min(axis=1)
        centers[taken] = candidates[np.argmax(gaps)]
    nothing = np.zeros(settings.k)
    return State(settings, 0, centers, nothing, 0.0, np.full(settings.k, np.inf))


def next_request(state: State) -> RoundRequest | None:
    """What to ask for next, or None when all rounds are done."""
    if state.step >= len(state.settings.radii):
        return None
    centers = np.clip(np.rint(state.centers), -FEATURE_MAX, FEATURE_MAX).astype(np.int32)
    radius = max(1, round(state.settings.radii[state.step] * FEATURE_MAX))
    return RoundRequest(state.step, centers, np.full(len(centers), radius, np.int32))


def step(state: State, aggregate: Aggregate) -> State:
    """Move each center by the noised mean residual of its cell; re-seat empty cells beside the largest one.

    With N = count entry / weight and S = residual entries * radius / unit, the center moves by S / N, shortened to at
    most the radius (no true mean of clipped residuals is longer). A cell whose N is within EMPTY_SDS of zero stays
    where it is, and before another round splits the largest cell. Never divides by zero and never yields NaN.
    """
    request = next_request(state)
    if (
        request is None
        or aggregate.step != state.step
        or aggregate.sums.shape != (request.cells, 1 + request.centers.shape[1])
    ):
        raise ValueError("the aggregate does not answer the state's request")
    lattice = aggregate.terms.lattice
    counts = aggregate.sums[:, 0] / lattice.count_weight
    count_sd = aggregate.noise_sd / lattice.count_weight
    radii = request.radii.astype(np.float64)
    full = counts >= EMPTY_SDS * count_sd
    means = aggregate.sums[:, 1:] / lattice.unit / np.where(full, counts, 1.0)[:, None]
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    moves = np.where(full[:, None], means / np.maximum(1.0, lengths), 0.0) * radii[:, None]
    centers = np.clip(request.centers + moves, -FEATURE_MAX, FEATURE_MAX)
    sds = np.where(full, aggregate.noise_sd / lattice.unit * radii / np.where(full, counts, 1.0), np.inf)
    after = State(state.settings, state.step + 1, centers, counts, count_sd, sds)
    is_last = after.step == len(state.settings.radii)
    return after if is_last else replace(after, centers=_reseat(centers, counts, full, radii))


def _reseat(
    centers: NDArray[np.float64], counts: NDArray[np.float64], full: NDArray[np.bool_], radii: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Move each empty cell's center beside the largest cell's, half a radius apart along a rotating axis."""
    centers, weights = centers.copy(), np.where(full, counts, 0.0)
    for empty in np.flatnonzero(~full).tolist():
        largest = int(np.argmax(weights))
        offset = np.zeros(centers.shape[1])
        offset[empty % len(offset)] = radii[largest] / 4
        centers[empty] = centers[largest] + offset
        centers[largest] -= offset
        weights[largest] /= 2
        weights[empty] = weights[largest]
    return np.clip(centers, -FEATURE_MAX, FEATURE_MAX)
