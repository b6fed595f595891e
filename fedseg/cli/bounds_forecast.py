"""What `fedseg plan` says beforehand about what a plan for bounds will see, and about what would help."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from decimal import Decimal
from fractions import Fraction
from typing import Any

from fedseg.cli.plan_forecast import sharing_of, whole
from fedseg.clustering.bins import BINS
from fedseg.clustering.bounds import SHARE_MAX, BoundsForecast, forecast_bounds
from fedseg.clustering.planner import Change
from fedseg.plan import Plan
from fedseg.privacy.budget import RHO_LIMIT, epsilon_of, shown_epsilon, shown_fraction
from fedseg.segments.telling import percent


def bounds_forecast(plan: Plan, features: int | None = None) -> BoundsForecast:
    """What to expect of a plan for bounds, or of one with so many features like its own."""
    asked = len(plan.features) if features is None else features
    columns = plan.dimensions * asked // len(plan.features)
    return forecast_bounds(asked, columns, plan.algorithm.expected_customers, sharing_of(plan).budget(plan.rho))


def bounds_facts(plan: Plan) -> dict[str, Any]:
    """The forecast and, if the budget does not carry the plan, what would help."""
    expected = bounds_forecast(plan)
    helps = [{"change": change, "needed": needed} for change, needed in _helps(plan, expected).items()]
    needed = {"smallest_share_needed": SHARE_MAX, "carried": expected.is_carried, "remedies": helps}
    return {**asdict(expected), **needed}


def bounds_warning(expected: BoundsForecast) -> str:
    """What must be said of a plan whose budget does not carry it."""
    return (
        "WARNING: this budget cannot carry this question.\n"
        f"A part of a range is seen from {_shown(expected.smallest_share)} of the customers on; "
        f"above {percent(SHARE_MAX)} bounds may be too narrow, or not found."
    )


def bounds_to_expect(plan: Plan) -> str:
    """The forecast for people."""
    expected = bounds_forecast(plan)
    group = f"{whole(expected.smallest_group)} customers in it, {_shown(expected.smallest_share)} of those expected"
    lines = [
        "What to expect, computed from this plan alone:",
        "  bounds        of each feature, wide enough for nearly everybody; or that nothing stands above the noise",
        f"  seen          is a part of a range, one of {BINS}, from {group}",
        "  thin tails    drown in the noise; the bounds are made wider to allow for them",
    ]
    if not expected.is_carried:
        lines += ["", bounds_warning(expected), "What each change alone would have to be:"]
        lines += [f"  {change.ljust(_WIDTH)}  {advice}" for change, advice in _advice(plan, expected)]
    return "\n".join(lines)


_FEATURES = "fewer features"
_WIDTH = max(len(change) for change in (_FEATURES, Change.CUSTOMERS, Change.EPSILON))


def _advice(plan: Plan, expected: BoundsForecast) -> Iterator[tuple[str, str]]:
    needed = _helps(plan, expected)
    most = needed["features"]
    yield _FEATURES, f"at most {most:.0f}, now {len(plan.features)}" if most else "not enough, even with one alone"
    yield Change.CUSTOMERS, f"at least {whole(needed['customers'])}, now {whole(plan.algorithm.expected_customers)}"
    epsilon = shown_epsilon(Decimal(needed["epsilon"]))
    yield Change.EPSILON, f"at least {epsilon}, now {shown_fraction(plan.budget.epsilon)}"


def _helps(plan: Plan, expected: BoundsForecast) -> dict[str, float]:
    """How far each change alone would have to go; nothing if the budget carries the plan. No features: not enough."""
    if expected.is_carried:
        return {}
    fewer = (number for number in range(len(plan.features), 0, -1) if bounds_forecast(plan, number).is_carried)
    rho = plan.rho * Fraction(expected.smallest_share / SHARE_MAX) ** 2  # the noise falls with the root of rho
    return {
        "features": next(fewer, 0),
        "customers": math.ceil(expected.smallest_group / SHARE_MAX),
        "epsilon": float(epsilon_of(min(rho, Fraction(RHO_LIMIT)), plan.budget.delta)),
    }


def _shown(share: float) -> str:
    return percent(share) if share <= 1 else "more than all"
