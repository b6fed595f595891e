"""A federation of a few units with a few hundred made-up customers, on disk and ready to run: for tests of every area.

Homes, keys, registers, ledgers and apps are the real ones. A unit's customers are a CSV file that a test may rewrite.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from flwr.app import Message
from flwr.serverapp import Grid

from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.request import RoundRequest, request_bytes
from fedseg.federation import wire
from fedseg.federation.client_app import Processes, make_client_app
from fedseg.federation.loopback import LoopbackGrid
from fedseg.node.approvals import approve
from fedseg.node.home import LOCAL, NodeHome, NodeSettings
from fedseg.node.source import subject_key
from fedseg.node.sources.settings import SourceSettings
from fedseg.node.witnessing import NodeProcess
from fedseg.plan import Plan, parse_plan
from fedseg.policy.consent import ConsentEvent
from fedseg.policy.purposes import Purpose
from fedseg.privacy.noise import NoiseSource, SimulatedNoise
from fedseg.server.home import ServerHome

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
FEATURES = ("visits", "spend")
CUSTOMERS_FILE = f"{LOCAL}/customers.csv"

POLICY = """
version: 1
id: small
controller: Small Retail, Example City
default: deny
purposes:
  fedseg:SegmentStatistics:
    broader: dpv:ServiceUsageAnalytics
    basis: dpv:Consent
    require:
      status: [given, renewed]
      max_age_days: 7300
      notice_min_version: 1
    veto: [objection, restriction, suppressed, minor]
    columns:
      allow: [{columns}]
    min_cohort: {min_cohort}
budget:
  unit: customer
  neighbours: add-or-remove-one
  rho_cap: "{rho_cap}"
  delta: "1/1000000"
retention:
  raw_days: 730
  consent_evidence_days: 1095
trust_models: [unit-noise, secure-aggregation]
"""


def policy_document(
    *, columns: Sequence[str] = FEATURES, min_cohort: int = 5, rho_cap: str = "4/1", approvals: str = ""
) -> bytes:
    """A policy that allows these columns for segment statistics; `approvals` is that part of it, as YAML."""
    text = POLICY.format(columns=", ".join(columns), min_cohort=min_cohort, rho_cap=rho_cap)
    return (text + approvals).encode()


def plan_terms(units: Iterable[Mapping[str, str]], **changes: Any) -> dict[str, Any]:
    """A plan as TOML has it, of three segments, two features and three rounds, with `changes` at its top level."""
    named = [dict(unit) for unit in units]
    terms: dict[str, Any] = {
        "version": 1,
        "name": "small",
        "purpose": str(Purpose.SEGMENT_STATISTICS),
        "trust": "unit-noise",
        "k": 3,
        "quorum": max(1, len(named) - 1),
        "deadline_seconds": 60,
        "reply_slot_seconds": 0,
        "max_units_per_customer": len(named),
        "min_segment_size": 5,
        "budget": {"epsilon": "4/1", "delta": "1/1000000"},
        "algorithm": {
            "name": "cells",
            "seed": 7,
            "expected_customers": 200,
            "profile": "short",
        },
        "features": [
            {"name": name, "label": f"{name} a year", "lower": 0, "upper": 100, "missing": 50} for name in FEATURES
        ],
        "units": named,
    }
    return terms | changes


def customers_csv(rows: Iterable[tuple[str, Sequence[object]]], features: Sequence[str] = FEATURES) -> bytes:
    """A CSV file with a line for each customer."""
    lines = [",".join(("customer", *features)), *(",".join((name, *map(str, cells))) for name, cells in rows)]
    return "".join(f"{line}\n" for line in lines).encode()


def names_of(unit: str, count: int) -> list[str]:
    """Identifiers of a unit's customers."""
    return [f"{unit}-{number}" for number in range(count)]


def blobs(count: int, seed: int) -> list[tuple[float, float]]:
    """Points around three centers, within the plan's bounds."""
    coins = np.random.default_rng(seed)
    centers = np.array([[20.0, 25.0], [75.0, 30.0], [50.0, 80.0]])
    points = centers[coins.integers(3, size=count)] + coins.normal(scale=4.0, size=(count, 2))
    return [(round(visits, 3), round(spend, 3)) for visits, spend in np.clip(points, 0, 100).tolist()]


