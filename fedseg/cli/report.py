"""`fedseg report`: report.html and report.json, recomputed from ledgers and signed artefacts."""

from pathlib import Path
from typing import Annotated

import typer

from fedseg.cli.output import Format, FormatOption, show


def report(
    run: Annotated[Path, typer.Argument(help="The directory of a run.", exists=True, file_okay=False)],
    out: Annotated[Path | None, typer.Option(help="Where the report goes; the run's directory by default.")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write report.html and report.json: only facts recomputed from ledgers and signed artefacts."""
    from fedseg.report.render import write_report

    place = out if out is not None else run
    facts = write_report(run, place)
    files = {"html": str(place / "report.html"), "json": str(place / "report.json")}
    show(format_, files, lambda: "\n".join(files.values()))
    facts.require_verified()
