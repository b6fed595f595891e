"""`fedseg console` as a process: where it listens, what it prints, and how it ends."""

import json
import re
import subprocess
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from fedseg.cli.main import run_command
from tests.console_unit import ConsoleUnit


def refused(*arguments: object) -> tuple[int, str]:
    """The exit code and the error of a command that ends at once."""
    said = StringIO()
    with redirect_stderr(said):
        code = run_command(["console", *map(str, arguments)])
    return code, said.getvalue()


def test_half_an_officer_is_refused(unit: ConsoleUnit) -> None:
    for half in (("--officer", "ann"), ("--officer-key", unit.key("ann"))):
        code, said = refused("--home", unit.home.path, *half)
        assert (code, said[:5]) == (2, "E201:")


def test_a_stranger_is_refused_before_anything_listens(unit: ConsoleUnit) -> None:
    code, said = refused("--node", unit.home.path, "--officer", "eve", "--officer-key", unit.key("ann"))
    assert (code, said[:5]) == (7, "E701:")


def test_it_listens_for_this_machine_alone(unit: ConsoleUnit) -> None:
    code, said = refused("--node", unit.home.path, "--host", "0.0.0.0")
    assert (code, said[:5]) == (2, "E201:")


def test_what_is_no_unit_has_no_console(tmp_path: Path) -> None:
    code, said = refused("--node", tmp_path)
    assert (code, said[:5]) == (2, "E201:")


@pytest.mark.processes
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_from_the_link_to_signing_out(unit: ConsoleUnit, host: str) -> None:
    command = [sys.executable, "-m", "fedseg", "console", "--node", unit.home.path, "--host", host, "--format", "json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([str(one) for one in command], text=True, **pipes) as started:  # type: ignore[call-overload]
        assert started.stdout is not None
        printed = "".join(iter(started.stdout.readline, "}\n")) + "}"
        link = json.loads(printed)["data"]["url"]
        origin = f"http://{urlsplit(link).netloc}"
        with httpx.Client(follow_redirects=True, trust_env=False) as client:
            page = client.get(link)
            assert page.status_code == 200
            assert client.get(link).status_code == 403
            form = re.search(r'name="form" value="([^"]+)"', page.text)
            assert form is not None
            left = client.post(f"{page.url}leave", data={"form": form[1]}, headers={"Origin": origin})
        assert left.status_code == 200
        _, said = started.communicate(timeout=20)
    assert started.returncode == 0
    assert "console.opened" in said
    assert link.rpartition("/")[2] not in said
