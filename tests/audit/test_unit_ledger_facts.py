"""Every fact a unit's ledger states follows from others in it: its own key holder cannot change one unseen.

Each forgery is signed by the unit's true key, and changed wherever the same fact stands again.
"""

import tomllib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fedseg.audit.verify import verify_ledger
from fedseg.errors import VerificationError
from fedseg.ledger.keys import SigningKey
from fedseg.plan import Plan, parse_plan
from fedseg.privacy.budget import fraction_text
from fedseg.privacy.release import HEADER, release_id
from tests.forged_ledger import Forgery, Line, approval_line, policy_line, resigned, under_policy
from tests.small_federation import SmallFederation, policy_document

Edit = Callable[[Forgery], None]

HASH = "ab" * 32
NO_HASH = "AB" * 32
POLICY = policy_document()


def refused(forgery: Forgery, path: Path, match: str) -> None:
    with pytest.raises(VerificationError, match=match):
        forgery.verify(path / "forged.db")


def test_a_ledger_that_is_only_written_anew_verifies(unit: Forgery, finished: SmallFederation, tmp_path: Path) -> None:
    facts = unit.verify(tmp_path / "copy.db")
    with finished.home("north").ledger() as ledger:
        assert list(facts.raw.entries) == ledger.entries()
    assert [fact.step for fact in facts.releases] == [0, 1, 2]


# One field of one entry at a time

ANOTHER_SHAPE = "another shape"
POLICY_SAYS = "does not say what the logged policy says"
PLAN_SAYS = "does not say what the approved plan says"
BYTES_SAY = "does not say what its bytes say"
MECHANISM = "another mechanism than the approved plan's"

FIELDS: list[tuple[str, str, Any, str]] = [
    ("policy", "policy_id", "another", POLICY_SAYS),
    ("policy", "policy_sha256", HASH, POLICY_SAYS),
    ("policy", "rho_cap", "8/1", POLICY_SAYS),
    ("policy", "rho_cap", "8/2", ANOTHER_SHAPE),
    ("policy", "delta", "1/1000", POLICY_SAYS),
    ("policy", "purpose_rho_caps", {"fedseg:SegmentStatistics": "1/1"}, POLICY_SAYS),
    ("policy", "approvals", {"officers": {}, "required": 1, "requesters": {}}, POLICY_SAYS),
    ("policy", "approvals", {"officers": {}, "required": 0}, ANOTHER_SHAPE),
    ("policy", "signatures", [{"officer": "dpo", "signature": "a word"}], ANOTHER_SHAPE),
    ("policy", "version", 2, ANOTHER_SHAPE),
    ("approval", "plan_sha256", HASH, PLAN_SAYS),
    ("approval", "version", True, ANOTHER_SHAPE),
    ("approval", "officers", ["dpo"], "names other officers"),
    ("approval", "automatic", True, "does not check out"),
    ("approval", "automatic", "no", ANOTHER_SHAPE),
    ("approval", "purpose", "fedseg:SegmentActivation", PLAN_SAYS),
    ("approval", "step_rhos", ["1/1000", "1/1000", "1/1000"], "another price than the plan's"),
    ("approval", "step_rhos", [], "another price than the plan's"),
    ("approval", "rho_reserved_after", "1/1000", "another total than its ledger gives"),
    ("approval", "policy_sha256", HASH, "names another policy than the one in force"),
    ("approval", "source_sha256", "customers.csv", ANOTHER_SHAPE),
    ("approval", "source_sha256", NO_HASH, ANOTHER_SHAPE),
    ("approval", "approved_at", "the 31st of February", ANOTHER_SHAPE),
    ("approval", "approved_at", "2025-02-31", ANOTHER_SHAPE),
    ("approval", "approved_at", "20250601", ANOTHER_SHAPE),
    ("release", "release_id", HASH, BYTES_SAY),
    ("release", "plan_sha256", HASH, "does not check out"),
    ("release", "unit", "south", BYTES_SAY),
    ("release", "unit", "North", ANOTHER_SHAPE),
    ("release", "step", 1, "another mechanism|another charge|does not check out"),
    ("release", "step", 3, "not in its plan"),
    ("release", "step", -1, ANOTHER_SHAPE),
    ("release", "step", False, ANOTHER_SHAPE),
    ("release", "request_sha256", HASH, BYTES_SAY),
    ("release", "cells", 4, MECHANISM),
    ("release", "width", 5, MECHANISM),
    ("release", "lattice", {"count_weight": 1, "unit": 1}, MECHANISM),
    ("release", "lattice", {}, MECHANISM),
    ("release", "charge", {"rho": "1/1024", "delta": "0/1", "formula": "discrete-gaussian-zcdp"}, "another charge"),
    ("release", "charge", {"rho": "0/1", "delta": "0/1", "formula": "nothing"}, "does not check out"),
    ("release", "charge", {"rho": "0/1", "delta": "0/1"}, ANOTHER_SHAPE),
    ("release", "mechanism", {"sigma": 10**9, "l2_sensitivity_squared": 1}, MECHANISM),
    ("release", "rho_spent_after", "1/1000", "another total than its ledger gives"),
    ("release", "rho_spent_after", "0.001", ANOTHER_SHAPE),
    ("release", "neighbouring_relation", "replace-one-customer", ANOTHER_SHAPE),
    ("release", "noise_source", "system", BYTES_SAY),
    ("release", "noise_source", "a fair coin", ANOTHER_SHAPE),
    ("release", "policy_sha256", HASH, "names another policy than the one in force"),
    ("release", "gate_commitment", "no gate was ever asked", ANOTHER_SHAPE),
    ("release", "released_on", "2025-05-31", "is of 2025-05-31, after one of"),
    ("release", "released_on", "today", ANOTHER_SHAPE),
    ("release", "version", 0, ANOTHER_SHAPE),
    ("release", "software", "fedseg 99.0 (audited!)", ANOTHER_SHAPE),
    ("release", "software", "other 1.0", ANOTHER_SHAPE),
]


