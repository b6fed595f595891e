"""Rows go of those alone whose consent is over, who were silent since, and whom nothing lets the unit count."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.policy.consent import EVERY_PURPOSE, ConsentEvent, events_table, fold
from fedseg.policy.gate import decide
from fedseg.policy.lapse import lapsed
from fedseg.policy.purposes import Purpose
from fedseg.table import SUBJECT_TYPE
from tests.policy.conftest import NOW, EventMaker
from tests.policy.test_gate_model import POLICIES, histories

BY_NOTICE, BY_CONSENT = POLICIES[0], next(one for one in POLICIES if one.id == "gdpr-marketing")


def register(*events: ConsentEvent) -> Callable[[Purpose], pa.Table]:
    """The events as a register hands them out."""
    return lambda purpose: events_table([one for one in events if one.purpose in (purpose, EVERY_PURPOSE)])


def gone(event: EventMaker, *events: ConsentEvent, policy: Any = BY_CONSENT, days: float = 100) -> bool:
    found = lapsed(register(*events), policy, NOW - timedelta(days=days))
    assert found <= {event.subject(1)}
    return bool(found)


@pytest.mark.parametrize("kind", ["expired", "refused", "withdrawn", "revoked"])
def test_rows_go_when_the_consent_has_ended_so_long_ago(event: EventMaker, kind: str) -> None:
    given, ended = event("given", days_ago=400), event(kind, days_ago=100)
    assert gone(event, given, ended)
    assert not gone(event, given, ended, days=100.01)
    assert not gone(event, given)


def test_a_consent_that_ran_out_has_ended_on_its_last_day(event: EventMaker) -> None:
    assert gone(event, event("given", days_ago=400, valid_days=-100))
    assert not gone(event, event("given", days_ago=400, valid_days=-99))


def test_another_consent_that_holds_keeps_the_rows_whatever_the_policy_names(event: EventMaker) -> None:
    ended = event("withdrawn", days_ago=300)
    for purpose in (Purpose.SEGMENT_ACTIVATION, Purpose.SEGMENT_ASSIGNMENT):
        for kind in ("given", "renewed", "requested", "unknown"):
            assert not gone(event, ended, event(kind, days_ago=300, purpose=purpose))
        assert gone(event, ended, event("withdrawn", days_ago=300, purpose=purpose))


@pytest.mark.parametrize("kind", ["objection", "notice_given", "jurisdiction_eea", "minor_lifted", "requested"])
def test_who_was_heard_of_since_keeps_the_rows(event: EventMaker, kind: str) -> None:
    ended = event("withdrawn", days_ago=300)
    assert not gone(event, ended, event(kind, days_ago=99))
    assert not gone(event, ended, event(kind, days_ago=200, recorded_days_ago=-5))


def test_an_old_event_that_is_imported_again_is_no_news(event: EventMaker) -> None:
    assert gone(event, event("given", days_ago=400, recorded_days_ago=1), event("withdrawn", days_ago=300))


def test_a_restriction_keeps_the_rows_until_it_is_lifted(event: EventMaker) -> None:
    ended, held = event("withdrawn", days_ago=300), event("restriction", days_ago=250)
    assert not gone(event, ended, held)
    assert gone(event, ended, held, event("restriction_lifted", days_ago=200))
    assert gone(event, ended, event("objection", days_ago=250))


def test_what_cannot_be_read_keeps_the_rows(event: EventMaker) -> None:
    ended = events_table([event("withdrawn", days_ago=300), event("objection", days_ago=300)])
    kinds = pa.array(["withdrawn", "a_kind_of_a_later_version"], pa.string())
    odd = ended.set_column(ended.schema.get_field_index("kind"), ended.schema.field("kind"), kinds)
    assert not lapsed(lambda _purpose: odd, BY_CONSENT, NOW - timedelta(days=100))


def test_where_being_told_is_enough_never_having_been_asked_keeps_the_rows(event: EventMaker) -> None:
    no = event("withdrawn", days_ago=300, purpose=Purpose.SEGMENT_ACTIVATION)
    assert gone(event, no)
    assert not gone(event, no, policy=BY_NOTICE)
    assert gone(event, no, event("refused", days_ago=300), policy=BY_NOTICE)


def test_nobody_goes_who_is_not_in_the_register_or_never_was_asked(event: EventMaker) -> None:
    assert not gone(event)
    assert not gone(event, event("notice_given", days_ago=300))


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(range(len(POLICIES))), st.sampled_from([0, 1, 2, 3]))
def test_whose_rows_go_could_not_be_counted_at_any_moment_since(
    event: Any, data: st.DataObject, place: int, days: int
) -> None:
    events, policy = data.draw(histories(event)), POLICIES[place]
    people = lapsed(register(*events), policy, NOW - timedelta(days=days))
    for since in range(days + 1):
        moment = NOW - timedelta(days=since)
        for purpose in policy.purposes:
            decided = decide(fold(register(*events)(purpose), moment), policy, purpose, moment)
            assert not decided.allow(pa.array(sorted(people), SUBJECT_TYPE)).any()


def test_the_property_is_about_somebody(event: EventMaker) -> None:
    found = 0

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(st.data())
    def count(data: st.DataObject) -> None:
        nonlocal found
        events = data.draw(st.lists(event.any_event(), max_size=5))
        found += len(lapsed(register(*events), BY_CONSENT, NOW))

    count()
    assert found >= 10
