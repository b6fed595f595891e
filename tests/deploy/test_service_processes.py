"""Servers and nodes run with the capabilities that their systemd service leaves them, on a disk that is read-only beside."""

import contextlib
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from fedseg.deploy.service import CAPABILITIES
from tests.deploy.conftest import OTHER_PORT, SERVER_USERS, MakeServer, Node, Operator, Server, approve, processes_of

pytestmark = pytest.mark.processes

READY_SECONDS = 90
READ_ONLY = (
    'mount --make-rprivate / && mount --bind "$1" "$1" && mount -o remount,bind,ro / && mount -o remount,bind,rw "$1" '
    '&& mount -t tmpfs tmpfs /var/tmp && ! touch /etc/fedseg-probe 2>/dev/null && shift && exec "$@"'
)
"""A mount namespace as ProtectSystem=strict and ReadWritePaths= make one, as far as the tests' own / goes."""


def as_in_the_service(one: Server | Node) -> tuple[str, ...]:
    kept = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in CAPABILITIES)])
    return (
        *("unshare", "--mount", "--", "/bin/sh", "-c", READ_ONLY, "sh", str(one.path)),
        *("setpriv", "--no-new-privs", f"--bounding-set={kept}", f"--inh-caps={kept}", "--"),
    )


@contextlib.contextmanager
def service(one: Server | Node, role: str, folder: Path, before: tuple[str, ...]) -> Generator[socket.socket]:
    """`start --foreground` with this before it, and the socket on which it tells that it is ready."""
    place = folder / f"{one.path.name}.notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place))
        manager.settimeout(READY_SECONDS)
        command = [*before, *one.operator.words(role, "start", one.path, "--foreground")]
        environment = {"NOTIFY_SOCKET": str(place), "HOME": "/", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
        with subprocess.Popen(command, cwd="/", env=environment) as running:
            try:
                yield manager
            finally:
                running.terminate()
                assert running.wait(120) == 0
    assert not processes_of(one.path)


def test_a_server_starts_and_stops_as_its_service_says(root: Operator, make: MakeServer, folder: Path) -> None:
    made = make(root, "as-service", *SERVER_USERS, port=OTHER_PORT)
    with service(made, "server", folder, as_in_the_service(made)) as manager:
        assert manager.recv(100) == b"READY=1"
        assert {one["state"] for one in made.json("status")["processes"]} == {"RUNNING"}


def test_a_node_starts_and_stops_as_its_service_says(server: Server, node: Node, folder: Path) -> None:
    approve(server, node)
    with service(node, "node", folder, as_in_the_service(node)) as manager:
        assert manager.recv(100) == b"READY=1"
        assert node.json("status")["connected"]
