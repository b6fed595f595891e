"""What an officer's signature under a decision covers, and that it is what the officer was shown."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from fedseg.errors import PlanMismatchError
from fedseg.ledger.keys import SIGNATURE_BYTES
from fedseg.node.home import NodeHome
from fedseg.policy.document import Policy
from fedseg.privacy.account import day_of
from fedseg.privacy.entries import DecisionBody, Verdict
from fedseg.privacy.signatures import Officer


@dataclass(frozen=True, slots=True)
class Basis:
    """What a decision rests on beside the plan."""

    policy_sha256: str
    source_sha256: str
    """Hash of the unit's source settings: which file, identifier and columns."""
    made_on: str
    """Day, UTC."""

    @classmethod
    def of(cls, home: NodeHome, policy: Policy, now: datetime) -> Self:
        """The basis of a decision that is made now."""
        return cls(policy.digest, home.source_sha256, day_of(now))

    def require(self, shown: "Basis | None") -> None:
        """Refuse to decide on another basis than was shown; None if nothing was shown that could differ.

        Raises:
            PlanMismatchError: If it is another.
        """
        if shown not in (None, self):
            raise PlanMismatchError(
                "what was shown is not what would be signed now",
                why="the policy, the source settings or the day has changed in between",
                fix="read the plan again, then decide",
            )


def unsigned_decision(home: NodeHome, basis: Basis, plan_sha256: str, verdict: Verdict, officer: str) -> DecisionBody:
    """An officer's word about a plan, without the signature: `signed_bytes` is what would be signed."""
    return DecisionBody(
        verdict=verdict,
        unit=home.settings.unit,
        plan_sha256=plan_sha256,
        policy_sha256=basis.policy_sha256,
        source_sha256=basis.source_sha256,
        made_on=basis.made_on,
        officer=officer,
        signature="00" * SIGNATURE_BYTES,
    )


def sign_decision(
    home: NodeHome, basis: Basis, plan_sha256: str, verdict: Verdict, officer: Officer | None
) -> DecisionBody | None:
    """The officer's signed word about a plan; None where there is no officer."""
    if officer is None:
        return None
    unsigned = unsigned_decision(home, basis, plan_sha256, verdict, officer.name)
    return unsigned.model_copy(update={"signature": officer.key.sign(unsigned.signed_bytes).hex()})
