"""Plans are approved, refused and ended by the officers whom the unit's policy names, and by nobody else."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from fedseg.audit.verify import verify_ledger
from fedseg.clustering.request import request_sha256
from fedseg.errors import BudgetError, ClockError, NotApprovedError, PlanMismatchError, PolicyError, TrustError
from fedseg.ledger.keys import SigningKey
from fedseg.node.approvals import approve, deny, end_approval, preflight
from fedseg.node.contribute import contribute
from fedseg.node.decision import Basis
from fedseg.node.home import NodeHome
from fedseg.node.inbox import Inbox
from fedseg.plan import Plan
from fedseg.policy.document import load_policy
from fedseg.privacy.account import PrivacyAccount
from fedseg.privacy.entries import Ending
from fedseg.privacy.noise import SimulatedNoise
from fedseg.privacy.release import Release
from fedseg.privacy.signatures import Officer, PlanSignature, add_policy_signature, sign_plan, sign_policy
from fedseg.privacy.state import AccountState
from tests.small_federation import NOW, SmallFederation, make_federation, policy_document, some_request

SIZES = {"north": 60}


@dataclass
class Unit:
    """A unit whose policy names officers."""

    federation: SmallFederation
    officers: dict[str, Officer]
    requester: SigningKey

    @property
    def home(self) -> NodeHome:
        return self.federation.home("north")

    @property
    def plan(self) -> Plan:
        return self.federation.plan

    @property
    def state(self) -> AccountState:
        with self.home.ledger() as ledger:
            return PrivacyAccount(ledger).state()

    def approve(self, name: str | None = None, *, days: int = 0, **others: PlanSignature | bool) -> int:
        """How many officers are still waited for."""
        officer = None if name is None else self.officers[name]
        now = NOW + timedelta(days=days)
        federation = self.federation
        return approve(self.home, self.plan, federation.document, now=now, officer=officer, **others).waits_for  # type: ignore[arg-type]

    def answer(self, step: int = 0, *, days: int = 0) -> Release:
        request = some_request(self.plan, step)
        sha256 = request_sha256(self.plan.digest, request)
        now = NOW + timedelta(days=days)
        return contribute(self.home, self.plan.digest, request, sha256, now=now, source=SimulatedNoise(5))

    def kinds(self) -> list[str]:
        with self.home.ledger() as ledger:
            return [entry.kind for entry in ledger.entries()][1:]

    def another_plan(self, **changes: object) -> "Unit":
        """The same unit before another plan, whose terms differ."""
        import tomllib

        import tomli_w

        terms = tomllib.loads(self.federation.document.decode()) | changes
        document = tomli_w.dumps(terms).encode()
        return Unit(SmallFederation(self.federation.path, document), self.officers, self.requester)

    def verify(self) -> None:
        verify_ledger(self.home.path / "ledger.db", self.home.key.public)


Make = Callable[..., Unit]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a unit whose policy requires so many of its three officers; `more` is added to its approvals."""

    def made(required: int = 2, more: str = "", signed_by: tuple[str, ...] = ("ann", "bob", "eve")) -> Unit:
        officers = {name: Officer(name, SigningKey.generate()) for name in ("ann", "bob", "eve")}
        requester = SigningKey.generate()
        keys = ", ".join(f"{name}: '{one.key.public.to_text()}'" for name, one in officers.items())
        approvals = f"approvals:\n  officers: {{{keys}}}\n  required: {required}\n"
        approvals += more.format(requester=requester.public.to_text())
        federation = make_federation(tmp_path / "f", SIZES, policy=policy_document(approvals=approvals))
        unit = Unit(federation, officers, requester)
        sign(unit, *signed_by)
        return unit

    return made


def sign(unit: Unit, *names: str) -> None:
    """Have officers sign the unit's policy."""
    digest = load_policy(unit.home.policy_document()).digest
    for name in names:
        add_policy_signature(unit.home.path / "policy.yaml", sign_policy(digest, name, unit.officers[name].key))


# Two people


