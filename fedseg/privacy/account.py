"""`PrivacyAccount`: what a unit may still release, replayed from its ledger and nowhere else remembered.

Here is everything that adds to a unit's ledger except releases, which only `release.py` adds. Each method is one
transaction: what it checks and what it writes cannot be separated, whoever else writes at the same time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

from fedseg.errors import LedgerUnreadableError, NotApprovedError, PolicyError, TrustError
from fedseg.ledger.entries import Entry
from fedseg.ledger.journal import Journal, Transaction
from fedseg.ledger.keys import PublicKey, SigningKey
from fedseg.privacy.entries import (
    PLAN_CONTEXT,
    POLICY_CONTEXT,
    ApprovalBody,
    ApprovalRules,
    ClosingBody,
    DecisionBody,
    Ending,
    OfficerSignature,
    PolicyBody,
    RefusalBody,
    RightsBatchBody,
    StartBody,
    Verdict,
)
from fedseg.privacy.state import AccountState, Caps, Reservation, no_policy, replay, require_same_source


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """What the account must know of a plan to approve it."""

    plan_sha256: str
    document: bytes
    """The plan as agreed."""
    purpose: str
    step_rhos: Sequence[Fraction]
    """Price of each round."""
    source_sha256: str
    """Hash of the unit's source settings: which file, identifier and columns."""
    max_units_attested: int | None = None
    """The unit's word that no customer of its is in more units; None if the plan needs none."""
    requester: str | None = None
    """Key of whoever signed the plan."""
    requester_signature: str | None = None

    @property
    def rho(self) -> Fraction:
        """The whole price."""
        return sum(self.step_rhos, Fraction(0))


