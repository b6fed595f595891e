"""The wider form of a policy: ways to be allowed, special categories, retention, recipients, forbidden uses."""

import json
from fractions import Fraction
from pathlib import Path

import pytest

from fedseg.errors import PolicyDocumentError
from fedseg.policy.consent import Jurisdiction, Veto
from fedseg.policy.document import json_schema, load_policy
from fedseg.policy.purpose_rule import ByConsent, ByNotice, jurisdictions_of, vetoes_of
from fedseg.policy.purposes import Purpose
from fedseg.policy.uses import Use

STATISTICS = Purpose.SEGMENT_STATISTICS

POLICY = """\
version: 1
id: test-policy
controller: Test Retail
default: deny
purposes:
  fedseg:SegmentStatistics:
    broader: dpv:ServiceUsageAnalytics
    require_any:
      - basis: eu-gdpr:A6-1-f
        jurisdictions: [loc:EEA, loc:CH]
        notice_min_version: 4
        absent: [objection]
      - basis: us-ca:notice-and-opt-out
        jurisdictions: [loc:US-CA]
        notice_min_version: 0
        absent: [opt_out_sale, opt_out_share]
      - basis: eu-gdpr:A6-1-a
        consent: {status: [given], max_age_days: 100, notice_min_version: 3}
    special_category: {columns: [illness], basis: eu-gdpr:A9-2-a}
    veto: [objection, restriction, suppressed, limit_sensitive, minor]
    columns: {allow: [recency, frequency]}
    min_cohort: 20
budget: {unit: customer, neighbours: add-or-remove-one, rho_cap: "1/10", delta: "1/1000"}
retention: {raw_days: 395, consent_evidence_days: 1095, suppression_days: 3650, backup_days: 30}
trust_models: [unit-noise]
recipients:
  - {id: crm, kind: processor, endpoint: "https://crm.example:8443/dsr"}
  - {id: partner, kind: joint-controller, endpoint: https://partner.example}
forbidden_uses: [individual-profiling, direct-marketing, credit-decisions]
"""


def changed(old: str, new: str) -> bytes:
    assert POLICY.count(old) == 1, old
    return POLICY.replace(old, new).encode()


def refused(document: bytes) -> str:
    with pytest.raises(PolicyDocumentError) as caught:
        load_policy(document)
    return caught.value.why


def test_a_policy_says_what_its_document_says() -> None:
    policy = load_policy(POLICY.encode())
    rule = policy.rule(STATISTICS)
    interest, california, consent = rule.ways()
    assert isinstance(interest, ByNotice)
    assert (interest.basis, interest.jurisdictions) == ("eu-gdpr:A6-1-f", ("loc:EEA", "loc:CH"))
    assert (interest.notice_min_version, interest.absent) == (4, ("objection",))
    assert isinstance(california, ByNotice)
    assert (california.notice_min_version, california.absent) == (0, ("opt_out_sale", "opt_out_share"))
    assert isinstance(consent, ByConsent)
    assert (consent.basis, consent.jurisdictions, consent.consent.status) == ("eu-gdpr:A6-1-a", None, ("given",))
    assert (rule.special_columns, rule.explicit_basis) == (("illness",), "eu-gdpr:A9-2-a")
    assert rule.readable == ("recency", "frequency", "illness")
    assert rule.vetoes() == (
        Veto.OBJECTION | Veto.RESTRICTION | Veto.SUPPRESSED | Veto.LIMIT_SENSITIVE | Veto.MINOR | Veto.UNREADABLE
    )
    assert (policy.retention.suppression_days, policy.retention.backup_days) == (3650, 30)
    assert policy.recipients is not None
    assert [(one.id, one.kind, one.endpoint) for one in policy.recipients] == [
        ("crm", "processor", "https://crm.example:8443/dsr"),
        ("partner", "joint-controller", "https://partner.example"),
    ]
    assert policy.forbidden_uses == (Use.INDIVIDUAL_PROFILING, Use.DIRECT_MARKETING, Use.CREDIT_DECISIONS)


