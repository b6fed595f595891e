"""`SubjectIndex`: where each of a fixed list of customers stands, for many batches of rows. Pure, exact.

Arrow's own `is_in` builds its hash table anew for every batch; here millions of customers are in order once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ABSENT: Final = -1
"""Place of a customer who is not in the list, and of a row without one."""

AT_ONCE: Final = 2**16
"""Customers looked through at a time, where that takes memory for each."""

NEAR: Final = 2**18
"""How far apart in the list customers may stand who are looked up together: 4 megabytes of a file."""

_WORD_BYTES: Final = 8
_KEY_BYTES: Final = 2 * _WORD_BYTES
"""Length of a customer's key in a table; whoever reads a policy need not know tables for that."""


class Words(Protocol):
    """A place for the first words of customers' keys, or for the second ones, which come some at a time."""

    def add(self, words: NDArray[np.uint64]) -> None:
        """Put these after those that are there."""
        ...

    def whole(self) -> NDArray[np.uint64]:
        """All of them, read-only; none can be added any more."""
        ...

    def let_go(self) -> None:
        """Nothing of `whole` is needed for now: it may leave memory until it is."""
        ...


class WordsInMemory:
    """Words in memory: 8 bytes each, and little more while they grow."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, words: NDArray[np.uint64]) -> None:
        """As `Words.add`."""
        self._bytes += words.tobytes()

    def whole(self) -> NDArray[np.uint64]:
        """As `Words.whole`."""
        return np.frombuffer(memoryview(self._bytes).toreadonly(), np.uint64)

    def let_go(self) -> None:
        """Nothing: they stay."""


def _nothing() -> None:
    """Lets go of nothing: what is in memory stays."""


@dataclass(frozen=True, slots=True, eq=False)
class SubjectIndex:
    """Unique subjects in byte order, as two words each: 16 bytes a customer, in memory or in a mapped file.

    Raises:
        ValueError: If they are out of order, or one stands there twice.
    """

    high: NDArray[np.uint64] = field(repr=False)
    """First word, ascending."""
    low: NDArray[np.uint64] = field(repr=False)
    """Second word, ascending among equal first words."""
    let_go: Callable[[], None] = field(default=_nothing, repr=False)
    """Called when nothing of both is needed for now: what maps a file may let go of it."""
    fences: NDArray[np.uint64] = field(init=False, repr=False)
    """Every NEARth first word, in memory."""

    def __post_init__(self) -> None:
        for start in range(0, len(self.high), AT_ONCE):
            part = slice(max(start - 1, 0), start + AT_ONCE)
            high, low = self.high[part], self.low[part]
            if not ((high[1:] > high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] > low[:-1]))).all():
                raise ValueError("subjects must stand in the list in byte order, and once only")
            self.let_go()
        object.__setattr__(self, "fences", np.fromiter(self._fences(), np.uint64))

    def _fences(self) -> Iterator[np.uint64]:
        for place in range(NEAR, len(self.high), NEAR):
            yield self.high[place]
            self.let_go()

    @classmethod
    def over(cls, subjects: pa.Array) -> Self:
        """The index over `pa.binary(16)` values in any order.

        Raises:
            ValueError: If the subjects are of another type, one is null, or one stands there twice.
        """
        _, high, low = in_byte_order(subjects)
        return cls(high, low)

    def find(self, subjects: pa.Array) -> NDArray[np.int64]:
        """The place of each subject among those of the list in byte order; `ABSENT` for null and for who is not there.

        The walk goes through the list once, in its order.
        """
        high, low = words_of(subjects)
        order = np.argsort(high)
        high, low = high[order], low[order]
        places = np.full(len(order), ABSENT, dtype=np.int64)
        # Who has the first word of a fence is searched for before it, where the first of several with that word may be.
        cuts = np.searchsorted(high, self.fences, side="right")
        for number, (first, end) in enumerate(pairwise((0, *cuts.tolist(), len(high)))):
            if first < end and len(self.high):
                places[first:end] = self._find(high[first:end], low[first:end], number * NEAR)
                self.let_go()
        found = np.empty_like(places)
        found[order] = places
        if subjects.null_count:
            found[subjects.is_null().to_numpy(zero_copy_only=False)] = ABSENT
        return found

    def _find(self, high: NDArray[np.uint64], low: NDArray[np.uint64], start: int) -> NDArray[np.int64]:
        """The place of each; first words ascend. Where keyed hashes agree in 64 bits, their second words decide.

        Args:
            high: First words; the first place of the list without a smaller one is one of the NEAR from `start` on, or
                the one after them.
            low: Second words.
            start: A place.
        """
        last = len(self.high) - 1
        places = np.minimum(start + np.searchsorted(self.high[start : start + NEAR], high), last)
        while True:
            same, others = self.high[places] == high, self.low[places]
            further = same & (others < low) & (places < last)
            if not further.any():
                break
            places[further] += 1
        places[~same | (others != low)] = ABSENT
        return places

    def pieces(self, size: int = AT_ONCE) -> Iterator[pa.FixedSizeBinaryArray]:
        """All subjects in byte order, as `pa.binary(16)`; at most `size` at a time."""
        for start in range(0, len(self.high), size):
            some = slice(start, start + size)
            both = np.stack((self.high[some], self.low[some]), axis=1).astype(">u8")
            self.let_go()
            yield pa.FixedSizeBinaryArray.from_buffers(pa.binary(_KEY_BYTES), len(both), [None, pa.py_buffer(both)])

    def __len__(self) -> int:
        return len(self.high)


def distinct(subjects: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """Each subject once, in byte order, and the place of every subject of the list among them.

    Several times as fast as Arrow's dictionary of a million subjects.
    """
    order, high, low = in_byte_order(subjects)
    is_new = ~_repeats(high, low)
    places = np.empty(len(subjects), dtype=np.int64)
    places[order] = np.cumsum(is_new) - 1
    return subjects.take(pa.array(order[is_new])), places


def in_byte_order(subjects: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Places of the subjects in byte order, and their words in that order.

    Raises:
        ValueError: If the subjects are of another type, or one is null.
    """
    if subjects.type != pa.binary(_KEY_BYTES) or subjects.null_count:
        raise ValueError("subjects must be binary(16) without nulls")
    high, low = words_of(subjects)
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


def words_of(subjects: pa.Array) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Both words of each subject, shape (subjects,) each; whatever bytes lie there for a null."""
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
