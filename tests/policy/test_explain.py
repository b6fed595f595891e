"""A policy in plain words: every fact of the document is in them, and nothing is said that it does not say."""

from pathlib import Path

import pytest

from fedseg.policy.document import load_policy
from fedseg.policy.explain import explain

TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path("policies").absolute().glob("*.yaml"))}
OFFICER = "JjFoLUHVKzsbxWlno9QQnkxnRojOaYoWuhkX3v6Dmfo="
APPROVALS = f"""
approvals:
  officers: {{ann: "{OFFICER}"}}
  required: 1
  expire_days: 90
  requesters:
    marketing:
      public_key: "SdUvuV5G4wiJRcG50M2OAvFInK2B2YWNLf8Bn9iBBJ4="
      automatic: {{rho_per_plan: "1/1000", rho_per_period: "1/100", period_days: 30}}
"""


def words(document: str) -> str:
    sections = explain(load_policy(document.encode()), epsilon_at_cap="2.15")
    return "\n".join(line for one in sections for line in (one.title, *one.sentences))


def changed(name: str, old: str, new: str) -> str:
    document = TEXTS[name] + APPROVALS
    assert document.count(old) == 1, old
    return document.replace(old, new)


FACTS = {
    "controller": ("minimal", "Example Retail,", "Other Retail,"),
    "id": ("minimal", "id: minimal", "id: other"),
    "basis": ("minimal", "basis: dpv:Consent", "basis: eu-gdpr:A6-1-a"),
    "status": ("minimal", "[given, renewed]", "[given]"),
    "age of consent": ("minimal", "max_age_days: 730", "max_age_days: 731"),
    "notice of consent": ("minimal", "notice_min_version: 1", "notice_min_version: 2"),
    "veto": ("minimal", "suppressed, minor]", "suppressed, minor, opt_out_sale]"),
    "age": ("minimal", "suppressed, minor]", "suppressed, minor_or_unknown_age]"),
    "columns": ("minimal", "frequency, gross_monetary", "frequency"),
    "cohort": ("minimal", "min_cohort: 100", "min_cohort: 101"),
    "rows": ("minimal", "raw_days: 730", "raw_days: 729"),
    "evidence": ("minimal", "consent_evidence_days: 1095", "consent_evidence_days: 1096"),
    "cap": ("minimal", 'rho_cap: "1/10"', 'rho_cap: "1/11"'),
    "delta": ("minimal", 'delta: "1/1000000"', 'delta: "1/1000001"'),
    "trust": ("minimal", "[unit-noise]", "[unit-noise, secure-aggregation]"),
    "cap of a purpose": ("health-cross-industry", '    rho_cap: "1/50"', '    rho_cap: "1/60"'),
    "special category": ("health-cross-industry", "prescriptions_per_year, chronic", "chronic"),
    "basis of special category": ("health-cross-industry", "      basis: eu-gdpr:A9-2-a\n", ""),
    "jurisdictions": ("gdpr-legitimate-interest", "[loc:CH, loc:GB]", "[loc:CH]"),
    "notice sent": ("gdpr-legitimate-interest", "notice_min_version: 4", "notice_min_version: 5"),
    "absent": ("gdpr-legitimate-interest", "absent: [objection]", "absent: [objection, opt_out_sale]"),
    "lapse": ("minimal", "raw_days: 730", "raw_days: 730\n  lapsed_days: 90"),
    "suppression": ("gdpr-legitimate-interest", "suppression_days: 3650", "suppression_days: 3651"),
    "backups": ("gdpr-legitimate-interest", "backup_days: 30", "backup_days: 31"),
    "forbidden uses": ("gdpr-legitimate-interest", "reidentification]", "reidentification, social-scoring]"),
    "recipient": ("ccpa", "id: campaign-service", "id: other-service"),
    "kind of recipient": ("ccpa", "kind: processor", "kind: controller"),
    "endpoint": ("ccpa", "campaigns.example/requests", "campaigns.example/other"),
    "officers": ("minimal", "{ann: ", "{bob: "),
    "end of approvals": ("minimal", "expire_days: 90", "expire_days: 91"),
    "requester": ("minimal", "    marketing:", "    analytics:"),
    "price of a plan": ("minimal", '"1/1000"', '"1/1001"'),
    "price of a period": ("minimal", '"1/100"', '"1/101"'),
    "period": ("minimal", "period_days: 30", "period_days: 31"),
}


@pytest.mark.parametrize(("name", "old", "new"), FACTS.values(), ids=FACTS)
def test_every_fact_of_a_policy_is_in_its_explanation(name: str, old: str, new: str) -> None:
    assert words(changed(name, old, new)) != words(TEXTS[name] + APPROVALS)


def test_a_policy_without_officers_says_who_decides_then() -> None:
    assert "Whoever may write to the unit's home approves plans" in words(TEXTS["minimal"])
    assert "1 of these officers must sign each plan: ann." in words(TEXTS["minimal"] + APPROVALS)


def test_what_is_enforced_and_what_is_declared_is_told_apart() -> None:
    text = words(TEXTS["health-cross-industry"])
    assert "- addressing people because of their segment (enforced: no plan with this purpose is approved)" in text
    assert "- political advertising or canvassing (declared: binds people)" in text
    assert "It takes nobody off the list of customers who must not come back." in text


def test_every_way_to_be_allowed_and_every_veto_is_said() -> None:
    text = words(TEXTS["gdpr-legitimate-interest"])
    for part in (
        "A customer is counted only if one of these holds:",
        "- they were sent version 4 or later of the privacy notice, and their data are under the law of the European",
        "Area (basis: legitimate interests under Article 6(1)(f) GDPR). It does not hold for whoever has objected.",
        "at most 730 days ago, having seen version 3 or later",
        "under the law of Switzerland or the United Kingdom (basis: consent).",
        "- is a minor, or is not on record as an adult",
        "- deciding which segment a single customer is in (profiling)",
        "epsilon 2.15 at delta 1/1,000,000 (rho 1/10)",
    ):
        assert part in text


def test_a_special_category_without_a_basis_is_said_to_be_read_by_no_plan() -> None:
    text = words(TEXTS["ccpa"])
    assert "(precise_location, union_membership, health_purchases) may not be read by any plan" in text
    assert "Columns that may be read: recency_days, frequency, gross_monetary." in text
