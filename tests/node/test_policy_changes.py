"""The policy and source in force bind every round: what was tightened after approval ends a plan, at the unit and for auditors."""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fedseg.audit.verify import verify_ledger
from fedseg.clustering.request import RoundRequest, request_sha256
from fedseg.errors import BudgetError, FedsegError, PlanMismatchError, PolicyError, VerificationError
from fedseg.federation import wire
from fedseg.node.approvals import approve, preflight
from fedseg.node.contribute import contribute
from fedseg.node.home import NodeHome
from fedseg.node.source import subject_key
from fedseg.plan import Plan, caps_of, parse_plan
from fedseg.policy.document import load_policy
from fedseg.policy.purposes import Purpose
from fedseg.privacy.account import PrivacyAccount
from fedseg.privacy.budget import fraction_text
from fedseg.privacy.noise import SimulatedNoise
from fedseg.privacy.release import Release
from tests.forged_ledger import Forgery, policy_line
from tests.small_federation import NOW, SmallFederation, ask, consents, customers_csv, policy_document, some_request

POLICY = policy_document()
ACTIVATION = b"""  fedseg:SegmentActivation:
    broader: dpv:TargetedAdvertising
    basis: dpv:Consent
    require: {status: [given, renewed], max_age_days: 7300, notice_min_version: 1}
    veto: [objection, restriction, suppressed, minor]
    columns: {allow: [visits, spend]}
    min_cohort: 1
budget:
"""


def limited(rho: Fraction) -> bytes:
    """The policy with a cap on segment statistics."""
    return POLICY.replace(b"    min_cohort: 5\n", f'    min_cohort: 5\n    rho_cap: "{fraction_text(rho)}"\n'.encode())


def capped(rho: Fraction) -> bytes:
    """The policy with this cap over everything."""
    return policy_document(rho_cap=fraction_text(rho))


def with_delta(delta: str) -> bytes:
    return POLICY.replace(b'delta: "1/1000000"', f'delta: "{delta}"'.encode())


def price(plan: Plan) -> Fraction:
    return sum(plan.step_rhos, Fraction(0))


def answer(home: NodeHome, plan: Plan, step: int, seed: int = 0) -> Release:
    request: RoundRequest = some_request(plan, step, seed)
    digest = request_sha256(plan.digest, request)
    return contribute(home, plan.digest, request, digest, now=NOW, source=SimulatedNoise(1))


def adopt(home: NodeHome, document: bytes) -> None:
    """Have a policy in force: in the file and in the ledger, as when another plan was approved under it."""
    (home.path / "policy.yaml").write_bytes(document)
    policy = load_policy(document)
    with home.ledger() as ledger:
        PrivacyAccount(ledger).adopt_policy(caps_of(policy), policy_id=policy.id, document=document)


def kinds(home: NodeHome) -> list[str]:
    with home.ledger() as ledger:
        return [entry.kind for entry in ledger.entries()]


def refused(home: NodeHome, plan: Plan, step: int, error: type[FedsegError], match: str) -> None:
    """Neither answered nor charged, whoever is in the data: there is none to read."""
    customers = home.path / home.settings.source.path
    kept, before = customers.read_bytes(), kinds(home)
    customers.unlink()
    with pytest.raises(error, match=match):
        answer(home, plan, step)
    customers.write_bytes(kept)
    assert kinds(home) == before
    verify_ledger(home.path / "ledger.db", home.key.public)


# Tightened after approval


def tighter(plan: Plan) -> dict[str, bytes]:
    """Policies that no longer allow an approved plan."""
    return {
        "a cap below its price": capped(price(plan) / 2),
        "a purpose limit below its price": limited(price(plan) / 2),
        "a smaller delta": with_delta("1/1000000000"),
        "a column less": policy_document(columns=["visits"]),
        "no unit noise": POLICY.replace(b"unit-noise, ", b""),
    }


TIGHTER = [
    "a cap below its price",
    "a purpose limit below its price",
    "a smaller delta",
    "a column less",
    "no unit noise",
]


@pytest.mark.parametrize("change", TIGHTER)
def test_a_policy_tightened_after_approval_ends_the_plan(federation: SmallFederation, change: str) -> None:
    home, plan = federation.home("north"), federation.plan
    first = answer(home, plan, 0)
    adopt(home, tighter(plan)[change])
    refused(home, plan, 1, PolicyError, "the policy in force says no")
    assert answer(home, plan, 0) == first  # what has left already may be asked for again, and costs nothing


@pytest.mark.parametrize("change", TIGHTER)
def test_an_auditor_finds_a_round_answered_against_a_tightened_policy(
    federation: SmallFederation, tmp_path: Path, change: str
) -> None:
    home, plan = federation.home("north"), federation.plan
    answer(home, plan, 0)
    forged = releases_under(federation, tighter(plan)[change], answered_before=1)
    with pytest.raises(VerificationError, match="entry 5 goes against the policy in force"):
        forged.verify(tmp_path / "forged.db")


