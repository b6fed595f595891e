"""Signed notes as C2SP writes them (c2sp.org/signed-note): a text, an empty line, and signature lines. Pure.

A note of our own has one signature and one spelling, and `open_note` reads exactly that. A note from elsewhere may
carry more: `parse_note` takes it apart, and `verifier_keys.open_signed` says which of its signatures hold.
"""

import enum
import hashlib
from dataclasses import dataclass

from fedseg.errors import VerificationError
from fedseg.ledger.keys import SIGNATURE_BYTES, PublicKey, SigningKey, decode_base64, encode_base64

NOTE_LIMIT = 1_000_000
"""Most characters of a note that is read."""
SIGNATURE_LIMIT = 16
"""Most signatures of a note that is read: as many as c2sp.org/signed-note asks every verifier to take."""
KEY_ID_BYTES = 4
_NAME_LIMIT = 255
_LINE_PARTS = 3
_FIX = "get the ledger again from its owner, or ask the owner which key and origin are right"


class SignatureType(enum.IntEnum):
    """The byte that tells what a signature is over, and by which algorithm (c2sp.org/signed-note)."""

    ED25519 = 0x01
    """Ed25519 over the note's text: how a ledger signs its checkpoints."""
    ED25519_COSIGNATURE = 0x04
    """A witness's Ed25519, with a time (c2sp.org/tlog-cosignature)."""
    ML_DSA_44_COSIGNATURE = 0x06
    """A witness's or a log's ML-DSA-44, with a time (c2sp.org/tlog-cosignature)."""


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One signature of a note, as it stands there: believed by nobody yet."""

    name: str
    """The signer's name."""
    key_id: bytes
    """Four bytes that tell the signer's keys apart."""
    signature: bytes
    """What the signer's algorithm made."""

    def to_text(self) -> str:
        """The line, with its end."""
        return f"\N{EM DASH} {self.name} {encode_base64(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note taken apart: believed by nobody yet."""

    text: str
    """What is signed: whole lines."""
    signatures: tuple[SignatureLine, ...]

    def to_text(self) -> str:
        """The note as it was."""
        return f"{self.text}\n" + "".join(line.to_text() for line in self.signatures)


def parse_note(note: str) -> Note:
    """The parts of a note by whomever.

    Raises:
        VerificationError: If `note` is no signed note: control characters, no signature, more of them than
            `SIGNATURE_LIMIT`, or a line that is none.
    """
    text, separator, lines = note.rpartition("\n\n")
    text += "\n"
    if not separator or len(note) > NOTE_LIMIT or not lines.endswith("\n") or not _is_text(note):
        raise refused("it is not whole lines of text with signatures below")
    signatures = lines.removesuffix("\n").split("\n")
    if len(signatures) > SIGNATURE_LIMIT:
        raise refused(f"it has {len(signatures)} signatures, and at most {SIGNATURE_LIMIT} are read")
    return Note(text, tuple(map(_parse_line, signatures)))


def sign_note(text: str, name: str, key: SigningKey) -> str:
    """`text` as a signed note with the one signature of `key` under `name`.

    Raises:
        ValueError: If `text` is not whole printable lines, or `name` is not a key name.
    """
    check_name(name)
    if not _is_printable(text):
        raise ValueError("a note's text must be whole lines of printable characters")
    line = SignatureLine(name, ed25519_key_id(name, key.public), key.sign(text.encode("utf-8")))
    return Note(text, (line,)).to_text()


def open_note(note: str, public_key: PublicKey, name: str) -> str:
    """The text that `public_key` signed under `name` as `note`.

    Raises:
        VerificationError: If `note` is anything but what `sign_note` writes.
    """
    text, separator, signature_line = note.rpartition("\n\n")
    text += "\n"
    prefix = f"\N{EM DASH} {name} "
    if not separator or not _is_printable(text):
        raise refused("it is not whole lines of printable text with a signature below")
    if not signature_line.startswith(prefix) or not signature_line.endswith("\n"):
        raise refused("it has no signature line of the expected name")
    try:
        signature = decode_base64(signature_line.removeprefix(prefix).removesuffix("\n"))
    except ValueError as error:
        raise refused("its signature is not one line of base64") from error
    if len(signature) != KEY_ID_BYTES + SIGNATURE_BYTES or signature[:KEY_ID_BYTES] != ed25519_key_id(name, public_key):
        raise refused("it is signed by another key")
    if not public_key.verify(signature[KEY_ID_BYTES:], text.encode("utf-8")):
        raise refused("its signature does not match its text")
    return text


def key_id(name: str, type_: SignatureType, raw_key: bytes) -> bytes:
    """The four bytes that stand for a key of this name: SHA-256(name || LF || type || key), cut short."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + bytes([type_]) + raw_key).digest()[:KEY_ID_BYTES]


def ed25519_key_id(name: str, public_key: PublicKey) -> bytes:
    """As `key_id`, of a key with which a ledger signs its checkpoints."""
    return key_id(name, SignatureType.ED25519, public_key.raw)


def check_name(name: str) -> None:
    """Refuse a key name or origin that could not be told from the rest of a note.

    Raises:
        ValueError: If `name` is empty, too long, or holds blanks, plus signs or unprintable characters.
    """
    if not 0 < len(name) <= _NAME_LIMIT or not name.isprintable() or " " in name or "+" in name:
        raise ValueError(f"a name has 1 to {_NAME_LIMIT} printable characters, none of them blank or plus")


def refused(why: str) -> VerificationError:
    """The error for a note that does not check out."""
    return VerificationError("a signed note does not check out", why=why, fix=_FIX)


def _parse_line(line: str) -> SignatureLine:
    parts = line.split(" ")
    if len(parts) != _LINE_PARTS or parts[0] != "\N{EM DASH}":
        raise refused("a line below its text is no signature line")
    name = parts[1]
    # Wider than `check_name`: whom we do not know may have any name that the specification allows.
    if not name or "+" in name or any(character.isspace() for character in name):
        raise refused("a signature line has no name that can be one")
    try:
        signature = decode_base64(parts[2])
    except ValueError as error:
        raise refused("a signature line holds no base64") from error
    if len(signature) <= KEY_ID_BYTES:
        raise refused("a signature line holds no signature")
    return SignatureLine(name, signature[:KEY_ID_BYTES], signature[KEY_ID_BYTES:])


def _is_text(note: str) -> bool:
    """No ASCII control character but line ends, and nothing that has no UTF-8 form (c2sp.org/signed-note)."""
    return not any((one < " " and one != "\n") or "\ud800" <= one <= "\udfff" for one in note)


def _is_printable(text: str) -> bool:
    """Whole lines, none of them holding control characters, blanks other than space, or lone surrogates."""
    return text.endswith("\n") and all(line.isprintable() for line in text.removesuffix("\n").split("\n"))
