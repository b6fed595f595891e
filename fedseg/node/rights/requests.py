"""Data subjects' requests at a unit: noting them down, vetoes, and what the unit holds about somebody.

Whoever asks gets an answer of the same form, whether the unit has heard of them or not. Erasing is `erasure`'s.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

from fedseg.certificate import drawn_rounds
from fedseg.errors import DataError, RightsRequestError
from fedseg.node.home import NodeHome
from fedseg.node.rights.identities import Identities
from fedseg.node.rights.notice_register import Telling
from fedseg.node.rights.register import OpenRequest
from fedseg.node.source import rows_of, subject_key
from fedseg.policy.consent import EVERY_PURPOSE, ConsentEvent
from fedseg.policy.document import load_policy
from fedseg.policy.notices import TOLD
from fedseg.policy.rights import Regulation, Right, SubjectRequest
from fedseg.privacy.account import PrivacyAccount
from fedseg.privacy.budget import fraction_text

VETOES: Final[Mapping[Right, tuple[str, ...]]] = {
    Right.RESTRICTION: ("restriction",),
    Right.OBJECTION: ("objection",),
    Right.OPT_OUT: ("opt_out_sale", "opt_out_share"),
    Right.LIMIT: ("limit_sensitive",),
}
"""The consent events that a right sets, for every purpose."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for, of everybody in it alike."""

    identifiers: Sequence[bytes] = field(repr=False)
    """As in the unit's source; each once."""
    ticket: str
    """The unit's own reference."""
    regulation: Regulation = Regulation.GDPR
    received: date | None = None
    """The day it arrived; today, if not said."""

    def __post_init__(self) -> None:
        if len(set(self.identifiers)) < len(self.identifiers) or not all(self.identifiers):
            raise DataError(
                "the identifiers cannot be used",
                why="one is empty, or stands there twice",
                fix="write each identifier once, on a line of its own",
            )

    def subjects(self, home: NodeHome) -> list[bytes]:
        """Their pseudonyms at a unit."""
        return [subject_key(one, home.subject_secret) for one in self.identifiers]


def receive(home: NodeHome, order: Order, right: Right, now: datetime) -> list[SubjectRequest]:
    """Note requests down, so that their clocks run; one that is open under this ticket already is the same request.

    Raises:
        RightsRequestError: If the law knows no such right, or a request would have arrived in the future.
    """
    today = now.astimezone(UTC).date()
    received = order.received or today
    if received > today:
        raise RightsRequestError(
            "the request arrives in the future", why=f"received {received}, today {today}", fix="correct the day"
        )
    subjects = order.subjects(home)
    with home.rights() as rights:
        known = {
            one.subject: one.request
            for one in rights.with_ticket(order.ticket)
            if one.request.right is right and not one.request.status.is_final
        }
        new = {
            subject: SubjectRequest(secrets.token_hex(16), right, order.regulation, received)
            for subject in subjects
            if subject not in known
        }
        rights.add([OpenRequest(one, order.ticket, subject) for subject, one in new.items()])
    return [known[subject] if subject in known else new[subject] for subject in subjects]


def begin(home: NodeHome, order: Order, right: Right, now: datetime) -> list[SubjectRequest]:
    """Begin to work on requests, noting down those that were not; who is to be erased is not counted any more.

    Where the law has recipients told, what each of them is to be told stands there from the same moment on.

    Raises:
        RightsRequestError: As `receive`; or if a proof of identity is still missing.
    """
    noted, subjects = receive(home, order, right, now), order.subjects(home)
    identities = Identities(home, dict(zip(subjects, order.identifiers, strict=True)))
    with home.rights() as rights:
        return rights.change(
            [one.id for one in noted],
            SubjectRequest.start,
            suppress=subjects if right is Right.ERASURE else (),
            telling=Telling(now, identities.seal) if right in TOLD else None,
        )


