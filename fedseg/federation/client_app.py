"""The Flower `ClientApp` of a unit: one handler, which answers with a release or with "unavailable"."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedseg.audit.contradiction import note_contradiction
from fedseg.clustering.request import parse_request, request_sha256
from fedseg.errors import FedsegError
from fedseg.federation import wire
from fedseg.federation.witness_wire import decode_asked, encode_said
from fedseg.node import witnessing
from fedseg.node.contribute import contribute, reply_slot_seconds
from fedseg.node.home import NodeHome
from fedseg.node.witnessing import NodeProcess, Reply
from fedseg.privacy.noise import NoiseSource, SystemNoise

log = logging.getLogger(__name__)


Processes = defaultdict[Path, NodeProcess]
"""The process of each unit that an app answers for, by its home: one, but in a simulation."""


def make_client_app(
    noise: NoiseSource | None = None, *, least_slot_seconds: int = 0, processes: Processes | None = None
) -> ClientApp:
    """A unit's app.

    Args:
        noise: The system's, unless a simulation names another, which the ledger then records.
        least_slot_seconds: Shortest reply slot, whatever a plan says; 0 only where nobody can watch the clock.
        processes: As which process it answers; a new one unless told otherwise.
    """
    app = ClientApp()
    source = SystemNoise() if noise is None else noise
    known: Processes = defaultdict(NodeProcess) if processes is None else processes

    @app.query("release")
    def answer(message: Message, context: Context) -> Message:
        received = time.monotonic()
        asking = _Asking(message, context, known)
        reply, slot_seconds = asking.release(source)
        wait_for_slot(received, max(slot_seconds, least_slot_seconds))
        return Message(reply, reply_to=message)

    @app.query("witness")
    def witness(message: Message, context: Context) -> Message:
        # At once: it reads no customer, and what it says follows from ledgers alone.
        return Message(_Asking(message, context, known).witness(), reply_to=message)

    return app


def wait_for_slot(
    received: float,
    slot_seconds: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the next multiple of `slot_seconds` after `received`, so that working time does not show."""
    if slot_seconds > 0:
        elapsed = clock() - received
        sleep((elapsed // slot_seconds + 1) * slot_seconds - elapsed)


@dataclass(frozen=True, slots=True)
class _Asking:
    """One message, and who answers it."""

    message: Message
    context: Context
    processes: Processes

    def release(self, source: NoiseSource) -> tuple[RecordDict, int]:
        """The reply to a request for a release, and the length of the plan's reply slots in seconds.

        What is given about witnesses comes first, for the door asks for it; what there is to say of them comes last.
        """
        slot_seconds = 0
        beside, replies = wire.unpack_beside(self.message), list[Reply]()

        def serves() -> bytes:
            asked, now = self._asked(beside), datetime.now(UTC)
            replies.extend(witnessing.serve(self._node(), asked, self.process, now, note_contradiction))
            return b""

        def releases() -> bytes:
            nonlocal slot_seconds
            plan_sha256, request = parse_request(wire.unpack_request(self.message))
            node = self._node()
            slot_seconds = reply_slot_seconds(node, plan_sha256)
            wanted, now = request_sha256(plan_sha256, request), datetime.now(UTC)
            return wire.encode(
                contribute(node, plan_sha256, request, wanted, now=now, source=source, process=self.process)
            )

        def says() -> bytes:
            return encode_said(witnessing.said(self._node(), self._asked(beside), self.process, tuple(replies)))

        if beside is None:
            return wire.pack(_or_unavailable("release", releases)), slot_seconds
        _or_unavailable("witness", serves)
        reply = _or_unavailable("release", releases)
        return wire.pack(reply, _or_unavailable("witness", says)), slot_seconds

    def witness(self) -> RecordDict:
        """The reply to a message about witnessing."""

        def says() -> bytes:
            asked = self._asked(wire.unpack_request(self.message))
            node = self._node()
            served = witnessing.serve(node, asked, self.process, datetime.now(UTC), note_contradiction)
            return encode_said(witnessing.said(node, asked, self.process, served))

        return wire.pack(_or_unavailable("witness", says))

    @property
    def process(self) -> NodeProcess:
        return self.processes[self._home]

    @property
    def _home(self) -> Path:
        return Path(str(self.context.node_config["home"]))

    def _node(self) -> NodeHome:
        return NodeHome.open(self._home)

    def _asked(self, data: bytes | None) -> witnessing.Asked:
        return decode_asked(b"" if data is None else data)


def _or_unavailable(what: str, reply: Callable[[], bytes]) -> bytes:
    """The reply, or the one word for no, whatever goes wrong."""
    try:
        return reply()
    except FedsegError as error:
        # The class's own words, not the instance's: what a library says of a file may quote a customer's value.
        log.warning("%s.unavailable code=%s what=%s", what, error.code, error.summary)
    except Exception as error:  # noqa: BLE001 (fails closed; see below)
        # The one broad handler, and it fails closed: whatever went wrong, Flower would send the exception's text to
        # the server, and text may hold a customer's value. Neither the text nor the traceback's values are logged.
        log.error("%s.unavailable code=%s what=%s", what, FedsegError.code, type(error).__name__)  # noqa: TRY400
    return wire.encode_unavailable()


app = make_client_app()
