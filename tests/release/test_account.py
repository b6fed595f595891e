"""One cap per customer over everything a unit ever releases, kept by replaying its ledger."""

import threading
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import (
    BudgetError,
    ClockError,
    LedgerUnreadableError,
    NotApprovedError,
    PlanMismatchError,
    PolicyError,
    StepAnsweredError,
)
from fedseg.ledger.canonical import Json
from fedseg.ledger.entries import Entry
from fedseg.ledger.store import Ledger
from fedseg.privacy.account import PlanTerms, PrivacyAccount
from fedseg.privacy.budget import Charge
from fedseg.privacy.entries import Ending
from fedseg.privacy.state import AccountState, apply_entry, replay

if TYPE_CHECKING:
    from tests.release.conftest import Unit


DAY = "2025-06-01"


def charge(rho: Fraction) -> Charge:
    return Charge.of(rho, Fraction(0), "discrete-gaussian-zcdp")


def test_approving_reserves_the_whole_price_before_anything_is_spent(unit: "Unit") -> None:
    state = unit.account.state()
    assert state.rho_reserved == 3 * unit.step_rho
    assert state.rho_spent == 0
    assert state.noise_sources == frozenset()
    assert unit.account.plan_document(unit.plan) == b"plan " + unit.plan.encode()


def test_a_plan_approved_twice_is_reserved_once(unit: "Unit") -> None:
    before = len(unit.journal.entries())
    assert unit.approve()
    assert len(unit.journal.entries()) == before


def test_nothing_is_approved_before_a_policy_stands_in_the_ledger(bare: "Unit") -> None:
    with pytest.raises(PolicyError, match="no policy in its ledger"):
        bare.approve()
    assert len(bare.journal.entries()) == 1


def test_the_cap_holds_over_all_plans_and_purposes_together(unit: "Unit") -> None:
    unit.approve(unit.other_plan, (unit.step_rho,) * 7, "fedseg:SegmentActivation")
    with pytest.raises(BudgetError, match="over everything this unit releases"):
        unit.approve("f6" * 32, (Fraction(1, 2**48),), "fedseg:SegmentAssignment")
    assert unit.account.state().rho_reserved == 10 * unit.step_rho


def test_a_purpose_has_a_limit_of_its_own_below_the_cap(bare: "Unit") -> None:
    bare.adopt(bare.caps(purposes={bare.purpose: 4 * bare.step_rho}))
    bare.approve()
    with pytest.raises(BudgetError, match=f"for {bare.purpose}"):
        bare.approve(bare.other_plan, (bare.step_rho,) * 2)
    bare.approve(bare.other_plan, (bare.step_rho,) * 2, "fedseg:SegmentActivation")
    bare.approve("f6" * 32, (bare.step_rho,))
    assert bare.account.state().reserved_for(bare.purpose) == 4 * bare.step_rho


def test_the_cap_over_everything_is_checked_before_the_purposes(bare: "Unit") -> None:
    bare.adopt(bare.caps(cap=bare.step_rho, purposes={bare.purpose: bare.step_rho}))
    with pytest.raises(BudgetError, match="over everything this unit releases"):
        bare.approve()


def test_a_refused_plan_is_told_what_it_would_cost_and_leaves_nothing(bare: "Unit") -> None:
    bare.adopt(bare.caps(cap=Fraction(1, 10)))
    with pytest.raises(BudgetError, match=r"would bring epsilon to 6\.83, the limit is 2\.15"):
        bare.approve(rhos=(Fraction(8, 10),))
    assert [entry.kind for entry in bare.journal.entries()] == ["genesis", "policy"]


def test_the_policy_in_force_is_logged_once_and_a_new_one_binds_at_once(unit: "Unit") -> None:
    unit.adopt(unit.caps())
    assert [entry.kind for entry in unit.journal.entries()] == ["genesis", "policy", "approval"]
    unit.adopt(unit.caps(cap=3 * unit.step_rho, digest="99" * 32))
    with pytest.raises(BudgetError):
        unit.approve(unit.other_plan, (unit.step_rho,))
    unit.adopt(unit.caps())  # back to the first one: its document is stored again
    unit.approve(unit.other_plan, (unit.step_rho,))
    assert unit.account.state().reservation(unit.plan).policy_sha256 == "c3" * 32


