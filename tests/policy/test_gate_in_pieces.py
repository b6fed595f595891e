"""Deciding on customers some at a time: as on all at once, whatever was said and wherever the pieces are cut."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.policy.consent import ConsentEvent, events_table, fold, histories
from fedseg.policy.gate import Decisions, decide, decide_each
from fedseg.policy.purposes import Purpose
from fedseg.table import SUBJECT, SUBJECT_TYPE
from tests.policy.test_gate_model import POLICIES

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STATISTICS = Purpose.SEGMENT_STATISTICS
SALT = bytes(range(32))


def in_order(events: Sequence[ConsentEvent], rows: int) -> Iterator[pa.RecordBatch]:
    """As a register gives them: by subject, a few at a time."""
    table = events_table(sorted(events, key=lambda one: one.subject))
    yield from table.to_batches(max_chunksize=rows)


def in_pieces(events: Sequence[ConsentEvent], rows: int, size: int, place: int, now: datetime = NOW) -> Decisions:
    states = (fold(piece, now) for piece in histories(in_order(events, rows), size))
    return decide_each(states, POLICIES[place], STATISTICS, now)


def listed(decisions: Decisions) -> dict[bytes, int]:
    found = ((some.to_pylist(), codes.tolist()) for some, codes in decisions.pieces(2))
    return {one: code for some, codes in found for one, code in zip(some, codes, strict=True)}


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(1, 8), st.sampled_from(range(len(POLICIES))))
def test_pieces_are_decided_as_the_whole_is(event: Any, data: st.DataObject, rows: int, size: int, place: int) -> None:
    events = data.draw(st.lists(event.any_event(people=5), max_size=20))
    events += events[: data.draw(st.integers(0, 3))]
    now = NOW + timedelta(days=data.draw(st.sampled_from([-1, 0, 1])))
    at_once = decide(fold(events, now), POLICIES[place], STATISTICS, now)
    decisions = in_pieces(events, rows, size, place, now)
    assert listed(decisions) == listed(at_once)
    digest = POLICIES[place].digest
    assert decisions.commitment(SALT, digest) == at_once.commitment(SALT, digest)
    everyone = pa.array([event.subject(who) for who in range(1, 7)], SUBJECT_TYPE)
    assert decisions.allow(everyone).tolist() == at_once.allow(everyone).tolist()


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(1, 8))
def test_no_customer_is_in_two_pieces_and_no_event_is_lost(
    event: Any, data: st.DataObject, rows: int, size: int
) -> None:
    events = data.draw(st.lists(event.any_event(people=4), max_size=20))
    pieces = list(histories(in_order(events, rows), size))
    people = [set(piece[SUBJECT].to_pylist()) for piece in pieces]
    assert sum(map(len, people)) == len(set[bytes]().union(*people))
    whole = events_table(sorted(events, key=lambda one: one.subject))
    assert [row for piece in pieces for row in piece.to_pylist()] == whole.to_pylist()
    for piece in pieces:
        first, *others = piece[SUBJECT].to_pylist()
        assert sum(one != first for one in others) < size + rows


def test_customers_out_of_order_are_not_decided_on(event: Any) -> None:
    one, two = fold([event("given", who=1)], NOW), fold([event("given", who=2)], NOW)
    assert len(decide_each([one, two], POLICIES[0], STATISTICS, NOW).codes) == 2
    for states in ([two, one], [one, one]):
        with pytest.raises(ValueError, match="in byte order, and once only"):
            decide_each(states, POLICIES[0], STATISTICS, NOW)


def test_a_customer_whose_events_came_apart_is_not_decided_on(event: Any) -> None:
    apart = [event("given", who=1), event("given", who=2), event("withdrawn", who=1)]
    batches = [events_table([one]).to_batches()[0] for one in apart]
    with pytest.raises(ValueError, match="in byte order, and once only"):
        decide_each((fold(piece, NOW) for piece in histories(batches, 1)), POLICIES[0], STATISTICS, NOW)


def test_one_state_of_a_later_moment_is_refused(event: Any) -> None:
    states = [fold([event("given", who=1)], NOW), fold([event("given", who=2)], NOW + timedelta(seconds=1))]
    with pytest.raises(ValueError, match="folded at a later moment"):
        decide_each(states, POLICIES[0], STATISTICS, NOW)


def test_decisions_take_seventeen_bytes_a_customer() -> None:
    subjects = pa.array([number.to_bytes(16, "big") for number in range(1000)], SUBJECT_TYPE)
    decisions = Decisions.over(subjects, np.zeros(1000, np.uint8), NOW, STATISTICS, "digest")
    assert decisions.subjects.high.nbytes + decisions.subjects.low.nbytes + decisions.codes.nbytes == 17_000
