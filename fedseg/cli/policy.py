"""`fedseg policy`: check, explain, compare and sign policy files, and test what one says about a plan."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, print_result, show, table
from fedseg.errors import PolicyError, TrustError

if TYPE_CHECKING:
    from fedseg.policy.analysis import PurposeAnalysis, PurposeDifference
    from fedseg.policy.changes import Change
    from fedseg.policy.space import Group

app = typer.Typer(help="Policies: who may be counted, for what, at what price.", no_args_is_help=True)
PolicyArgument = Annotated[Path, typer.Argument(help="POLICY.yaml", exists=True, dir_okay=False)]


@app.command()
def check(policy: PolicyArgument, format_: FormatOption = Format.TEXT) -> None:
    """Check that a policy file can mean only one thing, and show whom it allows in every case there is."""
    from fedseg.policy.analysis import analyse
    from fedseg.policy.document import load_policy

    found = load_policy(policy.read_bytes())
    analyses = analyse(found)
    data: dict[str, Any] = {
        "id": found.id,
        "policy_sha256": found.digest,
        "purposes": [purpose.value for purpose in found.purposes],
        "analysis": [_analysis_facts(one) for one in analyses],
    }
    broken = [(one.purpose, finding) for one in analyses for finding in one.findings if not finding.holds]
    lines = [
        f"{found.id} can be {'read' if broken else 'used'}; everything it does not name is denied",
        f"hash       {found.digest}",
        f"purposes   {', '.join(data['purposes'])}",
        *(line for one in analyses for line in _describe_analysis(one)),
    ]
    if broken:
        purpose, finding = broken[0]
        error = PolicyError(
            f"the policy {found.id} does not do what it seems to",
            why=f"{purpose.value}: it is not so that {finding.says}",
            fix="if a part changes nothing, leave it out; otherwise send this output to those who maintain fedseg",
        )
        error.data = data
        if format_ is Format.TEXT:
            print_result("\n".join(lines))
        raise error
    show(format_, data, lambda: "\n".join(lines))


@app.command()
def explain(policy: PolicyArgument, format_: FormatOption = Format.TEXT) -> None:
    """Say in plain words what a policy allows, what stops it, what is spent, and who decides."""
    from fedseg.policy.document import load_policy
    from fedseg.policy.explain import explain
    from fedseg.privacy.budget import epsilon_of, shown_epsilon

    found = load_policy(policy.read_bytes())
    sections = explain(found, epsilon_at_cap=shown_epsilon(epsilon_of(found.budget.rho_cap, found.budget.delta)))
    data = {
        "id": found.id,
        "policy_sha256": found.digest,
        "sections": [{"title": one.title, "sentences": list(one.sentences)} for one in sections],
    }
    text = [line for one in sections for line in (one.title, *_indented(one.sentences), "")]
    show(format_, data, lambda: "\n".join([*text, f"hash   {found.digest}"]))


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="POLICY.yaml as it was.", exists=True, dir_okay=False)],
    after: Annotated[Path, typer.Argument(help="POLICY.yaml as it shall be.", exists=True, dir_okay=False)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show every case that two policies decide differently, and every key that differs."""
    from fedseg.policy.analysis import decisions_changed
    from fedseg.policy.changes import keys_changed
    from fedseg.policy.document import load_policy

    old, new = load_policy(before.read_bytes()), load_policy(after.read_bytes())
    decisions, keys = decisions_changed(old, new), keys_changed(old, new)
    data = {
        "before_sha256": old.digest,
        "after_sha256": new.digest,
        "decisions": [_difference_facts(one) for one in decisions],
        "keys": [{"key": one.key, "before": one.before, "after": one.after} for one in keys],
    }
    show(format_, data, lambda: "\n".join(_describe_diff(decisions, keys)))


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


def _analysis_facts(found: "PurposeAnalysis") -> dict[str, Any]:
    return {
        "purpose": found.purpose.value,
        "states": found.states,
        "allowed": found.allowed,
        "groups": [_group_facts(group) for group in found.groups],
        "findings": [
            {
                "law": one.law.value,
                "says": one.says,
                "holds": one.holds,
                "counterexample": None if one.counterexample is None else dict(one.counterexample),
            }
            for one in found.findings
        ],
    }


def _difference_facts(found: "PurposeDifference") -> dict[str, Any]:
    return {
        "purpose": found.purpose.value,
        "states_allowed": found.states_allowed,
        "states_denied": found.states_denied,
        "newly_allowed": [_group_facts(group) for group in found.newly_allowed],
        "newly_denied": [_group_facts(group) for group in found.newly_denied],
    }


def _group_facts(group: "Group") -> dict[str, list[str]]:
    return {name: list(values) for name, values in group.items()}


def _describe_analysis(found: "PurposeAnalysis") -> Iterator[str]:
    yield ""
    yield f"{found.purpose.value}: {found.allowed:,} of the {found.states:,} states a customer can be in are allowed"
    yield from _describe_groups(found.groups)
    yield f"  checked in all {found.states:,}"
    for law in dict.fromkeys(one.law for one in found.findings):
        holds = all(one.holds for one in found.findings if one.law is law)
        yield f"    {'yes' if holds else 'NO '}  {law}"
    for one in (one for one in found.findings if not one.holds):
        yield f"  it is not so that {one.says}{', for instance here' if one.counterexample else ''}"
        yield from (f"    {name.replace('_', ' ')}: {value}" for name, value in (one.counterexample or {}).items())


def _describe_diff(decisions: Sequence["PurposeDifference"], keys: Sequence["Change"]) -> Iterator[str]:
    if not decisions:
        yield "no decision about any customer changes"
    for one in decisions:
        yield f"{one.purpose.value}: {one.states_allowed:,} states newly allowed, {one.states_denied:,} newly denied"
        for title, groups in (("newly allowed", one.newly_allowed), ("newly denied", one.newly_denied)):
            yield from _describe_groups(groups, title)
    yield ""
    if not keys:
        yield "the policies say the same"
        return
    rows = [[one.key, _value(one.before), _value(one.after)] for one in keys]
    yield table([["key", "before", "after"], *rows])


def _describe_groups(groups: Iterable["Group"], title: str = "allowed") -> Iterator[str]:
    """Each group with what it asks for, one thing a line; what is not named makes no difference."""
    for group in groups:
        yield f"  {title} if"
        yield from _asked(group)


def _asked(group: Mapping[str, Sequence[str]]) -> Iterator[str]:
    none = [name for name, values in group.items() if tuple(values) == ("no",)]
    for name, values in group.items():
        if name not in none:
            yield f"    {name.replace('_', ' ')}: {', or '.join(value.replace('_', ' ') for value in values)}"
    if none:
        yield f"    none of: {', '.join(none)}"


def _indented(sentences: Iterable[str]) -> Iterator[str]:
    for sentence in sentences:
        hanging = "    " if sentence.startswith("- ") else "  "
        yield textwrap.fill(sentence, 100, initial_indent="  ", subsequent_indent=hanging)


def _value(value: Any) -> str:
    """A value of a policy as people write it."""
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
