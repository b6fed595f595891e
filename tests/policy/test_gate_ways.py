"""Ways to be allowed: by consent or by notice, under a law; and explicit consent beside them. Each check seen alone."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from fedseg.columns import numbers
from fedseg.errors import PolicyError
from fedseg.policy.consent import EVERY_PURPOSE, ConsentEvent, Jurisdiction, fold
from fedseg.policy.document import Policy, load_policy
from fedseg.policy.gate import Reason, admit, decide
from fedseg.policy.purposes import Purpose
from fedseg.policy.rules import RuleOutcome, check_policy
from fedseg.table import Table

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STATISTICS = Purpose.SEGMENT_STATISTICS

Maker = Any

DOCUMENT = """\
version: 1
id: gate-policy
controller: Test Retail
default: deny
purposes:
  fedseg:SegmentStatistics:
    broader: dpv:ServiceUsageAnalytics
    require_any:
      - basis: eu-gdpr:A6-1-f
        jurisdictions: [loc:EEA]
        notice_min_version: 4
        absent: [objection]
      - basis: us-ca:notice-and-opt-out
        jurisdictions: [loc:US-CA]
        notice_min_version: 2
        absent: [opt_out_sale, opt_out_share, limit_sensitive]
      - basis: dpv:Consent
        jurisdictions: [loc:GB, loc:CH]
        consent: {status: [given, renewed], max_age_days: 100, notice_min_version: 3}
    veto: [objection, restriction, suppressed, minor]
    columns: {allow: [recency, frequency]}
    min_cohort: 20
budget: {unit: customer, neighbours: add-or-remove-one, rho_cap: "1/10", delta: "1/1000"}
retention: {raw_days: 395, consent_evidence_days: 1095}
trust_models: [unit-noise]
"""
CONSENT_ONLY = """\
    basis: eu-gdpr:A6-1-a
    require: {status: [given, renewed], max_age_days: 100, notice_min_version: 3}
    special_category: {columns: [illness, union], basis: eu-gdpr:A9-2-a}
