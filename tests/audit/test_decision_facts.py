"""What officers decide about plans: each decision, approval, refusal and end in a unit's ledger follows from the entries before it.

Each ledger here is signed by the unit's true key as a whole; the decisions are signed by the officers whom they name.
"""

import dataclasses
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fedseg.audit.faults import Fault, fault_of
from fedseg.errors import VerificationError
from fedseg.ledger.keys import SigningKey
from fedseg.plan import Plan, parse_plan
from fedseg.policy.document import load_policy
from fedseg.privacy.budget import fraction_text
from fedseg.privacy.entries import DecisionBody, Verdict
from fedseg.privacy.signatures import sign_plan, sign_policy
from fedseg.privacy.state import AccountState
from tests.forged_ledger import Forgery, Line, approval_line, policy_line
from tests.small_federation import SmallFederation, policy_document

HASH = "cd" * 32
SOURCE = "ab" * 32
DAY, NEXT_DAY = "2025-06-01", "2025-06-02"
TERMS = """  requesters:
    agency:
      public_key: '{requester}'
      automatic: {{rho_per_plan: "{plan}", rho_per_period: "{period}", period_days: 30}}
"""


@dataclass
class Office:
    """A unit's ledger in the making, its officers, and the plan that they decide about."""

    ledger: Forgery
    document: bytes
    officers: dict[str, SigningKey]
    requester: SigningKey
    path: Path
    policy: bytes = b""

    @property
    def plan(self) -> Plan:
        return parse_plan(self.document)

    @property
    def rho(self) -> Fraction:
        return sum(self.plan.step_rhos, Fraction(0))

    def another_plan(self, name: str = "another") -> "Office":
        """The same office before a plan of another name."""
        document = tomli_w.dumps(tomllib.loads(self.document.decode()) | {"name": name}).encode()
        return dataclasses.replace(self, document=document)

    def adopt(self, required: int = 2, more: str = "", names: str = "ann bob", signed_by: str = "ann bob") -> "Office":
        """Put a policy in force."""
        keys = ", ".join(f"{name}: '{self.officers[name].public.to_text()}'" for name in names.split())
        approvals = f"approvals:\n  officers: {{{keys}}}\n  required: {required}\n{more}"
        return self.adopt_document(policy_document(approvals=approvals), signed_by)

    def adopt_document(self, policy: bytes, signed_by: str = "") -> "Office":
        line = policy_line(policy, place=len(self.ledger.lines) + 1)
        digest = load_policy(policy).digest
        signatures = [sign_policy(digest, name, self.officers[name]) for name in signed_by.split()]
        line.body["signatures"] = [one.model_dump(mode="json") for one in signatures]
        self.ledger.lines.append(line)
        self.policy = policy
        return self

    def decide(
        self, officer: str, verdict: Verdict = Verdict.APPROVE, *, key: SigningKey | None = None, **changes: Any
    ) -> "Office":
        """Add an officer's decision."""
        said = {
            "verdict": verdict,
            "unit": "north",
            "plan_sha256": self.plan.digest,
            "policy_sha256": load_policy(self.policy).digest,
            "source_sha256": SOURCE,
            "made_on": DAY,
            "officer": officer,
            "signature": "00" * 64,
        }
        unsigned = DecisionBody.model_validate(said | changes)
        signature = (key or self.officers[officer]).sign(unsigned.signed_bytes).hex()
        self.ledger.lines.append(Line("decision", unsigned.model_copy(update={"signature": signature}).facts()))
        return self

    def approve(self, officers: str = "", *, reserved_before: Fraction = Fraction(0), **changes: Any) -> "Office":
        """Add an approval of the plan that names these officers."""
        line = approval_line(self.plan, self.document, self.policy, reserved_before=reserved_before)
        line.body |= {"officers": officers.split()} | changes
        self.ledger.lines.append(line)
        return self

    def approve_automatically(self, key: SigningKey | None = None, **changes: Any) -> "Office":
        """Add an approval by the policy's terms for the plan's requester."""
        signed = sign_plan(self.plan.digest, key or self.requester)
        asked = {"requester": signed.requester, "requester_signature": signed.signature}
        return self.approve(**{"automatic": True} | asked | changes)

    def refuse(self, **changes: Any) -> "Office":
        digest = load_policy(self.policy).digest
        body = {
            "version": 1,
            "plan_sha256": self.plan.digest,
            "policy_sha256": digest,
            "refused_on": DAY,
            "reason_commitment": HASH,
        }
        self.ledger.lines.append(Line("refusal", body | changes))
        return self

    def close(self, ending: str = "cancelled", **changes: Any) -> "Office":
        body = {
            "version": 1,
            "plan_sha256": self.plan.digest,
            "ending": ending,
            "rho_returned": fraction_text(self.rho),
            "rho_reserved_after": "0/1",
            "closed_on": DAY,
        }
        self.ledger.lines.append(Line("closing", body | changes))
        return self

    def verify(self) -> AccountState:
        return self.ledger.verify(self.path / f"{len(list(self.path.iterdir()))}.db").account

    def fault(self) -> Fault:
        with pytest.raises(VerificationError) as found:
            self.verify()
        return fault_of(found.value)


