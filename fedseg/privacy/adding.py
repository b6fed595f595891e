"""The loop over customers behind `bounded_sums`, for numba: the same integers as its array operations."""

import numpy as np
from numpy.typing import NDArray


def add_within(
    labels: NDArray[np.uint64],
    columns: NDArray[np.int64],
    entry_max: int,
    squared_max: int,
    sums: NDArray[np.int64],
) -> None:
    """Add each customer's vector to its cell, unless an entry or the vector is too long: then nothing of it.

    Args:
        labels: Each customer's cell, shape (rows,).
        columns: Their vectors, entry by entry, shape (width, rows).
        entry_max: Largest magnitude of an entry; its squares add up to less than 2**63.
        squared_max: Largest ||v||_2^2.
        sums: Is added to, shape (width, cells).
    """
    width, rows = columns.shape
    kept, squares = np.ones(rows, np.int64), np.zeros(rows, np.int64)
    for place in range(width):
        column = columns[place]
        for i in range(rows):
            inside = (column[i] <= entry_max) & (column[i] >= -entry_max)
            entry = column[i] if inside else 0
            squares[i] += entry * entry
            kept[i] &= inside
    for i in range(rows):
        kept[i] &= squares[i] <= squared_max
    for place in range(width):
        column, cells = columns[place], sums[place]
        for i in range(rows):
            cells[labels[i]] += column[i] * kept[i]