class PrivacyAccount:
    """The account of one unit, kept in its journal."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._known = (0, AccountState())
        """How many committed entries were replayed, and to what. A journal only grows, or refuses to be read."""

    def state(self) -> AccountState:
        """The account as of now."""
        entries = self.journal.entries()
        return self._committed(lambda seq: entries[seq:])

    def state_in(self, transaction: Transaction) -> AccountState:
        """The account as a transaction of the journal sees it, with what it has appended itself."""
        before = transaction.before
        return replay(transaction.after.since(before.size), self._committed(before.since))

    def _committed(self, since: Callable[[int], Sequence[Entry]]) -> AccountState:
        """The account after all committed entries, of which `since` gives those from a number on."""
        size, state = self._known
        if new := since(size):
            state = replay(new, state)
            self._known = (size + len(new), state)
        return state

    def adopt_policy(
        self, caps: Caps, *, policy_id: str, document: bytes, signatures: Sequence[OfficerSignature] = ()
    ) -> None:
        """Log the policy in force, unless it is the one in force already.

        Raises:
            PolicyError: If it, or the one in force, names officers and too few of them have signed it.
        """
        with self.journal.transaction() as transaction:
            current = self.state_in(transaction).caps
            if current is not None and current.policy_sha256 == caps.policy_sha256:
                return
            require_signed(current, caps, signatures)
            body = PolicyBody(
                policy_id=policy_id,
                policy_sha256=caps.policy_sha256,
                rho_cap=caps.rho_cap,
                delta=caps.delta,
                purpose_rho_caps=dict(caps.purpose_rho_caps),
                approvals=caps.approvals,
                witnesses=caps.witnesses,
                signatures=list(signatures),
            )
            payload = (f"policy:{caps.policy_sha256}:{transaction.after.size}", document)
            transaction.append(body.kind, body.facts(), payload=payload)

    def approve(
        self, terms: PlanTerms, *, day: str, decision: DecisionBody | None = None, automatic: bool = False
    ) -> bool:
        """Reserve the whole price of a plan; a plan already approved is left as it is.

        Args:
            terms: The plan.
            day: Today, UTC.
            decision: An officer's; where the policy names officers, it takes as many as it requires.
            automatic: Whether the policy's terms for the plan's requester stand in for officers.

        Returns:
            Whether it is approved now, and does not wait for more officers.

        Raises:
            BudgetError: If it does not fit; nothing was reserved.
            NotApprovedError: If an earlier approval of it has ended, or the policy asks for officers.
            TrustError: If a signature is not right.
        """
        with self.journal.transaction() as transaction:
            state = self.state_in(transaction)
            state.require_day(day)
            earlier = state.reservations.get(terms.plan_sha256)
            if earlier is not None:
                require_same_source(earlier, terms.source_sha256)
                state.require_open(terms.plan_sha256, day)
                return True
            require_requester(terms.plan_sha256, terms.requester, terms.requester_signature)
            for expired in [one for one in state.reservations.values() if one.is_expired(day)]:
                _end(transaction, self.state_in(transaction), expired, Ending.EXPIRED, day)
            state = self.state_in(transaction)
            caps = state.require_room(terms.purpose, terms.rho, terms.requester, step_rhos=terms.step_rhos)
            officers: tuple[str, ...] = ()
            if automatic:
                state.require_automatic(terms.requester, terms.rho, day)
            else:
                _log_decision(transaction, state, decision, _Wanted(Verdict.APPROVE, terms.plan_sha256, day))
                officers = self.state_in(transaction).approving(
                    terms.plan_sha256, caps.policy_sha256, terms.source_sha256
                )
                if len(officers) < caps.approvals.required:
                    return False
            body = ApprovalBody(
                plan_sha256=terms.plan_sha256,
                purpose=terms.purpose,
                step_rhos=list(terms.step_rhos),
                rho_reserved_after=state.rho_reserved + terms.rho,
                policy_sha256=caps.policy_sha256,
                source_sha256=terms.source_sha256,
                approved_at=day,
                expires_on=expiry(caps.approvals, day),
                officers=list(officers),
                requester=terms.requester,
                requester_signature=terms.requester_signature,
                automatic=automatic,
                max_units_attested=terms.max_units_attested,
            )
            transaction.append(body.kind, body.facts(), payload=(f"plan:{terms.plan_sha256}", terms.document))
            return True

    def refuse(
        self, plan_sha256: str, *, day: str, reason_commitment: str, decision: DecisionBody | None = None
    ) -> None:
        """Log that a plan is refused; what officers have said for it counts no longer.

        Raises:
            NotApprovedError: If it is approved already, or the policy asks for an officer.
            TrustError: If the officer's signature is not right.
        """
        with self.journal.transaction() as transaction:
            state = self.state_in(transaction)
            state.require_day(day)
            if plan_sha256 in state.reservations:
                raise NotApprovedError(
                    "the plan is approved already",
                    why="what is approved is not denied any more, it is revoked",
                    fix="fedseg revoke ID --node HOME",
                )
            caps = require_caps(state)
            _log_decision(transaction, state, decision, _Wanted(Verdict.DENY, plan_sha256, day))
            body = RefusalBody(
                plan_sha256=plan_sha256,
                policy_sha256=caps.policy_sha256,
                refused_on=day,
                reason_commitment=reason_commitment,
            )
            transaction.append(body.kind, body.facts())

    def close(self, plan_sha256: str, ending: Ending, *, day: str, decision: DecisionBody | None = None) -> Fraction:
        """End an approval before its plan has ended; returns the price of the rounds not begun, which is free again.

        Raises:
            NotApprovedError: If there is no such approval, it has ended, or the policy asks for an officer.
            TrustError: If the officer's signature is not right.
        """
        verdict = Verdict.REVOKE if ending is Ending.REVOKED else Verdict.CANCEL
        with self.journal.transaction() as transaction:
            state = self.state_in(transaction)
            state.require_day(day)
            found = state.require_open(plan_sha256, day)
            _log_decision(transaction, state, decision, _Wanted(verdict, plan_sha256, day))
            return _end(transaction, self.state_in(transaction), found, ending, day)

    def add_rights_batch(self, *, period: str, capacity: int, root: bytes) -> None:
        """Log the one entry about a day's rights requests.

        Raises:
            ValueError: If the day before it has none yet, or it has its own: then the caller has miscounted.
        """
        with self.journal.transaction() as transaction:
            state = self.state_in(transaction)
            if state.rights_period is not None and period != next_day(state.rights_period):
                raise ValueError(f"after {state.rights_period} comes another day than {period}")
            body = RightsBatchBody(period=period, capacity=capacity, root=root.hex())
            transaction.append(body.kind, body.facts())

    def log_start(self, nonce: str, *, day: str) -> None:
        """Log that a process began, for its witnesses to cosign.

        Args:
            nonce: Its own, 32 hex digits.
            day: Today, UTC.
        """
        with self.journal.transaction() as transaction:
            body = StartBody(nonce=nonce, started_on=day)
            transaction.append(body.kind, body.facts())

    def replace_key(self, new_key: Callable[[], SigningKey], *, day: str) -> int:
        """Log that from here on the ledger is signed with another key; the number of the entry.

        Args:
            new_key: Makes the key and keeps it safe; called once nothing speaks against it any more, while nobody else
                can write.
            day: Today, UTC.

        Raises:
            NotApprovedError: If an approved plan is not finished; nothing was logged.
            ClockError: If the clock is behind the ledger.
            ValueError: If the key is the ledger's already, or was once.
        """
        with self.journal.transaction() as transaction:
            state = self.state_in(transaction)
            state.require_day(day)
            state.require_no_plan_open(day)
            return transaction.change_key(new_key(), {"version": 1, "changed_on": day}).seq

    def plan_document(self, plan_sha256: str) -> bytes:
        """The bytes of an approved plan, as approved.

        Raises:
            NotApprovedError: If the unit has not approved it, or has revoked its approval.
        """
        self.state().require_served(plan_sha256)
        document = self.journal.payload(f"plan:{plan_sha256}")
        if document is None:
            raise LedgerUnreadableError(
                "the approved plan is missing from the ledger",
                why="its payload is gone",
                fix="fedseg ledger verify LEDGER",
            )
        return document


def day_of(now: datetime) -> str:
    """The day as entries state it: UTC, YYYY-MM-DD."""
    return now.astimezone(UTC).date().isoformat()


def next_day(day: str) -> str:
    """The day after."""
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def expiry(rules: ApprovalRules, day: str) -> str | None:
    """The last day of an approval of `day`."""
    if rules.expire_days is None:
        return None
    return (date.fromisoformat(day) + timedelta(days=rules.expire_days)).isoformat()


def require_caps(state: AccountState) -> Caps:
    """The caps of the policy in force.

    Raises:
        PolicyError: If no policy is logged yet.
    """
    if state.caps is None:
        raise no_policy()
    return state.caps


def require_signed(current: Caps | None, caps: Caps, signatures: Sequence[OfficerSignature]) -> None:
    """Refuse a policy that too few officers have signed: both its own and those of the policy it replaces count.

    Raises:
        PolicyError: If it names officers, or the one in force does, and fewer of them have signed than it requires.
    """
    message = POLICY_CONTEXT + bytes.fromhex(caps.policy_sha256)
    for rules in [caps.approvals] if current is None else [current.approvals, caps.approvals]:
        signed = officers_who_signed(rules, signatures, message)
        if len(signed) < rules.required:
            raise PolicyError(
                "too few officers have signed the policy",
                why=f"{len(signed)} of the {rules.required} required signatures are there and right",
                fix="fedseg policy sign POLICY.yaml --officer NAME --officer-key FILE",
            )


def officers_who_signed(rules: ApprovalRules, signatures: Sequence[OfficerSignature], message: bytes) -> frozenset[str]:
    """The officers whom `rules` name and whose signature of exactly `message` is there and right."""
    return frozenset(
        one.officer
        for one in signatures
        if one.officer in rules.officers and _is_signed(rules.officers[one.officer], one.signature, message)
    )


def require_requester(plan_sha256: str, requester: str | None, signature: str | None) -> None:
    """Refuse a plan that names a requester who has not signed it.

    Raises:
        TrustError: If the signature is not the requester's, or one stands without the other.
    """
    if requester is None and signature is None:
        return
    message = PLAN_CONTEXT + bytes.fromhex(plan_sha256)
    if not _is_signed(requester or "", signature or "", message):
        raise TrustError(
            "the plan's signature is not right",
            why="the file beside it was made for another plan, or with another key than it names",
            fix="ask the requester to sign again: fedseg plan sign PLAN.toml --key FILE",
        )


def require_decided(state: AccountState, decision: DecisionBody) -> None:
    """Refuse a decision that no officer of the policy in force has signed.

    Raises:
        TrustError: If the policy in force is another or names no such officer, or the signature is not the officer's.
    """
    caps = require_caps(state)
    key = caps.approvals.officers.get(decision.officer)
    if key is None or decision.policy_sha256 != caps.policy_sha256:
        raise TrustError(
            f"{decision.officer} is no officer of the policy in force",
            why="only the officers it names decide about plans",
            fix=f"name one of: {', '.join(sorted(caps.approvals.officers)) or 'nobody is named'}",
        )
    if not _is_signed(key, decision.signature, decision.signed_bytes):
        raise TrustError(
            f"the decision is not signed by {decision.officer}",
            why="the policy names another key for this officer",
            fix="use the officer's own key file",
        )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The decision that an officer must have signed."""

    verdict: Verdict
    plan_sha256: str
    day: str