@pytest.fixture
def office(unit: Forgery, finished: SmallFederation, tmp_path: Path) -> Office:
    """A unit whose ledger holds nothing yet but whose it is."""
    officers = {name: SigningKey.generate() for name in ("ann", "bob", "eve")}
    return Office(unit.fresh_with([]), finished.document, officers, SigningKey.generate(), tmp_path)


# What is right


def test_a_plan_that_as_many_officers_approve_as_are_required_is_approved(office: Office) -> None:
    state = office.adopt().decide("ann").decide("bob").approve("ann bob").verify()
    assert state.rho_reserved == office.rho
    assert state.decisions == {}


def test_one_officer_suffices_where_one_is_required_and_more_may_decide(office: Office) -> None:
    assert office.adopt(required=1).decide("bob").approve("bob").verify().reservations
    assert (
        office.another_plan()
        .decide("bob")
        .decide("ann")
        .approve("ann bob", reserved_before=office.rho)
        .verify()
        .rho_reserved
        == 2 * office.rho
    )


def test_a_plan_that_an_officer_refuses_is_refused(office: Office) -> None:
    assert office.adopt().decide("ann", Verdict.DENY).refuse().verify().refused == {office.plan.digest}


@pytest.mark.parametrize(("ending", "verdict"), [("cancelled", Verdict.CANCEL), ("revoked", Verdict.REVOKE)])
def test_an_approval_that_an_officer_ends_has_ended(office: Office, ending: str, verdict: Verdict) -> None:
    state = office.adopt(required=1).decide("ann").approve("ann").decide("bob", verdict).close(ending).verify()
    assert state.rho_reserved == 0


def test_an_approval_whose_time_is_over_ends_without_anybody(office: Office) -> None:
    office.adopt(required=1, more="  expire_days: 1\n").decide("ann").approve("ann", expires_on=NEXT_DAY)
    assert office.close("expired", closed_on="2025-06-03").verify().rho_reserved == 0


def test_where_no_officer_is_named_none_must_have_decided(office: Office) -> None:
    office.adopt_document(policy_document()).approve().close().another_plan().refuse().verify()


def test_a_plan_within_its_requesters_terms_is_approved_without_officers(office: Office) -> None:
    rho = fraction_text(office.rho)
    terms = TERMS.format(requester=office.requester.public.to_text(), plan=rho, period=rho)
    assert office.adopt(more=terms).approve_automatically().verify().rho_reserved == office.rho


# Decisions


@pytest.mark.parametrize(
    "changes", [{"unit": "south"}, {"policy_sha256": HASH}], ids=["for another unit", "under another policy"]
)
def test_a_decision_stands_for_its_own_unit_and_policy_alone(office: Office, changes: dict[str, Any]) -> None:
    assert office.adopt().decide("ann", **changes).fault() is Fault.DECIDED