def test_a_plan_is_approved_once_as_many_officers_as_required_have_said_so(make: Make) -> None:
    unit = make(required=2)
    assert unit.approve("ann") == 1
    with pytest.raises(NotApprovedError, match="has not approved"):
        unit.answer()
    assert unit.state.rho_reserved == 0
    assert unit.approve("ann") == 1, "the same officer counts once"
    assert unit.approve("eve") == 0
    assert unit.kinds() == ["policy", "decision", "decision", "approval"]
    assert unit.state.rho_reserved == sum(unit.plan.step_rhos)
    unit.answer()
    unit.verify()


def test_nobody_approves_in_the_officers_place(make: Make) -> None:
    unit = make(required=1)
    stranger = Officer("mallory", SigningKey.generate())
    impostor = Officer("ann", SigningKey.generate())
    for officer, error in ((None, NotApprovedError), (stranger, TrustError), (impostor, TrustError)):
        with pytest.raises(error):
            approve(unit.home, unit.plan, unit.federation.document, now=NOW, officer=officer)
    assert "approval" not in unit.kinds()
    assert "decision" not in unit.kinds()


def test_an_officers_word_is_about_this_policy_and_this_source_alone(make: Make) -> None:
    unit = make(required=2)
    unit.approve("ann")
    settings = unit.home.path / "node.toml"
    text = settings.read_text()
    settings.write_text(text.replace("[source.columns]", '[source.columns]\nspend = "visits"'))
    assert settings.read_text() != text
    assert unit.approve("bob") == 1, "ann has agreed to another column"
    assert unit.approve("ann") == 0
    unit.verify()


def test_a_policy_with_officers_comes_into_force_only_with_their_signatures(make: Make) -> None:
    unit = make(required=2, signed_by=("ann",))
    with pytest.raises(PolicyError, match="too few officers"):
        unit.approve("ann")
    assert unit.kinds() == []
    sign(unit, "bob")
    assert unit.approve("ann") == 1


def test_officers_cannot_be_removed_without_their_signatures(make: Make) -> None:
    unit = make(required=1)
    unit.approve("ann")
    (unit.home.path / "policy.yaml").write_bytes(policy_document(rho_cap="5/1"))
    other = unit.another_plan(name="other")
    with pytest.raises(PolicyError, match="too few officers"):
        other.approve()
    sign(unit, "eve")
    assert other.approve() == 0, "the policy that no longer names officers was signed by one"
    unit.verify()


def test_a_damaged_file_of_signatures_is_refused(make: Make) -> None:
    unit = make(required=1)
    (unit.home.path / "policy.yaml.sig").write_text('{"signatures": [{"officer": "ann"}]}')
    with pytest.raises(TrustError, match="no file of signatures"):
        unit.approve("ann")


# Saying no, and ending


def test_one_officer_refuses_and_earlier_words_for_the_plan_count_no_longer(make: Make) -> None:
    unit = make(required=2)
    unit.approve("ann")
    deny(unit.home, unit.plan.digest, "The purpose is not ours.", now=NOW, officer=unit.officers["bob"])
    assert unit.approve("bob") == 1, "ann's word was before the refusal"
    assert unit.approve("ann") == 0
    assert unit.kinds() == ["policy", "decision", "decision", "refusal", "decision", "decision", "approval"]
    unit.verify()


def test_the_reason_of_a_refusal_stays_in_the_unit(make: Make) -> None:
    unit = make(required=1)
    deny(unit.home, unit.plan.digest, "Frau Nadelstich objects.", now=NOW, officer=unit.officers["ann"])
    assert b"Nadelstich" not in (unit.home.path / "ledger.db").read_bytes()
    (kept,) = (unit.home.path / "LOCAL" / "refusals").iterdir()
    assert b"Nadelstich" in kept.read_bytes()
    assert kept.stat().st_mode & 0o077 == 0
    with pytest.raises(NotApprovedError, match="an officer must decide"):
        deny(unit.home, unit.plan.digest, "no", now=NOW)


