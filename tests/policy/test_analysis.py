"""Exhaustive analysis: what it says of the gate is so, and what is wrong with a gate or a policy it finds."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.policy import space as space_module
from fedseg.policy.analysis import Finding, Law, PurposeAnalysis, analyse, decisions_changed
from fedseg.policy.changes import Change, keys_changed
from fedseg.policy.consent import (
    EVENT_SCHEMA,
    EVERY_PURPOSE,
    ConsentEvent,
    Jurisdiction,
    PurposeState,
    Veto,
    events_table,
    fold,
)
from fedseg.policy.document import Policy, load_policy
from fedseg.policy.gate import Reason, decide, judge
from fedseg.policy.purpose_rule import PurposeRule
from fedseg.policy.purposes import Purpose
from fedseg.policy.space import Group, Space

SHIPPED = {path.stem: load_policy(path.read_bytes()) for path in sorted(Path("policies").absolute().glob("*.yaml"))}
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
JUST_BEFORE = NOW - timedelta(microseconds=1)
SUBJECT = bytes(16)
STATISTICS = Purpose.SEGMENT_STATISTICS

DOCUMENT = """\
version: 1
id: two-ways
controller: Test Retail
default: deny
purposes:
  fedseg:SegmentStatistics:
    broader: dpv:ServiceUsageAnalytics
    require_any:
      - basis: eu-gdpr:A6-1-f
        jurisdictions: [loc:EEA, loc:CH]
        notice_min_version: 4
        absent: [objection, opt_out_share]
      - basis: dpv:Consent
        jurisdictions: [loc:GB, loc:US]
        consent: {status: [given], max_age_days: 100, notice_min_version: 3}
      - basis: eu-gdpr:A6-1-a
        consent: {status: [given, renewed], max_age_days: 50, notice_min_version: 7}
    veto: [objection, restriction, suppressed, limit_sensitive, minor_or_unknown_age]
    special_category: {columns: [illness], basis: eu-gdpr:A9-2-a}
    columns: {allow: [recency, frequency]}
    min_cohort: 20
