"""Asking units until each has answered or the time is up; whatever fails on the way is tried again.

Flower delivers a request at most once, hands a reply out once, and reports in its own name what went wrong. So a unit
without an answer that counts is asked again, and each request stays open to a reply until the end.
"""

import enum
import itertools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedseg.errors import UnreachableError
from fedseg.federation import wire

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
SILENCE_SECONDS = 90.0
"""How long a unit may say nothing before it is asked again; Flower says so when it finds a node dead, in 55 to 65 s."""
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
"""Between an answer that does not count and the next question; doubled from the first to the longest."""

LINK_DOWN = "the link does not answer"
NOT_CONNECTED = "not connected"
TROUBLES = {
    2: "its app failed",
    3: "the request was lost",
    4: "its reply was lost",
    5: NOT_CONNECTED,
    7: "it does not take the server's bundle",
    8: "its data process stopped while answering",
}
"""Flower's error codes in words. The texts that come with them may be a customer's, so nobody reads them."""


class Verdict(enum.Enum):
    """What a reply is worth; the value says why the unit is asked again."""

    COUNTED = "answered"
    UNAVAILABLE = "unavailable, its own log says why"
    REFUSED = "its reply was refused, the server's log says why"


Take = Callable[[str, Message], Verdict]
"""Persists and judges what a unit replied."""
Report = Callable[[Mapping[str, str], float], None]
"""Takes the units that have not answered, each with what is waited for in words, and the seconds left."""


