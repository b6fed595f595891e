"""The keys of customers whom the gate decided on, on the disk, for a unit with more of them than are kept in memory.

The file has no name, as that of encoded customers (`clustering/spill.py`), and is mapped: the system reads what is
looked at. A key that the disk has lost is not found, and its customer not counted; the decisions stay in memory.
"""

import mmap
import os
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedseg.errors import StorageError
from fedseg.private_file import nameless

MEMORY_BYTES = 2**24
"""Words that take more, such as those of two million customers, go to the disk. No result depends on it."""


class WordsOnDisk:
    """`Words` in memory, or of many customers in a file; it is closed, and gone, with the last use of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rest = bytearray()
        """What is not in the file."""
        self._file: int | None = None
        self._map: mmap.mmap | None = None

    def add(self, words: NDArray[np.uint64]) -> None:
        """As `Words.add`.

        Raises:
            StorageError: If there can be no file in the folder, the disk is full, or it fails.
        """
        self._rest += words.tobytes()
        if len(self._rest) > MEMORY_BYTES:
            self._write()

    def whole(self) -> NDArray[np.uint64]:
        """As `Words.whole`.

        Raises:
            StorageError: As `add`.
        """
        if self._file is None:
            return np.frombuffer(memoryview(self._rest).toreadonly(), np.uint64)
        file = self._write()
        try:
            self._map = mmap.mmap(file, 0, prot=mmap.PROT_READ)
        except OSError as error:
            raise self._refused(error) from error
        return np.frombuffer(self._map, np.uint64)

    def let_go(self) -> None:
        """As `Words.let_go`."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)

    def _write(self) -> int:
        """Put the rest into the file."""
        left = memoryview(self._rest)
        try:
            if self._file is None:
                self._file = nameless(self._folder)
                weakref.finalize(self, os.close, self._file)
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            raise self._refused(error) from error
        self._rest = bytearray()
        return self._file

    def _refused(self, error: OSError) -> StorageError:
        return StorageError(
            "the keys of the customers who were decided on do not fit on the disk",
            why=f"{self._folder}: {error.strerror}; nothing was left there",
            fix="free space: a customer takes 16 bytes, then try again",
        )
