"""`fedseg monitor`: a server or node, for the machine's monitoring to ask."""

import os
from pathlib import Path
from typing import Annotated

import typer

from fedseg.cli.output import say


def monitor(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a server or node.")],
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="TCP port on 127.0.0.1; no other address is served.")
    ] = 9464,
    once: Annotated[
        bool, typer.Option("--once", help="Look once instead: exit code 0 if it is ready, else 6. For a container.")
    ] = False,
) -> None:
    """Answer /healthz, /readyz and /metrics on 127.0.0.1 until Ctrl-C. Root becomes the network's user first."""
    from fedseg.deploy import monitor
    from fedseg.deploy.service import open_deployment
    from fedseg.deploy.users import environment

    deployment = open_deployment(directory) if os.geteuid() == 0 else monitor.load(directory)
    words = monitor.command(deployment, None if once else port)
    if not once:
        say(f"http://{monitor.HOST}:{port}/metrics, as {monitor.watcher(deployment).name}")
    os.execve(words[0], words, environment(deployment.path))  # noqa: S606 (a list of our own words, no shell)
