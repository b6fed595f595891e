"""The 22 points that a claim of differential privacy is judged by, each answered from facts or left blank. Pure.

After NIST SP 800-226, "Guidelines for Evaluating Differential Privacy Guarantees" (2025), the fields of OpenDP's
registry of deployments, and the W3C draft note "Considerations for Reviewing Differential Privacy Systems" (2026).
Nothing is guessed: what neither ledgers, plans and policies nor the program itself say stands as a blank for people.
"""

from collections.abc import Sequence

from fedseg.plan import Plan
from fedseg.policy.document import Policy
from fedseg.privacy.budget import shown_epsilon
from fedseg.report.officer.evidence import Evidence, policy_of
from fedseg.report.officer.model import OfficerReport, Point
from fedseg.report.officer.noise_file import FAILED, PASSED
from fedseg.report.page import decimal, left

POINTS = 22


def checklist(report: OfficerReport, evidence: Evidence) -> tuple[Point, ...]:
    """All points; none of evidence that does not check out."""
    if not report.verified:
        return ()
    ran = [evidence.plans[one.sha256] for one in report.plans]
    policies = [policy_of(unit.policies[-1].document) for unit in evidence.units if unit.policies]
    answers = (
        _product(ran, report),
        _curators(policies, report),
        ("DP variant", ["Zero-concentrated differential privacy; also stated as (epsilon, delta)."], ""),
        _unit_of_privacy(ran),
        _parameters(report, ran),
        _bounds(ran),
        _unprotected(ran),
        _trust(ran),
        _releases(report),
        ("Static or changing data", [_DATA], ""),
        ("Interactive or not", [_INTERACTIVE], ""),
        _composition(ran, report),
        ("Post-processing", [_POST], ""),
        ("Pre-processing and choice of terms", [_TERMS], "whether somebody looked at customers to choose them"),
        _mechanism(report),
        _side_channels(report),
        ("Security of the data before noise", [_SECURITY], "who has access to machines, files and backups"),
        _audit(report),
        _utility(ran, policies),
        _justification(report),
        _remaining(report),
        ("Known limitations", [_LIMITS], ""),
    )
    return tuple(Point(number, title, tuple(said), blank) for number, (title, said, blank) in enumerate(answers, 1))


_Answer = tuple[str, Sequence[str], str]

_DATA = (
    "Each round reads the customers who consent on that day, so the data change. The budget does not: it is one for "
    "all time, and new customers share it."
)
_INTERACTIVE = (
    "Nobody queries the data. A unit answers the rounds of a plan that it has approved, and of nothing else; whoever "
    "writes the next plan may have seen earlier results, which the account allows for."
)
_SENSITIVITY = (
    "One row a customer; numbers are moved into public bounds, in exact integers. The sensitivity follows from the "
    "plan's lattice; it was derived by the unit's program and recomputed for every release by this report."
)
_POST = "Everything after the noise (finding segments, names, intervals, suppression) uses released numbers alone."
_TERMS = "Features, bounds, the number of segments and all settings stand in the plan before anybody is counted."
_SECURITY = (
    "Identifiers become keyed hashes as they are read, their key stays at the unit, and the process that has the data "
    "has no network in a deployed node."
)
_LIMITS = (
    "A ledger shows what was signed, not that noise was really drawn, that consent was real, or that nothing was sent "
    "by other means. Which units took part, and when, is not hidden. See fedseg's page of known limitations."
)


def _product(ran: Sequence[Plan], report: OfficerReport) -> _Answer:
    purposes = sorted({plan.purpose for plan in ran})
    what = "bounds of features" if ran and all(plan.learns_bounds for plan in ran) else "segments of customers"
    said = [f"Statistics for {what}, for {_and(purposes)}: {len(report.plans):,} plans in the period."] if ran else []
    return "Data product and intended use", said, "what the results are used for beyond the named purpose"


def _curators(policies: Sequence[Policy], report: OfficerReport) -> _Answer:
    controllers = sorted({policy.controller for policy in policies})
    said = [f"Controllers: {_and(controllers)}."] if controllers else []
    if report.period.first:
        said.append(f"From {report.period.first} to {report.period.last}, as of {report.period.as_of or 'no day'}.")
    return "Curators, region and dates", said, "the region whose people and law it concerns"


def _unit_of_privacy(ran: Sequence[Plan]) -> _Answer:
    said = [
        "One customer of a unit, with all their rows. Compared are tables that differ by one customer more or less."
    ]
    if ran:
        most = max(plan.max_units_per_customer for plan in ran)
        said.append(f"Plans reckon with a customer in up to {most:,} of their units; the losses there add up.")
    return "Unit of privacy", said, ""


def _parameters(report: OfficerReport, ran: Sequence[Plan]) -> _Answer:
    said = [
        f"{one.name}: rho {decimal(one.spent.rho)} spent of at most {decimal(one.rho_cap)}; epsilon "
        f"{shown_epsilon(one.spent.epsilon)} of at most {shown_epsilon(one.limit.epsilon)} at delta "
        f"{decimal(one.delta)}."
        for one in report.units
    ]
    said.append(
        "Epsilon is the infimum over alpha > 1 of rho alpha + ln(1/(alpha delta))/(alpha-1) + ln(1-1/alpha), rounded "
        "up."
    )
    if ran and report.units:
        people, delta = max(plan.algorithm.expected_customers for plan in ran), max(one.delta for one in report.units)
        said.append(
            f"Delta times the {people:,} customers that plans expect: {decimal(delta * people)}; far below 1 is right."
        )
    return "Parameters", said, ""


