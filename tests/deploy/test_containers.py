"""What the files for containers say is what the program needs, and what a container is built from is enough."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from fedseg.deploy.service import CAPABILITIES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "fedseg/deploy/containers"
COPIED = [
    source
    for line in (FOLDER / "Containerfile").read_text("utf-8").splitlines()
    if line.startswith("COPY ")
    for source in line.split()[1:-1]
]


def service(role: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(FOLDER / f"compose.{role}.yaml")["services"][role]
    return found


@pytest.mark.parametrize("role", ["node", "server"])
def test_a_container_has_the_rights_of_the_service_and_one_to_make_a_directory(role: str) -> None:
    found = service(role)
    assert found["cap_drop"] == ["ALL"]
    assert [f"CAP_{name}" for name in found["cap_add"]] == [*CAPABILITIES, "CAP_FSETID"]


@pytest.mark.parametrize("role", ["node", "server"])
def test_a_container_changes_nothing_but_its_volume_and_dumps_no_memory(role: str) -> None:
    found = service(role)
    assert found["read_only"] is True
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["ulimits"] == {"core": 0}
    assert "privileged" not in found


def test_a_node_listens_nowhere_and_cannot_change_its_customers() -> None:
    found = service("node")
    assert "ports" not in found
    (data,) = [one for one in found["volumes"] if isinstance(one, dict)]
    assert (data["target"], data["read_only"]) == ("/srv/data", True)


def test_what_is_copied_is_let_in_and_is_enough_to_build_fedseg(tmp_path: Path) -> None:
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"]
    assert sorted(COPIED) == sorted(let_in)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run([*pip, "--wheel-dir", tmp_path, tmp_path], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert list(tmp_path.glob("fedseg-*.whl"))
