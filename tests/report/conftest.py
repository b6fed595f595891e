"""Two real runs for the tests of the report, made once: one with real noise, one simulated with suppressed segments."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.year import make_year
from fedseg.report.facts import collect
from fedseg.report.model import ReportFacts
from fedseg.report.officer.evidence import gather
from fedseg.report.officer.pack import Question, write
from fedseg.simulation.runner import simulate
from fedseg.simulation.scenario import load_scenario
from tests.kinds_scenario import write_kinds_scenario

QUESTION = Question(period="2026-01", keys={}, signed_off=None, noise_audit=None)
SIMULATIONS = Path(__file__).parents[2] / "simulations"


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the shipped demo; not to be written to."""
    out = tmp_path_factory.mktemp("report") / "run"
    simulate(load_scenario(SIMULATIONS / "online_retail" / "scenario.toml"), out)
    return out


@pytest.fixture(scope="session")
def simulated_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with seeded noise, in which the smallest of the four segments are too small to show; not to be written to."""
    out = tmp_path_factory.mktemp("report") / "simulated"
    simulate(load_scenario(SIMULATIONS / "blobs" / "scenario.toml", {"plan.min_segment_size": 2900}), out)
    return out


@pytest.fixture(scope="session")
def kinds_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose plan has a feature of every kind; not to be written to."""
    folder = tmp_path_factory.mktemp("report")
    simulate(load_scenario(write_kinds_scenario(folder / "scenario")), folder / "kinds")
    return folder / "kinds"


@pytest.fixture(scope="session")
def facts(run: Path) -> ReportFacts:
    return collect(run)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """A run to tamper with."""
    return lambda run: Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.fixture(scope="session")
def fortnight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a fortnight of daily plans at three units, with refusals and a change of policy; not to be written to."""
    return make_year(12, 3, month=4).write(tmp_path_factory.mktemp("officer") / "evidence.zip")


@pytest.fixture(scope="session")
def desk(fortnight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an officer's report about the last days of it; not to be written to."""
    out = tmp_path_factory.mktemp("officer") / "desk"
    write(gather([fortnight]), QUESTION, out)
    return out
