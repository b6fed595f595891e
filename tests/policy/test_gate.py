"""The gate: deny unless every check says yes, each check seen alone; and nothing but admitted rows comes out."""

import copy
import dataclasses
import hashlib
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.columns import Column, numbers
from fedseg.errors import PolicyError
from fedseg.policy import gate
from fedseg.policy.consent import EVENT_SCHEMA, EVERY_PURPOSE, ConsentEvent, events_table, fold
from fedseg.policy.document import Policy, load_policy
from fedseg.policy.gate import ConsentedTable, Decisions, Reason, admit, decide, tally
from fedseg.policy.purposes import Purpose
from fedseg.policy.rules import RuleOutcome, check_policy
from fedseg.table import SUBJECT_TYPE, Table, table_of, table_schema

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STATISTICS, ACTIVATION = Purpose.SEGMENT_STATISTICS, Purpose.SEGMENT_ACTIVATION
SALT = bytes(range(32))

Maker = Any

DOCUMENT = """\
version: 1
id: gate-policy
controller: Test Retail
default: deny
purposes:
  fedseg:SegmentStatistics:
    broader: dpv:ServiceUsageAnalytics
    basis: eu-gdpr:A6-1-a
    require: {status: [given, renewed], max_age_days: 100, notice_min_version: 3}
    veto: [objection, restriction, suppressed, minor]
    columns: {allow: [recency, frequency]}
    min_cohort: 20
    rho_cap: "1/20"
budget: {unit: customer, neighbours: add-or-remove-one, rho_cap: "1/10", delta: "1/1000"}
retention: {raw_days: 395, consent_evidence_days: 1095}
trust_models: [unit-noise]
"""
EVERY_VETO = "[objection, restriction, suppressed, opt_out_sale, opt_out_share, minor_or_unknown_age]"
POLICY = load_policy(DOCUMENT.encode())
STRICT = load_policy(DOCUMENT.replace("[objection, restriction, suppressed, minor]", EVERY_VETO).encode())


def decisions_of(*events: ConsentEvent, policy: Policy = POLICY, now: datetime = NOW) -> Decisions:
    return decide(fold(events, now), policy, STATISTICS, now)


def reason(*events: ConsentEvent, policy: Policy = POLICY) -> Reason:
    (code,) = decisions_of(*events, policy=policy).codes
    return Reason(int(code))


def rows(subjects: list[bytes | None], columns: tuple[Column, ...] = numbers("recency"), batch_rows: int = 2) -> Table:
    """Row i has the value i in every column."""
    batches = [
        pa.record_batch(
            [
                pa.array(subjects[start : start + batch_rows], SUBJECT_TYPE),
                *(pa.array([float(i) for i in range(start, min(start + batch_rows, len(subjects)))]) for _ in columns),
            ],
            schema=table_schema(columns),
        )
        for start in range(0, len(subjects), batch_rows)
    ]
    return table_of(batches, columns)


def admitted(table: ConsentedTable) -> list[float]:
    return [value for batch in table.batches() for value in batch.column("recency").to_pylist()]


# Deciding


@pytest.mark.parametrize("kind", ["given", "renewed"])
def test_a_valid_consent_is_allowed(event: Maker, kind: str) -> None:
    assert reason(event(kind)) is Reason.ALLOWED


REASONS = {
    "requested": Reason.NOT_GIVEN,
    "unknown": Reason.NOT_GIVEN,
    "refused": Reason.NOT_GIVEN,
    "expired": Reason.EXPIRED,
    "withdrawn": Reason.WITHDRAWN,
    "revoked": Reason.WITHDRAWN,
    "objection_lifted": Reason.NO_RECORD,
}


@pytest.mark.parametrize(("kind", "expected"), REASONS.items())
def test_everything_but_a_consent_is_denied(event: Maker, kind: str, expected: Reason) -> None:
    assert reason(event(kind)) is expected