@pytest.mark.parametrize(("kind", "name", "value", "match"), FIELDS)
def test_no_field_can_be_changed(
    unit: Forgery, tmp_path: Path, *, kind: str, name: str, value: Any, match: str
) -> None:
    assert unit.line(kind).body[name] != value or isinstance(value, bool)
    unit.line(kind).body[name] = value
    refused(unit, tmp_path, match)


def kinds_and_fields(forgery: Forgery) -> list[tuple[str, str]]:
    return sorted({(line.kind, name) for line in forgery.lines for name in line.body})


def test_every_field_a_unit_writes_is_in_the_table(unit: Forgery) -> None:
    assert kinds_and_fields(unit) == sorted({(kind, name) for kind, name, _, _ in FIELDS})


@pytest.mark.parametrize("kind", ["policy", "approval", "release"])
def test_no_field_can_be_left_out_or_added(true_unit: Forgery, tmp_path: Path, kind: str) -> None:
    for name in true_unit.line(kind).body:
        unit = true_unit.fresh()
        del unit.line(kind).body[name]
        with pytest.raises(VerificationError, match=f"another shape than its kind: {name}"):
            unit.verify(tmp_path / f"{name}.db")
    unit = true_unit.fresh()
    unit.line(kind).body["audited"] = True
    refused(unit, tmp_path, "another shape than its kind: audited")


@pytest.mark.parametrize("kind", ["policy", "approval", "release"])
def test_no_payload_can_be_left_out_renamed_or_replaced(true_unit: Forgery, tmp_path: Path, kind: str) -> None:
    name, _ = true_unit.line(kind).payload or ("", b"")
    other = f"{name[:-1]}{'0' if name[-1] != '0' else '1'}"
    for number, payload in enumerate((None, (other, true_unit.line(kind).data), (name, b"something else"))):
        unit = true_unit.fresh()
        unit.line(kind).payload = payload
        with pytest.raises(VerificationError):
            unit.verify(tmp_path / f"{number}.db")


# A fact changed wherever it stands


def every_policy_hash(unit: Forgery) -> None:
    for line in unit.lines:
        line.body["policy_sha256"] = HASH


def laxer_policy_in_the_payload(unit: Forgery) -> None:
    line = unit.line("policy")
    line.payload = (f"policy:{line.body['policy_sha256']}:1", policy_document(min_cohort=1))


def less_noise_at_a_true_price(unit: Forgery) -> None:
    """A quarter of the noise, and the charge that goes with it, in all totals."""
    for line in unit.all("release"):
        line.body["mechanism"]["sigma"] //= 4
    unit.recharge()


def cheaper_releases(unit: Forgery) -> None:
    for line in unit.all("release"):
        line.body["charge"]["rho"] = "1/1048576"
    unit.recharge()


def cheaper_reservation(unit: Forgery) -> None:
    line = unit.line("approval")
    line.body["step_rhos"] = ["1/1048576"] * 3
    line.body["rho_reserved_after"] = "3/1048576"


def dearer_reservation(unit: Forgery) -> None:
    line = unit.line("approval")
    line.body["step_rhos"] = ["1/1"] * 3
    line.body["rho_reserved_after"] = "3/1"


