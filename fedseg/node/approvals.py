"""Before a plan is approved: every check that may depend on the unit's customers, for the unit's own eyes.

Afterwards nothing the server sees depends on a row any more, so this is the one place where a unit may say no
because of its data: nobody consented, too few customers, text where numbers should be.
"""

import hashlib
import secrets
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction

from fedseg.errors import (
    BudgetError,
    CohortTooSmallError,
    ConsentError,
    FedsegError,
    NotApprovedError,
    PlanMismatchError,
    PolicyError,
    TrustError,
    UnsupportedTrustError,
)
from fedseg.ledger.canonical import canonical
from fedseg.node.decision import Basis, sign_decision
from fedseg.node.gate import decide_now
from fedseg.node.home import NodeHome
from fedseg.node.inbox import Inbox
from fedseg.node.source import SourceCheck, inspect_source, open_source
from fedseg.node.sources.public_tables import require_named
from fedseg.plan import Plan, TrustModel, caps_of, policy_outcomes
from fedseg.policy.document import Policy, load_policy
from fedseg.policy.gate import Reason, tally
from fedseg.policy.rules import RuleOutcome
from fedseg.privacy.account import PlanTerms, PrivacyAccount, day_of
from fedseg.privacy.entries import Ending, Verdict
from fedseg.privacy.signatures import Officer, PlanSignature
from fedseg.privacy.state import AccountState, Reservation


@dataclass(frozen=True, slots=True)
class Preflight:
    """What the unit's officer sees before approving. The exact counts are LOCAL: they never leave the unit."""

    plan_sha256: str
    rules: tuple[RuleOutcome, ...]
    rho: Fraction
    """Price of the plan at this unit."""
    rho_reserved_before: Fraction
    already_approved: bool
    rho_cap: Fraction
    delta: Fraction
    source: SourceCheck
    """LOCAL."""
    columns: Mapping[str, str]
    """Column in the source by feature, where they differ. LOCAL."""
    reasons: dict[Reason, int]
    """Distinct customers per decision of the gate. LOCAL."""
    waits_for: int = 0
    """How many more officers must approve before the plan is approved."""

    @property
    def rho_reserved_after(self) -> Fraction:
        """Price of all approved plans once this one is; the same as before if it is approved already."""
        return self.rho_reserved_before + (Fraction(0) if self.already_approved else self.rho)

    @property
    def admitted(self) -> int:
        """Customers who may be counted. LOCAL."""
        return self.reasons.get(Reason.ALLOWED, 0)


@dataclass(frozen=True, slots=True)
class BudgetForecast:
    """What a plan would cost at a unit; from policy, plan and ledger, from nobody's row."""

    plan_sha256: str
    rho: Fraction
    rho_reserved_before: Fraction
    rho_reserved_after: Fraction
    already_approved: bool
    rho_cap: Fraction
    delta: Fraction
    refusal: FedsegError | None
    """Why it does not fit, or the policy says no; None if it does."""
    rho_kept_back_after: Fraction
    """What the cap then keeps back, where the ledger is witnessed."""

    @property
    def rho_left_after(self) -> Fraction:
        """What could still be approved once the plan is."""
        return max(Fraction(0), self.rho_cap - self.rho_reserved_after - self.rho_kept_back_after)


def forecast_budget(home: NodeHome, plan: Plan) -> BudgetForecast:
    """What a plan would cost at this unit under the policy at hand."""
    return forecast_in_turn(home, [plan])[0]


def forecast_in_turn(home: NodeHome, plans: Sequence[Plan]) -> list[BudgetForecast]:
    """What plans would cost at this unit, approved in this order: each beside those before it that fit."""
    policy = load_policy(home.policy_document())
    with home.ledger() as ledger:
        state = replace(PrivacyAccount(ledger).state(), caps=caps_of(policy))
    found: list[BudgetForecast] = []
    for plan in plans:
        one = _forecast(state, plan, policy)
        if one.refusal is None and not one.already_approved:
            made = Reservation(
                plan.digest, plan.purpose, plan.step_rhos, policy.digest, home.source_sha256, state.newest_day
            )
            state = replace(state, reservations={**state.reservations, plan.digest: made})
        found.append(one)
    return found


