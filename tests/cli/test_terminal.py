"""How the command line behaves in a terminal, in a pipe and when it is interrupted."""

import os
import pty
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from fedseg.audit.verify import verify_ledger
from tests.cli.conftest import FEDSEG, Workspace

pytestmark = pytest.mark.processes

COMMANDS = {
    "demo",
    "simulate",
    "plan",
    "inbox",
    "approve",
    "deny",
    "revoke",
    "console",
    "key",
    "server",
    "node",
    "service",
    "monitor",
    "job",
    "policy",
    "consent",
    "subject",
    "governance",
    "budget",
    "ledger",
    "witness",
    "audit",
    "segments",
    "report",
    "explain",
    "version",
}
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def in_a_terminal(workspace: Workspace, *arguments: str, answer: str = "", **environment: str) -> tuple[int, str]:
    """Run a command in a pseudo-terminal; its exit code, and all that it showed there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [FEDSEG, *arguments],
        cwd=workspace.folder,
        env=workspace.cli.clean({"TERM": "xterm-256color", "COLUMNS": "100", **environment}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, answer.encode())
    shown: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(ours, 4096):
                shown.append(piece)
        except OSError:  # how Linux says that the other side has closed a terminal
            return

    reader = threading.Thread(target=read)
    reader.start()
    code = process.wait(timeout=120)
    reader.join()
    os.close(ours)
    return code, b"".join(shown).decode("utf-8", "replace")


def test_help_lists_every_command(workspace: Workspace) -> None:
    shown = workspace.cli("--help")

    assert shown.code == 0
    assert set(re.findall(r"^│ ([a-z]+) ", shown.out, re.MULTILINE)) == COMMANDS


def test_a_run_in_a_terminal_shows_a_bar_with_rate_and_times(workspace: Workspace) -> None:
    code, shown = in_a_terminal(workspace, "simulate", "scenario.toml", "--out", "new-run")

    assert code == 0
    assert "━" in shown
    assert re.search(r"\d/s", shown)
    assert re.search(r"\d:\d\d:\d\d", shown)
    assert "running the rounds" in shown


def test_a_bar_without_colour_where_none_is_wanted(workspace: Workspace) -> None:
    code, shown = in_a_terminal(workspace, "simulate", "scenario.toml", "--out", "new-run", NO_COLOR="1")

    assert code == 0
    assert not {one for one in COLOUR.findall(shown) if re.search(r"3[0-8]|4[0-8]|9[0-7]", one)}


def test_no_escape_codes_where_nothing_is_a_terminal(workspace: Workspace) -> None:
    ended = workspace.cli("simulate", "scenario.toml", "--out", "new-run", TERM="xterm-256color")
    shown = workspace.cli("--help", TERM="xterm-256color")
    failed = workspace.cli("simulate", TERM="xterm-256color")

    assert "\x1b" not in ended.out + ended.err + shown.out + failed.err
    assert ended.err.splitlines() == sorted(set(ended.err.splitlines()), key=ended.err.splitlines().index)


@pytest.mark.parametrize(("answer", "code", "approved"), [("y\n", 0, True), ("n\n", 2, False), ("\x04", 2, False)])
def test_a_person_is_asked_before_budget_is_reserved(
    answer: str, code: int, approved: bool, workspace: Workspace
) -> None:
    ended, shown = in_a_terminal(
        workspace, "approve", str(workspace.plan), "--node", str(workspace.home()), answer=answer
    )

    assert ended == code, shown
    assert "Approve, and reserve this budget?" in shown
    assert bool(verify_ledger(workspace.home() / "ledger.db").account.reservations) is approved


def test_a_reader_that_stops_reading_is_no_error(workspace: Workspace) -> None:
    for command in (
        ["plan", "show", "plan.toml"],
        ["version"],
        ["--help"],
        ["segments", "show", "run", "--format", "json"],
    ):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [FEDSEG, *command],
            cwd=workspace.folder,
            env=workspace.cli.clean({}),
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writing)
        assert done.stderr == b""
        assert done.returncode == 0 or command == ["--help"]


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_full_disk_behind_stdout_is_a_storage_error(format_: str, workspace: Workspace) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [FEDSEG, "plan", "show", "plan.toml", "--format", format_],
            cwd=workspace.folder,
            env=workspace.cli.clean({}),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 8
    assert "Traceback" not in done.stderr
    assert format_ == "json" or [line.split(": ")[0] for line in done.stderr.splitlines()] == ["E804", "why", "fix"]


def test_an_interrupted_run_says_so_with_its_exit_code_and_can_be_resumed(workspace: Workspace) -> None:
    command: list[str | Path] = [FEDSEG, "simulate", "scenario.toml", "--out", "new-run"]
    with subprocess.Popen(
        command, cwd=workspace.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("rounds" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()

    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert workspace.cli("simulate", "scenario.toml", "--out", "new-run", "--resume").code == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str, workspace: Workspace) -> None:
    shown = workspace.cli("--show-completion", shell)

    assert shown.code == 0
    assert "_FEDSEG_COMPLETE" in shown.out or "fedseg" in shown.out


def test_a_run_never_overwrites_another_and_says_where_it_goes(workspace: Workspace) -> None:
    first = workspace.cli("simulate", "scenario.toml")
    second = workspace.cli("simulate", "scenario.toml")

    assert (first.code, second.code) == (0, 0)
    assert "fedseg-small exists, so this run goes to fedseg-small-2" in second.err
    assert (workspace.folder / "fedseg-small-2" / "report.html").is_file()
