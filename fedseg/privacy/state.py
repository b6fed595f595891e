"""`AccountState`: what a unit's ledger says may still be released. Pure: entries in, a value out.

One cap per customer over everything the unit ever releases; sub-limits per purpose and per requester below it. A plan
reserves its whole price when it is approved, so plans that run at the same time cannot overspend together. The same
replay serves the node and the auditor.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from fractions import Fraction
from typing import Final

from fedseg.errors import (
    BudgetError,
    ClockError,
    LedgerUnreadableError,
    NotApprovedError,
    PlanMismatchError,
    PolicyError,
    StepAnsweredError,
)
from fedseg.ledger.entries import GENESIS, Entry
from fedseg.privacy.budget import Charge, epsilon_of, shown_epsilon, sum_of_rhos
from fedseg.privacy.entries import (
    ApprovalBody,
    ApprovalRules,
    ClosingBody,
    DecisionBody,
    Ending,
    KeyChangeBody,
    PolicyBody,
    RefusalBody,
    ReleaseBody,
    RightsBatchBody,
    StartBody,
    UnitBody,
    Verdict,
    WitnessRules,
    unit_body,
)

NO_OFFICERS: Final = ApprovalRules()


@dataclass(frozen=True, slots=True)
class Caps:
    """The part of the unit's policy that the account enforces, as logged."""

    policy_sha256: str
    rho_cap: Fraction
    """Most zCDP loss of one customer over everything the unit ever releases."""
    delta: Fraction
    """The delta at which epsilon is shown."""
    purpose_rho_caps: Mapping[str, Fraction]
    """Sub-limits per purpose."""
    approvals: ApprovalRules = NO_OFFICERS
    """Who approves."""
    witnesses: WitnessRules | None = None
    """Who must have cosigned the ledger; None where the policy says nothing of witnesses."""

    @property
    def is_witnessed(self) -> bool:
        """Whether nothing leaves without cosignatures."""
        return self.witnesses is not None and self.witnesses.quorum > 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """An approved plan and what it has begun to spend."""

    plan_sha256: str
    purpose: str
    step_rhos: tuple[Fraction, ...]
    """Price of each step, reserved at approval."""
    policy_sha256: str
    """The policy in force at approval."""
    source_sha256: str
    """Hash of the unit's source settings at approval: which file, identifier and columns."""
    approved_on: str
    """Day, UTC."""
    expires_on: str | None = None
    """The last day on which it holds."""
    requester: str | None = None
    """Key of whoever signed the plan."""
    automatic: bool = False
    """Whether the policy's terms for the requester stood in for officers."""
    answered: Mapping[int, str] = field(default_factory=dict)
    """Release id by answered step."""
    rho_spent: Fraction = Fraction(0)
    """Sum of its charges so far."""
    ending: Ending | None = None
    """How it ended; None as long as it holds."""
    rho: Fraction = field(init=False)
    """The whole price of the plan."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rho", sum_of_rhos(self.step_rhos))

    @property
    def rho_held(self) -> Fraction:
        """What it keeps from others: its whole price, or once it has ended what was spent."""
        return self.rho if self.ending is None else self.rho_spent

    def is_expired(self, day: str) -> bool:
        """Whether its time is over on this day."""
        return self.ending is None and self.expires_on is not None and day > self.expires_on

    def is_unfinished(self, day: str) -> bool:
        """Whether a round of it may still be answered on this day."""
        return self.ending is None and not self.is_expired(day) and len(self.answered) < len(self.step_rhos)


@dataclass(frozen=True, slots=True)
class AccountState:
    """The account after some entries of the ledger."""

    caps: Caps | None = None
    """None before the first policy is logged: then nothing may be approved."""
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    """By plan hash."""
    decisions: Mapping[str, tuple[DecisionBody, ...]] = field(default_factory=dict)
    """What officers have said about each plan since it was last approved or refused, by plan hash."""
    refused: frozenset[str] = frozenset()
    """Plans refused and not approved since, by hash."""
    rho_spent: Fraction = Fraction(0)
    """Sum of all charges so far."""
    noise_sources: frozenset[str] = frozenset()
    """Every source that noise was drawn from; anything but "system" is not a differentially private release."""
    newest_day: str = ""
    """The latest day that stands in an entry."""
    rights_period: str | None = None
    """The latest day whose rights requests have their entry."""

    @property
    def rho_reserved(self) -> Fraction:
        """What all approved plans hold, spent or not."""
        return sum_of_rhos(one.rho_held for one in self.reservations.values())

    def spent_for(self, purpose: str) -> Fraction:
        """Sum of all charges of one purpose so far."""
        return sum_of_rhos(one.rho_spent for one in self.reservations.values() if one.purpose == purpose)

    @property
    def rho_guaranteed(self) -> Fraction:
        """The most a customer loses: the cap in force, or what was spent before the cap was lowered below it."""
        return self.rho_spent if self.caps is None else max(self.caps.rho_cap, self.rho_spent)

    def reserved_for(self, purpose: str) -> Fraction:
        """What all approved plans of one purpose hold."""
        return sum_of_rhos(one.rho_held for one in self.reservations.values() if one.purpose == purpose)

    def reserved_by(self, requester: str) -> Fraction:
        """What all approved plans of one requester hold."""
        return sum_of_rhos(one.rho_held for one in self.reservations.values() if one.requester == requester)

    def residue(self, step_rhos: Sequence[Fraction] = ()) -> Fraction:
        """What the cap keeps back where a ledger is witnessed: a unit that is rolled back can spend one release twice.

        No more than the dearest release of any plan, of those approved and of the one that costs `step_rhos`.
        """
        if self.caps is None or not self.caps.is_witnessed:
            return Fraction(0)
        return max(
            (*step_rhos, *(rho for one in self.reservations.values() for rho in one.step_rhos)), default=Fraction(0)
        )

    @property
    def rho_left(self) -> Fraction:
        """What may still be approved: the cap, less what is reserved and what is kept back; 0 before any policy."""
        cap = Fraction(0) if self.caps is None else self.caps.rho_cap
        return max(Fraction(0), cap - self.rho_reserved - self.residue())

    def require_room(
        self, purpose: str, rho: Fraction, requester: str | None = None, *, step_rhos: Sequence[Fraction] = ()
    ) -> Caps:
        """Refuse a plan of price `rho` that does not fit beside all that is reserved; the caps in force.

        Args:
            purpose: The plan's.
            rho: What is to be reserved.
            requester: Key of whoever signed the plan.
            step_rhos: Prices of its releases, of which one may be spent twice where the ledger is witnessed.

        Raises:
            BudgetError: If the cap over everything, the purpose's or the requester's would be passed.
            PolicyError: If no policy is logged yet.
        """
        kept = self.residue(step_rhos)
        caps = self._require_under_caps(purpose, self.rho_reserved, self.reserved_for, rho + kept)
        known = caps.approvals.requester(requester)
        if known is not None and known[1].rho_cap is not None:
            name, rule = known
            wanted = self.reserved_by(rule.public_key) + rho
            if wanted > known[1].rho_cap:
                raise _over_budget(f"for plans of {name}", wanted, known[1].rho_cap, caps.delta)
        return caps

    def require_automatic(self, requester: str | None, rho: Fraction, day: str) -> None:
        """Refuse to approve a plan without officers, unless the policy's terms for its requester cover it.

        Raises:
            NotApprovedError: If they do not.
        """
        rules = NO_OFFICERS if self.caps is None else self.caps.approvals
        known = rules.requester(requester)
        terms = None if known is None else known[1].automatic
        if terms is None:
            raise _not_automatic("the policy has no terms for automatic approval of this requester's plans")
        if rho > terms.rho_per_plan:
            raise _not_automatic("it costs more than the policy lets pass by itself")
        first = (date.fromisoformat(day) - timedelta(days=terms.period_days - 1)).isoformat()
        recent = (
            one.rho
            for one in self.reservations.values()
            if one.automatic and one.requester == requester and one.approved_on >= first
        )
        if sum(recent, rho) > terms.rho_per_period:
            raise _not_automatic(f"this requester's quota for {terms.period_days} days is used up")

    def approving(self, plan_sha256: str, policy_sha256: str, source_sha256: str) -> tuple[str, ...]:
        """The officers who approve the plan under this policy with these source settings, by name."""
        said = self.decisions.get(plan_sha256, ())
        agreed = (policy_sha256, source_sha256)
        return tuple(
            sorted(
                {
                    one.officer
                    for one in said
                    if one.verdict is Verdict.APPROVE and (one.policy_sha256, one.source_sha256) == agreed
                }
            )
        )

    def _require_under_caps(
        self, purpose: str, over_everything: Fraction, for_purpose: Callable[[str], Fraction], more: Fraction
    ) -> Caps:
        """The cap over everything is checked first, then the purpose's sub-limit, if it has one."""
        if self.caps is None:
            raise no_policy()
        if over_everything + more > self.caps.rho_cap:
            raise _over_budget(
                "over everything this unit releases", over_everything + more, self.caps.rho_cap, self.caps.delta
            )
        limit = self.caps.purpose_rho_caps.get(purpose)
        if limit is not None and (after := for_purpose(purpose) + more) > limit:
            raise _over_budget(f"for {purpose}", after, limit, self.caps.delta)
        return self.caps

    def require_day(self, day: str) -> None:
        """Refuse to go on with a clock behind the ledger's newest day.

        Raises:
            ClockError: If it is.
        """
        if day < self.newest_day:
            raise ClockError(
                "the computer's clock is behind the unit's own ledger",
                why=f"it says {day}, and the newest entry is of {self.newest_day}",
                fix="set the clock right; consents that ended must not come back",
            )

    def require_no_plan_open(self, day: str) -> None:
        """Refuse to replace the unit's key while a round may still be answered: plans name the key that signs replies.

        Raises:
            NotApprovedError: If there is such a plan.
        """
        unfinished = sorted(one.plan_sha256 for one in self.reservations.values() if one.is_unfinished(day))
        if unfinished:
            raise NotApprovedError(
                "the unit's key cannot be replaced now",
                why=f"plan {unfinished[0][:16]} is approved, names this key, and is not finished",
                fix=f"wait for its last round, or end it: fedseg revoke {unfinished[0][:16]} --node HOME --keep-sent",
            )

    def require_same_source(self, plan_sha256: str, source_sha256: str) -> None:
        """Refuse to read another file, identifier or column than was approved.

        Raises:
            NotApprovedError: If the unit has not approved the plan.
            PlanMismatchError: If the source settings were changed since.
        """
        require_same_source(self.reservation(plan_sha256), source_sha256)

    def reservation(self, plan_sha256: str) -> Reservation:
        """The approved plan of this hash.

        Raises:
            NotApprovedError: If the unit has not approved it.
        """
        found = self.reservations.get(plan_sha256)
        if found is None:
            raise NotApprovedError(
                "this unit has not approved the plan",
                why=f"no approval of plan {plan_sha256[:16]} stands in its ledger",
                fix="fedseg approve PLAN.toml --node HOME",
            )
        return found

    def require_served(self, plan_sha256: str) -> Reservation:
        """The approved plan of this hash, unless its approval was revoked: then not even stored bytes are sent again.

        Raises:
            NotApprovedError: If it was revoked, or never approved.
        """
        found = self.reservation(plan_sha256)
        if found.ending is Ending.REVOKED:
            raise _ended(found)
        return found

    def require_open(self, plan_sha256: str, day: str) -> Reservation:
        """The approved plan of this hash, if its approval still holds.

        Raises:
            NotApprovedError: If it was never approved, or its approval has ended.
        """
        found = self.reservation(plan_sha256)
        if found.ending is not None or found.is_expired(day):
            raise _ended(found)
        return found

    def require_step(self, plan_sha256: str, step: int, release_id: str, charge: Charge, day: str) -> None:
        """Refuse a release whose step is not in the plan, is answered already, or costs more than was reserved.

        The caps in force now count, not those at approval: a policy that was tightened since ends a plan it no longer
        covers. What was answered before is not charged again and is not refused, unless the approval was revoked.

        Raises:
            NotApprovedError, StepAnsweredError, BudgetError: As said.
        """
        reservation = self.require_served(plan_sha256)
        if not 0 <= step < len(reservation.step_rhos):
            raise NotApprovedError(
                f"step {step} is not in the approved plan",
                why=f"it has {len(reservation.step_rhos)} steps",
                fix="ask for a step of the plan",
            )
        if reservation.answered.get(step, release_id) != release_id:
            raise StepAnsweredError(
                f"step {step} of this plan was answered already",
                why="it was answered to a different request, and a second answer would spend twice",
                fix="repeat the first request to get the same bytes again",
            )
        if charge.rho > reservation.step_rhos[step]:
            raise BudgetError(
                f"step {step} would cost more than was reserved for it",
                why=f"rho {float(charge.rho):.3g} against {float(reservation.step_rhos[step]):.3g}",
                fix="approve the plan anew",
            )
        if step in reservation.answered:
            return
        if reservation.ending is not None or reservation.is_expired(day):
            raise _ended(reservation)
        purpose = reservation.purpose
        self._require_under_caps(purpose, self.rho_spent, self.spent_for, charge.rho + self.residue())


