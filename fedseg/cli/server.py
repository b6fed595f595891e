"""`fedseg server`: the machine that asks the units, adds up their releases and publishes the segments."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, require_somebody, say, show, table
from fedseg.cli.processes import (
    ForegroundOption,
    SingleUserOption,
    TimeoutOption,
    compare,
    process_table,
    single_user_note,
)
from fedseg.errors import SettingsError

if TYPE_CHECKING:
    from fedseg.deploy.admission import Admission

app = typer.Typer(help="The server: asks the units, adds up their releases, publishes segments.", no_args_is_help=True)
DirectoryArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The server's directory.")]
OfficerOption = Annotated[
    str | None, typer.Option(envvar="FEDSEG_OFFICER", help="Your name as an officer of the server, if it has officers.")
]
OfficerKeyOption = Annotated[
    Path | None, typer.Option(envvar="FEDSEG_OFFICER_KEY", help="Your key file.", exists=True, dir_okay=False)
]

SINGLE_OPERATOR = "SINGLE OPERATOR: whoever operates this server lets units in alone"


@app.command()
def init(
    directory: DirectoryArgument,
    host: Annotated[list[str], typer.Option(help="Name or IP address under which nodes reach it; repeat for more.")],
    listen: Annotated[str, typer.Option(help="IP address and port to listen on.")] = "0.0.0.0:8443",
    server_user: Annotated[str | None, typer.Option(help="System user for link and coordinator.")] = None,
    proxy_user: Annotated[str | None, typer.Option(help="System user for the proxy.")] = None,
    single_user: SingleUserOption = False,
    officer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=KEY", help="An officer with their public key; any two let units in. Repeat."),
    ] = None,
    single_operator: Annotated[
        bool, typer.Option("--single-operator", help="No officers: whoever operates the server lets units in.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make a server's directory: keys, certificates, an empty ledger. Nothing is started, nothing overwritten."""
    from fedseg.deploy import server
    from fedseg.deploy.admission import identity
    from fedseg.deploy.users import choose
    from fedseg.server.roster import rules_of

    users = choose(server_user, proxy_user, single_user=single_user, options=("--server-user", "--proxy-user"))
    rules = rules_of(_officers(officer or []), single_operator=single_operator)
    made = server.init(directory, hosts=host, listen=listen, server=users[0], proxy_user=users[1], rules=rules)
    single_user_note(single=made.single_user, lost="a break-in at the proxy reaches the server's keys and ledger")
    data = {
        "directory": str(made.path),
        "ca": str(made.certificate),
        "server_key": made.terms.server_key,
        "fingerprint": identity(made),
        "listen": made.terms.listen,
        "hosts": list(made.terms.hosts),
        "officers": sorted(rules.officers),
        "single_operator": not rules.required,
        "single_user": made.single_user,
    }
    show(
        format_,
        data,
        lambda: "\n".join(
            [
                f"made {made.path}",
                f"server key   {data['server_key']}",
                f"fingerprint  {data['fingerprint']} (to read out to units)",
                _who_decides(data),
                f"next         fedseg server start {made.path}",
            ]
        ),
    )