def test_a_renewed_consent_is_denied_where_the_policy_accepts_given_alone(event: Maker) -> None:
    given_only = load_policy(DOCUMENT.replace("[given, renewed]", "[given]").encode())
    assert reason(event("given"), policy=given_only) is Reason.ALLOWED
    assert reason(event("renewed"), policy=given_only) is Reason.NOT_GIVEN


def test_an_ended_consent_is_denied(event: Maker) -> None:
    assert reason(event("given", valid_days=0)) is Reason.EXPIRED


def test_a_consent_that_ended_between_state_and_decision_is_denied(event: Maker) -> None:
    state = fold([event("given", valid_days=1)], NOW)
    in_time, at_the_end = NOW + timedelta(days=1, microseconds=-1), NOW + timedelta(days=1)
    assert decide(state, POLICY, STATISTICS, in_time).codes.tolist() == [Reason.ALLOWED]
    assert decide(state, POLICY, STATISTICS, at_the_end).codes.tolist() == [Reason.EXPIRED]


def test_a_state_of_a_later_moment_is_refused(event: Maker) -> None:
    state = fold([event("given")], NOW)
    with pytest.raises(ValueError, match="folded at a later moment"):
        decide(state, POLICY, STATISTICS, NOW - timedelta(microseconds=1))


def test_a_consent_older_than_the_policy_accepts_is_denied(event: Maker) -> None:
    assert reason(event("given", days_ago=100)) is Reason.ALLOWED
    older = dataclasses.replace(event("given"), event_time=NOW - timedelta(days=100, microseconds=1))
    assert reason(older) is Reason.TOO_OLD


def test_a_consent_to_an_older_notice_than_the_policy_accepts_is_denied(event: Maker) -> None:
    assert reason(event("given", notice=3)) is Reason.ALLOWED
    assert reason(event("given", notice=2)) is Reason.NOTICE_TOO_OLD


VETOES = {
    "objection": Reason.VETOED_OBJECTION,
    "restriction": Reason.VETOED_RESTRICTION,
    "suppressed": Reason.VETOED_SUPPRESSED,
    "opt_out_sale": Reason.VETOED_OPT_OUT_SALE,
    "opt_out_share": Reason.VETOED_OPT_OUT_SHARE,
    "minor": Reason.VETOED_MINOR,
}


@pytest.mark.parametrize(("kind", "expected"), VETOES.items())
def test_a_veto_the_policy_names_denies_in_spite_of_consent(event: Maker, kind: str, expected: Reason) -> None:
    adult = [event("minor_lifted", days_ago=20)]
    assert reason(event("given"), *adult, policy=STRICT) is Reason.ALLOWED
    assert reason(event("given"), *adult, event(kind), policy=STRICT) is expected
    assert reason(event("given"), *adult, event(kind, purpose=EVERY_PURPOSE), policy=STRICT) is expected


def test_a_veto_the_policy_does_not_name_denies_nobody(event: Maker) -> None:
    assert reason(event("given"), event("opt_out_sale"), event("opt_out_share")) is Reason.ALLOWED


def test_unknown_age_denies_where_the_policy_says_so(event: Maker) -> None:
    assert reason(event("given"), policy=STRICT) is Reason.VETOED_UNKNOWN_AGE
    assert reason(event("given"), policy=POLICY) is Reason.ALLOWED
    assert reason(event("given"), event("minor"), policy=POLICY) is Reason.VETOED_MINOR


def test_an_event_nobody_can_read_denies_under_every_policy(event: Maker) -> None:
    unread = events_table([event("given")]).set_column(2, EVENT_SCHEMA.field("kind"), pa.array(["profiling"]))
    both = pa.concat_tables([unread, events_table([event("given")])])
    for policy in (POLICY, STRICT):
        assert decide(fold(both, NOW), policy, STATISTICS, NOW).codes.tolist() == [Reason.UNREADABLE]


def test_a_veto_is_named_before_any_other_reason(event: Maker) -> None:
    for kind in ("withdrawn", "expired", "requested"):
        assert reason(event(kind), event("restriction")) is Reason.VETOED_RESTRICTION


