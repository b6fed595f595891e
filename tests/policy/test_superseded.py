"""What a sweep may remove of a history changes no decision of the gate, at no later moment, whatever comes after it."""

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.errors import ConsentEventError
from fedseg.policy.consent import EVENT_SCHEMA, EVERY_PURPOSE, ConsentEvent, events_table, fold, superseded
from fedseg.policy.gate import decide
from fedseg.policy.purposes import Purpose
from tests.policy.conftest import NOW, EventMaker
from tests.policy.test_gate_model import POLICIES, STATISTICS, histories

DAYS = st.sampled_from([0, 1, 2, 3])
ODD = {
    "unknown kind": ("kind", "a_kind_of_a_later_version"),
    "unknown scope": ("purpose", "fedseg:ALaterPurpose"),
    "consent to everything": ("purpose", EVERY_PURPOSE),
    "jurisdiction for one purpose": ("purpose", STATISTICS),
}


def kept(events: pa.Table, days: int) -> pa.Table:
    return events.filter(pa.array(~superseded(events, NOW - timedelta(days=days))))


def odd(events: pa.Table, place: int, name: str, value: str) -> pa.Table:
    """The events, one of which this version cannot read, or may have become so."""
    column = events.column(name).to_pylist()
    if column:
        column[place % len(column)] = value
    at = EVENT_SCHEMA.get_field_index(name)
    return events.set_column(at, EVENT_SCHEMA.field(at), pa.array(column, pa.string()))


def everything(events: pa.Table, now: Any) -> dict[bytes, list[list[Any]]]:
    """All that a fold says of each customer, for each purpose."""
    state = fold(events, now)
    columns = [
        [getattr(state.by_purpose[purpose], name).tolist() for name in state.by_purpose[purpose].__slots__]
        for purpose in Purpose
    ]
    return {
        subject: [[column[place] for column in one] for one in columns]
        for place, subject in enumerate(state.subjects.to_pylist())
    }


@settings(max_examples=400, deadline=None)
@given(st.data(), DAYS, DAYS | st.just(50))
def test_the_state_of_everybody_is_the_same_without_what_is_superseded(
    event: Any, data: st.DataObject, days: int, later: int
) -> None:
    before = events_table(data.draw(st.lists(event.any_event(people=2), max_size=14)))
    for name, value in data.draw(st.lists(st.sampled_from(list(ODD.values())), max_size=2)):
        before = odd(before, data.draw(st.integers(0, 20)), name, value)
    come = events_table(data.draw(st.lists(event.any_event(people=2), max_size=4)))
    now = NOW - timedelta(days=days) + timedelta(days=later)
    assert everything(pa.concat_tables([kept(before, days), come]), now) == everything(
        pa.concat_tables([before, come]), now
    )


@settings(max_examples=200, deadline=None)
@given(st.data(), DAYS, DAYS, st.sampled_from(range(len(POLICIES))))
def test_no_policy_decides_otherwise_without_what_is_superseded(
    event: Any, data: st.DataObject, days: int, later: int, place: int
) -> None:
    before, come = events_table(data.draw(histories(event))), events_table(data.draw(histories(event))[:3])
    now = NOW - timedelta(days=days) + timedelta(days=later)

    def decided(events: pa.Table) -> dict[bytes, int]:
        found = decide(fold(events, now), POLICIES[place], STATISTICS, now)
        return {
            one: int(code) for some, codes in found.pieces() for one, code in zip(some.to_pylist(), codes, strict=True)
        }

    assert decided(pa.concat_tables([kept(before, days), come])) == decided(pa.concat_tables([before, come]))


@settings(max_examples=100, deadline=None)
@given(st.data(), DAYS)
def test_what_stays_stays_at_the_next_sweep_too(event: Any, data: st.DataObject, days: int) -> None:
    once = kept(events_table(data.draw(st.lists(event.any_event(), max_size=14))), days)
    assert kept(once, days).num_rows == once.num_rows


def which(*events: ConsentEvent, days: float = 100) -> list[bool]:
    return [bool(one) for one in superseded(events_table(events), NOW - timedelta(days=days))]


def test_what_was_followed_long_ago_may_go_and_the_last_word_never(event: EventMaker) -> None:
    for first, last in [("given", "withdrawn"), ("expired", "given"), ("given", "expired"), ("renewed", "requested")]:
        assert which(event(first, days_ago=5000), event(last, days_ago=101)) == [True, False]
    for kind in ("notice_given", "jurisdiction_eea", "minor_lifted", "suppressed", "explicit_given"):
        assert which(event(kind, days_ago=5000), event(kind, days_ago=101), event(kind, days_ago=4000)) == [
            True,
            False,
            True,
        ]


def test_it_goes_by_how_long_it_was_without_effect_not_by_how_old_it_is(event: EventMaker) -> None:
    old = event("given", days_ago=5000)
    assert which(old, event("renewed", days_ago=99)) == [False, False]
    assert which(old, event("renewed", days_ago=200, recorded_days_ago=99)) == [False, False]
    assert which(old, event("renewed", days_ago=200, recorded_days_ago=100)) == [True, False]
    assert which(event("given", days_ago=5000, recorded_days_ago=0), event("renewed", days_ago=200)) == [True, False]


def test_a_standing_veto_never_goes_and_neither_does_its_lifting(event: EventMaker) -> None:
    for veto in ("objection", "restriction", "suppressed", "opt_out_sale", "opt_out_share", "minor", "limit_sensitive"):
        set_, lifted = event(veto, days_ago=5000), event(f"{veto}_lifted", days_ago=4000)
        assert which(set_, event("given", days_ago=101), event("renewed", days_ago=100)) == [False, True, False]
        assert which(set_, lifted) == [True, False]
        assert which(set_, event(f"{veto}_lifted", days_ago=5000)) == [False, False]
        assert which(set_, event(f"{veto}_lifted", days_ago=4000, purpose=EVERY_PURPOSE)) == [False, False]


def test_an_event_about_two_matters_goes_when_both_were_followed(event: EventMaker) -> None:
    no, yes, expressly = (
        event("refused", days_ago=500),
        event("given", days_ago=400),
        event("explicit_given", days_ago=300),
    )
    assert which(no, yes) == [False, False]
    assert which(no, expressly) == [False, False]
    assert which(no, yes, expressly) == [True, False, False]


def test_one_customers_events_supersede_nobody_elses(event: EventMaker) -> None:
    assert which(event("given", who=1, days_ago=500), event("withdrawn", who=2, days_ago=400)) == [False, False]
    other = event("withdrawn", days_ago=400, purpose=Purpose.SEGMENT_ACTIVATION)
    assert which(event("given", days_ago=500), other) == [False, False]


def test_a_table_of_another_form_is_refused_and_so_is_a_moment_without_a_zone(event: EventMaker) -> None:
    table = events_table([event("given")])
    with pytest.raises(ConsentEventError):
        superseded(table.drop_columns(["kind"]), NOW)
    with pytest.raises(ValueError, match="time zone"):
        superseded(table, NOW.replace(tzinfo=None))
    assert superseded(events_table([]), NOW).dtype == np.bool_
