"""The equal parts into which a histogram divides the range of an encoded column."""

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.features import FEATURE_MAX

BINS = 64
"""How many there are."""


def bins(positions: NDArray[np.int32]) -> NDArray[np.int64]:
    """The bin of each encoded value, from 0 to BINS - 1: equal parts of [-FEATURE_MAX, FEATURE_MAX], in integers.

    >>> bins(np.array([-FEATURE_MAX, -1, 0, FEATURE_MAX], np.int32))
    array([ 0, 31, 32, 63])
    """
    found = (positions.astype(np.int64) + FEATURE_MAX) * BINS // (2 * FEATURE_MAX)
    inside: NDArray[np.int64] = np.minimum(found, BINS - 1)
    return inside
