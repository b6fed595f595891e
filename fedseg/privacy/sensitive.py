"""`Sensitive`: a sum over customers on an integer lattice, together with the sensitivity that was enforced row by row.

It has no array form, no pickle, no copy, and a `repr` without values: the only way out is `release()`.
"""

from collections.abc import Iterable
from dataclasses import InitVar, dataclass
from typing import NoReturn, final

import numpy as np
from numpy.typing import NDArray

from fedseg.compiled import compiled
from fedseg.privacy.adding import add_within

ENTRY_MAX = 2**22
"""Largest magnitude of one entry of one customer's vector; keeps squared norms within 64 bits."""

WIDTH_MAX = 2**15
"""Most entries per cell."""


SQUARED_MAX = WIDTH_MAX * ENTRY_MAX**2
"""Largest ||v||_2^2 of a vector that may count at all, below 2**63."""

PRODUCT_CELLS = 16
"""Up to so many cells matrix products add up faster than counting does. No result depends on it."""

PRODUCT_ROWS = 2**11
"""Rows in such a product: for more, libraries call threads, which wait more than they work. No result depends on it."""


class _Token:
    """Only this module holds one, so only `sum_of_rows` mints a `Sensitive`."""


_TOKEN = _Token()


@final
@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Sensitive:
    """An un-noised sum of one bounded integer vector per customer, flattened cell by cell."""

    _values: NDArray[np.int64]
    length: int
    """Number of integers: public, from the plan."""
    l2_sensitivity_squared: int
    """How far one customer more or less can move it, squared, in lattice steps; enforced when it was summed."""
    token: InitVar[_Token]

    def __post_init__(self, token: _Token) -> None:
        if token is not _TOKEN:
            raise TypeError("a Sensitive is minted by sum_of_rows() only")

    def __repr__(self) -> str:
        return f"Sensitive(length={self.length})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Sensitive leaves its unit through release() only: it cannot be pickled or copied")

    def __array__(
        self, dtype: object = None, copy: object = None
    ) -> NoReturn:  # NumPy would otherwise wrap it as an object
        raise TypeError("a Sensitive has no array form; use release()")


def sum_of_rows(
    chunks: Iterable[tuple[NDArray[np.intp], NDArray[np.int64]]],
    *,
    cells: int,
    width: int,
    l2_sensitivity_squared: int,
) -> Sensitive:
    """Add up one vector per customer, each in its cell's block, and enforce the bound on each of them.

    The sums are those of `bounded_sums`, so adding or removing one customer moves them by at most the stated
    sensitivity in L2 norm, whatever made the rows.

    Raises:
        ValueError: If a shape or a cell index is impossible: a programmer's mistake.
    """
    sums = bounded_sums(chunks, cells=cells, width=width, l2_sensitivity_squared=l2_sensitivity_squared)
    return sum_of_parts([sums], cells=cells, width=width, l2_sensitivity_squared=l2_sensitivity_squared)


def sum_of_parts(
    parts: Iterable[NDArray[np.int64]], *, cells: int, width: int, l2_sensitivity_squared: int
) -> Sensitive:
    """Add up sums of parts of a unit's customers: the same integers as of all at once.

    Each part must come from `bounded_sums` with the same bound, in a process of this unit, and no customer may be in
    two parts. Then one customer more or less changes one part, and that by at most the stated sensitivity.

    Args:
        parts: Arrays of shape (cells * width,); their magnitudes add up to less than 2**63 for 2**41 customers.
        cells: Number of blocks.
        width: Entries per block.
        l2_sensitivity_squared: The bound that was enforced on every customer.

    Raises:
        ValueError: If a part has another shape or type: a programmer's mistake.
    """
    values = np.zeros(cells * width, np.int64)
    for part in parts:
        if part.dtype != np.int64 or part.shape != values.shape:
            raise ValueError("a part must hold the int64 sums of every cell, flattened")
        values += part
    values.flags.writeable = False
    return Sensitive(values, cells * width, l2_sensitivity_squared, _TOKEN)


