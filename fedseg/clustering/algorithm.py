"""CELLS: private federated k-means from one repeated release, as a pure state machine: `init`, `next_request`, `step`.

A plan that asks for bounds in place of segments has one round, which this machine takes like any other (`bounds.py`).

Every round asks, around reference points chosen by the server, for count, clipped residual sum and clipped energy of
each cell; what comes back is shrunk by its known noise and the server's model of the customers conditioned on it
(`model.py`, `shrink.py`). Which rounds there are follows from the plan (`schedule.py`). Everything here is
post-processing of released values and public coins: anybody may run it again and gets the same result. Nothing here
ever sees a customer.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.bounds import Histograms
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.kmeans import Cloud, cost, kmeans, lloyd, sample_points
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.model import Estimate, Model, Prediction, condition, gaussian_model, predict
from fedseg.clustering.request import RADIUS_MAX, RoundRequest
from fedseg.clustering.schedule import COVARIANCE_RADIUS, Budget, Kind, Profile, Round, Single, schedule
from fedseg.clustering.shrink import Measured, clip_radii, measured, shrink

CUSTOMERS_MIN = 30.0
"""A noised total below this is taken for it."""

PARTICLES_PER_CELL = 10
PARTICLES_MIN = 2000

SKETCH_ITERATIONS = 8
MERGE_RESTARTS = 60
REFINE_ITERATIONS = 10
"""Of Lloyd's algorithm on the model, for a sketch's reference points and after a refinement; and of fresh starts."""

MANY_CELLS = 128
"""With more cells than this a sketch's reference points start from a plain sample of the particles."""


@dataclass(frozen=True)
class Settings:
    """What the plan says about the algorithm."""

    k: int
    """Number of segments."""
    dimensions: int
    """Number of encoded features."""
    expected_customers: int
    """Public guess of how many customers all units have together."""
    seed: int
    """Seed of the public coins."""
    profile: Profile | Single
    budget: Budget

    @cached_property
    def rounds(self) -> tuple[Round, ...]:
        """The schedule."""
        return schedule(self.profile, self.k, self.dimensions, self.expected_customers, self.budget)


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """The sum of all units' releases of one step: noised, public."""

    step: int
    sums: NDArray[np.int64]
    """Shape (cells, width), in lattice steps."""
    terms: StepTerms
    noises: int
    """How many independent noises are in it: with noise at the unit, one for each release that was added."""

    @property
    def measured(self) -> Measured:
        """The same in customers and clip radii."""
        return measured(self.sums, self.terms, self.noises)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """The last round: what was asked and what came back, beside what it was taken to mean."""

    request: RoundRequest
    release: Measured
    estimate: Estimate


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where the protocol stands after `step` rounds."""

    settings: Settings
    step: int
    request: RoundRequest | None
    """The open round's request; None when all rounds are done."""
    customers: float
    """All customers, from the first round."""
    model: Model | None = None
    predicted: Prediction | None = None
    """What the model expects of the open round, where that has cells."""
    moments: tuple[NDArray[np.float64], float] | None = None
    """Mean, shape (features,), and total variance of all customers, encoded units; until the second moment is used."""
    centers: NDArray[np.int32] | None = None
    """Segments as they stand, shape (k, features)."""
    sketch: Estimate | None = None
    """The last sketch, where there was one."""
    outcome: Outcome | None = None
    """The last round, when all rounds are done."""
    histograms: Histograms | None = None
    """What a plan for bounds asked for, when its round is done."""

    @property
    def segments(self) -> NDArray[np.int32]:
        """The centers when all rounds are done, shape (k, features), in encoded units.

        Raises:
            ValueError: If rounds are still open, or the plan asks for bounds.
        """
        if self.centers is None or self.outcome is None:
            raise ValueError("there are no segments, or not yet: the last round for them is still open")
        return self.centers


_MISMATCH: Final = "the aggregate does not answer the state's request"


