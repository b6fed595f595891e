"""`fedseg inbox`: the plans that wait for a unit's decision."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, show, table
from fedseg.errors import SettingsError

if TYPE_CHECKING:
    from fedseg.node.inbox import WaitingPlan
    from fedseg.policy.document import Policy

app = typer.Typer()
NodeOption = Annotated[
    Path, typer.Option("--node", envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml.")
]


@app.callback(invoke_without_command=True)
def list_(
    context: typer.Context,
    node: Annotated[
        Path | None, typer.Option(envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml.")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Plans that wait for a unit's decision. Without a command: list them, who asks, and who has approved so far."""
    if context.invoked_subcommand is not None:
        return
    from fedseg.node.home import NodeHome
    from fedseg.node.inbox import Inbox
    from fedseg.policy.document import load_policy

    if node is None:
        raise SettingsError("no unit is named", why="each unit has its own inbox", fix="fedseg inbox --node HOME")
    home = NodeHome.open(node)
    policy = load_policy(home.policy_document())
    waiting, damaged = Inbox(home).waiting()
    facts = {"waiting": [_facts(one, policy) for one in waiting], "damaged": [path.name for path in damaged]}
    show(format_, facts, lambda: _describe(facts))


@app.command()
def add(
    plan: Annotated[Path, typer.Argument(help="PLAN.toml; its signature is looked for beside it.", exists=True)],
    node: NodeOption,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Put a plan into the inbox. If its requester's terms in the policy cover it, it is approved at once."""
    from fedseg.errors import FedsegError
    from fedseg.node.approvals import approve
    from fedseg.node.home import NodeHome
    from fedseg.node.inbox import Inbox
    from fedseg.plan import caps_of
    from fedseg.policy.document import load_policy
    from fedseg.privacy.signatures import read_plan_signature

    home, document, signature = NodeHome.open(node), plan.read_bytes(), read_plan_signature(plan)
    parsed = Inbox(home).add(document, signature)
    policy = load_policy(home.policy_document())
    outcome = "waits for a decision"
    known = caps_of(policy).approvals.requester(None if signature is None else signature.requester)
    if known is not None and known[1].automatic is not None:
        try:
            approve(home, parsed, document, now=datetime.now(UTC), requester=signature, automatic=True)
        except FedsegError as error:  # whatever keeps it from passing by itself, an officer may still look
            outcome = f"waits for a decision: {error.what}; {error.why}"
        else:
            outcome = "approved, within the policy's terms for its requester"
    facts = {"plan_sha256": parsed.digest, "name": parsed.name, "outcome": outcome}
    show(format_, facts, lambda: f"{parsed.name}: {outcome}\nhash   {parsed.digest}")


@app.command("show")
def show_(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="First digits of the plan's hash.")],
    node: NodeOption,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what a waiting plan would release, round by round, what the policy says, and what it costs here."""
    from fedseg.cli.approve import describe_preflight, preflight_facts
    from fedseg.cli.plan_facts import describe, plan_facts
    from fedseg.node.approvals import preflight
    from fedseg.node.home import NodeHome
    from fedseg.node.inbox import Inbox

    home = NodeHome.open(node)
    found = Inbox(home).find(identifier)
    attested = found.plan.max_units_to_attest
    checked = preflight(home, found.plan, now=datetime.now(UTC), max_units_attested=attested)
    facts = {"plan": plan_facts(found.plan), **preflight_facts(checked)}
    show(format_, facts, lambda: f"{describe(found.plan)}\n\n{describe_preflight(checked)}")


def _facts(waiting: "WaitingPlan", policy: "Policy") -> dict[str, Any]:
    from fedseg.plan import caps_of

    key = None if waiting.signature is None else waiting.signature.requester
    rules = caps_of(policy).approvals
    known = rules.requester(key)
    return {
        "plan_sha256": waiting.plan.digest,
        "name": waiting.plan.name,
        "purpose": waiting.plan.purpose,
        "requester": None if known is None else known[0],
        "requester_key": key,
        "approving": list(waiting.approving),
        "required": rules.required,
        "refused": waiting.refused,
    }


def _describe(facts: dict[str, Any]) -> str:
    lines = [f"DAMAGED  {name}: it is no plan, remove it" for name in facts["damaged"]]
    if not facts["waiting"]:
        return "\n".join(["nothing waits", *lines])
    rows = [
        [
            one["plan_sha256"][:16],
            one["name"],
            one["requester"] or ("unknown key" if one["requester_key"] else "not signed"),
            f"{len(one['approving'])} of {one['required']}" if one["required"] else "-",
            "refused" if one["refused"] else "",
        ]
        for one in facts["waiting"]
    ]
    return "\n".join([table([["id", "plan", "requester", "officers", ""], *rows]), *lines])
