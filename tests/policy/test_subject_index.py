"""The index of subjects: finds exactly who is there, also when keys collide in their first half."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.policy.lookup import ABSENT, SubjectIndex, distinct
from fedseg.table import SUBJECT_TYPE

# Few different halves, so that equal first words are common.
halves = st.sampled_from([b"\x00" * 8, b"\x00" * 7 + b"\x01", b"\x7f" * 8, b"\x80" + b"\x00" * 7, b"\xff" * 8])
subjects = st.builds(lambda high, low: high + low, halves, halves)


@given(st.lists(subjects, unique=True), st.lists(st.none() | subjects), st.integers(0, 3))
def test_each_subject_is_found_where_it_stands(known: list[bytes], asked: list[bytes | None], skipped: int) -> None:
    index = SubjectIndex.over(pa.array(known, SUBJECT_TYPE))
    places = index.find(pa.array(asked, SUBJECT_TYPE)[skipped:])
    expected = [known.index(one) if one in known else ABSENT for one in asked[skipped:]]
    assert places.tolist() == expected
    assert b"".join(index.sorted_bytes()) == b"".join(sorted(known))
    numbers = np.arange(len(known), dtype=np.uint8)
    assert index.in_order(numbers).tolist() == [known.index(one) for one in sorted(known)]


@given(st.lists(subjects), st.integers(0, 3))
def test_each_subject_is_listed_once_in_byte_order_and_found_again(said: list[bytes], skipped: int) -> None:
    once, places = distinct(pa.array(said, SUBJECT_TYPE)[skipped:])
    assert once.to_pylist() == sorted(set(said[skipped:]))
    assert once.take(pa.array(places)).to_pylist() == said[skipped:]


def test_a_slice_is_indexed_as_what_it_shows() -> None:
    known = pa.array([bytes([n]) * 16 for n in (3, 1, 2)], SUBJECT_TYPE)[1:]
    assert SubjectIndex.over(known).find(known).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (pa.array([b"a" * 16]), "binary"),
        (pa.array([b"a" * 8], pa.binary(8)), "binary"),
        (pa.array([b"a" * 16, None], SUBJECT_TYPE), "without nulls"),
        (pa.array([b"a" * 16, b"b" * 16, b"a" * 16], SUBJECT_TYPE), "once only"),
    ],
)
def test_a_list_that_is_no_list_of_unique_subjects_is_refused(wrong: pa.Array, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        SubjectIndex.over(wrong)


def test_an_empty_array_without_memory_is_an_empty_list() -> None:
    nothing = pa.FixedSizeBinaryArray.from_buffers(SUBJECT_TYPE, 0, [None, None])
    assert SubjectIndex.over(nothing).find(nothing).tolist() == []


def test_the_repr_shows_nobody() -> None:
    assert repr(SubjectIndex.over(pa.array([b"a" * 16], SUBJECT_TYPE))) == "SubjectIndex(longest_run=1)"