def _forecast(state: AccountState, plan: Plan, policy: Policy) -> BudgetForecast:
    rho = sum(plan.step_rhos, Fraction(0))
    approved = plan.digest in state.reservations
    refused = [rule for rule in policy_outcomes(plan, policy) if not rule.allowed]
    refusal: FedsegError | None = _refusal(refused[0]) if refused else None
    if not approved and refusal is None:
        try:
            state.require_room(plan.purpose, rho, step_rhos=plan.step_rhos)
        except BudgetError as error:
            refusal = error
    before = state.rho_reserved
    return BudgetForecast(
        plan_sha256=plan.digest,
        rho=rho,
        rho_reserved_before=before,
        rho_reserved_after=before if approved else before + rho,
        already_approved=approved,
        rho_cap=policy.budget.rho_cap,
        delta=policy.budget.delta,
        refusal=refusal,
        rho_kept_back_after=state.residue(plan.step_rhos),
    )


def preflight(
    home: NodeHome,
    plan: Plan,
    *,
    now: datetime,
    expected_sha256: str | None = None,
    max_units_attested: int | None = None,
) -> Preflight:
    """Check a plan against trust model, identity, policy, budget and data, in this order; reserves nothing.

    Args:
        home: The unit's.
        plan: The plan.
        now: When.
        expected_sha256: Hash of the agreed plan.
        max_units_attested: The unit's word that none of its customers is in more units than this.

    Raises:
        PlanMismatchError: The plan is not the one whose hash was agreed, or the source settings were changed since.
        UnsupportedTrustError: Secure aggregation is not available in this version.
        TrustError: The plan names another key for this unit, does not name the unit, or needs another attestation.
        PolicyError: A rule of the unit's policy says no.
        BudgetError: The plan does not fit.
        DataError, ConsentError, CohortTooSmallError: The unit's own data; said to the unit alone.
    """
    _require_attested(plan, max_units_attested)
    return _preflight(home, plan, load_policy(home.policy_document()), now=now, expected_sha256=expected_sha256)


def approve(
    home: NodeHome,
    plan: Plan,
    document: bytes,
    *,
    now: datetime,
    expected_sha256: str | None = None,
    max_units_attested: int | None = None,
    officer: Officer | None = None,
    requester: PlanSignature | None = None,
    automatic: bool = False,
    shown: Basis | None = None,
) -> Preflight:
    """Run `preflight`, then log the policy in force and reserve the plan's whole price in the unit's ledger.

    The policy file is read once: what was checked is what is logged. Where the policy names officers, the plan is
    approved once as many have said so as it requires; until then the result's `waits_for` is not 0. An approved plan
    is taken out of the inbox.

    Args:
        home: The unit's.
        plan: The plan.
        document: Its bytes.
        now: When.
        expected_sha256: Hash of the agreed plan.
        max_units_attested: The unit's word that none of its customers is in more units than this.
        officer: Who approves; None where the policy names no officers.
        requester: Who asks, and their signature.
        automatic: Whether the policy's terms for the requester stand in for officers.
        shown: What the officer saw; None where that cannot differ.

    Raises:
        NotApprovedError: The policy asks for an officer, has no automatic terms that cover the plan, or its approval
            has ended before.
        PlanMismatchError: Also if the decision would rest on something else than was shown.
        As `preflight`; then nothing was logged.
    """
    _require_attested(plan, max_units_attested)
    policy_document = home.policy_document()
    policy = load_policy(policy_document)
    basis = Basis.of(home, policy, now)
    basis.require(shown)
    found = _preflight(home, plan, policy, now=now, expected_sha256=expected_sha256)
    terms = PlanTerms(
        plan_sha256=plan.digest,
        document=document,
        purpose=plan.purpose,
        step_rhos=plan.step_rhos,
        source_sha256=home.source_sha256,
        max_units_attested=plan.max_units_to_attest,
        requester=None if requester is None else requester.requester,
        requester_signature=None if requester is None else requester.signature,
    )
    with _account_under(home, policy, policy_document) as account:
        decision = sign_decision(home, basis, plan.digest, Verdict.APPROVE, officer)
        approved = account.approve(terms, day=day_of(now), decision=decision, automatic=automatic)
        said = account.state().approving(plan.digest, policy.digest, home.source_sha256)
    if approved:
        Inbox(home).remove(plan.digest)
    required = 0 if policy.approvals is None else policy.approvals.required
    return replace(found, waits_for=0 if approved else required - len(said))