def charge_below_its_mechanism(unit: Forgery) -> None:
    line = unit.line("release")
    line.body["charge"]["delta"] = "1/1048576"


def one_release_less(unit: Forgery) -> None:
    """Left out, but the totals after it are kept."""
    unit.drop("release", 1)


def release_before_its_approval(unit: Forgery) -> None:
    unit.lines[1], unit.lines[2] = unit.lines[2], unit.lines[1]


def approval_before_its_policy(unit: Forgery) -> None:
    unit.lines[0], unit.lines[1] = unit.lines[1], unit.lines[0]
    unit.line("policy").payload = (f"policy:{unit.line('policy').body['policy_sha256']}:2", unit.line("policy").data)


def no_policy(unit: Forgery) -> None:
    unit.drop("policy")


def no_approval(unit: Forgery) -> None:
    unit.drop("approval")


def an_entry_of_no_kind(unit: Forgery) -> None:
    unit.lines.append(Line("certificate", {"by": "a friend"}))


def a_servers_entry(unit: Forgery) -> None:
    unit.lines.append(Line("round", {"plan_sha256": HASH, "step": 0, "units": []}))


def approved_twice(unit: Forgery) -> None:
    body = unit.line("approval").body | {"approved_at": unit.line("release").body["released_on"]}
    again = Line("approval", body, ("plan:again", unit.line("approval").data))
    unit.lines.append(again)


def bytes_of_another_release(unit: Forgery) -> None:
    one, other = unit.line("release", 0), unit.line("release", 1)
    assert one.payload is not None
    assert other.payload is not None
    one.payload, other.payload = (one.payload[0], other.data), (other.payload[0], one.data)


def bytes_changed(unit: Forgery) -> None:
    line = unit.line("release")
    assert line.payload is not None
    changed = bytearray(line.data)
    changed[HEADER.size] ^= 1
    line.payload = (line.payload[0], bytes(changed))


def with_header(forgery: Forgery, key: SigningKey | None = None, **changes: Any) -> None:
    line = forgery.line("release")
    assert line.payload is not None
    line.payload = (line.payload[0], resigned(line.data, forgery.key if key is None else key, **changes))


def bytes_signed_by_another(unit: Forgery) -> None:
    with_header(unit, SigningKey.generate())


def bytes_with_a_value_beyond_reason(unit: Forgery) -> None:
    with_header(unit, values=[2**60] * 4)


def bytes_too_short(unit: Forgery) -> None:
    with_header(unit, values=[0] * 3)


def release_id_that_does_not_follow(unit: Forgery) -> None:
    """Another id in entry, payload and signed bytes alike."""
    with_header(unit, release_id=bytes.fromhex(HASH))
    line = unit.line("release")
    line.body["release_id"] = HASH
    line.payload = (f"release:{HASH}", line.data)


def a_step_answered_twice(unit: Forgery) -> None:
    """A second answer to step 0, to another request, with everything as a unit would write it."""
    first = unit.line("release")
    wanted = release_id(first.body["plan_sha256"], "north", 0, HASH)
    data = resigned(first.data, unit.key, release_id=bytes.fromhex(wanted), request=bytes.fromhex(HASH))
    body = {**first.body, "release_id": wanted, "request_sha256": HASH}
    unit.lines.append(Line("release", body, (f"release:{wanted}", data)))
    unit.recharge()


CONSISTENT: list[tuple[Edit, str]] = [
    (every_policy_hash, POLICY_SAYS),
    (laxer_policy_in_the_payload, POLICY_SAYS),
    (less_noise_at_a_true_price, MECHANISM),
    (cheaper_releases, "another charge"),
    (cheaper_reservation, "another price"),
    (dearer_reservation, "another price"),
    (charge_below_its_mechanism, "another charge"),
    (one_release_less, "another total"),
    (release_before_its_approval, "does not check out"),
    (approval_before_its_policy, "names another policy than the one in force"),
    (no_policy, "names another policy than the one in force"),
    (no_approval, "does not check out"),
    (an_entry_of_no_kind, "'certificate'"),
    (a_servers_entry, "'round'"),
    (approved_twice, "approval 6"),
    (bytes_of_another_release, BYTES_SAY),
    (bytes_changed, "not signed by the unit"),
    (bytes_signed_by_another, "not signed by the unit"),
    (bytes_with_a_value_beyond_reason, "larger than any honest one"),
    (bytes_too_short, "another shape"),
    (release_id_that_does_not_follow, "does not follow from plan"),
    (a_step_answered_twice, "answered already"),
]

