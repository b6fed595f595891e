"""A sum enforces its sensitivity on every customer's vector, whoever made the vectors, and shows nothing of itself."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.privacy.sensitive import ENTRY_MAX, WIDTH_MAX, Sensitive, sum_of_rows

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.lists(
            st.integers(-(2**63), 2**63 - 1) | st.integers(-60, 60) | st.sampled_from([-ENTRY_MAX - 1, -(2**63)]),
            min_size=2,
            max_size=2,
        ),
    ),
    max_size=12,
)


def summed(rows: list[tuple[int, list[int]]], squared: int, chunk: int = 100) -> Sensitive:
    chunks = [rows[start : start + chunk] for start in range(0, len(rows), chunk)]
    return sum_of_rows(
        (
            (np.array([cell for cell, _ in part], np.intp), np.array([row for _, row in part], np.int64))
            for part in chunks
        ),
        cells=3,
        width=2,
        l2_sensitivity_squared=squared,
    )


@given(rows=ROWS, squared=st.integers(1, 2 * 10**4), chunk=st.integers(1, 5))
def test_each_vector_within_the_bound_is_added_and_every_other_left_out(
    rows: list[tuple[int, list[int]]], squared: int, chunk: int
) -> None:
    expected = [0] * 6
    for cell, row in rows:
        if sum(entry**2 for entry in row) <= squared:
            expected[2 * cell] += row[0]
            expected[2 * cell + 1] += row[1]
    assert summed(rows, squared, chunk)._values.tolist() == expected


def test_a_vector_on_the_bound_counts_and_one_a_step_beyond_does_not() -> None:
    assert summed([(0, [3, 4])], 25)._values.tolist() == [3, 4, 0, 0, 0, 0]
    assert summed([(0, [3, 4])], 24)._values.tolist() == [0] * 6


def test_the_bound_holds_where_squares_would_wrap_around() -> None:
    wide = np.full((4, WIDTH_MAX), ENTRY_MAX, np.int64)
    wide[1], wide[2] = 2**32, -(2**32)  # squared they are 0 in 64 bits
    wide[3] = 0
    wide[3, :2] = 1, -(2**32)
    labels = np.zeros(4, np.intp)
    most = WIDTH_MAX * ENTRY_MAX**2
    kept = sum_of_rows([(labels, wide)], cells=1, width=WIDTH_MAX, l2_sensitivity_squared=most)
    assert (kept._values == ENTRY_MAX).all()
    nothing = sum_of_rows([(labels, wide)], cells=1, width=WIDTH_MAX, l2_sensitivity_squared=most - 1)
    assert not nothing._values.any()


def test_entries_of_the_largest_magnitude_count_on_both_sides() -> None:
    ends = [(0, [ENTRY_MAX, 0]), (1, [-ENTRY_MAX, 0]), (2, [ENTRY_MAX + 1, 0]), (2, [-ENTRY_MAX - 1, 0])]
    assert summed(ends, 2**60)._values.tolist() == [ENTRY_MAX, 0, -ENTRY_MAX, 0, 0, 0]


def test_one_cell_of_one_entry_is_the_smallest_sum() -> None:
    one = np.ones((3, 1), np.int64)
    assert sum_of_rows([(np.zeros(3, np.intp), one)], cells=1, width=1, l2_sensitivity_squared=1)._values.tolist() == [
        3
    ]


def test_nobody_sums_to_nothing() -> None:
    assert summed([], 1)._values.tolist() == [0] * 6


ROW, LABEL = np.ones((1, 2), np.int64), np.zeros(1, np.intp)

IMPOSSIBLE: dict[str, tuple[Any, Any]] = {
    "floats": (LABEL, ROW.astype(np.float64)),
    "narrow integers": (LABEL, ROW.astype(np.int32)),
    "one vector alone": (LABEL, ROW[0]),
    "another width": (LABEL, np.ones((1, 3), np.int64)),
    "a label too few": (LABEL[:0], ROW),
    "a cell before the first": (LABEL - 1, ROW),
    "a cell behind the last": (LABEL + 3, ROW),
    "a cell before the first among others": (np.array([1, -1, 2]), np.ones((3, 2), np.int64)),
    "a cell behind the last among others": (np.array([1, 3, 0]), np.ones((3, 2), np.int64)),
}


@pytest.mark.parametrize("chunk", IMPOSSIBLE.values(), ids=list(IMPOSSIBLE))
def test_impossible_chunks_are_refused(chunk: tuple[NDArray[np.intp], NDArray[np.int64]]) -> None:
    with pytest.raises(ValueError, match=r"a chunk must hold|names no cell"):
        sum_of_rows([chunk], cells=3, width=2, l2_sensitivity_squared=5)


@pytest.mark.parametrize(("cells", "width"), [(0, 2), (1, 0), (1, WIDTH_MAX + 1)])
def test_impossible_shapes_are_refused(cells: int, width: int) -> None:
    with pytest.raises(ValueError, match="a block holds"):
        sum_of_rows([], cells=cells, width=width, l2_sensitivity_squared=5)


def test_a_sensitive_shows_its_length_and_no_value() -> None:
    secret = summed([(0, [17, 4])], 10**4)
    assert repr(secret) == "Sensitive(length=6)"
    with pytest.raises(TypeError, match="no array form"):
        np.asarray(secret)
    with pytest.raises(TypeError, match=r"through release\(\) only"):
        secret.__reduce__()
    with pytest.raises(TypeError, match=r"minted by sum_of_rows\(\) only"):
        Sensitive(np.zeros(1, np.int64), 1, 1, object())  # type: ignore[arg-type] # a forgery
