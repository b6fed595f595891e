"""Running a scenario: prepare the homes, let every unit approve, run the real apps, verify everything."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedseg.audit.facts import LedgerFacts
from fedseg.audit.verify import check_against_units, recompute_segmentation, verify_ledger
from fedseg.errors import PlanMismatchError, RoundError
from fedseg.federation.client_app import make_client_app
from fedseg.federation.loopback import LoopbackGrid
from fedseg.federation.server_app import Watch, run_plan
from fedseg.node.approvals import approve
from fedseg.node.home import NodeHome
from fedseg.plan import Plan, parse_plan
from fedseg.privacy.account import PrivacyAccount
from fedseg.privacy.budget import upper_float
from fedseg.privacy.noise import NoiseSource, SimulatedNoise, SystemNoise
from fedseg.segments.segmentation import SignedSegmentation
from fedseg.server.contribution import payload_bytes
from fedseg.server.home import ServerHome
from fedseg.simulation.data import all_customers
from fedseg.simulation.metrics import BANNER, Quality, measure
from fedseg.simulation.prepare import Layout, prepare, storage_errors
from fedseg.simulation.scenario import LoadedScenario, load_scenario

Progress = Callable[[str, int, int], None]
"""Takes the stage, what is done, and how much there is."""

ROOM_BYTES = 256 * 1024
"""More than any commit needs beyond its payload."""


def _silent(_stage: str, _done: int, _total: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run found; `data` is what the command line prints as JSON."""

    out: Path
    plan: Plan
    signed: SignedSegmentation
    quality: Quality
    seconds: float
    ledger_verified: bool
    cost_ratio_at_most: float | None
    """What the scenario expects; None if it expects nothing."""
    units: tuple[LedgerFacts, ...]

    @property
    def simulated_noise(self) -> bool:
        """Whether the noise was simulated: then nothing here is private."""
        return any(facts.simulated for facts in self.units)

    @property
    def expected_met(self) -> bool | None:
        """Whether the run shows what its scenario expects; None if it expects nothing."""
        if self.cost_ratio_at_most is None:
            return None
        return self.quality.cost_ratio is not None and self.quality.cost_ratio <= self.cost_ratio_at_most

    def data(self) -> dict[str, Any]:
        """The result under the keys that scripts rely on."""
        segmentation = self.signed.segmentation
        return {
            "out": str(self.out),
            "k": self.plan.k,
            "units": [unit.name for unit in self.plan.units],
            "epsilon": upper_float(self.plan.budget.epsilon),
            "delta": float(self.plan.budget.delta),
            "rho": float(self.plan.rho),
            "rounds": self.plan.rounds,
            "seconds": round(self.seconds, 3),
            "cost_ratio": self.quality.cost_ratio,
            "cost_ratio_note": BANNER,
            "ari": self.quality.ari,
            "expected_met": self.expected_met,
            "segments": [
                {
                    "name": one.name,
                    "size": one.size,
                    "size_interval": None if one.size_interval is None else list(one.size_interval),
                    "suppressed": one.suppressed,
                }
                for one in segmentation.segments
            ],
            "ledger_verified": self.ledger_verified,
            "noise": "simulated: not a differentially private release" if self.simulated_noise else "system",
        }


def simulate(loaded: LoadedScenario, out: Path, *, resume: bool = False, progress: Progress = _silent) -> RunResult:
    """Run one scenario into `out`; the same apps, plan, policy, ledgers and checks as in deployment.

    Raises:
        FedsegError: Whatever a deployed run would raise, with the same code.
    """
    started, now, layout = time.monotonic(), datetime.now(UTC), Layout(out)
    if not (resume and layout.plan.exists()):
        progress("preparing units, registers and keys", 0, 1)
        prepare(loaded, layout, now=now)
    with storage_errors(out):
        document = layout.plan.read_bytes()
    plan = parse_plan(document)
    homes = [NodeHome.open(layout.node(unit.name)) for unit in plan.units]
    _require_same_plan(homes, plan)
    total = len(homes) + plan.rounds + 2
    for done, home in enumerate(homes):
        progress("units check and approve the plan", 1 + done, total)
        approve(home, plan, document, now=now, max_units_attested=plan.max_units_to_attest)
    signed = _run(
        loaded, layout, homes, document, lambda at: progress("running the rounds", 1 + len(homes) + at.step, total)
    )
    progress("verifying every ledger and recomputing the segments", total - 1, total)
    units, verified = _verify(layout, plan, signed)
    quality = measure(plan, signed.segmentation, all_customers(loaded))
    at_most = loaded.scenario.expected.cost_ratio_at_most
    result = RunResult(
        out=out,
        plan=plan,
        signed=signed,
        quality=quality,
        seconds=time.monotonic() - started,
        ledger_verified=verified,
        cost_ratio_at_most=None if at_most is None else float(at_most),
        units=units,
    )
    with storage_errors(out):
        (out / "segmentation.json").write_bytes(signed.to_json())
        (out / "metrics.json").write_text(json.dumps(metrics(result), indent=2) + "\n", encoding="utf-8")
    return result


