"""A unit answers what it approved, once, with what its own ledger says; everything else it refuses before it reads a row."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.request import RADIUS_MAX, RoundRequest, request_sha256
from fedseg.errors import (
    DataError,
    FedsegError,
    NotApprovedError,
    PlanMismatchError,
    PolicyError,
    RequestError,
    StepAnsweredError,
)
from fedseg.ledger.entries import Entry
from fedseg.ledger.journal import MemoryLedger
from fedseg.node.contribute import approved_plan, contribute, reply_slot_seconds
from fedseg.node.home import NodeHome
from fedseg.privacy.account import PlanTerms, PrivacyAccount
from fedseg.privacy.noise import NoiseSource, SimulatedNoise
from fedseg.privacy.release import Release
from tests.small_federation import NOW, SmallFederation, policy_document, some_request


def answer(
    federation: SmallFederation,
    request: RoundRequest,
    *,
    plan_sha256: str | None = None,
    source: NoiseSource | None = None,
    home: NodeHome | None = None,
) -> Release:
    digest = plan_sha256 or federation.plan.digest
    return contribute(
        federation.home("north") if home is None else home,
        digest,
        request,
        request_sha256(digest, request),
        now=NOW,
        source=SimulatedNoise(1) if source is None else source,
    )


def entries_of(federation: SmallFederation, unit: str = "north") -> list[Entry]:
    with federation.home(unit).ledger() as ledger:
        return ledger.entries()


def test_an_answer_is_charged_as_reserved_and_logged_with_its_gate(federation: SmallFederation) -> None:
    plan = federation.plan
    released = answer(federation, some_request(plan, 1))
    body: dict[str, Any] = dict(entries_of(federation)[-1].body)
    assert body["release_id"] == released.release_id
    assert (body["step"], body["unit"], body["cells"], body["width"]) == (1, "north", plan.terms[1].cells, 4)
    assert body["lattice"] == plan.terms[1].lattice.facts
    assert body["mechanism"]["sigma"] == plan.terms[1].mechanism.sigma
    assert body["charge"]["rho"] == f"{plan.step_rhos[1].numerator}/{plan.step_rhos[1].denominator}"
    assert len(body["gate_commitment"]) == 64
    assert body["noise_source"] == "simulated"


def test_the_commitment_to_the_gate_is_salted_anew_for_every_release(federation: SmallFederation) -> None:
    for step in range(2):
        answer(federation, some_request(federation.plan, step))
    commitments = [entry.body["gate_commitment"] for entry in entries_of(federation) if entry.kind == "release"]
    assert len(set(commitments)) == 2


def test_the_same_request_gets_the_same_bytes_without_reading_a_row(federation: SmallFederation) -> None:
    request = some_request(federation.plan, 0)
    first = answer(federation, request)
    entries = entries_of(federation)
    federation.customers_file("north").unlink()
    assert answer(federation, request, source=SimulatedNoise(2)) == first
    assert entries_of(federation) == entries


def test_the_request_moves_nothing_about_noise_or_price(federation: SmallFederation) -> None:
    plan = federation.plan
    cells = plan.terms[1].cells
    narrow = RoundRequest(0, np.zeros((1, 2), np.int32), np.ones(1, np.int32))
    wide = RoundRequest(1, np.full((cells, 2), FEATURE_MAX, np.int32), np.full(cells, RADIUS_MAX, np.int32))
    answer(federation, narrow)
    answer(federation, wide)
    released: list[dict[str, Any]] = [dict(entry.body) for entry in entries_of(federation) if entry.kind == "release"]
    for body, terms in zip(released, plan.terms, strict=False):
        assert body["mechanism"] == {
            "sigma": terms.mechanism.sigma,
            "l2_sensitivity_squared": terms.lattice.l2_sensitivity_squared,
        }


class Telltale(NoiseSource):
    """Simulated noise that notes what the unit's customer file was doing when it was first asked."""

    label = SimulatedNoise.label

    def __init__(self, customers: Path) -> None:
        self.customers, self.inner = customers, SimulatedNoise(1)

    def random_bytes(self, n: int) -> bytes:
        self.customers.unlink(missing_ok=True)
        return self.inner.random_bytes(n)


def test_the_noise_is_drawn_before_the_data_is_opened(federation: SmallFederation) -> None:
    entries = entries_of(federation)
    with pytest.raises(DataError, match="cannot be read"):
        answer(federation, some_request(federation.plan, 0), source=Telltale(federation.customers_file("north")))
    assert entries_of(federation) == entries