@app.command()
def start(
    directory: DirectoryArgument,
    timeout: TimeoutOption = 60.0,
    foreground: ForegroundOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Start the server; says so once nodes and operator would get an answer. Ended processes are started again."""
    from fedseg.deploy import server
    from fedseg.deploy.settings import ServerDeployment

    deployment = ServerDeployment.open(directory)
    supervisor = server.supervisor(deployment)
    already = supervisor.is_running()
    child = None if already else server.start(deployment, timeout=timeout, foreground=foreground, tell=say)
    outcome = "runs already" if already else "started"
    data = {"outcome": outcome, "directory": str(deployment.path), "listen": deployment.terms.listen}
    show(format_, data, lambda: f"{outcome}; nodes reach it at {', '.join(deployment.terms.hosts)}")
    if child is not None:
        supervisor.attend(child)


@app.command()
def stop(directory: DirectoryArgument, format_: FormatOption = Format.TEXT) -> None:
    """Stop the server in order. A job that runs goes on after the next start, from where the ledger says it is."""
    from fedseg.deploy import server
    from fedseg.deploy.settings import ServerDeployment

    deployment = ServerDeployment.open(directory)
    outcome = "stopped" if server.stop(deployment, say) else "did not run"
    show(format_, {"outcome": outcome, "directory": str(deployment.path)}, lambda: outcome)


@app.command()
def status(directory: DirectoryArgument, format_: FormatOption = Format.TEXT) -> None:
    """Show the server's processes, its nodes and its jobs."""
    from fedseg.deploy import server
    from fedseg.deploy.settings import ServerDeployment

    facts = server.facts(ServerDeployment.open(directory))
    show(format_, facts, lambda: _describe(facts))


@app.command()
def approve(
    directory: DirectoryArgument,
    request: Annotated[Path, typer.Argument(help="The request.json that the unit sent.", exists=True, dir_okay=False)],
    fingerprint: Annotated[
        str | None, typer.Option(help="The request's fingerprint, as the unit has read it out to you.")
    ] = None,
    officer: OfficerOption = None,
    officer_key: OfficerKeyOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the request and show it; let nobody in.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Let a unit's node in, once the officers that it takes have said so; writes the answer to send back."""
    from fedseg.cli.approve import chosen_officer
    from fedseg.deploy import admission
    from fedseg.deploy.certificates import fingerprint as key_fingerprint
    from fedseg.deploy.settings import ServerDeployment

    deployment, document, now = ServerDeployment.open(directory), request.read_bytes(), datetime.now(UTC)
    found = admission.look(deployment, document, now=now)
    if not dry_run:
        if fingerprint is None:
            say(_describe_request(found))
            compare("Is that what the unit reads out to you?", f"fedseg server approve {directory} {request}")
        told = found.request.fingerprint if fingerprint is None else fingerprint
        who = chosen_officer(officer, officer_key)
        before, found = found, admission.admit(deployment, document, who, fingerprint=told, now=now)
        outcome = "approved already" if before.joined else _outcome(found.waits_for, "approved")
    else:
        outcome = "checked, nobody was let in"
    data = {
        "outcome": outcome,
        "unit": found.request.unit,
        "unit_key": found.request.unit_key,
        "node_key": key_fingerprint(found.request.node_key.encode()),
        "fingerprint": found.request.fingerprint,
        "server_fingerprint": found.server_fingerprint,
        "renews": found.renews,
        "approving": list(found.approving),
        "waits_for": found.waits_for,
        "single_operator": found.single_operator,
        "node_id": found.node_id,
        "answer": None if found.answer is None else str(found.answer),
    }
    show(format_, data, lambda: _describe_admission(found, outcome))


@app.command()
def remove(
    directory: DirectoryArgument,
    unit: Annotated[str, typer.Argument(help="The unit's name.")],
    officer: OfficerOption = None,
    officer_key: OfficerKeyOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Put a unit's node out, once the officers that it takes have said so. Its key never counts again."""
    from fedseg.cli.approve import chosen_officer
    from fedseg.deploy import admission
    from fedseg.deploy.settings import ServerDeployment

    deployment = ServerDeployment.open(directory)
    if not yes:
        require_somebody(f"put {unit} out", f"fedseg server remove {directory} {unit} --yes")
        typer.confirm(f"Put {unit} out? No later round asks it.", abort=True, err=True)
    missing = admission.remove(deployment, unit, chosen_officer(officer, officer_key), now=datetime.now(UTC))
    outcome = _outcome(missing, "removed")
    show(format_, {"outcome": outcome, "unit": unit, "waits_for": missing}, lambda: f"{unit}: {outcome}")


@app.command()
def officers(
    directory: DirectoryArgument,
    new: Annotated[
        list[str] | None,
        typer.Option(
            "--new", metavar="NAME=KEY", help="An officer from now on, with their public key. Repeat for all."
        ),
    ] = None,
    single_operator: Annotated[
        bool, typer.Option("--single-operator", help="No officers any more: whoever operates the server decides.")
    ] = False,
    officer: OfficerOption = None,
    officer_key: OfficerKeyOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Name other officers, all of them at once. It takes two of the present ones, unless one operator decides alone."""
    from fedseg.cli.approve import chosen_officer
    from fedseg.deploy import admission
    from fedseg.deploy.settings import ServerDeployment
    from fedseg.server.roster import rules_of

    deployment = ServerDeployment.open(directory)
    rules = rules_of(_officers(new or []), single_operator=single_operator)
    who = chosen_officer(officer, officer_key)
    missing = admission.change_officers(deployment, rules, who, now=datetime.now(UTC))
    data = {
        "outcome": _outcome(missing, "changed"),
        "officers": sorted(rules.officers),
        "single_operator": not rules.required,
        "waits_for": missing,
    }
    show(format_, data, lambda: f"{data['outcome']}\n{_who_decides(data)}")


@app.command()
def renew(directory: DirectoryArgument, format_: FormatOption = Format.TEXT) -> None:
    """Give the server a new certificate from its own authority. Nothing is restarted, and units need do nothing."""
    from fedseg.deploy import admission
    from fedseg.deploy.settings import ServerDeployment

    until = admission.renew(ServerDeployment.open(directory), now=datetime.now(UTC)).isoformat()
    show(format_, {"outcome": "renewed", "certificate_until": until}, lambda: f"renewed until {until[:10]}")


def _officers(named: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in named:
        name, equals, key = one.partition("=")
        if not equals or name in found:
            raise SettingsError(
                f"--officer {one} cannot be used",
                why="it is not NAME=KEY" if not equals else "this name is given twice",
                fix="--officer ann=KEY --officer bob=KEY, with keys made by: fedseg key new FILE",
            )
        found[name] = key
    return found


def _outcome(waits_for: int, done: str) -> str:
    return done if not waits_for else f"signed; waits for {waits_for} more officer{'s' if waits_for > 1 else ''}"


def _who_decides(facts: Mapping[str, Any]) -> str:
    if facts["single_operator"]:
        return SINGLE_OPERATOR
    return f"officers     {', '.join(facts['officers'])}: any two let units in and put them out"


def _describe_request(found: "Admission") -> str:
    request = found.request
    lines = [
        f"{request.unit} asks {'to go on with another key of its node' if found.renews else 'to join'}",
        f"unit key     {request.unit_key}",
        f"made         {request.made_at}, holds until {request.expires_at}; fedseg {request.fedseg}",
        f"fingerprint  {request.fingerprint} (the unit reads the same to you)",
        f"server       {found.server_fingerprint} (you read this to the unit)",
    ]
    return "\n".join([*lines, *([SINGLE_OPERATOR] if found.single_operator else [])])


def _describe_admission(found: "Admission", outcome: str) -> str:
    signed = [f"signed by    {', '.join(found.approving)}"] if found.approving else []
    answer = [f"next         send {found.answer} to the unit"] if found.answer is not None else []
    return "\n".join([_describe_request(found), *signed, f"{found.request.unit}: {outcome}", *answer])


def _describe(facts: dict[str, Any]) -> str:
    nodes, jobs = facts["nodes"], facts["jobs"]
    parts = [process_table(facts["processes"]) if facts["running"] else "not running"]
    if nodes is None:
        parts.append("nodes: unknown, the link does not answer")
    else:
        rows = [[one["unit"], str(one["node_id"]), "yes" if one["online"] else "NO", one["last_seen"]] for one in nodes]
        parts.append(table([["unit", "node id", "online", "last seen"], *rows]) if rows else "no node approved yet")
    if jobs:
        rows = [[one["id"], one["state"], f"{one['step']} of {one['rounds']}"] for one in jobs]
        parts.append(table([["job", "state", "rounds done"], *rows]))
    parts.append(
        f"listens on {facts['listen']}; its certificate ends {facts['certificate_until'][:10]}\n"
        f"fingerprint  {facts['fingerprint']}\n{_who_decides(facts)}"
    )
    return "\n\n".join(parts)
