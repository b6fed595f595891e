"""`fedseg subject platform` and `fedseg subject serve`: requests that privacy platforms hand in over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from fedseg.cli.output import Format, FormatOption, say, show

NodeOption = Annotated[Path, typer.Option(envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml.")]


def platform(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Yours for the platform: a-z, 0-9 and -.")],
    node: NodeOption,
    identity_type: Annotated[
        str, typer.Option(help="OpenDSR's name of the identity whose values stand in your data.")
    ] = "controller_customer_id",
    callbacks: Annotated[
        str | None,
        typer.Option(metavar="URL", help="https://HOST[:PORT] of addresses at which it is told where requests stand."),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Let a privacy platform hand in requests, and print its token, this once. Run again, it replaces the token."""
    from fedseg.node.home import NodeHome
    from fedseg.node.rights.platforms import admit

    token = admit(NodeHome.open(node), name, identity_type, callbacks)
    facts = {"platform": name, "identity_type": identity_type, "token": token}
    say(f"the token of {name}; it is kept nowhere, and whoever has it can hand in requests")
    show(format_, facts, lambda: token)


def serve(
    node: NodeOption,
    url: Annotated[str, typer.Option(help="https://HOST[:PORT] under which platforms reach it.")],
    cert: Annotated[Path, typer.Option(help="Certificate for HOST, PEM, with its chain.", dir_okay=False)],
    key: Annotated[Path, typer.Option(help="Its private key, PEM: for TLS, and to sign answers.", dir_okay=False)],
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Listen here, with TLS.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is all.")] = "127.0.0.1",
    socket: Annotated[Path | None, typer.Option(help="Listen at this Unix socket, for a proxy with TLS.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="No TLS at --port: loopback addresses alone.")] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Take requests from privacy platforms as OpenDSR 2.0 has them, until Ctrl-C. It only notes them down."""
    from fedseg.node.home import NodeHome
    from fedseg.node.rights.serving import Listener, run

    home, listener = NodeHome.open(node), Listener(url, cert, key, host, port, socket, plain)
    facts = {"outcome": "listening", "unit": home.settings.unit, "url": listener.address.url}
    text = f"{facts['url']} takes requests for {facts['unit']}"
    run(home, listener, lambda: show(format_, facts, lambda: text))
