"""Encoded customers on the disk, sorted by key in parts, for a unit with more of them than are kept in memory.

The file has no name: other processes cannot open it, and when this one ends, however it ends, the file is gone. Keys
are keyed hashes and so spread evenly: a group of neighbouring ones is a 256th of the customers, and fits in memory.
"""

import errno
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedseg.errors import StorageError
from fedseg.private_file import nameless

GROUP_BITS = 8
"""Leading bits of a key that name its group."""

KEY_COLUMNS = 4
"""A key of two 64-bit words takes the first four 32-bit columns of a record."""

_FIRSTS = np.arange(2**GROUP_BITS, dtype=np.uint64) << np.uint64(64 - GROUP_BITS)


class Spill:
    """Sorted parts of a unit's rows in one file; the file is closed, and gone, with the last use of this."""

    def __init__(self, folder: Path, dimensions: int) -> None:
        """An empty file.

        Raises:
            StorageError: If there can be none in `folder`.
        """
        self._folder, self._width = folder, KEY_COLUMNS + dimensions
        self._parts: list[tuple[int, NDArray[np.int64]]] = []
        """Where in the file each part begins, and at which of its rows each group does, and the last one ends."""
        self._end = 0
        try:
            self._file = nameless(folder)
        except OSError as error:
            raise self._refused(error) from error
        weakref.finalize(self, os.close, self._file)

    def add(self, keys: NDArray[np.uint64], rows: NDArray[np.int32]) -> None:
        """Write a part: rows in the order of their keys.

        Raises:
            StorageError: If the disk is full, or fails.
        """
        records = np.empty((len(rows), self._width), np.int32)
        records[:, :KEY_COLUMNS] = np.ascontiguousarray(keys).view(np.int32)
        records[:, KEY_COLUMNS:] = rows
        starts = np.append(np.searchsorted(keys[:, 0], _FIRSTS), len(rows))
        self._parts.append((self._end, starts))
        left = _bytes_of(records)
        try:
            while left:
                written = os.pwrite(self._file, left, self._end)
                left, self._end = left[written:], self._end + written
        except OSError as error:
            raise self._refused(error) from error

    def groups(self) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int32]]]:
        """Keys and rows of all parts, group by group in the order of the keys; unsorted within a group.

        Raises:
            StorageError: If the disk fails.
        """
        for group in range(2**GROUP_BITS):
            pieces = [(begin, int(starts[group]), int(starts[group + 1])) for begin, starts in self._parts]
            records = np.empty((sum(last - first for _, first, last in pieces), self._width), np.int32)
            filled = 0
            for begin, first, last in pieces:
                self._read(records[filled : (filled := filled + last - first)], begin + first * records.strides[0])
            yield records[:, :KEY_COLUMNS].copy().view(np.uint64), records[:, KEY_COLUMNS:]

    def _read(self, records: NDArray[np.int32], place: int) -> None:
        """Fill `records` from this place in the file on."""
        left = _bytes_of(records)
        try:
            while left:
                read = os.preadv(self._file, [left], place)
                if not read:
                    break
                left, place = left[read:], place + read
        except OSError as error:
            raise self._refused(error) from error
        if left:
            raise self._refused(OSError(errno.EIO, os.strerror(errno.EIO)))

    def _refused(self, error: OSError) -> StorageError:
        return StorageError(
            "the customers do not fit on the disk while they are sorted",
            why=f"{self._folder}: {error.strerror}; nothing was left there",
            fix=f"free space: a customer takes {4 * self._width} bytes, then try again",
        )


def _bytes_of(records: NDArray[np.int32]) -> memoryview:
    return records.reshape(-1).view(np.uint8).data
