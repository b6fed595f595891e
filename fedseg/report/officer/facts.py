"""From verified evidence to the facts of an officer's report. Pure: the same evidence and terms give the same facts."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from fedseg import __version__
from fedseg.audit.archive import Member
from fedseg.ledger.canonical import sha256_hex
from fedseg.plan import Plan
from fedseg.policy.changes import keys_changed
from fedseg.privacy.budget import sum_of_rhos
from fedseg.report.officer.budgets import together, unit_budget
from fedseg.report.officer.checklist import checklist
from fedseg.report.officer.evidence import Evidence, policy_of, verify
from fedseg.report.officer.meaning import loss
from fedseg.report.officer.model import (
    EndingFact,
    EvidenceFact,
    GivenKey,
    KeyFact,
    LogFact,
    MonthFact,
    NoiseAudit,
    OfficerReport,
    PeriodFact,
    PlanFact,
    PolicyChange,
    RefusalFact,
    SignedOff,
    UnitFact,
)
from fedseg.report.officer.period import Period
from fedseg.report.officer.records import Log, Policy, SentRelease, UnitRecord
from fedseg.report.officer.waiting import waiting

ALL = "all"
"""The period of a report about everything."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a report is asked for, beside its evidence; all of it stands in report.json."""

    period: Period | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    """By unit, `server` or origin."""
    signed_off: SignedOff | None = None
    noise_audit: NoiseAudit | None = None


def officer_report(members: Sequence[Member], bundle: bytes, terms: Terms) -> tuple[OfficerReport, Evidence]:
    """The report about these members of a bundle, which is `bundle`, and the evidence behind it."""
    keys = terms.keys
    before = terms.signed_off.log if terms.signed_off else ()
    evidence = verify(members, keys, {one.origin: (one.entries, one.root) for one in before})
    sound = not evidence.failures
    units, plans = evidence.units if sound else (), evidence.plans
    as_of = _as_of(units, terms.period)
    budgets = tuple(found for one in units if (found := unit_budget(one, terms.period, as_of)) is not None)
    here = {one.log.name for one in evidence.units}
    report = OfficerReport(
        software=f"fedseg {__version__}",
        period=_period(units, terms.period, as_of),
        evidence=EvidenceFact(sha256_hex(bundle), len(bundle), len(members)),
        keys=tuple(GivenKey(name, key) for name, key in sorted(keys.items())),
        signed_off=terms.signed_off,
        failures=evidence.failures,
        log=tuple(_log(one) for one in _logs(evidence)),
        absent=tuple(sorted({unit.name for plan in plans.values() for unit in plan.units} - here)),
        remarks=tuple(_remarks(evidence, keys, terms.period)) if sound else (),
        units=budgets,
        together=together(budgets),
        months=tuple(_months(units, terms.period)),
        plans=tuple(_plans(evidence, budgets, terms.period)) if sound else (),
        refusals=tuple(_refusals(units, plans, terms.period)),
        endings=tuple(_endings(units, plans, terms.period)),
        policy_changes=tuple(_policy_changes(units, terms, as_of)),
        waiting=(),
        noise_audit=terms.noise_audit,
        checklist=(),
    )
    report = replace(report, waiting=tuple(waiting(report, units, plans)))
    return replace(report, checklist=checklist(report, evidence)), evidence


def _as_of(units: Sequence[UnitRecord], period: Period | None) -> str:
    """The newest day of any entry, up to the end of the period."""
    last = period.last.isoformat() if period else "9999-12-31"
    return max((day for unit in units for day in _days(unit) if day <= last), default="")


def _days(unit: UnitRecord) -> Iterator[str]:
    approvals = (unit.policies, unit.decisions, unit.approvals, unit.refusals, unit.closings)
    for lines in (*approvals, unit.releases, unit.events):
        yield from (one.day for one in lines)