def bounded_sums(
    chunks: Iterable[tuple[NDArray[np.intp], NDArray[np.int64]]],
    *,
    cells: int,
    width: int,
    l2_sensitivity_squared: int,
) -> NDArray[np.int64]:
    """The bare sums of some of a unit's customers, shape (cells * width,): un-noised, for `sum_of_parts` alone.

    A customer's vector v in cell j adds v to entries [j * width, (j + 1) * width). A vector with ||v||_2^2 above
    `l2_sensitivity_squared` adds nothing at all, a treatment of that row alone. So adding or removing one customer
    moves the sum by at most the stated sensitivity in L2 norm whatever made the rows: the bound is not trusted.

    All sums are exact: int64, |entry| <= 2**22, so up to 2**41 customers fit; squared norms stay below
    2**15 * 2**44 < 2**63.

    Args:
        chunks: Pairs of cell indices, shape (rows,), and vectors, shape (rows, width), one row a customer.
        cells: Number of blocks.
        width: Entries per block.
        l2_sensitivity_squared: The bound, from the lattice of the approved plan.

    Raises:
        ValueError: If a shape or a cell index is impossible: a programmer's mistake.
    """
    if not 1 <= width <= WIDTH_MAX or cells < 1:
        raise ValueError(f"a block holds 1 to {WIDTH_MAX} entries, and there is at least one")
    sums, loop = np.zeros((width, cells), np.int64), compiled(add_within)
    for labels, rows in chunks:
        if rows.dtype != np.int64 or rows.ndim != 2 or rows.shape != (len(labels), width):  # noqa: PLR2004 (a matrix)
            raise ValueError("a chunk must hold int64 rows of the stated width, one label each")
        if len(labels) == 0:
            continue
        if not 0 <= int(labels.min()) <= int(labels.max()) < cells:
            raise ValueError("a label names no cell")
        if loop is None:
            kept = _within(rows, l2_sensitivity_squared)
            sums += _by_cell(labels[kept], rows[kept], cells) if not kept.all() else _by_cell(labels, rows, cells)
        else:
            columns = np.ascontiguousarray(rows.T)
            loop(labels.astype(np.uint64), columns, ENTRY_MAX, min(l2_sensitivity_squared, SQUARED_MAX), sums)
    return sums.T.ravel()


def _within(rows: NDArray[np.int64], squared: int) -> NDArray[np.bool_]:
    """Which rows have no entry beyond +-ENTRY_MAX and ||v||_2^2 <= `squared`; each by itself."""
    if int(rows.min()) >= -ENTRY_MAX and int(rows.max()) <= ENTRY_MAX:
        return np.asarray(np.einsum("ij,ij->i", rows, rows) <= squared)
    # Otherwise the squares of some would leave 64 bits: these do not count, and are no longer looked at.
    small = (rows.max(axis=1) <= ENTRY_MAX) & (rows.min(axis=1) >= -ENTRY_MAX)
    small[small] = _within(rows[small], squared) if small.any() else False
    return np.asarray(small)


def _by_cell(labels: NDArray[np.intp], rows: NDArray[np.int64], cells: int) -> NDArray[np.int64]:
    """The sum of each cell's rows, shape (width, cells); exact in floats too, as 2**31 rows * 2**22 = 2**53."""
    values = rows.astype(np.float64)
    if cells > PRODUCT_CELLS:
        return np.stack([np.bincount(labels, column, cells) for column in values.T]).astype(np.int64)
    sums, numbers = np.zeros((cells, rows.shape[1])), np.arange(cells)[:, None]
    for start in range(0, len(labels), PRODUCT_ROWS):
        some = labels[start : start + PRODUCT_ROWS]
        members = np.equal(some, numbers, out=np.empty((cells, len(some))))
        sums += members @ values[start : start + PRODUCT_ROWS]
    return sums.T.astype(np.int64)