def make_unit(path: Path, name: str, *, consenting: Iterable[str], customers: bytes, policy: bytes) -> NodeHome:
    """A unit's home, with these customers in its file and these identifiers consenting in its register."""
    source = SourceSettings(path=CUSTOMERS_FILE, format="csv", subject="customer")
    home = NodeHome.create(path, NodeSettings(version=1, unit=name, source=source), policy=policy)
    (path / CUSTOMERS_FILE).write_bytes(customers)
    asked = NOW - timedelta(days=30)
    with home.register() as register:
        register.append_events(
            event
            for one in consenting
            for event in consents(subject_key(one.encode(), home.subject_secret), asked, NOW + timedelta(days=36500))
        )
    return home


def consents(subject: bytes, asked: datetime, until: datetime) -> list[ConsentEvent]:
    """What a customer who agreed to be counted has in the register."""
    return [
        ConsentEvent(
            subject=subject,
            purpose=str(Purpose.SEGMENT_STATISTICS),
            kind="given",
            event_time=asked,
            recorded_at=asked,
            valid_until=until,
            notice_version=1,
        )
    ]


@dataclass(frozen=True, slots=True)
class SmallFederation:
    """Units, server and plan in one directory."""

    path: Path
    document: bytes
    """The plan's TOML."""
    processes: Processes = field(default_factory=lambda: defaultdict(NodeProcess))
    """As which processes the units answer, in every `grid`."""

    @property
    def plan(self) -> Plan:
        """The plan."""
        return parse_plan(self.document)

    @property
    def server(self) -> ServerHome:
        """The server's home."""
        return ServerHome.open(self.path / "server")

    @property
    def homes(self) -> list[NodeHome]:
        """The units' homes, in the plan's order."""
        return [self.home(unit.name) for unit in self.plan.units]

    @property
    def roster(self) -> dict[str, int]:
        """Which node of `grid()` is which unit."""
        return {unit.name: number for number, unit in enumerate(self.plan.units, 1)}

    def home(self, unit: str) -> NodeHome:
        """A unit's home."""
        return NodeHome.open(self.path / unit)

    def customers_file(self, unit: str) -> Path:
        """Where a unit's customers are."""
        return self.path / unit / CUSTOMERS_FILE

    def approve_all(self) -> "SmallFederation":
        """Have every unit approve the plan."""
        for home in self.homes:
            approve(home, self.plan, self.document, now=NOW)
        return self

    def grid(self, noise: NoiseSource | None = None) -> LoopbackGrid:
        """The units behind Flower's transport, with simulated noise unless told otherwise; node 1 is the first unit."""
        configs = {number: {"home": str(self.home(unit).path)} for unit, number in self.roster.items()}
        source = SimulatedNoise(3) if noise is None else noise
        return LoopbackGrid(make_client_app(source, processes=self.processes), configs)

    def copied_to(self, path: Path) -> "SmallFederation":
        """The same federation once more: same keys, same ledgers, same customers."""
        shutil.copytree(self.path, path)
        return SmallFederation(path, self.document)


def make_federation(
    path: Path, sizes: Mapping[str, int], *, policy: bytes | None = None, **changes: Any
) -> SmallFederation:
    """Make units of these sizes, whose customers all consent, a server, and a plan; nothing is approved yet."""
    homes = [
        make_unit(
            path / name,
            name,
            consenting=names_of(name, size),
            customers=customers_csv(zip(names_of(name, size), blobs(size, seed), strict=True)),
            policy=policy_document() if policy is None else policy,
        )
        for seed, (name, size) in enumerate(sizes.items())
    ]
    ServerHome.create(path / "server")
    units = [{"name": home.settings.unit, "public_key": home.key.public.to_text()} for home in homes]
    return SmallFederation(path, tomli_w.dumps(plan_terms(units, **changes)).encode())


def some_request(plan: Plan, step: int, seed: int = 0) -> RoundRequest:
    """A request of this step that fits the plan, from public coins."""
    coins = np.random.default_rng([seed, step])
    shape = (plan.terms[step].cells, plan.dimensions)
    return RoundRequest(
        step,
        coins.integers(-FEATURE_MAX, FEATURE_MAX, shape, np.int32, endpoint=True),
        coins.integers(1, FEATURE_MAX, shape[0], np.int32, endpoint=True),
    )


def ask(grid: Grid, plan: Plan, request: RoundRequest) -> list[bytes]:
    """Every unit's reply to a request, in the order of the nodes."""
    content = wire.pack(request_bytes(plan.digest, request))
    messages = [Message(content, node, wire.MESSAGE_TYPE) for node in sorted(grid.get_node_ids())]
    return [wire.unpack_reply(reply) for reply in grid.send_and_receive(messages)]
