"""`fedseg budget`: what a unit has spent, reserved and left, recomputed from its ledger."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, show, table
from fedseg.errors import SettingsError

if TYPE_CHECKING:
    from fractions import Fraction

    from fedseg.audit.facts import LedgerFacts

KEPT_BACK = (
    "Kept back is what the dearest release costs: a unit that is put back to an older copy can send one release twice "
    "before its witnesses tell, and the cap must hold then too."
)

app = typer.Typer(help="Privacy budgets, recomputed from ledgers.", no_args_is_help=True)


@app.command("show")
def show_(
    place: Annotated[Path, typer.Argument(help="A unit's home or ledger.", exists=True)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what one customer's data may cost at this unit: the cap, what is reserved and what was spent."""
    from fedseg.audit.verify import verify_ledger

    facts = verify_ledger(ledger_file(place))
    if facts.role != "unit":
        raise SettingsError(
            f"{place} is not a unit's ledger",
            why="a server spends no privacy budget",
            fix="name a unit's home, such as nodes/NAME",
        )
    data = account_facts(facts)
    show(format_, {"unit": facts.unit, **data}, lambda: _describe(facts, data))


@app.command()
def preview(
    plan: Annotated[Path, typer.Argument(help="PLAN.toml", exists=True, dir_okay=False)],
    node: Annotated[Path, typer.Option(envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml.")],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what a plan would cost at this unit, and whether it fits. Reads no customer and reserves nothing."""
    from fedseg.node.approvals import forecast_budget
    from fedseg.node.home import NodeHome
    from fedseg.plan import parse_plan
    from fedseg.privacy.budget import epsilon_of, fraction_text, upper_float

    found = forecast_budget(NodeHome.open(node), parse_plan(plan.read_bytes()))
    before, after, at_cap = (
        upper_float(epsilon_of(rho, found.delta))
        for rho in (found.rho_reserved_before, found.rho_reserved_after, found.rho_cap)
    )
    why_not = None if found.refusal is None else f"{found.refusal.what}: {found.refusal.why}"
    data = {
        "plan_sha256": found.plan_sha256,
        "rho": fraction_text(found.rho),
        "already_approved": found.already_approved,
        "epsilon_before": before,
        "epsilon_after": after,
        "epsilon_at_cap": at_cap,
        "delta": float(found.delta),
        "fits": why_not is None,
        "why_not": why_not,
    }
    price = f"epsilon at this unit {shown(before)} before, {shown(after)} after, {shown(at_cap)} at the cap"
    outcome = "it is approved already" if found.already_approved else "it fits" if why_not is None else f"NO: {why_not}"
    show(format_, data, lambda: f"{price} (delta {float(found.delta):g})\n{outcome}")


@app.command()
def history(
    place: Annotated[Path, typer.Argument(help="A unit's home or ledger.", exists=True)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """List everything that changed what a unit may spend, in order: policies, approvals, releases, ends."""
    from fedseg.audit.verify import verify_ledger
    from fedseg.privacy.entries import unit_body
    from fedseg.privacy.state import AccountState, apply_body

    facts = verify_ledger(ledger_file(place))
    state, lines = AccountState(), []
    for entry in facts.raw.entries[1:] if facts.role == "unit" else ():
        body = unit_body(entry)
        state = apply_body(state, body)
        lines.append(
            {
                "entry": entry.seq,
                "day": body.day,
                "kind": entry.kind,
                "plan_sha256": entry.body.get("plan_sha256"),
                "step": entry.body.get("step"),
                "rho_spent": float(state.rho_spent),
                "rho_reserved": float(state.rho_reserved),
            }
        )
    show(format_, {"unit": facts.unit, "history": lines}, lambda: _describe_history(facts.unit, lines))


def ledger_file(place: Path) -> Path:
    """The ledger itself, if `place` is a home; a folder of tiles is one itself."""
    from fedseg.ledger.tiles import is_tiles

    return place / "ledger.db" if place.is_dir() and not is_tiles(place) else place


def account_facts(facts: "LedgerFacts") -> dict[str, Any]:
    """Spent, reserved and cap of a unit's verified ledger; every epsilon is an upper bound."""
    from fedseg.privacy.budget import epsilon_of, fraction_text, upper_float

    account = facts.account
    noise = "simulated: not a differentially private release" if facts.simulated else "system"
    if account.caps is None:
        nothing = {"rho_spent": 0.0, "rho_reserved": 0.0, "rho_kept_back": 0.0, "rho_left": 0.0}
        return {**nothing, "rho_cap": None, "epsilon_at_cap": None, "delta": None, "noise": noise, "plans": []}
    delta = account.caps.delta

    def epsilon(rho: "Fraction") -> float:
        return upper_float(epsilon_of(rho, delta))

    return {
        "rho_spent": float(account.rho_spent),
        "rho_spent_exact": fraction_text(account.rho_spent),
        "epsilon_spent": epsilon(account.rho_spent),
        "rho_reserved": float(account.rho_reserved),
        "epsilon_reserved": epsilon(account.rho_reserved),
        "rho_kept_back": float(account.residue()),
        "epsilon_kept_back": epsilon(account.residue()),
        "rho_left": float(account.rho_left),
        "rho_cap": float(account.caps.rho_cap),
        "rho_cap_exact": fraction_text(account.caps.rho_cap),
        "epsilon_at_cap": epsilon(account.caps.rho_cap),
        "epsilon_guaranteed": epsilon(account.rho_guaranteed),
        "delta": float(delta),
        "noise": noise,
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


def shown(epsilon: float) -> str:
    """An epsilon of `account_facts` for people: four digits, rounded up."""
    from decimal import Decimal

    from fedseg.privacy.budget import shown_epsilon

    return shown_epsilon(Decimal(epsilon), 4)


def _describe(facts: "LedgerFacts", data: dict[str, Any]) -> str:
    if data["rho_cap"] is None:
        return f"{facts.unit}: no policy is logged yet, so nothing may be spent"
    is_witnessed = facts.account.caps is not None and facts.account.caps.is_witnessed
    rows = [
        ["", "rho", "epsilon"],
        ["spent so far", f"{data['rho_spent']:.5g}", shown(data["epsilon_spent"])],
        ["reserved by approved plans", f"{data['rho_reserved']:.5g}", shown(data["epsilon_reserved"])],
        *([["kept back", f"{data['rho_kept_back']:.5g}", shown(data["epsilon_kept_back"])]] if is_witnessed else []),
        ["left to approve", f"{data['rho_left']:.5g}", ""],
        ["cap of one customer", f"{data['rho_cap']:.5g}", shown(data["epsilon_at_cap"])],
    ]
    plans = [
        ["plan", "purpose", "rho", "rounds answered"],
        *(
            [one["plan_sha256"][:16], one["purpose"], f"{one['rho']:.5g}", f"{one['answered']} of {one['steps']}"]
            for one in data["plans"]
        ),
    ]
    lowered = data["epsilon_guaranteed"] > data["epsilon_at_cap"]
    guarantee = f"The guarantee is epsilon {shown(data['epsilon_guaranteed'])} at delta {data['delta']:g}: " + (
        "what was spent before the cap was lowered." if lowered else "the cap. Spent so far is a running estimate."
    )
    kept = f"\n{KEPT_BACK}" if is_witnessed else ""
    warning = "\nWARNING: the noise was simulated; nothing here is private" if facts.simulated else ""
    return f"{facts.unit}\n{table(rows, right=[1, 2])}\n{guarantee}{kept}{warning}\n\n{table(plans, right=[2])}"


def _describe_history(unit: str, lines: list[dict[str, Any]]) -> str:
    rows = [["entry", "day", "what", "plan", "round", "rho spent", "rho reserved"]]
    rows += [
        [
            str(one["entry"]),
            one["day"] or "",
            one["kind"],
            str(one["plan_sha256"] or "")[:16],
            "" if one["step"] is None else str(one["step"] + 1),
            f"{one['rho_spent']:.5g}",
            f"{one['rho_reserved']:.5g}",
        ]
        for one in lines
    ]
    return f"{unit}\n{table(rows, right=[0, 4, 5, 6])}" if lines else f"{unit}: nothing yet"
