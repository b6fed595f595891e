"""`fedseg plan`: check a plan, and show exactly what would leave a unit, round by round, and what it costs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, show, table

if TYPE_CHECKING:
    from fedseg.plan import Plan

app = typer.Typer(help="Plans: what all units agree on before the first round.", no_args_is_help=True)
PlanArgument = Annotated[Path, typer.Argument(help="PLAN.toml", exists=True, dir_okay=False)]


@app.command()
def check(plan: PlanArgument, format_: FormatOption = Format.TEXT) -> None:
    """Check that a plan follows its schema and that its numbers work together."""
    found = _read(plan)
    facts = {"name": found.name, "plan_sha256": found.digest, "units": len(found.units), "rounds": found.rounds}
    show(format_, facts, lambda: f"{found.name} can be used\nhash   {found.digest}")


@app.command("show")
def show_(plan: PlanArgument, format_: FormatOption = Format.TEXT) -> None:
    """Show exactly what leaves a unit, round by round, and what it costs."""
    found = _read(plan)
    facts = plan_facts(found)
    show(format_, facts, lambda: _describe(found, facts))


def plan_facts(plan: "Plan") -> dict[str, Any]:
    """What the plan means for a unit and for a customer."""
    from fractions import Fraction

    from fedseg.privacy.budget import epsilon_of, fraction_text, shown_epsilon, upper_float
    from fedseg.server.contribution import payload_bytes

    steps, spent = [], Fraction(0)
    for terms, rho in zip(plan.terms, plan.step_rhos, strict=True):
        spent += rho
        steps.append(
            {
                "step": terms.step,
                "releases": f"{terms.cells} counts and {terms.cells} x {terms.width - 1} sums of clipped differences",
                "integers": terms.length,
                "bytes": payload_bytes(terms),
                "l2_sensitivity_squared": terms.lattice.l2_sensitivity_squared,
                "sigma": terms.mechanism.sigma,
                "rho": fraction_text(rho),
                "epsilon_at_unit_after": shown_epsilon(epsilon_of(spent, plan.budget.delta)),
            }
        )
    return {
        "name": plan.name,
        "plan_sha256": plan.digest,
        "purpose": plan.purpose,
        "trust": plan.trust.value,
        "k": plan.k,
        "epsilon": upper_float(plan.budget.epsilon),
        "delta": float(plan.budget.delta),
        "max_units_per_customer": plan.max_units_per_customer,
        "epsilon_at_unit": shown_epsilon(epsilon_of(spent, plan.budget.delta)),
        "features": [
            {
                "name": one.name,
                "kind": one.kind,
                "columns": one.width,
                "weight": fraction_text(one.weight),
                "foreseen": one.foreseen,
                "missing": one.missing_text,
                "missing_flag": one.missing_flag,
            }
            for one in plan.encoders
        ],
        "units": [unit.name for unit in plan.units],
        "steps": steps,
    }


def shown_plan_epsilon(plan: "Plan") -> str:
    """The plan's epsilon for people, rounded up."""
    from fedseg.privacy.budget import shown_fraction

    return shown_fraction(plan.budget.epsilon)


def _describe(plan: "Plan", facts: dict[str, Any]) -> str:
    rows = [["round", "integers", "bytes", "sigma", "sensitivity", "rho", "epsilon after"]]
    for one in facts["steps"]:
        rho = float(plan.step_rhos[one["step"]])
        sensitivity = one["l2_sensitivity_squared"] ** 0.5
        rows.append(
            [
                str(one["step"] + 1),
                str(one["integers"]),
                str(one["bytes"]),
                f"{one['sigma']:,}",
                f"{sensitivity:,.0f}",
                f"{rho:.3g}",
                one["epsilon_at_unit_after"],
            ]
        )
    features = [
        ["feature", "kind", "columns", "weight", "if missing", "foreseen"],
        *(
            [one.name, one.kind, str(one.width), f"{float(one.weight):g}", one.missing_text, one.foreseen]
            for one in plan.encoders
        ),
    ]
    return "\n".join(
        [
            f"{plan.name}: {plan.k} segments for {plan.purpose}",
            f"hash   {plan.digest}",
            "",
            "What leaves a unit, and nothing else: per round, for each segment, a count and a sum a feature, noised.",
            table(rows, right=range(7)),
            "",
            (
                f"A customer in one unit loses at most epsilon {facts['epsilon_at_unit']}; in all "
                f"{plan.max_units_per_customer} units together at most {shown_plan_epsilon(plan)}, "
                f"at delta {facts['delta']:g}."
            ),
            (
                f"Trust: {plan.trust.value}. "
                f"Quorum: {plan.quorum} of {len(plan.units)} units within {plan.deadline_seconds} s a round."
            ),
            "",
            table(features, right=[2, 3]),
        ]
    )


def _read(path: Path) -> "Plan":
    from fedseg.plan import parse_plan

    return parse_plan(path.read_bytes())