def releases_under(federation: SmallFederation, document: bytes, *, answered_before: int) -> Forgery:
    """The ledger of a unit that logs a new policy after some rounds and then answers the others regardless."""
    home, plan = federation.home("north"), federation.plan
    for step in range(plan.rounds):
        answer(home, plan, step)
    with home.ledger() as ledger:
        forged = Forgery.of(ledger, home.key, role="unit", unit="north")
    place = len(forged.lines) - plan.rounds + answered_before
    forged.lines.insert(place, policy_line(document, place=place + 1))
    for line in forged.lines[place + 1 :]:
        line.body["policy_sha256"] = load_policy(document).digest
    return forged


def second_plan(federation: SmallFederation, **changes: Any) -> tuple[Plan, bytes]:
    document = tomli_w.dumps(tomllib.loads(federation.document.decode()) | {"name": "second"} | changes).encode()
    return parse_plan(document), document


@pytest.mark.parametrize("limit", [capped, limited], ids=["over everything", "for the purpose"])
def test_plans_approved_under_an_earlier_cap_together_spend_no_more_than_the_cap_in_force(
    federation: SmallFederation, limit: Callable[[Fraction], bytes]
) -> None:
    home, plan = federation.home("north"), federation.plan
    other, document = second_plan(federation)
    approve(home, other, document, now=NOW)
    cap = sum(plan.step_rhos[:2], price(other))
    adopt(home, limit(cap))
    for step in range(3):
        answer(home, other, step)
    for step in range(2):
        answer(home, plan, step)
    refused(home, plan, 2, BudgetError, "does not fit into the privacy budget")
    assert verify_ledger(home.path / "ledger.db", home.key.public).account.rho_spent == cap


@pytest.mark.parametrize("limit", [capped, limited], ids=["over everything", "for the purpose"])
def test_an_auditor_finds_plans_that_together_spent_more_than_the_cap_in_force(
    federation: SmallFederation, tmp_path: Path, limit: Callable[[Fraction], bytes]
) -> None:
    home, plan = federation.home("north"), federation.plan
    other, document = second_plan(federation)
    approve(home, other, document, now=NOW)
    for step in range(3):
        answer(home, other, step)
    # Enough for either plan, and for all of both but the last round.
    forged = releases_under(federation, limit(price(plan) + price(other) - Fraction(1, 2**48)), answered_before=0)
    with pytest.raises(VerificationError, match=r"entry 10 \(release\).*does not fit into the privacy budget"):
        forged.verify(tmp_path / "forged.db")


def test_a_cap_below_what_is_reserved_is_not_approved_under(federation: SmallFederation) -> None:
    """The officer hears it at once: the plan's restart under the new cap is refused, and nothing is logged."""
    home, plan = federation.home("north"), federation.plan
    other, document = second_plan(federation)
    approve(home, other, document, now=NOW)
    before = kinds(home)
    (home.path / "policy.yaml").write_bytes(capped(price(plan) * Fraction(6, 5)))
    for approved, its_document in ((plan, federation.document), (other, document)):
        with pytest.raises(BudgetError):
            approve(home, approved, its_document, now=NOW)
        refused(home, approved, 0, PolicyError, "not the policy in the ledger")
    assert kinds(home) == before


def test_another_plans_approval_under_a_tighter_policy_ends_this_one(federation: SmallFederation) -> None:
    home, plan = federation.home("north"), federation.plan
    (home.path / "policy.yaml").write_bytes(limited(price(plan) / 2).replace(b"budget:\n", ACTIVATION))
    other, document = second_plan(federation, purpose=str(Purpose.SEGMENT_ACTIVATION))
    someone = subject_key(b"north-1", home.subject_secret)
    asked, until = NOW - timedelta(days=1), NOW + timedelta(days=100)
    with home.register() as register:
        register.append_events(
            replace(event, purpose=Purpose.SEGMENT_ACTIVATION.value) for event in consents(someone, asked, until)
        )
    approve(home, other, document, now=NOW)
    refused(home, plan, 0, PolicyError, "SegmentStatistics.rho_cap")
    answer(home, other, 0)


# The policy file, between approval and round


@pytest.mark.parametrize(
    "document", [policy_document(min_cohort=6), policy_document(rho_cap="8/1"), b"no: policy\n", None]
)
def test_a_policy_file_edited_after_approval_makes_the_unit_unavailable_and_charges_nothing(
    federation: SmallFederation, document: bytes | None
) -> None:
    home, plan = federation.home("north"), federation.plan
    policy, before = home.path / "policy.yaml", kinds(home)
    policy.unlink() if document is None else policy.write_bytes(document)
    north, south = ask(federation.grid(), plan, some_request(plan, 0))
    assert north == wire.encode_unavailable()
    assert not isinstance(wire.decode(south, plan), wire.Unavailable)
    assert kinds(home) == before


