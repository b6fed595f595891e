"""`PrivacyAccount`: what a unit may still release, replayed from its ledger and nowhere else remembered.

One cap per customer over everything the unit ever releases; sub-limits per purpose below it. Approving a plan
reserves its whole price, so plans that run at the same time cannot overspend together. The same replay, `replay`,
serves the node and the auditor.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from fedseg.errors import (
    BudgetError,
    LedgerUnreadableError,
    NotApprovedError,
    PlanMismatchError,
    PolicyError,
    StepAnsweredError,
)
from fedseg.ledger.canonical import Json
from fedseg.ledger.entries import Entry
from fedseg.ledger.journal import Journal
from fedseg.privacy.budget import Charge, epsilon_of, fraction_text, parse_fraction, shown_epsilon


@dataclass(frozen=True, slots=True)
class Caps:
    """The budget part of the unit's policy, as logged."""

    policy_sha256: str
    rho_cap: Fraction
    """Most zCDP loss of one customer over everything the unit ever releases."""
    delta: Fraction
    """The delta at which epsilon is shown."""
    purpose_rho_caps: Mapping[str, Fraction]
    """Sub-limits per purpose."""


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
    answered: Mapping[int, str] = field(default_factory=dict)
    """Release id by answered step."""
    rho_spent: Fraction = Fraction(0)
    """Sum of its charges so far."""

    @property
    def rho(self) -> Fraction:
        """The whole reserved price."""
        return sum(self.step_rhos, Fraction(0))


@dataclass(frozen=True, slots=True)
class AccountState:
    """The account after some entries of the ledger."""

    caps: Caps | None = None
    """None before the first policy is logged: then nothing may be approved."""
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    """By plan hash."""
    rho_spent: Fraction = Fraction(0)
    """Sum of all charges so far."""
    noise_sources: frozenset[str] = frozenset()
    """Every source that noise was drawn from; anything but "system" is not a differentially private release."""

    @property
    def rho_reserved(self) -> Fraction:
        """Price of all approved plans, spent or not."""
        return sum((one.rho for one in self.reservations.values()), Fraction(0))

    def spent_for(self, purpose: str) -> Fraction:
        """Sum of all charges of one purpose so far."""
        return sum((one.rho_spent for one in self.reservations.values() if one.purpose == purpose), Fraction(0))

    @property
    def rho_guaranteed(self) -> Fraction:
        """The most a customer loses: the cap in force, or what was spent before the cap was lowered below it."""
        return self.rho_spent if self.caps is None else max(self.caps.rho_cap, self.rho_spent)

    def reserved_for(self, purpose: str) -> Fraction:
        """Price of all approved plans of one purpose."""
        return sum((one.rho for one in self.reservations.values() if one.purpose == purpose), Fraction(0))

    def require_room(self, purpose: str, rho: Fraction) -> None:
        """Refuse a plan of price `rho` that does not fit beside all that is reserved.

        Raises:
            BudgetError: If the cap over everything, or the purpose's own, would be passed.
            PolicyError: If no policy is logged yet.
        """
        self._require_under_caps(purpose, self.rho_reserved + rho, self.reserved_for(purpose) + rho)

    def _require_under_caps(self, purpose: str, over_everything: Fraction, for_purpose: Fraction) -> None:
        """The cap over everything is checked first, then the purpose's sub-limit."""
        if self.caps is None:
            raise PolicyError(
                "this unit has no policy in its ledger",
                why="nothing is allowed before a policy is logged",
                fix="fedseg approve PLAN.toml --node HOME",
            )
        if over_everything > self.caps.rho_cap:
            raise _over_budget(
                "over everything this unit releases", over_everything, self.caps.rho_cap, self.caps.delta
            )
        limit = self.caps.purpose_rho_caps.get(purpose)
        if limit is not None and for_purpose > limit:
            raise _over_budget(f"for {purpose}", for_purpose, limit, self.caps.delta)

    def require_same_source(self, plan_sha256: str, source_sha256: str) -> None:
        """Refuse to read another file, identifier or column than was approved.

        Raises:
            NotApprovedError: If the unit has not approved the plan.
            PlanMismatchError: If the source settings were changed since.
        """
        _require_same_source(self.reservation(plan_sha256), source_sha256)

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

    def require_step(self, plan_sha256: str, step: int, release_id: str, charge: Charge) -> None:
        """Refuse a release whose step is not in the plan, is answered already, or costs more than was reserved.

        The caps in force now count, not those at approval: a policy that was tightened since ends a plan it no longer
        covers. What was answered before is not charged again and is not refused.
        """
        reservation = self.reservation(plan_sha256)
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
        if step not in reservation.answered:
            purpose = reservation.purpose
            self._require_under_caps(purpose, self.rho_spent + charge.rho, self.spent_for(purpose) + charge.rho)