def init(settings: Settings) -> State:
    """The start: one cell over the whole box, so wide that nobody is clipped; independent of any data."""
    whole = math.isqrt(settings.dimensions * FEATURE_MAX**2) + 1
    center = np.zeros((1, settings.dimensions), np.int32)
    request = RoundRequest(0, center, np.array([min(whole, RADIUS_MAX)], np.int32))
    return State(settings, 0, request, float(settings.expected_customers))


def next_request(state: State) -> RoundRequest | None:
    """What to ask for next, or None when all rounds are done."""
    return state.request


def step(state: State, aggregate: Aggregate) -> State:
    """Take in the sum of a round's releases and prepare the next round. Never divides by zero, never yields NaN.

    Raises:
        ValueError: If the aggregate is of another step or shape.
    """
    request = state.request
    if request is None or aggregate.step != state.step or len(aggregate.sums) != request.cells:
        raise ValueError(_MISMATCH)
    if aggregate.sums.shape[1] != aggregate.terms.lattice.width(state.settings.dimensions):
        raise ValueError(_MISMATCH)
    kind = state.settings.rounds[state.step].kind
    if kind is Kind.MOMENTS:
        after = _take_moments(state, request, aggregate.measured)
    elif kind is Kind.COVARIANCE:
        after = _take_covariance(state, request, aggregate)
    elif kind is Kind.HISTOGRAM:
        after = replace(state, histograms=Histograms.of(aggregate.sums, aggregate.terms, aggregate.noises))
    else:
        after = _take_cells(state, request, aggregate.measured, kind)
    return _prepare(replace(after, step=state.step + 1))


def _take_moments(state: State, request: RoundRequest, release: Measured) -> State:
    """How many customers, their mean, and how widely they spread: rather too widely, which only costs noise."""
    features, radius = state.settings.dimensions, float(request.radii[0])
    customers = max(float(release.counts[0]), CUSTOMERS_MIN)
    mean = release.steps[0] * radius / customers
    error = (release.step_sd * radius / customers) ** 2
    square = float((mean**2).sum())
    total = float(release.energies[0, 0]) * radius**2 / customers - square + features * error
    sd = math.hypot(release.energy_sd * radius**2 / customers, 2 * math.sqrt(square * error))
    largest = features * FEATURE_MAX**2
    spread = min(max(max(total, 0.0) + sd, 1e-4 * largest), largest) + features * error
    inside = np.clip(mean, -FEATURE_MAX, FEATURE_MAX)
    return replace(state, customers=customers, moments=(inside, spread))


def _take_covariance(state: State, request: RoundRequest, aggregate: Aggregate) -> State:
    """Mean and covariance of all customers; directions that do not rise above the noise get their common mean.

    The noise of the matrix is a Gaussian orthogonal ensemble with diagonal standard deviation e, so its eigenvalues
    stay within e sqrt(2 d) (Wigner's semicircle law); smaller ones of the sum are not told apart.
    """
    features, radius = state.settings.dimensions, float(request.radii[0])
    lattice = aggregate.terms.lattice
    sd = aggregate.terms.mechanism.sigma * math.sqrt(aggregate.noises) / state.customers
    linear = aggregate.sums[0, :features] / lattice.count_weight / state.customers
    left, right = np.triu_indices(features)
    weights = np.where(left == right, lattice.energy_weight, lattice.cross_weight)
    moment = np.zeros((features, features))
    moment[left, right] = aggregate.sums[0, features:] / weights / state.customers
    moment[right, left] = moment[left, right]
    noise = sd / lattice.energy_weight
    centered = moment - np.outer(linear, linear) + np.eye(features) * (sd / lattice.count_weight) ** 2
    values, vectors = np.linalg.eigh(centered)
    bulk = values < noise * math.sqrt(2 * features)
    if bulk.any():
        values[bulk] = max(float(values[bulk].mean()), noise / 20)
    values = np.maximum(values, 1e-6) * radius**2
    mean = np.clip(request.centers[0] + radius * linear, -FEATURE_MAX, FEATURE_MAX)
    root = (vectors * np.sqrt(values)) @ vectors.T
    return replace(state, model=_gaussian(state, mean, root))


