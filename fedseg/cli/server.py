"""`fedseg server`: the machine that asks the units, adds up their releases and publishes the segments."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fedseg.cli.output import Format, FormatOption, say, show, table
from fedseg.cli.processes import ForegroundOption, SingleUserOption, TimeoutOption, process_table, single_user_note

app = typer.Typer(help="The server: asks the units, adds up their releases, publishes segments.", no_args_is_help=True)
DirectoryArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The server's directory.")]


@app.command()
def init(
    directory: DirectoryArgument,
    host: Annotated[list[str], typer.Option(help="Name or IP address under which nodes reach it; repeat for more.")],
    listen: Annotated[str, typer.Option(help="IP address and port to listen on.")] = "0.0.0.0:8443",
    server_user: Annotated[str | None, typer.Option(help="System user for link and coordinator.")] = None,
    proxy_user: Annotated[str | None, typer.Option(help="System user for the proxy.")] = None,
    single_user: SingleUserOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Make a server's directory: keys, certificates, an empty ledger. Nothing is started, nothing overwritten."""
    from fedseg.deploy import server
    from fedseg.deploy.users import choose

    users = choose(server_user, proxy_user, single_user=single_user, options=("--server-user", "--proxy-user"))
    made = server.init(directory, hosts=host, listen=listen, server=users[0], proxy_user=users[1])
    single_user_note(single=made.single_user, lost="a break-in at the proxy reaches the server's keys and ledger")
    data = {
        "directory": str(made.path),
        "ca": str(made.certificate),
        "server_key": made.terms.server_key,
        "listen": made.terms.listen,
        "hosts": list(made.terms.hosts),
        "single_user": made.single_user,
    }
    show(
        format_,
        data,
        lambda: (
            f"made {made.path}\nserver key   {made.terms.server_key}\n"
            f"next         fedseg server start {made.path}, and hand {made.certificate} to the units"
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
    unit: Annotated[str, typer.Argument(help="The unit's name, as in plans.")],
    key: Annotated[Path, typer.Option(help="The node.pub that the unit sent.", exists=True, dir_okay=False)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Let a unit's node in. Compare the fingerprint with what the unit reads out to you."""
    from fedseg.deploy import server
    from fedseg.deploy.certificates import fingerprint
    from fedseg.deploy.settings import ServerDeployment

    public_key = key.read_bytes()
    node_id, before = server.approve(ServerDeployment.open(directory), unit, public_key)
    outcome = "approved already" if before else "approved"
    data = {"outcome": outcome, "unit": unit, "node_id": node_id, "node_key": fingerprint(public_key)}
    show(format_, data, lambda: f"{outcome}: {unit} is node {node_id}, key {data['node_key']}")


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
    parts.append(f"listens on {facts['listen']}; its certificate ends {facts['certificate_until'][:10]}")
    return "\n\n".join(parts)
