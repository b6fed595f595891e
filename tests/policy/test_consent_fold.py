"""Consent: events that break a rule are refused, and events fold to the state that a slow, literal reading gives."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.errors import ConsentEventError
from fedseg.policy.consent import (
    EVENT_KINDS,
    EVENT_SCHEMA,
    EVERY_PURPOSE,
    NEVER_TOLD,
    RECORDED_VETOES,
    ConsentEvent,
    ConsentState,
    Jurisdiction,
    PurposeState,
    Status,
    Veto,
    events_table,
    fold,
    to_microseconds,
)
from fedseg.policy.purposes import Purpose

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STATISTICS, ACTIVATION = Purpose.SEGMENT_STATISTICS, Purpose.SEGMENT_ACTIVATION

Maker = Callable[..., ConsentEvent]
Facts = dict[str, int]


def facts(state: ConsentState, subject: bytes, purpose: Purpose = STATISTICS) -> Facts | None:
    """Everything the state says about one customer for one purpose, by the names of `PurposeState`."""
    subjects = state.subjects.to_pylist()
    if subject not in subjects:
        return None
    at, found = subjects.index(subject), state.by_purpose[purpose]
    return {name: int(getattr(found, name)[at]) for name in PurposeState.__slots__}


def fact(name: str, *events: ConsentEvent, purpose: Purpose = STATISTICS, now: datetime = NOW) -> int:
    """One of these facts, about the customer of the first event."""
    found = facts(fold(events, now), events[0].subject, purpose)
    assert found is not None
    return found[name]


def status(*events: ConsentEvent, now: datetime = NOW) -> Status:
    return Status(fact("status", *events, now=now))


def explicit(*events: ConsentEvent, now: datetime = NOW) -> Status:
    return Status(fact("explicit", *events, now=now))


def told(*events: ConsentEvent, purpose: Purpose = STATISTICS) -> int:
    return fact("told_version", *events, purpose=purpose)


def jurisdiction(*events: ConsentEvent) -> Jurisdiction:
    return Jurisdiction(fact("jurisdiction", *events))


def vetoes(*events: ConsentEvent, purpose: Purpose = STATISTICS) -> Veto:
    """The standing vetoes, leaving out that the age is unknown."""
    return Veto(fact("vetoes", *events, purpose=purpose)) & ~Veto.AGE_UNKNOWN


def test_the_latest_event_counts(event: Maker) -> None:
    assert status(event("given", days_ago=5), event("withdrawn", days_ago=4)) is Status.WITHDRAWN
    assert status(event("withdrawn", days_ago=5), event("given", days_ago=4)) is Status.GIVEN


def test_a_withdrawal_needs_no_consent_before_it(event: Maker) -> None:
    assert status(event("withdrawn")) is Status.WITHDRAWN


@pytest.mark.parametrize("kind", sorted(EVENT_KINDS))
def test_each_kind_of_event_means_what_it_is_called(event: Maker, kind: str) -> None:
    found = facts(fold([event(kind)], NOW), event(kind).subject)
    assert found is not None
    by_kind = {status.kind: status for status in Status}
    assert found["status"] == by_kind.get(kind, Status.NO_RECORD)
    ends_both = {"refused": Status.REFUSED, "withdrawn": Status.WITHDRAWN, "revoked": Status.REVOKED}
    by_explicit = {f"explicit_{name}": one for name, one in (ends_both | {"given": Status.GIVEN}).items()} | ends_both
    assert found["explicit"] == by_explicit.get(kind, Status.NO_RECORD)
    named = Veto[kind.upper()] if kind.upper() in Veto.__members__ else Veto(0)
    unknown_age = Veto(0) if kind in ("minor", "minor_lifted") else Veto.AGE_UNKNOWN
    assert Veto(found["vetoes"]) == named | unknown_age
    assert found["told_version"] == (3 if kind == "notice_given" else NEVER_TOLD)
    by_place = {place.kind: place for place in Jurisdiction}
    assert found["jurisdiction"] == by_place.get(kind, Jurisdiction.UNKNOWN)


def test_the_kinds_of_events_are_the_documented_ones() -> None:
    vetoes = {"objection", "restriction", "suppressed", "opt_out_sale", "opt_out_share", "minor", "limit_sensitive"}
    statuses = {"given", "renewed", "requested", "refused", "withdrawn", "revoked", "expired", "unknown"}
    explicit = {"explicit_given", "explicit_refused", "explicit_withdrawn", "explicit_revoked"}
    places = {f"jurisdiction_{place}" for place in ("unknown", "eea", "gb", "ch", "us_ca", "us", "other")}
    notices = {"notice_given", "notice_undelivered"}
    assert statuses | explicit | places | notices | vetoes | {f"{veto}_lifted" for veto in vetoes} == EVENT_KINDS


def test_each_veto_is_one_bit() -> None:
    assert [int(veto) for veto in Veto] == [1, 2, 4, 8, 16, 32, 64, 128, 256]


def test_jurisdictions_keep_their_names_and_numbers() -> None:
    assert {place.text: int(place) for place in Jurisdiction} == {
        "loc:UNKNOWN": 0,
        "loc:EEA": 1,
        "loc:GB": 2,
        "loc:CH": 3,
        "loc:US-CA": 4,
        "loc:US": 5,
        "other": 6,
    }


@pytest.mark.parametrize("restrictive", ["requested", "unknown", "expired", "refused", "withdrawn", "revoked"])
@pytest.mark.parametrize("grant", ["given", "renewed"])
def test_of_two_events_at_one_time_the_more_restrictive_counts(event: Maker, grant: str, restrictive: str) -> None:
    both = [event(grant), event(restrictive)]
    assert status(*both) is status(*reversed(both)) is status(event(restrictive))


def test_of_a_consent_given_and_renewed_at_one_time_only_policies_that_accept_both_are_kept(event: Maker) -> None:
    assert status(event("given"), event("renewed")) is Status.RENEWED


def test_of_consents_at_one_time_the_earliest_end_and_the_lowest_notice_count(event: Maker) -> None:
    early_end, old_notice = event("given", valid_days=1, notice=3), event("given", valid_days=9, notice=1)
    found = facts(fold([early_end, old_notice], NOW), early_end.subject)
    assert found is not None
    assert (found["valid_until"], found["notice_version"]) == (to_microseconds(NOW + timedelta(days=1)), 1)


def test_what_happens_after_now_does_not_count(event: Maker) -> None:
    given = event("given")
    assert status(given, event("withdrawn", days_ago=-0.001)) is Status.GIVEN
    assert status(given, event("withdrawn", days_ago=0)) is Status.WITHDRAWN


def test_what_is_recorded_after_now_does_not_count(event: Maker) -> None:
    given = event("given")
    assert status(given, event("withdrawn", days_ago=1, recorded_days_ago=-0.001)) is Status.GIVEN
    assert status(given, event("withdrawn", days_ago=1, recorded_days_ago=0)) is Status.WITHDRAWN


def test_a_customer_with_later_events_only_has_no_record(event: Maker) -> None:
    assert len(fold([event("given", days_ago=-1)], NOW).subjects) == 0


def test_a_consent_ends_at_the_moment_it_names(event: Maker) -> None:
    given = event("given", valid_days=0)
    assert status(given, now=NOW - timedelta(microseconds=1)) is Status.GIVEN
    assert status(given, now=NOW) is Status.EXPIRED
    assert status(replace(given, kind="renewed")) is Status.EXPIRED


def test_a_consent_without_an_end_in_the_table_has_ended(event: Maker) -> None:
    table = events_table([event("given")])
    endless = table.set_column(5, EVENT_SCHEMA.field(5), pa.array([None], EVENT_SCHEMA.types[5]))
    found = facts(fold(endless, NOW), event("given").subject)
    assert found is not None
    assert found["status"] == Status.EXPIRED


def test_an_expired_consent_says_nothing_about_a_later_withdrawal(event: Maker) -> None:
    assert status(event("given", days_ago=9, valid_days=-1), event("withdrawn", days_ago=8)) is Status.WITHDRAWN


def test_consent_to_one_purpose_is_no_consent_to_another(event: Maker) -> None:
    assert status(event("given", purpose=ACTIVATION)) is Status.NO_RECORD
    assert explicit(event("explicit_given", purpose=ACTIVATION)) is Status.NO_RECORD


def test_consent_and_explicit_consent_are_two_matters(event: Maker) -> None:
    assert explicit(event("given"), event("renewed")) is Status.NO_RECORD
    assert status(event("explicit_given")) is Status.NO_RECORD
    both = [event("given", days_ago=9), event("explicit_given", days_ago=9)]
    assert status(*both, event("explicit_withdrawn", days_ago=8)) is Status.GIVEN


@pytest.mark.parametrize("kind", ["refused", "withdrawn", "revoked"])
def test_whoever_ends_a_consent_ends_the_explicit_one_too(event: Maker, kind: str) -> None:
    given = event("explicit_given", days_ago=9)
    assert explicit(given) is Status.GIVEN
    for ending in (kind, f"explicit_{kind}"):
        assert explicit(given, event(ending, days_ago=8)) is Status[kind.upper()]
        assert explicit(given, event(ending, days_ago=9)) is Status[kind.upper()], "a tie"
        assert explicit(event(ending, days_ago=9), event("explicit_given", days_ago=8)) is Status.GIVEN


def test_an_explicit_consent_ends_at_the_moment_it_names(event: Maker) -> None:
    given = event("explicit_given", valid_days=0)
    assert explicit(given, now=NOW - timedelta(microseconds=1)) is Status.GIVEN
    assert explicit(given, now=NOW) is Status.EXPIRED
    longer = event("explicit_given", valid_days=5)
    assert fact("explicit_until", longer, replace(longer, valid_until=NOW + timedelta(days=1))) == to_microseconds(
        NOW + timedelta(days=1)
    )


def test_of_notices_the_one_sent_last_counts_and_of_several_at_once_the_oldest(event: Maker) -> None:
    assert told(event("notice_given", notice=5, days_ago=9), event("notice_given", notice=4, days_ago=8)) == 4
    assert told(event("notice_given", notice=5, days_ago=8), event("notice_given", notice=4, days_ago=8)) == 4
    assert told(event("given", notice=7)) == NEVER_TOLD
    assert told(event("notice_given", notice=0)) == 0


def test_who_a_notice_did_not_reach_has_not_been_told(event: Maker) -> None:
    given = event("notice_given", days_ago=8)
    assert told(given, event("notice_undelivered", days_ago=7)) == NEVER_TOLD
    assert told(given, event("notice_undelivered", days_ago=8)) == NEVER_TOLD, "a tie"
    assert told(given, event("notice_undelivered", days_ago=9)) == 3


def test_a_notice_about_every_purpose_is_about_each_and_one_about_another_purpose_is_not(event: Maker) -> None:
    assert told(event("notice_given", purpose=EVERY_PURPOSE)) == 3
    assert told(event("notice_given", purpose=ACTIVATION)) == NEVER_TOLD
    everywhere, here = event("notice_given", purpose=EVERY_PURPOSE, notice=5), event("notice_given", notice=2)
    assert told(everywhere, here) == 2


def test_the_latest_word_on_the_jurisdiction_counts(event: Maker) -> None:
    assert jurisdiction(event("given")) is Jurisdiction.UNKNOWN
    moved = [event("jurisdiction_eea", days_ago=9), event("jurisdiction_us_ca", days_ago=8)]
    assert jurisdiction(*moved) is Jurisdiction.US_CA
    assert jurisdiction(*moved, event("jurisdiction_unknown", days_ago=7)) is Jurisdiction.UNKNOWN


def test_where_events_of_one_time_disagree_the_jurisdiction_is_unknown(event: Maker) -> None:
    assert jurisdiction(event("jurisdiction_eea"), event("jurisdiction_eea")) is Jurisdiction.EEA
    assert jurisdiction(event("jurisdiction_eea"), event("jurisdiction_gb")) is Jurisdiction.UNKNOWN


VETO_KINDS = sorted(str(veto.name).lower() for veto in RECORDED_VETOES)


@pytest.mark.parametrize("kind", VETO_KINDS)
def test_a_later_consent_lifts_no_veto(event: Maker, kind: str) -> None:
    assert (
        vetoes(event(kind, days_ago=9), event("given", days_ago=1), event("renewed", days_ago=0)) == Veto[kind.upper()]
    )


@pytest.mark.parametrize("kind", VETO_KINDS)
def test_a_veto_falls_by_a_later_lifting_of_its_own_kind_alone(event: Maker, kind: str) -> None:
    veto = event(kind, days_ago=9)
    others = [event(f"{other}_lifted", days_ago=1) for other in VETO_KINDS if other != kind]
    assert vetoes(veto, *others) == Veto[kind.upper()]
    assert vetoes(veto, event(f"{kind}_lifted", days_ago=8)) == Veto(0)


@pytest.mark.parametrize("lifted_days_ago", [9, 10])
def test_a_lifting_at_the_same_time_or_earlier_lifts_nothing(event: Maker, lifted_days_ago: int) -> None:
    assert vetoes(event("objection", days_ago=9), event("objection_lifted", days_ago=lifted_days_ago)) == Veto.OBJECTION


def test_a_veto_set_again_after_its_lifting_stands(event: Maker) -> None:
    history = [event("objection", days_ago=9), event("objection_lifted", days_ago=8), event("objection", days_ago=7)]
    assert vetoes(*history) == Veto.OBJECTION


def test_a_veto_for_every_purpose_stands_for_each(event: Maker) -> None:
    veto = event("suppressed", purpose=EVERY_PURPOSE)
    for purpose in Purpose:
        assert vetoes(veto, purpose=purpose) == Veto.SUPPRESSED


def test_a_veto_for_one_purpose_stands_for_that_one_alone(event: Maker) -> None:
    veto = event("objection", purpose=ACTIVATION)
    assert vetoes(veto, purpose=ACTIVATION) == Veto.OBJECTION
    assert vetoes(veto, purpose=STATISTICS) == Veto(0)


def test_a_lifting_lifts_within_its_own_scope_only(event: Maker) -> None:
    everywhere, here = event("objection", purpose=EVERY_PURPOSE, days_ago=9), event("objection", days_ago=9)
    lifted_everywhere = event("objection_lifted", purpose=EVERY_PURPOSE, days_ago=1)
    lifted_here = event("objection_lifted", days_ago=1)
    assert vetoes(everywhere, lifted_here) == Veto.OBJECTION
    assert vetoes(here, lifted_everywhere) == Veto.OBJECTION
    assert vetoes(everywhere, here, lifted_here, lifted_everywhere) == Veto(0)


def test_the_age_is_unknown_until_an_event_says_otherwise(event: Maker) -> None:
    def age(*events: ConsentEvent) -> Veto:
        return Veto(fact("vetoes", event("given"), *events))

    assert age() == Veto.AGE_UNKNOWN
    assert age(event("minor")) == Veto.MINOR
    assert age(event("minor_lifted", purpose=EVERY_PURPOSE)) == Veto(0)
    assert age(event("minor_lifted", purpose=ACTIVATION)) == Veto.AGE_UNKNOWN
    assert age(event("objection", purpose=EVERY_PURPOSE)) == Veto.AGE_UNKNOWN | Veto.OBJECTION


def with_text(event: ConsentEvent, **texts: str) -> pa.Table:
    table = events_table([event])
    for name, text in texts.items():
        at = EVENT_SCHEMA.get_field_index(name)
        table = table.set_column(at, EVENT_SCHEMA.field(at), pa.array([text]))
    return table


@pytest.mark.parametrize(
    ("texts", "purposes"),
    [
        ({"kind": "profiling_objection"}, {STATISTICS}),
        ({"kind": "Given"}, {STATISTICS}),
        ({"kind": "no_record"}, {STATISTICS}),
        ({"kind": "unreadable_lifted"}, {STATISTICS}),
        ({"kind": "age_unknown"}, {STATISTICS}),
        ({"kind": "new", "purpose": EVERY_PURPOSE}, set(Purpose)),
        ({"purpose": EVERY_PURPOSE}, set(Purpose)),
        ({"purpose": EVERY_PURPOSE, "kind": "withdrawn"}, set(Purpose)),
        ({"purpose": EVERY_PURPOSE, "kind": "explicit_given"}, set(Purpose)),
        ({"kind": "jurisdiction_eea"}, {STATISTICS}),
        ({"kind": "jurisdiction_unknown"}, {STATISTICS}),
        ({"purpose": "fedseg:Everything"}, set(Purpose)),
        ({"purpose": ""}, set(Purpose)),
    ],
)
def test_an_event_this_version_cannot_read_denies_for_good(
    event: Maker, texts: dict[str, str], purposes: set[Purpose]
) -> None:
    unread = with_text(event("given", days_ago=9), **texts)
    later = events_table([event("given", days_ago=1), event("objection_lifted", days_ago=0)])
    state = fold(pa.concat_tables([unread, later]), NOW)
    for purpose in Purpose:
        found = facts(state, event("given").subject, purpose)
        assert found is not None
        assert bool(Veto(found["vetoes"]) & Veto.UNREADABLE) == (purpose in purposes)
        assert found["jurisdiction"] == Jurisdiction.UNKNOWN


def test_an_unreadable_event_of_the_future_does_not_count_yet(event: Maker) -> None:
    assert len(fold(with_text(event("given", days_ago=-1), kind="new"), NOW).subjects) == 0


def test_a_table_of_another_schema_is_refused(event: Maker) -> None:
    table = events_table([event("given")])
    for other in (table.drop_columns(["notice_version"]), table.rename_columns([*table.column_names[:-1], "version"])):
        with pytest.raises(ConsentEventError, match="other columns or types"):
            fold(other, NOW)
    with pytest.raises(ConsentEventError, match="other columns or types"):
        fold(table.set_column(6, "notice_version", pa.array([1.0])), NOW)


@pytest.mark.parametrize("name", ["subject", "purpose", "kind", "event_time", "recorded_at", "notice_version"])
def test_a_table_with_a_null_where_none_belongs_is_refused(event: Maker, name: str) -> None:
    at = EVENT_SCHEMA.get_field_index(name)
    table = events_table([event("given")]).set_column(at, name, pa.array([None], EVENT_SCHEMA.field(at).type))
    with pytest.raises(ConsentEventError, match="holds nulls"):
        fold(table, NOW)


def test_a_moment_without_a_time_zone_is_refused(event: Maker) -> None:
    with pytest.raises(ValueError, match="time zone"):
        fold([event("given")], NOW.replace(tzinfo=None))


def test_now_may_be_told_in_any_time_zone(event: Maker) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    assert to_microseconds(elsewhere) == to_microseconds(NOW)
    assert status(event("given", days_ago=0), now=elsewhere) is Status.GIVEN


def test_no_events_fold_to_nobody() -> None:
    state = fold([], NOW)
    assert len(state.subjects) == 0
    assert state.subjects.type == pa.binary(16)
    assert set(state.by_purpose) == set(Purpose)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"subject": b"short"}, "5 bytes long, not 16"),
    ({"subject": b"x" * 17}, "17 bytes long, not 16"),
    ({"kind": "allowed"}, "its kind 'allowed' is none of"),
    ({"kind": "no_record"}, "its kind 'no_record' is none of"),
    ({"purpose": "fedseg:Everything"}, "its purpose 'fedseg:Everything' is none of"),
    ({"purpose": EVERY_PURPOSE}, "nobody consents to every purpose at once"),
    ({"purpose": EVERY_PURPOSE, "kind": "withdrawn", "valid_until": None}, "nobody consents to every purpose at once"),
    ({"purpose": EVERY_PURPOSE, "kind": "explicit_given"}, "nobody consents to every purpose at once"),
    ({"kind": "jurisdiction_eea", "valid_until": None}, "is about the customer: its purpose must be '*'"),
    ({"valid_until": None}, "valid_until must be there for explicit_given, given, renewed"),
    ({"kind": "renewed", "valid_until": None}, "valid_until must be there for explicit_given, given, renewed"),
    ({"kind": "explicit_given", "valid_until": None}, "valid_until must be there for explicit_given, given, renewed"),
    ({"kind": "objection"}, "valid_until must be there for explicit_given, given, renewed, and only for those"),
    ({"kind": "notice_given"}, "valid_until must be there for explicit_given, given, renewed, and only for those"),
    ({"notice_version": -1}, "notice_version is not between 0 and 1000000"),
    ({"notice_version": 1_000_001}, "notice_version is not between 0 and 1000000"),
    ({"event_time": NOW.replace(tzinfo=None)}, "must be in UTC"),
    ({"recorded_at": NOW.replace(tzinfo=None)}, "must be in UTC"),
    ({"valid_until": NOW.replace(tzinfo=None)}, "must be in UTC"),
    ({"event_time": NOW.astimezone(timezone(timedelta(hours=1)))}, "must be in UTC"),
]


@pytest.mark.parametrize(("change", "why"), BROKEN)
def test_an_event_that_breaks_a_rule_is_never_born(event: Maker, change: dict[str, Any], why: str) -> None:
    with pytest.raises(ConsentEventError) as caught:
        replace(event("given"), **change)
    assert why in caught.value.why
    assert caught.value.exit_code == 8


@pytest.mark.parametrize("version", [0, 1_000_000])
def test_a_notice_may_have_the_first_and_the_last_version(event: Maker, version: int) -> None:
    assert event("given", notice=version).notice_version == version


def test_an_event_that_names_no_notice_was_about_none() -> None:
    assert ConsentEvent(bytes(16), STATISTICS, "withdrawn", NOW, NOW).notice_version == 0


def test_no_text_about_an_event_or_a_state_names_the_customer(event: Maker) -> None:
    given = event("given")
    state = fold([given], NOW)
    assert "customer" not in repr(given)
    assert repr(state) == f"ConsentState(folded_at={NOW!r})"
    assert repr(state.by_purpose[STATISTICS]) == "PurposeState()"
    with pytest.raises(ConsentEventError) as caught:
        replace(given, kind="unheard-of")
    assert "customer" not in f"{caught.value.what}{caught.value.why}{caught.value.fix}"


def test_a_state_cannot_be_changed(event: Maker) -> None:
    found = fold([event("given")], NOW).by_purpose[STATISTICS]
    for name in PurposeState.__slots__:
        with pytest.raises(ValueError, match="read-only"):
            getattr(found, name)[0] = 1


def literal(events: list[ConsentEvent], purpose: Purpose) -> Facts:
    """The rules of `fold`, read out literally for the events of one customer; what means nothing is left out."""
    counted = [event for event in events if event.event_time <= NOW and event.recorded_at <= NOW]
    ends_both = {"refused": Status.REFUSED, "withdrawn": Status.WITHDRAWN, "revoked": Status.REVOKED}
    statuses = {status.kind: status for status in Status if status is not Status.NO_RECORD}
    explicits = {f"explicit_{name}": one for name, one in (ends_both | {"given": Status.GIVEN}).items()} | ends_both
    here = [event for event in counted if event.purpose == purpose]
    near = [event for event in counted if event.purpose in (purpose, EVERY_PURPOSE)]
    consent, explicit = literal_consent(here, statuses), literal_consent(here, explicits)
    found = consent | {name: explicit[old] for name, old in EXPLICIT_NAMES.items() if old in explicit}
    standing = Veto(0)
    for veto in RECORDED_VETOES:
        kind = str(veto.name).lower()
        for scope in (purpose, EVERY_PURPOSE):
            times = [event.event_time for event in counted if event.kind == kind and event.purpose == scope]
            lifts = [event.event_time for event in counted if event.kind == f"{kind}_lifted" and event.purpose == scope]
            if times and not any(lift > max(times) for lift in lifts):
                standing |= veto
    if not any(event.kind in ("minor", "minor_lifted") for event in near):
        standing |= Veto.AGE_UNKNOWN
    notices = last([event for event in near if event.kind.startswith("notice_")])
    versions = [event.notice_version if event.kind == "notice_given" else NEVER_TOLD for event in notices]
    places = {event.kind for event in last([event for event in counted if event.kind.startswith("jurisdiction_")])}
    known = {place.kind: place for place in Jurisdiction}
    return found | {
        "vetoes": int(standing),
        "told_version": min(versions, default=NEVER_TOLD),
        "jurisdiction": known[places.pop()] if len(places) == 1 else Jurisdiction.UNKNOWN,
    }


EXPLICIT_NAMES = {"explicit": "status", "explicit_until": "valid_until"}


def literal_consent(here: list[ConsentEvent], statuses: Mapping[str, Status]) -> Facts:
    tied = last([event for event in here if event.kind in statuses])
    found = max((statuses[event.kind] for event in tied), default=Status.NO_RECORD)
    if not tied:
        return {"status": found}
    ends = [event.valid_until for event in tied if event.valid_until is not None]
    if found in (Status.GIVEN, Status.RENEWED) and min(ends) <= NOW:
        found = Status.EXPIRED
    said = {"status": found, "event_time": to_microseconds(tied[0].event_time)}
    said["notice_version"] = min(event.notice_version for event in tied)
    return said | ({"valid_until": to_microseconds(min(ends))} if len(ends) == len(tied) else {})


def last(events: list[ConsentEvent]) -> list[ConsentEvent]:
    """The events of the latest time."""
    time = max((event.event_time for event in events), default=None)
    return [event for event in events if event.event_time == time]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_fold_is_what_a_literal_reading_of_its_rules_gives(event: Any, data: st.DataObject) -> None:
    events = data.draw(st.lists(event.any_event(), max_size=12))
    state = fold(events, NOW)
    counted = {one.subject for one in events if one.event_time <= NOW and one.recorded_at <= NOW}
    assert sorted(state.subjects.to_pylist()) == sorted(counted)
    for subject in counted:
        for purpose in Purpose:
            found = facts(state, subject, purpose)
            expected = literal([one for one in events if one.subject == subject], purpose)
            assert found is not None
            assert {name: found[name] for name in expected} == expected


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_neither_order_nor_repeats_matter(event: Any, data: st.DataObject) -> None:
    events = data.draw(st.lists(event.any_event(), max_size=10))
    shuffled = data.draw(st.permutations(events)) + events[:3]
    one, other = fold(events, NOW), fold(shuffled, NOW)
    for subject in {item.subject for item in events}:
        for purpose in Purpose:
            assert facts(one, subject, purpose) == facts(other, subject, purpose)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_nobodys_state_depends_on_anyone_elses_events(event: Any, data: st.DataObject) -> None:
    events = data.draw(st.lists(event.any_event(), min_size=1, max_size=10))
    subject = events[0].subject
    alone = fold([one for one in events if one.subject == subject], NOW)
    for purpose in Purpose:
        assert facts(fold(events, NOW), subject, purpose) == facts(alone, subject, purpose)


def test_a_table_in_many_chunks_folds_like_one(event: Maker) -> None:
    events = [event("given", who=who, days_ago=who) for who in range(1, 6)] + [event("objection", who=2)]
    chunks = pa.concat_tables([events_table([one]) for one in events])
    whole, parts = fold(events, NOW), fold(chunks, NOW)
    assert whole.subjects.to_pylist() == parts.subjects.to_pylist()
    assert np.array_equal(whole.by_purpose[STATISTICS].vetoes, parts.by_purpose[STATISTICS].vetoes)
