"""Adding up the units' contributions of one step. Pure; the order does not matter, the sums are exact integers."""

from collections.abc import Sequence

import numpy as np

from fedseg.clustering.algorithm import Aggregate
from fedseg.clustering.lattice import StepTerms
from fedseg.server.contribution import Contribution


def aggregate(contributions: Sequence[Contribution], terms: StepTerms) -> Aggregate:
    """The sum over units, shape (cells, width), with the number of noises in it.

    Raises:
        ValueError: If two contributions are of one unit, or one is of another step: a programmer's mistake.
    """
    if len({one.unit for one in contributions}) != len(contributions) or any(
        one.step != terms.step for one in contributions
    ):
        raise ValueError("an aggregate takes one contribution per unit, all of its step")
    sums = np.zeros((terms.cells, terms.width), np.int64)
    for one in contributions:
        sums += one.values
    sums.flags.writeable = False
    return Aggregate(terms.step, sums, terms, len(contributions))
