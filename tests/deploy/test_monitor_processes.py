"""`fedseg monitor` beside a real server and a real node."""

import contextlib
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import NAMES, Node, Server, free_port

pytestmark = pytest.mark.processes

SECONDS = 30


@contextlib.contextmanager
def watched(one: Server | Node) -> Generator[tuple[int, int]]:
    """The process that watches, and its port."""
    port = free_port()
    with subprocess.Popen(one.operator.words("monitor", one.path, "--port", port), cwd="/") as running:
        try:
            _wait(port)
            yield running.pid, port
        finally:
            running.terminate()
            running.wait(SECONDS)


def _wait(port: int) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            ask(port, "/healthz")
        except urllib.error.URLError:
            assert time.monotonic() < end, "the monitor does not answer"
            time.sleep(0.2)
        else:
            return


def ask(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def uid_and_capabilities(pid: int) -> tuple[str, set[str]]:
    lines = (line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines())
    found = dict(line for line in lines if len(line) == 2)
    return found["Uid"].split()[0], {found[kind] for kind in ("CapPrm", "CapEff", "CapBnd")}


def test_a_node_that_is_connected_is_alive_and_ready(connected: Node) -> None:
    with watched(connected) as (_, port):
        assert ask(port, "/healthz") == (200, '{"alive":true}')
        status, said = ask(port, "/readyz")
        assert (status, json.loads(said)) == (
            200,
            {"ready": True, "reachable": True, "processes": {"network": True, "data": True}},
        )
        assert "fedseg_ready 1.0" in ask(port, "/metrics")[1]


def test_a_server_that_answers_is_ready_and_says_when_its_certificate_ends(server: Server) -> None:
    with watched(server) as (_, port):
        assert ask(port, "/readyz")[0] == 200
        said = ask(port, "/metrics")[1]
        assert "fedseg_certificate_end_time_seconds" in said
        assert 'fedseg_process_up{process="coordinator"} 1.0' in said


def test_a_node_that_was_not_started_is_not(node: Node) -> None:
    with watched(node) as (_, port):
        assert (ask(port, "/healthz")[0], ask(port, "/readyz")[0]) == (503, 503)


def test_root_becomes_the_network_s_user_without_a_capability(connected: Node) -> None:
    network = subprocess.run(["id", "-u", NAMES[2]], capture_output=True, text=True, check=True).stdout.strip()
    with watched(connected) as (pid, _):
        assert uid_and_capabilities(pid) == (network, {f"{0:016x}"})
