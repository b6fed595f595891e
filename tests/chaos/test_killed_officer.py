"""An officer's process dies at any point while a plan is approved, refused or revoked: all of it is logged, or nothing."""

import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest

from fedseg.ledger.keys import SigningKey
from fedseg.node.approvals import approve, deny, end_approval
from fedseg.node.home import NodeHome
from fedseg.policy.document import load_policy
from fedseg.privacy.entries import Ending
from fedseg.privacy.signatures import Officer, add_policy_signature, sign_policy
from tests.chaos.conftest import Point, Unit, run_in_process

ACCOUNT = "fedseg.privacy.account"
CONNECTIONS = "fedseg.ledger.store:connect"

BEFORE_COMMIT = [
    Point("transaction begun", f"{ACCOUNT}:PrivacyAccount.state_in", "before", call=2),
    Point("decision checked", f"{ACCOUNT}:require_decided"),
    Point("decision appended", "fedseg.ledger.journal:Transaction.append"),
    Point("consequence appended", "fedseg.ledger.journal:Transaction.append", call=2),
    Point("checkpoint signed", "fedseg.ledger.store:note_over"),
    Point("entries about to be written", CONNECTIONS, sql="INSERT INTO leaf"),
    Point("checkpoint about to be written", CONNECTIONS, sql="INSERT INTO checkpoint"),
    Point("about to commit", CONNECTIONS, sql="COMMIT"),
]
AFTER_COMMIT = [
    Point("committed", CONNECTIONS, sql="PRAGMA wal_checkpoint"),
    Point("log moved into the main file", "fedseg.ledger.store:_write"),
]

every_point = pytest.mark.parametrize(
    ("point", "committed"),
    [(point, point in AFTER_COMMIT) for point in BEFORE_COMMIT + AFTER_COMMIT],
    ids=[point.name.replace(" ", "-") for point in BEFORE_COMMIT + AFTER_COMMIT],
)


@dataclass(frozen=True)
class Desk:
    """A unit whose policy asks for two officers, of whom the first has approved the plan."""

    unit: Unit
    second: Officer

    @property
    def home(self) -> NodeHome:
        return NodeHome.open(self.unit.home)

    def approve(self) -> bytes:
        approve(self.home, self.unit.plan, self.unit.document, now=now(), officer=self.second)
        return b"done"

    def deny(self) -> bytes:
        deny(self.home, self.unit.plan.digest, "no", now=now(), officer=self.second)
        return b"done"

    def revoke(self) -> bytes:
        end_approval(self.home, self.unit.plan.digest, Ending.REVOKED, now=now(), officer=self.second)
        return b"done"

    def kinds(self) -> list[str]:
        """What stands in the ledger, which verifies."""
        return [entry.kind for entry in self.unit.facts().raw.entries][1:]

    @property
    def reserved(self) -> Fraction:
        return self.unit.facts().account.rho_reserved


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def new_desk(new_unit: Callable[[], Unit], tmp_path: Path) -> Callable[[], Desk]:
    """Makes fresh copies of the unit and its two officers."""
    unit = new_unit()
    home = NodeHome.open(unit.home)
    officers = [Officer(name, SigningKey.generate()) for name in ("ann", "bob")]
    named = "".join(f"    {one.name}: '{one.key.public.to_text()}'\n" for one in officers)
    policy = unit.home / "policy.yaml"
    policy.write_bytes(home.policy_document() + f"approvals:\n  officers:\n{named}  required: 2\n".encode())
    digest = load_policy(home.policy_document()).digest
    for one in officers:
        add_policy_signature(policy, sign_policy(digest, one.name, one.key))
    assert approve(home, unit.plan, unit.document, now=now(), officer=officers[0]).waits_for == 1
    made = 0

    def make() -> Desk:
        nonlocal made
        made += 1
        copy = tmp_path / f"desk-{made}"
        shutil.copytree(unit.home, copy)
        return Desk(Unit(copy, unit.plan, unit.document), officers[1])

    return make


@pytest.mark.chaos
@every_point
@pytest.mark.parametrize("what", ["approve", "deny", "revoke"])
def test_an_officers_word_and_what_follows_from_it_are_logged_together_or_not_at_all(
    what: str, point: Point, new_desk: Callable[[], Desk], *, committed: bool
) -> None:
    desk = new_desk()
    if what == "revoke":
        desk.approve()
    before, price = desk.kinds(), sum(desk.unit.plan.step_rhos, Fraction(0))
    work = {"approve": desk.approve, "deny": desk.deny, "revoke": desk.revoke}[what]
    after = [*before, "decision", {"approve": "approval", "deny": "refusal", "revoke": "closing"}[what]]
    reserved = {"approve": (Fraction(0), price), "deny": (Fraction(0),) * 2, "revoke": (price, Fraction(0))}[what]

    killed = run_in_process(work, point)

    assert killed.code == -signal.SIGKILL, f"the process never came to {point.where}"
    assert desk.kinds() == (after if committed else before)
    assert desk.reserved == reserved[committed]
    if not committed:
        assert run_in_process(work).output == b"done"
        assert desk.kinds() == after
        assert desk.reserved == reserved[1]
