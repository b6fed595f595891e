"""Requests of data subjects: which rights there are, when an answer is due, and which state follows which. Pure.

Sources of the clocks: GDPR Article 12(3) and Regulation (EEC) 1182/71, Article 3; CCPA sections 1798.105 and 1798.130
and its regulations, 11 CCR 7021, 7026 and 7027. Not legal advice.
"""

import calendar
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import Final

from fedseg.errors import RightsRequestError

ESCALATION_DAYS: Final = 7
"""An open request is shown as urgent from this many days before it is due."""
_SATURDAY: Final = 5


class Right(StrEnum):
    """What a person may ask for."""

    ACCESS = "access"
    PORTABILITY = "portability"
    RECTIFICATION = "rectification"
    RESTRICTION = "restriction"
    OBJECTION = "objection"
    ERASURE = "erasure"
    OPT_OUT = "opt-out"
    """Of the sale and the sharing of personal data."""
    LIMIT = "limit"
    """The use of sensitive personal data."""


class Regulation(StrEnum):
    """The law a request is made under."""

    GDPR = "gdpr"
    CCPA = "ccpa"

    @property
    def rights(self) -> frozenset[Right]:
        """What it lets people ask for."""
        return _RIGHTS[self]


class Status(StrEnum):
    """Where a request stands; the names are those of the Data Rights Protocol 1.0."""

    OPEN = "open"
    IN_PROGRESS = "in_progress"
    FULFILLED = "fulfilled"
    DENIED = "denied"
    REVOKED = "revoked"
    """Taken back by the person."""

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self not in (Status.OPEN, Status.IN_PROGRESS)


class Denial(StrEnum):
    """Why a request is denied; the names are those of the Data Rights Protocol 1.0."""

    SUSPECTED_FRAUD = "suspected_fraud"
    IDENTITY_UNVERIFIED = "insuf_verification"
    NO_MATCH = "no_match"
    NOT_COVERED = "claim_not_covered"
    OUTSIDE_JURISDICTION = "outside_jurisdiction"
    TOO_MANY_REQUESTS = "too_many_requests"
    OTHER = "other"


_CONSUMER_RIGHTS: Final = frozenset({Right.OPT_OUT, Right.LIMIT})
_RIGHTS: Final = {
    Regulation.GDPR: frozenset(Right) - _CONSUMER_RIGHTS,
    Regulation.CCPA: frozenset(Right) - {Right.RESTRICTION, Right.OBJECTION},
}