def set_vetoes(home: NodeHome, order: Order, right: Right, now: datetime) -> list[SubjectRequest]:
    """Restriction, objection, opting out, limiting: for every purpose, from the next round on.

    Returns:
        The requests: fulfilled, or in progress while a recipient has not acknowledged that it was told.

    Raises:
        RightsRequestError: As `begin`, or if the right is no veto.
    """
    if right not in VETOES:
        raise RightsRequestError(
            f"{right.value} is no veto",
            why="it takes more than an event in the register",
            fix=f"ask for one of: {', '.join(VETOES)}",
        )
    begun = begin(home, order, right, now)
    with home.register() as register:
        register.append_events(
            ConsentEvent(subject, EVERY_PURPOSE, kind, now, now)
            for subject in order.subjects(home)
            for kind in VETOES[right]
        )
    return _fulfil_answered(home, begun, now)


def rectify(home: NodeHome, order: Order, now: datetime) -> list[SubjectRequest]:
    """Note down that the unit's source has been put right for these people, and have recipients told.

    Returns:
        As `set_vetoes`.

    Raises:
        RightsRequestError: As `begin`.
    """
    return _fulfil_answered(home, begin(home, order, Right.RECTIFICATION, now), now)


def _fulfil_answered(home: NodeHome, requests: Sequence[SubjectRequest], now: datetime) -> list[SubjectRequest]:
    """The unit has done its part: fulfil the requests of which no recipient has to be told any more."""
    today = now.astimezone(UTC).date()
    ids = [one.id for one in requests]
    with home.rights() as rights:
        rights.notices.finish_here(ids)
        answered = rights.notices.answered()
        return rights.change(ids, lambda one: one.fulfil(today) if one.id in answered else one)


def fulfil(home: NodeHome, requests: Sequence[SubjectRequest], now: datetime) -> list[SubjectRequest]:
    """Note down that requests have been answered; who asked is forgotten with it."""
    today = now.astimezone(UTC).date()
    with home.rights() as rights:
        return rights.change([one.id for one in requests], lambda one: one.fulfil(today))


def held_about(home: NodeHome, order: Order, right: Right, now: datetime) -> tuple[SubjectRequest, dict[str, Any]]:
    """Everything the unit holds about one person, for access or portability; for JSON.

    Rows and consents are the person's own data; the rest tells what is done with them, and is the same for everybody.
    The request is begun: it is fulfilled when the answer is where the person can have it.

    Raises:
        RightsRequestError: As `begin`; or if the order names several people: an answer is for one.
    """
    if len(order.identifiers) != 1:
        raise RightsRequestError(
            "an answer is about one person", why=f"{len(order.identifiers)} are named", fix="ask for each by itself"
        )
    (begun,) = begin(home, order, right, now)
    (subject,) = order.subjects(home)
    with home.register() as register:
        consents = register.events_of(subject)
    return begun, {
        "request": begun.id,
        "rows": rows_of(home, subject),
        "consents": consents,
        "recipients": _recipients(home, subject),
        **_processing(home),
    }


def _recipients(home: NodeHome, subject: bytes) -> list[dict[str, Any]]:
    """Who got a person's data, and what they were told of requests that are still open: Articles 15(1)(c) and 19."""
    with home.rights() as rights:
        got = rights.notices.recipients_of(subject)
        open_ = {one.request.id: one.request.right for one in rights.requests() if one.subject == subject}
        told = [one for id_, notices in rights.notices.notices().items() if id_ in open_ for one in notices]
    return [
        {
            "recipient": one.recipient,
            "handed_over": one.handed.isoformat(),
            "told": [
                {"right": open_[notice.request].value, "status": notice.status.value}
                for notice in told
                if notice.recipient == one.recipient
            ],
        }
        for one in got
    ]


def _processing(home: NodeHome) -> dict[str, Any]:
    """What is done with customers' data here, for Article 15(1)(a) to (d) and (h)."""
    policy = load_policy(home.policy_document())
    with home.ledger() as ledger:
        state = PrivacyAccount(ledger).state()
    return {
        "controller": policy.controller,
        "purposes": [str(purpose) for purpose in policy.purposes],
        "kept_days": policy.retention.raw_days,
        "segment": None,
        "logic": (
            "Customers who may be counted are grouped by k-means on the columns that the policy allows. Only sums over "
            "many customers leave the unit, with random noise added. Nobody is put into a segment here."
        ),
        "statistics": [one.model_dump() for one in drawn_rounds(state)],
        "privacy_loss": {"rho": fraction_text(state.rho_spent), "delta": fraction_text(policy.budget.delta)},
    }