def test_consent_alone_is_one_way_for_every_jurisdiction() -> None:
    minimal = load_policy((Path(__file__).parents[2] / "policies/minimal.yaml").read_bytes())
    rule = minimal.rule(STATISTICS)
    assert rule.require is not None
    assert rule.ways() == (ByConsent(basis="dpv:Consent", consent=rule.require),)
    assert (rule.special_columns, rule.explicit_basis, rule.readable) == ((), None, rule.columns.allow)


def test_special_categories_without_a_basis_may_not_be_read() -> None:
    rule = load_policy(changed(", basis: eu-gdpr:A9-2-a", "")).rule(STATISTICS)
    assert (rule.special_columns, rule.explicit_basis) == (("illness",), None)
    assert rule.readable == ("recency", "frequency")


def test_names_mean_what_they_are_called() -> None:
    assert jurisdictions_of(("loc:EEA", "loc:GB", "loc:CH", "loc:US-CA", "loc:US", "other")) == (
        Jurisdiction.EEA,
        Jurisdiction.GB,
        Jurisdiction.CH,
        Jurisdiction.US_CA,
        Jurisdiction.US,
        Jurisdiction.OTHER,
    )
    assert vetoes_of(("objection", "limit_sensitive")) == Veto.OBJECTION | Veto.LIMIT_SENSITIVE
    assert vetoes_of(()) == Veto(0)