def refused(federation: SmallFederation, error: type[FedsegError], request: RoundRequest, **named: Any) -> FedsegError:
    """A refusal that comes before any row is read, for there is none to read; and that leaves no trace."""
    federation.customers_file("north").unlink(missing_ok=True)
    entries = entries_of(federation)
    with pytest.raises(error) as raised:
        answer(federation, request, **named)
    assert type(raised.value) is error
    assert entries_of(federation) == entries
    return raised.value


def test_a_step_answered_once_is_not_answered_to_another_request(federation: SmallFederation) -> None:
    answer(federation, some_request(federation.plan, 0))
    refused(federation, StepAnsweredError, some_request(federation.plan, 0, seed=1))


def test_a_plan_that_was_not_approved_is_not_answered(federation: SmallFederation) -> None:
    refused(federation, NotApprovedError, some_request(federation.plan, 0), plan_sha256="ab" * 32)


@pytest.mark.parametrize(
    ("step", "cells", "features"), [(3, 3, 2), (0, 2, 2), (0, 4, 2), (0, 3, 1), (0, 3, 3), (2**32 - 1, 3, 2)]
)
def test_a_request_of_another_shape_or_step_is_refused(
    federation: SmallFederation, step: int, cells: int, features: int
) -> None:
    request = RoundRequest(step, np.zeros((cells, features), np.int32), np.ones(cells, np.int32))
    refused(federation, RequestError, request)


def test_a_policy_changed_after_approval_ends_the_answers(federation: SmallFederation) -> None:
    (federation.path / "north" / "policy.yaml").write_bytes(policy_document(min_cohort=6))
    error = refused(federation, PolicyError, some_request(federation.plan, 0))
    assert "changed after the plan was approved" in error.why


def test_a_new_policy_in_force_that_forbids_the_plan_ends_the_answers(federation: SmallFederation) -> None:
    from fedseg.plan import caps_of
    from fedseg.policy.document import load_policy

    document = policy_document(columns=["visits"])
    (federation.path / "north" / "policy.yaml").write_bytes(document)
    with federation.home("north").ledger() as ledger:
        PrivacyAccount(ledger).adopt_policy(caps_of(load_policy(document)), policy_id="small", document=document)
    error = refused(federation, PolicyError, some_request(federation.plan, 0))
    assert "policy in force says no" in error.what


def test_a_unit_renamed_after_approval_does_not_answer(federation: SmallFederation) -> None:
    home = federation.home("north")
    renamed = replace(home, settings=home.settings.model_copy(update={"unit": "east"}))
    refused(federation, NotApprovedError, some_request(federation.plan, 0), home=renamed)


@pytest.mark.parametrize("change", [{"subject": "visits"}, {"columns": {"visits": "spend"}}, {"path": "other.csv"}])
def test_a_source_changed_after_approval_is_not_read(federation: SmallFederation, change: dict[str, Any]) -> None:
    home = federation.home("north")
    source = home.settings.source.model_copy(update=change)
    changed = replace(home, settings=home.settings.model_copy(update={"source": source}))
    refused(federation, PlanMismatchError, some_request(federation.plan, 0), home=changed)


def test_a_missing_source_is_refused_whoever_is_in_it(federation: SmallFederation) -> None:
    refused(federation, DataError, some_request(federation.plan, 0))


def test_replies_leave_on_the_slots_of_the_approved_plan(federation: SmallFederation) -> None:
    assert reply_slot_seconds(federation.home("north"), federation.plan.digest) == 0
    with pytest.raises(NotApprovedError):
        reply_slot_seconds(federation.home("north"), "ab" * 32)


def test_a_plan_that_reads_differently_than_when_it_was_approved_is_not_run(federation: SmallFederation) -> None:
    home = federation.home("north")
    account = PrivacyAccount(MemoryLedger(origin="fedseg/unit/north", key=home.key, body={}))
    from fedseg.plan import caps_of
    from fedseg.policy.document import load_policy

    policy = home.policy_document()
    account.adopt_policy(caps_of(load_policy(policy)), policy_id="small", document=policy)
    plan = federation.plan
    terms = PlanTerms("ab" * 32, federation.document, plan.purpose, plan.step_rhos, home.source_sha256)
    account.approve(terms, day="2025-06-01")
    with pytest.raises(PlanMismatchError, match="reads differently"):
        approved_plan(account, "ab" * 32)
