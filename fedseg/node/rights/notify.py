"""Telling recipients what customers have asked for, and platforms where their requests stand: all that is due now.

Each attempt is noted before it is made, and what became of it afterwards; a process that dies in between repeats it
later under the same id. Nothing of it goes to the server of a federation, nor into the unit's ledger.
"""

import asyncio
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fedseg.errors import VerificationError
from fedseg.node.home import NodeHome
from fedseg.node.rights.erasure import conclude
from fedseg.node.rights.handed_over import policy_in_force
from fedseg.node.rights.identities import unseal
from fedseg.node.rights.notice_register import CALLBACK_ATTEMPTS_MAX, Callback, DueNotice
from fedseg.node.rights.opendsr import ENDED, callback_body, notice_body, status_of
from fedseg.node.rights.platforms import Platform, load_platforms, may_call
from fedseg.node.rights.post import Sender
from fedseg.node.rights.register import RightsRegister
from fedseg.policy.document import Policy
from fedseg.policy.notices import Notice


@dataclass(frozen=True, slots=True)
class Called:
    """A callback that was made."""

    ticket: str
    status: str
    """What the platform was told."""
    problem: str | None
    """None if it was acknowledged."""


@dataclass(frozen=True, slots=True)
class Told:
    """What was sent."""

    notices: list[Notice]
    callbacks: list[Called]


def notify(home: NodeHome, sender: Sender, now: datetime) -> Told:
    """Send what is due, and end the requests of which every recipient has been told.

    A recipient that does not take one notice gets no other before the next run.

    Raises:
        PolicyError: If the policy is not the one in the ledger, and too few officers have signed it; nothing was sent.
        StorageError: If a file cannot be read or written.
    """
    policy, platforms = policy_in_force(home), load_platforms(home)
    with home.rights() as rights:
        notices = asyncio.run(_tell_recipients(home, rights, policy, sender, now))
    conclude(home, now)
    with home.rights() as rights:
        callbacks = asyncio.run(_call_platforms(rights, platforms, sender, now))
    return Told(notices, callbacks)


async def _tell_recipients(
    home: NodeHome, rights: RightsRegister, policy: Policy, sender: Sender, now: datetime
) -> list[Notice]:
    endpoints = {one.id: one.endpoint for one in policy.recipients or ()}
    told: list[Notice] = []
    silent: set[str] = set()
    async with sender.client() as client:
        while due := rights.notices.begin_attempt(now, leave_out=silent):
            body, problem = _notice(home, policy, sender.domain, due)
            if body is not None:
                endpoint = endpoints.get(due.notice.recipient)
                problem = await sender.send(client, endpoint, body) if endpoint else "the policy names it no more"
            if problem is not None:
                silent.add(due.notice.recipient)
            after = rights.notices.settle(due.notice.id, functools.partial(_answered, problem=problem, now=now))
            told += [] if after is None else [after]
    return told


def _notice(home: NodeHome, policy: Policy, domain: str, due: DueNotice) -> tuple[bytes | None, str | None]:
    """What is to be sent, or why it cannot be."""
    if due.identity is None:
        return None, "whom it is about was lost: run the command that began the request once more"
    try:
        identifier = unseal(home, due.request.id, due.identity)
    except VerificationError as error:
        return None, f"{error.what}: {error.fix}"
    return notice_body(due.notice, due.request, identifier, policy.controller, domain), None


def _answered(notice: Notice, *, problem: str | None, now: datetime) -> Notice:
    if notice.status.is_settled:  # by an officer, meanwhile
        return notice
    return notice.acknowledge(now) if problem is None else notice.fail(problem)


async def _call_platforms(
    rights: RightsRegister, platforms: Mapping[str, Platform], sender: Sender, now: datetime
) -> list[Called]:
    called: list[Called] = []
    async with sender.client() as client:
        for one in rights.notices.callbacks(now):
            platform, _, request_id = one.ticket.partition("/")
            noted = [found.request for found in rights.with_ticket(one.ticket)]
            status = status_of(noted)
            if platform not in platforms or not may_call(platforms[platform], one.url):
                rights.notices.end_callback(one)
            elif status != one.told and rights.notices.begin_call(one, now):
                body = callback_body(platform, request_id, noted, sender.domain, one.url)
                problem = await sender.send(client, one.url, body)
                _note_call(rights, one, status, problem, now)
                called.append(Called(one.ticket, status, problem))
    return called


def _note_call(rights: RightsRegister, callback: Callback, status: str, problem: str | None, now: datetime) -> None:
    """Remember what the platform knows; after the end of a request there is nothing more to tell."""
    if problem is None and status not in ENDED:
        rights.notices.told(callback, status, now)
    elif problem is None or callback.attempts + 1 >= CALLBACK_ATTEMPTS_MAX:
        rights.notices.end_callback(callback)
