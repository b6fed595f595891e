"""Simulated noise is named wherever the run leaves a trace, and one simulated unit is enough: nobody calls it private."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedseg.audit.verify import verify_ledger
from fedseg.cli.main import run_command
from fedseg.federation import wire
from fedseg.federation.client_app import make_client_app
from fedseg.federation.loopback import LoopbackGrid
from fedseg.federation.server_app import run_plan
from fedseg.privacy.noise import NoiseSource, SimulatedNoise, SystemNoise
from fedseg.privacy.release import HEADER, NOISE_SOURCES
from fedseg.report.facts import collect
from fedseg.report.render import render
from fedseg.segments.segmentation import parse_signed
from fedseg.server.contribution import Contribution
from tests.small_federation import SmallFederation, ask, make_federation, some_request

WARNING = "not a differentially private release"
SOURCES = {"none": (), "one": ("south",), "both": ("north", "south")}
"""Units whose noise is simulated."""


@dataclass(frozen=True)
class Run:
    """A finished run, in the folders that a report reads."""

    folder: Path
    simulated: tuple[str, ...]

    @property
    def server(self) -> Path:
        return self.folder / "server" / "ledger.db"

    def unit(self, name: str) -> Path:
        return self.folder / "nodes" / name / "ledger.db"


def grid_of(federation: SmallFederation, simulated: tuple[str, ...]) -> LoopbackGrid:
    """The units behind Flower's transport, each with its own source of noise."""
    homes = {str(home.path): home.settings.unit for home in federation.homes}
    sources: dict[str, NoiseSource] = {
        name: SimulatedNoise(3) if name in simulated else SystemNoise() for name in homes.values()
    }
    apps = {path: make_client_app(sources[name]) for path, name in homes.items()}
    app = ClientApp()

    @app.query("release")
    def answer(message: Message, context: Context) -> Message:
        return apps[str(context.node_config["home"])](message, context)

    return LoopbackGrid(app, {number: {"home": path} for number, path in enumerate(homes, 1)})


@pytest.fixture(scope="module", params=SOURCES.values(), ids=list(SOURCES))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which none, one or both of the units simulate their noise."""
    folder = tmp_path_factory.mktemp("named") / "run"
    federation = make_federation(folder / "nodes", {"north": 40, "south": 30}).approve_all()
    grid = grid_of(federation, request.param)
    signed = run_plan(grid, federation.server, federation.document, roster=federation.roster)
    (federation.path / "server").rename(folder / "server")
    (folder / "plan.toml").write_bytes(federation.document)
    (folder / "segmentation.json").write_bytes(signed.to_json())
    return Run(folder, request.param)


def say(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints when all is well."""
    assert run_command([str(one) for one in arguments]) == 0
    return capsys.readouterr().out


def test_the_signed_bytes_of_a_release_say_it(federation: SmallFederation) -> None:
    plan = federation.plan
    replies = ask(grid_of(federation, ("south",)), plan, some_request(plan, 0))
    found = [wire.decode(reply, plan) for reply in replies]
    assert [one.noise_source for one in found if isinstance(one, Contribution)] == ["system", "simulated"]
    labels = [NOISE_SOURCES[HEADER.unpack_from(one.payload)[-1]] for one in found if isinstance(one, Contribution)]
    assert labels == ["system", "simulated"]


def test_the_segmentation_file_says_it(finished: Run) -> None:
    document = (finished.folder / "segmentation.json").read_bytes()
    assert json.loads(document)["segmentation"]["noise"] == ("simulated" if finished.simulated else "system")
    assert parse_signed(document).segmentation.simulated == bool(finished.simulated)


def test_the_verified_ledgers_say_it(finished: Run) -> None:
    assert verify_ledger(finished.server).simulated == bool(finished.simulated)
    for name in ("north", "south"):
        assert verify_ledger(finished.unit(name)).simulated == (name in finished.simulated)


def test_verifying_the_servers_ledger_says_it(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert (WARNING in say(capsys, "ledger", "verify", finished.server)) == bool(finished.simulated)
    data = json.loads(say(capsys, "ledger", "verify", finished.server, "--format", "json"))["data"]
    assert data["noise"] == (f"simulated: {WARNING}" if finished.simulated else "system")


@pytest.mark.parametrize("name", ["north", "south"])
def test_a_units_ledger_and_budget_say_it(finished: Run, capsys: pytest.CaptureFixture[str], name: str) -> None:
    expected = name in finished.simulated
    assert (WARNING in say(capsys, "ledger", "verify", finished.unit(name))) == expected
    assert ("nothing here is private" in say(capsys, "budget", "show", finished.unit(name))) == expected
    for command in (("ledger", "verify"), ("budget", "show")):
        data = json.loads(say(capsys, *command, finished.unit(name), "--format", "json"))["data"]
        assert data["noise"] == (f"simulated: {WARNING}" if expected else "system")


def test_showing_the_segments_says_it(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    file = finished.folder / "segmentation.json"
    assert (WARNING in say(capsys, "segments", "show", file)) == bool(finished.simulated)
    data = json.loads(say(capsys, "segments", "show", file, "--format", "json"))["data"]
    assert data["noise"] == ("simulated" if finished.simulated else "system")


def test_the_report_says_it(finished: Run) -> None:
    facts = collect(finished.folder)
    assert facts.verified
    assert facts.privacy is not None
    assert facts.simulated == bool(finished.simulated)
    assert facts.privacy.noise == ("simulated" if finished.simulated else "system")
    assert (WARNING in render(facts)) == bool(finished.simulated)


@pytest.mark.parametrize("absent", [("south",), ("north", "south")])
def test_the_report_says_it_without_the_units_ledgers(finished: Run, tmp_path: Path, absent: tuple[str, ...]) -> None:
    """The units signed where their noise is from, and the server keeps what they signed."""
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    for name in absent:
        shutil.rmtree(folder / "nodes" / name)
    facts = collect(folder)
    assert facts.verified
    assert facts.simulated == bool(finished.simulated)
    assert (WARNING in render(facts)) == bool(finished.simulated)
