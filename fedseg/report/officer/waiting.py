"""What waits for a person: decisions that are due, and what an officer should not overlook. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from fedseg.plan import Plan
from fedseg.report.officer.model import OfficerReport, UnitFact, Waiting
from fedseg.report.officer.records import Approval, UnitRecord
from fedseg.report.page import left

LITTLE_LEFT = Fraction(1, 5)
"""Of a budget: less asks for a decision."""
NEARLY_CERTAIN = Decimal("0.95")
"""A limit that lets a guess be right so often protects hardly anybody."""
SOON_DAYS = 7
"""An approval that ends within so many days is named."""
FORGOTTEN_DAYS = 30
"""So is a plan that was approved so long ago and for which not all was asked."""


def waiting(report: OfficerReport, units: Sequence[UnitRecord], plans: Mapping[str, Plan]) -> Iterator[Waiting]:
    """What is due, the most pressing first."""
    if not report.verified:
        yield Waiting("", "The evidence does not check out.", "Keep the files as evidence, and ask their owners.")
        return
    if report.noise_audit is not None and report.noise_audit.violated:
        yield Waiting(
            "", "The empirical audit found a violation.", "Approve and answer nothing; tell the makers of fedseg."
        )
    for one in report.units:
        yield from _of_budget(one)
    for record in units:
        yield from _of_plans(record, plans, report.period.as_of)
    yield from _of_the_log(report)
    if report.noise_audit is None:
        yield Waiting(
            "",
            "The promise was not put to the test, or its result was not shown to whoever made this report.",
            "fedseg audit noise --format json > noise-audit.json, then name the file with --noise-audit.",
        )


def _of_budget(unit: UnitFact) -> Iterator[Waiting]:
    if unit.limit.guess >= NEARLY_CERTAIN:
        yield Waiting(
            unit.name,
            "The limit is so high that, once it is spent, a guess about a customer may be right nearly always.",
            "Decide whether the policy means that; a lower limit takes effect at once.",
        )
    if set(unit.noise_sources) - {"system"}:
        yield Waiting(
            unit.name, "Noise was simulated: what was released protects nobody.", "Use such a unit for rehearsals only."
        )
    if unit.spent.rho > unit.rho_cap:
        yield Waiting(
            unit.name,
            "More was spent than the limit now allows: the limit was lowered afterwards.",
            "Nothing more can be approved. Decide whether the limit stays.",
        )
    elif unit.rho_left < unit.rho_cap * LITTLE_LEFT:
        until = f", and at the present pace on {unit.forecast.day} nothing" if unit.forecast.day else ""
        yield Waiting(
            unit.name,
            f"Only {left(unit.rho_left, unit.rho_cap)} of the privacy budget is left to approve{until}.",
            "Decide what the rest is for. A budget is not filled up again: the people in it are the same.",
        )


def _of_plans(unit: UnitRecord, plans: Mapping[str, Plan], as_of: str) -> Iterator[Waiting]:
    name = unit.log.name
    approved = {one.plan_sha256: one for one in unit.approvals if one.day <= as_of}
    for digest, officers in _undecided(unit, set(approved), as_of).items():
        required = [one.required for one in unit.policies if one.day <= as_of][-1]
        yield Waiting(
            name,
            f"Plan {_called(plans, digest)} has the word of {' and '.join(officers)}; {required} must approve.",
            f"Look at it and decide: fedseg inbox show {digest[:12]}",
        )
    answered: dict[str, int] = {}
    for one in unit.releases:
        if one.day <= as_of:
            answered[one.plan_sha256] = answered.get(one.plan_sha256, 0) + 1
    closed = {one.plan_sha256 for one in unit.closings if one.day <= as_of}
    for digest, approval in approved.items():
        if digest not in closed and answered.get(digest, 0) < approval.steps:
            yield from _of_open_plan(name, approval, _called(plans, digest), as_of)


def _undecided(unit: UnitRecord, approved: set[str], as_of: str) -> dict[str, list[str]]:
    """Officers who approve, by plan that is neither approved nor refused since."""
    refused = {one.plan_sha256: one.entry for one in unit.refusals if one.day <= as_of}
    found: dict[str, list[str]] = {}
    for one in unit.decisions:
        if one.day <= as_of and one.verdict == "approve" and one.entry > refused.get(one.plan_sha256, -1):
            found.setdefault(one.plan_sha256, []).append(one.officer)
    return {digest: sorted(set(officers)) for digest, officers in found.items() if digest not in approved}


def _of_open_plan(unit: str, approval: Approval, called: str, as_of: str) -> Iterator[Waiting]:
    soon = (date.fromisoformat(as_of) + timedelta(days=SOON_DAYS)).isoformat()
    long_ago = (date.fromisoformat(as_of) - timedelta(days=FORGOTTEN_DAYS)).isoformat()
    if approval.expires_on and approval.expires_on <= soon:
        over = approval.expires_on < as_of
        yield Waiting(
            unit,
            f"The approval of plan {called} {'ended' if over else 'ends'} on {approval.expires_on}, unfinished.",
            "Its price comes free with the next approval." if over else "Finish it by then, or let it end.",
        )
    elif approval.day <= long_ago:
        yield Waiting(
            unit,
            f"Plan {called} was approved on {approval.day} and is not finished; its price is held.",
            "Ask its owner whether it goes on, or end it: fedseg revoke",
        )


def _of_the_log(report: OfficerReport) -> Iterator[Waiting]:
    if unknown := [one.name for one in report.log if not one.key_given]:
        yield Waiting(
            "",
            f"Nobody vouched for the {'key' if len(unknown) == 1 else 'keys'} of {', '.join(unknown)}.",
            "Compare the fingerprints by telephone, and name the keys with --keys.",
        )
    yield from _of_witnesses(report)
    if report.absent:
        yield Waiting(
            "",
            f"Ledgers of {', '.join(report.absent)} are not here: what these units spent is not known.",
            "Ask them for a bundle, and name it too.",
        )


def _of_witnesses(report: OfficerReport) -> Iterator[Waiting]:
    alone = [one.name for one in report.units_without_witnesses if not one.witnessing.quorum]
    if alone or not (report.units_with_witnesses or report.units_without_witnesses):
        whose = f" of {', '.join(alone)}" if alone else ""
        yield Waiting(
            "",
            f"No witness has seen the ledgers{whose}: an older copy put back shows only to who remembers.",
            "Keep this report, and name it with --signed-off next time.",
        )
    for one in report.units_without_witnesses:
        if one.witnessing.quorum:
            yield Waiting(
                one.name,
                f"Its witnesses have not seen all they should: {one.witnesses}.",
                "Ask for a bundle of its home as it is now; if it says the same, ask its witnesses what they saw.",
            )


def _called(plans: Mapping[str, Plan], digest: str) -> str:
    return f"{plans[digest].name} ({digest[:12]})" if digest in plans else digest[:12]