def _take_cells(state: State, request: RoundRequest, release: Measured, kind: Kind) -> State:
    """Condition the model on a round over cells; after a refinement the segments move to where the model has them."""
    assert state.model is not None
    assert state.predicted is not None
    found = shrink(release, request, state.predicted, state.customers)
    model = condition(state.model, request.centers, state.predicted, found)
    after = replace(state, model=model)
    if kind is Kind.SKETCH:
        return replace(after, sketch=found)
    moved = lloyd(model.cloud, np.rint(found.means).astype(np.int32), REFINE_ITERATIONS)
    if kind is Kind.PROFILE:
        return replace(after, centers=moved, outcome=Outcome(request, release, found))
    return replace(after, centers=_better(model.cloud, moved, _coins(state)))


def _prepare(state: State) -> State:
    """Reference points, radii and prediction of the round that is now open, if there is one."""
    rounds = state.settings.rounds
    if state.step >= len(rounds):
        return replace(state, request=None, predicted=None)
    current = rounds[state.step]
    if current.kind is Kind.COVARIANCE:
        assert state.moments is not None
        mean, spread = state.moments
        radius = min(max(1, round(float(COVARIANCE_RADIUS) * math.sqrt(spread))), RADIUS_MAX)
        center = np.rint(mean).astype(np.int32)[None]
        return replace(state, request=RoundRequest(state.step, center, np.array([radius], np.int32)))
    if state.model is None:
        assert state.moments is not None
        mean, spread = state.moments
        features = state.settings.dimensions
        state = replace(state, model=_gaussian(state, mean, np.eye(features) * math.sqrt(spread / features)))
    centers = _reference_points(state, current)
    assert state.model is not None
    predicted = predict(state.model, centers)
    step_sd = state.settings.budget.noise_sd(current.share, current.sensitivity)
    request = RoundRequest(state.step, centers, clip_radii(predicted, state.customers, step_sd))
    return replace(state, request=request, predicted=predicted)


def _reference_points(state: State, current: Round) -> NDArray[np.int32]:
    """Where to ask: k-means on the model for a sketch; the segments, first merged out of the last sketch, to refine."""
    assert state.model is not None
    cloud, coins = state.model.cloud, _coins(state)
    if current.kind is not Kind.SKETCH:
        return _merge(state, coins) if state.centers is None else state.centers
    if current.cells > MANY_CELLS:
        return lloyd(cloud, sample_points(cloud, current.cells, coins), SKETCH_ITERATIONS)
    return kmeans(cloud, current.cells, coins, restarts=5, iterations=SKETCH_ITERATIONS)


def _merge(state: State, coins: np.random.Generator) -> NDArray[np.int32]:
    """The segments that the model suggests: its particles count as far as their cell's mean is believed."""
    assert state.model is not None
    model, sketch = state.model, state.sketch
    cloud = model.cloud
    if sketch is not None:
        trusted = np.rint(cloud.weights * sketch.reliabilities[model.cell]).astype(np.int64)
        cloud = Cloud(cloud.points, np.maximum(trusted, 1))
    return kmeans(cloud, state.settings.k, coins, restarts=MERGE_RESTARTS)


def _better(cloud: Cloud, centers: NDArray[np.int32], coins: np.random.Generator) -> NDArray[np.int32]:
    """The centers, or a fresh start on the model if that costs less: a way out of a local optimum."""
    fresh = kmeans(cloud, len(centers), coins, restarts=MERGE_RESTARTS)
    return min(centers, fresh, key=lambda candidate: cost(cloud, candidate))


def _gaussian(state: State, mean: NDArray[np.float64], root: NDArray[np.float64]) -> Model:
    cells = max(one.cells for one in state.settings.rounds)
    particles = max(PARTICLES_PER_CELL * cells, PARTICLES_MIN)
    return gaussian_model(mean, root, particles, _coins(state))


def _coins(state: State) -> np.random.Generator:
    """Public coins: the plan's seed and the step, nothing else."""
    return np.random.default_rng((state.settings.seed, state.step))
