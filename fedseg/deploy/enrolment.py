"""The two files by which a node joins: its request and the server's answer. Signed, not secret; bytes, no disk.

The request proves that whoever made it has the unit's key and the node's. The answer proves that the server's key has
answered this very request, and brings the certificate authority. Whether either was exchanged on its way people find
out: each has a fingerprint, which is the same on both sides if the file is, and is compared over the telephone.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

import fedseg
from fedseg.deploy.certificates import node_key_signed, public_node_key, require_authority, sign_with_node_key
from fedseg.deploy.settings import AddressText
from fedseg.errors import CertificateError, EnrolmentError
from fedseg.ledger.canonical import Json, canonical, parse_canonical
from fedseg.ledger.keys import PublicKey, SigningKey
from fedseg.plan import Name
from fedseg.privacy.entries import Hash, PublicKeyText, Signature
from fedseg.server.roster import NodeKeyText

LIFE: Final = timedelta(days=7)
"""How long a request may wait for its answer."""
AHEAD: Final = timedelta(minutes=10)
"""How far the clock of whoever made a request may be ahead."""
_REQUEST_CONTEXT: Final = b"fedseg/enrolment-request/v1\n"
_ANSWER_CONTEXT: Final = b"fedseg/enrolment-answer/v1\n"
_SERVER_CONTEXT: Final = b"fedseg/server-identity/v1\n"
_FINGERPRINT_DIGITS: Final = 32


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="seconds") != text:
        raise ValueError("must be a time in UTC, to the second")
    return text


Moment = Annotated[str, AfterValidator(_moment)]


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def to_bytes(self) -> bytes:
        """The file: one line of canonical JSON."""
        return canonical(_facts(self)) + b"\n"


class Request(_File):
    """A unit's request to join, or to go on with another key of its node."""

    format: Literal["fedseg-enrolment-request"] = "fedseg-enrolment-request"
    version: Literal[1] = 1
    unit: Name
    unit_key: PublicKeyText
    """Signs the unit's ledger and releases; plans name it."""
    node_key: NodeKeyText
    """Lets the node's process in at the server."""
    server: AddressText
    """HOST:PORT at which the node will look for the server."""
    fedseg: str
    """The version that has made it."""
    made_at: Moment
    expires_at: Moment
    nonce: Hash
    unit_signature: Signature
    node_signature: Annotated[str, Field(pattern=r"^[0-9a-f]{16,256}$")]

    @property
    def signed_bytes(self) -> bytes:
        """What both keys sign: everything but the signatures."""
        return _REQUEST_CONTEXT + canonical(_facts(self, "unit_signature", "node_signature"))

    @property
    def digest(self) -> str:
        """Hash of what is signed; names the request."""
        return hashlib.sha256(self.signed_bytes).hexdigest()

    @property
    def fingerprint(self) -> str:
        """128 bits of it, to be read aloud."""
        return spoken(self.digest)


class Answer(_File):
    """The server's answer to a request."""

    format: Literal["fedseg-enrolment-answer"] = "fedseg-enrolment-answer"
    version: Literal[1] = 1
    request_sha256: Hash
    unit: Name
    node_id: Annotated[str, Field(pattern=r"^[0-9]{1,20}$")]
    """Of the node in Flower."""
    server: AddressText
    server_key: PublicKeyText
    """Signs published segments."""
    ca: str
    """Certificate of the authority that vouches for the server, as PEM."""
    fedseg: str
    made_at: Moment
    signature: Signature

    @property
    def signed_bytes(self) -> bytes:
        """What the server's key signs."""
        return _ANSWER_CONTEXT + canonical(_facts(self, "signature"))

    @property
    def fingerprint(self) -> str:
        """Of the server, as `server_fingerprint`."""
        return server_fingerprint(self.server_key, self.ca.encode("ascii"))


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What a node asks to join with."""

    unit: str
    unit_key: SigningKey
    node_key: bytes
    """Private, in OpenSSH's format."""
    server: str
    """HOST:PORT."""


def make_request(node: NodeIdentity, *, now: datetime) -> Request:
    """A new request, signed by both keys.

    Raises:
        KeyFileError: If the node's private key is none.
    """
    unsigned = Request(
        unit=node.unit,
        unit_key=node.unit_key.public.to_text(),
        node_key=public_node_key(node.node_key),
        server=node.server,
        fedseg=fedseg.__version__,
        made_at=_written(now),
        expires_at=_written(now + LIFE),
        nonce=secrets.token_hex(32),
        unit_signature="00" * 64,
        node_signature="00" * 64,
    )
    message = unsigned.signed_bytes
    signed = unsigned.model_copy(
        update={
            "unit_signature": node.unit_key.sign(message).hex(),
            "node_signature": sign_with_node_key(node.node_key, message).hex(),
        }
    )
    return parse_request(signed.to_bytes())


def read_request(data: bytes, *, now: datetime) -> Request:
    """A request whose signatures are right and whose time has not passed.

    Raises:
        EnrolmentError: If it is not.
    """
    found = parse_request(data)
    made, ends = datetime.fromisoformat(found.made_at), datetime.fromisoformat(found.expires_at)
    if not (made - AHEAD <= now <= ends <= made + LIFE):
        raise EnrolmentError(
            "the request's time has passed" if now > ends else "the request's time has not come",
            why=f"it says that it holds from {found.made_at} to {found.expires_at}, and here it is {_written(now)}",
            fix="look at the clocks of both machines; then at the unit: fedseg node request DIR",
        )
    return found


