"""Verifier keys (`name+id+key`, c2sp.org/signed-note), and which signatures of a note hold by them. Pure.

This is the form in which other tools take keys: Go's `note.NewVerifier`, witnesses, and policies (`witness_policy.py`).
"""

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from fedseg.errors import VerificationError
from fedseg.ledger.cosignature import TIMESTAMP_BYTES, ed25519_message, ml_dsa_message
from fedseg.ledger.keys import MlDsaPublicKey, PublicKey, decode_base64, encode_base64
from fedseg.ledger.notes import SignatureType, check_name, key_id, parse_note, refused

_ID = re.compile(r"[0-9a-f]{8}")
_PARTS = 3
_TYPES = {bytes([type_]): type_ for type_ in SignatureType}


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its owner's name and what it signs."""

    name: str
    """Whose it is. Printable, without blanks and plus signs; a log's is its origin."""
    type: SignatureType
    public_key: PublicKey | MlDsaPublicKey

    def __post_init__(self) -> None:
        check_name(self.name)
        wanted = MlDsaPublicKey if self.type is SignatureType.ML_DSA_44_COSIGNATURE else PublicKey
        if type(self.public_key) is not wanted:
            raise TypeError(f"a signature of type {self.type:#04x} takes a {wanted.__name__}")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The key that `to_text` wrote as `text`.

        Raises:
            ValueError: If `text` is no such key: another form, an id that is not the key's, an unknown type.
        """
        parts = text.split("+", _PARTS - 1)
        if len(parts) != _PARTS or not _ID.fullmatch(parts[1]):
            raise ValueError("a verifier key has the form name+id+key, with an id of 8 hexadecimal digits")
        data = decode_base64(parts[2])
        if data[:1] not in _TYPES:
            raise ValueError("the verifier key is of a type that is not known here")
        type_ = _TYPES[data[:1]]
        ml_dsa = type_ is SignatureType.ML_DSA_44_COSIGNATURE
        key = cls(parts[0], type_, MlDsaPublicKey(data[1:]) if ml_dsa else PublicKey(data[1:]))
        if key.id.hex() != parts[1]:
            raise ValueError("the id of the verifier key is not that of its name and key")
        return key

    def to_text(self) -> str:
        """`name+id+key`: the id in hexadecimal digits, type and key in base64."""
        return f"{self.name}+{self.id.hex()}+{encode_base64(bytes([self.type]) + self.public_key.raw)}"

    @property
    def id(self) -> bytes:
        """The four bytes that stand for the key in a note."""
        return key_id(self.name, self.type, self.public_key.raw)

    def check(self, text: str, signature: bytes) -> "Signed | None":
        """What this key says by `signature` of a note's `text`; None if it is not its signature."""
        if self.type is SignatureType.ED25519:
            return Signed(self, None) if self.public_key.verify(signature, text.encode("utf-8")) else None
        if len(signature) < TIMESTAMP_BYTES:
            return None
        (timestamp,) = struct.unpack_from(">Q", signature)
        try:
            if self.type is SignatureType.ED25519_COSIGNATURE:
                message = ed25519_message(text, timestamp)
            else:
                message = ml_dsa_message(text, self.name, timestamp)
        except (ValueError, VerificationError):
            return None
        return Signed(self, timestamp) if self.public_key.verify(signature[TIMESTAMP_BYTES:], message) else None


@dataclass(frozen=True, slots=True)
class Signed:
    """That a key has signed a note, and when, if it says so."""

    key: VerifierKey
    timestamp: int | None
    """Seconds since 1970; 0 of an ML-DSA-44 key that states no time; None of a key whose signatures have none."""


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note's text and who signed it, of those we know."""

    text: str
    """What was signed. Of ML-DSA-44 only the first three lines are."""
    signed: tuple[Signed, ...]
    """One for each known key that signed; never empty."""

    def by(self, key: VerifierKey) -> Signed | None:
        """What `key` said."""
        return next((one for one in self.signed if one.key == key), None)


def open_signed(note: str, keys: Iterable[VerifierKey]) -> OpenedNote:
    """Who of `keys` signed `note`; signatures of others are ignored, as the specification wants.

    Raises:
        VerificationError: If `note` is no signed note, none of `keys` signed it, or a signature under the name and id
            of one of them is not its own: then nothing of the note is believed.
        ValueError: If two of `keys` cannot be told apart by name and id.
    """
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.id), key) != key:
            raise ValueError("two different verifier keys have the same name and id")
    parsed, signed = parse_note(note), dict[VerifierKey, Signed]()
    for line in parsed.signatures:
        signer = known.get((line.name, line.key_id))
        if signer is None:
            continue
        found = signer.check(parsed.text, line.signature)
        if found is None:
            raise refused(f"the signature of {signer.name} does not match its text")
        # Who signs twice is counted once.
        signed.setdefault(signer, found)
    if not signed:
        raise refused("none of the known keys has signed it")
    return OpenedNote(parsed.text, tuple(signed.values()))