def test_what_is_approved_is_revoked_not_denied(make: Make) -> None:
    unit = make(required=1)
    unit.approve("ann")
    with pytest.raises(NotApprovedError, match="approved already"):
        deny(unit.home, unit.plan.digest, "too late", now=NOW, officer=unit.officers["bob"])


def test_a_revoked_approval_sends_nothing_any_more_not_even_what_was_sent_before(make: Make) -> None:
    unit = make(required=2)
    unit.approve("ann")
    unit.approve("bob")
    unit.answer(0)
    returned = end_approval(unit.home, unit.plan.digest, Ending.REVOKED, now=NOW, officer=unit.officers["eve"])
    assert returned == sum(unit.plan.step_rhos[1:])
    for step in (0, 1):
        with pytest.raises(NotApprovedError, match="revoked"):
            unit.answer(step)
    assert unit.state.rho_reserved == unit.state.rho_spent == unit.plan.step_rhos[0]
    with pytest.raises(NotApprovedError, match="has ended"):
        unit.approve("ann")
    unit.verify()


def test_nothing_is_ended_on_another_basis_than_was_shown(make: Make) -> None:
    unit = make(required=1)
    unit.approve("ann")
    shown = Basis.of(unit.home, load_policy(unit.home.policy_document()), NOW)
    before, ann = unit.kinds(), unit.officers["ann"]
    for changed in (replace(shown, made_on="2026-01-01"), replace(shown, policy_sha256="0" * 64)):
        with pytest.raises(PlanMismatchError, match="not what would be signed now"):
            end_approval(unit.home, unit.plan.digest, Ending.REVOKED, now=NOW, officer=ann, shown=changed)
    assert unit.kinds() == before
    end_approval(unit.home, unit.plan.digest, Ending.REVOKED, now=NOW, officer=ann, shown=shown)
    assert unit.kinds()[-2:] == ["decision", "closing"]


def test_a_cancelled_approval_repeats_what_was_sent_and_begins_nothing(make: Make) -> None:
    unit = make(required=1)
    unit.approve("ann")
    sent = unit.answer(0)
    end_approval(unit.home, unit.plan.digest, Ending.CANCELLED, now=NOW, officer=unit.officers["ann"])
    assert unit.answer(0).payload == sent.payload
    with pytest.raises(NotApprovedError, match="cancelled"):
        unit.answer(1)
    unit.verify()


def test_an_approval_expires_and_what_was_not_begun_is_free_again(make: Make) -> None:
    unit = make(required=1, more="  expire_days: 30\n")
    unit.approve("ann")
    sent = unit.answer(0, days=30)
    with pytest.raises(NotApprovedError, match="its time was over"):
        unit.answer(1, days=31)
    assert unit.answer(0, days=31).payload == sent.payload
    unit.another_plan(name="later").approve("ann", days=31)
    assert unit.kinds()[-3:] == ["closing", "decision", "approval"]
    assert unit.state.rho_reserved == unit.plan.step_rhos[0] + sum(unit.plan.step_rhos)
    unit.verify()


# Requesters


TERMS = """  requesters:
    marketing:
      public_key: "{requester}"
      rho_cap: "1/2"
      automatic: {{rho_per_plan: "1/3", rho_per_period: "1/2", period_days: 30}}
"""


def test_a_signed_plan_within_the_policys_terms_is_approved_by_itself(make: Make) -> None:
    unit = make(required=2, more=TERMS)
    signed = sign_plan(unit.plan.digest, unit.requester)
    with pytest.raises(NotApprovedError, match="without an officer"):
        unit.approve(automatic=True)
    assert unit.approve(requester=signed, automatic=True) == 0
    assert unit.kinds() == ["policy", "approval"]
    unit.verify()


