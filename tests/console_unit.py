"""A unit with a history, two officers and something of everything that its console shows: for tests and pictures."""

import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import tomli_w

from fedseg.clustering.request import request_sha256
from fedseg.ledger.keys import SigningKey
from fedseg.node.approvals import approve, deny
from fedseg.node.contribute import contribute
from fedseg.node.home import NodeHome
from fedseg.node.inbox import Inbox
from fedseg.node.rights.requests import Order, receive
from fedseg.plan import Plan, parse_plan
from fedseg.policy.document import load_policy
from fedseg.policy.rights import Regulation, Right
from fedseg.privacy.noise import SystemNoise
from fedseg.privacy.signatures import Officer, add_policy_signature, sign_plan, sign_policy
from fedseg.segments.segmentation import Findings, Segment, Segmentation, SignedSegmentation
from tests.small_federation import make_federation, plan_terms, policy_document, some_request

OFFICERS = ("ann", "bob")


@dataclass(frozen=True)
class Names:
    """What others have called their things."""

    plans: tuple[str, str, str] = ("spring", "summer", "winter")
    features: tuple[str, str] = ("visits a year", "spend a year")
    ticket: str = "DSR-2041"
    segment: str = "often here, spends much"


@dataclass(frozen=True)
class ConsoleUnit:
    """The unit."""

    folder: Path
    home: NodeHome
    waiting: tuple[Plan, ...]
    """Plans in the inbox; the second has been refused once."""
    segments: Path
    approved: tuple[Plan, ...] = ()
    """Plans of the past: one is finished, of the other one round of three was sent."""

    def key(self, officer: str) -> Path:
        """An officer's key file."""
        return self.folder / f"{officer}.key"

    def officer(self, name: str) -> Officer:
        """An officer."""
        return Officer(name, SigningKey.load(self.key(name)))

    def kinds(self) -> list[str]:
        """Kinds of the ledger's entries."""
        with self.home.ledger() as ledger:
            return [entry.kind for entry in ledger.entries()]


def make_console_unit(folder: Path, now: datetime, names: Names | None = None, required: int = 2) -> ConsoleUnit:
    """Make it. `now` is when somebody will look at it."""
    called = names or Names()
    federation = make_federation(folder / "units", {"north": 60}, policy=_policy(folder, required))
    home = federation.home("north")
    officers = [Officer(name, SigningKey.load(folder / f"{name}.key")) for name in OFFICERS]
    digest = load_policy(home.policy_document()).digest
    for one in officers:
        add_policy_signature(home.path / "policy.yaml", sign_policy(digest, one.name, one.key))
    approved: list[Plan] = []
    for days, epsilon, rounds, name in ((120, "1/1", 3, called.plans[0]), (30, "3/2", 1, called.plans[1])):
        document = _plan(home, name=name, budget={"epsilon": epsilon, "delta": "1/1000000"})
        for one in officers[:required]:
            approve(home, parse_plan(document), document, now=now - timedelta(days=days), officer=one)
        for step in range(rounds):
            _answer(home, parse_plan(document), step, now - timedelta(days=days - 7 * (step + 1)))
        approved.append(parse_plan(document))
    waiting = [
        _plan(home, name=called.plans[2], features=_features(called), budget={"epsilon": "1/2", "delta": "1/1000000"}),
        _plan(home, name="refused-once", budget={"epsilon": "1/4", "delta": "1/1000000"}),
        _plan(home, name="too-dear", budget={"epsilon": "9/1", "delta": "1/1000000"}),
    ]
    requester = SigningKey.load(folder / "marketing.key")
    for document in waiting:
        Inbox(home).add(document, sign_plan(parse_plan(document).digest, requester))
    plans = tuple(parse_plan(one) for one in waiting)
    deny(home, plans[1].digest, "not this year", now=now - timedelta(days=2), officer=officers[0])
    _ask(home, called, now)
    return ConsoleUnit(folder, home, plans, _publish(folder, home, called), tuple(approved))


