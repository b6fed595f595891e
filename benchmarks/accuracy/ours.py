"""fedseg's own algorithm on encoded customers of several units, as a federation runs it.

The real thing: requests, cells, clipping, lattice, exact integer noise. What is left out, tables, ledgers and messages,
changes no number.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.trust import Trust
from fedseg.clustering.algorithm import Aggregate, Settings, State, init, next_request, step
from fedseg.clustering.encode import CHUNK_ROWS
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.schedule import Budget, Profile, step_terms
from fedseg.clustering.statistics import customer_vectors
from fedseg.privacy.budget import PrivacyBudget, rho_of
from fedseg.privacy.noise import NoiseSource, SimulatedNoise, discrete_gaussian


def fedseg_centers(
    points: NDArray[np.int32], k: int, budget: PrivacyBudget, units: NDArray[np.intp], *, trust: Trust, seed: int
) -> NDArray[np.float64]:
    """The released centers in encoded units, shape (k, d), each customer being in one unit only.

    Args:
        points: Encoded customers, shape (n, d), within +-FEATURE_MAX.
        k: Segments.
        budget: Of each customer.
        units: Which unit each customer is in, from 0, shape (n,).
        trust: Under UNIT_NOISE every unit adds the full noise; under SECURE_AGGREGATION, simulated here, only the sum
            over units is seen, with the noise of one.
        seed: Of the noise, from the simulated source, and of the public coins.
    """
    tables = [points[units == unit] for unit in range(int(units.max()) + 1)]
    noises = len(tables) if trust is Trust.UNIT_NOISE else 1
    shares = Budget(rho_of(budget), noises)
    settings = Settings(k, points.shape[1], len(points), seed, Profile.STANDARD, shares)
    return fedseg_state(tables, settings, SimulatedNoise(seed)).segments.astype(np.float64)


def fedseg_state(tables: Sequence[NDArray[np.int32]], settings: Settings, source: NoiseSource) -> State:
    """The algorithm's state after all rounds, with as many noises in a sum as the settings' budget has.

    Args:
        tables: Encoded customers of each unit, shape (customers, d).
        settings: What a plan would say.
        source: Of the noise.
    """
    plan, state = step_terms(settings.rounds, settings.dimensions, settings.budget.rho), init(settings)
    while (request := next_request(state)) is not None:
        terms = plan[state.step]
        sums = _sums(tables, request, terms)
        for _ in range(settings.budget.noises):
            sums += discrete_gaussian(terms.mechanism.sigma, terms.length, source).reshape(sums.shape)
        state = step(state, Aggregate(state.step, sums, terms, settings.budget.noises))
    return state


def _sums(tables: Sequence[NDArray[np.int32]], request: RoundRequest, terms: StepTerms) -> NDArray[np.int64]:
    """What the units' statistics add up to, before noise; shape (cells, width)."""
    sums = np.zeros((terms.cells, terms.width), np.int64)
    for table in tables:
        for start in range(0, len(table), CHUNK_ROWS):
            labels, vectors = customer_vectors(table[start : start + CHUNK_ROWS], request, terms.lattice)
            order = np.argsort(labels, kind="stable")
            present, starts = np.unique(labels[order], return_index=True)
            sums[present] += np.add.reduceat(vectors[order], starts, axis=0)
    return sums