@dataclass(frozen=True, slots=True)
class SubjectRequest:
    """One request. It names nobody: who asked stands in the unit's register of requests alone."""

    id: str
    """Random; it says nothing about the person."""
    right: Right
    regulation: Regulation
    received: date
    """The day it arrived, UTC; every clock starts there."""
    status: Status = Status.OPEN
    identity_asked: date | None = None
    """Since when the unit waits for the person to prove who they are."""
    paused_days: int = 0
    """Days waited so, in waits that are over."""
    extended: date | None = None
    """The day on which the person was told that the answer takes longer."""
    extension_reason: str | None = None
    ended: date | None = None
    """The day of its final status."""
    denial: Denial | None = None
    explanation: str | None = None
    """What the person was told about a denial."""

    def __post_init__(self) -> None:
        if self.right not in self.regulation.rights:
            raise _refused(
                f"{self.regulation.name} knows no right of {self.right.value}",
                "each law grants its own rights",
                f"choose one of: {', '.join(sorted(self.regulation.rights))}",
            )
        if self.status.is_final != (self.ended is not None):
            raise ValueError("a request has ended when its status is final")
        if (self.status is Status.DENIED) != (self.denial is not None):
            raise ValueError("a denied request, and no other, has a reason")

    @property
    def confirm_by(self) -> date | None:
        """The day by which its arrival must be confirmed; None where the law sets none.

        CCPA: ten business days, except for opting out and limiting (11 CCR 7021(a)).
        """
        if self.regulation is Regulation.GDPR or self.right in _CONSUMER_RIGHTS:
            return None
        return add_business_days(self.received, 10)

    @property
    def first_due(self) -> date:
        """The last day for an answer, or for telling the person that it takes longer.

        GDPR: one calendar month, and as long as the person takes to prove who they are (EDPB Guidelines 01/2022, 157).
        CCPA: 45 days whatever that takes (11 CCR 7021(b)); 15 business days for opting out and limiting.
        """
        if self.right in _CONSUMER_RIGHTS:
            return add_business_days(self.received, 15)
        if self.regulation is Regulation.CCPA:
            return self.received + timedelta(days=45)
        return add_months(self.received, 1) + timedelta(days=self.paused_days)

    @property
    def due(self) -> date:
        """The last day for an answer: `first_due`, or two months (CCPA: 45 days) later once extended."""
        if self.extended is None:
            return self.first_due
        if self.regulation is Regulation.CCPA:
            return self.received + timedelta(days=90)
        return add_months(self.received, 3) + timedelta(days=self.paused_days)

    def days_left(self, today: date) -> int | None:
        """Days until it is due, negative once overdue; None when it has ended, or its clock stands still."""
        return None if self.status.is_final or self._is_paused else (self.due - today).days

    def is_urgent(self, today: date) -> bool:
        """Whether somebody must look at it now: due within a week, or overdue."""
        left = self.days_left(today)
        return left is not None and left <= ESCALATION_DAYS

    def is_overdue(self, today: date) -> bool:
        """Whether the answer is late; for a request that has ended, whether it was."""
        if self.ended is not None:
            return self.ended > self.due
        return not self._is_paused and today > self.due

    def ask_identity(self, day: date) -> "SubjectRequest":
        """Wait for the person to prove who they are.

        Raises:
            RightsRequestError: If it has ended or waits already.
        """
        self._require_open("asked for a proof of identity")
        if self.identity_asked is not None:
            raise self._unfit("asked for a proof of identity", "it is being waited for already")
        return replace(self, identity_asked=day)

    def confirm_identity(self, day: date) -> "SubjectRequest":
        """The person has proved who they are; under the GDPR the clock goes on.

        Raises:
            RightsRequestError: If it has ended or was not waiting, or `day` lies before the wait began.
        """
        self._require_open("confirmed")
        if self.identity_asked is None or day < self.identity_asked:
            raise self._unfit("confirmed", "no proof of identity was asked for before that day")
        waited = (day - self.identity_asked).days if self._is_paused else 0
        return replace(self, identity_asked=None, paused_days=self.paused_days + waited)

    def extend(self, day: date, reason: str) -> "SubjectRequest":
        """Tell the person, with the reason, that the answer takes longer.

        Raises:
            RightsRequestError: If it has ended, was extended before, the first deadline is over, no reason is given,
                or the law grants no more time.
        """
        self._require_open("extended")
        if self.right in _CONSUMER_RIGHTS:
            raise self._unfit("extended", "the law grants no more time for opting out and limiting")
        if self.extended is not None:
            raise self._unfit("extended", "that is possible once")
        if day > self.first_due:
            raise self._unfit("extended", f"the person had to be told by {self.first_due}")
        if not reason.strip():
            raise self._unfit("extended", "the person must be told why")
        return replace(self, extended=day, extension_reason=reason)

    def start(self) -> "SubjectRequest":
        """Work on it has begun.

        Raises:
            RightsRequestError: If it has ended, or waits for a proof of identity.
        """
        self._require_open("started")
        if self.identity_asked is not None:
            raise self._unfit("started", "the proof of identity is still missing")
        return replace(self, status=Status.IN_PROGRESS)

    def fulfil(self, day: date) -> "SubjectRequest":
        """Everything asked for is done.

        Raises:
            RightsRequestError: If no work on it has begun, or it has ended.
        """
        if self.status is not Status.IN_PROGRESS:
            raise self._unfit("fulfilled", f"it is {self.status.value}")
        return replace(self, status=Status.FULFILLED, ended=day)

    def deny(self, day: date, reason: Denial, explanation: str) -> "SubjectRequest":
        """Refuse it, with what the person is told.

        Raises:
            RightsRequestError: If it has ended, or nothing is told.
        """
        self._require_open("denied")
        if not explanation.strip():
            raise self._unfit("denied", "the person must be told why")
        return replace(self, status=Status.DENIED, ended=day, denial=reason, explanation=explanation)

    def revoke(self, day: date) -> "SubjectRequest":
        """The person has taken it back.

        Raises:
            RightsRequestError: If work on it has begun, or it has ended.
        """
        if self.status is not Status.OPEN:
            raise self._unfit("taken back", f"it is {self.status.value}")
        return replace(self, status=Status.REVOKED, ended=day)

    @property
    def _is_paused(self) -> bool:
        """Whether the clock stands still. In California it never does."""
        return self.identity_asked is not None and self.regulation is Regulation.GDPR

    def _require_open(self, what: str) -> None:
        if self.status.is_final:
            raise self._unfit(what, f"it is {self.status.value}")

    def _unfit(self, what: str, why: str) -> RightsRequestError:
        return _refused(f"the request {self.id} cannot be {what}", why, "fedseg subject status --node HOME")


def add_months(day: date, months: int) -> date:
    """The same day of the month, so many months on; the last day where that month is shorter.

    Regulation 1182/71, Article 3(2)(c). That a period which ends on a holiday goes on to the next working day
    (Article 3(4)) is left out: it only ever gives more time.

    >>> add_months(date(2027, 1, 31), 1)
    datetime.date(2027, 2, 28)
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def add_business_days(day: date, days: int) -> date:
    """The last of so many business days after `day`: Mondays to Fridays. Holidays count, which gives less time.

    >>> add_business_days(date(2026, 11, 20), 10)
    datetime.date(2026, 12, 4)
    """
    for _ in range(days):
        day += timedelta(days=1)
        while day.weekday() >= _SATURDAY:
            day += timedelta(days=1)
    return day


def _refused(what: str, why: str, fix: str) -> RightsRequestError:
    return RightsRequestError(what, why=why, fix=fix)