budget: {unit: customer, neighbours: add-or-remove-one, rho_cap: "1/10", delta: "1/1000"}
retention: {raw_days: 395, consent_evidence_days: 1095}
trust_models: [unit-noise]
"""


def policy_of(*changes: tuple[str, str]) -> Policy:
    text = DOCUMENT
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return load_policy(text.encode())


POLICY = policy_of()
RULE = POLICY.rule(STATISTICS)


POLICIES = SHIPPED | {"two-ways": POLICY}


@cache
def analysis(name: str) -> list[PurposeAnalysis]:
    """That of the gate as it is."""
    return analyse(POLICIES[name])


def broken(policy: Policy) -> list[Finding]:
    return [finding for one in analyse(policy) for finding in one.findings if not finding.holds]


@pytest.mark.parametrize("name", POLICIES)
def test_every_law_holds_of_the_shipped_policies(name: str) -> None:
    assert [finding for one in analysis(name) for finding in one.findings if not finding.holds] == []
    for one in analysis(name):
        assert {finding.law for finding in one.findings} == set(Law)
        assert 0 < one.allowed < one.states


def as_events(state: dict[str, str], space: Space) -> pa.Table:
    """A history that leaves a customer in this state just before now, with what is over being over now."""

    def event(kind: str, *, at: datetime = JUST_BEFORE, until: datetime | None = None, notice: int = 0) -> ConsentEvent:
        about_customer = kind.startswith(("jurisdiction_", "minor"))
        return ConsentEvent(SUBJECT, EVERY_PURPOSE if about_customer else STATISTICS, kind, at, at, until, notice)

    def version(label: str, limits: tuple[int, ...]) -> int:
        return limits[0] - 1 if label.startswith("before") else int(label.split()[1])

    events: list[ConsentEvent] = [event("requested", at=NOW - timedelta(days=1000))]
    later = NOW + timedelta(days=1)
    edges = [*(timedelta(days=days) for days in space.ages), timedelta(days=space.ages[-1], microseconds=1)]
    ages = dict(zip(space.axis("age_of_consent")[1].values, edges, strict=True))
    if state["consent"] in ("given", "renewed"):
        at = NOW - ages[state["age_of_consent"]]
        until = NOW if state["end_of_consent"] == "over" else later
        notice = version(state["notice_of_consent"], space.notices)
        events.append(event(state["consent"], at=at, until=until, notice=notice))
    elif state["consent"] == "no_record":
        events = [event("objection_lifted")]
    else:
        events.append(event(state["consent"]))
    if state["explicit_consent"].startswith("given"):
        events.append(event("explicit_given", until=NOW if "over" in state["explicit_consent"] else later))
    elif state["explicit_consent"] in ("refused", "withdrawn", "revoked"):
        events.append(event(f"explicit_{state['explicit_consent']}"))
    if state["notice_sent"] != "none":
        events.append(event("notice_given", notice=version(state["notice_sent"], space.told)))
    places = {place.text: place.kind for place in Jurisdiction}
    if state["jurisdiction"] != "unknown":
        events.append(event(places[state["jurisdiction"]]))
    events += [event(str(veto.name).lower()) for veto in Veto if state.get(str(veto.name).lower()) == "yes"]
    events += [event({"adult": "minor_lifted", "minor": "minor"}[state["age"]])] if state["age"] != "unknown" else []
    table = events_table(events)
    if state["events"] == "unreadable":
        unread = table.slice(0, 1).set_column(2, EVENT_SCHEMA.field("kind"), pa.array(["of a later version"]))
        table = pa.concat_tables([table, unread])
    return table


SPACE = Space.of([RULE])
REASONS = SPACE.reasons(RULE)


@settings(max_examples=300, deadline=None)
@given(st.tuples(*(st.just(0) | st.integers(0, length - 1) for length in SPACE.shape)))
def test_a_state_is_judged_as_a_history_that_leads_to_it(places: tuple[int, ...]) -> None:
    # The first values allow most. So that not everything is denied, they are as likely as all others.
    state = {axis.name: axis.values[place] for axis, place in zip(SPACE.axes, places, strict=True)}
    ends_both = state["consent"] in ("refused", "withdrawn", "revoked")
    if ends_both:
        state["explicit_consent"] = state["consent"]
    # What had ended when the events were counted is not what ends now.
    assume(SPACE.possible[places] and state["explicit_consent"] != "expired")
    places = tuple(axis.place(state[axis.name]) for axis in SPACE.axes)
    (code,) = decide(fold(as_events(state, SPACE), JUST_BEFORE), POLICY, STATISTICS, NOW).codes
    assert Reason(int(code)) is Reason(int(REASONS[places]))


def states_of(space: Space, groups: tuple[Group, ...]) -> NDArray[np.bool_]:
    """The possible states that are in a group."""
    found = np.zeros(space.shape, dtype=np.bool_)
    for group in groups:
        box = [[axis.place(value) for value in group.get(axis.name, axis.values)] for axis in space.axes]
        found[np.ix_(*box)] = True
    return found & space.possible


@pytest.mark.parametrize("name", POLICIES)
def test_the_groups_hold_the_allowed_states_and_no_others(name: str) -> None:
    for one in analysis(name):
        rule = POLICIES[name].rule(one.purpose)
        space = Space.of([rule])
        expected = space.allowed(rule) & space.possible
        assert np.array_equal(states_of(space, one.groups), expected)
        assert one.allowed == int(expected.sum())
        assert one.states == int(space.possible.sum())


def test_no_possible_state_has_the_age_or_notice_of_a_consent_that_there_is_not() -> None:
    space = Space.of([RULE])
    _, consent = space.axis("consent")
    given_ = [consent.place("given"), consent.place("renewed")]
    assert space.possible[given_].all()
    nothing = np.delete(space.possible, given_, axis=0)
    assert nothing[:, 0, 0, 0].all()
    assert int(nothing.sum()) == nothing[:, 0, 0, 0].size


def test_the_classes_of_versions_and_ages_are_cut_at_the_limits() -> None:
    space = Space.of([RULE])
    assert (space.ages, space.notices, space.told) == ((50, 100), (3, 7), (4,))
    assert space.axis("age_of_consent")[1].values == (
        "at most 50 days",
        "more than 50, at most 100 days",
        "more than 100 days",
    )
    assert space.axis("notice_of_consent")[1].values == ("version 7 or later", "version 3 to 6", "before version 3")
    assert space.axis("notice_sent")[1].values == ("version 4 or later", "before version 4", "none")
    next_to = Space((1,), (0, 1), ())
    assert next_to.axis("notice_of_consent")[1].values == ("version 1 or later", "version 0")
    assert next_to.axis("notice_sent")[1].values == ("any", "none")
    assert Space((), (), (4,)).axis("age_of_consent")[1].values == ("any",)


JURISDICTIONS = st.lists(
    st.sampled_from(["loc:EEA", "loc:GB", "loc:US-CA", "other"]), min_size=1, max_size=2, unique=True
)
FREE_VETOES = st.lists(st.sampled_from(["opt_out_sale", "opt_out_share", "limit_sensitive"]), unique=True)


@st.composite
def rules(draw: st.DrawFn) -> PurposeRule:
    """Any rule the form allows, up to two ways, with few different limits."""
    consent = {"status": ["given"], "max_age_days": 9, "notice_min_version": draw(st.integers(0, 1))}
    by_consent: dict[str, Any] = {"basis": "dpv:Consent", "consent": consent}
    by_interest = {
        "basis": "eu-gdpr:A6-1-f",
        "jurisdictions": draw(JURISDICTIONS),
        "notice_min_version": draw(st.integers(0, 1)),
        "absent": ["objection", *draw(FREE_VETOES)],
    }
    somewhere = by_consent | {"jurisdictions": draw(JURISDICTIONS)}
    ways = draw(st.lists(st.sampled_from([by_consent, by_interest, somewhere]), min_size=1, max_size=2))
    document: dict[str, Any] = {
        "broader": STATISTICS.broader,
        "require_any": ways,
        "veto": ["objection", "restriction", "suppressed", "limit_sensitive"],
        "columns": {"allow": ["recency"]},
        "min_cohort": 1,
    }
    document["veto"] += draw(st.sampled_from([["minor"], ["minor_or_unknown_age"], ["minor", "opt_out_sale"]]))
    if draw(st.booleans()):
        document["special_category"] = {"columns": ["illness"], "basis": "eu-gdpr:A9-2-a"}
    return PurposeRule.model_validate_json(json.dumps(document))


@settings(max_examples=12, deadline=None)
@given(rules())
def test_whatever_a_policy_says_no_veto_is_overruled_and_nothing_unknown_is_allowed(rule: PurposeRule) -> None:
    policy = POLICY.model_copy(update={"purposes": {STATISTICS: rule}})
    assert [finding for finding in broken(policy) if finding.law is not Law.PARTS] == []


# Gates that have lost something

Judge = Callable[[PurposeState, PurposeRule, int], NDArray[np.uint8]]


def forgetful(state: Callable[[PurposeState], PurposeState]) -> Judge:
    """A gate that judges another state than the one it is shown."""
    return lambda standing, rule, moment: judge(state(standing), rule, moment)


def without(veto: Veto) -> Judge:
    return forgetful(lambda standing: replace(standing, vetoes=standing.vetoes & np.uint16(~veto & 0xFFFF)))


def taking(**wrong: int) -> Judge:
    """A gate that takes something for granted."""
    return forgetful(lambda standing: replace(standing, **{name: np.array(value) for name, value in wrong.items()}))


def contrary(standing: PurposeState, rule: PurposeRule, moment: int) -> NDArray[np.uint8]:
    """A gate that allows some because of a restriction."""
    restricted = (standing.vetoes & np.uint16(Veto.OPT_OUT_SALE)) != 0
    return np.where(restricted, judge(standing, rule, moment), np.uint8(Reason.NO_RECORD))


FORGETFUL: dict[str, tuple[Judge, str, dict[str, str]]] = {
    "objection": (without(Veto.OBJECTION), "objection denies", {"objection": "yes"}),
    "restriction": (without(Veto.RESTRICTION), "restriction denies", {"restriction": "yes"}),
    "suppressed": (without(Veto.SUPPRESSED), "suppressed denies", {"suppressed": "yes"}),
    "limit": (without(Veto.LIMIT_SENSITIVE), "limit_sensitive denies", {"limit_sensitive": "yes"}),
    "minor": (without(Veto.MINOR), "minor_or_unknown_age denies", {"age": "minor"}),
    "age": (without(Veto.AGE_UNKNOWN), "minor_or_unknown_age denies", {"age": "unknown"}),
    "unreadable": (without(Veto.UNREADABLE), "an event that cannot be read denies", {"events": "unreadable"}),
    "notice": (taking(told_version=9), "who has neither consented nor been told", {"notice_sent": "none"}),
    "status": (taking(status=1), "who was asked and does not consent", {"consent": "requested"}),
    "end": (taking(valid_until=2**62), "a consent that is over", {"end_of_consent": "over"}),
    "explicit": (taking(explicit=1, explicit_until=2**62), "without explicit consent", {}),
    "contrary": (contrary, "a restriction in opt out sale", {"opt_out_sale": "yes"}),
}


@pytest.mark.parametrize(("gate", "says", "example"), FORGETFUL.values(), ids=FORGETFUL)
def test_a_gate_that_lost_a_check_is_found_with_a_state_that_shows_it(
    monkeypatch: pytest.MonkeyPatch, gate: Judge, says: str, example: dict[str, str]
) -> None:
    monkeypatch.setattr(space_module, "judge", gate)
    policy = SHIPPED["gdpr-legitimate-interest" if "told" in says else "health-cross-industry"]
    found = [finding for finding in broken(policy) if finding.says.startswith(says)]
    assert len(found) == 1
    assert found[0].counterexample is not None
    assert example.items() <= found[0].counterexample.items()
    assert set(found[0].counterexample) == {axis.name for axis in SPACE.axes}


def test_a_gate_that_lets_unknown_jurisdictions_pass_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_module, "judge", taking(jurisdiction=Jurisdiction.EEA))
    policy = SHIPPED["gdpr-legitimate-interest"]
    found = [finding.counterexample for finding in broken(policy) if "unknown jurisdiction" in finding.says]
    assert [one["jurisdiction"] for one in found if one is not None] == ["unknown"]


# Policies with parts that do nothing

DEAD = {
    "a veto within another": (("minor_or_unknown_age]", "minor, minor_or_unknown_age]"), ["veto minor"]),
    "a way within another": (
        ("max_age_days: 50, notice_min_version: 7", "max_age_days: 100, notice_min_version: 3"),
        ["require_any 2", "require_any 2 jurisdictions loc:GB", "require_any 2 jurisdictions loc:US"],
    ),
    "absence of what is a veto anyway": (
        ("absent: [objection, opt_out_share]", "absent: [objection, suppressed]"),
        ["require_any 1 absent suppressed"],
    ),
}


@pytest.mark.parametrize(("change", "parts"), DEAD.values(), ids=DEAD)
def test_a_part_that_changes_no_decision_is_found(change: tuple[str, str], parts: list[str]) -> None:
    found = broken(policy_of(change))
    assert [one.says for one in found] == [f"{part} changes some decision" for part in parts]
    assert all(one.dead and one.counterexample is None and one.law is Law.PARTS for one in found)


def test_every_part_is_tried() -> None:
    assert "objection" in RULE.veto, "what the form itself demands may repeat a veto"
    (one,) = analysis("two-ways")
    parts = [
        finding.says.removesuffix(" changes some decision") for finding in one.findings if finding.law is Law.PARTS
    ]
    assert parts == [
        *(f"veto {name}" for name in RULE.veto),
        "special_category",
        "require_any 1",
        "require_any 1 jurisdictions loc:EEA",
        "require_any 1 jurisdictions loc:CH",
        "require_any 1 absent opt_out_share",
        "require_any 2",
        "require_any 2 jurisdictions loc:GB",
        "require_any 2 jurisdictions loc:US",
        "require_any 3",
        "require_any 3 status renewed",
        "somebody can be allowed",
    ]


# Two policies


def test_a_policy_does_not_differ_from_itself() -> None:
    for policy in SHIPPED.values():
        assert decisions_changed(policy, policy) == []
        assert keys_changed(policy, policy) == []


def test_a_stricter_notice_denies_those_who_saw_the_older_ones_and_nobody_else() -> None:
    (one,) = decisions_changed(
        POLICY, policy_of(("max_age_days: 50, notice_min_version: 7", "max_age_days: 50, notice_min_version: 9"))
    )
    assert (one.purpose, one.states_allowed, one.newly_allowed) == (STATISTICS, 0, ())
    assert one.states_denied > 0
    assert {group["notice_of_consent"] for group in one.newly_denied} == {("version 7 to 8",)}


def test_the_difference_is_every_state_decided_otherwise() -> None:
    before, after = SHIPPED["gdpr-legitimate-interest"], SHIPPED["ccpa"]
    found = {one.purpose: one for one in decisions_changed(before, after)}
    rules = [before.rule(STATISTICS), after.rule(STATISTICS)]
    space = Space.of(rules)
    old, new = (space.allowed(rule) & space.possible for rule in rules)
    one = found[STATISTICS]
    assert np.array_equal(states_of(space, one.newly_allowed), new & ~old)
    assert np.array_equal(states_of(space, one.newly_denied), old & ~new)
    assert (one.states_allowed, one.states_denied) == (int((new & ~old).sum()), int((old & ~new).sum()))
    assert found[Purpose.SEGMENT_ACTIVATION].states_denied == 0, "a purpose the earlier policy does not name"
    back = {one.purpose: one for one in decisions_changed(after, before)}
    assert back[STATISTICS].newly_denied == one.newly_allowed


def test_every_key_that_differs_is_listed_with_both_values() -> None:
    other = policy_of(
        ("min_cohort: 20", "min_cohort: 30"), ("raw_days: 395,", "raw_days: 395, backup_days: 7,"), ("loc:EEA, ", "")
    )
    assert keys_changed(POLICY, other) == [
        Change("purposes.fedseg:SegmentStatistics.require_any.1.jurisdictions", ["loc:EEA", "loc:CH"], ["loc:CH"]),
        Change("purposes.fedseg:SegmentStatistics.min_cohort", 20, 30),
        Change("retention.backup_days", None, 7),
    ]
    assert [one.after for one in keys_changed(other, POLICY)][2] is None


def test_reordering_a_list_is_a_change_of_a_key_and_of_no_decision() -> None:
    other: Any = policy_of(("[loc:EEA, loc:CH]", "[loc:CH, loc:EEA]"))
    assert decisions_changed(POLICY, other) == []
    assert len(keys_changed(POLICY, other)) == 1