def test_nothing_is_decided_while_the_clock_is_behind_the_ledger(unit: "Unit") -> None:
    entries, yesterday = unit.journal.entries(), "2025-05-31"
    terms = PlanTerms(unit.other_plan, b"plan", unit.purpose, (unit.step_rho,), unit.source)
    with pytest.raises(ClockError):
        unit.account.approve(terms, day=yesterday)
    with pytest.raises(ClockError):
        unit.account.refuse(unit.other_plan, day=yesterday, reason_commitment="00" * 32)
    with pytest.raises(ClockError):
        unit.account.close(unit.plan, Ending.CANCELLED, day=yesterday)
    assert unit.journal.entries() == entries


def test_an_approval_is_looked_up_by_its_hash_alone(unit: "Unit") -> None:
    with pytest.raises(NotApprovedError, match="has not approved"):
        unit.account.plan_document(unit.other_plan)


def test_an_approved_plan_whose_document_is_gone_is_not_guessed(bare: "Unit") -> None:
    bare.adopt(bare.caps())
    with bare.journal.transaction() as transaction:
        facts = {name: value for name, value in APPROVAL.items() if name != "payload"}
        transaction.append("approval", facts, payload=("another", b""))
    with pytest.raises(LedgerUnreadableError, match="missing from the ledger"):
        bare.account.plan_document(bare.plan)


def test_a_step_is_paid_for_only_as_approved(unit: "Unit") -> None:
    state = unit.account.state()
    state.require_step(unit.plan, 2, "any", charge(unit.step_rho), DAY)
    with pytest.raises(NotApprovedError, match="has not approved"):
        state.require_step(unit.other_plan, 0, "any", charge(unit.step_rho), DAY)
    for step in (-1, 3):
        with pytest.raises(NotApprovedError, match="not in the approved plan"):
            state.require_step(unit.plan, step, "any", charge(unit.step_rho), DAY)
    with pytest.raises(BudgetError, match="more than was reserved"):
        state.require_step(unit.plan, 0, "any", charge(unit.step_rho + Fraction(1, 2**48)), DAY)


def test_the_caps_in_force_when_a_step_is_answered_count_not_those_at_approval(unit: "Unit") -> None:
    first = unit.release(0)
    unit.adopt(unit.caps(cap=2 * unit.step_rho, digest="99" * 32))
    unit.release(1)
    with pytest.raises(BudgetError, match="over everything this unit releases"):
        unit.release(2)
    assert unit.release(0) == first
    assert unit.account.state().rho_spent == 2 * unit.step_rho


def test_a_purposes_limit_in_force_counts_for_what_that_purpose_has_spent(unit: "Unit") -> None:
    unit.approve(unit.other_plan, (unit.step_rho,), "fedseg:SegmentActivation")
    unit.release(0)
    unit.adopt(unit.caps(purposes={unit.purpose: unit.step_rho}, digest="99" * 32))
    with pytest.raises(BudgetError, match=f"for {unit.purpose}"):
        unit.release(1)
    unit.release(0, plan=unit.other_plan)
    state = unit.account.state()
    assert state.spent_for(unit.purpose) == state.spent_for("fedseg:SegmentActivation") == unit.step_rho


def test_what_is_guaranteed_is_the_cap_or_what_was_spent_before_it_was_lowered(unit: "Unit") -> None:
    assert AccountState().rho_guaranteed == 0
    unit.release(0)
    unit.release(1)
    assert unit.account.state().rho_guaranteed == 10 * unit.step_rho
    unit.adopt(unit.caps(cap=unit.step_rho, digest="99" * 32))
    assert unit.account.state().rho_guaranteed == 2 * unit.step_rho