HEADERS: list[tuple[dict[str, Any], str]] = [
    ({"magic": b"fedseg-release-2"}, "not a release of this plan"),
    ({"release_id": bytes(32)}, "does not follow from plan"),
    ({"plan": bytes(32)}, "not a release of this plan"),
    ({"request": bytes(32)}, "does not follow from plan"),
    ({"unit": 1}, "not signed by the unit"),
    ({"unit": 2}, "names a unit"),
    ({"step": 1}, "another shape"),
    ({"step": 3}, "a step"),
    ({"cells": 4}, "another shape"),
    ({"width": 2}, "another shape"),
    ({"noise": 0}, BYTES_SAY),
    ({"noise": 2}, "a noise source"),
]


@pytest.mark.parametrize(("edit", "match"), CONSISTENT, ids=[edit.__name__ for edit, _ in CONSISTENT])
def test_no_fact_can_be_changed_everywhere_at_once(unit: Forgery, tmp_path: Path, edit: Edit, match: str) -> None:
    edit(unit)
    refused(unit, tmp_path, match)


@pytest.mark.parametrize(("changes", "match"), HEADERS)
def test_no_fact_can_be_changed_in_the_signed_bytes(
    unit: Forgery, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with_header(unit, **changes)
    refused(unit, tmp_path, match)


def test_a_unit_cannot_enter_the_signed_bytes_of_another_as_its_own(
    unit: Forgery, true_server: Forgery, tmp_path: Path
) -> None:
    """Not even with the other's help: true bytes of south, under the id that north's own would have."""
    line, south = unit.line("release"), true_server.line("contribution", unit="south")
    assert line.payload is not None
    line.payload = (line.payload[0], south.data)
    line.body["unit"] = "south"
    refused(unit, tmp_path, "are of another release")


# Plans that the logged policy does not allow, approved all the same

ACTIVATION = b"""  fedseg:SegmentActivation:
    broader: dpv:TargetedAdvertising
    basis: dpv:Consent
    require: {status: [given], max_age_days: 30, notice_min_version: 1}
    veto: [objection, restriction, suppressed, minor]
    columns: {allow: [visits, spend]}
    min_cohort: 1
    rho_cap: "1/1000"
budget:
"""
SUB_LIMIT = POLICY.replace(b"budget:\n", ACTIVATION)
STATISTICS_LIMIT = POLICY.replace(b"    min_cohort: 5\n", b'    min_cohort: 5\n    rho_cap: "1/1000"\n')

FORBIDDEN: dict[str, tuple[dict[str, Any], bytes, str]] = {
    "a purpose it does not name": ({"purpose": "fedseg:SegmentActivation"}, POLICY, "purposes"),
    "a column it does not allow": ({}, policy_document(columns=["visits"]), "columns.allow"),
    "a trust model it does not allow": (
        {"trust": "secure-aggregation"},
        POLICY.replace(b"unit-noise, secure-aggregation", b"unit-noise"),
        "trust_models",
    ),
    "a delta above its own": ({"budget": {"epsilon": "4/1", "delta": "1/10"}}, POLICY, "budget.delta"),
    "a price above its cap": ({}, policy_document(rho_cap="1/1000"), "rho_cap"),
    "a price above the purpose's own cap": ({}, STATISTICS_LIMIT, "rho_cap"),
    "another purpose with a cap of its own": ({"purpose": "fedseg:SegmentActivation"}, SUB_LIMIT, "rho_cap"),
}


def changed(document: bytes, **changes: Any) -> bytes:
    """A plan's document with other terms."""
    return tomli_w.dumps(tomllib.loads(document.decode()) | changes).encode()


def approve(forgery: Forgery, document: bytes, policy: bytes = POLICY) -> Plan:
    """A ledger of a policy and an approval, and nothing else."""
    plan = parse_plan(document)
    forgery.lines = [policy_line(policy), approval_line(plan, document, policy)]
    return plan


def test_an_approval_alone_verifies_where_the_policy_allows_the_plan(
    unit: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    plan = approve(unit, finished.document)
    assert unit.verify(tmp_path / "forged.db").account.rho_reserved == sum(plan.step_rhos)


@pytest.mark.parametrize(("changes", "policy", "rule"), FORBIDDEN.values(), ids=list(FORBIDDEN))
def test_no_plan_can_be_approved_against_the_logged_policy(
    unit: Forgery, finished: SmallFederation, tmp_path: Path, *, changes: dict[str, Any], policy: bytes, rule: str
) -> None:
    approve(unit, changed(finished.document, **changes), policy)
    refused(unit, tmp_path, rf"goes against the policy in force: \S*{rule}")


@pytest.mark.parametrize(
    "policy", [policy_document(columns=["visits"]), policy_document(rho_cap="1/1000"), STATISTICS_LIMIT]
)
def test_a_stricter_policy_cannot_be_claimed_for_the_whole_run(unit: Forgery, tmp_path: Path, policy: bytes) -> None:
    under_policy(unit, policy)
    refused(unit, tmp_path, "goes against the policy in force")


def test_plans_that_fit_one_by_one_cannot_be_approved_beyond_the_cap(
    unit: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    rho = sum(finished.plan.step_rhos, Fraction(0))
    policy = policy_document(rho_cap=fraction_text(Fraction(int(rho * 1500), 1000)))
    approve(unit, finished.document, policy)
    another = changed(finished.document, name="another")
    unit.lines.append(approval_line(parse_plan(another), another, policy, reserved_before=rho))
    refused(unit, tmp_path, "reserved more than the cap")


def test_the_policy_can_only_be_changed_by_an_entry(unit: Forgery, tmp_path: Path) -> None:
    for line in unit.all("release")[1:]:
        line.body["policy_sha256"] = policy_line(policy_document(min_cohort=6)).body["policy_sha256"]
    refused(unit, tmp_path, "release.*names another policy|entry 4 names another policy")


# Whose ledger it is


def test_the_key_is_the_one_that_every_approved_plan_names(unit: Forgery, tmp_path: Path) -> None:
    unit.key = SigningKey.generate()
    refused(unit, tmp_path, "names another key for north")


def test_a_ledger_under_another_key_is_not_found_without_a_plan_but_with_the_key(unit: Forgery, tmp_path: Path) -> None:
    true = unit.key.public
    unit.key, unit.lines = SigningKey.generate(), unit.lines[:1]
    path = unit.write(tmp_path / "forged.db")
    assert verify_ledger(path).size == 2
    with pytest.raises(VerificationError, match="belongs to the key"):
        verify_ledger(path, true)


def test_a_plan_of_other_units_is_no_plan_of_this_one(unit: Forgery, finished: SmallFederation, tmp_path: Path) -> None:
    terms = tomllib.loads(finished.document.decode())
    terms["units"][0]["name"] = "east"
    approve(unit, tomli_w.dumps(terms).encode())
    refused(unit, tmp_path, "does not name it")


def test_a_plan_with_another_key_for_the_unit_is_no_plan_of_this_one(
    unit: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    terms = tomllib.loads(finished.document.decode())
    terms["units"][0]["public_key"] = SigningKey.generate().public.to_text()
    approve(unit, tomli_w.dumps(terms).encode())
    refused(unit, tmp_path, "names another key for north")


def test_the_key_holder_of_another_unit_cannot_take_the_name(
    unit: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    unit.key = finished.home("south").key
    refused(unit, tmp_path, "names another key for north")


def test_a_unit_cannot_take_another_units_name(unit: Forgery, tmp_path: Path) -> None:
    unit.origin, unit.genesis["unit"] = "fedseg/unit/south", "south"
    for line in unit.all("release"):
        line.body["unit"] = "south"
    refused(unit, tmp_path, "names another key for south")


WHOSE: list[tuple[str, dict[str, Any]]] = [
    ("fedseg/unit/south", {"role": "unit", "unit": "north"}),
    ("fedseg/unit/north", {"role": "unit", "unit": "south"}),
    ("fedseg/unit/north", {"role": "unit"}),
    ("fedseg/unit/north", {"role": "unit", "unit": 7}),
    ("fedseg/unit/north", {"unit": "north"}),
    ("fedseg/unit/north", {"role": "server"}),
    ("fedseg/unit/north", {"role": "auditor", "unit": "north"}),
    ("fedseg/server", {"role": "unit", "unit": "north"}),
    ("fedseg/unit/", {"role": "unit", "unit": ""}),
    ("fedseg/unit/North", {"role": "unit", "unit": "North"}),
    ("fedseg/unit/north", {"role": "unit", "unit": "north", "certified": "by a friend"}),
]


@pytest.mark.parametrize(("origin", "genesis"), WHOSE)
def test_the_first_entry_says_whose_ledger_it_is_and_nothing_else(
    unit: Forgery, tmp_path: Path, origin: str, genesis: dict[str, Any]
) -> None:
    unit.origin, unit.genesis, unit.lines = origin, genesis, []
    refused(unit, tmp_path, "does not say whose ledger this is|another shape than its kind")
