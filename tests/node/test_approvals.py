"""Before a unit approves it checks trust, identity, policy, budget and its own data, in this order, and reserves nothing."""

import tomllib
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest
import tomli_w

from fedseg.errors import (
    BudgetError,
    CohortTooSmallError,
    ConsentError,
    FedsegError,
    NotNumericError,
    PlanMismatchError,
    PolicyError,
    TrustError,
    UnsupportedTrustError,
)
from fedseg.ledger.keys import SigningKey
from fedseg.node.approvals import approve, preflight
from fedseg.plan import Plan, parse_plan
from fedseg.policy.gate import Reason
from fedseg.privacy.account import PrivacyAccount
from fedseg.privacy.budget import fraction_text
from tests.small_federation import NOW, SmallFederation, customers_csv, policy_document


def changed(federation: SmallFederation, **changes: Any) -> Plan:
    """The federation's plan with other terms."""
    terms = tomllib.loads(federation.document.decode()) | changes
    return parse_plan(tomli_w.dumps(terms).encode())


def entries_of(federation: SmallFederation) -> list[str]:
    with federation.home("north").ledger() as ledger:
        return [entry.kind for entry in ledger.entries()]


def test_what_the_officer_sees_is_the_price_and_who_would_be_counted(unapproved: SmallFederation) -> None:
    plan = unapproved.plan
    found = preflight(unapproved.home("north"), plan, now=NOW, expected_sha256=plan.digest)
    assert found.plan_sha256 == plan.digest
    assert all(rule.allowed for rule in found.rules)
    assert found.rho == sum(plan.step_rhos)
    assert found.rho_reserved_before == 0
    assert not found.already_approved
    assert found.rho_reserved_after == found.rho
    assert (found.admitted, found.source.customers) == (60, 60)
    assert entries_of(unapproved) == ["genesis"]


def test_approving_logs_the_policy_and_reserves_the_price(unapproved: SmallFederation) -> None:
    plan, home = unapproved.plan, unapproved.home("north")
    approve(home, plan, unapproved.document, now=NOW)
    assert entries_of(unapproved) == ["genesis", "policy", "approval"]
    with home.ledger() as ledger:
        account = PrivacyAccount(ledger)
        assert account.state().rho_reserved == sum(plan.step_rhos)
        assert account.plan_document(plan.digest) == unapproved.document


def test_approving_twice_reserves_once(federation: SmallFederation) -> None:
    found = approve(federation.home("north"), federation.plan, federation.document, now=NOW)
    assert found.already_approved
    assert found.rho_reserved_after == found.rho_reserved_before == found.rho
    assert entries_of(federation) == ["genesis", "policy", "approval"]


def check(federation: SmallFederation, error: type[FedsegError], plan: Plan | None = None, **named: Any) -> FedsegError:
    """Both the check and the approval say no, with the same words, and nothing is logged."""
    home, asked = federation.home("north"), federation.plan if plan is None else plan
    before = entries_of(federation)
    with pytest.raises(error) as raised:
        preflight(home, asked, now=NOW, **named)
    with pytest.raises(error) as again:
        approve(home, asked, federation.document, now=NOW, **named)
    assert type(raised.value) is type(again.value) is error
    assert str(raised.value) == str(again.value)
    assert entries_of(federation) == before
    return raised.value


def test_secure_aggregation_is_refused_before_anything_else(unapproved: SmallFederation) -> None:
    unapproved.customers_file("north").unlink()
    plan = changed(unapproved, trust="secure-aggregation")
    check(unapproved, UnsupportedTrustError, plan, expected_sha256="ab" * 32)


def test_another_plan_than_the_agreed_one_is_refused(unapproved: SmallFederation) -> None:
    check(unapproved, PlanMismatchError, expected_sha256="ab" * 32)


def test_a_plan_that_names_other_units_or_another_key_is_refused(unapproved: SmallFederation) -> None:
    north, south = (unit.model_dump() for unit in unapproved.plan.units)
    check(unapproved, TrustError, changed(unapproved, units=[north | {"name": "east"}, south]))
    forged = north | {"public_key": SigningKey.generate().public.to_text()}
    error = check(unapproved, TrustError, changed(unapproved, units=[forged, south]))
    assert unapproved.home("north").key.public.fingerprint() in error.why


POLICIES: Mapping[str, tuple[bytes, type[FedsegError]]] = {
    "a column it does not allow": (policy_document(columns=["visits"]), PolicyError),
    "a price above its cap": (policy_document(rho_cap="1/1000"), BudgetError),
    "a delta above its own": (policy_document().replace(b'"1/1000000"', b'"1/10000000"'), BudgetError),
    "no unit noise": (policy_document().replace(b"unit-noise, ", b""), PolicyError),
}


@pytest.mark.parametrize(("policy", "error"), POLICIES.values(), ids=list(POLICIES))
def test_a_policy_that_says_no_is_obeyed(unapproved: SmallFederation, policy: bytes, error: type[FedsegError]) -> None:
    (unapproved.path / "north" / "policy.yaml").write_bytes(policy)
    unapproved.customers_file("north").unlink()
    check(unapproved, error)


def test_a_unit_without_a_policy_approves_nothing(unapproved: SmallFederation) -> None:
    (unapproved.path / "north" / "policy.yaml").unlink()
    check(unapproved, PolicyError)


def test_a_plan_beside_others_that_leave_no_room_is_refused(federation: SmallFederation) -> None:
    cap = fraction_text(sum(federation.plan.step_rhos, Fraction(0)))
    (federation.path / "north" / "policy.yaml").write_bytes(policy_document(rho_cap=cap))
    federation.customers_file("north").unlink()
    check(federation, BudgetError, changed(federation, name="another"))


def test_text_among_numbers_is_said_to_the_unit(unapproved: SmallFederation) -> None:
    path = unapproved.customers_file("north")
    path.write_bytes(path.read_bytes() + b"north-7,much,1\n")
    check(unapproved, NotNumericError)


def test_nobody_who_may_be_counted_is_said_to_the_unit(unapproved: SmallFederation) -> None:
    unapproved.customers_file("north").write_bytes(customers_csv([("stranger", (1, 2))]))
    check(unapproved, ConsentError)


def test_too_few_who_may_be_counted_is_said_to_the_unit_without_their_number(unapproved: SmallFederation) -> None:
    unapproved.customers_file("north").write_bytes(customers_csv([(f"north-{n}", (1, 2)) for n in range(4)]))
    error = check(unapproved, CohortTooSmallError)
    assert "4" not in f"{error} {error.fix}"


def test_who_is_counted_and_why_not_is_tallied_for_the_unit(unapproved: SmallFederation) -> None:
    path = unapproved.customers_file("north")
    path.write_bytes(path.read_bytes() + b"stranger,1,2\nstranger,3,4\n")
    found = preflight(unapproved.home("north"), unapproved.plan, now=NOW)
    assert found.reasons[Reason.ALLOWED] == 60
    assert found.reasons[Reason.NO_RECORD] == 1
    assert (found.source.rows, found.source.customers, found.source.duplicates) == (62, 61, 1)
