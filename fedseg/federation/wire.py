"""What crosses the wire, byte for byte. Out of a unit: a `Release`, or one word for "unavailable". Nothing else.

Bytes from outside are parsed into a value or refused with `ContributionError`; nothing is ever guessed.
"""

from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, RecordDict

from fedseg.errors import ContributionError, RequestError, UnavailableError
from fedseg.plan import Plan
from fedseg.privacy.release import Release
from fedseg.server.contribution import Contribution, parse_contribution

RECORD = "fedseg"
BESIDE = "fedseg-witness"
"""The record of what rides along with a request or a reply: about witnessing, and never a release."""
FIELD = "bytes"
MESSAGE_TYPE = "query.release"
GROUP = "fedseg"
"""Flower wants a group for each message; we have one."""

_RELEASE = b"R"
_UNAVAILABLE = b"U" + UnavailableError.code.encode()


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The unit does not answer; why is its own business and never depends on a row."""


def encode(release: Release) -> bytes:
    """The reply that carries a release; its length depends on plan and step alone."""
    return _RELEASE + release.payload


def encode_unavailable() -> bytes:
    """The reply of a unit that does not answer: the same bytes whatever the cause."""
    return _UNAVAILABLE


def decode(reply: bytes, plan: Plan) -> Contribution | Unavailable:
    """Read a unit's reply.

    Raises:
        ContributionError: If it is neither a release of this plan nor "unavailable".
    """
    if reply == _UNAVAILABLE:
        return Unavailable()
    if not reply.startswith(_RELEASE):
        raise ContributionError(
            "a reply could not be read",
            why="it is neither a release nor a refusal",
            fix="ask that unit again, then see its log",
        )
    return parse_contribution(reply[1:], plan)


def pack(data: bytes, beside: bytes | None = None) -> RecordDict:
    """Flower's envelope around one byte string, and what rides along with it."""
    records = {RECORD: data} if beside is None else {RECORD: data, BESIDE: beside}
    return RecordDict({name: ConfigRecord({FIELD: value}) for name, value in records.items()})


def unpack_beside(message: Message) -> bytes | None:
    """What rides along in a message; None if nothing does."""
    data = _bytes_of(message)
    return None if data is None else data.get(BESIDE)


def unpack_request(message: Message) -> bytes:
    """The byte string in a request.

    Raises:
        RequestError: If the message holds anything else.
    """
    data = _bytes_of(message)
    if data is None:
        raise RequestError(
            "a message holds no request",
            why="its content is not one byte string",
            fix="use the same version at server and units",
        )
    return data[RECORD]


def unpack_reply(message: Message) -> bytes:
    """The byte string in a reply.

    Raises:
        ContributionError: If the message is an error of Flower's, or holds anything else.
    """
    data = _bytes_of(message)
    if data is None:
        raise ContributionError(
            "a reply holds no release",
            why="its content is not one byte string",
            fix="ask that unit again, then see its log",
        )
    return data[RECORD]


def _bytes_of(message: Message) -> dict[str, bytes] | None:
    """The byte strings of a message by record: ours, and perhaps one that rides along. None for anything else."""
    if message.has_error() or not message.has_content() or not {RECORD} <= set(message.content) <= {RECORD, BESIDE}:
        return None
    found: dict[str, bytes] = {}
    for name, record in message.content.items():
        data = record[FIELD] if isinstance(record, ConfigRecord) and set(record) == {FIELD} else None
        if not isinstance(data, bytes):
            return None
        found[name] = data
    return found
