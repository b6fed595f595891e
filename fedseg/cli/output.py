"""How a command speaks: the result on stdout as text or one JSON envelope, everything else on stderr."""

import enum
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from fedseg.errors import FedsegError

SCHEMA_VERSION = 1


class Format(enum.StrEnum):
    """How the result is printed."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[
    Format, typer.Option("--format", envvar="FEDSEG_FORMAT", help="Print the result as text or as one JSON envelope.")
]


def show(format_: Format, data: Mapping[str, Any], text: Callable[[], str]) -> None:
    """Print a result: `data` inside the envelope, or what `text` makes of it."""
    if format_ is Format.JSON:
        print(_envelope("ok", 0, data, None))
    else:
        print(text())


def show_error(format_: Format, error: FedsegError, data: Mapping[str, Any] | None = None) -> None:
    """Print an error: as the envelope on stdout, or as what, why and fix on stderr."""
    if format_ is Format.JSON:
        facts = {"code": error.code, "what": error.what, "why": error.why, "fix": error.fix}
        print(_envelope("error", error.exit_code, data or {}, facts))
    else:
        print(f"{error.code}: {error.what}\nwhy: {error.why}\nfix: {error.fix}", file=sys.stderr)


def say(text: str) -> None:
    """Print something beside the result, on stderr."""
    print(text, file=sys.stderr)


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Rows in columns two spaces apart, the columns in `right` aligned right; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _envelope(status: str, exit_code: int, data: Mapping[str, Any], error: Mapping[str, str] | None) -> str:
    envelope: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "exit_code": exit_code,
        "data": dict(data),
    }
    if error is not None:
        envelope["error"] = dict(error)
    return json.dumps(envelope, indent=2, ensure_ascii=False)
