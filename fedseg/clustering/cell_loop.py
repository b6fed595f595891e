"""The loop over customers behind `customer_vectors`, for numba: the same integers as its array operations."""

import numpy as np
from numpy.typing import NDArray

BLOCK = 256
"""Customers worked on at once: their columns stay in the processor's first cache. No result depends on it."""


def cell_vectors(  # noqa: C901, PLR0912, PLR0917 (one loop with its arguments by position, for the compiler)
    customers: NDArray[np.int32],
    left: NDArray[np.float64],
    mask: int,
    centers: NDArray[np.float64],
    radii: NDArray[np.float64],
    unit: int,
    count_weight: int,
    energy_weight: int,
    labels: NDArray[np.uint64],
    vectors: NDArray[np.int64],
) -> None:
    """Write each customer's cell to `labels` and (count, y, energy) to `vectors`, as `statistics.py` proves them right.

    The energy's quotient is found in floats, at most one off, and then put right in integers.

    Args:
        customers: Encoded, shape (rows, features).
        left: Lines of scores that carry their index, shape (cells, features + 4) with zeros behind the first
            features + 1.
        mask: The bits of a score that hold the index.
        centers: Reference points, shape (features, cells).
        radii: Clip radii, shape (cells,).
        unit: Of the lattice, as both weights.
        count_weight: What a customer adds to a count.
        energy_weight: Energy of a residual as long as the radius.
        labels: Shape (rows,).
        vectors: Shape (features + 2, rows).
    """
    cells, features, rows = len(left), len(centers), len(labels)
    scores, least, squares, scales = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    cell = np.empty(BLOCK, np.uint64)
    columns = np.ones((features + 1, BLOCK))
    enlarged, whole = unit * (1 + 2.0**-48), unit * unit
    for start in range(0, rows, BLOCK):
        size = min(BLOCK, rows - start)
        for f in range(features):
            values = customers[start : start + size, f]
            for i in range(size):
                columns[f, i] = values[i]
        least[:] = np.inf
        for j in range(cells):
            scores[:] = 0.0
            for f in range(0, features + 1, 4):  # four at a time, for the sake of the processor's registers
                a, b = columns[f], columns[min(f + 1, features)]
                c, d = columns[min(f + 2, features)], columns[min(f + 3, features)]
                u, v, w, x = left[j, f], left[j, f + 1], left[j, f + 2], left[j, f + 3]
                for i in range(size):
                    scores[i] += u * a[i] + v * b[i] + w * c[i] + x * d[i]
            for i in range(size):
                least[i] = min(scores[i], least[i])
        for i in range(size):
            cell[i] = min(int(least[i]) & mask, cells - 1)
        labels[start : start + size] = cell[:size]
        squares[:] = 0.0
        for f in range(features):
            column, places = columns[f], centers[f]
            for i in range(size):
                column[i] -= places[cell[i]]
            for i in range(size):
                squares[i] += column[i] * column[i]
        for i in range(size):
            scales[i] = enlarged / max(np.ceil(np.sqrt(squares[i])), radii[cell[i]])
        squares[:] = 0.0
        for f in range(features):
            column, line = columns[f], vectors[f + 1][start : start + size]
            for i in range(size):
                column[i] = np.trunc(column[i] * scales[i])
            for i in range(size):
                squares[i] += column[i] * column[i]
            for i in range(size):
                line[i] = np.int64(column[i])
        line = vectors[features + 1][start : start + size]
        for i in range(size):
            energy = np.int64(squares[i]) * energy_weight
            quotient = np.int64(energy * (1.0 / whole))
            rest = energy - quotient * whole
            line[i] = quotient + (rest >= whole) - (rest < 0)
    vectors[0, :] = count_weight
