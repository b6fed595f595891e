"""Signed notes and checkpoints as C2SP writes them (c2sp.org/signed-note, c2sp.org/tlog-checkpoint).

A checkpoint says "the log of this origin had this many entries under this root"; its signature makes the log's owner
answer for it. We write exactly one signature and no extension lines, and read exactly that: a note has one spelling.
"""

import hashlib
import re
from dataclasses import dataclass

from fedseg.errors import VerificationError
from fedseg.ledger.keys import SIGNATURE_BYTES, PublicKey, SigningKey, decode_base64, encode_base64
from fedseg.ledger.merkle import HASH_BYTES

_ED25519 = b"\x01"
"""C2SP signed-note: the algorithm byte of plain Ed25519 signatures."""
_KEY_ID_BYTES = 4
_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")
_NAME_LIMIT = 255
_BODY_LINES = 3
_REASON_FIX = "get the ledger again from its owner, or ask the owner which key and origin are right"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: how many entries it has and the Merkle root over them."""

    origin: str
    """The log's name; also the name of its key. Printable, without blanks and plus signs."""
    size: int
    """Number of entries."""
    root: bytes
    """Merkle root over the entries, 32 bytes (RFC 6962)."""

    def __post_init__(self) -> None:
        check_name(self.origin)
        if self.size < 0:
            raise ValueError(f"a checkpoint's size cannot be negative, got {self.size}")
        if len(self.root) != HASH_BYTES:
            raise ValueError(f"a checkpoint's root has {HASH_BYTES} bytes, got {len(self.root)}")

    def to_text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The signed note that states `checkpoint`; the signer's name is the origin."""
    return sign_note(checkpoint.to_text(), checkpoint.origin, key)


def open_checkpoint(note: str, public_key: PublicKey, origin: str) -> Checkpoint:
    """The checkpoint that `public_key` signed for `origin` as `note`.

    Raises:
        VerificationError: If `note` is anything but what `sign_checkpoint` writes: another origin or key, a bad
            signature, a size with leading zeros, a root that is not 32 bytes, extension lines, more signatures.
    """
    lines = open_note(note, public_key, origin).removesuffix("\n").split("\n")
    if len(lines) != _BODY_LINES:
        raise _refused(f"its text has {len(lines)} lines, wanted {_BODY_LINES}")
    found_origin, size, tree_root = lines
    if found_origin != origin:
        raise _refused("it names another origin")
    if not _SIZE.fullmatch(size):
        raise _refused("its size is not a plain decimal number")
    try:
        return Checkpoint(origin, int(size), decode_base64(tree_root))
    except ValueError as error:
        raise _refused("its root is not 32 bytes in base64") from error


def sign_note(text: str, name: str, key: SigningKey) -> str:
    """`text` as a signed note with the one signature of `key` under `name`.

    Raises:
        ValueError: If `text` is not whole printable lines, or `name` is not a key name.
    """
    check_name(name)
    if not _is_note_text(text):
        raise ValueError("a note's text must be whole lines of printable characters")
    signature = key_id(name, key.public) + key.sign(text.encode("utf-8"))
    return f"{text}\n\N{EM DASH} {name} {encode_base64(signature)}\n"


def open_note(note: str, public_key: PublicKey, name: str) -> str:
    """The text that `public_key` signed under `name` as `note`.

    Raises:
        VerificationError: If `note` is anything but what `sign_note` writes.
    """
    text, separator, signature_line = note.rpartition("\n\n")
    text += "\n"
    prefix = f"\N{EM DASH} {name} "
    if not separator or not _is_note_text(text):
        raise _refused("it is not whole lines of printable text with a signature below")
    if not signature_line.startswith(prefix) or not signature_line.endswith("\n"):
        raise _refused("it has no signature line of the expected name")
    try:
        signature = decode_base64(signature_line.removeprefix(prefix).removesuffix("\n"))
    except ValueError as error:
        raise _refused("its signature is not one line of base64") from error
    if len(signature) != _KEY_ID_BYTES + SIGNATURE_BYTES or signature[:_KEY_ID_BYTES] != key_id(name, public_key):
        raise _refused("it is signed by another key")
    if not public_key.verify(signature[_KEY_ID_BYTES:], text.encode("utf-8")):
        raise _refused("its signature does not match its text")
    return text


def key_id(name: str, public_key: PublicKey) -> bytes:
    """The four bytes that stand for an Ed25519 key of this name: SHA-256(name || LF || 0x01 || key), cut short."""
    return hashlib.sha256(name.encode("utf-8") + b"\n" + _ED25519 + public_key.raw).digest()[:_KEY_ID_BYTES]


def check_name(name: str) -> None:
    """Refuse a key name or origin that could not be told from the rest of a note.

    Raises:
        ValueError: If `name` is empty, too long, or holds blanks, plus signs or unprintable characters.
    """
    if not 0 < len(name) <= _NAME_LIMIT or not name.isprintable() or " " in name or "+" in name:
        raise ValueError(f"a name has 1 to {_NAME_LIMIT} printable characters, none of them blank or plus")


def _is_note_text(text: str) -> bool:
    """Whole lines, none of them holding control characters, blanks other than space, or lone surrogates."""
    return text.endswith("\n") and all(line.isprintable() for line in text.removesuffix("\n").split("\n"))


def _refused(why: str) -> VerificationError:
    return VerificationError("a signed note does not check out", why=why, fix=_REASON_FIX)
