"""What the commands about servers and nodes share: options, and how processes are shown."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from fedseg.cli.output import require_somebody, say, table

SingleUserOption = Annotated[
    bool, typer.Option("--single-user", help="Run everything as the calling user, who is not root: less is kept apart.")
]
TimeoutOption = Annotated[float, typer.Option(min=1, max=3600, help="Seconds to wait until it is well.")]
ForegroundOption = Annotated[
    bool, typer.Option("--foreground", help="Stay until Ctrl-C or SIGTERM, for a service manager or a container.")
]


def process_table(processes: Sequence[Mapping[str, Any]]) -> str:
    """A line a process."""
    rows = [
        [one["name"], one["state"], str(one["pid"] or "-"), one["user"] or "-", one["since"] or "-"]
        for one in processes
    ]
    return table([["process", "state", "pid", "user", "since"], *rows], right=[2])


def single_user_note(*, single: bool, lost: str) -> None:
    """Say what a single user gives up."""
    if single:
        say(f"NOTE one user runs everything here: {lost}; for real data name two system users")


def compare(question: str, command: str) -> None:
    """Ask whether a fingerprint that was printed is the one that somebody reads out.

    Raises:
        SettingsError: If nobody is there to say; then the fingerprint has to stand in the command.
    """
    require_somebody("say what was read out", f"{command} --fingerprint WHAT-WAS-READ-OUT")
    typer.confirm(question, abort=True, err=True)
