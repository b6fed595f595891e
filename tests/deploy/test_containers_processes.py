"""A server and a node are made, started and found healthy with the capabilities that the files for containers leave them.

No container runs here: capabilities, the ban on new privileges and the read-only disk are the kernel's own, without one.
"""

import subprocess
from pathlib import Path

import pytest

from tests.deploy.conftest import NODE_USERS, PORT, SERVER_USERS, Node, Operator, Server, approve, free_port, node_files
from tests.deploy.test_containers import service as said
from tests.deploy.test_service_processes import READ_ONLY, service

pytestmark = pytest.mark.processes


def under(role: str, folder: Path) -> tuple[str, ...]:
    """What goes before a command that is to run as in the container whose volume is `folder`."""
    kept = ",".join(["-all", *(f"+{name.lower()}" for name in said(role)["cap_add"])])
    return (
        *("unshare", "--mount", "--", "/bin/sh", "-c", READ_ONLY, "sh", str(folder)),
        *("setpriv", "--no-new-privs", f"--bounding-set={kept}", f"--inh-caps={kept}", "--"),
    )


@pytest.fixture
def volume(root: Operator, request: pytest.FixtureRequest) -> Path:
    made = root.folder / f"volume-{len(request.node.name)}"
    made.mkdir()
    return made


def ready(root: Operator, path: Path) -> "subprocess.CompletedProcess[str]":
    words = root.words("monitor", path, "--once")
    return subprocess.run(words, cwd="/", capture_output=True, text=True, check=False, timeout=60)


def test_a_server_lives_in_its_container(root: Operator, volume: Path, folder: Path) -> None:
    made, port = Server(root, volume / "server"), free_port()
    terms = ["--host", "localhost", "--listen", f"127.0.0.1:{port}", "--single-operator", *SERVER_USERS]
    ended = made("init", *terms, under=under("server", volume))
    assert ended.code == 0, ended.err
    assert (ready(root, made.path).returncode, ready(root, made.path).stdout) == (
        6,
        "not ready: no supervisor, no link, no coordinator, no proxy, no answer\n",
    )
    with service(made, "server", folder, under("server", volume)) as manager:
        assert manager.recv(100) == b"READY=1"
        assert (ready(root, made.path).returncode, ready(root, made.path).stdout) == (0, "ready\n")


def test_a_node_lives_in_its_container(root: Operator, server: Server, volume: Path, folder: Path) -> None:
    made = Node(root, volume / "unit")
    files = node_files(volume, "contained", NODE_USERS[3])
    options = [*files, "--server", f"localhost:{PORT}", "--ca", server.path / "ca.crt", *NODE_USERS]
    ended = made("init", *options, under=under("node", volume))
    assert ended.code == 0, ended.err
    approve(server, made)
    with service(made, "node", folder, under("node", volume)) as manager:
        assert manager.recv(100) == b"READY=1"
        assert ready(root, made.path).stdout == "ready\n"