def replay(entries: Iterable[Entry], start: AccountState | None = None) -> AccountState:
    """The account after these entries; pure.

    Raises:
        LedgerUnreadableError: If an entry cannot be understood: an account that cannot be replayed allows nothing.
    """
    return functools.reduce(apply_entry, entries, AccountState() if start is None else start)


def apply_entry(state: AccountState, entry: Entry) -> AccountState:
    """The account after one more entry.

    Raises:
        LedgerUnreadableError: If the entry cannot be understood.
    """
    if entry.kind == GENESIS:
        return state
    try:
        return apply_body(state, unit_body(entry))
    except (KeyError, ValueError) as error:
        raise LedgerUnreadableError(
            f"entry {entry.seq} of the ledger cannot be understood",
            why=f"its kind is {entry.kind!r} and its fields are not those of that kind",
            fix="fedseg ledger verify LEDGER",
        ) from error


def apply_body(state: AccountState, body: UnitBody) -> AccountState:
    """The account after one more entry, already read.

    Raises:
        KeyError, ValueError: If it contradicts the entries before it.
    """
    after = _apply(state, body)
    return after if body.day is None or body.day <= state.newest_day else replace(after, newest_day=body.day)


def _apply(state: AccountState, body: UnitBody) -> AccountState:  # noqa: PLR0911 (one for each kind)
    match body:
        case PolicyBody():
            limits = body.purpose_rho_caps
            caps = Caps(body.policy_sha256, body.rho_cap, body.delta, limits, body.approvals, body.witnesses)
            return replace(state, caps=caps)
        case DecisionBody():
            said = (*state.decisions.get(body.plan_sha256, ()), body)
            return replace(state, decisions={**state.decisions, body.plan_sha256: said})
        case ApprovalBody():
            return _approved(state, body)
        case RefusalBody():
            return replace(_without_decisions(state, body.plan_sha256), refused=state.refused | {body.plan_sha256})
        case ClosingBody():
            ended = replace(_open(state, body.plan_sha256), ending=body.ending)
            return _without_decisions(_with(state, ended), body.plan_sha256)
        case ReleaseBody():
            return _released(state, body)
        case RightsBatchBody():
            return replace(state, rights_period=body.period)
        case StartBody() | KeyChangeBody():  # pragma: no branch (every kind stands here)
            return state


