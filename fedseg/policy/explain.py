"""A policy in plain words, for the lawyers of the people it is about: who is counted, what stops it, who decides. Pure.

Every sentence follows from the policy's document. What fedseg enforces and what the document only states is told apart.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fedseg.policy.document import Approvals, Policy, Witnesses
from fedseg.policy.purpose_rule import ByConsent, ByNotice, PurposeRule, Requirement, Way
from fedseg.policy.purposes import Purpose


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the sentences under it."""

    title: str
    sentences: tuple[str, ...]


_PURPOSES: Final = MappingProxyType(
    {
        Purpose.SEGMENT_STATISTICS: "counting customers in statistics about groups, with noise added before they leave",
        Purpose.SEGMENT_ASSIGNMENT: "deciding which segment a single customer is in (profiling)",
        Purpose.SEGMENT_ACTIVATION: "addressing customers because of the segment they are in",
    }
)
_VETOES: Final = MappingProxyType(
    {
        "objection": "has objected",
        "restriction": "has had the use of their data restricted",
        "suppressed": "is on the suppression list, for instance after an erasure",
        "opt_out_sale": "has opted out of the sale of their data",
        "opt_out_share": "has opted out of the sharing of their data for advertising",
        "limit_sensitive": "has limited the use of sensitive data about them",
        "minor": "is known to be a minor",
        "minor_or_unknown_age": "is a minor, or is not on record as an adult",
    }
)
_BASES: Final = MappingProxyType(
    {
        "eu-gdpr:A6-1-a": "consent under Article 6(1)(a) GDPR",
        "dpv:Consent": "consent",
        "eu-gdpr:A6-1-f": "legitimate interests under Article 6(1)(f) GDPR",
        "us-ca:notice-and-opt-out": "notice and the right to opt out, under the California Consumer Privacy Act",
    }
)
_JURISDICTIONS: Final = MappingProxyType(
    {
        "loc:EEA": "the European Economic Area",
        "loc:GB": "the United Kingdom",
        "loc:CH": "Switzerland",
        "loc:US-CA": "California",
        "loc:US": "the United States other than California",
        "other": "any other place that is on record",
    }
)


def explain(policy: Policy, *, epsilon_at_cap: str) -> list[Section]:
    """What the policy says.

    Args:
        policy: The policy.
        epsilon_at_cap: Epsilon at the budget's `rho_cap` and `delta`, rounded up, as it is shown everywhere.
    """
    return [
        Section("Who answers for it", (f"{policy.controller}. The policy is called {policy.id}.",)),
        *(Section(f"Purpose: {_PURPOSES[purpose]}", (*_rule(rule),)) for purpose, rule in policy.purposes.items()),
        Section("What is denied", (*_denied(policy),)),
        Section("What is spent", (*_budget(policy, epsilon_at_cap),)),
        Section("How long data are kept", (*_retention(policy),)),
        Section("Who receives results", (*_recipients(policy),)),
        Section("What results must not be used for", (*_uses(policy),)),
        Section("Who decides", (*_decides(policy.approvals),)),
        *(Section("Who witnesses the ledger", (*_witnesses(one),)) for one in (policy.witnesses,) if one is not None),
    ]


def _rule(rule: PurposeRule) -> Iterator[str]:
    ways = rule.ways()
    yield "A customer is counted only if:" if len(ways) == 1 else "A customer is counted only if one of these holds:"
    yield from (f"- {_way(way)}" for way in ways)
    if any(isinstance(way, ByNotice) for way in ways):
        yield "Whoever was asked for consent and has refused, withdrawn or let it end is not counted in another way."
    if rule.special_category is not None:
        yield from _special(rule)
    yield "Whatever else is on record, nobody is counted who:"
    yield from (f"- {_VETOES[name]}" for name in rule.veto)
    yield "Each of these stands until a later event of its own kind lifts it; a consent lifts none."
    yield "Nor is anybody counted with an event on record that this version of fedseg cannot read; nothing lifts that."
    yield f"Columns that may be read: {', '.join(rule.readable)}. A plan that reads another is refused."
    yield f"If fewer than {rule.min_cohort:,} customers may be counted, the unit approves no plan."


def _way(way: Way) -> str:
    where = "" if way.jurisdictions is None else f", and their data are under the law of {_either(way.jurisdictions)}"
    if isinstance(way, ByConsent):
        return f"{_consent(way.consent)}{where} (basis: {_BASES[way.basis]})."
    told = f"they were sent version {way.notice_min_version} or later of the privacy notice"
    against = " or ".join(f"whoever {_VETOES[name]}" for name in way.absent)
    return f"{told}{where} (basis: {_BASES[way.basis]}). It does not hold for {against}."


