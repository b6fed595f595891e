"""A small federation that was run once, and a folder that looks like a clone of the repository."""

import shutil
from pathlib import Path

import pytest

from fedseg.simulation.runner import RunResult, simulate
from fedseg.simulation.scenario import load_scenario
from tests.docs.transcripts import ROOT


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of a reader: the shipped scenarios and policies are there, and nothing else."""
    for name in ("simulations", "policies"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run of the shipped made-up customers, fewer of them."""
    loaded = load_scenario(ROOT / "simulations/blobs/scenario.toml", {"data.blobs.customers": 2000})
    return simulate(loaded, tmp_path_factory.mktemp("docs") / "run")