def _bounds(ran: Sequence[Plan]) -> _Answer:
    said = [_SENSITIVITY]
    if ran:
        said.append(f"At most {max(len(plan.features) for plan in ran)} features a plan.")
    return "Contribution bounds and sensitivity", said, ""


def _unprotected(ran: Sequence[Plan]) -> _Answer:
    said = [
        "Which units took part and when they answered; the plan with its number of segments and the features' bounds."
    ]
    if ran:
        said.append(f"Units named in plans: {max(len(plan.units) for plan in ran):,}.")
    return "What is not protected", said, ""


def _trust(ran: Sequence[Plan]) -> _Answer:
    models = sorted({plan.trust.value for plan in ran})
    said = [
        "Federated: every unit adds the full noise before anything leaves it; server and other units need no trust."
    ]
    if models:
        said.append(f"Trust models in plans: {_and(models)}.")
    return "Deployment model and trust", said, ""


def _releases(report: OfficerReport) -> _Answer:
    sent = sum(one.releases_in_period for one in report.units)
    said = [f"{sent:,} releases in the period. The budget is never filled up again."]
    return "One release or many", said, ""


def _composition(ran: Sequence[Plan], report: OfficerReport) -> _Answer:
    said = [
        "Losses rho add up over everything a unit ever sends, exactly; a plan is refused that does not fit the rest."
    ]
    if report.together is not None:
        both = report.together
        said.append(
            f"A customer of all {both.units} units here: epsilon {shown_epsilon(both.spent.epsilon)} so far, at most "
            f"{shown_epsilon(both.limit.epsilon)}, at delta {decimal(both.delta)}."
        )
    if any(plan.max_units_per_customer < len(plan.units) for plan in ran):
        said.append(
            "Some plans rest on units' signed word that no customer of theirs is in more units than they state."
        )
    return "Composition, within and across units", said, ""


def _mechanism(report: OfficerReport) -> _Answer:
    versions = sorted({one for unit in report.units for one in unit.software})
    said = ["Discrete Gaussian noise on integers, rho = sensitivity squared / (2 sigma squared), rounded up."]
    if versions:
        said.append(f"Software, as the ledgers name it: {_and(versions)}.")
    return "Mechanism, library, version", said, "the commit that was installed, if it is not the published version"


def _side_channels(report: OfficerReport) -> _Answer:
    sources = sorted({one for unit in report.units for one in unit.noise_sources})
    said = ["Integers from encoding to noise; noise is drawn before a row is read; replies have fixed sizes and slots."]
    if sources:
        said.append(f"Sources of noise, as the ledgers name them: {_and(sources)}.")
    return "Floating point, timing, randomness", said, ""


def _audit(report: OfficerReport) -> _Answer:
    audit = report.noise_audit
    if audit is None:
        return "Empirical audit", [], "not run, or not shown to whoever made this report"
    verdict = FAILED if audit.violated else PASSED
    said = [f"{verdict} in {len(audit.games)} games by {audit.software}; false alarm at most {audit.false_alarm:g}."]
    said += [
        f"{one.name}: {one.guesses:,} guesses; {100 * one.allowed:.1f} % right are allowed, at least "
        f"{100 * one.right_at_least:.1f} % are."
        for one in audit.games
    ]
    return "Empirical audit", said, ""


def _utility(ran: Sequence[Plan], policies: Sequence[Policy]) -> _Answer:
    said: list[str] = []
    if ran:
        said.append(
            f"Segments below {min(plan.min_segment_size for plan in ran):,} customers, by noised size, are not shown."
        )
    cohorts = [rule.min_cohort for policy in policies for rule in policy.purposes.values()]
    if cohorts:
        said.append(f"Units with fewer than {min(cohorts):,} customers to count approve nothing.")
    said.append("Each result states the noise interval of every number.")
    return "Error and small groups", said, "whether small groups are served worse, and what that does to them"


def _justification(report: OfficerReport) -> _Answer:
    required = sorted({one.officers_required for one in report.units})
    said: list[str] = []
    if required:
        said.append(
            "Policies ask for no officer's signature at some units."
            if required[0] == 0
            else f"Policies ask for {required[0]} or more officers' signatures for each plan."
        )
    signers = sorted({name for change in report.policy_changes for name in change.signed_by})
    if signers:
        said.append(f"Policies taken up in the period were signed by {_and(signers)}.")
    return "Why this epsilon, and who signed", said, "why the limit is acceptable, and the sign-off of this report"


def _remaining(report: OfficerReport) -> _Answer:
    said = [
        f"{one.name}: {left(one.rho_left, one.rho_cap)} left to approve"
        + (
            f"; at the pace of the last {one.forecast.pace_days} days until {one.forecast.day}."
            if one.forecast.day
            else "."
        )
        for one in report.units
    ]
    return "Budget remaining and forecast", said, ""


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