def _period(units: Sequence[UnitRecord], period: Period | None, as_of: str) -> PeriodFact:
    if period is not None:
        return PeriodFact(period.text, period.first.isoformat(), period.last.isoformat(), as_of)
    return PeriodFact(ALL, min((day for unit in units for day in _days(unit) if day), default=""), as_of, as_of)


def _in(period: Period | None, day: str) -> bool:
    return period is None or period.holds(day)


def _logs(evidence: Evidence) -> list[Log]:
    server = [evidence.server.log] if evidence.server is not None else []
    return [*server, *(unit.log for unit in evidence.units)]


def _log(one: Log) -> LogFact:
    return LogFact(
        where=one.where,
        role=one.role,
        name=one.name,
        origin=one.origin,
        entries=one.size,
        root=one.root,
        public_key=one.public_key,
        fingerprint=one.fingerprint,
        key_given=one.key_given,
        cosigned_by=tuple(said.name for said in one.witnesses.witnesses if said.covers),
        witnesses=one.witnesses.in_words,
        witnessing=one.witnesses,
        goes_on_from=one.goes_on_from,
    )


# What is no fault


def _remarks(evidence: Evidence, keys: Mapping[str, str], period: Period | None) -> Iterator[str]:
    if evidence.server is None:
        yield "No server's ledger is here: which releases were counted, and what was published, nobody has seen."
    for one in _logs(evidence):
        if len(one.keys) > 1:
            yield f"{one.name} has replaced its key; compare the new fingerprint by telephone."
        for why in one.witnesses.unusable:
            yield f"What lies beside the ledger of {one.name} as a cosigned checkpoint counts for nothing: {why}."
    known = {name for one in _logs(evidence) for name in (one.origin, one.name)}
    if unknown := sorted(set(keys) - known):
        yield f"Keys were given of {', '.join(unknown)}, but no ledger of theirs is here."
    if (lost := _uncounted(evidence)) > 0:
        yield (
            f"{lost:,} releases were charged and do not stand in the server's ledger: they were lost, came too late, "
            "or that ledger is an older copy. They cost their price all the same."
        )
    dated = {one.plan_sha256 for unit in evidence.units for one in unit.releases}
    if period is not None and evidence.server is not None and (undated := len(set(evidence.server.plans) - dated)):
        yield f"{undated:,} plans of the server have no day: no ledger here has a release of theirs. They are left out."


def _uncounted(evidence: Evidence) -> int:
    if evidence.server is None:
        return 0
    counted, ran = evidence.server.counted, evidence.server.plans
    return sum(
        1
        for unit in evidence.units
        for one in unit.releases
        if one.plan_sha256 in ran and (one.plan_sha256, unit.log.name, one.step) not in counted
    )


# What was released


def _months(units: Sequence[UnitRecord], period: Period | None) -> Iterator[MonthFact]:
    by_month: defaultdict[str, list[tuple[str, SentRelease]]] = defaultdict(list)
    for unit in units:
        for one in unit.releases:
            if _in(period, one.day):
                by_month[one.day[:7]].append((unit.log.name, one))
    for month, found in sorted(by_month.items()):
        yield MonthFact(
            month=month,
            plans=len({one.plan_sha256 for _, one in found}),
            releases=len(found),
            integers=sum(one.integers for _, one in found),
            rho_most=max(_by_unit(found).values()),
        )


def _by_unit(found: Iterable[tuple[str, SentRelease]]) -> dict[str, Fraction]:
    rhos: defaultdict[str, list[Fraction]] = defaultdict(list)
    for name, one in found:
        rhos[name].append(one.rho)
    return {name: sum_of_rhos(some) for name, some in rhos.items()}