def test_a_requesters_quota_is_counted_over_its_period(make: Make) -> None:
    unit = make(required=1, more=TERMS.replace('rho_cap: "1/2"', 'rho_cap: "4/1"'))
    price = sum(unit.plan.step_rhos)
    assert Fraction(1, 4) < price <= Fraction(1, 3)
    for days, name, fits in ((0, "a", True), (29, "b", False), (30, "c", True), (59, "d", False)):
        other = unit.another_plan(name=name)
        signed = sign_plan(other.plan.digest, unit.requester)
        if fits:
            assert other.approve(days=days, requester=signed, automatic=True) == 0
        else:
            with pytest.raises(NotApprovedError, match="quota for 30 days"):
                other.approve(days=days, requester=signed, automatic=True)
    unit.verify()


def test_a_requester_has_a_limit_that_officers_do_not_lift(make: Make) -> None:
    unit = make(required=1, more=TERMS)
    unit.approve("ann", requester=sign_plan(unit.plan.digest, unit.requester))
    other = unit.another_plan(name="more")
    with pytest.raises(BudgetError, match="for plans of marketing"):
        other.approve("ann", requester=sign_plan(other.plan.digest, unit.requester))
    assert other.approve("ann") == 0, "the same plan of somebody else fits under the cap over everything"
    unit.verify()


def test_a_signature_under_another_plan_is_refused(make: Make) -> None:
    unit = make(required=1, more=TERMS)
    signed = sign_plan("ab" * 32, unit.requester)
    with pytest.raises(TrustError, match="the plan's signature is not right"):
        unit.approve("ann", requester=signed)
    assert "approval" not in unit.kinds()


# The clock


def test_a_clock_behind_the_units_own_ledger_stops_everything(make: Make) -> None:
    unit = make(required=1)
    unit.approve("ann")
    unit.answer(0, days=3)
    with pytest.raises(ClockError, match="behind the unit's own ledger"):
        unit.answer(1, days=2)
    with pytest.raises(ClockError):
        end_approval(unit.home, unit.plan.digest, Ending.REVOKED, now=NOW, officer=unit.officers["ann"])
    unit.answer(1, days=3)


def test_what_root_does_in_a_units_home_belongs_to_the_units_user(make: Make) -> None:
    unit = make(required=1)
    if os.geteuid() == 0:
        os.chown(unit.home.path, 65534, 65534)
    owner = unit.home.path.stat().st_uid
    Inbox(unit.home).add(unit.federation.document, sign_plan(unit.plan.digest, unit.requester))
    deny(unit.home, unit.plan.digest, "no", now=NOW, officer=unit.officers["ann"])
    made = [unit.home.path / "inbox", unit.home.path / "LOCAL/refusals"]
    made += [file for folder in made for file in folder.iterdir()]
    assert len(made) == 5
    assert {path.stat().st_uid for path in made} == {owner}


def test_looking_at_a_plan_logs_nothing(make: Make) -> None:
    unit = make(required=1)
    preflight(unit.home, unit.plan, now=NOW)
    assert unit.kinds() == []


@pytest.mark.parametrize("changed", ["policy_sha256", "source_sha256", "made_on"])
def test_nobody_signs_another_basis_than_they_were_shown(make: Make, changed: str) -> None:
    unit = make(required=1)
    shown = Basis.of(unit.home, load_policy(unit.home.policy_document()), NOW)
    other = replace(shown, **{changed: "0" * 64})
    ann, entries = unit.officers["ann"], unit.kinds()
    with pytest.raises(PlanMismatchError, match="what was shown"):
        approve(unit.home, unit.plan, unit.federation.document, now=NOW, officer=ann, shown=other)
    with pytest.raises(PlanMismatchError, match="what was shown"):
        deny(unit.home, unit.plan.digest, "no", now=NOW, officer=ann, shown=other)
    assert unit.kinds() == entries
    approve(unit.home, unit.plan, unit.federation.document, now=NOW, officer=ann, shown=shown)
    assert unit.kinds()[-1] == "approval"


def test_an_approved_plan_waits_no_longer(make: Make) -> None:
    unit = make(required=1)
    Inbox(unit.home).add(unit.federation.document, None)
    unit.approve("ann")
    assert not list((unit.home.path / "inbox").iterdir())
