"""How a command speaks: the result on stdout as text or one JSON envelope, everything else on stderr."""

import enum
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from fedseg.errors import FedsegError, SettingsError, StorageError

SCHEMA_VERSION = 1


class Format(enum.StrEnum):
    """How the result is printed."""

    TEXT = "text"
    JSON = "json"


def _remember(context: typer.Context, value: Format) -> Format:
    """Leave the format for `run_command`, which prints errors: only here the settings file has had its say."""
    if isinstance(context.obj, dict):
        context.obj[FORMAT] = value
    return value


FORMAT = "format"
"""Where `_remember` leaves the format in the context's object."""

FormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        envvar="FEDSEG_FORMAT",
        help="Print the result as text or as one JSON envelope.",
        callback=_remember,
        is_eager=True,
    ),
]


def show(format_: Format, data: Mapping[str, Any], text: Callable[[], str]) -> None:
    """Print a result: `data` inside the envelope, or what `text` makes of it."""
    print_result(_envelope("ok", 0, data, None) if format_ is Format.JSON else text())


def show_error(format_: Format, error: FedsegError, data: Mapping[str, Any] | None = None) -> None:
    """Print an error: as the envelope on stdout, or as what, why and fix on stderr."""
    if format_ is Format.JSON:
        facts = {"code": error.code, "what": error.what, "why": error.why, "fix": error.fix}
        print_result(_envelope("error", error.exit_code, data or {}, facts))
        return
    for name, value in ((error.code, error.what), ("why", error.why), ("fix", error.fix)):
        print(f"{name}: {' '.join(value.split())}", file=sys.stderr)  # a line each, whatever a library put into it


def print_result(text: str) -> None:
    """Print on stdout, at once. That the reader has gone, as in `fedseg ... | head -1`, is no error.

    Raises:
        StorageError: If it cannot be written where stdout goes.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _give_up_stdout()
    except OSError as error:
        _give_up_stdout()
        raise StorageError(
            "the result cannot be printed",
            why=error.strerror or "the disk refused",
            fix="free space, or send the output elsewhere",
        ) from error


def _give_up_stdout() -> None:
    """Send what is still in the buffer nowhere, or Python would try it once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Print something beside the result, on stderr."""
    print(text, file=sys.stderr)


def require_somebody(act: str, command: str) -> None:
    """Refuse what wants a person's yes where nobody can give it.

    Args:
        act: What the person would do, as in "nobody is here to approve the plan".
        command: How to say yes beforehand.

    Raises:
        SettingsError: If standard input is no terminal.
    """
    if not sys.stdin.isatty():
        raise SettingsError(
            f"nobody is here to {act}",
            why="standard input is no terminal, so the question cannot be asked",
            fix=f"if you are sure: {command}",
        )


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
