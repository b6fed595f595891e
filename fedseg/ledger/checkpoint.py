"""Checkpoints as C2SP writes them (c2sp.org/tlog-checkpoint): three lines as a signed note.

A checkpoint says "the log of this origin had this many entries under this root"; its signature makes the log's owner
answer for it. We write no extension lines; those of others mean nothing here and are read over.
"""

import re
from dataclasses import dataclass

from fedseg.ledger.keys import PublicKey, SigningKey, decode_base64, encode_base64
from fedseg.ledger.merkle import HASH_BYTES
from fedseg.ledger.notes import check_name, open_note, refused, sign_note

_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")
_BODY_LINES = 3


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
    text = open_note(note, public_key, origin)
    lines = text.count("\n")
    if lines != _BODY_LINES:
        raise refused(f"its text has {lines} lines, wanted {_BODY_LINES}")
    checkpoint = parse_checkpoint(text)
    if checkpoint.origin != origin:
        raise refused("it names another origin")
    return checkpoint


def parse_checkpoint(text: str) -> Checkpoint:
    """What the text of a note says about a log; lines after the third are read over.

    Raises:
        VerificationError: If it has fewer than three lines, an empty one, a name that cannot be an origin, a size
            with leading zeros, or a root that is not 32 bytes.
    """
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < _BODY_LINES or not all(lines):
        raise refused(f"its text is not {_BODY_LINES} lines or more, none of them empty")
    origin, size, tree_root = lines[:_BODY_LINES]
    if not _SIZE.fullmatch(size):
        raise refused("its size is not a plain decimal number")
    try:
        return Checkpoint(origin, int(size), decode_base64(tree_root))
    except ValueError as error:
        raise refused("its origin is no name, or its root is not 32 bytes in base64") from error
