"""A unit's statistic in parts, for a unit whose customers are spread over several processes of its own.

Each process encodes complete customers and sums them up; the sums of the parts add up to the very integers that one
process would have found. Partial sums are un-noised: they stay at the unit, and `sum_of_parts` in
`privacy/sensitive.py` makes a `Sensitive` of them, which `release()` alone opens.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.encode import encode
from fedseg.clustering.features import Feature
from fedseg.clustering.lattice import Lattice
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.statistics import vectors_of
from fedseg.policy.gate import ConsentedTable
from fedseg.privacy.sensitive import Sensitive, bounded_sums, sum_of_parts


def partial_sums(
    table: ConsentedTable, features: Sequence[Feature], request: RoundRequest, lattice: Lattice
) -> NDArray[np.int64]:
    """The sums over the customers of `table`, shape (cells * width,), each customer's bound enforced.

    Args:
        table: Rows past the gate that hold all rows of each of their customers: which of several rows counts is
            decided here, so a customer whose rows were in two parts would count twice. They have to fit in memory.
        features: The plan's.
        request: The round's reference points.
        lattice: Of the approved plan.

    Raises:
        ValueError: If columns, features and request do not fit together: a programmer's mistake.
    """
    rows = encode(table, features)
    return bounded_sums(
        vectors_of(rows, request, lattice),
        cells=request.cells,
        width=lattice.width(rows.dimensions),
        l2_sensitivity_squared=lattice.l2_sensitivity_squared,
    )


def whole_of(parts: Iterable[NDArray[np.int64]], dimensions: int, request: RoundRequest, lattice: Lattice) -> Sensitive:
    """The statistic of all customers, from what `partial_sums` found of each part; the same as `summarize` of all.

    Args:
        parts: One of each group of customers, no customer in two of them; in any order.
        dimensions: Encoded columns.
        request: The round's reference points.
        lattice: Of the approved plan.

    Raises:
        ValueError: If a part is none of this request: a programmer's mistake.
    """
    return sum_of_parts(
        parts,
        cells=request.cells,
        width=lattice.width(dimensions),
        l2_sensitivity_squared=lattice.l2_sensitivity_squared,
    )
