"""What the systemd service of a server or node says, and that it says "started" to whoever waits for that."""

import configparser
import socket
import sys
from pathlib import Path

import pytest

from fedseg.cli.main import run_command
from fedseg.deploy import service
from fedseg.deploy.processes import STOP_SECONDS, tell_ready
from fedseg.deploy.service import Service, service_of, write_service
from fedseg.deploy.settings import NodeDeployment, NodeTerms, ServerDeployment, ServerTerms
from fedseg.deploy.users import caller
from fedseg.errors import DeploymentError


@pytest.fixture(autouse=True)
def visible_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter behind the environment's: the tests may run below /tmp, which no service sees."""
    monkeypatch.setattr(sys, "executable", str(Path(sys.executable).resolve()))


def node(path: str = "/srv/north", *, users: tuple[str, str] = ("net", "data")) -> NodeDeployment:
    terms = NodeTerms(unit="north", unit_key="", server="a.example:8443", network_user=users[0], data_user=users[1])
    return NodeDeployment(Path(path), terms)


def server(listen: str = "0.0.0.0:8443") -> ServerDeployment:
    terms = ServerTerms(server_key="", hosts=("a.example",), listen=listen, server_user="link", proxy_user="proxy")
    return ServerDeployment(Path("/srv/fedseg"), terms)


def said(made: Service) -> configparser.SectionProxy:
    found = configparser.RawConfigParser(strict=True)
    found.optionxform = str  # type: ignore[assignment, method-assign]  # configparser documents it as settable
    found.read_string(made.text)
    return found["Service"]


def test_a_service_runs_the_same_command_as_a_person() -> None:
    assert said(service_of(node()))["ExecStart"] == (
        f"{sys.executable} -P -m fedseg node start /srv/north --foreground --timeout 120"
    )


def test_a_killed_node_is_started_again_when_the_server_lets_it_in_again() -> None:
    assert said(service_of(node()))["RestartSec"] == "65"
    assert said(service_of(server()))["RestartSec"] == "5"


def test_it_is_killed_only_after_the_supervisor_has_had_its_time() -> None:
    assert float(said(service_of(node()))["TimeoutStopSec"]) > STOP_SECONDS


def test_root_keeps_what_has_a_reason_and_the_low_port_only_where_there_is_one() -> None:
    assert said(service_of(node()))["CapabilityBoundingSet"].split() == list(service.CAPABILITIES)
    low = said(service_of(server("0.0.0.0:443")))["CapabilityBoundingSet"].split()
    assert low == [*service.CAPABILITIES, "CAP_NET_BIND_SERVICE"]


def test_a_single_user_s_service_has_neither_root_nor_capabilities() -> None:
    me = caller().name
    found = said(service_of(node(users=(me, me))))
    assert (found["User"], found["CapabilityBoundingSet"], found["RestrictNamespaces"]) == (me, "", "user net")


def test_nothing_but_the_deployment_can_be_changed_and_no_memory_is_dumped() -> None:
    found = said(service_of(node()))
    assert (found["ProtectSystem"], found["ReadWritePaths"], found["LimitCORE"]) == ("strict", "/srv/north", "0")


def test_each_unit_has_a_service_of_its_own() -> None:
    assert service_of(node()).name == "fedseg-node-north.service"
    assert service_of(server()).name == "fedseg-server.service"


def test_a_deployment_that_a_service_could_not_see_is_refused() -> None:
    with pytest.raises(DeploymentError, match="cannot see /tmp/north"):
        service_of(node("/tmp/north"))


def test_an_odd_path_of_python_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", '/opt/100% "mine"/$x/python')
    assert said(service_of(node()))["ExecStart"].startswith('"/opt/100%% \\"mine\\"/$$x/python" -P')


def test_a_service_that_somebody_changed_is_not_overwritten(tmp_path: Path) -> None:
    made = service_of(node())
    path = write_service(made, tmp_path)
    assert write_service(made, tmp_path) == path
    path.write_text(made.text + "Nice=5\n", encoding="utf-8")
    with pytest.raises(DeploymentError, match="says something else"):
        write_service(made, tmp_path)
    assert path.read_text(encoding="utf-8").endswith("Nice=5\n")


def test_a_folder_that_holds_no_deployment_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["service", str(tmp_path)]) == 2
    assert "E204" in capsys.readouterr().err


@pytest.mark.parametrize("abstract", [False, True])
def test_a_service_manager_is_told_that_all_is_well(abstract: bool, tmp_path: Path) -> None:
    name = f"{tmp_path.name}-notify" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}" if abstract else name)
        manager.settimeout(5)
        tell_ready({"NOTIFY_SOCKET": f"@{name}" if abstract else name})
        assert manager.recv(100) == b"READY=1"


def test_without_a_service_manager_nobody_is_told() -> None:
    tell_ready({})
