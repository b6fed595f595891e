"""`fedseg console`: a unit's officer looks and decides in a browser on the same machine."""

from pathlib import Path
from typing import Annotated

import typer

from fedseg.cli.approve import OfficerKeyOption, OfficerOption
from fedseg.cli.output import Format, FormatOption, say, show
from fedseg.errors import SettingsError


def console(
    node: Annotated[
        Path,
        typer.Option("--node", "--home", envvar="FEDSEG_NODE", help="The unit's home: the directory with node.toml."),
    ],
    officer: OfficerOption = None,
    officer_key: OfficerKeyOption = None,
    segments: Annotated[
        list[Path] | None,
        typer.Option(help="A published segmentation.json to show, or the folder it is in; repeatable.", exists=True),
    ] = None,
    host: Annotated[str, typer.Option(help="127.0.0.1 or ::1, and no other.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Listen here; 0 takes a free one.")] = 0,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Open a unit's console for its officer, on this machine alone, until they sign out or Ctrl-C.

    It prints a link that works once: budget, plans to decide about, consent, rights requests, ledger, segments.
    """
    from fedseg.console.plans import Signer
    from fedseg.console.serving import run

    if (officer is None) != (officer_key is None):
        raise SettingsError(
            "half of an officer is named",
            why="the name says who decides, the key file proves it",
            fix="give both --officer NAME and --officer-key FILE",
        )
    signer = None if officer is None or officer_key is None else Signer(officer, officer_key)

    def listening(link: str) -> None:
        say("open this link in a browser on this machine; it works once, within ten minutes, and whoever has it is you")
        show(format_, {"outcome": "listening", "url": link}, lambda: link)

    run(node, signer, segments or [], host=host, port=port, listening=listening)