def exchange(
    grid: Grid,
    asked: Mapping[str, int],
    request: Callable[[str], RecordDict],
    *,
    deadline_seconds: float,
    take: Take,
    report: Report,
    silence_seconds: float = SILENCE_SECONDS,
    grace_seconds: float = math.inf,
    message_type: str = wire.MESSAGE_TYPE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Ask each unit until `take` counts an answer of it; returns when all have answered, at the deadline at the latest.

    A reply belongs to the unit that was sent what it answers, never to the sender Flower names: its own errors come
    from node 1. It is handed to `take` as soon as it is there. So are late ones, to earlier requests, and second ones.

    Args:
        grid: Flower's transport. A link that is down or restarting is tried until the deadline.
        asked: Whom to ask: unit and Flower node.
        request: What to ask a unit, by its name; called each time that it is asked.
        deadline_seconds: Longest wait.
        take: What it raises ends the exchange.
        report: Called before the first question, and at least at every poll; what it raises ends the exchange.
        silence_seconds: How long a unit may say nothing before it is asked again; doubled each time, for a unit that
            computes for long is silent too, and works through all that it is sent.
        grace_seconds: How long to wait for the others once some have answered and nobody else does; for what can be
            asked again at another time.
        message_type: Of the requests.
        clock: Monotonic seconds.
        sleep: Waits that many seconds.
    """
    end = clock() + deadline_seconds
    units = [_Asked(name, node, clock(), silence_seconds) for name, node in asked.items()]
    asking = _Asking(grid, units, request, message_type, end, take, clock)
    report(asking.waiting(), deadline_seconds)
    while not asking.done():
        asking.push()
        asking.pull()
        left = max(0.0, end - clock())
        report(asking.waiting(), left)
        if left == 0 or clock() - asking.answered_at >= grace_seconds:
            return
        if not asking.done():
            sleep(min(POLL_SECONDS, left))


@dataclass(slots=True)
class _Asked:
    """One unit, and how far asking it has come."""

    name: str
    node: int
    again_at: float
    """When to send the request once more, or for the first time."""
    silence_seconds: float
    pause_seconds: float = FIRST_PAUSE_SECONDS
    asked_at: float = 0.0
    latest: str = ""
    """Id of the last request, unless it has failed."""
    trouble: str = ""
    answered: bool = False

    def sent(self, request_id: str, now: float) -> None:
        self.latest, self.asked_at = request_id, now
        self.again_at = now + self.silence_seconds
        self.silence_seconds *= 2

    def failed(self, trouble: str, now: float) -> None:
        if trouble != self.trouble:
            log.warning("unit.not_answered unit=%s why=%s", self.name, trouble)
        self.latest, self.trouble = "", trouble
        self.again_at = now + self.pause_seconds
        self.pause_seconds = min(2 * self.pause_seconds, LONGEST_PAUSE_SECONDS)

    def in_words(self, now: float) -> str:
        """What is waited for."""
        if self.latest:
            return f"asked {now - self.asked_at:.0f} s ago"
        if self.trouble:
            return f"{self.trouble}; asking again in {max(0.0, self.again_at - now):.0f} s"
        return "about to be asked"


@dataclass(slots=True)
class _Asking:
    """All units of an exchange, and the requests that may still be answered."""

    grid: Grid
    units: Sequence[_Asked]
    request: Callable[[str], RecordDict]
    message_type: str
    end: float
    take: Take
    clock: Callable[[], float]
    open: dict[str, _Asked] = field(default_factory=dict[str, _Asked])
    """Whom a request was sent to, by its id."""
    link_down: bool = False
    answered_at: float = math.inf
    """When somebody's answer counted last."""

    def done(self) -> bool:
        return all(unit.answered for unit in self.units)

    def waiting(self) -> dict[str, str]:
        """The units that have not answered, with what is waited for."""
        now, down = self.clock(), f"; {LINK_DOWN}" if self.link_down else ""
        return {
            unit.name: unit.in_words(now) + (down if unit.latest else "") for unit in self.units if not unit.answered
        }

    def push(self) -> None:
        """Send the request to every unit that is due."""
        now = self.clock()
        due = [unit for unit in self.units if not unit.answered and unit.again_at <= now < self.end]
        if not due:
            return
        ids: list[str | None] = []
        trouble = NOT_CONNECTED
        try:
            ids = [*self.grid.push_messages([self._message(unit, self.end - now) for unit in due])]
        except UnreachableError:
            trouble = LINK_DOWN
        # In place of an id Flower gives None for a node that has never connected, and nothing for too large a request.
        for unit, request_id in zip(due, itertools.chain(ids, itertools.repeat(None)), strict=False):
            if request_id:
                self.open[request_id] = unit
                unit.sent(request_id, now)
            else:
                unit.failed(trouble, now)

    def pull(self) -> None:
        """Take the replies that are there."""
        replies: list[Message] = []
        try:
            if self.open:
                replies = [*self.grid.pull_messages([*self.open])]
            self.link_down = False
        except UnreachableError as error:
            if not self.link_down:
                log.warning("link.down code=%s what=%s why=%s", error.code, error.what, error.why)
            self.link_down = True
        for reply in replies:
            self._judge(reply)

    def _judge(self, reply: Message) -> None:
        """Count a reply; if it is to the latest request and does not count, its unit is asked again after a pause."""
        request_id = reply.metadata.reply_to_message_id
        unit = self.open.pop(request_id, None)
        if unit is None:
            log.warning("reply.stray")
            return
        if reply.has_error():
            trouble = TROUBLES.get(reply.error.code, f"Flower's error {reply.error.code}")
        else:
            verdict = self.take(unit.name, reply)
            trouble = verdict.value
            unit.answered |= verdict is Verdict.COUNTED
            self.answered_at = self.clock() if verdict is Verdict.COUNTED else self.answered_at
        if not unit.answered and request_id == unit.latest:
            unit.failed(trouble, self.clock())

    def _message(self, unit: _Asked, seconds_left: float) -> Message:
        # A second more than is left: at the last poll an expired request would pass for a lost one.
        return Message(
            self.request(unit.name),
            dst_node_id=unit.node,
            message_type=self.message_type,
            group_id=wire.GROUP,
            ttl=seconds_left + 1,
        )
