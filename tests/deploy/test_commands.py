"""`fedseg server` and `fedseg node` are quick to ask for help, and strict about what they are told."""

import subprocess
import sys
from pathlib import Path

import pytest

from fedseg.cli.main import run_command

NODE = ["--unit", "north", "--server", "seg.example:8443", "--subject", "customer"]


@pytest.fixture
def files(folder: Path) -> list[str]:
    for name in ("ca.crt", "policy.yaml", "data.csv"):
        (folder / name).touch()
    return [f"--ca={folder / 'ca.crt'}", f"--policy={folder / 'policy.yaml'}", f"--data={folder / 'data.csv'}"]


def test_asking_for_help_imports_nothing_heavy() -> None:
    heavy = "flwr", "pyarrow", "supervisor", "cryptography", "pydantic", "uvicorn", "numpy"
    program = f"import sys, fedseg.cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout == "[]\n"


@pytest.mark.parametrize("users", [[], ["--network-user", "nobody"], ["--single-user", "--data-user", "nobody"]])
def test_a_node_is_not_made_before_it_is_said_who_runs_it(
    users: list[str], files: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["node", "init", str(folder / "node"), *NODE, *files, *users]) == 2
    assert "--network-user USER --data-user OTHER" in capsys.readouterr().err
    assert not (folder / "node").exists()


def test_a_server_is_not_made_before_it_is_said_who_runs_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["server", "init", str(folder / "server"), "--host", "seg.example"]) == 2
    assert "--server-user USER --proxy-user OTHER" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["start", "stop", "status", "logs", "request", "renew", "check"])
def test_what_is_no_nodes_directory_is_named(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["node", command, str(folder)]) == 2
    assert f"E204: {folder} is not the directory of a node" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["start", "stop", "status", "renew"])
def test_what_is_no_servers_directory_is_named(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["server", command, str(folder)]) == 2
    assert f"E204: {folder} is not the directory of a server" in capsys.readouterr().err