def parse_request(data: bytes) -> Request:
    """A request whose signatures are right, of whatever time.

    Raises:
        EnrolmentError: If they are not.
    """
    found = _read(data, Request, "fedseg node request DIR, at the unit; then send the new file")
    message = found.signed_bytes
    by_unit = PublicKey.from_text(found.unit_key).verify(bytes.fromhex(found.unit_signature), message)
    if not (by_unit and node_key_signed(found.node_key, _hex(found.node_signature), message)):
        raise EnrolmentError(
            "the request is not signed by the keys that it names",
            why="it was changed after it was made, or made by somebody who has not both keys",
            fix="fedseg node request DIR, at the unit; send the new file by another way",
        )
    return found


def make_answer(request: Request, key: SigningKey, *, node_id: int, ca: bytes, now: datetime) -> Answer:
    """The server's answer to a request whose unit it has let in."""
    unsigned = Answer(
        request_sha256=request.digest,
        unit=request.unit,
        node_id=str(node_id),
        server=request.server,
        server_key=key.public.to_text(),
        ca=ca.decode("ascii"),
        fedseg=fedseg.__version__,
        made_at=_written(now),
        signature="00" * 64,
    )
    return unsigned.model_copy(update={"signature": key.sign(unsigned.signed_bytes).hex()})


def read_answer(data: bytes, request: Request) -> Answer:
    """The answer to this very request, signed by the key that it names and with an authority in it.

    Whose key that is it cannot tell: compare its `fingerprint` with what the server's operator reads out.

    Raises:
        EnrolmentError: If it was changed, or answers another request.
        CertificateError: If it brings no authority's certificate.
    """
    found = _read(data, Answer, "ask the server's operator for the file that `fedseg server approve` has written")
    if not PublicKey.from_text(found.server_key).verify(bytes.fromhex(found.signature), found.signed_bytes):
        raise EnrolmentError(
            "the answer is not signed by the key that it names",
            why="it was changed after it was made",
            fix="ask the server's operator to send it again, by another way",
        )
    if (found.request_sha256, found.unit, found.server) != (request.digest, request.unit, request.server):
        raise EnrolmentError(
            "the answer is one to another request",
            why=f"this node's last request has the fingerprint {request.fingerprint}, the one that was answered "
            f"{spoken(found.request_sha256)}",
            fix="ask the server's operator for the answer to this node's last request",
        )
    if not found.ca.isascii():
        raise CertificateError(
            "the answer holds no certificate of an authority",
            why="it is not text in ASCII",
            fix="ask the server's operator to send it again",
        )
    require_authority(found.ca.encode("ascii"))
    return found


def server_fingerprint(server_key: str, ca: bytes) -> str:
    """128 bits that stand for a server's key and its authority together, to be read aloud."""
    facts: dict[str, Json] = {"server_key": server_key, "ca": ca.decode("ascii")}
    return spoken(hashlib.sha256(_SERVER_CONTEXT + canonical(facts)).hexdigest())


def spoken(digest: str) -> str:
    """The first 128 bits of a hash in groups of four digits.

    >>> spoken("0123456789abcdef" * 4)
    '0123-4567-89ab-cdef-0123-4567-89ab-cdef'
    """
    digits = digest[:_FINGERPRINT_DIGITS]
    return "-".join(digits[start : start + 4] for start in range(0, _FINGERPRINT_DIGITS, 4))


def require_same_fingerprint(said: str, found: str, *, whose: str) -> None:
    """Check what was heard over the telephone, however it was typed, against a file's fingerprint.

    Raises:
        EnrolmentError: If they differ.
    """
    if not hmac.compare_digest(re.sub(r"[^0-9a-z]", "", said.lower()), found.replace("-", "")):
        raise EnrolmentError(
            f"the fingerprint of {whose} is another one than was read out",
            why=f"the file's is {found}",
            fix="call again, at a number that you have from elsewhere; if it differs still, the file was exchanged",
        )


_FILE = TypeVar("_FILE", bound=_File)


def _read(data: bytes, kind: type[_FILE], fix: str) -> _FILE:
    name = kind.__name__.lower()
    try:
        found = kind.model_validate(parse_canonical(data.strip()))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        raise EnrolmentError(f"the file is no enrolment {name}", why=why, fix=fix) from error
    except ValueError as error:
        raise EnrolmentError(f"the file is no enrolment {name}", why=str(error).splitlines()[0], fix=fix) from error
    if found.to_bytes().strip() != data.strip():  # to Python true is 1, and what has a default may be left out
        raise EnrolmentError(f"the file is no enrolment {name}", why="it is spelled in another way", fix=fix)
    return found


def _facts(one: _File, *without: str) -> Mapping[str, Json]:
    facts: dict[str, Json] = one.model_dump(mode="json", exclude=set(without))
    return facts


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:  # an odd number of digits: it is nobody's signature
        return b""


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
