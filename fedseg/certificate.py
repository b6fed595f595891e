"""Certificates of erasure: an in-toto Statement (v1) in a DSSE envelope, and the file that proves its day. Pure.

A certificate names its request by a random number and nobody by anything. That it was made by a certain day shows in
the unit's ledger: its salted commitment stands in the tree of a day, whose root is that day's `rights_batch` entry.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError

from fedseg.errors import VerificationError
from fedseg.ledger.canonical import Json, canonical, parse_canonical, sha256_hex
from fedseg.ledger.dsse import seal, unseal
from fedseg.ledger.keys import PublicKey, SigningKey, decode_base64
from fedseg.ledger.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from fedseg.privacy.entries import Count, Day, Exact, Hash, Part, RightsBatchBody, UnitName
from fedseg.privacy.state import AccountState

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://fedseg.dev/attestation/erasure/v1"
CLOSING_TYPE: Final = "https://fedseg.dev/attestation/erasure-closing/v1"
SALT_BYTES: Final = 32
FILE_START: Final = b'{"envelope":'
"""How the file of a certificate begins: its canonical JSON has this key first."""
FILE_LIMIT_BYTES: Final = 1024 * 1024

STORES: Final = ("customers", "consent", "backups")
"""Where a unit of this version keeps something about a customer; each must be in a certificate."""

PROVES: Final = (
    "the unit has signed that on this day it removed what it held of this request's person from the stores named",
    "it cannot withdraw that, change it, or date it back: it is bound to that day's entry in the unit's ledger",
    "what it says of rounds and their price is what the ledger says: nothing released later can have counted them",
)
CANNOT_PROVE: Final = (
    "that no other copy exists: elsewhere in the unit, in other backups, or on the disk below the files",
    "that a recipient has erased anything: only that it acknowledged that it was told",
    "that the keys of encrypted backups are destroyed on the day that is stated, and that nobody had copied them",
    "that the rounds named counted the person: it names all that were drawn before, for everybody alike",
)

_COMMITMENT_TAG: Final = b"fedseg/erasure-certificate/v1\n"


REWRITTEN: Final = "rewritten without their rows"
DELETED: Final = "rows deleted by the database's operator, looked for and not found"
OVERWRITTEN: Final = "rows deleted and overwritten"
VACUUMED: Final = "rows deleted in a database that was told to vacuum"
ENCRYPTED: Final = "encrypted, unreadable after"


class ErasedStore(Part):
    """One place that held something about the person, and what was done there."""

    store: Literal["customers", "consent", "backups"]
    method: Annotated[
        str,
        Field(
            pattern=rf"^({REWRITTEN}|{DELETED}|{OVERWRITTEN}|{VACUUMED}|none are kept"
            rf"|{ENCRYPTED} "
            r"[0-9]{4}-[0-9]{2}-[0-9]{2})$"
        ),
    ]


class ToldRecipient(Part):
    """A recipient of the person's data, and whether it was told of the erasure (GDPR Article 19)."""

    recipient: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    status: Literal["pending", "failed", "acknowledged", "impossible", "disproportionate"]
    """No true certificate says one of the first two."""
    day: Day


class DrawnRounds(Part):
    """The rounds of a plan that were drawn before the erasure, and may have counted the person."""

    plan_sha256: Hash
    steps: Annotated[list[Count], Field(min_length=1)]


class ErasureFacts(Part):
    """What a unit certifies about one erasure."""

    request_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    regulation: Literal["gdpr", "ccpa"]
    ground: Annotated[str, Field(pattern=r"^(17\(1\)\([a-f]\)|1798\.105)$")]
    """GDPR Article 17(1), letter; or the section of the CCPA."""
    unit: UnitName
    controller: Annotated[str, Field(min_length=1, max_length=200)]
    received: Day
    due: Day
    completed: Day
    policy_sha256: Hash
    software: Annotated[str, Field(pattern=r"^fedseg [0-9A-Za-z.+-]{1,40}$")]
    ledger_size: Annotated[int, Field(ge=1)]
    """Entries in the unit's ledger at that moment: no release among the later ones can have counted the person."""
    stores: list[ErasedStore]
    recipients: Annotated[list[ToldRecipient], Field(default_factory=list)]
    """Everybody to whom the unit had handed data about the person; certificates of earlier versions do not say."""
    drawn: list[DrawnRounds]
    """All rounds the unit had answered, of all plans."""
    rho: Exact
    """What they cost a customer, in zCDP."""
    delta: Exact
    """The policy's."""


class ClosingFacts(Part):
    """What a unit certifies when no backup from before an erasure can be read any more."""

    request_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    unit: UnitName
    closed: Day
    """On this day the unit had no key of a month up to that of the erasure."""
    software: Annotated[str, Field(pattern=r"^fedseg [0-9A-Za-z.+-]{1,40}$")]


class _Digest(Part):
    sha256: Hash


class _Subject(Part):
    name: str
    digest: _Digest


class _Statement(Part):
    type_: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[list[_Subject], Field(min_length=1, max_length=1)]
    predicate_type: Annotated[Literal["https://fedseg.dev/attestation/erasure/v1"], Field(alias="predicateType")]
    predicate: ErasureFacts


class _Closing(Part):
    type_: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[list[_Subject], Field(min_length=1, max_length=1)]
    predicate_type: Annotated[
        Literal["https://fedseg.dev/attestation/erasure-closing/v1"], Field(alias="predicateType")
    ]
    predicate: ClosingFacts


def drawn_rounds(state: AccountState) -> list[DrawnRounds]:
    """The rounds that an account has answered, by plan."""
    return [
        DrawnRounds(plan_sha256=plan, steps=sorted(found.answered))
        for plan, found in sorted(state.reservations.items())
        if found.answered
    ]


