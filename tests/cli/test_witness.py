"""`fedseg witness`: a witness made, told whom to watch, and asked by hand and over HTTP, in real processes."""

import signal
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from fedseg.ledger.proof import prove_consistency
from fedseg.ledger.reading import read_ledger
from tests.cli.conftest import FEDSEG, Workspace

LEDGER = "run/nodes/north"


def answer(workspace: Workspace, *arguments: object) -> dict[str, Any]:
    """`data` of a command that ends well."""
    ended = workspace.cli.here(*arguments, "--format", "json")
    assert ended.code == 0, ended.err
    data: dict[str, Any] = ended.envelope["data"]
    return data


@pytest.fixture
def witness(workspace: Workspace) -> str:
    """A witness that watches north's ledger; its verifier key."""
    made = answer(workspace, "witness", "init", "w1", "--name", "witness.example/w1")
    log = answer(workspace, "ledger", "checkpoint", LEDGER)["verifier_key"]
    assert answer(workspace, "witness", "enrol", "w1", log)["logs"][0]["size"] == 0
    return str(made["verifier_key"])


def earlier(workspace: Workspace, size: int) -> str:
    """North's checkpoint of then."""
    return dict(read_ledger(workspace.folder / LEDGER / "ledger.db").notes)[size]


def test_by_hand_a_ledger_is_cosigned_and_its_growth_after_it(workspace: Workspace, witness: str) -> None:
    workspace.write("then.txt", earlier(workspace, 3))
    first = answer(workspace, "witness", "cosign", "w1", "then.txt")
    workspace.write("growth.txt", answer(workspace, "ledger", "prove", LEDGER, "--from", 3)["proof"])
    note = workspace.cli.here("witness", "cosign", "w1", "growth.txt")
    assert first["note"].endswith(first["cosignature"])
    assert note.code == 0, note.err
    workspace.write("now.txt", note.out)
    workspace.write("policy.txt", f"witness w1 {witness}\nquorum w1\n")
    log = answer(workspace, "ledger", "checkpoint", LEDGER)["verifier_key"]
    workspace.write("proof.txt", "\n".join(["old 3", *_hashes(workspace), "", note.out]))
    workspace.write("then.txt", first["note"])
    checked = answer(
        workspace, "ledger", "check-proof", "proof.txt", "--old", "then.txt", "--key", log, "--policy", "policy.txt"
    )
    assert (checked["size"], checked["witnesses"]) == (6, ["witness.example/w1"])
    shown = workspace.cli.here("witness", "show", "w1").out.splitlines()
    assert shown == [witness, "fedseg/unit/north: 6 entries"]


def _hashes(workspace: Workspace) -> list[str]:
    text: str = answer(workspace, "ledger", "prove", LEDGER, "--from", 3)["proof"]
    return text.partition("\n\n")[0].split("\n")[1:]


def test_what_it_does_not_cosign_it_says_why_and_exits_with_9(workspace: Workspace, witness: str) -> None:
    assert witness
    workspace.write("then.txt", earlier(workspace, 3))
    workspace.write("now.txt", earlier(workspace, 6))
    assert workspace.cli.here("witness", "cosign", "w1", "now.txt").code == 0
    refused = workspace.cli.here("witness", "cosign", "w1", "then.txt")
    assert (refused.code, refused.error[0]) == (9, "E901: the witness does not cosign this: 409")
    assert refused.error[2] == "fix: fedseg ledger prove LEDGER --from 6"
    other = workspace.cli.here("ledger", "checkpoint", "run/nodes/south")
    workspace.write("other.txt", other.out)
    assert "this log is not watched here" in workspace.cli.here("witness", "cosign", "w1", "other.txt").err


def test_what_is_no_key_or_name_is_refused(workspace: Workspace, witness: str) -> None:
    assert workspace.cli.here("witness", "enrol", "w1", "nonsense").code == 2
    assert workspace.cli.here("witness", "enrol", "w1", witness).code == 2
    assert workspace.cli.here("witness", "init", "w2", "--name", "two words").code == 2
    assert workspace.cli.here("witness", "show", "w2").code == 2
    assert "watches no log yet" in (
        workspace.cli.here("witness", "init", "w3", "--name", "w").out
        and workspace.cli.here("witness", "show", "w3").out
    )


@contextmanager
def running(workspace: Workspace, port: int) -> Generator[subprocess.Popen[bytes]]:
    log = workspace.folder / "service.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [FEDSEG, "witness", "start", "w1", "--port", str(port)],
            cwd=workspace.folder,
            env=workspace.cli.clean({}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        until = time.monotonic() + 60
        while b"cosigns as" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@pytest.mark.processes
def test_over_http_it_cosigns_and_remembers_across_a_kill(workspace: Workspace, witness: str) -> None:
    assert witness
    port = free_port()
    url, raw = f"http://127.0.0.1:{port}/add-checkpoint", read_ledger(workspace.folder / LEDGER / "ledger.db")
    with running(workspace, port) as process:
        assert httpx.post(url, content=f"old 0\n\n{earlier(workspace, 3)}").status_code == 200
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    with running(workspace, port):
        again = httpx.post(url, content=f"old 0\n\n{earlier(workspace, 3)}")
        assert (again.status_code, again.text) == (409, "3\n")
        assert httpx.post(url, content=prove_consistency(raw, 3).to_text()).status_code == 200
        assert httpx.post(url, content=b"x" * 65_537).status_code == 413