def test_a_decision_is_signed_by_the_officer_whom_it_names(office: Office) -> None:
    assert office.adopt().decide("ann", key=office.officers["bob"]).fault() is Fault.DECIDED


def test_nobody_decides_whom_the_policy_in_force_does_not_name(office: Office) -> None:
    assert office.adopt().decide("eve").fault() is Fault.DECIDED


def test_nobody_decides_before_a_policy_is_in_force(office: Office) -> None:
    office.adopt().decide("ann")
    office.ledger.lines = office.ledger.lines[1:]
    assert office.fault() is Fault.DECIDED


# Approvals


def missing(office: Office) -> None:
    office.decide("ann").approve("ann")


def said_twice(office: Office) -> None:
    office.decide("ann").decide("ann").approve("ann")


def about_another_source(office: Office) -> None:
    office.decide("ann").decide("bob", source_sha256=HASH).approve("ann")


def denied(office: Office) -> None:
    office.decide("ann").decide("bob", Verdict.DENY).approve("ann bob")


def about_another_plan(office: Office) -> None:
    office.decide("ann").decide("bob", plan_sha256=HASH).approve("ann bob")


def before_the_policy_changed(office: Office) -> None:
    office.decide("ann").decide("bob")
    office.adopt(required=2, more="  expire_days: 9\n").approve("ann bob", expires_on="2025-06-10")


def before_a_refusal(office: Office) -> None:
    office.decide("ann").decide("bob").decide("ann", Verdict.DENY).refuse().approve("ann bob")


def named_otherwise(office: Office) -> None:
    office.decide("ann").decide("bob").approve("ann eve")


def named_in_another_order(office: Office) -> None:
    office.decide("ann").decide("bob").approve("bob ann")


def not_all_named(office: Office) -> None:
    office.decide("ann").decide("bob").approve("ann")


APPROVALS: list[Callable[[Office], None]] = [
    missing,
    said_twice,
    about_another_source,
    denied,
    about_another_plan,
    before_the_policy_changed,
    before_a_refusal,
    named_otherwise,
    named_in_another_order,
    not_all_named,
]


@pytest.mark.parametrize("decide", APPROVALS, ids=lambda one: one.__name__)
def test_no_plan_is_approved_without_the_decisions_that_its_approval_names(
    office: Office, decide: Callable[[Office], None]
) -> None:
    decide(office.adopt())
    assert office.fault() is Fault.DECIDED


@pytest.mark.parametrize("last_day", [None, DAY, "2025-06-03"])
def test_an_approval_ends_on_the_day_that_follows_from_the_policy(office: Office, last_day: str | None) -> None:
    more: dict[str, Any] = {} if last_day is None else {"expires_on": last_day}
    office.adopt(required=1, more="  expire_days: 1\n").decide("ann").approve("ann", **more)
    assert office.fault() is Fault.ENDED


def test_an_approval_does_not_end_by_itself_where_the_policy_does_not_say_so(office: Office) -> None:
    assert office.adopt(required=1).decide("ann").approve("ann", expires_on=NEXT_DAY).fault() is Fault.ENDED


@pytest.mark.parametrize(
    ("plan", "period", "changes"),
    [
        (Fraction(99, 100), Fraction(1), {}),
        (Fraction(1), Fraction(99, 100), {}),
        (Fraction(1), Fraction(1), {"officers": "ann"}),
    ],
    ids=["dearer than a plan may be", "dearer than its quota", "with an officer who has not decided"],
)
def test_no_plan_is_approved_automatically_beyond_its_requesters_terms(
    office: Office, plan: Fraction, period: Fraction, changes: dict[str, Any]
) -> None:
    terms = TERMS.format(
        requester=office.requester.public.to_text(),
        plan=fraction_text(office.rho * plan),
        period=fraction_text(office.rho * period),
    )
    assert office.adopt(more=terms).approve_automatically(**changes).fault() is Fault.DECIDED


