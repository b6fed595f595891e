"""The main promise: separate machines, users and processes give the segments that a simulation gives, and prove it."""

import json
import shutil
from pathlib import Path

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedseg.audit.facts import LedgerFacts
from fedseg.audit.verify import check_against_units, recompute_segmentation, verify_ledger
from fedseg.cli.main import run_command
from fedseg.federation.client_app import make_client_app
from fedseg.federation.loopback import LoopbackGrid
from fedseg.federation.server_app import run_plan
from fedseg.plan import Plan
from fedseg.privacy.noise import SimulatedNoise
from fedseg.server.contribution import parse_contribution
from tests.small_federation import SmallFederation
from tests.system.deployment import SEEDS, UNITS, Federation, FirstRun

pytestmark = pytest.mark.deployment


def simulated(units: SmallFederation) -> LoopbackGrid:
    """The same units in this process, each with the noise that its node was told to simulate."""
    apps = {str(units.home(name).path): make_client_app(SimulatedNoise(seed)) for name, seed in SEEDS.items()}
    app = ClientApp()

    @app.query("release")
    def answer(message: Message, context: Context) -> Message:
        return apps[str(context.node_config["home"])](message, context)

    return LoopbackGrid(app, {node: {"home": str(units.home(name).path)} for name, node in units.roster.items()})


def test_a_plan_of_three_rounds_ends_with_published_segments(first_run: FirstRun) -> None:
    plan = first_run.job.plan
    assert plan.rounds == 3
    assert first_run.ended["state"] == "finished"
    segmentation = first_run.job.published.segmentation
    assert segmentation.units == tuple(UNITS)
    assert len(segmentation.segments) == plan.k


def test_every_ledger_verifies_and_tells_the_same_story(federation: Federation, first_run: FirstRun) -> None:
    plan = first_run.job.plan
    server = federation.server.facts()
    check_against_units(server, [node.facts() for node in federation.nodes.values()], plan)
    for node in federation.nodes.values():
        assert sorted(node.releases(plan)) == list(range(plan.rounds))
    assert recompute_segmentation(server, plan) == first_run.job.published


def test_every_released_number_is_the_one_that_a_simulation_releases(
    federation: Federation, first_run: FirstRun
) -> None:
    plan, units = first_run.job.plan, first_run.before
    run_plan(simulated(units), units.server, units.document, roster=units.roster)
    for name, node in federation.nodes.items():
        released = values(node.facts(), plan)
        assert sorted(released) == list(range(plan.rounds))
        assert released == values(verify_ledger(units.home(name).path / "ledger.db"), plan)


def values(facts: LedgerFacts, plan: Plan) -> dict[int, list[list[int]]]:
    """What a unit has released for a plan, by step."""
    found = [
        facts.raw.payloads[f"release:{one.release_id}"] for one in facts.releases if one.plan_sha256 == plan.digest
    ]
    return {one.step: one.values.tolist() for one in (parse_contribution(payload, plan) for payload in found)}


def test_the_report_says_that_the_noise_was_simulated(
    federation: Federation, first_run: FirstRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    homes = {f"nodes/{node.unit}": node.home for node in federation.nodes.values()}
    for place, home in {"server": federation.server.path / "server", **homes}.items():
        (tmp_path / place).mkdir(parents=True)
        ledger = tmp_path / place / "ledger.db"
        assert run_command(["ledger", "export", str(home / "ledger.db"), "--out", str(ledger)]) == 0
    for name in ("plan.toml", "segmentation.json"):
        shutil.copy(federation.server.path / "jobs" / first_run.job.name / name, tmp_path)
    assert run_command(["report", str(tmp_path)]) == 0
    assert "report.html" in capsys.readouterr().out
    facts = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert facts["verified"]
    assert facts["privacy"]["noise"] == "simulated"
    assert "not a differentially private release" in (tmp_path / "report.html").read_text("utf-8")


def test_a_rehearsing_node_says_so_wherever_its_operator_looks(federation: Federation) -> None:
    for node in federation.nodes.values():
        assert "simulated" in json.dumps(node.fedseg("status"))
        assert "SIMULATED" in node.log("data")