def _plans(evidence: Evidence, budgets: Sequence[UnitFact], period: Period | None) -> Iterator[PlanFact]:
    """The newest first."""
    deltas = {one.name: one.delta for one in budgets}
    approvals = defaultdict[str, set[str]](set)
    by_plan: defaultdict[str, list[tuple[str, SentRelease]]] = defaultdict(list)
    for unit in evidence.units:
        for approval in unit.approvals:
            approvals[approval.plan_sha256].add(approval.by)
        for one in unit.releases:
            if _in(period, one.day):
                by_plan[one.plan_sha256].append((unit.log.name, one))
    found = [_plan(evidence, digest, some, approvals[digest], deltas) for digest, some in by_plan.items()]
    yield from sorted(found, key=lambda one: (one.last, one.name, one.sha256), reverse=True)


def _plan(
    evidence: Evidence,
    digest: str,
    found: Sequence[tuple[str, SentRelease]],
    approved_by: Iterable[str],
    deltas: Mapping[str, Fraction],
) -> PlanFact:
    plan, server, rhos = evidence.plans[digest], evidence.server, _by_unit(found)
    dearest = max(rhos, key=lambda name: rhos[name])
    days = [one.day for _, one in found]
    publication = server.published.get(digest) if server is not None else None
    return PlanFact(
        name=plan.name,
        sha256=digest,
        purpose=plan.purpose,
        first=min(days),
        last=max(days),
        units=tuple(sorted(rhos)),
        releases=len(found),
        integers=sum(one.integers for _, one in found),
        cost=loss(rhos[dearest], deltas[dearest]),
        approved_by=tuple(sorted(approved_by)),
        counted=None if server is None else all((digest, name, one.step) in server.counted for name, one in found),
        published=None if publication is None else publication.shown,
    )


# What was not


def _refusals(units: Sequence[UnitRecord], plans: Mapping[str, Plan], period: Period | None) -> list[RefusalFact]:
    found = [
        RefusalFact(one.day, unit.log.name, one.plan_sha256, _name(plans, one.plan_sha256))
        for unit in units
        for one in unit.refusals
        if _in(period, one.day)
    ]
    return sorted(found, key=lambda one: (one.day, one.unit), reverse=True)


def _endings(units: Sequence[UnitRecord], plans: Mapping[str, Plan], period: Period | None) -> list[EndingFact]:
    found = [
        EndingFact(one.day, unit.log.name, one.plan_sha256, _name(plans, one.plan_sha256), one.ending, one.rho_returned)
        for unit in units
        for one in unit.closings
        if _in(period, one.day)
    ]
    return sorted(found, key=lambda one: (one.day, one.unit), reverse=True)


def _name(plans: Mapping[str, Plan], digest: str) -> str:
    return plans[digest].name if digest in plans else ""


# Policies


def _policy_changes(units: Sequence[UnitRecord], terms: Terms, as_of: str) -> Iterator[PolicyChange]:
    """Policies taken up since the last sign-off, or in the period; the same step at several units is one change."""
    seen = {one.origin: one.entries for one in terms.signed_off.log} if terms.signed_off else None
    found: defaultdict[tuple[str, str, tuple[str, ...]], list[tuple[str, str]]] = defaultdict(list)
    documents: dict[str, bytes] = {}
    for unit in units:
        since = None if seen is None else seen.get(unit.log.origin, 0)
        before: Policy | None = None
        for one in unit.policies:
            documents[one.sha256] = one.document
            recent = one.entry >= since if since is not None else _in(terms.period, one.day)
            if recent and one.day <= as_of:
                step = (before.sha256 if before else "", one.sha256, one.signed_by)
                found[step].append((unit.log.name, one.day))
            before = one
    for (old, new, signed_by), where in found.items():
        yield PolicyChange(
            days=tuple(day for _, day in where),
            units=tuple(name for name, _ in where),
            before_sha256=old,
            after_sha256=new,
            changes=tuple(_changes(documents[old], documents[new])) if old else (),
            signed_by=signed_by,
        )


def _changes(before: bytes, after: bytes) -> Iterator[KeyFact]:
    for one in keys_changed(policy_of(before), policy_of(after)):
        yield KeyFact(one.key, _value(one.before), _value(one.after))


def _value(value: object) -> str:
    if value is None:
        return "nothing"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
