"""What monitoring is told of a server or node, and what it is not."""

import asyncio
import os
import re
from pathlib import Path

import httpx
import pytest

from fedseg.cli.main import run_command
from fedseg.deploy import monitor
from fedseg.deploy.monitor import Seen, application, look, metrics
from fedseg.deploy.settings import NodeDeployment, NodeTerms, ServerDeployment, ServerTerms
from fedseg.deploy.users import Account, caller
from fedseg.errors import DeploymentError

WELL = Seen(supervised=True, started={"network": 1.5e9, "data": 1.6e9}, reachable=True, certificate_until=None)
NUMBERS = {
    "fedseg_info",
    "fedseg_supervised",
    "fedseg_ready",
    "fedseg_reachable",
    "fedseg_process_up",
    "fedseg_process_start_time_seconds",
    "fedseg_certificate_end_time_seconds",
}


@pytest.fixture
def node(tmp_path: Path) -> NodeDeployment:
    me = caller().name
    terms = NodeTerms(unit="north", unit_key="", server="a.example:8443", network_user=me, data_user=me)
    return NodeDeployment(tmp_path, terms)


@pytest.fixture
def server(tmp_path: Path) -> ServerDeployment:
    me = caller().name
    listen = "127.0.0.1:1"  # nobody listens there
    terms = ServerTerms(server_key="", hosts=("localhost",), listen=listen, server_user=me, proxy_user=me)
    return ServerDeployment(tmp_path, terms)


def ask(node: NodeDeployment, path: str, method: str = "GET", host: str = "127.0.0.1") -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(application(node))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}:9464") as client:
            return await client.request(method, path)

    return asyncio.run(asked())


def values(text: bytes) -> dict[str, float]:
    lines = [line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_the_numbers_are_these_and_none_is_about_a_customer(node: NodeDeployment) -> None:
    said = values(metrics(node, WELL)) | values(metrics(node, Seen(True, WELL.started, True, 2e9)))
    assert {name.partition("{")[0] for name in said} == NUMBERS
    assert said['fedseg_process_start_time_seconds{process="data"}'] == 1.6e9
    assert said["fedseg_ready"] == said["fedseg_reachable"] == said["fedseg_supervised"] == 1


@pytest.mark.parametrize(
    "seen",
    [
        Seen(supervised=False, started=WELL.started, reachable=True, certificate_until=None),
        Seen(supervised=True, started={"network": 1.0, "data": None}, reachable=True, certificate_until=None),
        Seen(supervised=True, started=WELL.started, reachable=False, certificate_until=None),
    ],
    ids=["no supervisor", "no data process", "not let in"],
)
def test_it_is_ready_only_with_everything_it_needs(seen: Seen, node: NodeDeployment) -> None:
    assert WELL.ready
    assert not seen.ready
    assert values(metrics(node, seen))["fedseg_ready"] == 0


def test_what_does_not_run_is_neither_alive_nor_ready(node: NodeDeployment) -> None:
    alive, ready = ask(node, "/healthz"), ask(node, "/readyz")
    assert (alive.status_code, alive.json()) == (503, {"alive": False})
    assert (ready.status_code, ready.json()["processes"]) == (503, {"network": False, "data": False})
    assert ask(node, "/metrics").status_code == 200


def test_a_server_that_does_not_answer_is_not_ready(server: ServerDeployment) -> None:
    seen = look(server)
    assert (seen.reachable, seen.certificate_until, set(seen.started)) == (
        False,
        None,
        {"link", "coordinator", "proxy"},
    )


@pytest.mark.parametrize("state", ["", "[]", '{"state": "connected"}', '{"state": "connected", "pid": 1}'])
def test_a_state_that_no_live_process_wrote_is_no_connection(state: str, node: NodeDeployment) -> None:
    node.network.mkdir()
    node.state.write_text(state, encoding="utf-8")
    assert not look(node).reachable


def test_a_web_page_cannot_ask_under_another_name(node: NodeDeployment) -> None:
    assert ask(node, "/metrics", host="evil.example").status_code == 400


def test_nothing_can_be_changed_and_nothing_else_is_there(node: NodeDeployment) -> None:
    assert ask(node, "/healthz", method="POST").status_code == 405
    assert ask(node, "/docs").status_code == 404


def test_who_could_not_see_enough_is_told_so(node: NodeDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    other = node.network_account.uid + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    monkeypatch.setattr(monitor, "watcher", lambda _: Account("net", other + 1, other + 1))
    with pytest.raises(DeploymentError, match="cannot watch"):
        monitor.command(node, 9464)


def test_a_folder_that_holds_no_deployment_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["monitor", str(tmp_path)]) == 2
    with pytest.raises(DeploymentError, match="cannot be watched"):
        monitor.load(tmp_path)


def test_only_this_machine_is_served() -> None:
    source = Path(monitor.__file__).read_text("utf-8")
    assert re.findall(r"host=(\S+?),", source) == ["HOST"]
    assert monitor.HOST == "127.0.0.1"