"""


def policy_of(*changes: tuple[str, str]) -> Policy:
    text = DOCUMENT
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return load_policy(text.encode())


WAYS = policy_of()
HEALTH = load_policy(
    (
        DOCUMENT[: DOCUMENT.index("    require_any")]
        + CONSENT_ONLY
        + DOCUMENT[DOCUMENT.index("    veto") :].replace("suppressed, minor]", "suppressed, limit_sensitive, minor]")
    ).encode()
)
FORBIDDEN = load_policy(
    (
        DOCUMENT[: DOCUMENT.index("    require_any")]
        + CONSENT_ONLY.replace(", basis: eu-gdpr:A9-2-a", "")
        + DOCUMENT[DOCUMENT.index("    veto") :]
    ).encode()
)


def reason(*events: ConsentEvent, policy: Policy = WAYS, now: datetime = NOW) -> Reason:
    (code,) = decide(fold(events, NOW), policy, STATISTICS, now).codes
    return Reason(int(code))


# By notice


@pytest.mark.parametrize("scope", [STATISTICS, EVERY_PURPOSE])
def test_who_was_told_and_said_nothing_is_allowed_where_the_law_is_so(event: Maker, scope: str) -> None:
    told = event("notice_given", notice=4, purpose=scope)
    assert reason(told, event("jurisdiction_eea")) is Reason.ALLOWED
    assert reason(told, event("jurisdiction_us_ca")) is Reason.ALLOWED


@pytest.mark.parametrize("place", [place for place in Jurisdiction if place])
def test_a_way_is_for_the_jurisdictions_it_names_alone(event: Maker, place: Jurisdiction) -> None:
    told, given = event("notice_given", notice=9), event("given")
    by_notice = reason(told, event(place.kind)) is Reason.ALLOWED
    assert by_notice == (place in (Jurisdiction.EEA, Jurisdiction.US_CA))
    by_consent = reason(given, event(place.kind)) is Reason.ALLOWED
    assert by_consent == (place in (Jurisdiction.GB, Jurisdiction.CH))


def test_an_unknown_jurisdiction_is_denied_and_so_is_one_that_no_way_is_for(event: Maker) -> None:
    everything = [event("notice_given", notice=9), event("given")]
    assert reason(*everything) is Reason.JURISDICTION_UNKNOWN
    assert reason(*everything, event("jurisdiction_unknown")) is Reason.JURISDICTION_UNKNOWN
    assert reason(*everything, event("jurisdiction_other")) is Reason.JURISDICTION_NOT_COVERED


def test_who_was_not_told_is_denied(event: Maker) -> None:
    place = event("jurisdiction_eea")
    assert reason(place) is Reason.NOT_TOLD
    assert reason(place, event("notice_given", notice=4), event("notice_undelivered", days_ago=9)) is Reason.NOT_TOLD


def test_who_was_told_by_an_older_notice_is_denied(event: Maker) -> None:
    assert reason(event("jurisdiction_eea"), event("notice_given", notice=3)) is Reason.NOTICE_TOO_OLD
    assert reason(event("jurisdiction_us_ca"), event("notice_given", notice=1)) is Reason.NOTICE_TOO_OLD
    assert reason(event("jurisdiction_us_ca"), event("notice_given", notice=2)) is Reason.ALLOWED
    any_notice = policy_of(("notice_min_version: 4", "notice_min_version: 0"))
    assert reason(event("jurisdiction_eea"), policy=any_notice) is Reason.NOT_TOLD


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("opt_out_sale", Reason.VETOED_OPT_OUT_SALE),
        ("opt_out_share", Reason.VETOED_OPT_OUT_SHARE),
        ("limit_sensitive", Reason.VETOED_LIMIT_SENSITIVE),
    ],
)
def test_what_must_be_absent_in_one_way_denies_in_that_way_alone(event: Maker, kind: str, expected: Reason) -> None:
    told = event("notice_given", notice=4)
    assert reason(told, event("jurisdiction_us_ca"), event(kind)) is expected
    assert reason(told, event("jurisdiction_us_ca"), event(kind, purpose=EVERY_PURPOSE)) is expected
    assert reason(told, event("jurisdiction_eea"), event(kind)) is Reason.ALLOWED


@pytest.mark.parametrize("kind", ["objection", "restriction", "suppressed", "minor"])
def test_a_veto_denies_in_every_way(event: Maker, kind: str) -> None:
    for place in ("jurisdiction_eea", "jurisdiction_us_ca", "jurisdiction_gb"):
        allowed = [event("notice_given", notice=4), event("given"), event(place)]
        assert reason(*allowed) is Reason.ALLOWED
        assert reason(*allowed, event(kind)) is Reason[f"VETOED_{kind.upper()}"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("requested", Reason.NOT_GIVEN),
        ("unknown", Reason.NOT_GIVEN),
        ("refused", Reason.NOT_GIVEN),
        ("expired", Reason.EXPIRED),
        ("withdrawn", Reason.WITHDRAWN),
        ("revoked", Reason.WITHDRAWN),
    ],
)
def test_who_was_asked_and_did_not_agree_is_not_counted_because_they_were_told(
    event: Maker, kind: str, expected: Reason
) -> None:
    told = [event("notice_given", notice=4), event("jurisdiction_eea")]
    assert reason(*told, event(kind)) is expected


@pytest.mark.parametrize("kind", ["given", "renewed"])
def test_who_agreed_may_be_counted_because_they_were_told_until_the_consent_ends(event: Maker, kind: str) -> None:
    told = [event("notice_given", notice=4), event("jurisdiction_eea")]
    assert reason(*told, event(kind, valid_days=1)) is Reason.ALLOWED
    assert reason(*told, event(kind, valid_days=0)) is Reason.EXPIRED
    ended = reason(*told, event(kind, valid_days=1), now=NOW + timedelta(days=1))
    assert ended is Reason.EXPIRED
    assert reason(*told, event(kind, days_ago=1000, notice=0)) is Reason.ALLOWED, "age and notice are for consent alone"


# Several ways


def test_one_way_is_enough(event: Maker) -> None:
    either = policy_of(("[loc:EEA]", "[loc:GB]"))
    place = event("jurisdiction_gb")
    assert reason(place, event("notice_given", notice=4), policy=either) is Reason.ALLOWED
    assert reason(place, event("given"), policy=either) is Reason.ALLOWED
    assert reason(place, event("given"), event("notice_given", notice=4), policy=either) is Reason.ALLOWED


def test_the_reason_is_that_of_the_first_way_whose_jurisdiction_fits(event: Maker) -> None:
    assert reason(event("jurisdiction_gb")) is Reason.NO_RECORD
    assert reason(event("jurisdiction_eea")) is Reason.NOT_TOLD
    either = policy_of(("[loc:EEA]", "[loc:GB]"))
    assert reason(event("jurisdiction_gb"), policy=either) is Reason.NOT_TOLD
    assert reason(event("jurisdiction_gb"), event("notice_given", notice=3), policy=either) is Reason.NOTICE_TOO_OLD


def test_a_way_without_jurisdictions_is_for_everybody(event: Maker) -> None:
    anywhere = policy_of(("        jurisdictions: [loc:GB, loc:CH]\n", ""))
    assert reason(event("given"), policy=anywhere) is Reason.ALLOWED
    assert reason(event("given"), event("jurisdiction_other"), policy=anywhere) is Reason.ALLOWED
    assert reason(event("withdrawn"), event("jurisdiction_other"), policy=anywhere) is Reason.WITHDRAWN


def test_consent_in_one_of_several_ways_needs_all_that_consent_needs(event: Maker) -> None:
    place = event("jurisdiction_ch")
    assert reason(place, event("given", days_ago=100)) is Reason.ALLOWED
    assert reason(place, event("given", days_ago=101)) is Reason.TOO_OLD
    assert reason(place, event("given", notice=2)) is Reason.NOTICE_TOO_OLD
    assert reason(place, event("given", valid_days=0)) is Reason.EXPIRED
    given_only = policy_of(("[given, renewed]", "[given]"))
    assert reason(place, event("renewed"), policy=given_only) is Reason.NOT_GIVEN


# Special categories


def test_without_explicit_consent_nobody_is_allowed_where_special_categories_are_used(event: Maker) -> None:
    given = event("given")
    assert reason(given, policy=HEALTH) is Reason.NO_EXPLICIT_CONSENT
    assert reason(given, event("explicit_given"), policy=HEALTH) is Reason.ALLOWED
    assert reason(event("explicit_given"), policy=HEALTH) is Reason.NO_RECORD
    assert reason(given, policy=FORBIDDEN) is Reason.ALLOWED, "where no such column may be read, none is needed"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("explicit_refused", Reason.NO_EXPLICIT_CONSENT),
        ("explicit_withdrawn", Reason.EXPLICIT_CONSENT_ENDED),
        ("explicit_revoked", Reason.EXPLICIT_CONSENT_ENDED),
    ],
)
def test_an_explicit_consent_that_was_taken_back_is_none(event: Maker, kind: str, expected: Reason) -> None:
    both = [event("given"), event("explicit_given", days_ago=9)]
    assert reason(*both, event(kind, days_ago=8), policy=HEALTH) is expected


@pytest.mark.parametrize("kind", ["refused", "withdrawn", "revoked"])
def test_consent_given_anew_does_not_bring_back_the_explicit_one(event: Maker, kind: str) -> None:
    before = [event("explicit_given", days_ago=9), event(kind, days_ago=8), event("given", days_ago=7)]
    assert reason(*before, policy=HEALTH) is not Reason.ALLOWED
    assert reason(*before, event("explicit_given", days_ago=7), policy=HEALTH) is Reason.ALLOWED


def test_an_explicit_consent_ends_when_it_says(event: Maker) -> None:
    both = [event("given", valid_days=50), event("explicit_given", valid_days=1)]
    assert reason(*both, policy=HEALTH, now=NOW + timedelta(days=1, microseconds=-1)) is Reason.ALLOWED
    assert reason(*both, policy=HEALTH, now=NOW + timedelta(days=1)) is Reason.EXPLICIT_CONSENT_ENDED
    over = [event("given", valid_days=50), event("explicit_given", valid_days=0)]
    assert reason(*over, policy=HEALTH) is Reason.EXPLICIT_CONSENT_ENDED


def test_a_limit_on_sensitive_data_denies_where_they_are_used(event: Maker) -> None:
    both = [event("given"), event("explicit_given")]
    assert reason(*both, event("limit_sensitive"), policy=HEALTH) is Reason.VETOED_LIMIT_SENSITIVE
    assert reason(*both, event("limit_sensitive"), event("limit_sensitive_lifted", days_ago=9), policy=HEALTH) is (
        Reason.ALLOWED
    )


def no_rows(*columns: str) -> Table:
    return Table(numbers(*columns), lambda: iter(()))


def test_columns_of_special_categories_may_be_read_on_a_basis_alone(event: Maker) -> None:
    decided = decide(fold([event("given")], NOW), HEALTH, STATISTICS, NOW)
    assert admit(no_rows("illness", "recency"), decided, HEALTH, STATISTICS).columns == numbers("illness", "recency")
    decided = decide(fold([event("given")], NOW), FORBIDDEN, STATISTICS, NOW)
    with pytest.raises(PolicyError) as caught:
        admit(no_rows("illness", "recency"), decided, FORBIDDEN, STATISTICS)
    assert caught.value.why == "not allowed: illness; allowed: recency, frequency"
    decided = decide(fold([event("given")], NOW), HEALTH, STATISTICS, NOW)
    with pytest.raises(PolicyError) as caught:
        admit(no_rows("income"), decided, HEALTH, STATISTICS)
    assert caught.value.why == "not allowed: income; allowed: recency, frequency, illness, union"


def outcomes(policy: Policy, *columns: str) -> dict[str, RuleOutcome]:
    found = check_policy(
        policy, purpose=STATISTICS, columns=columns, trust="unit-noise", rho=Fraction(1, 20), delta=Fraction(1, 1000)
    )
    return {outcome.rule.removeprefix(f"purposes.{STATISTICS}."): outcome for outcome in found}


def test_a_plan_that_reads_special_categories_is_told_on_what_basis_or_refused() -> None:
    assert "special_category" not in outcomes(WAYS, "recency")
    none = outcomes(HEALTH, "recency")["special_category"]
    assert (none.allowed, none.reason) == (True, "no column of a special category is asked for")
    found = outcomes(HEALTH, "recency", "union", "illness")
    assert found["columns.allow"].allowed
    assert found["special_category"].allowed
    assert found["special_category"].reason == "union, illness: on the basis eu-gdpr:A9-2-a"
    found = outcomes(FORBIDDEN, "recency", "illness")
    assert not found["columns.allow"].allowed
    assert found["columns.allow"].reason == "not allowed: illness"
    assert not found["special_category"].allowed
    assert found["special_category"].reason == "illness: no basis is declared"