def test_a_policy_file_put_back_lets_the_plan_go_on(federation: SmallFederation) -> None:
    home, plan = federation.home("north"), federation.plan
    policy = home.path / "policy.yaml"
    policy.write_bytes(policy_document(min_cohort=6))
    refused(home, plan, 0, PolicyError, "not the policy in the ledger")
    policy.write_bytes(POLICY)
    answer(home, plan, 0)


def test_comments_and_spacing_in_the_policy_file_change_nothing(federation: SmallFederation) -> None:
    home = federation.home("north")
    (home.path / "policy.yaml").write_bytes(b"# seen by the officer in June\n" + POLICY)
    answer(home, federation.plan, 0)


def test_a_plan_approved_anew_under_another_policy_goes_on_under_it(federation: SmallFederation) -> None:
    home, plan = federation.home("north"), federation.plan
    answer(home, plan, 0)
    (home.path / "policy.yaml").write_bytes(policy_document(min_cohort=6))
    approve(home, plan, federation.document, now=NOW)
    answer(home, plan, 1)
    facts = verify_ledger(home.path / "ledger.db", home.key.public)
    assert [entry.kind for entry in facts.raw.entries[3:]] == ["release", "policy", "release"]
    assert len({str(entry.body["policy_sha256"]) for entry in facts.raw.entries if entry.kind == "release"}) == 2


# The source settings


def test_source_settings_edited_after_approval_are_not_read(federation: SmallFederation) -> None:
    """A column the policy allows by name is not to become another one's data, once the officer has approved."""
    home, plan = federation.home("north"), federation.plan
    federation.customers_file("north").write_bytes(
        customers_csv([(f"north-{n}", (1, 2, n % 2)) for n in range(60)], ["visits", "spend", "diagnosis"])
    )
    answer(home, plan, 0)
    settings = home.path / "node.toml"
    approved = settings.read_text()
    terms = tomllib.loads(approved)
    terms["source"]["columns"] = {"spend": "diagnosis"}
    settings.write_text(tomli_w.dumps(terms))
    edited, before = NodeHome.open(home.path), kinds(home)
    refused(edited, plan, 1, PlanMismatchError, "source settings")
    with pytest.raises(PlanMismatchError, match="source settings"):
        approve(edited, plan, federation.document, now=NOW)
    north, _ = ask(federation.grid(), plan, some_request(plan, 1))
    assert north == wire.encode_unavailable()
    assert kinds(home) == before
    settings.write_text(approved)
    answer(NodeHome.open(home.path), plan, 1)


def test_the_approval_binds_the_source_settings(federation: SmallFederation) -> None:
    home = federation.home("north")
    with home.ledger() as ledger:
        (approval,) = [entry for entry in ledger.entries() if entry.kind == "approval"]
    assert approval.body["source_sha256"] == home.source_sha256


# One reading of the policy file for each operation


@dataclass(frozen=True)
class HastyOffice(NodeHome):
    """A home whose policy file is saved anew each time somebody has read it."""

    saved: bytes = b""
    readings: list[bytes] = field(default_factory=list)

    def policy_document(self) -> bytes:
        self.readings.append(super().policy_document())
        (self.path / "policy.yaml").write_bytes(self.saved)
        return self.readings[-1]


def hasty(home: NodeHome, saved: bytes) -> HastyOffice:
    return HastyOffice(home.path, home.settings, saved)


@pytest.mark.parametrize("saved", [policy_document(min_cohort=1000), policy_document(rho_cap="3/1"), b"no: policy\n"])
def test_what_was_checked_is_what_is_approved(unapproved: SmallFederation, saved: bytes) -> None:
    home = hasty(unapproved.home("north"), saved)
    approve(home, unapproved.plan, unapproved.document, now=NOW)
    assert home.readings == [POLICY]
    facts = verify_ledger(home.path / "ledger.db", home.key.public)
    assert facts.account.caps == caps_of(load_policy(POLICY))
    (logged,) = [data for name, data in facts.raw.payloads.items() if name.startswith("policy:")]
    assert logged == POLICY


def test_a_check_before_approval_reads_the_policy_once(unapproved: SmallFederation) -> None:
    home = hasty(unapproved.home("north"), policy_document(min_cohort=1000))
    preflight(home, unapproved.plan, now=NOW)
    assert home.readings == [POLICY]


def test_a_round_runs_under_the_one_policy_it_names(federation: SmallFederation) -> None:
    stricter = policy_document(min_cohort=1000).replace(b"max_age_days: 7300", b"max_age_days: 1")
    home = hasty(federation.home("north"), stricter)
    answer(home, federation.plan, 0)
    assert home.readings == [POLICY]
    with home.ledger() as ledger:
        assert ledger.entries()[-1].body["policy_sha256"] == load_policy(POLICY).digest
    refused(federation.home("north"), federation.plan, 1, PolicyError, "not the policy in the ledger")
