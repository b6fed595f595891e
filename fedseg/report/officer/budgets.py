"""A unit's budget on a day: what is spent, reserved and left, how it went down, and how long it lasts. Pure."""

import itertools
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from fractions import Fraction

from fedseg.privacy.budget import sum_of_rhos
from fedseg.report.officer.meaning import loss
from fedseg.report.officer.model import DayLeft, Forecast, PurposeFact, Together, UnitFact
from fedseg.report.officer.period import Period
from fedseg.report.officer.records import Policy, SentRelease, UnitRecord

PACE_DAYS = 90
"""A forecast goes on at the pace of so many days, or of those since the first release if they are fewer."""
PACE_DAYS_MIN = 7
"""Over fewer days there is no pace, and so no forecast."""
_LONGEST_DAYS = 36_500


def unit_budget(record: UnitRecord, period: Period | None, as_of: str) -> UnitFact | None:
    """The budget of a unit at the end of `as_of`; None if no policy was in force yet."""
    policies = [one for one in record.policies if one.day <= as_of]
    if not policies:
        return None
    policy = policies[-1]
    releases = [one for one in record.releases if one.day <= as_of]
    lately = [one for one in releases if period is None or period.holds(one.day)]
    spent, reserved = sum_of_rhos(one.rho for one in releases), _reserved(record, as_of)
    kept_back = _kept_back(record, policy, as_of)
    left = max(Fraction(0), policy.rho_cap - reserved - kept_back)
    return UnitFact(
        name=record.log.name,
        policy_sha256=policy.sha256,
        officers_required=policy.required,
        delta=policy.delta,
        limit=loss(max(policy.rho_cap, spent), policy.delta),
        rho_cap=policy.rho_cap,
        spent=loss(spent, policy.delta),
        rho_spent_in_period=sum_of_rhos(one.rho for one in lately),
        rho_reserved=reserved,
        rho_kept_back=kept_back,
        rho_left=left,
        releases=len(releases),
        releases_in_period=len(lately),
        integers_in_period=sum(one.integers for one in lately),
        noise_sources=tuple(sorted({one.noise_source for one in releases})),
        software=tuple(sorted({one.software for one in releases})),
        purposes=tuple(_purposes(record, policy, releases, as_of)),
        burn_down=tuple(_burn_down(policies, releases)),
        forecast=forecast([(one.day, one.rho) for one in releases], left, as_of),
    )


def together(units: Sequence[UnitFact]) -> Together | None:
    """A customer of all of them: losses add up, whatever each unit has sent. None of fewer than two units."""
    if len(units) < 2:  # noqa: PLR2004 (a sum of one is no sum)
        return None
    delta = max(one.delta for one in units)
    spent, limit = (sum_of_rhos(getattr(one, name).rho for one in units) for name in ("spent", "limit"))
    return Together(len(units), delta, loss(spent, delta), loss(limit, delta))


def forecast(charges: Sequence[tuple[str, Fraction]], left: Fraction, as_of: str) -> Forecast:
    """How long a budget lasts at the mean pace of the last days, counted up to and with `as_of`.

    Args:
        charges: Day and rho of each release until then, in their order.
        left: What may still be approved, in rho.
        as_of: The day of the forecast.
    """
    if not charges:
        return Forecast(0, Fraction(0), "")
    today = date.fromisoformat(as_of)
    days = min(PACE_DAYS, (today - date.fromisoformat(charges[0][0])).days + 1)
    since = (today - timedelta(days=days - 1)).isoformat()
    pace = sum_of_rhos(rho for day, rho in charges if day >= since) / days
    lasts = left // pace if pace and days >= PACE_DAYS_MIN else _LONGEST_DAYS + 1
    day = (today + timedelta(days=lasts)).isoformat() if lasts <= _LONGEST_DAYS else ""
    return Forecast(days, pace, day)


def _kept_back(record: UnitRecord, policy: Policy, as_of: str) -> Fraction:
    """The dearest release of any plan approved until then, if one can be made twice by a rollback."""
    if not policy.is_witnessed:
        return Fraction(0)
    return max((one.rho_dearest for one in record.approvals if one.day <= as_of), default=Fraction(0))


def _reserved(record: UnitRecord, as_of: str, purpose: str | None = None) -> Fraction:
    """Prices of all approved plans, less what was given back of them."""
    approved = [one for one in record.approvals if one.day <= as_of and purpose in (None, one.purpose)]
    plans = {one.plan_sha256 for one in approved}
    returned = (one.rho_returned for one in record.closings if one.day <= as_of and one.plan_sha256 in plans)
    return sum_of_rhos(one.rho for one in approved) - sum_of_rhos(returned)


def _purposes(record: UnitRecord, policy: Policy, releases: Sequence[SentRelease], as_of: str) -> Iterable[PurposeFact]:
    purpose_of = {one.plan_sha256: one.purpose for one in record.approvals}
    for purpose in sorted({*policy.purpose_rho_caps, *purpose_of.values()}):
        yield PurposeFact(
            purpose=purpose,
            rho_cap=policy.purpose_rho_caps.get(purpose),
            rho_spent=sum_of_rhos(one.rho for one in releases if purpose_of[one.plan_sha256] == purpose),
            rho_reserved=_reserved(record, as_of, purpose),
        )


def _burn_down(policies: Sequence[Policy], releases: Sequence[SentRelease]) -> Iterable[DayLeft]:
    """What was unspent at the end of each day that changed it: limit in force then, less all charges until then."""
    caps = {one.day: one.rho_cap for one in policies}
    charged = {
        day: sum_of_rhos(one.rho for one in some) for day, some in itertools.groupby(releases, lambda one: one.day)
    }
    cap = spent = Fraction(0)
    for day in sorted({*caps, *charged}):
        cap, spent = caps.get(day, cap), spent + charged.get(day, Fraction(0))
        yield DayLeft(day, max(Fraction(0), cap - spent), cap)
