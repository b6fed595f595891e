"""systemd's own checker reads the services that fedseg writes, and finds little that they are left open to."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedseg.deploy.service import Service, monitor_service_of, service_of, write_service
from fedseg.deploy.settings import NodeDeployment, NodeTerms, ServerDeployment, ServerTerms
from fedseg.deploy.users import caller

pytestmark = pytest.mark.extras

ME = caller().name


def node(network: str, data: str) -> NodeDeployment:
    terms = NodeTerms(unit="north", unit_key="", server="a.example:8443", network_user=network, data_user=data)
    return NodeDeployment(Path("/srv/north"), terms)


SERVER = ServerDeployment(
    Path("/srv/fedseg"),
    ServerTerms(server_key="", hosts=("a.example",), listen="0.0.0.0:443", server_user="link", proxy_user=ME),
)
SERVICES: dict[str, Callable[[], Service]] = {
    "node": lambda: service_of(node("net", "data")),
    "node of one user": lambda: service_of(node(ME, ME)),
    "server": lambda: service_of(SERVER),
    "monitor of a node": lambda: monitor_service_of(node(ME, "data"), 9464),
    "monitor of a server": lambda: monitor_service_of(SERVER, 9464),
}
MOST_EXPOSED = 3.6
"""Of 10. What is left is root with eight capabilities: systemd's table counts each."""


def analyze(*arguments: object) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("systemd-analyze")
    assert program, "needs systemd-analyze: apt-get install systemd (`make test-extras` does so as root)"
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(params=list(SERVICES))
def written(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The interpreter behind the environment's: the tests may run below /tmp, which no service sees.
    monkeypatch.setattr(sys, "executable", str(Path(sys.executable).resolve()))
    return write_service(SERVICES[request.param](), tmp_path)


def test_systemd_takes_it_without_a_word(written: Path) -> None:
    checked = analyze("verify", written)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_systemd_finds_it_well_confined(written: Path) -> None:
    checked = analyze("security", "--offline=true", "--no-pager", f"--threshold={int(MOST_EXPOSED * 10)}", written)
    assert checked.returncode == 0, checked.stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", checked.stdout)
    assert exposure
    assert float(exposure[1]) <= MOST_EXPOSED


def test_a_wrong_service_would_be_found(written: Path) -> None:
    written.write_text(written.read_text("utf-8").replace("ExecStart=/", "ExecStart=/nowhere/"), "utf-8")
    assert analyze("verify", written).returncode != 0