@contextmanager
def running_console(unit: ConsoleUnit, officer: str) -> Generator[str]:
    """`fedseg console` as an officer starts it; yields its link."""
    proof = ["--officer", officer, "--officer-key", unit.key(officer), "--segments", unit.segments]
    command = [sys.executable, "-m", "fedseg", "console", "--node", unit.home.path, *proof]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            assert started.stdout is not None
            assert started.stderr is not None
            yield started.stdout.readline().strip() or started.stderr.read()
        finally:
            started.terminate()
            started.communicate(timeout=20)


def _policy(folder: Path, required: int) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    keys = {name: SigningKey.generate() for name in (*OFFICERS, "marketing")}
    for name, key in keys.items():
        key.save(folder / f"{name}.key")
    public = {name: key.public.to_text() for name, key in keys.items()}
    named = "".join(f"    {name}: '{public[name]}'\n" for name in OFFICERS)
    requesters = f"  requesters:\n    marketing:\n      public_key: '{public['marketing']}'\n"
    return policy_document(
        rho_cap="1/5", approvals=f"approvals:\n  officers:\n{named}  required: {required}\n{requesters}"
    )


def _plan(home: NodeHome, **changes: Any) -> bytes:
    units = [{"name": home.settings.unit, "public_key": home.key.public.to_text()}]
    return tomli_w.dumps(plan_terms(units, **changes)).encode()


def _features(called: Names) -> list[Mapping[str, Any]]:
    return [
        {"name": name, "label": label, "lower": 0, "upper": 100, "missing": 50}
        for name, label in zip(("visits", "spend"), called.features, strict=True)
    ]


def _answer(home: NodeHome, plan: Plan, step: int, now: datetime) -> None:
    request = some_request(plan, step)
    contribute(home, plan.digest, request, request_sha256(plan.digest, request), now=now, source=SystemNoise())


def _ask(home: NodeHome, called: Names, now: datetime) -> None:
    """Three requests: one is late, one is due soon, one waits for a proof of identity."""
    for number, (days, right, ticket) in enumerate(
        ((40, Right.ACCESS, "DSR-2017"), (26, Right.ERASURE, called.ticket), (3, Right.OBJECTION, "DSR-2050"))
    ):
        received = (now - timedelta(days=days)).date()
        noted = receive(home, Order([f"north-{number}".encode()], ticket, Regulation.GDPR, received), right, now)
        if right is Right.OBJECTION:
            with home.rights() as rights:
                rights.change([one.id for one in noted], lambda one: one.ask_identity(now.date()))


def _publish(folder: Path, home: NodeHome, called: Names) -> Path:
    """A result, as a server signs it."""
    plan = _plan(home, name=called.plans[0], budget={"epsilon": "1/1", "delta": "1/1000000"})
    shown = [_segment(called.segment, 4210), _segment("seldom here", 1730), _segment("a few", None)]
    signed = SignedSegmentation.sign(
        Segmentation(
            version=1,
            name=called.plans[0],
            plan_sha256=parse_plan(plan).digest,
            algorithm="cells",
            trust="unit-noise",
            epsilon="1/1",
            delta="1/1000000",
            rho="1/50",
            rounds=3,
            units=(home.settings.unit,),
            noise="system",
            segments=tuple(shown),
            bounds=(),
            other=None,
            findings=Findings(choice=None, merges=(), alike=(), mixed=()),
        ),
        SigningKey.generate(),
    )
    path = folder / "segmentation.json"
    path.write_bytes(signed.to_json())
    return path


def _segment(name: str, size: int | None) -> Segment:
    return Segment(
        name=name,
        suppressed=size is None,
        size=size,
        size_interval=None if size is None else (size - 180, size + 180),
        above_noise=size is not None,
        clipped=False,
        stability=None if size is None else 0.9,
        stable=size is not None,
        values=(),
        encoded_center=(),
    )
