"""The how-to about machines without the internet: its commands, in order, the second half where there is no network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.extras

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/install-offline.md").read_text("utf-8")
COLLECT, INSTALL = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
NO_NETWORK = ["unshare", *([] if os.geteuid() == 0 else ["--map-current-user"]), "--net", "--"]


def sh(script: str, folder: Path, *before: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FEDSEG", "VIRTUAL_ENV"))}
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"  # as python3, this Python
    done = subprocess.run(
        [*before, "sh", "-euc", script],
        cwd=folder,
        env={**environment, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `wheelhouse` is; collected in a clone, carried elsewhere."""
    there = tmp_path_factory.mktemp("there")
    sh(
        f"cd {ROOT}\n{COLLECT.replace('--wheel-dir wheelhouse', f'--wheel-dir {there}/wheelhouse').splitlines()[0]}",
        there,
    )
    sh(COLLECT.splitlines()[1], there)
    return there


def test_fedseg_is_installed_and_runs_where_there_is_no_network(wheelhouse: Path, tmp_path: Path) -> None:
    without = sh(
        "python3 -c \"import socket; socket.create_connection(('1.1.1.1', 53), 2)\"",
        wheelhouse,
        *NO_NETWORK,
        check=False,
    )
    assert "Network is unreachable" in without.stderr
    said = sh(INSTALL.replace("/opt/fedseg", str(tmp_path / "fedseg")), wheelhouse, *NO_NETWORK)
    assert said.stdout == "fedseg 0.1.0\n"
    policy = sh(f"{tmp_path}/fedseg/bin/fedseg policy check {ROOT}/policies/minimal.yaml", tmp_path, *NO_NETWORK)
    assert policy.stdout


def test_a_file_that_was_changed_on_the_way_is_found_before_anything_is_installed(
    wheelhouse: Path, tmp_path: Path
) -> None:
    (wheel,) = (wheelhouse / "wheelhouse").glob("fedseg-*.whl")
    good = wheel.read_bytes()
    wheel.write_bytes(good + b"x")
    try:
        done = sh(INSTALL.replace("/opt/fedseg", str(tmp_path / "fedseg")), wheelhouse, check=False)
    finally:
        wheel.write_bytes(good)
    assert done.returncode != 0
    assert not (tmp_path / "fedseg").exists()


def test_the_page_tells_how_much_there_is_to_carry(wheelhouse: Path) -> None:
    files = list((wheelhouse / "wheelhouse").glob("*.whl"))
    megabytes = sum(one.stat().st_size for one in files) / 1e6
    count, size = map(int, re.search(r"about (\d+) files and (\d+) MB", PAGE).groups())  # type: ignore[union-attr]  # it is on the page
    assert abs(len(files) - count) <= 10
    assert abs(megabytes - size) <= 40