class PrivacyAccount:
    """The account of one unit, kept in its journal."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def state(self) -> AccountState:
        """The account as of now."""
        return replay(self.journal.entries())

    def adopt_policy(self, caps: Caps, *, policy_id: str, document: bytes) -> None:
        """Log the policy in force, unless it is the one in force already."""
        with self.journal.transaction() as transaction:
            current = replay(transaction.entries()).caps
            if current is not None and current.policy_sha256 == caps.policy_sha256:
                return
            body: dict[str, Json] = {
                "policy_id": policy_id,
                "policy_sha256": caps.policy_sha256,
                "rho_cap": fraction_text(caps.rho_cap),
                "delta": fraction_text(caps.delta),
                "purpose_rho_caps": {name: fraction_text(rho) for name, rho in caps.purpose_rho_caps.items()},
            }
            transaction.append(
                "policy", body, payload=(f"policy:{caps.policy_sha256}:{len(transaction.entries())}", document)
            )

    def approve(
        self,
        plan_sha256: str,
        *,
        purpose: str,
        step_rhos: Sequence[Fraction],
        document: bytes,
        approved_at: str,
        source_sha256: str,
        max_units_attested: int | None = None,
    ) -> None:
        """Reserve the whole price of a plan; a plan already approved is left as it is.

        Args:
            plan_sha256: The plan.
            purpose: What its segments are for.
            step_rhos: Price of each round.
            document: The plan's bytes.
            approved_at: Day, UTC.
            source_sha256: Which file, identifier and columns.
            max_units_attested: The unit's word that no customer of its is in more units; None if the plan needs none.

        Raises:
            BudgetError: If it does not fit; nothing was reserved.
        """
        with self.journal.transaction() as transaction:
            state = replay(transaction.entries())
            earlier = state.reservations.get(plan_sha256)
            if earlier is not None:
                _require_same_source(earlier, source_sha256)
                return
            rho = sum(step_rhos, Fraction(0))
            state.require_room(purpose, rho)
            if state.caps is None:  # pragma: no cover (require_room has refused; this tells the type checker)
                raise AssertionError
            body: dict[str, Json] = {
                "plan_sha256": plan_sha256,
                "purpose": purpose,
                "step_rhos": [fraction_text(one) for one in step_rhos],
                "rho_reserved_after": fraction_text(state.rho_reserved + rho),
                "policy_sha256": state.caps.policy_sha256,
                "source_sha256": source_sha256,
                "approved_at": approved_at,
            }
            if max_units_attested is not None:
                body["max_units_attested"] = max_units_attested
            transaction.append("approval", body, payload=(f"plan:{plan_sha256}", document))

    def plan_document(self, plan_sha256: str) -> bytes:
        """The bytes of an approved plan, as approved.

        Raises:
            NotApprovedError: If the unit has not approved it.
        """
        self.state().reservation(plan_sha256)
        document = self.journal.payload(f"plan:{plan_sha256}")
        if document is None:
            raise LedgerUnreadableError(
                "the approved plan is missing from the ledger",
                why="its payload is gone",
                fix="fedseg ledger verify LEDGER",
            )
        return document


def replay(entries: Iterable[Entry]) -> AccountState:
    """The account after these entries; pure.

    Raises:
        LedgerUnreadableError: If an entry cannot be understood: an account that cannot be replayed allows nothing.
    """
    return functools.reduce(apply_entry, entries, AccountState())


def apply_entry(state: AccountState, entry: Entry) -> AccountState:
    """The account after one more entry.

    Raises:
        LedgerUnreadableError: If the entry cannot be understood.
    """
    try:
        return _apply(state, entry)
    except (KeyError, ValueError, TypeError) as error:
        raise LedgerUnreadableError(
            f"entry {entry.seq} of the ledger cannot be understood",
            why=f"its kind is {entry.kind!r} and its fields are not those of that kind",
            fix="fedseg ledger verify LEDGER",
        ) from error


def _apply(state: AccountState, entry: Entry) -> AccountState:
    body = entry.body
    if entry.kind == "genesis":
        return state
    if entry.kind == "policy":
        limits = body["purpose_rho_caps"]
        if not isinstance(limits, Mapping):
            raise TypeError("purpose_rho_caps must be an object")
        caps = Caps(
            policy_sha256=_text(body["policy_sha256"]),
            rho_cap=parse_fraction(_text(body["rho_cap"])),
            delta=parse_fraction(_text(body["delta"])),
            purpose_rho_caps={name: parse_fraction(_text(rho)) for name, rho in limits.items()},
        )
        return replace(state, caps=caps)
    if entry.kind == "approval":
        return _apply_approval(state, body)
    if entry.kind == "release":
        return _apply_release(state, body)
    raise ValueError(f"unknown kind {entry.kind}")


def _apply_approval(state: AccountState, body: Mapping[str, Json]) -> AccountState:
    rhos = body["step_rhos"]
    if not isinstance(rhos, list):
        raise TypeError("step_rhos must be a list")
    plan = _text(body["plan_sha256"])
    reservation = Reservation(
        plan_sha256=plan,
        purpose=_text(body["purpose"]),
        step_rhos=tuple(parse_fraction(_text(rho)) for rho in rhos),
        policy_sha256=_text(body["policy_sha256"]),
        source_sha256=_text(body["source_sha256"]),
    )
    if plan in state.reservations:
        raise ValueError("a plan is approved twice")
    return replace(state, reservations={**state.reservations, plan: reservation})


def _apply_release(state: AccountState, body: Mapping[str, Json]) -> AccountState:
    plan, step, charge = _text(body["plan_sha256"]), body["step"], body["charge"]
    if not isinstance(step, int) or isinstance(step, bool) or not isinstance(charge, Mapping):
        raise TypeError("step must be an integer and charge an object")
    reservation = state.reservations[plan]
    if step in reservation.answered:
        raise ValueError("a step is answered twice")
    rho = parse_fraction(_text(charge["rho"]))
    answered = replace(
        reservation,
        answered={**reservation.answered, step: _text(body["release_id"])},
        rho_spent=reservation.rho_spent + rho,
    )
    return replace(
        state,
        reservations={**state.reservations, plan: answered},
        rho_spent=state.rho_spent + rho,
        noise_sources=state.noise_sources | {_text(body["noise_source"])},
    )


def _require_same_source(reservation: Reservation, source_sha256: str) -> None:
    if reservation.source_sha256 != source_sha256:
        raise PlanMismatchError(
            "the unit's source settings are not those the plan was approved with",
            why="file, identifier or columns in node.toml were changed since",
            fix="restore [source] in node.toml, or ask for a new plan",
        )


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value


def _over_budget(scope: str, wanted: Fraction, cap: Fraction, delta: Fraction) -> BudgetError:
    after, limit = shown_epsilon(epsilon_of(wanted, delta)), shown_epsilon(epsilon_of(cap, delta))
    return BudgetError(
        f"this does not fit into the privacy budget {scope}",
        why=f"it would bring epsilon to {after}, the limit is {limit}",
        fix="lower epsilon in the plan, or have the officer change the policy: fedseg budget show HOME",
    )
