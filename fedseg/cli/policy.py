"""`fedseg policy`: check a policy file, and test what it says about a plan."""

from pathlib import Path
from typing import Annotated

import typer

from fedseg.cli.output import Format, FormatOption, print_result, show, table
from fedseg.errors import PolicyError

app = typer.Typer(help="Policies: who may be counted, for what, at what price.", no_args_is_help=True)
PolicyArgument = Annotated[Path, typer.Argument(help="POLICY.yaml", exists=True, dir_okay=False)]


@app.command()
def check(policy: PolicyArgument, format_: FormatOption = Format.TEXT) -> None:
    """Check that a policy file can mean only one thing."""
    from fedseg.policy.document import load_policy

    found = load_policy(policy.read_bytes())
    facts = {"id": found.id, "policy_sha256": found.digest, "purposes": [purpose.value for purpose in found.purposes]}
    show(
        format_,
        facts,
        lambda: (
            f"{found.id} can be used; everything it does not name is denied\n"
            f"hash       {found.digest}\npurposes   {', '.join(facts['purposes'])}"
        ),
    )


@app.command("test")
def would_allow(
    policy: PolicyArgument,
    plan: Annotated[Path, typer.Option(help="PLAN.toml", exists=True, dir_okay=False)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Would this plan be allowed here? Answers with the reason per rule."""
    from fedseg.plan import parse_plan, policy_outcomes
    from fedseg.policy.document import load_policy

    found, asked = load_policy(policy.read_bytes()), parse_plan(plan.read_bytes())
    rules = policy_outcomes(asked, found)
    data = {
        "allowed": all(one.allowed for one in rules),
        "rules": [{"rule": one.rule, "allowed": one.allowed, "reason": one.reason} for one in rules],
    }
    text = table(
        [["rule", "allowed", "reason"], *([one.rule, "yes" if one.allowed else "NO", one.reason] for one in rules)]
    )
    refused = [one for one in rules if not one.allowed]
    if refused:
        error = PolicyError(
            f"the policy {found.id} does not allow the plan {asked.name}",
            why=f"{refused[0].rule}: {refused[0].reason}",
            fix="change the plan, or have the policy's owners change it",
        )
        error.data = data
        if format_ is Format.TEXT:
            print_result(text)
        raise error
    show(format_, data, lambda: f"{text}\n\nallowed")
