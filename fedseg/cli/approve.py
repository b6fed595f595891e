"""`fedseg approve`: a unit looks at a plan, checks it against its own data, and reserves its price."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, say, show, table
from fedseg.errors import SettingsError

if TYPE_CHECKING:
    from fedseg.node.approvals import Preflight


def approve(
    plan: Annotated[Path, typer.Argument(help="PLAN.toml", exists=True, dir_okay=False)],
    node: Annotated[Path, typer.Option(envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml.")],
    agreed: Annotated[
        str | None, typer.Option("--id", help="Hash of the agreed plan, as told by the coordinator.")
    ] = None,
    attested: Annotated[
        int | None,
        typer.Option(
            "--attest-max-units", min=1, help="Your signed word that none of your customers is in more units."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, reserve nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Approve a plan at this unit: check policy, data, consent and budget, then reserve the plan's whole price."""
    from fedseg.node.approvals import approve as reserve
    from fedseg.node.approvals import preflight
    from fedseg.node.home import NodeHome
    from fedseg.plan import parse_plan

    ask = not dry_run and not yes
    if ask and not sys.stdin.isatty():
        raise SettingsError(
            "nobody is here to approve the plan",
            why="standard input is no terminal, so the question cannot be asked",
            fix=f"look with --dry-run first, then: fedseg approve {plan} --node {node} --yes",
        )
    home, document, now = NodeHome.open(node), plan.read_bytes(), datetime.now(UTC)
    parsed = parse_plan(document)
    found = preflight(home, parsed, now=now, expected_sha256=agreed, max_units_attested=attested)
    if ask:
        say(_describe(found))
        typer.confirm("Approve, and reserve this budget?", abort=True, err=True)
    if not dry_run:
        reserve(home, parsed, document, now=now, expected_sha256=agreed, max_units_attested=attested)
    already = "approved already: nothing more reserved" if found.already_approved else "approved"
    outcome = "checked, nothing reserved" if dry_run else already
    show(format_, {"outcome": outcome, **_facts(found)}, lambda: f"{_describe(found)}\n\n{outcome}")


def _facts(found: "Preflight") -> dict[str, Any]:
    """JSON facts; what holds exact counts sits under LOCAL."""
    from fedseg.privacy.budget import epsilon_of, fraction_text, shown_epsilon

    return {
        "plan_sha256": found.plan_sha256,
        "rules": [{"rule": one.rule, "allowed": one.allowed, "reason": one.reason} for one in found.rules],
        "rho": fraction_text(found.rho),
        "epsilon_before": shown_epsilon(epsilon_of(found.rho_reserved_before, found.delta)),
        "epsilon_after": shown_epsilon(epsilon_of(found.rho_reserved_after, found.delta)),
        "epsilon_at_cap": shown_epsilon(epsilon_of(found.rho_cap, found.delta)),
        "LOCAL": {
            "rows": found.source.rows,
            "customers": found.source.customers,
            "duplicates": found.source.duplicates,
            "without_key": found.source.without_key,
            "lines_left_out": found.source.left_out,
            "missing": found.source.missing,
            "outside": found.source.outside,
            "columns": dict(found.columns),
            "reasons": {reason.name.lower(): count for reason, count in found.reasons.items() if count},
        },
    }


def _describe(found: "Preflight") -> str:
    facts = _facts(found)
    rules = table(
        [
            ["rule", "allowed", "reason"],
            *([one.rule, "yes" if one.allowed else "NO", one.reason] for one in found.rules),
        ]
    )
    local = facts["LOCAL"]
    reasons = [
        ["LOCAL:", "customers by decision", ""],
        *(["LOCAL:", name.replace("_", " "), f"{count:,}"] for name, count in local["reasons"].items()),
    ]
    return "\n".join(
        [
            f"plan   {found.plan_sha256}",
            "",
            rules,
            "",
            (
                f"epsilon at this unit {facts['epsilon_before']} before, {facts['epsilon_after']} after, "
                f"{facts['epsilon_at_cap']} at the cap (delta {float(found.delta):g})"
            ),
            "",
            table(reasons, right=[2]),
            (
                f"LOCAL: {local['rows']:,} rows, {local['duplicates']:,} duplicates, "
                f"{local['without_key']:,} without a key, {local['lines_left_out']:,} lines left out; "
                f"missing values: {_counted(local['missing'])}"
            ),
            f"LOCAL: values that the plan does not foresee: {_counted(local['outside'])}",
            *(f"LOCAL: feature {name} is read from column {column}" for name, column in found.columns.items()),
            "LOCAL counts are for this unit's eyes; they never leave it.",
        ]
    )


def _counted(counts: dict[str, int]) -> str:
    """Features with their counts, where there are any."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "none"