def test_a_purpose_the_policy_does_not_name_is_denied_as_a_whole(event: Maker) -> None:
    state = fold([event("given", purpose=ACTIVATION)], NOW)
    for purpose in (ACTIVATION, "fedseg:Everything"):
        with pytest.raises(PolicyError, match="does not allow the purpose"):
            decide(state, POLICY, purpose, NOW)


def test_consent_to_another_purpose_is_not_enough(event: Maker) -> None:
    assert reason(event("given", purpose=ACTIVATION)) is Reason.NO_RECORD


def test_an_empty_register_allows_nobody() -> None:
    nobody = decisions_of()
    assert len(nobody.codes) == 0
    assert nobody.allow(pa.array([b"x" * 16, None], SUBJECT_TYPE)).tolist() == [False, False]


def test_reasons_keep_their_names_and_numbers() -> None:
    assert {one.name: int(one) for one in Reason} == {
        "ALLOWED": 0,
        "NO_RECORD": 1,
        "NOT_GIVEN": 2,
        "WITHDRAWN": 3,
        "EXPIRED": 4,
        "TOO_OLD": 5,
        "NOTICE_TOO_OLD": 6,
        "JURISDICTION_UNKNOWN": 7,
        "JURISDICTION_NOT_COVERED": 8,
        "NOT_TOLD": 9,
        "NO_EXPLICIT_CONSENT": 10,
        "EXPLICIT_CONSENT_ENDED": 11,
        "VETOED_OBJECTION": 16,
        "VETOED_RESTRICTION": 17,
        "VETOED_SUPPRESSED": 18,
        "VETOED_OPT_OUT_SALE": 19,
        "VETOED_OPT_OUT_SHARE": 20,
        "VETOED_MINOR": 21,
        "VETOED_UNKNOWN_AGE": 22,
        "VETOED_LIMIT_SENSITIVE": 23,
        "UNREADABLE": 255,
    }


RESTRICTIVE = (*VETOES, *(kind for kind, expected in REASONS.items() if expected is not Reason.NO_RECORD))


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(RESTRICTIVE), st.sampled_from([0, 1, 2, 3]), st.sampled_from([POLICY, STRICT]))
def test_a_restrictive_event_more_never_turns_a_denial_into_a_permission(
    event: Any, data: st.DataObject, kind: str, days_ago: int, policy: Policy
) -> None:
    events = data.draw(st.lists(event.any_event(people=2), max_size=10))
    before = decisions_of(*events, policy=policy)
    after = decisions_of(*events, event(kind, who=1, days_ago=days_ago), policy=policy)
    everyone = pa.array([event.subject(1), event.subject(2)], SUBJECT_TYPE)
    was_allowed, is_allowed = before.allow(everyone), after.allow(everyone)
    assert not (is_allowed & ~was_allowed).any()
    assert is_allowed[1] == was_allowed[1]


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(sorted(VETOES)), st.sampled_from([STATISTICS, EVERY_PURPOSE]))
def test_a_standing_veto_dominates_every_history(event: Any, data: st.DataObject, kind: str, scope: str) -> None:
    events = data.draw(st.lists(event.any_event(people=1), max_size=10))
    vetoed = decisions_of(*events, event(kind, days_ago=0, purpose=scope), policy=STRICT)
    assert vetoed.codes.tolist() != [Reason.ALLOWED]


# Decisions


def test_decisions_of_another_form_are_never_born() -> None:
    subjects, codes = pa.array([b"a" * 16, b"b" * 16], SUBJECT_TYPE), np.zeros(2, np.uint8)
    good: dict[str, Any] = {
        "subjects": subjects, "codes": codes, "decided_at": NOW, "purpose": STATISTICS, "policy_digest": POLICY.digest,
    }  # fmt: skip
    assert Decisions.over(**good).codes.tolist() == [0, 0]
    broken: dict[str, tuple[dict[str, Any], str]] = {
        "type": ({"subjects": pa.array([b"a", b"b"])}, "binary"),
        "null": ({"subjects": pa.array([b"a" * 16, None], SUBJECT_TYPE)}, "without nulls"),
        "twice": ({"subjects": pa.array([b"a" * 16] * 2, SUBJECT_TYPE)}, "once only"),
        "length": ({"codes": np.zeros(3, np.uint8)}, "one uint8 code per subject"),
        "dtype": ({"codes": np.zeros(2, np.int64)}, "one uint8 code per subject"),
        "code": ({"codes": np.array([0, 99], np.uint8)}, "every code must be a Reason"),
        "time": ({"decided_at": NOW.replace(tzinfo=None)}, "time zone"),
    }
    for change, why in broken.values():
        with pytest.raises(ValueError, match=why):
            Decisions.over(**{**good, **change})