def test_the_terms_of_a_requester_are_of_no_use_to_another(office: Office) -> None:
    rho = fraction_text(office.rho)
    terms = TERMS.format(requester=office.requester.public.to_text(), plan=rho, period=rho)
    assert office.adopt(more=terms).approve_automatically(SigningKey.generate()).fault() is Fault.DECIDED


# Policies


def test_a_policy_needs_the_officers_of_the_one_before_and_its_own(office: Office) -> None:
    office.adopt(required=1, names="ann", signed_by="ann")
    lines = list(office.ledger.lines)
    for signed_by, right in (("bob", False), ("ann", False), ("", False), ("ann bob", True)):
        office.ledger.lines = list(lines)
        office.adopt(required=1, names="bob", signed_by=signed_by)
        if right:
            office.verify()
        else:
            assert office.fault() is Fault.UNSIGNED


# Refusals and ends


def test_no_refusal_names_another_policy_than_the_one_in_force(office: Office) -> None:
    office.adopt().decide("ann", Verdict.DENY).refuse(policy_sha256=HASH)
    assert office.fault() is Fault.NOT_IN_FORCE


def test_nothing_is_refused_before_a_policy_is_in_force(office: Office) -> None:
    office.policy = policy_document()
    assert office.refuse().fault() is Fault.NOT_IN_FORCE


def test_what_is_approved_is_not_refused_any_more(office: Office) -> None:
    office.adopt(required=1).decide("ann").approve("ann").decide("ann", Verdict.DENY).refuse()
    assert office.fault() is Fault.ENDED


def no_word(_office: Office) -> None:
    """No officer says anything."""


def another_verdict(office: Office) -> None:
    office.decide("ann")


def another_plan(office: Office) -> None:
    office.decide("ann", Verdict.DENY, plan_sha256=HASH).decide("ann", Verdict.CANCEL, plan_sha256=HASH)


def another_day(office: Office) -> None:
    office.decide("ann", Verdict.DENY, made_on="2025-05-31").decide("ann", Verdict.CANCEL, made_on="2025-05-31")


@pytest.mark.parametrize("say", [no_word, another_verdict, another_plan, another_day], ids=lambda one: one.__name__)
def test_nothing_is_refused_without_an_officers_word_of_that_day(office: Office, say: Callable[[Office], None]) -> None:
    say(office.adopt())
    assert office.refuse().fault() is Fault.DECIDED


@pytest.mark.parametrize("ending", ["cancelled", "revoked"])
@pytest.mark.parametrize("say", [no_word, another_verdict, another_plan, another_day], ids=lambda one: one.__name__)
def test_nothing_is_ended_without_an_officers_word_of_that_day(
    office: Office, say: Callable[[Office], None], ending: str
) -> None:
    office.adopt(required=1).decide("ann", made_on="2025-05-31").approve("ann", approved_at="2025-05-31")
    say(office)
    assert office.close(ending).fault() is Fault.DECIDED


def test_to_cancel_is_not_to_revoke(office: Office) -> None:
    office.adopt(required=1).decide("ann").approve("ann").decide("ann", Verdict.CANCEL)
    assert office.close("revoked").fault() is Fault.DECIDED


def test_only_what_is_open_ends(office: Office) -> None:
    office.adopt_document(policy_document()).close()
    assert office.fault() is Fault.ENDED
    office.ledger.lines.pop()
    assert office.approve().close().close().fault() is Fault.ENDED


def test_nothing_expires_before_its_time_is_over(office: Office) -> None:
    office.adopt(required=1, more="  expire_days: 1\n").decide("ann").approve("ann", expires_on=NEXT_DAY)
    assert office.close("expired", closed_on=NEXT_DAY).fault() is Fault.ENDED


@pytest.mark.parametrize("field", ["rho_returned", "rho_reserved_after"])
def test_an_end_returns_what_was_left_and_nothing_else(office: Office, field: str) -> None:
    office.adopt_document(policy_document()).approve().close(**{field: fraction_text(office.rho + 1)})
    assert office.fault() is Fault.TOTAL
