"""`SubjectIndex`: where each of a fixed list of customers stands, for many batches of rows. Pure, exact.

Arrow's own `is_in` builds its hash table anew for every batch; here a million customers are sorted once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ABSENT: Final = -1
"""Place of a customer who is not in the list, and of a row without one."""

_AT_ONCE: Final = 2**16

_WORD_BYTES: Final = 8
_KEY_BYTES: Final = 2 * _WORD_BYTES
"""Length of a customer's key in a table; whoever reads a policy need not know tables for that."""


@dataclass(frozen=True, slots=True, eq=False)
class SubjectIndex:
    """Unique subjects in byte order, as two big-endian words each."""

    high: NDArray[np.uint64] = field(repr=False)
    """First word, ascending."""
    low: NDArray[np.uint64] = field(repr=False)
    """Second word, ascending among equal first words."""
    places: NDArray[np.int64] | None = field(repr=False)
    """Where the subject stood in the list; None if that was in byte order, as it is where millions are folded."""
    longest_run: int
    """Most subjects with the same first word: 1, unless two keyed hashes collide in 64 bits."""

    @classmethod
    def over(cls, subjects: pa.Array) -> Self:
        """The index over `pa.binary(16)` values.

        Raises:
            ValueError: If the subjects are of another type, one is null, or one stands there twice.
        """
        if subjects.type != pa.binary(_KEY_BYTES) or subjects.null_count:
            raise ValueError("subjects must be binary(16) without nulls")
        places, high, low = _in_byte_order(subjects)
        if _repeats(high, low).any():
            raise ValueError("a subject may stand in the list once only")
        starts = np.flatnonzero(np.concatenate(([True], high[1:] != high[:-1], [True])))
        moved = None if (places[1:] > places[:-1]).all() else places
        return cls(high, low, moved, int(np.diff(starts).max(initial=0)) if len(high) else 0)

    def find(self, subjects: pa.Array) -> NDArray[np.int64]:
        """The place of each subject in the list; `ABSENT` for null and for who is not there."""
        high, low = _words(subjects)
        present = subjects.is_valid().to_numpy(zero_copy_only=False)
        # Asked in order, the search walks through the list once instead of leaping about in it.
        order = np.argsort(high)
        first = np.empty(len(high), dtype=np.int64)
        first[order] = np.searchsorted(self.high, high[order])
        found = np.full(len(subjects), ABSENT, dtype=np.int64)
        for step in range(self.longest_run):
            at = np.minimum(first + step, len(self.high) - 1)
            hit = present & (self.high[at] == high) & (self.low[at] == low)
            found[hit] = at[hit] if self.places is None else self.places[at[hit]]
        return found

    def sorted_bytes(self) -> Iterator[bytes]:
        """All subjects, one after the other, in byte order; some at a time."""
        for start in range(0, len(self.high), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            yield np.stack((self.high[some], self.low[some]), axis=1).astype(">u8").tobytes()

    def in_order(self, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What stands beside the list, one for each subject, in byte order of the subjects."""
        return codes if self.places is None else codes[self.places]


def distinct(subjects: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """Each subject once, in byte order, and the place of every subject of the list among them.

    Several times as fast as Arrow's dictionary of a million subjects.
    """
    order, high, low = _in_byte_order(subjects)
    is_new = ~_repeats(high, low)
    places = np.empty(len(subjects), dtype=np.int64)
    places[order] = np.cumsum(is_new) - 1
    return subjects.take(pa.array(order[is_new])), places


def _in_byte_order(subjects: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Places of the subjects in byte order, and their words in that order."""
    high, low = _words(subjects)
    places = np.argsort(high)
    # Where keyed hashes agree in 64 bits their second words decide, which takes ten times as long.
    if (_repeats(high[places]) & ~_repeats(low[places])).any():
        places = np.lexsort((low, high))
    return places.astype(np.int64), high[places], low[places]


def _repeats(*columns: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each row is the same as the one before it."""
    same = np.ones(len(columns[0]), dtype=np.bool_)
    same[:1] = False
    for column in columns:
        same[1:] &= column[1:] == column[:-1]
    return same


def _words(subjects: pa.Array) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Both words of each subject; whatever bytes lie there for a null."""
    words_per_subject = _KEY_BYTES // _WORD_BYTES
    if not len(subjects):
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    words = np.frombuffer(
        subjects.buffers()[1],
        dtype=">u8",
        count=len(subjects) * words_per_subject,
        offset=subjects.offset * _KEY_BYTES,
    ).astype(np.uint64)
    return words[0::2], words[1::2]
