"""What plans would cost at a unit, said before anybody approves one of them."""

import tomllib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import tomli_w

from fedseg.errors import BudgetError
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.notes import SignatureType
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.node.approvals import approve, forecast_budget, forecast_in_turn
from fedseg.plan import parse_plan
from fedseg.privacy.account import PrivacyAccount
from tests.small_federation import NOW, SmallFederation, make_federation, policy_document

Planned = Callable[..., bytes]


@pytest.fixture
def federation(tmp_path: Path) -> SmallFederation:
    """A unit whose cap fits one plan, and another of half its price."""
    return make_federation(tmp_path / "f", {"north": 60}, policy=policy_document(rho_cap="1/2"))


@pytest.fixture
def planned(federation: SmallFederation) -> Planned:
    """The document of a plan of the federation with other terms."""
    terms = tomllib.loads(federation.document.decode())
    return lambda **changes: tomli_w.dumps(terms | changes).encode()


def test_plans_in_turn_cost_what_each_would_once_those_before_it_that_fit_are_approved(
    federation: SmallFederation, planned: Planned
) -> None:
    home = federation.home("north")
    small = {"budget": {"epsilon": "2/1", "delta": "1/1000000"}}
    documents = [planned(name="a"), planned(name="b"), planned(name="c", **small)]
    plans = [parse_plan(one) for one in documents]
    found = forecast_in_turn(home, plans)
    assert [one.refusal is None for one in found] == [True, False, True]
    assert isinstance(found[1].refusal, BudgetError)
    assert found[2].rho_reserved_before == found[0].rho_reserved_after == found[0].rho
    assert found[2].rho_left_after == Fraction(1, 2) - found[0].rho - found[2].rho
    assert forecast_budget(home, plans[1]).refusal is None, "alone it fits"
    for place in (0, 2):
        approve(home, plans[place], documents[place], now=NOW)
    with home.ledger() as ledger:
        assert PrivacyAccount(ledger).state().rho_reserved == found[2].rho_reserved_after


def test_where_the_ledger_is_witnessed_the_dearest_release_is_not_left(
    federation: SmallFederation, planned: Planned
) -> None:
    key = VerifierKey("w.example/w", SignatureType.ED25519_COSIGNATURE, SigningKey.generate().public).to_text()
    home, plan = federation.home("north"), parse_plan(planned(name="a"))
    before = forecast_budget(home, plan)
    witnesses = f"witnesses:\n  quorum: 1\n  keys:\n    w: '{key}'\n"
    (home.path / "policy.yaml").write_bytes(policy_document(rho_cap="1/2", approvals=witnesses))
    found = forecast_budget(home, plan)
    assert before.rho_kept_back_after == 0
    assert found.rho_kept_back_after == max(plan.step_rhos)
    assert found.rho_left_after == before.rho_left_after - max(plan.step_rhos)
