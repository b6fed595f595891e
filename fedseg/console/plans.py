"""Plans that wait, as an officer must see them before deciding, and what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from fedseg.console.account import part_of, plan_name
from fedseg.errors import FedsegError, TrustError
from fedseg.ledger.keys import SigningKey
from fedseg.node.approvals import BudgetForecast, Preflight, forecast_budget, preflight
from fedseg.node.decision import Basis, unsigned_decision
from fedseg.node.home import NodeHome
from fedseg.node.inbox import Inbox, WaitingPlan
from fedseg.plan import Plan, caps_of
from fedseg.policy.document import Policy, load_policy
from fedseg.privacy.account import PrivacyAccount, day_of
from fedseg.privacy.budget import epsilon_of, fraction_text, shown_epsilon
from fedseg.privacy.entries import ApprovalRules, RefusalBody, Verdict, unit_body
from fedseg.privacy.signatures import Officer
from fedseg.privacy.state import Reservation
from fedseg.report.officer.meaning import loss


class Signer(NamedTuple):
    """The officer at the console: a name in the policy, and where their key is. The key is read for each decision."""

    name: str
    key_file: Path

    def officer(self) -> Officer:
        """The officer, with the key.

        Raises:
            KeyFileError: If it cannot be used.
        """
        return Officer(self.name, SigningKey.load(self.key_file))


def require_signer(home: NodeHome, signer: Signer) -> None:
    """Refuse somebody whom the unit's policy does not name, or who has another key.

    Raises:
        TrustError: If so.
        KeyFileError: If the key file cannot be used.
    """
    officers = caps_of(load_policy(home.policy_document())).approvals.officers
    if officers.get(signer.name) != signer.officer().key.public.to_text():
        raise TrustError(
            f"{signer.name!r} cannot decide for this unit",
            why="its policy names no such officer" if signer.name not in officers else "its policy has another key",
            fix="compare the key with the policy: fedseg key show FILE; fedseg policy explain POLICY.yaml",
        )


@dataclass(frozen=True, slots=True)
class InboxLine:
    """A plan that waits."""

    waiting: WaitingPlan
    requester: str
    price: BudgetForecast
    epsilon_before: str
    epsilon_after: str
    left_after: Fraction
    """Part of the cap that could be approved beside it."""


@dataclass(frozen=True, slots=True)
class InboxFacts:
    """The inbox."""

    rules: ApprovalRules
    lines: Sequence[InboxLine]
    damaged: Sequence[str]
    """Names of files in it that are no plan."""


@dataclass(frozen=True, slots=True)
class RoundLine:
    """What leaves the unit in one round."""

    number: int
    sends: str
    cells: int
    integers: int
    noise: str
    """Of every single number, in lengths of what one customer adds."""
    rho: str
    epsilon_after: str
    """Of this plan alone, up to this round."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What an officer would sign."""

    verdict: Verdict
    text: str
    """The very bytes, in UTF-8."""


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """A waiting plan with everything that a decision about it rests on."""

    waiting: WaitingPlan
    requester: str
    rules: ApprovalRules
    basis: Basis
    rounds: Sequence[RoundLine]
    price: BudgetForecast
    epsilon: Mapping[str, str]
    """Before, after, and at the cap; of this plan at one unit, and in as many as a customer may be in."""
    guess_unit: Decimal
    """How often somebody who knows all else guesses right, at most, whether a customer was counted at this unit."""
    guess_all: Decimal
    """The same, in as many units as a customer may be in."""
    left_after: Fraction
    """Part of the cap that could be approved beside it."""
    checked: Preflight | FedsegError
    """LOCAL: what the unit's own data say; or why the plan cannot be approved."""
    approve: Statement | None
    """None if the officer at the console signs nothing."""
    deny: Statement | None

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.waiting.plan


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a unit's ledger says of a plan."""

    plan_sha256: str
    name: str
    """Its name, or the beginning of its hash if no document of it is here."""
    reservation: Reservation | None
    """None if it is not approved."""
    can_end: bool
    """Whether its approval still holds."""
    approving: Sequence[str]
    """Officers who have approved so far, while it is not approved."""
    refused_on: str | None
    waits_for: int


def inbox_of(home: NodeHome) -> InboxFacts:
    """The plans that wait, and what each would cost. Reads no customer.

    Raises:
        PolicyError, StorageError, VerificationError: If policy, inbox or ledger cannot be read.
    """
    rules = caps_of(load_policy(home.policy_document())).approvals
    waiting, damaged = Inbox(home).waiting()
    return InboxFacts(rules, [_inbox_line(home, rules, one) for one in waiting], [path.name for path in damaged])


