"""How customers are divided among Spark's tasks, and the tasks' answers put together again. Pure.

A part is a number that a customer's pseudonym alone decides. Rows, decisions of the gate, and one line for each part
itself go where the number says. So a task sees all of its customers and all that was decided about them, and every part
answers, also one without customers. What Spark repeats, be it a task that failed or one that was slow, is counted once
or refused here: that the sum holds each customer once does not rest on Spark's word.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fedseg.errors import DataError
from fedseg.policy.gate import Decisions

PART, KEY, CODE = "part", "key", "code"
"""Columns of what is divided: the part; the pseudonym, null in a part's own line; of a decision its `Reason`."""

_ENTRY_BYTES: Final = 8


def placeholders(columns: Sequence[object]) -> list[str]:
    """What the source's columns are called meanwhile: c0, c1, ..."""
    return [f"c{number}" for number in range(len(columns))]


def parts_of(keys: pa.FixedSizeBinaryArray, parts: int) -> NDArray[np.int32]:
    """The part of each customer, shape (keys,), from 0.

    Args:
        keys: Pseudonyms, `pa.binary(16)`, no nulls.
        parts: How many there are.
    """
    if len(keys) == 0:
        return np.empty(0, np.int32)
    words = np.frombuffer(keys.buffers()[1], ">u8").reshape(-1, 2)[keys.offset : keys.offset + len(keys), 0]
    return (words % np.uint64(parts)).astype(np.int32)


def decided(decisions: Decisions, parts: int, size: int) -> Iterator[pa.Table]:
    """A line for each part, in the first table, and one for each decision, of which a table has at most `size`."""
    numbers = np.arange(parts, dtype=np.int32)
    first = pa.table({PART: numbers, KEY: pa.nulls(parts, pa.binary()), CODE: pa.nulls(parts, pa.int16())})
    for subjects, codes in decisions.pieces(size):
        lines = {PART: parts_of(subjects, parts), KEY: subjects.cast(pa.binary()), CODE: codes.astype(np.int16)}
        yield pa.concat_tables([first, pa.table(lines)])
        first = first.slice(parts)
    if len(first):  # nobody was decided on
        yield first


def each_once(answers: Iterable[tuple[int, bytes]], parts: int, length: int) -> Iterator[NDArray[np.int64]]:
    """The sums of the parts, in the order in which they come.

    Args:
        answers: Pairs of a part and the bytes of its sums, 64-bit integers with the low byte first.
        parts: How many there are.
        length: Integers of each.

    Raises:
        DataError: If a part answers twice, or not at all, or with something else; at the latest after the last.
    """
    waiting = set(range(parts))
    for number, data in answers:
        if number not in waiting or len(data) != _ENTRY_BYTES * length:
            raise _not_whole(f"part {number} answered more than once, or with something else than its sums")
        waiting.remove(number)
        yield np.frombuffer(data, "<i8").astype(np.int64)
    if waiting:
        raise _not_whole(f"{len(waiting)} of {parts} parts did not answer")


def _not_whole(why: str) -> DataError:
    return DataError(
        "Spark's answer is not the sum over all customers, each once",
        why=why,
        fix="nothing was released and nothing charged: see Spark's own log, and ask again",
    )
