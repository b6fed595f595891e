"""Which reference point is nearest to an encoded row: exact, so units and server agree to the last bit."""

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.features import DIMENSIONS_MAX, FEATURE_BITS

EXACT_FLOAT_BITS = 53
"""Integers of smaller magnitude than 2**53 are exact in float64, and so are sums that never leave that range."""

SCORE_ENTRIES = 2**19
"""Most distances worked on at once: they stay in the processor's cache. No result depends on it."""

PRODUCT_SIZE = 2**19
"""Most multiplications in one matrix product: for more, libraries call threads, and these wait longer than they work.
No result depends on it."""


def nearest_center(rows: NDArray[np.int32], centers: NDArray[np.int32]) -> NDArray[np.intp]:
    """Index of the reference point nearest to each row in L2 norm; ties go to the lower index.

    argmin_j ||x - c_j||^2 = argmin_j <(x, 1), (-2 c_j, ||c_j||^2)>. Every operand is an integer, and with d features of
    at most 19 magnitude bits every partial sum is below 3 d 2**38 <= 3 * 2**12 * 2**38 < 2**53. So float64 matrix
    products are exact in any order of summation, on any number of threads and for any batch, and equal distances
    compare equal.
    """
    left, mask = scoring(centers)
    nearest, size = np.empty(len(rows), np.intp), max(1, SCORE_ENTRIES // len(centers))
    for start in range(0, len(rows), size):
        nearest[start : start + size] = nearest_of(columns_of(rows[start : start + size]), left, mask)
    return nearest


def columns_of(rows: NDArray[np.int32]) -> NDArray[np.float64]:
    """The rows feature by feature, and a last line of ones; shape (features + 1, rows).

    Operations on few long lines are several times as fast as on many short rows.
    """
    columns = np.empty((rows.shape[1] + 1, len(rows)))
    columns[:-1], columns[-1] = rows.T, 1.0
    return columns


def nearest_of(columns: NDArray[np.float64], left: NDArray[np.float64], mask: int) -> NDArray[np.intp]:
    """As `nearest_center`, of what `columns_of` makes of rows and `scoring` of reference points."""
    scores = _products(left, columns)
    if mask < 0:
        return np.asarray(np.argmin(scores, axis=0))
    smallest: NDArray[np.intp] = scores.min(axis=0).astype(np.intp)
    smallest &= mask
    return smallest


def scoring(centers: NDArray[np.int32]) -> tuple[NDArray[np.float64], int]:
    """The lines (-2 c_j, ||c_j||^2), shape (cells, features + 1), and the mask of the bits of a score that hold j.

    With room for it in 53 bits, each line is multiplied by a power of two and its score carries j below: the smallest
    of these integers says whose it is, and of equal scores it is that of the lower index. Otherwise the mask is -1.
    """
    cells, dimensions = centers.shape
    bits, index_bits = 2 * (FEATURE_BITS - 1) + 2 + (dimensions - 1).bit_length(), (cells - 1).bit_length()
    if dimensions > DIMENSIONS_MAX or bits > EXACT_FLOAT_BITS:
        raise ValueError(f"at most {DIMENSIONS_MAX} features keep inner products exact, got {dimensions}")
    points = centers.astype(np.float64)
    left = np.column_stack([-2.0 * points, (points * points).sum(axis=1)])
    if bits + index_bits > EXACT_FLOAT_BITS:
        return left, -1
    left *= 2**index_bits
    left[:, -1] += np.arange(cells)
    return left, 2**index_bits - 1


def _products(left: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix product, by parts of at most PRODUCT_SIZE multiplications, unless a few columns are more than that."""
    products, size = np.empty((len(left), columns.shape[1])), max(256, PRODUCT_SIZE // left.size)
    for start in range(0, columns.shape[1], size):
        np.matmul(left, columns[:, start : start + size], out=products[:, start : start + size])
    return products
