"""The server's part in witnessing: it carries checkpoints to witnesses and cosignatures back. It can forge neither.

Before each round of a witnessed plan, every unit shows its newest checkpoint, the units that are its
witnesses cosign it, and it gets the cosignatures. What a unit then holds is its own to judge: a server that leaves this
out, or a witness that does not answer, delays the round and nothing else.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from flwr.app import Message
from flwr.serverapp import Grid

from fedseg.errors import ContributionError, VerificationError
from fedseg.federation import wire
from fedseg.federation.exchange import Verdict, exchange
from fedseg.federation.witness_wire import WITNESS_TYPE, decode_said, encode_asked
from fedseg.ledger.checkpoint import parse_checkpoint
from fedseg.ledger.notes import parse_note
from fedseg.ledger.proof import ConsistencyProof
from fedseg.node.witnessing import Asked, Reply, Said

log = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 20.0
"""How long a unit may take to answer what costs it nothing; who takes longer is left out of this turn."""
PAUSE_SECONDS: Final = 2.0
TURNS_MAX: Final = 8
"""Most times that everybody is asked before a round: three are enough where nothing is lost."""


@dataclass(slots=True)
class Carrier:
    """What the server has in hand between one message and the next; nothing of it needs to outlive the process."""

    grid: Grid
    plan_sha256: str
    roster: Mapping[str, int]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    said: dict[str, Said] = field(default_factory=dict[str, Said])
    """What each unit said last."""
    known: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """How many entries of a unit's log a witness has cosigned, by the names of the two."""

    def carry(self, seconds: float, look: Callable[[], None]) -> bool:
        """Carry checkpoints and cosignatures until every unit has what its policy asks for; whether they all have.

        Args:
            seconds: Longest time.
            look: Called at least at every poll; what it raises ends it.
        """
        end = self.clock() + seconds
        given: dict[str, list[str]] = {}
        open_ = [*self.roster]
        # What was cosigned before is not enough: the units' logs have grown, and witnesses say when they have seen it.
        self.said.clear()
        for _ in range(TURNS_MAX):
            errands = self._errands()
            self._ask(given, errands, min(PATIENCE_SECONDS, max(0.0, end - self.clock())), look)
            given = self._collected(errands)
            open_ = [name for name in self.roster if name not in self.said or not self.said[name].satisfied]
            if not open_ or self.clock() >= end:
                break
            if not given and not any(self._errands().values()):
                self.sleep(min(PAUSE_SECONDS, max(0.0, end - self.clock())))
        for name in open_:
            log.warning("unit.not_witnessed unit=%s", name)
        return not open_

    def _errands(self) -> dict[str, list[tuple[str, str]]]:
        """For each unit as a witness: whose growth it is to cosign, and the request."""
        found: dict[str, list[tuple[str, str]]] = {name: [] for name in self.roster}
        for witness, one in self.said.items():
            for owner, other in self.said.items():
                if owner != witness and not other.satisfied and one.witness in other.wanted:
                    size = self.known.get((owner, witness), 0)
                    found[witness] += [(owner, request) for request in other.growth if _old_size(request) == size][:1]
        return found

    def _ask(
        self,
        given: Mapping[str, list[str]],
        errands: Mapping[str, list[tuple[str, str]]],
        seconds: float,
        look: Callable[[], None],
    ) -> None:
        """One message to each unit that has something to do, and what they say."""
        asked: dict[str, bytes] = {}
        for name in self.roster:
            before = self.said.get(name)
            if before is not None and before.satisfied and not errands[name]:
                continue
            sizes = {self.known.get((name, witness), 0) for witness in self.said} | {0}
            requests = tuple(request for _, request in errands[name])
            asked[name] = encode_asked(
                Asked(self.plan_sha256, tuple(given.get(name, ())), requests, tuple(sorted(sizes)))
            )

        def take(unit: str, reply: Message) -> Verdict:
            try:
                self.said[unit] = decode_said(wire.unpack_reply(reply))
            except ContributionError as error:
                log.warning("witness.refused unit=%s code=%s why=%s", unit, error.code, error.why)
                return Verdict.REFUSED
            return Verdict.COUNTED

        exchange(
            self.grid,
            {name: self.roster[name] for name in asked},
            asked,
            deadline_seconds=seconds,
            take=take,
            report=lambda _waiting, _left: look(),
            message_type=WITNESS_TYPE,
            clock=self.clock,
            sleep=self.sleep,
        )

    def _collected(self, errands: Mapping[str, list[tuple[str, str]]]) -> dict[str, list[str]]:
        """What each unit is to be given: its checkpoints with cosignatures, and what witnesses hold against it."""
        given: dict[str, list[str]] = {}
        for witness, wanted in errands.items():
            replies = self.said[witness].replies if witness in self.said else ()
            for (owner, request), reply in zip(wanted, replies, strict=False):
                note = self._note(owner, witness, request, reply)
                if note:
                    given.setdefault(owner, []).append(note)
        return given

    def _note(self, owner: str, witness: str, request: str, reply: Reply) -> str:
        if reply.status == HTTPStatus.OK:
            note = request.partition("\n\n")[2]
            self.known[owner, witness] = _size(note)
            return note + reply.body
        log.warning("witness.answered unit=%s witness=%s status=%d", owner, witness, reply.status)
        if reply.status == HTTPStatus.CONFLICT and reply.body.strip().isdecimal():
            self.known[owner, witness] = int(reply.body[:18])
        return reply.newest


def _old_size(request: str) -> int | None:
    try:
        return ConsistencyProof.from_text(request).old_size
    except VerificationError:
        return None


def _size(note: str) -> int:
    try:
        return parse_checkpoint(parse_note(note).text).size
    except VerificationError:
        return 0
