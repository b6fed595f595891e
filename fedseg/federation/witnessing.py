"""The server's part in witnessing: it carries checkpoints to witnesses and cosignatures back. It can forge neither.

With each release a unit shows how its ledger has grown. Before the next round of a witnessed plan the units that are
its witnesses cosign that, and with the next request it gets the cosignatures. What a unit then holds is its own to
judge: a server that leaves this out, or a witness that does not answer, delays the round and nothing else.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from flwr.app import Message, RecordDict
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
TURNS_MAX: Final = 8
"""Most times that units are asked in a row: two are enough before the first round, one between two of them."""


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
    """How many entries of a unit's log a witness has cosigned, by the unit's name and the witness's key."""
    notes: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """What each unit is to be given: its newest checkpoint that a witness has signed, by the witness's key."""

    def beside(self, unit: str) -> bytes:
        """What rides along with the next request to a unit: what witnesses have signed of its ledger."""
        return self._asking(unit, ())

    def hear(self, unit: str, said: bytes) -> bool:
        """Take in what a unit says of witnessing; whether it could be read.

        A unit that has all it needs is given nothing more.
        """
        try:
            self.said[unit] = decode_said(said)
        except ContributionError as error:
            log.warning("witness.refused unit=%s code=%s why=%s", unit, error.code, error.why)
            return False
        if self.said[unit].satisfied:
            self.notes.pop(unit, None)
        return True

    def carry(self, seconds: float, look: Callable[[], None]) -> bool:
        """Have witnesses cosign what units have logged, until there is nothing more to carry; whether all have some.

        Between two rounds that is one message to each witness: how the ledgers have grown came with the releases, and
        what was cosigned rides along with the next request.

        Args:
            seconds: Longest time.
            look: Called at least at every poll; what it raises ends it.
        """
        end = self.clock() + seconds
        tried, silent = set[str](), set[str]()
        for _ in range(TURNS_MAX):
            errands = self._errands(tried)
            tried |= {request for errand in errands.values() for _, request in errand}
            asked = [name for name in self.roster if name in errands or self._must_speak(name, silent)]
            if not asked or self.clock() >= end:
                break
            before = dict(self.said)
            self._ask(asked, errands, min(PATIENCE_SECONDS, end - self.clock()), look)
            silent |= {name for name in asked if self.said.get(name) is before.get(name)}
            for witness in errands.keys() - silent:
                self._collect(self.said[witness], errands[witness])
        lacking = [name for name in self.roster if not self._is_served(name)]
        for name in lacking:
            log.warning("unit.not_witnessed unit=%s", name)
        return not lacking

    def _is_served(self, unit: str) -> bool:
        if unit not in self.said:
            return False
        newest = _newest(self.said[unit])
        return self.said[unit].satisfied or any(
            self.known[unit, witness] == newest for witness in self.notes.get(unit, ())
        )

    def _errands(self, tried: Collection[str]) -> dict[str, list[tuple[str, str]]]:
        """For units as witnesses: whose growth each is to cosign, and the request; none that was made before."""
        found: dict[str, list[tuple[str, str]]] = {}
        for witness, one in self.said.items():
            for owner, other in self.said.items():
                request = self._request(owner, one.witness)
                if owner != witness and not other.satisfied and request is not None and request not in tried:
                    found.setdefault(witness, []).append((owner, request))
        return found

    def _request(self, owner: str, witness: str) -> str | None:
        """What this witness is to be asked about a unit's log; None if nothing, or if the unit must be asked first."""
        said = self.said[owner]
        if witness not in said.wanted or self._is_current(owner, witness):
            return None
        by_size = {_old_size(request): request for request in said.growth}
        known = self.known.get((owner, witness))
        # How far a witness is that was not asked before the unit knows best: it offers the size that was cosigned last.
        return by_size.get(known) if known is not None else next(reversed(by_size.values()), None)

    def _is_current(self, owner: str, witness: str) -> bool:
        """Whether the witness has cosigned as much as the unit has shown, or more: then the unit is an older copy."""
        return self.known.get((owner, witness), -1) >= _newest(self.said[owner])

    def _must_speak(self, unit: str, silent: Collection[str]) -> bool:
        """Whether a unit must say more before its witnesses can be asked."""
        if unit in silent:
            return False
        if unit not in self.said:
            return True
        witnesses = {one.witness for name, one in self.said.items() if name != unit} & {*self.said[unit].wanted}
        return not self.said[unit].satisfied and any(
            not self._is_current(unit, witness) and self._request(unit, witness) is None for witness in witnesses
        )

    def _ask(
        self,
        asked: Sequence[str],
        errands: Mapping[str, Sequence[tuple[str, str]]],
        seconds: float,
        look: Callable[[], None],
    ) -> None:
        """One message to each of these units, and what they say."""

        def request(unit: str) -> RecordDict:
            return wire.pack(self._asking(unit, [request for _, request in errands.get(unit, ())]))

        def take(unit: str, reply: Message) -> Verdict:
            # Who says no is not asked again here: it says so again when it is asked for a release.
            try:
                self.hear(unit, wire.unpack_reply(reply))
            except ContributionError:
                return Verdict.REFUSED
            return Verdict.COUNTED

        exchange(
            self.grid,
            {name: self.roster[name] for name in asked},
            request,
            deadline_seconds=seconds,
            take=take,
            report=lambda _waiting, _left: look(),
            message_type=WITNESS_TYPE,
            clock=self.clock,
            sleep=self.sleep,
        )

    def _asking(self, unit: str, requests: Sequence[str]) -> bytes:
        sizes = {0, *(size for (owner, _), size in self.known.items() if owner == unit)}
        given = self.notes.get(unit, {}).values()
        return encode_asked(Asked(self.plan_sha256, tuple(given), tuple(requests), tuple(sorted(sizes))))

    def _collect(self, said: Said, errand: Sequence[tuple[str, str]]) -> None:
        """Keep what a witness has signed for the units whose logs these are, and what it holds against them."""
        for (owner, request), reply in zip(errand, said.replies, strict=False):
            note = self._note(owner, said.witness, request, reply)
            if note:
                self.notes.setdefault(owner, {})[said.witness] = note

    def _note(self, owner: str, witness: str, request: str, reply: Reply) -> str:
        if reply.status == HTTPStatus.OK:
            self.known[owner, witness] = _new_size(request)
            return request.partition("\n\n")[2] + reply.body
        log.warning("witness.answered unit=%s witness=%s status=%d", owner, witness.partition("+")[0], reply.status)
        if reply.status == HTTPStatus.CONFLICT and reply.body.strip().isdecimal():
            self.known[owner, witness] = int(reply.body[:18])
        return reply.newest


def _old_size(request: str) -> int | None:
    try:
        return ConsistencyProof.from_text(request).old_size
    except VerificationError:
        return None


def _newest(said: Said) -> int:
    """How many entries the unit's ledger has, as it has shown."""
    return max((_new_size(request) for request in said.growth), default=0)


def _new_size(request: str) -> int:
    try:
        return parse_checkpoint(parse_note(ConsistencyProof.from_text(request).note).text).size
    except VerificationError:
        return 0
