"""`fedseg service`: a server or node that starts with its machine."""

from pathlib import Path
from typing import Annotated

import typer

from fedseg.cli.output import Format, FormatOption, show


def service(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a server or node.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write it to, such as /etc/systemd/system.", exists=True, file_okay=False),
    ] = None,
    monitor_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Write the service of `fedseg monitor` with this port instead."),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write a hardened systemd service for a server or node; on the screen unless told where. Nothing is started."""
    from fedseg.deploy.service import monitor_service_of, open_deployment, service_of, write_service

    deployment = open_deployment(directory)
    made = service_of(deployment) if monitor_port is None else monitor_service_of(deployment, monitor_port)
    written = None if out is None else write_service(made, out)
    facts = {"name": made.name, "file": None if written is None else str(written.absolute()), "service": made.text}
    show(
        format_,
        facts,
        lambda: (
            made.text.rstrip("\n")
            if written is None
            else f"wrote {written}\nnext  systemctl daemon-reload && systemctl enable --now {made.name}"
        ),
    )
