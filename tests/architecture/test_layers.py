"""The import contracts in pyproject.toml hold, and they would notice."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FORBIDDEN = {
    "segments/x.py": ("import fedseg.table", "fedseg.segments.x -> fedseg.table"),
    "report/x.py": ("from fedseg.node.home import NodeHome", "fedseg.report.x -> fedseg.node.home"),
    "report/y.py": ("from fedseg.table import Table", "fedseg.report.y -> fedseg.table"),
    "governance/x.py": ("from fedseg.node.source import rows_of", "fedseg.governance.x -> fedseg.node.source"),
    "segments/y.py": ("from fedseg.node.consent import register", "fedseg.segments.y -> fedseg.node.consent.register"),
    "ledger/x.py": ("from fedseg.privacy.budget import Charge", "fedseg.ledger.x -> fedseg.privacy.budget"),
    "node/x.py": ("from fedseg.server.rounds import accept", "fedseg.node.x -> fedseg.server.rounds"),
    "federation/x.py": ("from fedseg.simulation import runner", "fedseg.federation.x -> fedseg.simulation.runner"),
    "policy/x.py": ("from flwr.app import Message", "fedseg.policy.x -> flwr"),
    "privacy/x.py": ("import flwr.clientapp", "fedseg.privacy.x -> flwr"),
    "stray.py": ("", "fedseg.stray"),
}
"""A module that must not be, what it would import, and what the contracts then say."""


def check_contracts(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def verdict_on_a_bad_copy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the contracts say of a throwaway copy of the package that breaks them in every way listed."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "fedseg", folder / "fedseg", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, (statement, _) in FORBIDDEN.items():
        (folder / "fedseg" / path).write_text(f"{statement}\n", "utf-8")
    checked = check_contracts(folder)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    return checked.stdout


def test_imports_point_one_way() -> None:
    checked = check_contracts(ROOT)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", FORBIDDEN)
def test_a_forbidden_import_is_noticed(path: str, verdict_on_a_bad_copy: str) -> None:
    assert FORBIDDEN[path][1] in verdict_on_a_bad_copy
