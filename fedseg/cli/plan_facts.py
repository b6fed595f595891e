"""What `fedseg plan show` says of a plan: facts, and the same in words."""

from collections.abc import Iterator
from dataclasses import fields
from fractions import Fraction
from typing import Any

from fedseg.cli.bounds_forecast import bounds_facts, bounds_to_expect
from fedseg.cli.output import table
from fedseg.cli.plan_forecast import forecast_facts, what_to_expect
from fedseg.clustering.categories import BinaryFeature, CategoricalFeature, RegionFeature
from fedseg.clustering.cycles import CyclicFeature
from fedseg.clustering.features import Feature, NumericFeature, Transform
from fedseg.plan import Plan
from fedseg.privacy.budget import epsilon_of, fraction_text, shown_epsilon, shown_fraction, upper_float
from fedseg.server.contribution import payload_bytes


def plan_facts(plan: Plan) -> dict[str, Any]:
    """What the plan means for a unit and for a customer, and what to expect of it."""
    spent = sum(plan.step_rhos, Fraction(0))
    return {
        "name": plan.name,
        "plan_sha256": plan.digest,
        "purpose": plan.purpose,
        "trust": plan.trust.value,
        "algorithm": plan.algorithm.name,
        "k": plan.k,
        "epsilon": upper_float(plan.budget.epsilon),
        "delta": float(plan.budget.delta),
        "max_units_per_customer": plan.max_units_per_customer,
        "epsilon_at_unit": shown_epsilon(epsilon_of(spent, plan.budget.delta)),
        "columns": plan.dimensions,
        "features": [_feature_facts(one) for one in plan.encoders],
        "tables": [table_.model_dump(mode="json") for table_ in plan.tables],
        "units": [unit.name for unit in plan.units],
        "steps": list(_steps(plan)),
        "forecast": bounds_facts(plan) if plan.learns_bounds else forecast_facts(plan),
    }


def describe(plan: Plan) -> str:
    """The same for people."""
    asked = f"bounds of {len(plan.features)} features" if plan.learns_bounds else f"{plan.k} segments"
    parts = [
        f"{plan.name}: {asked} for {plan.purpose}\nhash   {plan.digest}",
        _what_leaves(plan),
        _price(plan),
        _features(plan),
        *([_tables(plan)] if plan.tables else []),
        bounds_to_expect(plan) if plan.learns_bounds else what_to_expect(plan),
    ]
    return "\n\n".join(parts)


def _steps(plan: Plan) -> Iterator[dict[str, Any]]:
    spent = Fraction(0)
    for one, terms, rho in zip(plan.settings.rounds, plan.terms, plan.step_rhos, strict=True):
        spent += rho
        yield {
            "step": terms.step,
            "kind": one.kind.value,
            "releases": one.kind.sends,
            "cells": terms.cells,
            "integers": terms.length,
            "bytes": payload_bytes(terms),
            "l2_sensitivity_squared": terms.lattice.l2_sensitivity_squared,
            "sigma": terms.mechanism.sigma,
            "rho": fraction_text(rho),
            "epsilon_at_unit_after": shown_epsilon(epsilon_of(spent, plan.budget.delta)),
        }


_CELLS = """\
A cell is the customers nearest to one point that the server names; a customer is in one cell a round. What one customer
adds to all sums of a round together has at most a fixed length: `noise` is the noise of every single number in such
lengths, `sigma` the same in steps of the lattice."""

_BINS = """\
A customer is in one part of each column's range, whatever its values are. What one customer adds to all counts together
has at most a fixed length: `noise` is the noise of every single count in such lengths, `sigma` the same in steps of the
lattice. The counts of a missing flag are how many have a value and how many have none."""


def _what_leaves(plan: Plan) -> str:
    rows = [["round", "asks for", "cells", "integers", "bytes", "noise", "sigma", "rho", "epsilon after"]]
    for one, rho in zip(_steps(plan), plan.step_rhos, strict=True):
        rows.append(
            [
                str(one["step"] + 1),
                one["kind"],
                str(one["cells"]),
                f"{one['integers']:,}",
                f"{one['bytes']:,}",
                f"{one['sigma'] / one['l2_sensitivity_squared'] ** 0.5:.3g} x",
                f"{one['sigma']:,}",
                f"{float(rho):.3g}",
                one["epsilon_at_unit_after"],
            ]
        )
    kinds = list(dict.fromkeys(one.kind for one in plan.settings.rounds))
    width = max(len(kind.value) for kind in kinds)
    what = "counts of customers" if plan.learns_bounds else "sums over cells of customers"
    return "\n".join(
        [
            f"What leaves a unit, and nothing else: {what}, in whole numbers, each with noise.",
            *(f"  {kind.value.ljust(width)}  {kind.sends}" for kind in kinds),
            "",
            table(rows, right=[0, *range(2, 9)]),
            "",
            _BINS if plan.learns_bounds else _CELLS,
        ]
    )


def _price(plan: Plan) -> str:
    spent = sum(plan.step_rhos, Fraction(0))
    at_unit, delta = shown_epsilon(epsilon_of(spent, plan.budget.delta)), float(plan.budget.delta)
    most, units = plan.max_units_per_customer, len(plan.units)
    where = f"all {units} units together" if most == units else f"{most} of {units} units, the most that each attests,"
    return (
        f"A customer in one unit loses at most epsilon {at_unit}; in {where} "
        f"at most {shown_fraction(plan.budget.epsilon)}, at delta {delta:g}.\n"
        f"Trust: {plan.trust.value}. "
        f"Quorum: {plan.quorum} of {len(plan.units)} units within {plan.deadline_seconds} s a round."
    )


def _features(plan: Plan) -> str:
    rows = [["feature", "columns", "weight", "what counts"]]
    rows += [[one.name, str(one.width), f"{float(one.weight):g}", _what_counts(one)] for one in plan.encoders]
    return table(rows, right=[1, 2])


def _tables(plan: Plan) -> str:
    rows = [["public table", "what it is", "sha256"]]
    rows += [[one.name, one.label, one.sha256] for one in plan.tables]
    return f"Units may look up in these, and in no others:\n{table(rows)}"


def _what_counts(feature: Feature) -> str:
    flag = "; a column says whether it is missing" if feature.missing_flag else ""
    match feature:
        case NumericFeature():
            scale = _SCALES[feature.transform]
            lower, upper, missing = (f"{one:,.15g}" for one in (feature.lower, feature.upper, feature.missing))
            return f"{lower} to {upper}{scale}; missing counts as {missing}{flag}"
        case BinaryFeature():
            return f"yes or no; missing counts as {'yes' if feature.missing else 'no'}{flag}"
        case RegionFeature():
            return f"the first {feature.characters} characters: {len(feature.vocabulary)} codes, and other{flag}"
        case CategoricalFeature():
            return f"{len(feature.vocabulary)} categories, and other{flag}"
        case CyclicFeature():
            return f"from {feature.start:g}, the same again after {feature.period:g}{flag}"
        case _:
            return feature.kind + flag


_SCALES = {
    Transform.IDENTITY: "",
    Transform.LOG1P: " on a logarithm",
    Transform.ASINH: " on a logarithm that keeps the sign",
}


def _feature_facts(feature: Feature) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": feature.name, "kind": feature.kind, "columns": feature.width}
    for one in fields(feature):
        value = getattr(feature, one.name)
        plain = value.value if isinstance(value, Transform) else float(value) if isinstance(value, Fraction) else value
        facts.setdefault(one.name, plain)
    return facts