WAY = "purposes.fedseg:SegmentStatistics.require_any"
REFUSALS = {
    "no way at all": (POLICY[POLICY.index("    require_any") : POLICY.index("    special")], "", "needs either basis"),
    "two forms at once": ("    require_any:", "    basis: dpv:Consent\n    require_any:", "needs either basis and require"),
    "a basis without what it requires": (
        POLICY[POLICY.index("    require_any") : POLICY.index("    special")],
        "    basis: dpv:Consent\n",
        "needs either basis and require, or require_any",
    ),
    "what consent alone requires beside ways": (
        "    require_any:",
        "    require: {status: [given], max_age_days: 1, notice_min_version: 1}\n    require_any:",
        "needs either basis and require, or require_any",
    ),
    "too many columns": (
        "allow: [recency, frequency]",
        f"allow: [{', '.join(f'c{n}' for n in range(1025))}]",
        "columns.allow: Tuple should have at most 1024 items",
    ),
    "an empty list of ways": (
        POLICY[POLICY.index("    require_any") : POLICY.index("    special")],
        "    require_any: []\n",
        f"key {WAY}: ",
    ),
    "unknown basis": ("eu-gdpr:A6-1-f", "eu-gdpr:A6-1-e", f"line 9, key {WAY}.0"),
    "no basis": ("      - basis: eu-gdpr:A6-1-a\n        consent", "      - consent", f"key {WAY}.2"),
    "unknown key of a way": ("        notice_min_version: 4", "        notice_min: 4", f"line 11, key {WAY}.0.notice_min: this"),
    "consent in a way by notice": (
        "        absent: [objection]",
        "        absent: [objection]\n        consent: {status: [given], max_age_days: 1, notice_min_version: 1}",
        f"line 13, key {WAY}.0.consent: this key is unknown",
    ),
    "absence in a way by consent": (
        "      - basis: eu-gdpr:A6-1-a",
        "      - basis: eu-gdpr:A6-1-a\n        absent: [objection]",
        f"key {WAY}.2.absent: this key is unknown",
    ),
    "notice without jurisdictions": ("        jurisdictions: [loc:EEA, loc:CH]\n", "", f"{WAY}.0.jurisdictions: this key is m"),
    "no jurisdiction": ("[loc:EEA, loc:CH]", "[]", f"{WAY}.0.jurisdictions: "),
    "unknown jurisdiction": ("[loc:EEA, loc:CH]", "[loc:EEA, loc:FR]", f"{WAY}.0.jurisdictions.1: Input should be 'loc:EEA'"),
    "unknown as a jurisdiction": ("[loc:EEA, loc:CH]", "[loc:UNKNOWN]", f"{WAY}.0.jurisdictions.0: Input should be"),
    "repeated jurisdiction": ("[loc:EEA, loc:CH]", "[loc:CH, loc:CH]", f"{WAY}.0.jurisdictions: names something twice"),
    "notice of no version": ("notice_min_version: 4", "notice_min_version: -1", "can be read in more than one way"),
    "notice of a huge version": ("notice_min_version: 4", "notice_min_version: 1000001", f"{WAY}.0.notice_min_version: Input"),
    "objections passed over": ("absent: [objection]", "absent: []", "absent must also hold objection: eu-gdpr:A6-1-f rests"),
    "opt-outs of sale passed over": ("[opt_out_sale, opt_out_share]", "[opt_out_share]", "absent must also hold opt_out_sale: us"),
    "opt-outs of sharing passed over": ("[opt_out_sale, opt_out_share]", "[opt_out_sale]", "absent must also hold opt_out_share: us"),
    "repeated absence": ("absent: [objection]", "absent: [objection, objection]", f"{WAY}.0.absent: names something twice"),
    "Californian law elsewhere": ("[loc:US-CA]", "[loc:US-CA, loc:US]", "jurisdictions must be [loc:US-CA]: this basis"),
    "consent without a limit of age": ("max_age_days: 100, ", "", f"{WAY}.2.consent.max_age_days: this key is missing"),
    "no special column": ("columns: [illness]", "columns: []", "special_category.columns: "),
    "repeated special column": ("columns: [illness]", "columns: [illness, illness]", "special_category.columns: names"),
    "other basis of special categories": ("eu-gdpr:A9-2-a", "eu-gdpr:A9-2-j", "special_category.basis: Input should be 'eu"),
    "column both ordinary and special": ("allow: [recency, frequency]", "allow: [recency, illness]", "both hold illness"),
    "limits on sensitive data passed over": ("limit_sensitive, ", "", "veto must also hold limit_sensitive: no policy"),
    "erased who come back with the rows": ("suppression_days: 3650", "suppression_days: 394", "or the erased come back"),
    "lapsed kept longer than others": ("raw_days: 395", "raw_days: 395, lapsed_days: 396", "lapsed_days must be at most raw"),
    "erased who come back with a backup": ("backup_days: 30", "backup_days: 3651", "suppression_days must be at least raw_days"),
    "no recipient": (POLICY[POLICY.index("recipients") : POLICY.index("forbidden")], "recipients: []\n", "key recipients: "),
    "recipients of one name": ("id: partner", "id: crm", "line 26, key recipients: each recipient needs an id of its own"),
    "other kind of recipient": ("kind: processor", "kind: friend", "key recipients.0.kind: Input should be 'processor'"),
    "endpoint in the clear": ("https://partner.example", "http://partner.example", "key recipients.1.endpoint: String should"),
    "endpoint with a query": ("https://partner.example", '"https://partner.example/?a=b"', "recipients.1.endpoint: String should"),
    "no forbidden use": ("[individual-profiling, direct-marketing, credit-decisions]", "[]", "key forbidden_uses: "),
    "unknown use": ("credit-decisions]", "fun]", "key forbidden_uses.2: Input should be 'credit-decisions'"),
    "repeated use": ("credit-decisions]", "direct-marketing]", "key forbidden_uses: names something twice"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "why"), REFUSALS.values(), ids=REFUSALS)
