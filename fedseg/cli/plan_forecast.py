"""What `fedseg plan` says beforehand about what a plan will yield, and about what would help: facts, and words."""

from collections.abc import Iterator
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

from fedseg.clustering.planner import (
    EPSILON_ADVISED,
    SIGNAL_MIN,
    Change,
    Forecast,
    Remedy,
    Sharing,
    amounts,
    forecast,
    remedies,
)
from fedseg.plan import Plan, TrustModel
from fedseg.privacy.budget import PrivacyBudget, shown_epsilon, shown_fraction

EXCESS_SHOWN = (0.01, 1.0)
"""Beyond these the excess is only called small, or large: tables differ more from each other than that."""


def forecast_of(plan: Plan) -> Forecast:
    """What to expect of a plan."""
    settings = replace(plan.settings, budget=sharing_of(plan).budget(plan.rho))
    share = len(amounts(plan.encoders)) / plan.dimensions
    return forecast(settings, min_segment_size=plan.min_segment_size, amounts_share=share)


def forecast_facts(plan: Plan) -> dict[str, Any]:
    """The forecast and, if the budget does not carry the plan, what would help."""
    expected = forecast_of(plan)
    facts = {one.name: getattr(expected, one.name) for one in fields(expected)}
    helps = [
        {"change": one.change.name.lower(), "needed": one.needed, "signal": one.signal, "enough": one.is_enough}
        for one in _helps(plan, expected)
    ]
    return {**facts, "signal_needed": SIGNAL_MIN, "carried": expected.is_carried, "remedies": helps}


def warning(expected: Forecast) -> str:
    """What must be said of a plan whose budget does not carry it."""
    return (
        "WARNING: this budget cannot carry this question.\n"
        f"The signal is {expected.signal:.2g}; below {SIGNAL_MIN:g} most of what comes out is noise."
    )


def what_to_expect(plan: Plan) -> str:
    """The forecast for people."""
    expected = forecast_of(plan)
    width = f"{expected.mean_half_width:.2g} of their standard deviation"
    lines = [
        "What to expect, computed from this plan alone:",
        f"  distances     {_excess(expected.excess)}",
        f"  sizes         of segments, to within {whole(expected.size_half_width)} customers in 95 of 100 cases",
        f"  means         of features in an average segment, to within {width} there",
        f"  small groups  are seen from about {whole(expected.smallest_segment)} customers on, if they stand apart",
        f"  signal        {expected.signal:.3g}, where {SIGNAL_MIN:g} is needed",
    ]
    linear = ", ".join(amounts(plan.encoders))
    if linear:
        lines.append(
            f'  Amounts of which few customers have most are better on a logarithm, transform = "log1p": {linear}'
        )
    if not expected.is_carried:
        lines += ["", warning(expected), "What each change alone would have to be:"]
        lines += [f"  {one.change.value.ljust(_WIDTH)}  {_advice(plan, one)}" for one in _helps(plan, expected)]
    return "\n".join(lines)


_WIDTH = max(len(change.value) for change in Change)


def _excess(excess: float) -> str:
    least, most = EXCESS_SHOWN
    if excess > most:
        return "of customers from their centers: more than twice what the best segments without privacy have"
    shown = f"about {100 * excess:.2g} %" if excess > least else f"about {100 * least:g} % or less"
    return f"of customers from their centers, squared: {shown} above the best without privacy"


def _advice(plan: Plan, remedy: Remedy) -> str:
    """How far one change would have to go, in words."""
    needed = remedy.needed
    if needed is not None:
        return {
            Change.FEATURES: lambda: f"at most {needed:.0f}, now {plan.dimensions}",
            Change.SEGMENTS: lambda: f"at most {needed:.0f}, now {plan.k}",
            Change.CUSTOMERS: lambda: f"at least {whole(needed)}, now {whole(plan.algorithm.expected_customers)}",
            Change.EPSILON: lambda: (
                f"at least {shown_epsilon(Decimal(needed))}, now {shown_fraction(plan.budget.epsilon)}"
            ),
            Change.UNITS_PER_CUSTOMER: lambda: (
                f"at most {needed:.0f}, now {plan.max_units_per_customer}; every unit must attest it"
            ),
        }[remedy.change]()
    if remedy.is_enough:
        return f"enough, once it is available: the signal would be {remedy.signal:.2g}"
    if not remedy.signal > forecast_of(plan).signal:
        return "no help while a customer may be in every unit"
    return f"not enough: {_BEST[remedy.change]}the signal would be {remedy.signal:.2g}"


_BEST = {
    Change.FEATURES: "with a single column ",
    Change.SEGMENTS: "with two segments ",
    Change.CUSTOMERS: "",
    Change.EPSILON: f"even with {EPSILON_ADVISED}, and more protects hardly anybody, ",
    Change.UNITS_PER_CUSTOMER: "with every customer in one unit only ",
    Change.SECURE_AGGREGATION: "",
}
"""How far a change can go."""


def _helps(plan: Plan, expected: Forecast) -> Iterator[Remedy]:
    if expected.is_carried:
        return
    sharing = sharing_of(plan)
    settings = replace(plan.settings, budget=sharing.budget(plan.rho))
    yield from remedies(settings, PrivacyBudget(plan.budget.epsilon, plan.budget.delta), sharing)


def sharing_of(plan: Plan) -> Sharing:
    """How the units of a plan share its budget."""
    secure = plan.trust is TrustModel.SECURE_AGGREGATION
    return Sharing(len(plan.units), plan.max_units_per_customer, secure_aggregation=secure)


def whole(number: float) -> str:
    """A number of customers to two significant digits, which is all that a forecast is worth."""
    return f"{float(f'{number:.2g}'):,.0f}"
