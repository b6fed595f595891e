"""The algorithm on encoded customers of a few units, in memory: real requests, real statistics, exact integer noise.

Left out are tables, gates, ledgers and messages, which change no number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.algorithm import Aggregate, Settings, State, init, next_request, step
from fedseg.clustering.encode import _TOKEN, BoundedFeatures
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.lattice import Lattice, StepTerms
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.schedule import Budget, Profile, Single, step_terms
from fedseg.clustering.statistics import summarize
from fedseg.privacy.budget import PrivacyBudget, rho_of
from fedseg.privacy.noise import SimulatedNoise, discrete_gaussian

Rows = NDArray[np.int32]
Sums = NDArray[np.int64]
Exact = Callable[[Rows, RoundRequest, Lattice], Sums]
"""A unit's exact statistic, flattened."""

DELTA = Fraction(1, 10**6)


def rho_for(epsilon: Fraction | int) -> Fraction:
    """The zCDP of (epsilon, 1e-6)."""
    return rho_of(PrivacyBudget(Fraction(epsilon), DELTA))


def settings_of(
    k: int,
    dimensions: int,
    expected_customers: int,
    *,
    rho: Fraction,
    noises: int = 1,
    seed: int = 7,
    profile: Profile = Profile.STANDARD,
) -> Settings:
    """Settings as a plan makes them."""
    return Settings(k, dimensions, expected_customers, seed, profile, Budget(rho, noises))


def bounds_settings(dimensions: int, expected_customers: int, *, rho: Fraction, noises: int = 1) -> Settings:
    """Settings as a plan for bounds makes them."""
    return Settings(1, dimensions, expected_customers, 7, Single.BOUNDS, Budget(rho, noises))


def terms_of(settings: Settings) -> tuple[StepTerms, ...]:
    """What each unit releases in each round."""
    return step_terms(settings.rounds, settings.dimensions, settings.budget.rho)


def bounded(rows: Rows) -> BoundedFeatures:
    """Rows as `encode` would hand them on."""
    return BoundedFeatures(rows, rows.shape[1], _TOKEN)


def exact(rows: Rows, request: RoundRequest, lattice: Lattice) -> Sums:
    """The real statistic."""
    return summarize(bounded(rows), request, lattice)._values


def clumps(count: int, dimensions: int, groups: int, seed: int, *, spread: float = 0.08) -> Rows:
    """Customers around a few points in the box, whose places depend on the seed."""
    coins = np.random.default_rng(seed)
    centers = coins.uniform(-0.7, 0.7, (groups, dimensions))
    points = centers[coins.integers(groups, size=count)] + coins.normal(scale=spread, size=(count, dimensions))
    return in_box(points * FEATURE_MAX)


def in_box(points: NDArray[np.float64]) -> Rows:
    """Points in encoded units, rounded and clamped."""
    return np.asarray(np.clip(np.rint(points), -FEATURE_MAX, FEATURE_MAX), np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One round of a run."""

    request: RoundRequest
    terms: StepTerms
    exact: tuple[Sums, ...]
    """Of each unit, shape (cells * width,)."""
    released: tuple[Sums, ...]
    """Of each unit with its noise; a single one, of their sum, under a secure sum."""


def play(
    settings: Settings,
    units: Sequence[Rows],
    noise_seed: int,
    *,
    statistic: Exact = exact,
    terms: tuple[StepTerms, ...] | None = None,
) -> tuple[State, list[Turn]]:
    """A whole run: noise at each unit, or, where the settings count a single noise, in the sum of all units alone."""
    plan, source = terms_of(settings) if terms is None else terms, SimulatedNoise(noise_seed)
    state, turns = init(settings), list[Turn]()
    while (request := next_request(state)) is not None:
        now = plan[state.step]
        sums = tuple(statistic(rows, request, now.lattice) for rows in units)
        seen = sums if settings.budget.noises == len(units) else (np.sum(sums, axis=0),)
        noised = tuple(one + discrete_gaussian(now.mechanism.sigma, now.length, source) for one in seen)
        turns.append(Turn(request, now, sums, noised))
        state = step(state, aggregate_of(settings, turns[-1]))
    return state, turns


def aggregate_of(settings: Settings, turn: Turn) -> Aggregate:
    """What the server makes of a round."""
    sums = np.sum(turn.released, axis=0).reshape(turn.terms.cells, turn.terms.width)
    return Aggregate(turn.terms.step, sums, turn.terms, settings.budget.noises)