def test_what_the_form_does_not_allow_is_refused_with_its_place(old: str, new: str, why: str) -> None:
    assert why in refused(changed(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("suppression_days: 3650", "suppression_days: 395"),
        ("raw_days: 395", "raw_days: 395, lapsed_days: 395"),
        ("backup_days: 30", "backup_days: 3650"),
        (", suppression_days: 3650", ""),
        (", backup_days: 30", ""),
        ("notice_min_version: 4", "notice_min_version: 1000000"),
        ("absent: [objection]", "absent: [objection, opt_out_sale, minor_or_unknown_age]"),
        ("[loc:EEA, loc:CH]", "[other]"),
        ("allow: [recency, frequency]", f"allow: [{', '.join(f'c{n}' for n in range(1024))}]"),
    ],
)
def test_the_limits_themselves_are_allowed(old: str, new: str) -> None:
    assert load_policy(changed(old, new)).id == "test-policy"


OTHER = """\
  {purpose}:
    broader: {broader}
    basis: dpv:Consent
    require: {{status: [given], max_age_days: 100, notice_min_version: 3}}
    veto: [objection, restriction, suppressed, minor]
    columns: {{allow: [{column}]}}
    min_cohort: 20
budget:"""


def with_purpose(purpose: Purpose, *, uses: str, column: str = "recency") -> bytes:
    other = OTHER.format(purpose=purpose.value, broader=purpose.broader, column=column)
    return POLICY.replace("budget:", other).replace("individual-profiling, direct-marketing, credit-dec", uses).encode()


@pytest.mark.parametrize(
    ("use", "purpose"),
    [
        ("individual-profiling", Purpose.SEGMENT_ASSIGNMENT),
        ("individual-profiling", Purpose.SEGMENT_ACTIVATION),
        ("direct-marketing", Purpose.SEGMENT_ACTIVATION),
    ],
)
def test_a_policy_cannot_name_a_purpose_that_is_a_use_it_forbids(use: str, purpose: Purpose) -> None:
    why = refused(with_purpose(purpose, uses=f"sale-of-data, {use}, credit-dec"))
    assert why.endswith(f"key forbidden_uses.1: the policy names {purpose.value}, which is this use")


def test_a_policy_may_forbid_what_none_of_its_purposes_is() -> None:
    policy = load_policy(with_purpose(Purpose.SEGMENT_ASSIGNMENT, uses="direct-marketing, credit-dec"))
    assert list(policy.purposes) == [STATISTICS, Purpose.SEGMENT_ASSIGNMENT]


def test_every_use_says_what_it_is_and_two_exclude_purposes() -> None:
    assert len({use.says for use in Use}) == len(Use)
    assert {use: use.excludes for use in Use if use.excludes} == {
        Use.INDIVIDUAL_PROFILING: (Purpose.SEGMENT_ASSIGNMENT, Purpose.SEGMENT_ACTIVATION),
        Use.DIRECT_MARKETING: (Purpose.SEGMENT_ACTIVATION,),
    }


def test_a_column_of_a_special_category_is_one_for_every_purpose() -> None:
    why = refused(with_purpose(Purpose.SEGMENT_ASSIGNMENT, uses="credit-dec", column="illness"))
    assert "key purposes.fedseg:SegmentAssignment.columns.allow: illness is of a special category elsewhere" in why


FACTS = [
    ("[loc:EEA, loc:CH]", "[loc:EEA]"),
    ("notice_min_version: 4", "notice_min_version: 5"),
    ("absent: [objection]", "absent: [objection, opt_out_sale]"),
    (", basis: eu-gdpr:A9-2-a", ""),
    ("columns: [illness]", "columns: [union]"),
    ("suppression_days: 3650", "suppression_days: 3651"),
    (", backup_days: 30", ""),
    ("crm.example:8443/dsr", "crm.example:8443/other"),
    ("credit-decisions]", "sale-of-data]"),
]


def test_the_digest_changes_with_every_fact() -> None:
    digests = {load_policy(changed(old, new)).digest for old, new in FACTS}
    assert len(digests | {load_policy(POLICY.encode()).digest}) == len(FACTS) + 1


