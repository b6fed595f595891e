"""A plan for bounds and the plan that uses them: two approvals, two charges, one account, one cap, one audit."""

import json
import tomllib
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fedseg.audit.verify import check_against_units, recompute_segmentation, verify_ledger
from fedseg.errors import BudgetError, NotApprovedError, PolicyError, VerificationError
from fedseg.federation.server_app import run_plan
from fedseg.node.approvals import approve, preflight
from fedseg.plan import Plan, parse_plan
from fedseg.privacy.account import PrivacyAccount
from fedseg.privacy.budget import fraction_text
from fedseg.proposal.document import propose, propose_bounds
from fedseg.proposal.schema import Holds, SchemaColumn
from fedseg.segments.segmentation import SignedSegmentation, parse_signed
from tests.small_federation import FEATURES, SmallFederation, make_federation, policy_document

SIZES = {"north": 400, "south": 300}
COLUMNS = [SchemaColumn(name, Holds.NUMBER) for name in FEATURES]
BUDGET = {"epsilon": "8/1", "delta": "1/1000000"}


def decided(text: str, federation: SmallFederation, **changes: Any) -> bytes:
    """A proposed plan with the federation's units, and what people decided."""
    units = [{"name": unit.name, "public_key": unit.public_key} for unit in federation.plan.units]
    return tomli_w.dumps(tomllib.loads(text) | {"units": units, "reply_slot_seconds": 0} | changes).encode()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallFederation, SignedSegmentation]:
    """A federation that has answered a proposed plan for bounds, and whose cap is twice the price of that."""
    made = make_federation(tmp_path_factory.mktemp("bounds") / "federation", SIZES, budget=BUDGET)
    proposed = propose_bounds(COLUMNS, units=2, customers=700)
    document = decided(proposed.text, made, budget=BUDGET)
    price = sum(parse_plan(document).step_rhos, Fraction(0))
    for home in made.homes:
        (home.path / "policy.yaml").write_bytes(policy_document(rho_cap=fraction_text(2 * price)))
    federation = SmallFederation(made.path, document).approve_all()
    return federation, run(federation)


def run(federation: SmallFederation) -> SignedSegmentation:
    return run_plan(federation.grid(), federation.server, federation.document, roster=federation.roster)


def with_segments(federation: SmallFederation, learned: SignedSegmentation) -> SmallFederation:
    """The same units with the plan that is proposed from what was learned."""
    proposed = propose(COLUMNS, k=3, units=2, customers=700, learned=learned)
    assert not [place for place in proposed.to_decide if place.startswith("features")]
    return SmallFederation(federation.path, decided(proposed.text, federation))


@pytest.fixture
def federation(asked: tuple[SmallFederation, SignedSegmentation], tmp_path: Path) -> SmallFederation:
    """For this test alone."""
    return asked[0].copied_to(tmp_path / "federation")


@pytest.fixture
def learned(asked: tuple[SmallFederation, SignedSegmentation]) -> SignedSegmentation:
    return asked[1]


def approve_later(federation: SmallFederation) -> SmallFederation:
    """Have every unit approve the plan after a run: its ledger knows what day that was."""
    for home in federation.homes:
        approve(home, federation.plan, federation.document, now=datetime.now(UTC))
    return federation


def spent(federation: SmallFederation, unit: str) -> Fraction:
    with federation.home(unit).ledger() as ledger:
        return PrivacyAccount(ledger).state().rho_spent


def price(plan: Plan) -> Fraction:
    return sum(plan.step_rhos, Fraction(0))


def test_a_plan_for_bounds_publishes_bounds_that_hold_the_customers_and_no_segments(
    learned: SignedSegmentation,
) -> None:
    found = learned.segmentation
    assert (found.algorithm, found.segments, found.other, found.findings.choice) == ("fedseg-bounds-1", (), None, None)
    assert [one.feature for one in found.bounds] == list(FEATURES)
    for one in found.bounds:
        assert one.lower is not None
        assert one.upper is not None
        assert one.lower < 20
        assert 80 < one.upper < 2000
        assert one.missing is not None
        assert one.missing.share < 0.05
        assert one.outside.category == "outside"


def test_both_plans_are_charged_in_one_account_and_every_ledger_verifies(
    federation: SmallFederation, learned: SignedSegmentation
) -> None:
    second = approve_later(with_segments(federation, learned))
    segments = run(second)
    assert len(segments.segmentation.segments) == 3

    units = [verify_ledger(home.path / "ledger.db") for home in federation.homes]
    server = verify_ledger(federation.server.path / "ledger.db")
    for one, signed in ((federation, learned), (second, segments)):
        check_against_units(server, units, one.plan)
        assert recompute_segmentation(server, one.plan) == signed
    for unit in SIZES:
        assert spent(federation, unit) == price(federation.plan) + price(second.plan)


def test_the_cap_is_over_both(federation: SmallFederation, learned: SignedSegmentation) -> None:
    run(approve_later(with_segments(federation, learned)))
    again = SmallFederation(federation.path, decided(federation.document.decode(), federation, name="again"))
    assert again.plan.digest != federation.plan.digest
    for home in federation.homes:
        with pytest.raises(BudgetError):
            approve(home, again.plan, again.document, now=datetime.now(UTC))


def test_a_plan_for_bounds_that_was_not_approved_gets_no_answer(tmp_path: Path) -> None:
    made = make_federation(tmp_path / "federation", {"north": 20, "south": 20})
    proposed = SmallFederation(made.path, decided(propose_bounds(COLUMNS, units=2, customers=40).text, made))
    with pytest.raises(NotApprovedError), proposed.home("north").ledger() as ledger:
        PrivacyAccount(ledger).plan_document(proposed.plan.digest)
    assert spent(proposed, "north") == 0


def test_the_policy_says_of_which_columns_bounds_may_be_learned(federation: SmallFederation) -> None:
    home = federation.home("north")
    features = [{**tomllib.loads(federation.document.decode())["features"][0], "name": "income"}]
    other = SmallFederation(federation.path, decided(federation.document.decode(), federation, features=features))
    (home.path / "policy.yaml").write_bytes(policy_document(columns=FEATURES))
    with pytest.raises(PolicyError, match="policy"):
        preflight(home, other.plan, now=datetime.now(UTC))


def test_a_result_whose_bounds_were_changed_is_not_trusted(learned: SignedSegmentation) -> None:
    document = json.loads(learned.to_json())
    document["segmentation"]["bounds"][0]["upper"] += 1
    changed = json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    assert parse_signed(learned.to_json()) == learned
    with pytest.raises(VerificationError):
        parse_signed(changed)
