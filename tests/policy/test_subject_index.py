"""The index of subjects: finds exactly who is there, also when keys collide in their first half."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.policy import lookup
from fedseg.policy.lookup import ABSENT, SubjectIndex, distinct
from fedseg.table import SUBJECT_TYPE

# Few different halves, so that equal first words are common.
halves = st.sampled_from([b"\x00" * 8, b"\x00" * 7 + b"\x01", b"\x7f" * 8, b"\x80" + b"\x00" * 7, b"\xff" * 8])
subjects = st.builds(lambda high, low: high + low, halves, halves)


@given(st.lists(subjects, unique=True), st.lists(st.none() | subjects), st.integers(0, 3))
def test_each_subject_is_found_at_its_place_in_byte_order(
    known: list[bytes], asked: list[bytes | None], skipped: int
) -> None:
    index, ordered = SubjectIndex.over(pa.array(known, SUBJECT_TYPE)), sorted(known)
    places = index.find(pa.array(asked, SUBJECT_TYPE)[skipped:])
    assert places.tolist() == [ordered.index(one) if one in known else ABSENT for one in asked[skipped:]]
    for size in (1, 2, 100):
        pieces = [piece.to_pylist() for piece in index.pieces(size)]
        assert [one for piece in pieces for one in piece] == ordered
        assert all(len(piece) <= size for piece in pieces)


@given(st.lists(subjects, unique=True), st.lists(st.none() | subjects), st.integers(1, 3))
def test_customers_far_from_each_other_in_the_list_are_found_too(
    known: list[bytes], asked: list[bytes | None], near: int
) -> None:
    used: list[None] = []
    ordered = SubjectIndex.over(pa.array(known, SUBJECT_TYPE))
    wanted = pa.array(asked, SUBJECT_TYPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "NEAR", near)
        index = SubjectIndex(ordered.high, ordered.low, lambda: used.append(None))
        used.clear()
        found = index.find(wanted).tolist()
    assert found == ordered.find(wanted).tolist()
    assert bool(used) == bool(known and asked)


@pytest.mark.parametrize("order", [[0, 0], [1, 0], [0, 2, 1], [0, 1, 1]])
def test_words_out_of_order_are_no_list(order: list[int]) -> None:
    ascending = SubjectIndex.over(pa.array([bytes(15) + b"\x01", bytes(7) + b"\x01" * 9, b"\xff" * 16], SUBJECT_TYPE))
    with pytest.raises(ValueError, match="in byte order, and once only"):
        SubjectIndex(ascending.high[order], ascending.low[order])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "AT_ONCE", 1)
        with pytest.raises(ValueError, match="in byte order, and once only"):
            SubjectIndex(ascending.high[order], ascending.low[order])


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
    assert repr(SubjectIndex.over(pa.array([b"a" * 16], SUBJECT_TYPE))) == "SubjectIndex()"
