"""What server and units say to each other about witnessing, byte for byte: canonical JSON, bounded, or refused. Pure.

It is not a release and cannot become one: another type of message, and a reader that knows neither numbers nor rows.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from fedseg.errors import ContributionError, RequestError
from fedseg.ledger.canonical import Json, canonical, parse_canonical
from fedseg.node.witnessing import TEXT_LIMIT, Asked, Reply, Said

WITNESS_TYPE: Final = "query.witness"
MESSAGE_LIMIT_BYTES: Final = 8 * 1024 * 1024
ITEMS_MAX: Final = 1024
"""Most requests, checkpoints or sizes of one message: a plan has at most as many units."""
SIZE_MAX: Final = 2**40
"""Most entries of a log, by far."""
WANTED_MAX: Final = 64
"""Most witnesses that a unit may name: those of its policy, and of those before it that are still to be asked."""
_ASKED: Final = "fedseg-witness-asked"
_SAID: Final = "fedseg-witness-said"
_ITEM = TypeVar("_ITEM")


def encode_asked(asked: Asked) -> bytes:
    """The message to a unit."""
    return canonical(
        {
            "kind": _ASKED,
            "version": 1,
            "plan_sha256": asked.plan_sha256,
            "given": [*asked.given],
            "to_cosign": [*asked.to_cosign],
            "sizes": [*asked.sizes],
        }
    )


def decode_asked(data: bytes) -> Asked:
    """Read the message to a unit.

    Raises:
        RequestError: If it is none.
    """
    try:
        return _asked(_parsed(data))
    except ValueError as error:
        raise RequestError(
            "a message about witnessing cannot be read", why=str(error), fix="use the same version at server and units"
        ) from error


def _asked(parsed: Json) -> Asked:
    match parsed:
        case {
            "kind": kind,
            "version": 1,
            "plan_sha256": str(plan),
            "given": list(given),
            "to_cosign": list(requests),
            "sizes": list(sizes),
            **rest,
        } if kind == _ASKED and not rest:
            return Asked(plan, _all(given, _text), _all(requests, _text), _all(sizes, _size))
        case _:
            raise ValueError("it lacks a part or has one too many")


def encode_said(said: Said) -> bytes:
    """The unit's reply."""
    replies: list[Json] = [{"status": one.status, "body": one.body, "newest": one.newest} for one in said.replies]
    return canonical(
        {
            "kind": _SAID,
            "version": 1,
            "witness": said.witness,
            "wanted": [*said.wanted],
            "satisfied": said.satisfied,
            "growth": [*said.growth],
            "replies": replies,
        }
    )


def decode_said(data: bytes) -> Said:
    """Read a unit's reply.

    Raises:
        ContributionError: If it is none.
    """
    try:
        return _said(_parsed(data))
    except ValueError as error:
        raise ContributionError(
            "a reply about witnessing cannot be read", why=str(error), fix="ask that unit again, then see its log"
        ) from error


def _said(parsed: Json) -> Said:
    match parsed:
        case {
            "kind": kind,
            "version": 1,
            "witness": str(witness),
            "wanted": list(wanted),
            "satisfied": bool(satisfied),
            "growth": list(growth),
            "replies": list(replies),
            **rest,
        } if kind == _SAID and not rest:
            if len(wanted) > WANTED_MAX or len({*map(str, wanted)}) < len(wanted):
                raise ValueError("it names too many witnesses, or one twice")
            return Said(_text(witness), _all(wanted, _text), satisfied, _all(growth, _text), _all(replies, _reply))
        case _:
            raise ValueError("it lacks a part or has one too many")


def _parsed(data: bytes) -> Json:
    if len(data) > MESSAGE_LIMIT_BYTES:
        raise ValueError(f"it has more than {MESSAGE_LIMIT_BYTES} bytes")
    return parse_canonical(data)


def _all(items: list[Json], read: Callable[[Json], _ITEM]) -> tuple[_ITEM, ...]:
    if len(items) > ITEMS_MAX:
        raise ValueError(f"a list in it has more than {ITEMS_MAX} items")
    return tuple(map(read, items))


def _text(item: Json) -> str:
    if not isinstance(item, str) or len(item) > TEXT_LIMIT:
        raise ValueError("a text in it is none, or too long")
    return item


def _size(item: Json) -> int:
    if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= SIZE_MAX:
        raise ValueError("a size in it is none")
    return item


def _reply(item: Json) -> Reply:
    match item:
        case {"status": int(status), "body": str(body), "newest": str(newest), **rest} if not rest:
            return Reply(_size(status), _text(body), _text(newest))
        case _:
            raise ValueError("an answer in it lacks its status, its body or what is newest")
