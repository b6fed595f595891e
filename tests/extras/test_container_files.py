"""The linters of container files have nothing to say about ours, and would have about worse ones."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.extras

FOLDER = Path(__file__).parents[2] / "fedseg/deploy/containers"
COMPOSE = ["compose.node.yaml", "compose.server.yaml"]


def checked(*command: object) -> "subprocess.CompletedProcess[str]":
    name = str(command[0])
    program = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, f"needs {name}: `make test-extras` installs it, docker-compose from Debian and as root alone"
    environment = {**os.environ, "FEDSEG_DATA": "/srv/data"}
    words = [program, *map(str, command[1:])]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_hadolint_finds_nothing() -> None:
    done = checked("hadolint", FOLDER / "Containerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_find_a_base_without_a_version(tmp_path: Path) -> None:
    worse = (FOLDER / "Containerfile").read_text("utf-8").replace("python:3.11-slim-bookworm", "python")
    (tmp_path / "Containerfile").write_text(worse, encoding="utf-8")
    assert "DL3006" in checked("hadolint", tmp_path / "Containerfile").stdout


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_takes_the_file(name: str) -> None:
    done = checked("docker-compose", "-f", FOLDER / name, "config", "-q")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_would_find_a_misspelt_right(name: str, tmp_path: Path) -> None:
    worse = (FOLDER / name).read_text("utf-8").replace("cap_drop:", "caps_drop:")
    (tmp_path / name).write_text(worse, encoding="utf-8")
    assert "caps_drop" in checked("docker-compose", "-f", tmp_path / name, "config", "-q").stderr
