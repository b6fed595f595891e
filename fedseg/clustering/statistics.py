"""The statistic a unit computes: per cell the count and the sum of clipped residuals, in exact integers.

The whole privacy argument about data is here: each customer becomes one vector, bounded in integers, that depends on
nobody else. `privacy/sensitive.py` then enforces the bound once more while it adds the vectors up.
"""

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.encode import BoundedFeatures
from fedseg.clustering.features import DIMENSIONS_MAX, FEATURE_BITS
from fedseg.clustering.lattice import CellLattice
from fedseg.clustering.request import RoundRequest
from fedseg.privacy.sensitive import Sensitive, sum_of_rows

EXACT_FLOAT_BITS = 53
"""Integers of smaller magnitude than 2**53 are exact in float64, and so are sums that never leave that range."""


def cell_sums(features: BoundedFeatures, request: RoundRequest, lattice: CellLattice) -> Sensitive:
    """Sum (count_weight, clipped residual) over the customers of each cell.

    Customer x belongs to the cell j of its nearest reference point and adds (a, y) to block j, where a is
    `lattice.count_weight` and y the residual (x - c_j) / r_j, clipped to the unit ball and truncated toward zero
    onto a lattice of `lattice.unit` steps.

    L2 sensitivity (add or remove one customer): sqrt(a**2 + unit**2), because one customer touches one block and
    ||y||_2 <= unit, as proved in `bounded_residuals`.

    Shape of the result: (cells, 1 + features), flattened.
    """
    if request.centers.shape[1] != features.dimensions:
        raise ValueError("the request's reference points have another number of features than the rows")
    return sum_of_rows(
        (customer_vectors(rows, request, lattice) for rows in features.chunks()),
        cells=request.cells,
        width=1 + features.dimensions,
        l2_sensitivity_squared=lattice.l2_sensitivity_squared,
    )


def customer_vectors(
    rows: NDArray[np.int32], request: RoundRequest, lattice: CellLattice
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Each customer's cell, shape (rows,), and vector, shape (rows, 1 + features); a function of that row alone."""
    labels = nearest_center(rows, request.centers)
    residuals = rows.astype(np.int64) - request.centers[labels]
    vectors = np.empty((len(rows), 1 + rows.shape[1]), np.int64)
    vectors[:, 0] = lattice.count_weight
    vectors[:, 1:] = bounded_residuals(residuals, request.radii[labels].astype(np.int64), lattice.unit)
    return labels, vectors


def nearest_center(rows: NDArray[np.int32], centers: NDArray[np.int32]) -> NDArray[np.intp]:
    """Index of the reference point nearest to each row in L2 norm; ties go to the lower index.

    argmin_j ||x - c_j||^2 = argmin_j (||c_j||^2 - 2 <x, c_j>). Every operand is an integer of at most 19 magnitude
    bits, every product has at most 38, and with d features every partial sum of either term is below
    3 d 2**38 <= 3 * 2**12 * 2**38 < 2**53. So float64 matrix products are exact in any order of summation, on any
    number of threads and for any batch, and equal distances compare equal.
    """
    dimensions = rows.shape[1]
    bits = 2 * (FEATURE_BITS - 1) + 2 + (dimensions - 1).bit_length()
    if dimensions > DIMENSIONS_MAX or bits > EXACT_FLOAT_BITS:
        raise ValueError(f"at most {DIMENSIONS_MAX} features keep inner products exact, got {dimensions}")
    points = centers.astype(np.float64)
    scores = (points * points).sum(axis=1) - 2.0 * (rows.astype(np.float64) @ points.T)
    nearest: NDArray[np.intp] = np.argmin(scores, axis=1)
    return nearest


def bounded_residuals(residuals: NDArray[np.int64], radii: NDArray[np.int64], unit: int) -> NDArray[np.int64]:
    """Scale each residual by unit / max(radius, ceil(||residual||_2)), truncating toward zero.

    Proof that ||y||_2 <= unit: let m = max(r, ceil(||v||_2)) >= ||v||_2. Truncation toward zero never lengthens an
    entry, so |y_i| <= unit |v_i| / m and ||y||_2 <= unit ||v||_2 / m <= unit. All in integers: |v_i| <= 2**20,
    unit <= 2**20, and ||v||_2^2 <= 2**12 * 2**40 < 2**53, so its float square root starts within one of the true one.

    Args:
        residuals: Shape (rows, features), entries within +-2**20.
        radii: Clip radius of each row's cell, shape (rows,), at least 1.
        unit: Lattice steps for a residual as long as the radius.
    """
    lengths = ceil_sqrt(np.einsum("ij,ij->i", residuals, residuals))
    divisors = np.maximum(radii, lengths)[:, None]
    bounded: NDArray[np.int64] = np.sign(residuals) * (np.abs(residuals) * unit // divisors)
    return bounded


def ceil_sqrt(squares: NDArray[np.int64]) -> NDArray[np.int64]:
    """Smallest integer whose square is at least each entry, for entries in [0, 2**53).

    >>> ceil_sqrt(np.array([0, 1, 2, 4, 5, 2**52, 2**52 + 1]))
    array([       0,        1,        2,        2,        3, 67108864, 67108865])
    """
    roots = np.sqrt(squares.astype(np.float64)).astype(np.int64)
    roots -= (roots > 0) & ((roots - 1) * (roots - 1) >= squares)
    roots += roots * roots < squares
    return roots
