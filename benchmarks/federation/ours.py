"""fedseg's deployment, set up and run by its own commands, all of it as the calling user.

What is measured is read off the server's ledger as it grows: the plan is logged when the first round begins, a
contribution when it arrives, a round when all replies are in.
"""

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from benchmarks.federation.measured import Run
from benchmarks.federation.processes import environment, free_port, run, wait_until
from fedseg.clustering.schedule import Profile
from fedseg.federation.runner import LEAST_SLOT_SECONDS
from fedseg.node.home import NodeHome
from fedseg.node.source import subject_key
from fedseg.plan import parse_plan
from fedseg.policy.consent import ConsentEvent
from fedseg.server.home import ServerHome

HOST = "127.0.0.1"
CUSTOMERS = 1000
"""Of each unit."""
SEGMENTS, FEATURES = 8, ("visits", "spend", "visits_online", "spend_online", "returns", "discount", "recency")
"""A refinement sends about as many numbers as stock Flower's array: 8 segments, each a count, 7 features and an energy.
The two sketches of a plan send far more, its first rounds fewer."""
REPLY_SLOT_SECONDS = LEAST_SLOT_SECONDS
"""The shortest that a deployed unit keeps to hide how long it worked; every round waits for it."""
DEADLINE_SECONDS = 120
WATCH_SECONDS = 0.05
"""Between two looks at the ledger."""
PURPOSE = "fedseg:SegmentStatistics"
POLICY = f"""
version: 1
id: benchmark
controller: Benchmark, made-up customers
default: deny
purposes:
  {PURPOSE}:
    broader: dpv:ServiceUsageAnalytics
    basis: dpv:Consent
    require: {{status: [given, renewed], max_age_days: 730, notice_min_version: 1}}
    veto: [objection, restriction, suppressed, minor]
    columns: {{allow: [{", ".join(FEATURES)}]}}
    min_cohort: 20
budget: {{unit: customer, neighbours: add-or-remove-one, rho_cap: "10/1", delta: "1/1000000"}}
retention: {{raw_days: 730, consent_evidence_days: 1095}}
trust_models: [unit-noise]
"""


@dataclass(frozen=True, slots=True)
class OurFederation:
    """A running server and its nodes, all online."""

    folder: Path
    units: Sequence[str]

    @property
    def server(self) -> Path:
        """The server's directory."""
        return self.folder / "server"

    def measure(self, profile: Profile) -> Run:
        """Have every unit approve a plan, and run it."""
        plan = self.folder / "plan.toml"
        plan.write_text(tomli_w.dumps(self._plan(profile)), encoding="utf-8")
        rounds = parse_plan(plan.read_bytes()).rounds
        for unit in self.units:
            fedseg("approve", str(plan), "--node", str(self.folder / unit / "unit"), "--yes")
        with _watching(self.server) as seen:
            submitted = time.monotonic()
            job = fedseg("job", "submit", str(plan), "--server", str(self.server))["id"]
            fedseg("job", "wait", job, "--server", str(self.server), "--timeout", str(rounds * DEADLINE_SECONDS))
            finished = time.monotonic()
        closed = [*seen["plan"], *seen["round"]]
        if len(closed) != 1 + rounds:
            raise RuntimeError(f"the server's ledger shows {len(closed) - 1} of {rounds} rounds")
        took = tuple(later - earlier for earlier, later in itertools.pairwise(closed))
        return Run(submitted, seen["contribution"][0], took, finished)

    def online(self) -> int:
        """How many nodes are connected."""
        return sum(node["online"] for node in fedseg("server", "status", str(self.server))["nodes"])

    def _plan(self, profile: Profile) -> dict[str, Any]:
        homes = [NodeHome.open(self.folder / unit / "unit") for unit in self.units]
        return {
            "version": 1,
            "name": "benchmark",
            "purpose": PURPOSE,
            "trust": "unit-noise",
            "k": SEGMENTS,
            "quorum": len(homes),
            "deadline_seconds": DEADLINE_SECONDS,
            "reply_slot_seconds": REPLY_SLOT_SECONDS,
            "max_units_per_customer": len(homes),
            "min_segment_size": 20,
            "budget": {"epsilon": "4/1", "delta": "1/1000000"},
            "algorithm": {
                "name": "cells",
                "seed": 7,
                "expected_customers": CUSTOMERS * len(homes),
                "profile": profile.value,
            },
            "features": [{"name": one, "label": one, "lower": 0, "upper": 100, "missing": 50} for one in FEATURES],
            "units": [{"name": home.settings.unit, "public_key": home.key.public.to_text()} for home in homes],
        }


