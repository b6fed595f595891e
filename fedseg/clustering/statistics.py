"""The statistics a unit computes, in exact integers: sums over cells, the second moment, and histograms.

The whole privacy argument about data is here: each customer becomes one vector, bounded in integers, that depends on
nobody else. `privacy/sensitive.py` then enforces the bound once more while it adds the vectors up.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.bins import BINS, bins
from fedseg.clustering.cell_loop import cell_vectors
from fedseg.clustering.encode import BoundedFeatures
from fedseg.clustering.lattice import Lattice, Statistic
from fedseg.clustering.nearest import columns_of, nearest_of, scoring
from fedseg.clustering.request import RoundRequest
from fedseg.compiled import compiled
from fedseg.privacy.sensitive import Sensitive, sum_of_rows

VECTOR_ENTRIES = 2**16
"""Most entries of customers' vectors worked on at once: they stay in the processor's cache, and memory does not grow
with customers or features. No result depends on it."""


def summarize(features: BoundedFeatures, request: RoundRequest, lattice: Lattice) -> Sensitive:
    """The sum of all customers' vectors, flattened cell by cell; its L2 sensitivity is the lattice's."""
    return sum_of_rows(
        vectors_of(features, request, lattice),
        cells=request.cells,
        width=lattice.width(features.dimensions),
        l2_sensitivity_squared=lattice.l2_sensitivity_squared,
    )


def vectors_of(
    features: BoundedFeatures, request: RoundRequest, lattice: Lattice
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64]]]:
    """Cells and vectors of all customers, some at a time.

    Raises:
        ValueError: If the request is for another number of features.
    """
    if request.centers.shape[1] != features.dimensions:
        raise ValueError("the request's reference points have another number of features than the rows")
    size = max(1, VECTOR_ENTRIES // lattice.width(features.dimensions))
    return (customer_vectors(rows, request, lattice) for rows in features.chunks(size))


def customer_vectors(
    rows: NDArray[np.int32], request: RoundRequest, lattice: Lattice
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Each customer's cell, shape (rows,), and vector, shape (rows, width); a function of that row alone.

    Customer x belongs to the cell j of its nearest reference point c_j. Its residual (x - c_j) / r_j, clipped to the
    unit ball and truncated toward zero onto a lattice of `unit` steps, is y, with ||y||_2 <= unit as proved in
    `bounded_residuals`. The vector is made of y alone; that of a histogram of the row itself.
    """
    left, mask = scoring(request.centers)
    if lattice.statistic is Statistic.CELLS and mask >= 0 and (loop := compiled(cell_vectors)) is not None:
        return _by_loop(loop, rows, request, lattice)
    columns = columns_of(rows)
    labels = nearest_of(columns, left, mask)
    if lattice.statistic is Statistic.HISTOGRAM:
        return labels, histograms(rows, lattice)
    residuals = columns[:-1]
    residuals -= np.take(request.centers.T.astype(np.float64), labels, axis=1)
    bounded = bounded_residuals(residuals, request.radii.astype(np.float64)[labels], lattice.unit)
    if lattice.statistic is Statistic.SECOND_MOMENT:
        return labels, second_moments(bounded, lattice).T
    return labels, counts_and_energies(bounded, lattice).T


