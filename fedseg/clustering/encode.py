"""From consented rows to `BoundedFeatures`: one bounded integer row per customer.

Every row is treated by itself: missing and odd values get the plan's public treatment, of a customer's several
rows the lexicographically smallest encoded one counts. So one customer more or less changes one row, never another's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import NoReturn, final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fedseg.clustering.features import Feature
from fedseg.clustering.spill import KEY_COLUMNS, Spill
from fedseg.policy.gate import ConsentedTable
from fedseg.table import SUBJECT

CHUNK_ROWS = 8192
"""Rows handed to a statistic at a time; no result depends on it."""

MEMORY_BYTES = 2**24
"""Customers that take more, such as 300,000 of ten columns, are kept on the disk. No result depends on it."""


class _Token:
    """Only this module holds one, so only `encode` mints `BoundedFeatures`."""


_TOKEN = _Token()


@final
@dataclass(frozen=True, slots=True, repr=False, eq=False)
class BoundedFeatures:
    """Encoded customers of one unit, shape (customers, dimensions), int32 within +-FEATURE_MAX, one row a customer.

    Minted by `encode` only. Stays at the unit: no pickle, no copy, a `repr` without values.
    """

    _rows: NDArray[np.int32] | Spill
    """All rows; or, of many customers, their parts."""
    dimensions: int
    """Number of encoded columns: public, from the plan."""
    token: InitVar[_Token]

    def __post_init__(self, token: _Token) -> None:
        if token is not _TOKEN:
            raise TypeError("BoundedFeatures are minted by encode() only")

    def chunks(self, size: int = CHUNK_ROWS) -> Iterator[NDArray[np.int32]]:
        """The rows in slices of at most `size`, in the order of their keys; none for a unit without customers.

        Raises:
            StorageError: If the disk fails that holds them.
        """
        for rows in _groups(self._rows):
            rows.flags.writeable = False
            for start in range(0, len(rows), size):
                yield rows[start : start + size]

    def __repr__(self) -> str:
        return f"BoundedFeatures(dimensions={self.dimensions})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("BoundedFeatures stay at their unit: they cannot be pickled or copied")


def encode(table: ConsentedTable, features: Sequence[Feature], scratch: Path | None = None) -> BoundedFeatures:
    """Encode the rows that passed the gate, in the order of their subject keys.

    Args:
        table: The rows.
        features: The plan's.
        scratch: The unit's folder, in which customers that take more than MEMORY_BYTES are kept in a file without a
            name while they are sorted. Without it all stay in memory.

    Raises:
        ValueError: If the table's columns are not the plan's features: the caller asked the gate for others.
        StorageError: If the disk is full, or fails. Nothing is left there.
    """
    wanted = tuple(feature.column for feature in features)
    if table.columns != wanted:
        raise ValueError(f"the table holds {table.columns}, the plan wants {wanted}")
    dimensions = sum(feature.width for feature in features)
    keys: list[NDArray[np.uint64]] = [np.empty((0, 2), np.uint64)]
    rows: list[NDArray[np.int32]] = [np.empty((0, dimensions), np.int32)]
    spill: Spill | None = None
    for batch in table.batches():
        keys.append(_key_words(batch.column(SUBJECT)))
        rows.append(np.column_stack([feature.encode(batch.column(feature.name)) for feature in features]))
        if scratch is not None and sum(map(len, rows)) * 4 * (KEY_COLUMNS + dimensions) > MEMORY_BYTES:
            spill = Spill(scratch, dimensions) if spill is None else spill
            spill.add(*_one_each(np.concatenate(keys), np.concatenate(rows)))
            del keys[1:], rows[1:]
    if spill is None:
        return BoundedFeatures(_smallest_per_key(np.concatenate(keys), np.concatenate(rows)), dimensions, _TOKEN)
    spill.add(*_one_each(np.concatenate(keys), np.concatenate(rows)))
    return BoundedFeatures(spill, dimensions, _TOKEN)


def _key_words(subjects: pa.FixedSizeBinaryArray) -> NDArray[np.uint64]:
    """The 16-byte keys as two words each, shape (rows, 2); the gate has left out rows without a key."""
    if len(subjects) == 0:
        return np.empty((0, 2), np.uint64)
    words = np.frombuffer(subjects.buffers()[1], dtype=">u8").reshape(-1, 2)
    return words[subjects.offset : subjects.offset + len(subjects)].astype(np.uint64)


def _groups(rows: NDArray[np.int32] | Spill) -> Iterator[NDArray[np.int32]]:
    """Customers in groups that fit in memory, a row each."""
    if isinstance(rows, Spill):
        yield from (_smallest_per_key(*group) for group in rows.groups())
    else:
        yield rows


def _smallest_per_key(keys: NDArray[np.uint64], rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Of each key's rows the lexicographically smallest, in key order: a rule that no other customer can change."""
    return _one_each(keys, rows)[1]


def _one_each(keys: NDArray[np.uint64], rows: NDArray[np.int32]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Each key once, in order, and its smallest row; of some of a key's rows and all others, so that of all."""
    order = _in_order(keys)
    keys, rows = keys[order], rows[order]
    as_before = np.zeros(len(rows) + 1, np.bool_)  # whether a row has the key of the one before it
    as_before[1:-1] = (keys[1:] == keys[:-1]).all(axis=1)
    several = as_before[:-1] | as_before[1:]
    # Only customers with several rows have rows to sort; there are few, and columns may be many.
    among, owners = rows[several], keys[several]
    rows[several] = among[np.lexsort((*among.T[::-1], owners[:, 1], owners[:, 0]))]
    first = ~as_before[:-1]
    return keys[first], rows[first]


def _in_order(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Places of the keys in their order. First words decide it, unless two keyed hashes agree in 64 bits."""
    places = np.argsort(keys[:, 0])
    found = keys[places]
    shared = (found[1:, 0] == found[:-1, 0]) & (found[1:, 1] != found[:-1, 1])
    return np.lexsort((keys[:, 1], keys[:, 0])) if shared.any() else places