def test_a_plan_is_approved_for_one_source_and_no_other(unit: "Unit") -> None:
    entries = unit.journal.entries()
    with pytest.raises(PlanMismatchError, match="source settings"):
        unit.approve(source="00" * 32)
    assert unit.journal.entries() == entries
    state = unit.account.state()
    state.require_same_source(unit.plan, unit.source)
    with pytest.raises(PlanMismatchError, match="source settings"):
        state.require_same_source(unit.plan, "00" * 32)
    with pytest.raises(NotApprovedError):
        state.require_same_source(unit.other_plan, unit.source)


def test_an_answered_step_takes_its_own_request_and_no_other(unit: "Unit") -> None:
    first = unit.release(1)
    state = unit.account.state()
    state.require_step(unit.plan, 1, first.release_id, charge(unit.step_rho), DAY)
    with pytest.raises(StepAnsweredError, match="answered already"):
        state.require_step(unit.plan, 1, "another", charge(unit.step_rho), DAY)


def test_spending_and_sources_are_replayed_from_the_releases(unit: "Unit") -> None:
    unit.release(0)
    unit.release(2)
    state = replay(unit.journal.entries())
    assert state.rho_spent == 2 * unit.step_rho
    assert state.noise_sources == {"simulated"}
    assert set(state.reservation(unit.plan).answered) == {0, 2}
    assert state == PrivacyAccount(unit.journal).state()


@given(prices=st.lists(st.integers(1, 2**40), max_size=12), cap=st.integers(1, 2**41))
def test_whatever_is_approved_in_whatever_order_the_cap_holds(
    new_unit: "type[Unit]", prices: list[int], cap: int
) -> None:
    unit = new_unit()
    unit.adopt(unit.caps(cap=Fraction(cap, 2**48)))
    accepted = 0
    for number, price in enumerate(prices):
        rhos = (Fraction(price, 2**48),)
        if accepted + price <= cap:
            unit.approve(f"{number:064x}", rhos)
            accepted += price
        else:
            with pytest.raises(BudgetError):
                unit.approve(f"{number:064x}", rhos)
    assert unit.account.state().rho_reserved == Fraction(accepted, 2**48) <= Fraction(cap, 2**48)


