"""`fedseg policy`: check and sign a policy file, and test what it says about a plan."""

from pathlib import Path
from typing import Annotated

import typer

from fedseg.cli.output import Format, FormatOption, print_result, show, table
from fedseg.errors import PolicyError, TrustError

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


@app.command()
def sign(
    policy: PolicyArgument,
    officer: Annotated[str, typer.Option(envvar="FEDSEG_OFFICER", help="Your name among the policy's officers.")],
    officer_key: Annotated[
        Path, typer.Option(envvar="FEDSEG_OFFICER_KEY", help="Your key file.", exists=True, dir_okay=False)
    ],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Sign a policy as one of its officers, or of the policy it replaces; the signature stands beside it."""
    from fedseg.cli.approve import read_officer
    from fedseg.policy.document import load_policy
    from fedseg.privacy.signatures import add_policy_signature, sign_policy

    found, signer = load_policy(policy.read_bytes()), read_officer(officer, officer_key)
    named = {} if found.approvals is None else found.approvals.officers
    if officer in named and named[officer] != signer.key.public.to_text():
        raise TrustError(
            f"this is not the key of {officer}",
            why="the policy names another key for this officer",
            fix="use the officer's own key file",
        )
    signed = [one.officer for one in add_policy_signature(policy, sign_policy(found.digest, officer, signer.key))]
    facts = {
        "id": found.id,
        "policy_sha256": found.digest,
        "signed_by": signed,
        "required": 0 if found.approvals is None else found.approvals.required,
    }
    show(format_, facts, lambda: f"{found.id} is signed by {', '.join(signed)}\nhash       {found.digest}")


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