def _by_loop(
    loop: Callable[..., None], rows: NDArray[np.int32], request: RoundRequest, lattice: Lattice
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """As `customer_vectors`, of cells, by a compiled loop."""
    if rows.shape[1] != request.centers.shape[1]:  # compiled code would read on beyond the end
        raise ValueError("the request's reference points have another number of features than the rows")
    left, mask = scoring(request.centers)
    labels, vectors = np.empty(len(rows), np.uint64), np.empty((lattice.width(rows.shape[1]), len(rows)), np.int64)
    loop(
        rows,
        np.pad(left, ((0, 0), (0, 3))),
        mask,
        np.ascontiguousarray(request.centers.T, np.float64),
        request.radii.astype(np.float64),
        lattice.unit,
        lattice.count_weight,
        lattice.energy_weight,
        labels,
        vectors,
    )
    return labels.view(np.intp), vectors.T


def counts_and_energies(bounded: NDArray[np.float64], lattice: Lattice) -> NDArray[np.int64]:
    """(a, y, energy) of each customer, with a = `count_weight` and b = `energy_weight`; shape (width, rows).

    L2 norm at most sqrt(a^2 + unit^2 + b^2): the energy floor(b ||y||^2 / unit^2) is at most b, for ||y|| <= unit. Of a
    profile each feature's own floor(b y_i^2 / unit^2) is sent, and the norm of those is at most their sum, so at most b
    again. ||y||^2 <= 2**40 is exact in floats too; b ||y||^2 <= 2**20 * 2**40 is in int64.
    """
    features = len(bounded)
    vectors = np.empty((lattice.width(features), bounded.shape[1]), np.int64)
    vectors[0], vectors[1 : features + 1] = lattice.count_weight, bounded
    energies = vectors[features + 1 :]
    energies[:] = squared_lengths(bounded) if lattice.statistic is Statistic.CELLS else bounded * bounded
    energies *= lattice.energy_weight
    energies //= lattice.unit**2
    return vectors


def second_moments(bounded: NDArray[np.float64], lattice: Lattice) -> NDArray[np.int64]:
    """(z, products) of each customer: z = a y / unit, products w_ij y_i y_j / unit^2 for i <= j; shape (width, rows).

    w_ii = b and w_ij = floor(sqrt(2) b), all truncated toward zero. L2 norm at most sqrt(a^2 + b^2): ||z|| <= a, and
    sum_i b^2 y_i^4 + sum_{i<j} 2 b^2 y_i^2 y_j^2 = b^2 ||y||^4 <= b^2 unit^4, so ||products|| <= b. In int64:
    |w_ij y_i y_j| <= 2**21 * 2**40.
    """
    features, whole = len(bounded), bounded.astype(np.int64)
    vectors = np.empty((lattice.width(features), whole.shape[1]), np.int64)
    vectors[:features] = truncated(whole * lattice.count_weight, lattice.unit)
    weighted, start = whole * lattice.cross_weight, features
    for left in range(features):  # the products of feature `left` with itself and with those after it
        block = vectors[start : (start := start + features - left)]
        np.multiply(whole[left:], weighted[left], out=block)
        block[0] = whole[left] ** 2 * lattice.energy_weight
    vectors[features:] = truncated(vectors[features:], lattice.unit**2)
    return vectors


def histograms(rows: NDArray[np.int32], lattice: Lattice) -> NDArray[np.int64]:
    """Each customer's bins: w = `bin_weight` in that of its value in each column, 0 elsewhere; shape (rows, width).

    L2 norm sqrt(d) w <= unit: whatever its values are, a customer is in exactly one bin of each of the d columns, and
    w <= isqrt(unit^2 // d), so d w^2 <= unit^2.

    Args:
        rows: Shape (rows, columns), entries within +-FEATURE_MAX; column i has the entries [i * BINS, (i + 1) * BINS).
        lattice: Of a histogram.
    """
    count, columns = rows.shape
    vectors = np.zeros((count, columns, BINS), np.int64)
    np.put_along_axis(vectors, bins(rows)[:, :, None], lattice.bin_weight(columns), axis=2)
    return vectors.reshape(count, lattice.width(columns))


def truncated(values: NDArray[np.int64], divisor: int) -> NDArray[np.int64]:
    """Quotients by a positive integer, truncated toward zero: never longer than the exact quotient."""
    quotients: NDArray[np.int64] = np.sign(values) * (np.abs(values) // divisor)
    return quotients


def bounded_residuals(residuals: NDArray[np.float64], radii: NDArray[np.float64], unit: int) -> NDArray[np.float64]:
    """Scale each residual by unit / max(radius, ceil(||residual||_2)), truncating toward zero; whole numbers.

    Proof that ||y||_2 <= unit: let m = max(r, ceil(||v||_2)) >= ||v||_2. Truncation toward zero never lengthens an
    entry, so |y_i| <= unit |v_i| / m and ||y||_2 <= unit ||v||_2 / m <= unit.

    In floats, and exact: |v_i| <= 2**20, unit <= 2**20 and ||v||_2^2 <= 2**12 * 2**40. The integer part of
    q = unit |v_i| / m <= 2**20 is found by a product with a number that is larger than unit / m by a part in 2**48,
    give or take three roundings, each by at most a part in 2**53. So no whole q is missed, and no next one is reached:
    that is at least 1 / m >= 2**-26 away, and 2**20 * (2**-48 + 3 * 2**-53) < 2**-27.

    Args:
        residuals: Shape (features, rows), whole numbers within +-2**20.
        radii: Clip radius of each row's cell, shape (rows,), whole numbers from 1 to 2**25.
        unit: Lattice steps for a residual as long as the radius.
    """
    scales = unit * (1 + 2.0**-48) / np.maximum(radii, ceil_sqrt(squared_lengths(residuals)))
    bounded: NDArray[np.float64] = residuals * scales
    return np.trunc(bounded, out=bounded)


def squared_lengths(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """||x||_2^2 of each column of whole numbers, shape (rows,); exact, as none is beyond 2**52."""
    squares: NDArray[np.float64] = np.ones(len(columns)) @ np.square(columns)
    return squares


def ceil_sqrt(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smallest integer whose square is at least each entry, for whole numbers in [0, 2**52].

    The float root of a square is exact. Any other root lies above a whole q < 2**26, and by at least
    sqrt(q^2 + 1) - q > 2**-27, which is the distance between floats there: as a float, too, it lies above q.

    >>> ceil_sqrt(np.array([0.0, 1, 2, 4, 5, 2**52])).astype(int)
    array([       0,        1,        2,        2,        3, 67108864])
    """
    roots: NDArray[np.float64] = np.ceil(np.sqrt(squares))
    return roots