def test_two_plans_approved_at_once_never_overspend(bare: "Unit", tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger.create(path, origin="fedseg/unit/north", key=bare.key, body={})
    PrivacyAccount(ledger).adopt_policy(bare.caps(cap=3 * bare.step_rho), policy_id="small", document=b"policy")
    outcomes: list[str] = []

    def approve(plan: str) -> None:
        with Ledger.open(path, bare.key) as mine:
            try:
                terms = PlanTerms(plan, b"", bare.purpose, (bare.step_rho,) * 2, bare.source)
                PrivacyAccount(mine).approve(terms, day=DAY)
                outcomes.append("approved")
            except BudgetError:
                outcomes.append("refused")

    threads = [threading.Thread(target=approve, args=(plan,)) for plan in (bare.plan, bare.other_plan)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["approved", "refused"]
    assert PrivacyAccount(ledger).state().rho_reserved == 2 * bare.step_rho
    ledger.close()


PAYLOAD: Json = {"id": "p", "sha256": "00" * 32}
APPROVAL: dict[str, Json] = {
    "version": 1,
    "plan_sha256": "a1" * 32,
    "purpose": "p",
    "step_rhos": ["1/8"],
    "rho_reserved_after": "1/8",
    "policy_sha256": "c3" * 32,
    "source_sha256": "e7" * 32,
    "approved_at": DAY,
    "officers": [],
    "automatic": False,
    "payload": PAYLOAD,
}
POLICY: dict[str, Json] = {
    "version": 1,
    "policy_id": "small",
    "policy_sha256": "c3" * 32,
    "rho_cap": "1/2",
    "delta": "1/1000000",
    "purpose_rho_caps": {"p": "1/4"},
    "approvals": {"officers": {}, "required": 0, "requesters": {}},
    "signatures": [],
    "payload": PAYLOAD,
}
CHARGE: dict[str, Json] = {"rho": "1/8", "delta": "0/1", "formula": "discrete-gaussian-zcdp"}
RELEASE: dict[str, Json] = {
    "version": 1,
    "release_id": "0f" * 32,
    "plan_sha256": "a1" * 32,
    "unit": "north",
    "step": 0,
    "request_sha256": "d4" * 32,
    "cells": 2,
    "width": 3,
    "lattice": {"unit": 1000},
    "charge": CHARGE,
    "mechanism": {"sigma": 4096},
    "rho_spent_after": "1/8",
    "neighbouring_relation": "add-or-remove-one-customer",
    "noise_source": "system",
    "policy_sha256": "c3" * 32,
    "gate_commitment": "e5" * 32,
    "released_on": DAY,
    "software": "fedseg test",
    "payload": PAYLOAD,
}

NOT_UNDERSTOOD: dict[str, tuple[str, Mapping[str, Any]]] = {
    "an unknown kind": ("transfer", {}),
    "a policy without a cap": ("policy", {name: POLICY[name] for name in POLICY if name != "rho_cap"}),
    "a cap as a number": ("policy", POLICY | {"rho_cap": 1}),
    "a cap not in lowest terms": ("policy", POLICY | {"rho_cap": "2/4"}),
    "limits in a list": ("policy", POLICY | {"purpose_rho_caps": ["1/4"]}),
    "a limit below nothing": ("policy", POLICY | {"purpose_rho_caps": {"p": "-1/4"}}),
    "prices in a text": ("approval", APPROVAL | {"step_rhos": "1/8"}),
    "a price as a number": ("approval", APPROVAL | {"step_rhos": [1]}),
    "an approval of a plan approved before": ("approval", APPROVAL),
    "an approval without a source": ("approval", APPROVAL | {"plan_sha256": "b2" * 32, "source_sha256": None}),
    "a release of a plan nobody approved": ("release", RELEASE | {"plan_sha256": "b2" * 32}),
    "a step that is true": ("release", RELEASE | {"step": True}),
    "a step as text": ("release", RELEASE | {"step": "0"}),
    "a charge as text": ("release", RELEASE | {"charge": "1/8"}),
    "a charge without rho": ("release", RELEASE | {"charge": {"delta": "0/1", "formula": "f"}}),
    "a release of another version": ("release", RELEASE | {"version": 2}),
    "a release without a version": ("release", {name: RELEASE[name] for name in RELEASE if name != "version"}),
    "a release with a fact more": ("release", RELEASE | {"customers": 12}),
    "a release without its bytes": ("release", {name: RELEASE[name] for name in RELEASE if name != "payload"}),
    "a release that spells nothing out": ("approval", APPROVAL | {"plan_sha256": "b2" * 32, "expires_on": None}),
    "an end of what nobody approved": (
        "closing",
        {
            "version": 1,
            "plan_sha256": "b2" * 32,
            "ending": "revoked",
            "rho_returned": "1/8",
            "rho_reserved_after": "0/1",
            "closed_on": DAY,
        },
    ),
    "a release without a source": ("release", RELEASE | {"noise_source": None}),
    "a step answered before": ("release", RELEASE | {"step": 1, "release_id": "1f" * 32}),
}


@pytest.fixture
def approved() -> AccountState:
    entries = [
        Entry(1, "policy", POLICY),
        Entry(2, "approval", {**APPROVAL, "step_rhos": ["1/8", "1/8"]}),
        Entry(3, "release", RELEASE | {"step": 1}),
    ]
    return replay(entries)


@pytest.mark.parametrize(("kind", "body"), NOT_UNDERSTOOD.values(), ids=list(NOT_UNDERSTOOD))
def test_an_account_with_an_entry_that_cannot_be_understood_allows_nothing(
    approved: AccountState, kind: str, body: Mapping[str, Json]
) -> None:
    with pytest.raises(LedgerUnreadableError, match="entry 4 of the ledger"):
        apply_entry(approved, Entry(4, kind, body))
