"""Which reference point is nearest to an encoded row: exact, so units and server agree to the last bit."""

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.features import DIMENSIONS_MAX, FEATURE_BITS

EXACT_FLOAT_BITS = 53
"""Integers of smaller magnitude than 2**53 are exact in float64, and so are sums that never leave that range."""

SCORE_ENTRIES = 2**19
"""Most distances worked on at once: they stay in the processor's cache. No result depends on it."""


def nearest_center(rows: NDArray[np.int32], centers: NDArray[np.int32]) -> NDArray[np.intp]:
    """Index of the reference point nearest to each row in L2 norm; ties go to the lower index.

    argmin_j ||x - c_j||^2 = argmin_j <(x, 1), (-2 c_j, ||c_j||^2)>. Every operand is an integer, and with d features of
    at most 19 magnitude bits every partial sum is below 3 d 2**38 <= 3 * 2**12 * 2**38 < 2**53. So float64 matrix
    products are exact in any order of summation, on any number of threads and for any batch, and equal distances
    compare equal.
    """
    dimensions = rows.shape[1]
    bits = 2 * (FEATURE_BITS - 1) + 2 + (dimensions - 1).bit_length()
    if dimensions > DIMENSIONS_MAX or bits > EXACT_FLOAT_BITS:
        raise ValueError(f"at most {DIMENSIONS_MAX} features keep inner products exact, got {dimensions}")
    points = centers.astype(np.float64)
    right = np.vstack([-2.0 * points.T, (points * points).sum(axis=1)])
    nearest, size = np.empty(len(rows), np.intp), max(1, SCORE_ENTRIES // len(centers))
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        left = np.ones((len(some), dimensions + 1))
        left[:, :-1] = some
        np.argmin(left @ right, axis=1, out=nearest[start : start + size])
    return nearest
