"""The server's part in witnessing: it carries checkpoints to witnesses and cosignatures back. It can forge neither.

With each release a unit shows how its ledger has grown. Before the next round of a witnessed plan its witnesses cosign
that, other units and whoever serves `add-checkpoint` at an address that the server's operator has named, and with the
next request it gets the cosignatures. What a unit then holds is its own to judge: a server that leaves this out, or a
witness that does not answer, delays the round and nothing else. With all this goes the server's own log, to be cosigned
by the units that are asked anyway; nothing waits for it.
"""

import logging
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Protocol

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedseg.errors import ContributionError, VerificationError
from fedseg.federation import wire
from fedseg.federation.exchange import Verdict, exchange
from fedseg.federation.witness_wire import SIZE_MAX, WITNESS_TYPE, decode_said, encode_asked
from fedseg.ledger.checkpoint import parse_checkpoint
from fedseg.ledger.notes import parse_note
from fedseg.ledger.proof import ConsistencyProof
from fedseg.node.witnessing import TEXT_LIMIT, Asked, Reply, Said

log = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 20.0
"""How long a unit may take to answer what costs it nothing; who takes longer is left out of this turn."""
GRACE_SECONDS: Final = 6.0
"""And once another has answered: a unit that is down does not hold up those who are there. Nodes ask every 3 s."""
TURNS_MAX: Final = 8
"""Most times that units are asked in a row: two are enough before the first round, one between two of them."""


Post = Callable[[str], Reply]
"""Takes a request to a witness with an address and brings its answer."""
_Errand = list[tuple[str, str]]
"""Whose growth a witness is to cosign, and the request."""
_SIZE: Final = re.compile(r"(0|[1-9][0-9]{0,11})\n?")
_SERVER: Final = ""
"""Stands for the server among the owners of logs: no unit has this name."""


class OwnLog(Protocol):
    """The server's own log."""

    def growth(self, size: int) -> str | None:
        """The request that a witness takes which knows so many entries; None if there were never so many."""

    def keep(self, note: str, witnesses: Collection[str]) -> None:
        """Keep what these witnesses, named by their verifier keys, have cosigned."""