def _approved(state: AccountState, body: ApprovalBody) -> AccountState:
    plan = body.plan_sha256
    if plan in state.reservations:
        raise ValueError("a plan is approved twice")
    made = Reservation(
        plan_sha256=plan,
        purpose=body.purpose,
        step_rhos=tuple(body.step_rhos),
        policy_sha256=body.policy_sha256,
        source_sha256=body.source_sha256,
        approved_on=body.approved_at,
        expires_on=body.expires_on,
        requester=body.requester,
        automatic=body.automatic,
    )
    return replace(_without_decisions(_with(state, made), plan), refused=state.refused - {plan})


def _released(state: AccountState, body: ReleaseBody) -> AccountState:
    reservation = _open(state, body.plan_sha256)
    if body.step in reservation.answered:
        raise ValueError("a step is answered twice")
    rho = body.charge.rho
    answered = replace(
        reservation,
        answered={**reservation.answered, body.step: body.release_id},
        rho_spent=reservation.rho_spent + rho,
    )
    return replace(
        _with(state, answered),
        rho_spent=state.rho_spent + rho,
        noise_sources=state.noise_sources | {body.noise_source},
    )


def _open(state: AccountState, plan: str) -> Reservation:
    """The reservation of a plan, which must not have ended."""
    found = state.reservations[plan]
    if found.ending is not None:
        raise ValueError("the approval has ended")
    return found


