"""fedseg's own algorithm on encoded customers of several units, as a federation runs it.

The real thing: requests, cells, clipping, lattice, exact integer noise. What is left out, tables, ledgers and messages,
changes no number.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.trust import Trust
from fedseg.clustering.algorithm import Aggregate, Settings, init, next_request, step
from fedseg.clustering.lattice import StepTerms, fit_lattice
from fedseg.clustering.statistics import customer_vectors
from fedseg.privacy.budget import RHO_GRID, PrivacyBudget, rho_of
from fedseg.privacy.noise import SimulatedNoise, discrete_gaussian

SHARES = (Fraction(1, 5), Fraction(2, 5), Fraction(2, 5))
RADII = (0.8, 0.6, 0.5)


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
    state = init(Settings(k, points.shape[1], RADII, seed))
    while (request := next_request(state)) is not None:
        lattice, mechanism = fit_lattice(Fraction(rho * SHARES[state.step] * RHO_GRID // 1, RHO_GRID), Fraction(1))
        terms = StepTerms(state.step, k, 1 + points.shape[1], lattice, mechanism)
        sums = np.zeros((k, terms.width), np.int64)
        for table in tables:
            labels, vectors = customer_vectors(table, request, lattice)
            np.add.at(sums, labels, vectors)
        for _ in range(noises):
            sums += discrete_gaussian(mechanism.sigma, terms.length, source).reshape(sums.shape)
        state = step(state, Aggregate(state.step, sums, terms, noises))
    return state.centers