def test_the_digest_of_this_form_never_changes() -> None:
    # Ledgers of earlier versions hold such digests.
    assert load_policy(POLICY.encode()).digest == "ae63f1425ff81bf2ee5f4ae9cebd1f29542ec3c53466039f260e7bd65b22bf89"


def test_the_schema_offers_no_null_and_no_other_names() -> None:
    schema = json_schema()
    assert '"null"' not in json.dumps(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$defs"]["PurposeRule"]["properties"]["basis"]["enum"] == ["eu-gdpr:A6-1-a", "dpv:Consent"]
    assert schema["properties"]["recipients"]["items"] == {"$ref": "#/$defs/Recipient"}
    assert schema["$defs"]["Approvals"]["properties"]["officers"]["additionalProperties"] is False


OFFICER = "JjFoLUHVKzsbxWlno9QQnkxnRojOaYoWuhkX3v6Dmfo="
REQUESTER = "SdUvuV5G4wiJRcG50M2OAvFInK2B2YWNLf8Bn9iBBJ4="
APPROVALS = f"""\
approvals:
  officers:
    ann: "{OFFICER}"
    bob: "{REQUESTER}"
  required: 2
  expire_days: 90
  requesters:
    marketing:
      public_key: "{REQUESTER}"
      rho_cap: "1/20"
      automatic: {{rho_per_plan: "1/1000", rho_per_period: "1/100", period_days: 30}}
    analytics: {{public_key: "{OFFICER}"}}
"""


def approved_by(old: str = "", new: str = "") -> bytes:
    assert not old or APPROVALS.count(old) == 1, old
    return (POLICY + (APPROVALS.replace(old, new) if old else APPROVALS)).encode()


def test_approvals_say_what_their_document_says() -> None:
    approvals = load_policy(approved_by()).approvals
    assert approvals is not None
    assert dict(approvals.officers) == {"ann": OFFICER, "bob": REQUESTER}
    assert (approvals.required, approvals.expire_days) == (2, 90)
    marketing, analytics = approvals.requesters.values()
    assert (marketing.rho_cap, analytics.rho_cap, analytics.automatic) == (Fraction(1, 20), None, None)
    assert marketing.automatic is not None
    assert (marketing.automatic.rho_per_plan, marketing.automatic.rho_per_period) == (
        Fraction(1, 1000),
        Fraction(1, 100),
    )
    assert load_policy(approved_by('      rho_cap: "1/20"', '      rho_cap: "1/10"')).approvals is not None


NO_APPROVALS = {
    "one key for two requesters": (
        f'analytics: {{public_key: "{OFFICER}"}}',
        f'analytics: {{public_key: "{REQUESTER}"}}',
        "key approvals: each requester needs a key of their own",
    ),
    "more signatures than officers": ("required: 2", "required: 3", "key approvals: required is more than there are"),
    "one key for two officers": (
        f'bob: "{REQUESTER}"',
        f'bob: "{OFFICER}"',
        "required is more than there are officers",
    ),
    "a share above the whole": (
        '      rho_cap: "1/20"',
        '      rho_cap: "1/9"',
        "key approvals.requesters.marketing.rho_cap: must be at most the rho_cap of the budget",
    ),
    "no signature": (
        "required: 2",
        "required: 0",
        "key approvals.required: Input should be greater than or equal to 1",
    ),
    "no key": (f'ann: "{OFFICER}"', 'ann: "abc"', "key approvals.officers.ann: "),
    "no days": ("expire_days: 90", "expire_days: 0", "key approvals.expire_days: Input should be greater"),
    "unknown key": ("  required: 2", "  required: 2\n  quorum: 2", "key approvals.quorum: this key is unknown"),
}


@pytest.mark.parametrize(("old", "new", "why"), NO_APPROVALS.values(), ids=NO_APPROVALS)
def test_approvals_that_cannot_be_kept_are_refused(old: str, new: str, why: str) -> None:
    assert why in refused(approved_by(old, new))