def plan_of(home: NodeHome, plan_sha256: str, signer: Signer | None, now: datetime) -> PlanFacts:
    """One of them in full; runs every check of an approval, on the unit's data as well, and reserves nothing.

    Raises:
        NotApprovedError: If it does not wait.
        PolicyError, StorageError, VerificationError: If policy, inbox or ledger cannot be read.
    """
    policy = load_policy(home.policy_document())
    waiting, rules, basis = Inbox(home).find(plan_sha256), caps_of(policy).approvals, Basis.of(home, policy, now)
    price = forecast_budget(home, waiting.plan)
    signs = signer if signer is not None and signer.name in rules.officers else None
    return PlanFacts(
        waiting=waiting,
        requester=_requester(waiting, rules),
        rules=rules,
        basis=basis,
        rounds=_rounds(waiting.plan),
        price=price,
        epsilon=_epsilons(waiting.plan, price),
        guess_unit=loss(price.rho, waiting.plan.budget.delta).guess,
        guess_all=loss(price.rho * waiting.plan.max_units_per_customer, waiting.plan.budget.delta).guess,
        left_after=part_of(price.rho_left_after, price.rho_cap),
        checked=_checked(home, waiting.plan, now),
        approve=statement(home, basis, waiting.plan.digest, Verdict.APPROVE, signs),
        deny=statement(home, basis, waiting.plan.digest, Verdict.DENY, signs),
    )


def outcome_of(home: NodeHome, plan_sha256: str, now: datetime) -> Outcome:
    """What the ledger says of a plan.

    Raises:
        PolicyError, StorageError, VerificationError: If policy, inbox or ledger cannot be read.
    """
    policy: Policy = load_policy(home.policy_document())
    waiting = {one.plan.digest: one.document for one in Inbox(home).waiting()[0]}
    with home.ledger() as ledger:
        state, entries = PrivacyAccount(ledger).state(), ledger.entries()
        name = plan_name(plan_sha256, lambda key: ledger.payload(key) or waiting.get(plan_sha256))
    refusals = [body for entry in entries[1:] if isinstance(body := unit_body(entry), RefusalBody)]
    approving = state.approving(plan_sha256, policy.digest, home.source_sha256)
    approved = state.reservations.get(plan_sha256)
    return Outcome(
        plan_sha256,
        name,
        approved,
        approved is not None and approved.ending is None and not approved.is_expired(day_of(now)),
        approving,
        next((one.refused_on for one in reversed(refusals) if one.plan_sha256 == plan_sha256), None)
        if plan_sha256 in state.refused
        else None,
        max(0, caps_of(policy).approvals.required - len(approving)),
    )


def statement(
    home: NodeHome, basis: Basis, plan_sha256: str, verdict: Verdict, signer: Signer | None
) -> Statement | None:
    """What an officer would sign; None if nobody signs."""
    if signer is None:
        return None
    unsigned = unsigned_decision(home, basis, plan_sha256, verdict, signer.name)
    return Statement(verdict, unsigned.signed_bytes.decode())


def _inbox_line(home: NodeHome, rules: ApprovalRules, waiting: WaitingPlan) -> InboxLine:
    price = forecast_budget(home, waiting.plan)
    before, after = (_shown(rho, price.delta) for rho in (price.rho_reserved_before, price.rho_reserved_after))
    left = part_of(price.rho_left_after, price.rho_cap)
    return InboxLine(waiting, _requester(waiting, rules), price, before, after, left)


def _requester(waiting: WaitingPlan, rules: ApprovalRules) -> str:
    if waiting.signature is None:
        return "nobody has signed for it"
    known = rules.requester(waiting.signature.requester)
    return "somebody whom the policy does not know" if known is None else known[0]


def _checked(home: NodeHome, plan: Plan, now: datetime) -> Preflight | FedsegError:
    try:
        return preflight(home, plan, now=now, max_units_attested=plan.max_units_to_attest)
    except FedsegError as error:
        return error


def _rounds(plan: Plan) -> list[RoundLine]:
    lines: list[RoundLine] = []
    spent = Fraction(0)
    for one, terms, rho in zip(plan.settings.rounds, plan.terms, plan.step_rhos, strict=True):
        spent += rho
        length = float(terms.lattice.l2_sensitivity_squared) ** 0.5
        lines.append(
            RoundLine(
                number=terms.step + 1,
                sends=one.kind.sends,
                cells=terms.cells,
                integers=terms.length,
                noise=f"{terms.mechanism.sigma / length:.3g}",
                rho=fraction_text(rho),
                epsilon_after=_shown(spent, plan.budget.delta),
            )
        )
    return lines


def _epsilons(plan: Plan, price: BudgetForecast) -> dict[str, str]:
    return {
        "before": _shown(price.rho_reserved_before, price.delta),
        "after": _shown(price.rho_reserved_after, price.delta),
        "cap": _shown(price.rho_cap, price.delta),
        "unit": _shown(price.rho, plan.budget.delta),
        "all": _shown(price.rho * plan.max_units_per_customer, plan.budget.delta),
    }


def _shown(rho: Fraction, delta: Fraction) -> str:
    return shown_epsilon(epsilon_of(rho, delta))