def repeat(
    path: Path,
    out: Path,
    overrides: Sequence[Mapping[str, str | int]],
    *,
    resume: bool = False,
    progress: Progress = _silent,
) -> list[RunResult]:
    """Run a scenario once per set of overrides, into `out/run-000`, `out/run-001`, ..."""
    results = []
    for number, changes in enumerate(overrides):
        progress("running federations", number, len(overrides))
        results.append(simulate(load_scenario(path, changes), out / f"run-{number:03d}", resume=resume))
    return results


def metrics(result: RunResult) -> dict[str, Any]:
    """The content of metrics.json: simulation only."""
    sent = sum(payload_bytes(terms) for terms in result.plan.terms) * len(result.plan.units)
    return {
        "note": BANNER,
        "cost_ratio": result.quality.cost_ratio,
        "ari": result.quality.ari,
        "expected_met": result.expected_met,
        "seconds": round(result.seconds, 3),
        "bytes": sent,
        "rounds": result.plan.rounds,
        "noise": result.data()["noise"],
    }


def median_cost_ratio(results: list[RunResult]) -> float | None:
    """Median over the runs that released something."""
    ratios = [one.quality.cost_ratio for one in results if one.quality.cost_ratio is not None]
    return statistics.median(ratios) if ratios else None


def noise_source(loaded: LoadedScenario) -> NoiseSource:
    """The scenario's noise source."""
    seed = loaded.scenario.noise.seed
    return SystemNoise() if seed is None else SimulatedNoise(seed)


def _run(
    loaded: LoadedScenario, layout: Layout, homes: list[NodeHome], document: bytes, watch: Watch
) -> SignedSegmentation:
    roster = {home.settings.unit: number for number, home in enumerate(homes, 1)}
    configs = {number: {"home": str(home.path)} for number, home in enumerate(homes, 1)}
    grid = LoopbackGrid(make_client_app(noise_source(loaded)), configs)
    server = ServerHome.open(layout.server)
    try:
        return run_plan(grid, server, document, roster=roster, watch=watch, clock=grid.clock, sleep=grid.sleep)
    except RoundError:
        # Units do not tell the server why they do not answer. Here their disks are ours, so a full one can be named.
        for home in homes:
            _require_room(home.path)
        raise


def _require_room(place: Path) -> None:
    """Refuse a disk without room for a commit.

    Raises:
        StorageError: If it is full or read-only.
    """
    with storage_errors(place), tempfile.TemporaryFile(dir=place) as probe:
        probe.write(bytes(ROOM_BYTES))
        probe.flush()


def _verify(layout: Layout, plan: Plan, signed: SignedSegmentation) -> tuple[tuple[LedgerFacts, ...], bool]:
    units = tuple(verify_ledger(layout.node(unit.name) / "ledger.db") for unit in plan.units)
    server = verify_ledger(layout.server / "ledger.db")
    check_against_units(server, units, plan)
    return units, recompute_segmentation(server, plan) == signed


def _require_same_plan(homes: list[NodeHome], plan: Plan) -> None:
    """A run directory belongs to one plan: refuse one that was edited after a unit had approved it."""
    for home in homes:
        with home.ledger() as ledger:
            agreed = set(PrivacyAccount(ledger).state().reservations)
        if agreed - {plan.digest}:
            raise PlanMismatchError(
                "plan.toml is not the plan the units agreed to",
                why=f"its hash begins {plan.digest[:16]}, the approved one {min(agreed - {plan.digest})[:16]}",
                fix="restore plan.toml, or start a new run in another --out",
            )