def deny(
    home: NodeHome,
    plan_sha256: str,
    reason: str,
    *,
    now: datetime,
    officer: Officer | None = None,
    shown: Basis | None = None,
) -> None:
    """Log that the unit refuses a plan. The ledger holds a salted hash of the reason; the reason stays in LOCAL.

    Raises:
        PlanMismatchError: The decision would rest on something else than was `shown`.
        NotApprovedError: The plan is approved already, or the policy asks for an officer.
        TrustError: The officer is none of the policy's, or the key is another.
        StorageError: Nothing was logged.
    """
    document = home.policy_document()
    policy = load_policy(document)
    basis = Basis.of(home, policy, now)
    basis.require(shown)
    salt = secrets.token_bytes(32)
    record = {"plan_sha256": plan_sha256, "reason": reason, "salt": salt.hex(), "day": day_of(now)}
    home.keep_local(f"refusals/{plan_sha256}-{salt.hex()[:16]}.json", canonical(record))
    with _account_under(home, policy, document) as account:
        decision = sign_decision(home, basis, plan_sha256, Verdict.DENY, officer)
        commitment = hashlib.sha256(salt + reason.encode()).hexdigest()
        account.refuse(plan_sha256, day=day_of(now), reason_commitment=commitment, decision=decision)


def end_approval(
    home: NodeHome,
    plan_sha256: str,
    ending: Ending,
    *,
    now: datetime,
    officer: Officer | None = None,
    shown: Basis | None = None,
) -> Fraction:
    """End an approval; returns the price of the rounds not begun, which is free again.

    Raises:
        PlanMismatchError: The decision would rest on something else than was `shown`.
        NotApprovedError: There is no such approval, it has ended, or the policy asks for an officer.
        TrustError: The officer is none of the policy's, or the key is another.
    """
    verdict = Verdict.REVOKE if ending is Ending.REVOKED else Verdict.CANCEL
    document = home.policy_document()
    policy = load_policy(document)
    basis = Basis.of(home, policy, now)
    basis.require(shown)
    with _account_under(home, policy, document) as account:
        decision = sign_decision(home, basis, plan_sha256, verdict, officer)
        return account.close(plan_sha256, ending, day=day_of(now), decision=decision)


def approved_digest(home: NodeHome, prefix: str) -> str:
    """The hash, which begins like this, of a plan that was approved here.

    Raises:
        NotApprovedError: If there is none, or more than one.
    """
    with home.ledger() as ledger:
        approved = [one for one in PrivacyAccount(ledger).state().reservations if one.startswith(prefix)]
    if len(approved) != 1:
        raise NotApprovedError(
            f"no one approved plan begins with {prefix}",
            why=f"{len(approved)} do",
            fix=f"fedseg budget show {home.path}",
        )
    return approved[0]


@contextmanager
def _account_under(home: NodeHome, policy: Policy, document: bytes) -> Generator[PrivacyAccount]:
    """The account, once this policy, which stands in `document`, is the one in its ledger."""
    with home.ledger() as ledger:
        account = PrivacyAccount(ledger)
        account.adopt_policy(
            caps_of(policy), policy_id=policy.id, document=document, signatures=home.policy_signatures()
        )
        yield account


def _preflight(home: NodeHome, plan: Plan, policy: Policy, *, now: datetime, expected_sha256: str | None) -> Preflight:
    _require_agreed(plan, expected_sha256)
    _require_identity(home, plan)
    rules = tuple(policy_outcomes(plan, policy))
    refused = [rule for rule in rules if not rule.allowed]
    if refused:
        raise _refusal(refused[0])
    state = _require_room(home, plan, policy)
    require_named(home.settings.source.lookups, plan)
    source = inspect_source(home, plan.encoders)
    with home.register() as register:
        decisions = decide_now(home, register, policy, plan.purpose, now)
    reasons = dict(tally(open_source(home, [feature.column for feature in plan.encoders]), decisions))
    require_cohort(reasons[Reason.ALLOWED], policy.rule(plan.purpose).min_cohort)
    return Preflight(
        plan_sha256=plan.digest,
        rules=rules,
        rho=sum(plan.step_rhos, Fraction(0)),
        rho_reserved_before=state.rho_reserved,
        already_approved=plan.digest in state.reservations,
        rho_cap=policy.budget.rho_cap,
        delta=policy.budget.delta,
        source=source,
        columns=home.settings.source.columns,
        reasons=reasons,
    )


