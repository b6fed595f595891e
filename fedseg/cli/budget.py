"""`fedseg budget`: what a unit has spent, reserved and left, recomputed from its ledger."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, show, table
from fedseg.errors import SettingsError

if TYPE_CHECKING:
    from fedseg.audit.verify import LedgerFacts

app = typer.Typer(help="Privacy budgets, recomputed from ledgers.", no_args_is_help=True)


@app.command("show")
def show_(
    place: Annotated[Path, typer.Argument(help="A unit's home or ledger.", exists=True)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what one customer's data may cost at this unit: the cap, what is reserved and what was spent."""
    from fedseg.audit.verify import verify_ledger

    facts = verify_ledger(place / "ledger.db" if place.is_dir() else place)
    if facts.role != "unit":
        raise SettingsError(
            f"{place} is not a unit's ledger",
            why="a server spends no privacy budget",
            fix="name a unit's home, such as nodes/NAME",
        )
    data = account_facts(facts)
    show(format_, {"unit": facts.unit, **data}, lambda: _describe(facts, data))


def account_facts(facts: "LedgerFacts") -> dict[str, Any]:
    """Spent, reserved and cap of a unit's verified ledger; epsilons are rounded up."""
    from fedseg.privacy.budget import epsilon_of, fraction_text, shown_epsilon

    account = facts.account
    if account.caps is None:
        return {
            "rho_spent": 0.0,
            "rho_reserved": 0.0,
            "rho_cap": None,
            "epsilon_at_cap": None,
            "delta": None,
            "plans": [],
        }
    delta = account.caps.delta

    def epsilon(rho: Any) -> float:
        return float(shown_epsilon(epsilon_of(rho, delta), 6))

    return {
        "rho_spent": float(account.rho_spent),
        "rho_spent_exact": fraction_text(account.rho_spent),
        "epsilon_spent": epsilon(account.rho_spent),
        "rho_reserved": float(account.rho_reserved),
        "epsilon_reserved": epsilon(account.rho_reserved),
        "rho_cap": float(account.caps.rho_cap),
        "rho_cap_exact": fraction_text(account.caps.rho_cap),
        "epsilon_at_cap": epsilon(account.caps.rho_cap),
        "delta": float(delta),
        "noise": "simulated: not a differentially private release" if facts.simulated else "system",
        "plans": [
            {
                "plan_sha256": one.plan_sha256,
                "purpose": one.purpose,
                "rho": float(one.rho),
                "steps": len(one.step_rhos),
                "answered": len(one.answered),
            }
            for one in account.reservations.values()
        ],
    }


def _describe(facts: "LedgerFacts", data: dict[str, Any]) -> str:
    if data["rho_cap"] is None:
        return f"{facts.unit}: no policy is logged yet, so nothing may be spent"
    rows = [["", "rho", "epsilon"]]
    rows += [
        [name, f"{data[f'rho_{key}']:.5g}", f"{data[f'epsilon_{end}']:.4g}"]
        for name, key, end in (
            ("spent so far", "spent", "spent"),
            ("reserved by approved plans", "reserved", "reserved"),
            ("cap of one customer", "cap", "at_cap"),
        )
    ]
    plans = [
        ["plan", "purpose", "rho", "rounds answered"],
        *(
            [one["plan_sha256"][:16], one["purpose"], f"{one['rho']:.5g}", f"{one['answered']} of {one['steps']}"]
            for one in data["plans"]
        ),
    ]
    warning = "\nWARNING: the noise was simulated; nothing here is private" if facts.simulated else ""
    guarantee = (
        f"The guarantee is the cap: epsilon {data['epsilon_at_cap']:.4g} at delta {data['delta']:g}. "
        "What is spent so far is a running estimate."
    )
    return f"{facts.unit}\n{table(rows, right=[1, 2])}\n{guarantee}{warning}\n\n{table(plans, right=[2])}"
