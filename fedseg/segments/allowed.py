"""What may be done with segments and what not, from the policies of the units whose customers are in them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fedseg.policy.document import Policy
from fedseg.policy.purposes import Purpose
from fedseg.policy.uses import Use

_MAY: Final = MappingProxyType(
    {
        Purpose.SEGMENT_STATISTICS: "Work with the segments as groups: compare them, and plan for each as a whole.",
        Purpose.SEGMENT_ASSIGNMENT: (
            "Find out which segment a single customer is in: inside their own unit, and only for customers whose "
            "permission for this holds there."
        ),
        Purpose.SEGMENT_ACTIVATION: (
            "Address customers because of their segment: from their own unit, and only customers whose permission for "
            "this holds there."
        ),
    }
)
_MAY_NOT: Final = MappingProxyType(
    {
        Purpose.SEGMENT_STATISTICS: "Make new statistics of these customers.",
        Purpose.SEGMENT_ASSIGNMENT: "Find out which segment a single customer is in.",
        Purpose.SEGMENT_ACTIVATION: "Address customers because of their segment.",
    }
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is allowed or forbidden."""

    says: str
    by: str
    """Ids of the policies that forbid it; empty where all allow it."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What several policies say together: allowed is what all of them allow."""

    may: tuple[Rule, ...]
    may_not: tuple[Rule, ...]
    recipients: tuple[str, ...]
    """Ids of all recipients that any of them states."""
    min_cohort: int
    """Fewest customers that any of them lets a unit approve a plan with."""
    policies: tuple[Policy, ...]
    """Each once."""


def allowed(policies: Sequence[Policy]) -> Allowed | None:
    """What the policies say together; None without any: then nothing can be said.

    What no policy names is denied, as everywhere in fedseg.
    """
    each = tuple({policy.digest: policy for policy in policies}.values())
    if not each:
        return None
    purposes = [(purpose, [one for one in each if purpose not in one.purposes]) for purpose in Purpose]
    uses = [(use, [one for one in each if use in (one.forbidden_uses or ())]) for use in Use]
    denied = {purpose for purpose, without in purposes if without}
    return Allowed(
        may=tuple(Rule(_MAY[purpose], "") for purpose, without in purposes if not without),
        may_not=(
            *(Rule(_MAY_NOT[purpose], _ids(without)) for purpose, without in purposes if without),
            *(
                Rule(f"{use.says[0].upper()}{use.says[1:]}.", _ids(by))
                for use, by in uses
                if by and not denied.intersection(use.excludes)
            ),
        ),
        recipients=tuple(dict.fromkeys(recipient.id for one in each for recipient in one.recipients or ())),
        min_cohort=min(rule.min_cohort for one in each for rule in one.purposes.values()),
        policies=each,
    )


def _ids(policies: Sequence[Policy]) -> str:
    return ", ".join(policy.id for policy in policies)