def _with(state: AccountState, reservation: Reservation) -> AccountState:
    return replace(state, reservations={**state.reservations, reservation.plan_sha256: reservation})


def _without_decisions(state: AccountState, plan: str) -> AccountState:
    return replace(state, decisions={name: said for name, said in state.decisions.items() if name != plan})


def require_same_source(reservation: Reservation, source_sha256: str) -> None:
    """Refuse other source settings than the plan was approved with.

    Raises:
        PlanMismatchError: If they are others.
    """
    if reservation.source_sha256 != source_sha256:
        raise PlanMismatchError(
            "the unit's source settings are not those the plan was approved with",
            why="file, identifier or columns in node.toml were changed since",
            fix="restore [source] in node.toml, or ask for a new plan",
        )


def no_policy() -> PolicyError:
    """Nothing is allowed before a policy is logged."""
    return PolicyError(
        "this unit has no policy in its ledger",
        why="nothing is allowed before a policy is logged",
        fix="fedseg approve PLAN.toml --node HOME",
    )


def _ended(reservation: Reservation) -> NotApprovedError:
    expired = "its time was over"
    words = {
        None: expired,
        Ending.EXPIRED: expired,
        Ending.CANCELLED: "it was cancelled",
        Ending.REVOKED: "it was revoked",
    }
    return NotApprovedError(
        "this unit's approval of the plan has ended", why=words[reservation.ending], fix="ask for a new plan"
    )


def _not_automatic(why: str) -> NotApprovedError:
    return NotApprovedError(
        "the plan cannot be approved without an officer",
        why=why,
        fix="fedseg approve PLAN.toml --node HOME --officer NAME --officer-key FILE",
    )


def _over_budget(scope: str, wanted: Fraction, cap: Fraction, delta: Fraction) -> BudgetError:
    after, limit = shown_epsilon(epsilon_of(wanted, delta)), shown_epsilon(epsilon_of(cap, delta))
    return BudgetError(
        f"this does not fit into the privacy budget {scope}",
        why=f"it would bring epsilon to {after}, the limit is {limit}",
        fix="lower epsilon in the plan, or have the officer change the policy: fedseg budget show HOME",
    )
