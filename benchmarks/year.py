"""A federation's year of daily plans, made by the real code with a clock of its own, in memory: no disk, no network.

Policies, approvals, refusals, noise, charges, signatures, rounds and publications are the product's. What is left out
changes no ledger: tables in files, consent registers, and messages.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tomli_w

import fedseg
from fedseg.audit.archive import Member, Role
from fedseg.audit.bundle import write_bundle
from fedseg.clustering.encode import encode
from fedseg.clustering.request import RoundRequest, request_sha256
from fedseg.clustering.statistics import summarize
from fedseg.columns import numbers
from fedseg.ledger.export import export_ledger
from fedseg.ledger.journal import MemoryLedger
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.raw import RawLedger
from fedseg.plan import Plan, caps_of, parse_plan
from fedseg.policy.document import Policy, load_policy
from fedseg.policy.gate import Decisions, admit
from fedseg.privacy.account import PlanTerms, PrivacyAccount
from fedseg.privacy.entries import Ending
from fedseg.privacy.noise import Noise, NoiseSource, SystemNoise
from fedseg.privacy.release import ReleaseTicket, release
from fedseg.segments.segmentation import SignedSegmentation
from fedseg.server.contribution import parse_contribution
from fedseg.server.rounds import accept, close_round, finished, persist_contribution, persist_round, start_run
from fedseg.table import SUBJECT, Table, table_schema

FEATURES = ("visits", "spend")
PURPOSE = "fedseg:SegmentStatistics"
CUSTOMERS = 300
SETTINGS = hashlib.sha256(b"the unit's source settings").hexdigest()
EPSILON_A_DAY = Fraction(1, 2)
MONTH = 30

POLICY = """
version: 1
id: daily
controller: Daily Retail, Example City
default: deny
purposes:
  fedseg:SegmentStatistics:
    broader: dpv:ServiceUsageAnalytics
    basis: dpv:Consent
    require: {{status: [given, renewed], max_age_days: 730, notice_min_version: {notice}}}
    veto: [objection, restriction, suppressed, minor]
    columns: {{allow: [visits, spend]}}
    min_cohort: 20
budget:
  unit: customer
  neighbours: add-or-remove-one
  rho_cap: "{rho_cap}"
  delta: "1/1000000"
retention: {{raw_days: 730, consent_evidence_days: 1095}}
trust_models: [unit-noise]
"""


@dataclass
class Unit:
    """A unit with its ledger in memory."""

    name: str
    rows: int
    noise: NoiseSource
    key: SigningKey = field(default_factory=SigningKey.generate)

    def __post_init__(self) -> None:
        self.ledger = MemoryLedger(
            origin=f"fedseg/unit/{self.name}", key=self.key, body={"role": "unit", "unit": self.name}
        )
        self.account = PrivacyAccount(self.ledger)
        self.payloads = list[str]()
        coins = np.random.default_rng(self.rows)
        centers = np.array([[20.0, 25.0], [75.0, 30.0], [50.0, 80.0]])
        points = centers[coins.integers(3, size=self.rows)] + coins.normal(scale=4.0, size=(self.rows, 2))
        subjects = pa.array([coins.bytes(16) for _ in range(self.rows)], pa.binary(16))
        batch = pa.record_batch(
            [subjects, pa.array(points[:, 0]), pa.array(points[:, 1])], schema=table_schema(numbers(*FEATURES))
        )
        self.table = Table(numbers(*FEATURES), lambda: iter([batch]))
        self.subjects = batch.column(SUBJECT)

    def adopt(self, document: bytes) -> None:
        """Take up a policy."""
        self.policy: Policy = load_policy(document)
        self.account.adopt_policy(caps_of(self.policy), policy_id=self.policy.id, document=document)
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        codes = np.zeros(self.rows, np.uint8)
        self.decisions = Decisions.over(self.subjects, codes, moment, PURPOSE, self.policy.digest)

    def approve(self, plan: Plan, document: bytes, day: str) -> None:
        """Reserve a plan's price."""
        terms = PlanTerms(
            plan.digest, document, plan.purpose, plan.step_rhos, SETTINGS, max_units_attested=plan.max_units_to_attest
        )
        self.account.approve(terms, day=day)

    def answer(self, plan: Plan, request: RoundRequest, day: str) -> bytes:
        """Release what a round asks for."""
        terms = plan.terms[request.step]
        ticket = ReleaseTicket(
            plan_sha256=plan.digest,
            unit=self.name,
            unit_index=plan.unit_index(self.name) or 0,
            step=request.step,
            request_sha256=request_sha256(plan.digest, request),
            cells=terms.cells,
            width=terms.width,
            lattice=terms.lattice.facts,
            policy_sha256=self.policy.digest,
            gate_commitment=self.decisions.commitment(bytes(32), self.policy.digest),
            software=f"fedseg {fedseg.__version__}",
            day=day,
        )
        noise = Noise.draw(terms.mechanism, terms.length, self.noise)
        table = encode(admit(self.table, self.decisions, self.policy, PURPOSE), plan.encoders)
        return release(summarize(table, request, terms.lattice), noise, self.account, ticket, self.key).payload


@dataclass(frozen=True, slots=True)
class Year:
    """What a year has left."""

    units: Sequence[Unit]
    server: MemoryLedger
    members: tuple[Member, ...]

    def write(self, out: Path) -> Path:
        """The bundle of it."""
        write_bundle(list(self.members), out)
        return out


