"""Telling recipients about a request: what is known of each notice, and when it is tried again. Pure.

GDPR Article 19: whoever got a person's data is told when they are rectified, erased or restricted, unless that proves
impossible or takes a disproportionate effort. California has the like of erasures (section 1798.105(c)).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final

from fedseg.errors import RightsRequestError
from fedseg.policy.rights import Right, SubjectRequest

TOLD: Final = frozenset({Right.RECTIFICATION, Right.ERASURE, Right.RESTRICTION})
"""The rights of which recipients are told."""
FIRST_WAIT: Final = timedelta(minutes=15)
LONGEST_WAIT: Final = timedelta(days=1)


class NoticeStatus(StrEnum):
    """Where a notice stands."""

    PENDING = "pending"
    FAILED = "failed"
    """The last attempt failed; there will be another."""
    ACKNOWLEDGED = "acknowledged"
    IMPOSSIBLE = "impossible"
    """It proved impossible to tell the recipient; an officer says so, and why."""
    DISPROPORTIONATE = "disproportionate"
    """It would take a disproportionate effort; an officer says so, and why."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing follows."""
        return self not in (NoticeStatus.PENDING, NoticeStatus.FAILED)


class Exemption(StrEnum):
    """Why a recipient need not be told: the two reasons that Article 19 has."""

    IMPOSSIBLE = "impossible"
    DISPROPORTIONATE = "disproportionate"


@dataclass(frozen=True, slots=True)
class Notice:
    """What one recipient is told for one request. It names nobody."""

    id: str
    """A random UUID, the same in every attempt, so that a recipient can tell a repetition."""
    request: str
    recipient: str
    """As the unit's policy names it."""
    next_attempt: datetime
    status: NoticeStatus = NoticeStatus.PENDING
    attempts: int = 0
    problem: str | None = None
    """What went wrong in the last attempt."""
    settled: date | None = None
    explanation: str | None = None
    """Why the recipient was not told, if an officer has said so."""

    def __post_init__(self) -> None:
        if self.status.is_settled != (self.settled is not None):
            raise ValueError("a notice is settled on a day")

    def begin_attempt(self, now: datetime) -> "Notice":
        """About to be sent: noted before it is, so that a process that dies in between does not send without end."""
        attempts = self.attempts + 1
        return replace(self, attempts=attempts, next_attempt=now + wait_after(attempts))

    def fail(self, problem: str) -> "Notice":
        """The attempt failed."""
        return replace(self, status=NoticeStatus.FAILED, problem=problem)

    def acknowledge(self, now: datetime) -> "Notice":
        """The recipient has said that it got the notice."""
        return replace(self, status=NoticeStatus.ACKNOWLEDGED, problem=None, settled=now.astimezone(UTC).date())

    def exempt(self, exemption: Exemption, explanation: str, now: datetime) -> "Notice":
        """An officer says why the recipient is not told.

        Raises:
            RightsRequestError: If the recipient has been told, or nothing is explained.
        """
        if self.status.is_settled:
            raise _refused(f"it is {self.status.value} since {self.settled}")
        if not explanation.strip():
            raise _refused("the reason must be explained")
        day = now.astimezone(UTC).date()
        return replace(self, status=NoticeStatus(exemption.value), settled=day, explanation=explanation)


def is_escalated(request: SubjectRequest, notices: Iterable[Notice], today: date) -> bool:
    """Whether somebody must see to it that a recipient answers: one has not, and the request is due within a week."""
    return request.is_urgent(today) and not all(one.status.is_settled for one in notices)


def wait_after(attempts: int) -> timedelta:
    """How long the next attempt waits after so many: twice as long each time, at most a day.

    >>> [str(wait_after(one)) for one in (1, 2, 3, 99)]
    ['0:15:00', '0:30:00', '1:00:00', '1 day, 0:00:00']
    """
    return min(LONGEST_WAIT, FIRST_WAIT * (1 << min(attempts - 1, 16)))


def _refused(why: str) -> RightsRequestError:
    return RightsRequestError(
        "the recipient cannot be recorded as not told", why=why, fix="fedseg subject status --node HOME"
    )
