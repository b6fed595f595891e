"""A plan that counts on few units per customer runs on every unit's signed word, and on nothing less."""

from fractions import Fraction
from pathlib import Path

import pytest

from fedseg.audit.verify import verify_ledger
from fedseg.errors import TrustError, VerificationError
from fedseg.node.approvals import approve, preflight
from fedseg.privacy.account import PlanTerms, PrivacyAccount
from fedseg.privacy.budget import PrivacyBudget, epsilon_of, rho_of
from tests.small_federation import NOW, SmallFederation, make_federation

SIZES = {"north": 60, "south": 60, "west": 60}


@pytest.fixture
def few(tmp_path: Path) -> SmallFederation:
    """Three units whose plan counts on customers being in at most two of them."""
    return make_federation(tmp_path, SIZES, max_units_per_customer=2)


@pytest.mark.parametrize("attested", [None, 1, 3])
def test_without_that_very_word_nothing_is_approved(few: SmallFederation, attested: int | None) -> None:
    home = few.home("north")
    with pytest.raises(TrustError):
        preflight(home, few.plan, now=NOW, max_units_attested=attested)
    with pytest.raises(TrustError):
        approve(home, few.plan, few.document, now=NOW, max_units_attested=attested)
    with home.ledger() as ledger:
        assert not PrivacyAccount(ledger).state().reservations


def test_no_word_is_taken_where_the_plan_needs_none(tmp_path: Path) -> None:
    safe = make_federation(tmp_path, SIZES)
    with pytest.raises(TrustError, match="does not count on"):
        approve(safe.home("north"), safe.plan, safe.document, now=NOW, max_units_attested=2)


def test_the_word_stands_in_the_signed_ledger(few: SmallFederation, tmp_path: Path) -> None:
    home = few.home("north")
    approve(home, few.plan, few.document, now=NOW, max_units_attested=2)
    facts = verify_ledger(home.path / "ledger.db", home.key.public)
    assert [entry.body.get("max_units_attested") for entry in facts.raw.entries if entry.kind == "approval"] == [2]


def test_an_approval_without_the_word_does_not_verify(few: SmallFederation) -> None:
    home, plan = few.home("north"), few.plan
    approve(home, few.plan, few.document, now=NOW, max_units_attested=2)
    other = make_federation(few.path / "again", SIZES, max_units_per_customer=2)
    silent = other.home("north")
    with silent.ledger() as ledger:
        account = PrivacyAccount(ledger)
        with home.ledger() as model:
            policy = next(entry for entry in model.entries() if entry.kind == "policy")
            caps = PrivacyAccount(model).state().caps
            document = model.payload(f"policy:{caps.policy_sha256}:{policy.seq}") if caps else None
        assert caps is not None
        assert document is not None
        account.adopt_policy(caps, policy_id=str(policy.body["policy_id"]), document=document)
        terms = PlanTerms(other.plan.digest, other.document, plan.purpose, other.plan.step_rhos, silent.source_sha256)
        account.approve(terms, day=NOW.date().isoformat())
    with pytest.raises(VerificationError, match="attests something else"):
        verify_ledger(silent.path / "ledger.db", silent.key.public)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_customer_of_as_many_units_as_the_plan_says_loses_no_more_than_its_epsilon(tmp_path: Path, most: int) -> None:
    plan = make_federation(tmp_path, SIZES, max_units_per_customer=most).plan
    at_one_unit = sum(plan.step_rhos, Fraction(0))
    budget = PrivacyBudget(plan.budget.epsilon, plan.budget.delta)
    assert most * at_one_unit <= rho_of(budget)
    assert epsilon_of(most * at_one_unit, plan.budget.delta) <= plan.budget.epsilon
    assert (most + 1) * at_one_unit > rho_of(budget)