def make_year(
    days: int,
    units: int = 10,
    *,
    start: date = date(2026, 1, 1),
    profile: str = "short",
    month: int = MONTH,
    noise: NoiseSource | None = None,
    rho_caps: tuple[str, str] = ("8/1", "10/1"),
) -> Year:
    """One plan a day, answered by all units; policies change in the middle, some plans are refused, one is revoked.

    Each unit's process is started on the first day, which has rights requests, and once more in the middle.

    Args:
        days: How many.
        units: How many of them.
        start: The first day.
        profile: Of the plans' rounds.
        month: In the middle of so many days a plan is refused, and another approved and revoked.
        noise: The system's, unless said.
        rho_caps: The limit of all units' first policy, and of the one from the middle on.
    """
    source, key = noise or SystemNoise(), SigningKey.generate()
    everyone = [Unit(f"unit-{number}", CUSTOMERS + number, source) for number in range(units)]
    server, files = MemoryLedger(origin="fedseg/server", key=key, body={"role": "server"}), list[Member]()
    for number in range(days):
        day = (start + timedelta(days=number)).isoformat()
        if number in (0, days // 2):
            document = POLICY.format(notice=1 + (number > 0), rho_cap=rho_caps[number > 0]).encode()
            for unit in everyone:
                unit.account.log_start(f"{number:032x}", day=day)
                unit.adopt(document)
        plan_document = _plan(everyone, day, profile)
        plan = parse_plan(plan_document)
        if number == 0:
            for unit in everyone:
                unit.account.add_rights_batch(period=day, capacity=1, root=bytes(32))
        if number % month == month // 2:
            _say_no(everyone[number % units], everyone, day, profile)
        for unit in everyone:
            unit.approve(plan, plan_document, day)
        signed = _run(server, everyone, (plan, plan_document), day, key)
        folder = f"jobs/daily-{number:04d}"
        files += [
            Member(f"{folder}/plan.toml", Role.PLAN, plan_document),
            Member(f"{folder}/segmentation.json", Role.SEGMENTATION, signed.to_json()),
        ]
    files += [
        Member(f"units/{unit.name}/ledger.txt", Role.LEDGER, export_ledger(_raw(unit.ledger))) for unit in everyone
    ]
    return Year(everyone, server, (*files, Member("server/ledger.txt", Role.LEDGER, export_ledger(_raw(server)))))


def _say_no(one: Unit, everyone: Sequence[Unit], day: str, profile: str) -> None:
    """Refuse a plan, and revoke the approval of another that nobody has run."""
    refused, revoked = (parse_plan(_plan(everyone, f"{day}-{name}", profile)) for name in ("refused", "revoked"))
    one.account.refuse(refused.digest, day=day, reason_commitment=hashlib.sha256(day.encode()).hexdigest())
    one.approve(revoked, _plan(everyone, f"{day}-revoked", profile), day)
    one.account.close(revoked.digest, Ending.REVOKED, day=day)


def _run(
    server: MemoryLedger, units: Sequence[Unit], agreed: tuple[Plan, bytes], day: str, key: SigningKey
) -> SignedSegmentation:
    """The server's side of a plan, as `federation.server_app` does it."""
    plan, document = agreed
    with server.transaction() as transaction:
        transaction.append("plan", {"plan_sha256": plan.digest}, payload=(f"plan:{plan.digest}", document))
    run = start_run(plan)
    while (request := run.request) is not None:
        for unit in units:
            contribution = parse_contribution(unit.answer(plan, request, day), plan)
            run = accept(run, contribution)
            persist_contribution(server, contribution)
        closed = close_round(run)
        persist_round(server, run)
        run = closed
    signed = SignedSegmentation.sign(finished(run), key)
    with server.transaction() as transaction:
        transaction.append(
            "publication",
            {"plan_sha256": plan.digest, "units": [*signed.segmentation.units]},
            payload=(f"segmentation:{plan.digest}", signed.to_json()),
        )
    return signed


def _plan(units: Sequence[Unit], name: str, profile: str) -> bytes:
    terms: dict[str, Any] = {
        "version": 1,
        "name": f"daily-{name}",
        "purpose": PURPOSE,
        "trust": "unit-noise",
        "k": 3,
        "quorum": max(1, len(units) - 1),
        "deadline_seconds": 60,
        "reply_slot_seconds": 0,
        "max_units_per_customer": 1,
        "min_segment_size": 5,
        "budget": {"epsilon": f"{EPSILON_A_DAY.numerator}/{EPSILON_A_DAY.denominator}", "delta": "1/1000000"},
        "algorithm": {"name": "cells", "seed": 7, "expected_customers": CUSTOMERS * len(units), "profile": profile},
        "features": [
            {"name": one, "label": f"{one} a year", "lower": 0, "upper": 100, "missing": 50} for one in FEATURES
        ],
        "units": [{"name": one.name, "public_key": one.key.public.to_text()} for one in units],
    }
    return tomli_w.dumps(terms).encode()


def _raw(ledger: MemoryLedger) -> RawLedger:
    """The ledger as a reader of its file would have it."""
    entries = ledger.entries()
    ids = [one.payload.id for one in entries if one.payload is not None]
    payloads = {id_: data for id_ in ids if (data := ledger.payload(id_)) is not None}
    sizes = _sizes(ledger.notes)
    return RawLedger.from_parts(
        [one.to_bytes() for one in entries], list(zip(sizes, ledger.notes, strict=True)), payloads
    )


def _sizes(notes: Sequence[str]) -> list[int]:
    """How many entries each checkpoint covers: its second line."""
    return [int(note.split("\n")[1]) for note in notes]