def _consent(required: Requirement) -> str:
    verb = "given or renewed" if "renewed" in required.status else "given, not merely renewed,"
    return (
        f"they have {verb} consent to this purpose, at most {required.max_age_days} days ago, having seen version "
        f"{required.notice_min_version} or later of the privacy notice, and the consent has not ended"
    )


def _either(names: Sequence[str]) -> str:
    return " or ".join(_JURISDICTIONS[name] for name in names)


def _special(rule: PurposeRule) -> Iterator[str]:
    named = ", ".join(rule.special_columns)
    if rule.explicit_basis is None:
        yield f"Special categories of data ({named}) may not be read by any plan: no basis for them is declared."
        return
    yield (
        f"Special categories of data are used ({named}). Therefore everybody who is counted must also have consented "
        "explicitly, under Article 9(2)(a) GDPR, in a declaration apart from the consent above."
    )


def _denied(policy: Policy) -> Iterator[str]:
    yield "Everything this policy does not name, and every customer of whom the register knows nothing."
    for purpose in Purpose:
        if purpose not in policy.purposes:
            yield f"- {_PURPOSES[purpose]}"


def _budget(policy: Policy, epsilon_at_cap: str) -> Iterator[str]:
    delta = policy.budget.delta
    yield (
        f"All releases of this unit together, for all purposes and for ever, may cost one customer at most "
        f"epsilon {epsilon_at_cap} at delta {delta.numerator}/{delta.denominator:,} (rho {policy.budget.rho_cap})."
    )
    yield (
        "Epsilon bounds what anybody can learn from all of it about one customer; at 0 it would be nothing. The unit "
        "refuses whatever would cost more. Erasing a customer's data takes nothing of it back."
    )
    for purpose, rule in policy.purposes.items():
        if rule.rho_cap is not None:
            yield f"For {purpose.value} at most rho {rule.rho_cap} of it may be spent."
    models = {"unit-noise": "their own unit alone", "secure-aggregation": "that not too many units collude"}
    yield f"Customers must trust {' or '.join(models[name] for name in policy.trust_models)}."


def _retention(policy: Policy) -> Iterator[str]:
    kept = policy.retention
    yield (
        "Stated here. A daily sweep ends what a unit of fedseg keeps itself: events of consent that others followed so "
        "long ago, evidence of erasures, and keys of backups. It takes nobody off the list of customers who must not "
        "come back."
    )
    yield f"Customers' rows: {kept.raw_days:,} days. Evidence of consent: {kept.consent_evidence_days:,} days."
    if kept.lapsed_days is not None:
        yield f"Rows of customers whose consent has ended: {kept.lapsed_days:,} days from then; the sweep removes them."
    if kept.suppression_days is not None:
        yield f"The list of customers who must not come back: {kept.suppression_days:,} days."
    if kept.backup_days is not None:
        yield f"Backups: {kept.backup_days} days."


def _recipients(policy: Policy) -> Iterator[str]:
    if policy.recipients is None:
        yield "None is named. Units' releases go to the server of each approved plan."
        return
    yield "Stated here; fedseg cannot see whom people pass results on to."
    for one in policy.recipients:
        yield f"- {one.id}, as {one.kind.replace('-', ' ')}; told about rights requests at {one.endpoint}"


def _uses(policy: Policy) -> Iterator[str]:
    if policy.forbidden_uses is None:
        yield "Nothing is named."
        return
    for use in policy.forbidden_uses:
        how = "enforced: no plan with this purpose is approved" if use.excludes else "declared: binds people"
        yield f"- {use.says} ({how})"


def _decides(approvals: Approvals | None) -> Iterator[str]:
    if approvals is None:
        yield "Whoever may write to the unit's home approves plans; no officers are named."
        return
    yield f"{approvals.required} of these officers must sign each plan: {', '.join(approvals.officers)}."
    if approvals.expire_days is not None:
        yield f"An approval ends by itself after {approvals.expire_days} days."
    for name, rule in approvals.requesters.items():
        if rule.automatic is not None:
            yield (
                f"Plans that {name} has signed need no officer, up to rho {rule.automatic.rho_per_plan} each and "
                f"{rule.automatic.rho_per_period} within {rule.automatic.period_days} days."
            )


def _witnesses(witnesses: Witnesses) -> Iterator[str]:
    if not witnesses.quorum:
        yield "Nobody, which is declared here: whoever puts back an older ledger could spend the same budget again."
        return
    yield f"Nothing leaves before {witnesses.quorum} of these have cosigned the ledger: {', '.join(witnesses.keys)}."
    yield "Plans must say that they are witnessed. The cap keeps the price of one release in reserve."
