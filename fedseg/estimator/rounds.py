"""All rounds of one fit in one process: the units' part, the one door, the server's part.

The units' vectors are laid side by side and pass the door together. So one charge says what all of a customer's units
give away about them, whether the sums are seen unit by unit or only added up.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.algorithm import Aggregate, State, init, next_request, step
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.statistics import VECTOR_ENTRIES, customer_vectors
from fedseg.estimator.account import OpenFit
from fedseg.estimator.terms import FitTerms, Sharing
from fedseg.privacy.noise import Noise, NoiseSource
from fedseg.privacy.sensitive import Sensitive, sum_of_rows


def run_rounds(tables: Sequence[NDArray[np.int32]], terms: FitTerms, fit: OpenFit, source: NoiseSource) -> State:
    """The state after the last round.

    Args:
        tables: Encoded customers of each unit, shape (customers, features); may be empty.
        terms: What is fitted.
        fit: Charged for every round.
        source: Where noise comes from.
    """
    state, blocks = init(terms.settings), terms.sharing.blocks
    while (request := next_request(state)) is not None:
        asked = terms.rounds[state.step]
        noise = Noise.draw(asked.mechanism, blocks * asked.length, source)
        released = fit.release(summarize_units(tables, request, asked, terms.sharing), noise, request, asked, blocks)
        state = step(state, Aggregate(state.step, released.sum(axis=0), asked, blocks))
    return state


def summarize_units(
    tables: Sequence[NDArray[np.int32]], request: RoundRequest, terms: StepTerms, sharing: Sharing
) -> Sensitive:
    """All units' sums, each in the block of its unit, flattened; the sensitivity is that of a customer in several."""

    def vectors() -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64]]]:
        size = max(1, VECTOR_ENTRIES // terms.width)
        for unit, rows in enumerate(tables):
            first = unit % sharing.blocks * terms.cells
            for start in range(0, len(rows), size):
                labels, values = customer_vectors(rows[start : start + size], request, terms.lattice)
                yield first + labels, values

    return sum_of_rows(
        vectors(),
        cells=sharing.blocks * terms.cells,
        width=terms.width,
        l2_sensitivity_squared=sharing.l2_sensitivity_squared(terms),
    )
