"""fedseg's own algorithm on encoded customers of several units, as a federation runs it.

The real thing: requests, cells, clipping, lattice, exact integer noise. What is left out, tables, ledgers and messages,
changes no number.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.trust import Trust
from fedseg.clustering.algorithm import Aggregate, Settings, init, next_request, step
from fedseg.clustering.encode import CHUNK_ROWS
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.schedule import Budget, Profile, step_terms
from fedseg.clustering.statistics import customer_vectors
from fedseg.privacy.budget import PrivacyBudget, rho_of
from fedseg.privacy.noise import SimulatedNoise, discrete_gaussian


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
    rho, source = rho_of(budget), SimulatedNoise(seed)
    tables = [points[units == unit] for unit in range(int(units.max()) + 1)]
    noises = len(tables) if trust is Trust.UNIT_NOISE else 1
    settings = Settings(k, points.shape[1], len(points), seed, Profile.STANDARD, Budget(rho, noises))
    plan, state = step_terms(settings.rounds, settings.dimensions, rho), init(settings)
    while (request := next_request(state)) is not None:
        terms = plan[state.step]
        sums = _sums(tables, request, terms)
        for _ in range(noises):
            sums += discrete_gaussian(terms.mechanism.sigma, terms.length, source).reshape(sums.shape)
        state = step(state, Aggregate(state.step, sums, terms, noises))
    assert state.centers is not None
    return state.centers.astype(np.float64)


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