def _log_decision(
    transaction: Transaction, state: AccountState, decision: DecisionBody | None, wanted: _Wanted
) -> None:
    """Append the officer's decision; none is needed where the policy names no officers.

    Raises:
        NotApprovedError: If it names some, and there is no decision.
        TrustError: If the decision is not an officer's.
        ValueError: If it is about something else.
    """
    if decision is None:
        if require_caps(state).approvals.required:
            raise NotApprovedError(
                "an officer must decide this",
                why="the unit's policy says who does",
                fix="add --officer NAME --officer-key FILE",
            )
        return
    require_decided(state, decision)
    if _Wanted(decision.verdict, decision.plan_sha256, decision.made_on) != wanted:
        raise ValueError("the decision is about something else")
    if decision not in state.decisions.get(wanted.plan_sha256, ()):
        transaction.append(decision.kind, decision.facts())


def _end(transaction: Transaction, state: AccountState, found: Reservation, ending: Ending, day: str) -> Fraction:
    returned = found.rho - found.rho_spent
    body = ClosingBody(
        plan_sha256=found.plan_sha256,
        ending=ending,
        rho_returned=returned,
        rho_reserved_after=state.rho_reserved - returned,
        closed_on=day,
    )
    transaction.append(body.kind, body.facts())
    return returned


def _is_signed(key: str, signature: str, message: bytes) -> bool:
    try:
        return PublicKey.from_text(key).verify(bytes.fromhex(signature), message)
    except ValueError:
        return False
