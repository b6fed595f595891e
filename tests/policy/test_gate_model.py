"""Fold and gate together against a small model, written from the documentation: a person reading one history aloud."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from fedseg.policy.consent import EVERY_PURPOSE, ConsentEvent, fold
from fedseg.policy.document import load_policy
from fedseg.policy.gate import decide
from fedseg.table import SUBJECT_TYPE
from tests.policy.conftest import NOW, EventMaker

STATISTICS = "fedseg:SegmentStatistics"
WAYS = """\
version: 1
id: every-way
controller: Test Retail
default: deny
purposes:
  fedseg:SegmentStatistics:
    broader: dpv:ServiceUsageAnalytics
    require_any:
      - basis: eu-gdpr:A6-1-f
        jurisdictions: [loc:EEA]
        notice_min_version: 2
        absent: [objection, opt_out_share]
      - basis: us-ca:notice-and-opt-out
        jurisdictions: [loc:US-CA]
        notice_min_version: 1
        absent: [opt_out_sale, opt_out_share]
      - basis: dpv:Consent
        consent: {status: [given], max_age_days: 2, notice_min_version: 2}
    veto: [objection, restriction, suppressed, minor]
    columns: {allow: [recency]}
    min_cohort: 20
budget: {unit: customer, neighbours: add-or-remove-one, rho_cap: "1/10", delta: "1/1000"}
retention: {raw_days: 395, consent_evidence_days: 1095}
trust_models: [unit-noise]
"""
SENSITIVE = WAYS.replace(
    "    veto: [objection, restriction, suppressed, minor]",
    "    special_category: {columns: [illness], basis: eu-gdpr:A9-2-a}\n"
    "    veto: [objection, restriction, suppressed, limit_sensitive, minor_or_unknown_age]",
)
SHIPPED = [path.read_text(encoding="utf-8") for path in sorted(Path("policies").absolute().glob("*.yaml"))]
DOCUMENTS = [WAYS, SENSITIVE, *SHIPPED]
POLICIES = [load_policy(document.encode()) for document in DOCUMENTS]
RULES: list[dict[str, Any]] = [YAML(typ="safe").load(document)["purposes"][STATISTICS] for document in DOCUMENTS]

ABOUT_CONSENT = ("given", "renewed", "requested", "unknown", "expired", "refused", "withdrawn", "revoked")
ABOUT_EXPLICIT = ("explicit_given", "explicit_refused", "explicit_withdrawn", "explicit_revoked")


class Reader:
    """One customer's history as of a moment, read for one purpose."""

    def __init__(self, events: Sequence[ConsentEvent], now: datetime) -> None:
        self.now = now
        self.known = [one for one in events if one.event_time <= now and one.recorded_at <= now]
        self.here = [one for one in self.known if one.purpose == STATISTICS]
        self.near = [one for one in self.known if one.purpose in (STATISTICS, EVERY_PURPOSE)]

    def last(self, events: list[ConsentEvent]) -> list[ConsentEvent]:
        return [one for one in events if one.event_time == max(other.event_time for other in events)]

    def stands(self, veto: str) -> bool:
        if veto == "minor_or_unknown_age":
            return self.stands("minor") or not any(one.kind in ("minor", "minor_lifted") for one in self.near)
        for scope in (STATISTICS, EVERY_PURPOSE):
            about = [one for one in self.known if one.purpose == scope and one.kind in (veto, f"{veto}_lifted")]
            # Of a veto and its lifting at one time, the veto stands.
            if about and any(one.kind == veto for one in self.last(about)):
                return True
        return False

    def consents(self, status: list[str], max_age_days: int, notice_min_version: int) -> bool:
        said = self.last([one for one in self.here if one.kind in ABOUT_CONSENT])
        kinds = {one.kind for one in said}
        return (
            bool(said)
            and kinds <= {"given", "renewed"}
            and ("renewed" if "renewed" in kinds else "given") in status
            and all(one.valid_until is not None and one.valid_until > self.now for one in said)
            and all(self.now - one.event_time <= timedelta(days=max_age_days) for one in said)
            and all(one.notice_version >= notice_min_version for one in said)
        )

    def was_asked_and_does_not_consent(self) -> bool:
        asked = any(one.kind in ABOUT_CONSENT for one in self.here)
        return asked and not self.consents(["given", "renewed"], 100_000, 0)

    def consents_explicitly(self) -> bool:
        enders = ("refused", "withdrawn", "revoked")
        said = self.last([one for one in self.here if one.kind in (*ABOUT_EXPLICIT, *enders)])
        return bool(said) and all(
            one.kind == "explicit_given" and one.valid_until is not None and one.valid_until > self.now for one in said
        )

    def was_told(self, notice_min_version: int) -> bool:
        said = self.last([one for one in self.near if one.kind in ("notice_given", "notice_undelivered")])
        return bool(said) and all(
            one.kind == "notice_given" and one.notice_version >= notice_min_version for one in said
        )

    def is_in(self, jurisdictions: list[str] | None) -> bool:
        if jurisdictions is None:
            return True
        said = {one.kind for one in self.last([one for one in self.known if one.kind.startswith("jurisdiction_")])}
        names = {f"jurisdiction_{name.removeprefix('loc:').replace('-', '_').lower()}" for name in jurisdictions}
        return len(said) == 1 and said <= names


