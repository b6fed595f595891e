"""`fedseg approve`, `deny`, `revoke`: what a unit says to a plan, once it has been checked against its own data."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, require_somebody, say, show, table
from fedseg.errors import SettingsError

if TYPE_CHECKING:
    from fedseg.node.approvals import Preflight
    from fedseg.node.home import NodeHome
    from fedseg.plan import Plan
    from fedseg.privacy.signatures import Officer, PlanSignature

NodeOption = Annotated[Path, typer.Option(envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml.")]
OfficerOption = Annotated[
    str | None, typer.Option(envvar="FEDSEG_OFFICER", help="Your name in the unit's policy, if it names officers.")
]
OfficerKeyOption = Annotated[
    Path | None, typer.Option(envvar="FEDSEG_OFFICER_KEY", help="Your key file.", exists=True, dir_okay=False)
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="First digits of the plan's hash.")]


def approve(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="PLAN.toml, or the first digits of a plan in the inbox.")],
    node: NodeOption,
    agreed: Annotated[
        str | None, typer.Option("--id", help="Hash of the agreed plan, as told by the coordinator.")
    ] = None,
    attested: Annotated[
        int | None,
        typer.Option(
            "--attest-max-units", min=1, help="Your signed word that none of your customers is in more units."
        ),
    ] = None,
    officer: OfficerOption = None,
    officer_key: OfficerKeyOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, reserve nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Approve a plan at this unit: check policy, data, consent and budget, then reserve the plan's whole price."""
    from fedseg.node.approvals import approve as reserve
    from fedseg.node.approvals import preflight
    from fedseg.node.home import NodeHome

    ask = not dry_run and not yes
    if ask:
        require_somebody("approve the plan", f"fedseg approve {plan} --node {node} --yes")
    home, now = NodeHome.open(node), datetime.now(UTC)
    parsed, document, signature = _find(home, plan)
    found = preflight(home, parsed, now=now, expected_sha256=agreed, max_units_attested=attested)
    if ask:
        say(describe_preflight(found))
        typer.confirm("Approve, and reserve this budget?", abort=True, err=True)
    if not dry_run:
        found = reserve(
            home,
            parsed,
            document,
            now=now,
            expected_sha256=agreed,
            max_units_attested=attested,
            officer=chosen_officer(officer, officer_key),
            requester=signature,
        )
    outcome = "checked, nothing reserved" if dry_run else _outcome(found)
    facts = {"outcome": outcome, "waits_for": found.waits_for, **preflight_facts(found)}
    show(format_, facts, lambda: f"{describe_preflight(found)}\n\n{outcome}")


def deny(
    identifier: IdArgument,
    node: NodeOption,
    reason: Annotated[str, typer.Option(help="Why, for your own records: it stays in the unit.")],
    officer: OfficerOption = None,
    officer_key: OfficerKeyOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Refuse a plan of the inbox. The ledger says that it was refused, and holds a sealed hash of the reason."""
    from fedseg.node.approvals import deny as refuse
    from fedseg.node.home import NodeHome
    from fedseg.node.inbox import Inbox

    home = NodeHome.open(node)
    found = Inbox(home).find(identifier)
    refuse(home, found.plan.digest, reason, now=datetime.now(UTC), officer=chosen_officer(officer, officer_key))
    facts = {"outcome": "denied", "plan_sha256": found.plan.digest}
    show(format_, facts, lambda: f"{found.plan.name}: denied\nhash   {found.plan.digest}")


def revoke(
    identifier: IdArgument,
    node: NodeOption,
    keep_sent: Annotated[
        bool, typer.Option("--keep-sent", help="Only begin no further round; still repeat what was sent before.")
    ] = False,
    officer: OfficerOption = None,
    officer_key: OfficerKeyOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take an approval back. What was not begun is free again; what has left the unit cannot be called back."""
    from fedseg.node.approvals import approved_digest, end_approval
    from fedseg.node.home import NodeHome
    from fedseg.privacy.budget import fraction_text
    from fedseg.privacy.entries import Ending

    home = NodeHome.open(node)
    digest = approved_digest(home, identifier)
    ending = Ending.CANCELLED if keep_sent else Ending.REVOKED
    returned = end_approval(home, digest, ending, now=datetime.now(UTC), officer=chosen_officer(officer, officer_key))
    facts = {"outcome": ending.value, "plan_sha256": digest, "rho_returned": fraction_text(returned)}
    show(
        format_,
        facts,
        lambda: f"{ending.value}; rho {float(returned):.5g} of rounds not begun is free again\nhash   {digest}",
    )


def read_officer(name: str, key: Path) -> "Officer":
    """An officer with the key from its file."""
    from fedseg.ledger.keys import SigningKey
    from fedseg.privacy.signatures import Officer

    return Officer(name, SigningKey.load(key))


def chosen_officer(name: str | None, key: Path | None) -> "Officer | None":
    """The officer whom two options name together; None if neither is given."""
    if name is None and key is None:
        return None
    if name is None or key is None:
        raise SettingsError(
            "half of an officer is named",
            why="the name says who decides, the key file proves it",
            fix="give both --officer NAME and --officer-key FILE",
        )
    return read_officer(name, key)


def _find(home: "NodeHome", plan: str) -> "tuple[Plan, bytes, PlanSignature | None]":
    """The plan in a file of this name, or the one in the inbox whose hash begins like this."""
    from fedseg.node.inbox import Inbox
    from fedseg.plan import parse_plan
    from fedseg.privacy.signatures import read_plan_signature

    path = Path(plan)
    if path.is_file():
        document = path.read_bytes()
        return parse_plan(document), document, read_plan_signature(path)
    if path.suffix or "/" in plan:
        raise SettingsError(f"there is no plan {plan}", why="no such file", fix=f"fedseg inbox --node {home.path}")
    found = Inbox(home).find(plan)
    return found.plan, found.document, found.signature


def _outcome(found: "Preflight") -> str:
    if found.already_approved:
        return "approved already: nothing more reserved"
    return "approved" if not found.waits_for else f"noted; waits for {found.waits_for} more officers"


def preflight_facts(found: "Preflight") -> dict[str, Any]:
    """What the unit's officer sees before approving, as JSON; what holds exact counts sits under LOCAL."""
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


def describe_preflight(found: "Preflight") -> str:
    """The same for people."""
    facts = preflight_facts(found)
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