def test_decisions_cannot_be_changed_and_show_nobody(event: Maker) -> None:
    decided = decisions_of(event("given"))
    with pytest.raises(ValueError, match="read-only"):
        decided.codes[0] = 0
    assert repr(decided) == (f"Decisions(decided_at={NOW!r}, purpose={STATISTICS!r}, policy_digest={POLICY.digest!r})")


def test_only_the_allowed_are_allowed(event: Maker) -> None:
    decided = decisions_of(event("given", who=1), event("withdrawn", who=2), event("given", who=3))
    asked = pa.array([event.subject(3), None, event.subject(2), event.subject(4), event.subject(1)], SUBJECT_TYPE)
    assert decided.allow(asked).tolist() == [True, False, False, False, True]


def test_the_commitment_is_what_its_docstring_says(event: Maker) -> None:
    decided = decisions_of(event("withdrawn", who=2), event("given", who=1))

    def part(text: str) -> bytes:
        return len(text).to_bytes(8, "big") + text.encode()

    time = (NOW - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    preimage = b"fedseg/gate-commitment/v1\n" + SALT + part(POLICY.digest) + part(str(STATISTICS)) + part(str(time))
    preimage += (2).to_bytes(8, "big") + event.subject(1) + event.subject(2) + bytes([Reason.ALLOWED, Reason.WITHDRAWN])
    assert decided.commitment(SALT, POLICY.digest) == hashlib.sha256(preimage).hexdigest()


def test_the_commitment_changes_with_every_fact_and_not_with_the_order(event: Maker) -> None:
    events = [event("given", who=1), event("withdrawn", who=2)]
    base = decisions_of(*events).commitment(SALT, POLICY.digest)
    assert decisions_of(*reversed(events)).commitment(SALT, POLICY.digest) == base
    others = {
        decisions_of(*events).commitment(bytes(32), POLICY.digest),
        decisions_of(*events, now=NOW + timedelta(microseconds=1)).commitment(SALT, POLICY.digest),
        decisions_of(*events, event("given", who=3)).commitment(SALT, POLICY.digest),
        decisions_of(event("given", who=1), event("refused", who=2)).commitment(SALT, POLICY.digest),
        decisions_of(event("given", who=2), event("withdrawn", who=1)).commitment(SALT, POLICY.digest),
    }
    assert len(others | {base}) == 6


@pytest.mark.parametrize("salt", [b"", bytes(31), bytes(33)])
def test_a_salt_of_another_length_is_refused(event: Maker, salt: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        decisions_of(event("given")).commitment(salt, POLICY.digest)


def test_a_commitment_under_another_policy_is_refused(event: Maker) -> None:
    with pytest.raises(ValueError, match="another policy"):
        decisions_of(event("given")).commitment(SALT, STRICT.digest)


# Admitting


def test_rows_of_the_allowed_come_out_in_order_and_no_others(event: Maker) -> None:
    decided = decisions_of(event("given", who=1), event("withdrawn", who=2), event("given", who=3))
    one, two, three, stranger = (event.subject(who) for who in (1, 2, 3, 4))
    table = admit(rows([three, two, None, one, stranger, one]), decided, POLICY, STATISTICS)
    assert admitted(table) == [0, 3, 5]
    assert [batch.schema for batch in table.batches()] == [table.schema()] * 3
    assert admitted(table) == [0, 3, 5], "each call streams from the beginning"


def test_an_admitted_table_says_what_it_may_be_used_for(event: Maker) -> None:
    table = admit(rows([], numbers("frequency", "recency")), decisions_of(event("given")), POLICY, STATISTICS)
    assert table.columns == numbers("frequency", "recency")
    assert table.purpose == STATISTICS
    assert table.policy_digest == POLICY.digest
    assert table.schema() == table_schema(numbers("frequency", "recency"))


def unreadable_rows(columns: tuple[Column, ...]) -> Table:
    def source() -> Iterator[pa.RecordBatch]:
        raise AssertionError("a row was read")

    return Table(columns, source)


def test_a_column_the_policy_does_not_allow_is_refused_before_any_row_is_read(event: Maker) -> None:
    with pytest.raises(PolicyError) as caught:
        admit(unreadable_rows(numbers("recency", "income")), decisions_of(event("given")), POLICY, STATISTICS)
    assert "not allowed: income; allowed: recency, frequency" in caught.value.why


def test_admitting_reads_no_row(event: Maker) -> None:
    recency = numbers("recency")
    assert admit(unreadable_rows(recency), decisions_of(event("given")), POLICY, STATISTICS).columns == recency


def test_decisions_hold_for_their_own_purpose_and_policy_alone(event: Maker) -> None:
    text = DOCUMENT[DOCUMENT.index("    basis") : DOCUMENT.index("budget")]
    both = f"  fedseg:SegmentActivation:\n    broader: dpv:TargetedAdvertising\n{text}"
    policy = load_policy(DOCUMENT.replace("budget", both + "budget").encode())
    decided = decisions_of(event("given"), policy=policy)
    assert admit(rows([]), decided, policy, STATISTICS).purpose == STATISTICS
    with pytest.raises(ValueError, match="another purpose or under another policy"):
        admit(rows([]), decided, policy, ACTIVATION)
    with pytest.raises(ValueError, match="another purpose or under another policy"):
        admit(rows([]), decided, POLICY, STATISTICS)


def test_a_purpose_the_policy_does_not_name_is_not_admitted(event: Maker) -> None:
    with pytest.raises(PolicyError, match="does not allow the purpose"):
        admit(unreadable_rows(numbers("recency")), decisions_of(event("given")), POLICY, ACTIVATION)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whether_a_row_is_admitted_depends_on_its_own_customers_events_alone(event: Any, data: st.DataObject) -> None:
    events = data.draw(st.lists(event.any_event(), max_size=12))
    subjects = data.draw(st.lists(st.sampled_from([None, *(event.subject(who) for who in range(1, 5))]), max_size=8))
    kept = admitted(admit(rows(subjects), decisions_of(*events), POLICY, STATISTICS))
    for at, subject in enumerate(subjects):
        own = [one for one in events if one.subject == subject]
        alone = admit(rows([subject]), decisions_of(*own), POLICY, STATISTICS)
        assert (at in kept) == (admitted(alone) == [0])
        assert own or at not in kept, "a customer nobody knows is left out"


def test_a_consented_table_is_made_by_admit_alone(event: Maker) -> None:
    table = admit(rows([]), decisions_of(event("given")), POLICY, STATISTICS)
    parts: dict[str, Any] = {"columns": numbers("recency"), "_table": rows([]), "_decisions": decisions_of()}
    for token in ({}, {"mint": object()}, {"mint": gate._Mint()}, {"mint": None}):
        with pytest.raises(TypeError):
            ConsentedTable(**parts, **token)
    with pytest.raises(ValueError, match="InitVar 'mint'"):
        dataclasses.replace(table, columns=numbers("income"))  # type: ignore[call-arg]
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="ask admit"):
            duplicate(table)
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.columns = numbers("income")  # type: ignore[misc]


def test_a_consented_table_shows_nothing_of_itself(event: Maker) -> None:
    table = admit(rows([event.subject(1)]), decisions_of(event("given")), POLICY, STATISTICS)
    assert repr(table) == str(table) == "<ConsentedTable>"


# Counting, for the unit alone


def test_customers_are_counted_once_each_by_reason(event: Maker) -> None:
    decided = decisions_of(
        event("given", who=1), event("given", who=2), event("withdrawn", who=3), event("objection_lifted", who=4),
        event("given", who=9),
    )  # fmt: skip
    one, two, three, four, five, six = (event.subject(who) for who in range(1, 7))
    counts = tally(rows([one, five, two, one, None, three, five, six, four, None, six]), decided)
    assert {reason: count for reason, count in counts.items() if count} == {
        Reason.ALLOWED: 2,
        Reason.WITHDRAWN: 1,
        Reason.NO_RECORD: 3,
    }
    assert set(counts) == set(Reason)


def test_an_empty_table_counts_nobody(event: Maker) -> None:
    assert set(tally(rows([]), decisions_of(event("given"))).values()) == {0}


# Would the policy allow a plan?

ASKED: dict[str, Any] = {
    "purpose": "fedseg:SegmentStatistics",
    "columns": ["recency", "frequency"],
    "trust": "unit-noise",
    "rho": Fraction(1, 20),
    "delta": Fraction(1, 1000),
}
RULES = [
    "purposes",
    "purposes.fedseg:SegmentStatistics.columns.allow",
    "purposes.fedseg:SegmentStatistics.rho_cap",
    "trust_models",
    "budget.rho_cap",
    "budget.delta",
]


def denied(**change: Any) -> list[str]:
    outcomes = check_policy(POLICY, **{**ASKED, **change})
    return [outcome.rule for outcome in outcomes if not outcome.allowed]


def test_a_plan_within_every_rule_is_allowed_with_one_line_per_rule() -> None:
    outcomes = check_policy(POLICY, **ASKED)
    assert [outcome.rule for outcome in outcomes] == RULES
    assert all(outcome.allowed for outcome in outcomes)
    assert [outcome.reason for outcome in outcomes] == [
        "fedseg:SegmentStatistics is named",
        "every column is allowed",
        "plan 0.05, policy at most 0.05",
        "plan unit-noise, policy unit-noise",
        "plan 0.05, policy at most 0.1",
        "plan 0.001, policy at most 0.001",
    ]
    assert outcomes[2] == RuleOutcome(RULES[2], allowed=True, reason="plan 0.05, policy at most 0.05")


def test_what_costs_nothing_is_within_every_cap() -> None:
    assert denied(rho=Fraction(0), delta=Fraction(0)) == []


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"columns": ["recency", "income"]}, [RULES[1]]),
        ({"rho": Fraction(1, 19)}, [RULES[2]]),
        ({"rho": Fraction(1, 9)}, [RULES[2], RULES[4]]),
        ({"rho": Fraction(-1)}, [RULES[2], RULES[4]]),
        ({"trust": "secure-aggregation"}, [RULES[3]]),
        ({"delta": Fraction(1, 999)}, [RULES[5]]),
    ],
)
def test_each_rule_denies_alone_and_says_so(change: dict[str, Any], rules: list[str]) -> None:
    assert denied(**change) == rules


def test_the_reason_names_the_columns_that_are_not_allowed() -> None:
    outcomes = check_policy(POLICY, **{**ASKED, "columns": ["income", "recency", "age"]})
    assert outcomes[1].reason == "not allowed: income, age"


def test_a_purpose_the_policy_does_not_name_is_denied_in_every_rule_about_it() -> None:
    purpose = "fedseg:SegmentActivation"
    about = ["purposes", f"purposes.{purpose}.columns.allow", f"purposes.{purpose}.rho_cap"]
    assert denied(purpose=purpose) == about
    assert denied(purpose="fedseg:Everything")[0] == "purposes"
    reasons = [outcome.reason for outcome in check_policy(POLICY, **{**ASKED, "purpose": purpose})]
    assert reasons[:3] == [
        f"{purpose} is not named, so denied",
        "no column is allowed for this purpose",
        "nothing may be spent on this purpose",
    ]