def model_allows(rule: dict[str, Any], events: Sequence[ConsentEvent], now: datetime) -> bool:
    """Whether a customer with this history may be counted under this rule."""
    reader = Reader(events, now)
    if any(reader.stands(veto) for veto in rule["veto"]):
        return False
    if "basis" in rule.get("special_category", {}) and not reader.consents_explicitly():
        return False
    for way in rule.get("require_any", [{"consent": rule.get("require")}]):
        if not reader.is_in(way.get("jurisdictions")):
            continue
        if "consent" in way and reader.consents(**way["consent"]):
            return True
        if (
            "absent" in way
            and reader.was_told(way["notice_min_version"])
            and not reader.was_asked_and_does_not_consent()
            and not any(reader.stands(veto) for veto in way["absent"])
        ):
            return True
    return False


FAVOURABLE = ("given", "explicit_given", "notice_given", "minor_lifted")
PLACES = ("jurisdiction_eea", "jurisdiction_us_ca", "jurisdiction_gb")
MOSTLY = st.sampled_from([True] * 7 + [False])


@st.composite
def histories(draw: st.DrawFn, event: EventMaker) -> list[ConsentEvent]:
    """Histories of one customer, so made that a fair part of them are allowed: all that may help, and some events."""
    kinds = [kind for kind in (*FAVOURABLE, draw(st.sampled_from(PLACES))) if draw(MOSTLY)]
    base = [event(kind, days_ago=2, valid_days=draw(st.sampled_from([2, 2, 1])), notice=5) for kind in kinds]
    varied = st.builds(
        event,
        kind=st.sampled_from((*FAVOURABLE, *PLACES, "renewed", "objection_lifted")),
        days_ago=st.sampled_from([0, 1, 2, 3]),
        recorded_days_ago=st.sampled_from([-1, 0, 0, 1]),
        valid_days=st.sampled_from([0, 1, 2, 2]),
        notice=st.sampled_from([0, 1, 2, 3, 5]),
    )
    return [*base, *draw(st.lists(varied | event.any_event(people=1), max_size=4))]


def gate_allows(place: int, events: Sequence[ConsentEvent], now: datetime, asked_at: datetime | None = None) -> bool:
    decided = decide(fold(events, now), POLICIES[place], STATISTICS, now if asked_at is None else asked_at)
    (allowed,) = decided.allow(pa.array([EventMaker().subject(1)], SUBJECT_TYPE))
    return bool(allowed)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(range(len(POLICIES))))
def test_the_gate_decides_as_the_model_does_whatever_the_order_and_however_often(
    event: Any, data: st.DataObject, place: int
) -> None:
    events = data.draw(histories(event))
    expected = model_allows(RULES[place], events, NOW)
    assert gate_allows(place, events, NOW) == expected
    again = [*data.draw(st.permutations(events)), *events[: data.draw(st.integers(0, 4))]]
    assert gate_allows(place, again, NOW) == expected


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(range(len(POLICIES))))
def test_what_arrives_late_counts_from_then_on_as_if_it_had_always_been_there(
    event: Any, data: st.DataObject, place: int
) -> None:
    events = data.draw(histories(event))
    tomorrow = NOW + timedelta(days=1)
    assert gate_allows(place, events, tomorrow) == model_allows(RULES[place], events, tomorrow)
    known_today = [one for one in events if one.recorded_at <= NOW]
    assert gate_allows(place, known_today, NOW) == gate_allows(place, events, NOW)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(range(len(POLICIES))))
def test_a_state_counted_earlier_allows_nobody_whose_consent_has_ended_since(
    event: Any, data: st.DataObject, place: int
) -> None:
    events = [one for one in data.draw(histories(event)) if one.event_time <= NOW and one.recorded_at <= NOW]
    tomorrow = NOW + timedelta(days=1)
    assert gate_allows(place, events, NOW, asked_at=tomorrow) == model_allows(RULES[place], events, tomorrow)


@settings(max_examples=100, deadline=None)
@given(
    st.data(),
    st.sampled_from(range(len(POLICIES))),
    st.sampled_from(["objection", "restriction", "suppressed", "minor"]),
)
def test_no_later_consent_or_notice_overrides_a_veto(event: Any, data: st.DataObject, place: int, veto: str) -> None:
    scope = data.draw(st.sampled_from([STATISTICS, EVERY_PURPOSE]))
    vetoed = event(veto, days_ago=2, purpose=scope)
    events = [one for one in data.draw(histories(event)) if one.kind != f"{veto}_lifted"]
    assert not gate_allows(place, [*events, vetoed], NOW)


def test_the_model_allows_enough_for_the_comparison_to_mean_something(event: EventMaker) -> None:
    allowed = 0

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(st.data(), st.sampled_from(range(len(POLICIES))))
    def count(data: st.DataObject, place: int) -> None:
        nonlocal allowed
        allowed += model_allows(RULES[place], data.draw(histories(event)), NOW)

    count()
    assert 30 <= allowed <= 120