def sign_certificate(facts: ErasureFacts, manifest_sha256: str, key: SigningKey) -> bytes:
    """The envelope around what is certified.

    Args:
        facts: What is certified.
        manifest_sha256: Hash over the stores as they were afterwards: it says which state is meant.
        key: The unit's.
    """
    statement: dict[str, Json] = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": f"unit:{facts.unit}/stores", "digest": {"sha256": manifest_sha256}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": facts.model_dump(mode="json"),
    }
    return seal(PAYLOAD_TYPE, canonical(statement), key)


def sign_closing(facts: ClosingFacts, certificate: bytes, key: SigningKey) -> bytes:
    """The envelope around a closing statement.

    Args:
        facts: What is certified.
        certificate: The envelope of the erasure's certificate, which it names by its hash.
        key: The unit's.
    """
    statement: dict[str, Json] = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": f"unit:{facts.unit}/certificate", "digest": {"sha256": sha256_hex(certificate)}}],
        "predicateType": CLOSING_TYPE,
        "predicate": facts.model_dump(mode="json"),
    }
    return seal(PAYLOAD_TYPE, canonical(statement), key)


def open_closing(envelope: bytes, public_key: PublicKey) -> tuple[ClosingFacts, str]:
    """What a closing statement says that this key has signed, and the hash of the certificate that it closes.

    Raises:
        VerificationError: If it is not signed by the key, or of another form.
    """
    payload = unseal(envelope, PAYLOAD_TYPE, public_key)
    try:
        found = _Closing.model_validate_json(payload)
    except ValidationError as error:
        raise _failed(f"it does not state what a closing statement states: {error.errors()[0]['msg']}") from error
    return found.predicate, found.subject[0].digest.sha256


def open_certificate(envelope: bytes, public_key: PublicKey) -> ErasureFacts:
    """What a certificate says that this key has signed.

    Raises:
        VerificationError: If it is not signed by the key, or of another form.
    """
    payload = unseal(envelope, PAYLOAD_TYPE, public_key)
    try:
        return _Statement.model_validate_json(payload).predicate
    except ValidationError as error:
        raise _failed(f"it does not state what a certificate states: {error.errors()[0]['msg']}") from error


def promises_an_end_of_backups(envelope: bytes) -> bool:
    """Whether a certificate of the unit's own says that backups can be read until some day. No signature is checked."""
    statement = json.loads(decode_base64(json.loads(envelope)["payload"]))
    methods = [str(one["method"]) for one in statement["predicate"]["stores"] if one["store"] == "backups"]
    return any(one.startswith(ENCRYPTED) for one in methods)


def commitment(envelope: bytes, salt: bytes) -> bytes:
    """What stands in the day's tree: SHA-256 over salt and certificate; without the salt it says nothing."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt is {SALT_BYTES} bytes long")
    return hashlib.sha256(_COMMITMENT_TAG + salt + envelope).digest()


@dataclass(frozen=True, slots=True)
class ProvenCertificate:
    """A certificate as its owner keeps it: with all that shows by when it was made. A claim, until it is verified."""

    envelope: bytes
    salt: bytes
    leaf: int
    """Place of the commitment in the day's tree."""
    path: tuple[bytes, ...]
    log_proof: str
    """That the day's entry is in the unit's ledger: a `.tlog-proof`."""

    closing: "ProvenCertificate | None" = None
    """A closing statement about backups, bound to the ledger in the same way."""

    def to_bytes(self) -> bytes:
        """The file: canonical JSON and a line feed."""
        closed: dict[str, Json] = {} if self.closing is None else {"supplement": self.closing._bound()}  # noqa: SLF001 (its own kind)
        version = 1 if self.closing is None else 2
        return canonical({**self._bound(), "kind": "fedseg-erasure-certificate", "version": version, **closed}) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The certificate in a file's bytes.

        Raises:
            VerificationError: If they hold none, or spell it in another way.
        """
        try:
            members = parse_canonical(data[:FILE_LIMIT_BYTES].removesuffix(b"\n"))
            found = cls._unbound(members)
            if "supplement" in members:
                found = replace(found, closing=cls._unbound(members["supplement"]))
        except ValueError as error:
            raise _failed("it cannot be read") from error
        if found.to_bytes() != data:
            raise _failed("it is not spelled as a certificate is")
        return found

    def _bound(self) -> dict[str, Json]:
        """What is certified, and what binds it to the ledger."""
        path: list[Json] = [one.hex() for one in self.path]
        return {
            "envelope": json.loads(self.envelope),
            "leaf": self.leaf,
            "log_proof": self.log_proof,
            "path": path,
            "salt": self.salt.hex(),
        }

    @classmethod
    def _unbound(cls, members: Json) -> Self:
        match members:
            case {
                "envelope": dict(envelope),
                "leaf": int(leaf),
                "log_proof": str(proof),
                "path": list(path),
                "salt": str(salt),
            }:
                hashes = tuple(bytes.fromhex(str(one)) for one in path)
                found = cls(canonical(envelope), bytes.fromhex(salt), leaf, hashes, proof)
            case _:
                raise _failed("it lacks the envelope, the salt or a proof")
        if len(found.salt) != SALT_BYTES or any(len(one) != HASH_BYTES for one in found.path):
            raise _failed("its salt or its path is of another length")
        return found

    def is_in(self, batch: RightsBatchBody) -> bool:
        """Whether its commitment stands in this day's tree."""
        leaf = leaf_hash(commitment(self.envelope, self.salt))
        return verify_inclusion(leaf, self.leaf, batch.capacity, list(self.path), bytes.fromhex(batch.root))


def _failed(why: str) -> VerificationError:
    return VerificationError("the certificate does not check out", why=why, fix="get it again from the unit")
