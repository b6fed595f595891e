"""What the account refuses to log about plans and rights requests, whoever asks it to."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fedseg.errors import (
    LedgerUnreadableError,
    NotApprovedError,
    PolicyError,
    SettingsError,
    StorageError,
    TrustError,
)
from fedseg.ledger.canonical import canonical
from fedseg.ledger.entries import Entry
from fedseg.ledger.keys import PublicKey, SigningKey
from fedseg.privacy.account import PlanTerms
from fedseg.privacy.entries import (
    UNIT_KINDS,
    ApprovalRules,
    Automatic,
    DecisionBody,
    Ending,
    RequesterRule,
    Verdict,
    json_schema,
)
from fedseg.privacy.signatures import (
    add_policy_signature,
    read_plan_signature,
    read_policy_signatures,
    sign_plan,
    sign_policy,
    write_plan_signature,
)
from fedseg.privacy.state import Caps, apply_entry

if TYPE_CHECKING:
    from tests.release.conftest import Unit

DAY = "2025-06-01"
SOMEBODY = PublicKey(bytes(range(32))).to_text()


def decision(unit: "Unit", key: SigningKey, verdict: Verdict, **changes: str) -> DecisionBody:
    """An officer's word about the unit's plan, signed."""
    facts = {
        "unit": "north",
        "plan_sha256": unit.plan,
        "policy_sha256": "c3" * 32,
        "source_sha256": unit.source,
        "made_on": DAY,
        "officer": "ann",
        "signature": "00" * 64,
    }
    unsigned = DecisionBody.model_validate({"verdict": verdict, **facts, **changes})
    return unsigned.model_copy(update={"signature": key.sign(unsigned.signed_bytes).hex()})


def officers(unit: "Unit") -> SigningKey:
    """Put a policy in force whose one officer has the key that is returned."""
    key = SigningKey.generate()
    caps = unit.caps()
    rules = ApprovalRules(officers={"ann": key.public.to_text()}, required=1)
    caps = Caps(caps.policy_sha256, caps.rho_cap, caps.delta, caps.purpose_rho_caps, rules)
    signed = sign_policy(caps.policy_sha256, "ann", key)
    unit.account.adopt_policy(caps, policy_id="officers", document=b"policy", signatures=[signed])
    return key


def test_a_policy_is_signed_by_the_officers_own_key_or_not_at_all(bare: "Unit") -> None:
    caps, ann = bare.caps(), SigningKey.generate()
    rules = ApprovalRules(officers={"ann": ann.public.to_text()}, required=1)
    caps = Caps(caps.policy_sha256, caps.rho_cap, caps.delta, caps.purpose_rho_caps, rules)
    digest = caps.policy_sha256
    for signature in (sign_policy(digest, "ann", SigningKey.generate()), sign_policy(digest, "eve", ann)):
        with pytest.raises(PolicyError, match="too few officers"):
            bare.account.adopt_policy(caps, policy_id="officers", document=b"policy", signatures=[signature])
    bare.account.adopt_policy(
        caps, policy_id="officers", document=b"policy", signatures=[sign_policy(digest, "ann", ann)]
    )


def terms(unit: "Unit", **changes: str) -> PlanTerms:
    return PlanTerms(unit.plan, b"plan", unit.purpose, (unit.step_rho,), unit.source, **changes)  # type: ignore[arg-type]


def test_without_a_policy_nothing_is_refused_or_ended_either(bare: "Unit") -> None:
    with pytest.raises(PolicyError, match="no policy in its ledger"):
        bare.account.refuse(bare.plan, day=DAY, reason_commitment="00" * 32)
    with pytest.raises(NotApprovedError):
        bare.account.close(bare.plan, Ending.REVOKED, day=DAY)
    with pytest.raises(NotApprovedError, match="without an officer"):
        bare.account.state().require_automatic(None, bare.step_rho, DAY)


def test_an_officers_word_counts_for_what_it_says_alone(bare: "Unit") -> None:
    key = officers(bare)
    for wrong in (
        decision(bare, key, Verdict.DENY),
        decision(bare, key, Verdict.APPROVE, plan_sha256=bare.other_plan),
        decision(bare, key, Verdict.APPROVE, made_on="2025-06-02"),
    ):
        with pytest.raises(ValueError, match="about something else"):
            bare.account.approve(terms(bare), day=DAY, decision=wrong)
    with pytest.raises(TrustError, match="no officer of the policy in force"):
        bare.account.approve(
            terms(bare), day=DAY, decision=decision(bare, key, Verdict.APPROVE, policy_sha256="99" * 32)
        )
    assert [entry.kind for entry in bare.journal.entries()] == ["genesis", "policy"]
    assert bare.account.approve(terms(bare), day=DAY, decision=decision(bare, key, Verdict.APPROVE))


@pytest.mark.parametrize(
    ("requester", "signature"),
    [
        ("nobody", "00" * 64),
        (None, "00" * 64),
        ("11" * 22, None),
        (SOMEBODY, None),
        (SOMEBODY, "no hex"),
        ("11" * 22, "no hex"),
    ],
)
def test_half_a_requester_and_made_up_keys_are_refused(
    bare: "Unit", requester: str | None, signature: str | None
) -> None:
    bare.adopt(bare.caps())
    asked = PlanTerms(bare.plan, b"", bare.purpose, (bare.step_rho,), bare.source, None, requester, signature)
    with pytest.raises(TrustError, match="the plan's signature is not right"):
        bare.account.approve(asked, day=DAY)


def test_a_plan_that_costs_more_than_passes_by_itself_waits_for_an_officer(bare: "Unit") -> None:
    key, caps = SigningKey.generate(), bare.caps()
    little = Automatic(rho_per_plan=bare.step_rho / 2, rho_per_period=bare.step_rho, period_days=1)
    rules = ApprovalRules(requesters={"mk": RequesterRule(public_key=key.public.to_text(), automatic=little)})
    bare.adopt(Caps(caps.policy_sha256, caps.rho_cap, caps.delta, {}, rules))
    signed = sign_plan(bare.plan, key)
    asked = PlanTerms(
        bare.plan, b"", bare.purpose, (bare.step_rho,), bare.source, None, signed.requester, signed.signature
    )
    with pytest.raises(NotApprovedError, match="without an officer"):
        bare.account.approve(asked, day=DAY, automatic=True)


def test_days_of_rights_requests_have_no_gap_and_no_double(unit: "Unit") -> None:
    unit.account.add_rights_batch(period="2025-06-30", capacity=8, root=bytes(32))
    unit.account.add_rights_batch(period="2025-07-01", capacity=8, root=bytes(32))
    for period in ("2025-06-30", "2025-07-01", "2025-07-03"):
        with pytest.raises(ValueError, match="after 2025-07-01 comes another day"):
            unit.account.add_rights_batch(period=period, capacity=8, root=bytes(32))


def test_a_ledger_that_goes_on_after_an_end_allows_nothing(unit: "Unit") -> None:
    unit.release()
    released = unit.journal.entries()[-1]
    unit.account.close(unit.plan, Ending.CANCELLED, day=DAY)
    state = unit.account.state()
    with pytest.raises(LedgerUnreadableError):
        apply_entry(state, Entry(released.seq + 2, "release", {**released.body, "step": 1}))
    with pytest.raises(LedgerUnreadableError):
        apply_entry(state, Entry(released.seq + 2, "closing", unit.journal.entries()[-1].body))


def test_the_published_schema_has_every_kind_of_entry() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert set(schema["properties"]) == set(UNIT_KINDS)
    for body in UNIT_KINDS.values():
        assert set(schema["$defs"][body.__name__]["properties"]) == set(body.model_fields)


def test_files_of_signatures_that_cannot_be_used_are_said_to_be_so(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    assert read_policy_signatures(policy) == []
    assert read_plan_signature(tmp_path / "plan.toml") is None
    (tmp_path / "policy.yaml.sig").mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        read_policy_signatures(policy)
    with pytest.raises(StorageError, match="was not written"):
        add_policy_signature(tmp_path / "nowhere/policy.yaml", sign_policy("00" * 32, "ann", SigningKey.generate()))


@pytest.mark.parametrize("key", ["", "ann", "AAAA", SOMEBODY[:-1], SOMEBODY + "A"])
def test_a_policy_names_no_key_that_is_none(key: str) -> None:
    assert ApprovalRules(officers={"ann": SOMEBODY}).officers
    with pytest.raises(ValueError, match="officers"):
        ApprovalRules(officers={"ann": key})
    with pytest.raises(ValueError, match="public_key"):
        RequesterRule(public_key=key)


def test_an_officers_signature_takes_the_place_of_an_earlier_one_and_stands_beside_others(tmp_path: Path) -> None:
    policy, key = tmp_path / "policy.yaml", SigningKey.generate()
    eve, ann, again = (
        sign_policy(digest * 32, name, key) for name, digest in (("eve", "00"), ("ann", "00"), ("ann", "11"))
    )
    assert add_policy_signature(policy, eve) == [eve]
    assert add_policy_signature(policy, ann) == [ann, eve]
    assert add_policy_signature(policy, again) == read_policy_signatures(policy) == [again, eve]
    assert [path.name for path in tmp_path.iterdir()] == ["policy.yaml.sig"]


def test_a_requesters_signature_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan, signed = tmp_path / "plan.toml", sign_plan("a1" * 32, SigningKey.generate())
    assert write_plan_signature(plan, signed) == tmp_path / "plan.toml.sig"
    assert read_plan_signature(plan) == signed


@pytest.mark.parametrize("day", ["20250601", "2025-W22-7", "2025-06-31", "yesterday"])
def test_a_day_has_one_spelling(bare: "Unit", day: str) -> None:
    with pytest.raises(ValueError, match="made_on"):
        decision(bare, SigningKey.generate(), Verdict.APPROVE, made_on=day)


# What stands in ledgers for ever


def test_the_words_of_entries_are_those_that_old_ledgers_hold() -> None:
    assert sorted(UNIT_KINDS) == [
        "approval",
        "closing",
        "decision",
        "key_change",
        "policy",
        "refusal",
        "release",
        "rights_batch",
        "start",
    ]
    assert [str(one) for one in Verdict] == ["approve", "deny", "cancel", "revoke"]
    assert [str(one) for one in Ending] == ["expired", "cancelled", "revoked"]


def test_what_a_signature_is_for_stands_before_what_it_signs(bare: "Unit") -> None:
    said = decision(bare, SigningKey.generate(), Verdict.APPROVE)
    everything_else = {name: value for name, value in said.facts().items() if name != "signature"}
    assert said.signed_bytes == b"fedseg/decision/v1\n" + canonical(everything_else)
    key, digest = SigningKey.generate(), "c3" * 32
    policy, plan = sign_policy(digest, "ann", key), sign_plan(digest, key)
    for signature, context in ((policy.signature, b"fedseg/policy/v1\n"), (plan.signature, b"fedseg/plan/v1\n")):
        assert key.public.verify(bytes.fromhex(signature), context + bytes.fromhex(digest))


def test_the_published_schema_of_entries_is_the_one_in_force() -> None:
    published = Path(__file__).parents[2] / "docs/reference/ledger-entries.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == json_schema()