@dataclass(slots=True)
class Carrier:
    """What the server has in hand between one message and the next; nothing of it needs to outlive the process."""

    grid: Grid
    plan_sha256: str
    roster: Mapping[str, int]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    posts: Mapping[str, Post] = field(default_factory=dict[str, Post])
    """Witnesses with an address, by the names in their verifier keys."""
    own: OwnLog | None = None
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
            heard = decode_said(said)
        except ContributionError as error:
            log.warning("witness.refused unit=%s code=%s why=%s", unit, error.code, error.why)
            return False
        # One name and one key for the whole run: nobody speaks for another witness.
        known = self.said.get(unit, heard).witness
        if _name(heard.witness) != f"fedseg/witness/{unit}" or heard.witness != known:
            log.warning("witness.refused unit=%s why=it does not speak as itself", unit)
            return False
        self.said[unit] = heard
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
        tried, silent = set[tuple[str, str]](), set[str]()
        for _ in range(TURNS_MAX):
            errands = self._errands(tried)
            tried |= {(witness, request) for witness, errand in errands.items() for _, request in errand}
            units = {one.witness: name for name, one in self.said.items()}
            asked = {name: errands.get(witness, []) for witness, name in units.items() if witness in errands}
            asked |= {name: asked.get(name, []) for name in self.roster if self._must_speak(name, silent)}
            if not (errands or asked) or self.clock() >= end:
                break
            for witness in errands.keys() - units.keys():
                for owner, posted in errands[witness]:
                    look()
                    if self.clock() < end:
                        self._collect(witness, [(owner, posted)], [self.posts[_name(witness)](posted)])
            silent |= self._ask(asked, min(PATIENCE_SECONDS, end - self.clock()), look)
        lacking = [name for name in self.roster if not self._is_served(name)]
        for name in lacking:
            log.warning("unit.not_witnessed unit=%s", name)
        return not lacking

    def _is_served(self, unit: str) -> bool:
        if unit not in self.said:
            return False
        newest = _newest(self.said[unit])
        return self.said[unit].satisfied or any(
            self.known.get((unit, witness)) == newest for witness in self.notes.get(unit, ())
        )

    def _errands(self, tried: Collection[tuple[str, str]]) -> dict[str, _Errand]:
        """By witness, whose growth each is to cosign, and the request; none that was made before."""
        found: dict[str, _Errand] = {}
        for owner, said in self.said.items():
            for witness in [] if said.satisfied else self._reachable(owner):
                request = self._request(owner, witness)
                if request is not None and (witness, request) not in tried:
                    found.setdefault(witness, []).append((owner, request))
        return found

    def _reachable(self, owner: str) -> list[str]:
        """The witnesses that a unit wants and that can be asked: other units, and those with an address."""
        units = {one.witness for name, one in self.said.items() if name != owner}
        wanted = {_name(one): one for one in self.said[owner].wanted}
        return [one for name, one in wanted.items() if one in units or name in self.posts]

    def _request(self, owner: str, witness: str) -> str | None:
        """What this witness is to be asked about a unit's log; None if nothing, or if the unit must be asked first."""
        if self._is_current(owner, witness):
            return None
        by_size = {_old_size(request): request for request in self.said[owner].growth}
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
        return not self.said[unit].satisfied and any(
            not self._is_current(unit, witness) and self._request(unit, witness) is None
            for witness in self._reachable(unit)
        )

    def _ask(self, asked: Mapping[str, _Errand], seconds: float, look: Callable[[], None]) -> set[str]:
        """One message to each of these units, with what it is to cosign; those that said nothing one can read."""
        heard = set[str]()
        errands = {unit: [*errand, *self._of_server(unit)] for unit, errand in asked.items()}

        def request(unit: str) -> RecordDict:
            return wire.pack(self._asking(unit, [request for _, request in errands[unit]]))

        def take(unit: str, reply: Message) -> Verdict:
            # Who says no is not asked again here: it says so again when it is asked for a release.
            try:
                data = wire.unpack_reply(reply)
            except ContributionError:
                return Verdict.REFUSED
            if self.hear(unit, data):
                heard.add(unit)
            return Verdict.COUNTED

        exchange(
            self.grid,
            {name: self.roster[name] for name in asked},
            request,
            deadline_seconds=seconds,
            take=take,
            report=lambda _waiting, _left: look(),
            grace_seconds=GRACE_SECONDS,
            message_type=WITNESS_TYPE,
            clock=self.clock,
            sleep=self.sleep,
        )
        for unit in heard:
            self._collect(self.said[unit].witness, errands[unit], self.said[unit].replies)
        return asked.keys() - heard

    def _of_server(self, unit: str) -> _Errand:
        """The growth of the server's own log, for a unit that is asked anyway."""
        if self.own is None:
            return []
        witness = self.said[unit].witness if unit in self.said else ""
        request = self.own.growth(self.known.get((_SERVER, witness), 0))
        return [] if request is None else [(_SERVER, request)]

    def _asking(self, unit: str, requests: Sequence[str]) -> bytes:
        sizes = {0, *(size for (owner, _), size in self.known.items() if owner == unit)}
        given = self.notes.get(unit, {}).values()
        return encode_asked(Asked(self.plan_sha256, tuple(given), tuple(requests), tuple(sorted(sizes))))

    def _collect(self, witness: str, errand: _Errand, replies: Iterable[Reply]) -> None:
        """Keep what a witness has signed for those whose logs these are, and what it holds against them."""
        for (owner, request), reply in zip(errand, replies, strict=False):
            note = self._note(owner, witness, request, reply)
            if note and owner != _SERVER:
                self.notes.setdefault(owner, {})[witness] = note
            elif note and self.own is not None:
                self.own.keep(note, [one.witness for one in self.said.values()])

    def _note(self, owner: str, witness: str, request: str, reply: Reply) -> str:
        if reply.status == HTTPStatus.OK:
            self.known[owner, witness] = _new_size(request)
            note = request.partition("\n\n")[2] + reply.body
            return note if len(note) <= TEXT_LIMIT else ""
        log.warning("witness.answered log=%s witness=%s status=%d", owner or "server", _name(witness), reply.status)
        if reply.status == HTTPStatus.CONFLICT and _SIZE.fullmatch(reply.body):
            self.known[owner, witness] = int(reply.body)
        return reply.newest if len(reply.newest) <= TEXT_LIMIT else ""


def _name(verifier_key: str) -> str:
    return verifier_key.partition("+")[0]


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
        size = parse_checkpoint(parse_note(ConsistencyProof.from_text(request).note).text).size
    except VerificationError:
        return 0
    return size if size <= SIZE_MAX else 0
