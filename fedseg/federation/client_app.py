"""The Flower `ClientApp` of a unit: one handler, which answers with a release or with "unavailable"."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedseg.clustering.request import parse_request, request_sha256
from fedseg.errors import FedsegError
from fedseg.federation import wire
from fedseg.federation.witness_wire import decode_asked, encode_said
from fedseg.node import witnessing
from fedseg.node.contribute import contribute, reply_slot_seconds
from fedseg.node.home import NodeHome
from fedseg.privacy.noise import NoiseSource, SystemNoise

log = logging.getLogger(__name__)


def make_client_app(noise: NoiseSource | None = None, *, least_slot_seconds: int = 0) -> ClientApp:
    """A unit's app.

    Args:
        noise: The system's, unless a simulation names another, which the ledger then records.
        least_slot_seconds: Shortest reply slot, whatever a plan says; 0 only where nobody can watch the clock.
    """
    app = ClientApp()
    source = SystemNoise() if noise is None else noise
    since = datetime.now(UTC)

    @app.query("release")
    def answer(message: Message, context: Context) -> Message:
        received = time.monotonic()
        reply, slot_seconds = _answer(message, context, source, since)
        wait_for_slot(received, max(slot_seconds, least_slot_seconds))
        return Message(wire.pack(reply), reply_to=message)

    @app.query("witness")
    def witness(message: Message, context: Context) -> Message:
        # At once: it reads no customer, and what it says follows from ledgers alone.
        return Message(wire.pack(_witness(message, context, since)), reply_to=message)

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


def _answer(message: Message, context: Context, source: NoiseSource, since: datetime) -> tuple[bytes, int]:
    """The reply's bytes, and the length of the plan's reply slots in seconds."""
    slot_seconds = 0

    def releases() -> bytes:
        nonlocal slot_seconds
        plan_sha256, request = parse_request(wire.unpack_request(message))
        node = NodeHome.open(Path(str(context.node_config["home"])))
        slot_seconds = reply_slot_seconds(node, plan_sha256)
        asked = request_sha256(plan_sha256, request)
        answer = contribute(node, plan_sha256, request, asked, now=datetime.now(UTC), source=source, since=since)
        return wire.encode(answer)

    return _or_unavailable("release", releases), slot_seconds


def _witness(message: Message, context: Context, since: datetime) -> bytes:
    """The reply to a message about witnessing."""

    def says() -> bytes:
        asked = decode_asked(wire.unpack_request(message))
        node = NodeHome.open(Path(str(context.node_config["home"])))
        return encode_said(witnessing.answer(node, asked, since=since, now=datetime.now(UTC)))

    return _or_unavailable("witness", says)


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
