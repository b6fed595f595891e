"""`fedseg node`: a unit's own machine, with the process that speaks to the server and the one that has the data."""

import enum
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli import backup
from fedseg.cli.output import Format, FormatOption, print_result, say, show, table
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
    from collections.abc import Callable

    from fedseg.deploy.enrolment import Request
    from fedseg.deploy.settings import NodeDeployment
    from fedseg.node.sources.settings import SourceSettings

app = typer.Typer(help="A unit's node: one process speaks to the server, the other has the data.", no_args_is_help=True)
DirectoryArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The node's directory.")]

REHEARSAL = "REHEARSAL: the noise is simulated, so nothing this node releases is private"


class DataFormat(enum.StrEnum):
    """How the customers are kept."""

    CSV = "csv"
    PARQUET = "parquet"
    DUCKDB = "duckdb"
    POSTGRESQL = "postgresql"
    SPARK = "spark"


class Process(enum.StrEnum):
    """A process of a node."""

    NETWORK = "network"
    DATA = "data"


@app.command()
def init(
    directory: DirectoryArgument,
    unit: Annotated[str, typer.Option(help="The unit's name, as in plans.")],
    server: Annotated[str, typer.Option(help="HOST:PORT of the server.")],
    policy: Annotated[Path, typer.Option(help="POLICY.yaml; it is copied.", exists=True, dir_okay=False)],
    data: Annotated[str, typer.Option(help="The customers' file, folder, pattern or database; it stays where it is.")],
    subject: Annotated[str, typer.Option(help="Its column with the customer's identifier.")],
    ca: Annotated[
        Path | None,
        typer.Option(help="The server's ca.crt, if you have it already; else it comes with the answer.", exists=True),
    ] = None,
    data_format: Annotated[
        DataFormat | None, typer.Option(help="How it is written; by its name's end unless said.")
    ] = None,
    table: Annotated[str | None, typer.Option(help="In a database: SCHEMA.TABLE.")] = None,
    token: Annotated[
        Path | None, typer.Option(help="For Spark: the file with the token that it asks for.", dir_okay=False)
    ] = None,
    network_user: Annotated[str | None, typer.Option(help="System user who speaks to the server.")] = None,
    data_user: Annotated[str | None, typer.Option(help="System user who reads the data and owns the ledger.")] = None,
    single_user: SingleUserOption = False,
    rehearsal_seed: Annotated[
        int | None, typer.Option(min=0, help="Simulate the noise from this seed: NOT PRIVATE, for rehearsals alone.")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make a node's directory: keys, policy, an empty ledger. Nothing is started, nothing overwritten."""
    from fedseg.deploy import node
    from fedseg.deploy.certificates import fingerprint
    from fedseg.deploy.users import choose

    users = choose(network_user, data_user, single_user=single_user, options=("--network-user", "--data-user"))
    source = _source(data, data_format or _format_of(data), subject, table, token)
    made = node.init(directory, node.NodePlan(unit, server, ca, policy, source, users[0], users[1], rehearsal_seed))
    single_user_note(single=made.single_user, lost="a break-in at the network process reaches customers and ledger")
    facts = {
        "directory": str(made.path),
        "unit": unit,
        "unit_key": made.terms.unit_key,
        "node_key": fingerprint(made.public_key.read_bytes()),
        "public_key": str(made.public_key),
        "server": made.terms.server,
        "single_user": made.single_user,
        "noise": made.noise,
    }
    show(format_, facts, lambda: _describe_new(facts))


@app.command()
def request(directory: DirectoryArgument, format_: FormatOption = Format.TEXT) -> None:
    """Write the node's request to join, to send to the server's operator. No secret is in it, and no data."""
    from fedseg.deploy.joining import request as ask

    _show_request(directory, ask, format_)


@app.command()
def renew(directory: DirectoryArgument, format_: FormatOption = Format.TEXT) -> None:
    """Make a new key for the node, and a request to go on with it; the old one is used until the answer is here."""
    from fedseg.deploy.joining import renew as ask_anew

    _show_request(directory, ask_anew, format_)


@app.command()
def check(
    directory: DirectoryArgument,
    answer: Annotated[
        Path | None, typer.Option(help="Take in the server's answer first.", exists=True, dir_okay=False)
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="The server's fingerprint, as its operator has read it out to you.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="PLAN.toml to check the data for; else the inbox.", exists=True, dir_okay=False)
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Look at everything that a first plan needs, each with its cure. Nothing that depends on a customer is sent."""
    from fedseg.deploy.checks import check_node
    from fedseg.deploy.settings import NodeDeployment
    from fedseg.plan import parse_plan

    deployment = NodeDeployment.open(directory)
    asked = None if plan is None else plan.read_bytes()
    if asked is not None:
        parse_plan(asked)
    if answer is not None:
        _join(deployment, answer, fingerprint)
    found = list(check_node(deployment, asked))
    facts = {
        "unit": deployment.terms.unit,
        "ready": not any(one.error for one in found),
        "checks": [{"name": one.name, "state": str(one.state), "says": one.says, "fix": one.fix} for one in found],
        "LOCAL": {one.name: dict(one.local) for one in found if one.local},
    }
    failed = next((one.error for one in found if one.error), None)
    if failed is not None:
        failed.data = facts
        if format_ is Format.TEXT:
            print_result(_describe_checks(facts))
        raise failed
    show(format_, facts, lambda: f"{_describe_checks(facts)}\n\nready: fedseg node start {directory}")


@app.command()
def start(
    directory: DirectoryArgument,
    timeout: TimeoutOption = 60.0,
    foreground: ForegroundOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Start the node; says so once the server has let it in. Ended processes are started again."""
    from fedseg.deploy import node
    from fedseg.deploy.settings import NodeDeployment

    deployment = NodeDeployment.open(directory)
    supervisor = node.supervisor(deployment)
    already = supervisor.is_running()
    child = None if already else node.start(deployment, timeout=timeout, foreground=foreground, tell=say)
    facts = {"outcome": "runs already" if already else "started", **node.facts(deployment)}
    show(format_, facts, lambda: f"{facts['outcome']}: {_describe_connection(facts)}")
    if child is not None:
        supervisor.attend(child)


@app.command()
def stop(directory: DirectoryArgument, format_: FormatOption = Format.TEXT) -> None:
    """Stop the node in order: it signs off at the server first."""
    from fedseg.deploy import node
    from fedseg.deploy.settings import NodeDeployment

    deployment = NodeDeployment.open(directory)
    outcome = "stopped" if node.stop(deployment, say) else "did not run"
    show(format_, {"outcome": outcome, "directory": str(deployment.path)}, lambda: outcome)


@app.command()
def status(directory: DirectoryArgument, format_: FormatOption = Format.TEXT) -> None:
    """Show the node's processes, and whether the server has let it in."""
    from fedseg.deploy import node
    from fedseg.deploy.settings import NodeDeployment

    facts = node.facts(NodeDeployment.open(directory))
    show(
        format_,
        facts,
        lambda: "\n\n".join(
            [process_table(facts["processes"]) if facts["running"] else "not running", _describe_connection(facts)]
        ),
    )


@app.command()
def logs(
    directory: DirectoryArgument,
    process: Annotated[Process | None, typer.Option(help="Of this process alone.")] = None,
    lines: Annotated[int, typer.Option(min=1, max=100_000, help="How many of the last lines.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as lines come, until Ctrl-C.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show the ends of the node's logs. They hold no customer's value, and no text of an exception."""
    from fedseg.deploy.logs import follow_lines, last_lines
    from fedseg.deploy.settings import NodeDeployment

    deployment = NodeDeployment.open(directory)
    files = {name.value: deployment.logs / f"{name.value}.log" for name in Process if process in {None, name}}
    if follow:
        if format_ is Format.JSON:
            raise SettingsError(
                "--follow has no JSON form",
                why="the envelope is one document, and the log does not end",
                fix=f"fedseg node logs {directory} --format json",
            )
        follow_lines(list(files.values()), lines)
        return
    found = {name: last_lines(file, lines) for name, file in files.items()}
    show(format_, {"logs": found}, lambda: "\n\n".join("\n".join([f"{name}:", *some]) for name, some in found.items()))


def _format_of(data: str) -> DataFormat:
    if data.startswith(("postgresql:", "postgres:")):
        return DataFormat.POSTGRESQL
    if data.startswith("unix:"):
        return DataFormat.SPARK
    try:
        return DataFormat(Path(data).suffix.removeprefix(".").lower())
    except ValueError:
        raise SettingsError(
            f"nobody can say how {Path(data).name} is written",
            why="its name ends in none of .csv, .parquet and .duckdb",
            fix="say it with --data-format csv, or another of: fedseg node init --help",
        ) from None


def _source(data: str, written: DataFormat, subject: str, table: str | None, token: Path | None) -> "SourceSettings":
    from pydantic import ValidationError

    from fedseg.node.sources.settings import SourceSettings

    path = data if written in {DataFormat.POSTGRESQL, DataFormat.SPARK} else str(Path(data).absolute())
    shown = None if token is None else str(token.absolute())
    try:
        return SourceSettings(path=path, format=written.value, subject=subject, table=table, token=shown)
    except ValidationError as error:
        raise SettingsError(
            "--data, --table or --token cannot be used",
            why=error.errors()[0]["msg"].removeprefix("Value error, "),
            fix="fedseg node init --help",
        ) from error


def _join(deployment: "NodeDeployment", file: Path, fingerprint: str | None) -> None:
    """Take an answer in; a server that the node knows from before needs nobody to compare its fingerprint."""
    from fedseg.deploy import joining

    document = file.read_bytes()
    found = joining.read(deployment, document).fingerprint
    if fingerprint is None and joining.known_server(deployment) != found:
        say(f"fingerprint  {found} (of the server)")
        compare("Is that what the server's operator reads out?", f"fedseg node check {deployment.path} --answer {file}")
    joining.join(deployment, document, fingerprint=found if fingerprint is None else fingerprint)


def _show_request(directory: Path, ask: "Callable[..., Request]", format_: Format) -> None:
    from fedseg.deploy.settings import NodeDeployment

    deployment = NodeDeployment.open(directory)
    made = ask(deployment, now=datetime.now(UTC))
    facts = {
        "unit": made.unit,
        "request": str(deployment.request),
        "fingerprint": made.fingerprint,
        "unit_key": made.unit_key,
        "server": made.server,
        "expires_at": made.expires_at,
    }
    show(format_, facts, lambda: _describe_request(facts))


def _describe_request(facts: dict[str, Any]) -> str:
    lines = [
        f"wrote        {facts['request']}",
        f"fingerprint  {facts['fingerprint']} (to read out to the server's operator)",
        f"holds until  {facts['expires_at']}",
        "next         send the file; with the answer: fedseg node check DIR --answer FILE",
    ]
    return "\n".join(lines)


def _describe_checks(facts: dict[str, Any]) -> str:
    rows = [[one["name"], one["state"].upper(), one["says"]] for one in facts["checks"]]
    fixes = [f"{one['name']}: {one['fix']}" for one in facts["checks"] if one["state"] == "warn"]
    local = [
        f"LOCAL: {name}: " + ", ".join(f"{key.replace('_', ' ')} {count:,}" for key, count in counts.items())
        for name, counts in facts["LOCAL"].items()
    ]
    return "\n".join([table([["check", "", "found"], *rows]), *([""] if fixes or local else []), *fixes, *local])


def _describe_new(facts: dict[str, Any]) -> str:
    lines = [
        f"made {facts['directory']}",
        f"unit key   {facts['unit_key']} (for plans)",
        f"node key   {facts['node_key']}",
        f"next       fedseg node request {facts['directory']}",
    ]
    return "\n".join([*lines, *([REHEARSAL] if facts["noise"] == "simulated" else [])])


def _describe_connection(facts: dict[str, Any]) -> str:
    where = f"node {facts['node_id']} of {facts['server']} since {facts['since']}"
    said = (
        f"{facts['unit']} is ONLINE: {where}"
        if facts["connected"]
        else f"{facts['unit']} is NOT connected to {facts['server']}"
    )
    return "\n".join([said, *([REHEARSAL] if facts["noise"] == "simulated" else [])])


app.command()(backup.backup)
app.command()(backup.restore)