def fedseg(*command: str) -> Any:
    """What one of fedseg's commands says in JSON."""
    return json.loads(run(["fedseg", *command, "--format", "json"], environment()))["data"]


@contextlib.contextmanager
def our_federation(folder: Path, nodes: int) -> Generator[OurFederation]:
    """A federation with everything it writes in `folder`; all its processes have ended afterwards."""
    folder.mkdir()
    federation = OurFederation(folder, [f"u{number}" for number in range(nodes)])
    server, address = str(federation.server), f"{HOST}:{free_port()}"
    (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
    with contextlib.ExitStack() as stop:
        fedseg("server", "init", server, "--host", HOST, "--listen", address, "--single-user", "--single-operator")
        stop.callback(fedseg, "server", "stop", server)
        fedseg("server", "start", server)
        for number, unit in enumerate(federation.units):
            node = folder / unit
            _make_node(federation, unit, number, address)
            asked = fedseg("node", "request", str(node))
            fedseg("server", "approve", server, asked["request"], "--fingerprint", asked["fingerprint"])
            stop.callback(fedseg, "node", "stop", str(node))
            fedseg("node", "start", str(node))
        wait_until(lambda: federation.online() == nodes, f"{nodes} nodes online")
        yield federation


def _make_node(federation: OurFederation, unit: str, number: int, address: str) -> None:
    """A node with made-up customers, all of whom consent."""
    node, data = federation.folder / unit, federation.folder / f"{unit}.csv"
    names = [f"{unit}-{customer}" for customer in range(CUSTOMERS)]
    rows = np.random.default_rng(number).uniform(0, 100, (CUSTOMERS, len(FEATURES)))
    lines = [f"{name},{','.join(f'{value:.3f}' for value in row)}" for name, row in zip(names, rows, strict=True)]
    data.write_text("\n".join([",".join(("customer", *FEATURES)), *lines, ""]), encoding="utf-8")
    fedseg(
        *("node", "init", str(node), "--unit", unit, "--server", address),
        *("--ca", str(federation.server / "ca.crt"), "--policy", str(federation.folder / "policy.yaml")),
        *("--data", str(data), "--subject", "customer", "--single-user"),
    )
    home, now = NodeHome.open(node / "unit"), datetime.now(UTC)
    asked, until = now - timedelta(days=1), now + timedelta(days=1)
    with home.register() as register:
        register.append_events(
            ConsentEvent(subject_key(name.encode(), home.subject_secret), PURPOSE, "given", asked, asked, until, 1)
            for name in names
        )


@contextlib.contextmanager
def _watching(server: Path) -> Generator[dict[str, list[float]]]:
    """By kind of entry, when each was seen first in the server's ledger during the block."""
    ledger = ServerHome.open(server / "server").ledger()
    seen: dict[str, list[float]] = {"plan": [], "contribution": [], "round": []}
    known, ended = len(ledger.entries()), threading.Event()

    def watch() -> None:
        nonlocal known
        over = False
        while not over:
            over = ended.wait(WATCH_SECONDS)
            entries, now = ledger.entries(), time.monotonic()
            for entry in entries[known:]:
                seen.setdefault(entry.kind, []).append(now)
            known = len(entries)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()
        ledger.close()