def _require_room(home: NodeHome, plan: Plan, policy: Policy) -> AccountState:
    """The account as it stands, if the plan fits under the caps of the policy at hand."""
    with home.ledger() as ledger:
        state = PrivacyAccount(ledger).state()
    approved = plan.digest in state.reservations
    if approved:
        state.require_same_source(plan.digest, home.source_sha256)
    price = Fraction(0) if approved else sum(plan.step_rhos, Fraction(0))
    replace(state, caps=caps_of(policy)).require_room(plan.purpose, price, step_rhos=plan.step_rhos)
    return state


def _require_agreed(plan: Plan, expected_sha256: str | None) -> None:
    if plan.trust is not TrustModel.UNIT_NOISE:
        raise UnsupportedTrustError(
            f"the plan's trust model is {plan.trust.value}",
            why="units of this version add the full noise themselves and send no noise shares",
            fix='set trust = "unit-noise" in the plan',
        )
    if expected_sha256 is not None and expected_sha256 != plan.digest:
        raise PlanMismatchError(
            "this is not the plan that was agreed",
            why=f"its hash begins {plan.digest[:16]}, the agreed one {expected_sha256[:16]}",
            fix="ask the coordinator for the agreed file; compare with: fedseg plan show PLAN.toml",
        )


def _require_attested(plan: Plan, attested: int | None) -> None:
    needed = plan.max_units_to_attest
    if needed is not None and attested is None:
        raise TrustError(
            f"the plan counts on every customer being in at most {needed} of its {len(plan.units)} units",
            why="only the units can know, epsilon is wrong if it is not so, and this unit has not said so",
            fix=f"if it is true of all customers: fedseg approve PLAN.toml --node HOME --attest-max-units {needed}",
        )
    if attested is not None and attested != needed:
        raise TrustError(
            f"the plan does not count on customers being in at most {attested} units",
            why=f"it counts on at most {plan.max_units_per_customer} of its {len(plan.units)} units",
            fix="read the plan again: fedseg plan show PLAN.toml",
        )


def _require_identity(home: NodeHome, plan: Plan) -> None:
    index = plan.unit_index(home.settings.unit)
    if index is None:
        raise TrustError(
            f"the plan does not name unit {home.settings.unit!r}",
            why="only the units it names take part",
            fix="ask the coordinator for a plan with this unit",
        )
    if plan.units[index].public_key != home.key.public.to_text():
        raise TrustError(
            f"the plan names another key for unit {home.settings.unit!r}",
            why=f"this unit's key has the fingerprint {home.key.public.fingerprint()}",
            fix="compare fingerprints with the coordinator by phone; have the plan corrected",
        )


def _refusal(rule: RuleOutcome) -> FedsegError:
    if rule.rule.endswith((".rho_cap", ".delta")):
        return BudgetError(
            "the policy does not allow this plan's privacy budget",
            why=rule.reason,
            fix="lower epsilon in the plan, or have the policy changed",
        )
    return PolicyError(
        f"the policy says no: {rule.rule}", why=rule.reason, fix="fedseg policy test POLICY.yaml --plan PLAN.toml"
    )


def require_cohort(admitted: int, min_cohort: int) -> None:
    """Refuse to count fewer customers than the policy's minimum cohort; LOCAL, for the unit's own eyes.

    Raises:
        ConsentError: If nobody may be counted.
        CohortTooSmallError: If too few may.
    """
    if admitted == 0:
        raise ConsentError(
            "no customer of this unit may be counted",
            why="nobody in the data has a valid consent for this purpose and no veto",
            fix="import the consent register, then look at the reasons: fedseg approve PLAN.toml --node HOME --dry-run",
        )
    if admitted < min_cohort:
        # The count itself stays out of the message: messages end up in logs.
        raise CohortTooSmallError(
            "fewer customers may be counted than the policy's minimum cohort",
            why=f"the policy asks for at least {min_cohort}",
            fix="wait for more consents, or have the policy changed",
        )
