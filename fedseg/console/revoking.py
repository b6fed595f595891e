"""What taking an approval back would do, as an officer must see it before, and what they would sign."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from fedseg.console.account import part_of, plan_name
from fedseg.console.plans import Signer, Statement, statement
from fedseg.node.decision import Basis
from fedseg.node.home import NodeHome
from fedseg.plan import caps_of
from fedseg.policy.document import load_policy
from fedseg.privacy.account import PrivacyAccount, day_of
from fedseg.privacy.entries import ApprovalRules, Verdict
from fedseg.privacy.state import Reservation


@dataclass(frozen=True, slots=True)
class Revocation:
    """An approval that holds, and what ending it would mean."""

    name: str
    """The plan's."""
    reservation: Reservation
    rules: ApprovalRules
    basis: Basis
    returned: Fraction
    """Part of the cap that comes free: the price of rounds not begun."""
    revoke: Statement | None
    """None if the officer at the console signs nothing."""
    cancel: Statement | None

    @property
    def rounds_left(self) -> int:
        """Rounds of the plan that the unit has not answered."""
        return len(self.reservation.step_rhos) - len(self.reservation.answered)


def revocation_of(home: NodeHome, plan_sha256: str, signer: Signer | None, now: datetime) -> Revocation:
    """What ending the approval of a plan would mean; ends nothing.

    Raises:
        NotApprovedError: If it is not approved, or its approval has ended.
        PolicyError, StorageError, VerificationError: If policy or ledger cannot be read.
    """
    policy = load_policy(home.policy_document())
    rules, basis = caps_of(policy).approvals, Basis.of(home, policy, now)
    with home.ledger() as ledger:
        found = PrivacyAccount(ledger).state().require_open(plan_sha256, day_of(now))
        name = plan_name(plan_sha256, ledger.payload)
    signs = signer if signer is not None and signer.name in rules.officers else None
    return Revocation(
        name=name,
        reservation=found,
        rules=rules,
        basis=basis,
        returned=part_of(found.rho - found.rho_spent, policy.budget.rho_cap),
        revoke=statement(home, basis, plan_sha256, Verdict.REVOKE, signs),
        cancel=statement(home, basis, plan_sha256, Verdict.CANCEL, signs),
    )
