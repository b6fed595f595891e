"""Cosignatures of checkpoints (c2sp.org/tlog-cosignature): a witness says what it saw of a log, and when. Pure.

A witness that cosigns states that this checkpoint extends every one it cosigned before. So who asks for cosignatures
of independent witnesses cannot be shown another history than they were. To check that is the witness's work, not ours.
"""

import struct
from datetime import datetime

from fedseg.ledger.checkpoint import parse_checkpoint
from fedseg.ledger.keys import MlDsaSigningKey, SigningKey
from fedseg.ledger.notes import Note, SignatureLine, SignatureType, check_name, key_id, parse_note

TIMESTAMP_BYTES = 8
_LATEST = 2**63 - 1
_OPAQUE_LIMIT = 255


def cosign(note: str, name: str, key: SigningKey | MlDsaSigningKey, now: datetime) -> str:
    """`note`, a signed checkpoint, with one more line: `name` has seen it at `now`.

    Raises:
        VerificationError: If `note` is no checkpoint in a signed note, or has as many signatures as are read.
        ValueError: If `name` is not a key name, or `now` does not say its time zone.
    """
    check_name(name)
    if now.tzinfo is None:
        raise ValueError("the time of a cosignature must say its time zone")
    parsed, timestamp = parse_note(note), int(now.timestamp())
    if isinstance(key, SigningKey):
        type_, message = SignatureType.ED25519_COSIGNATURE, ed25519_message(parsed.text, timestamp)
    else:
        type_, message = SignatureType.ML_DSA_44_COSIGNATURE, ml_dsa_message(parsed.text, name, timestamp)
    signature = struct.pack(">Q", timestamp) + key.sign(message)
    line = SignatureLine(name, key_id(name, type_, key.public.raw), signature)
    return parse_note(Note(parsed.text, (*parsed.signatures, line)).to_text()).to_text()


def ed25519_message(text: str, timestamp: int) -> bytes:
    """What a witness signs with Ed25519: two lines, and the whole text of the checkpoint.

    Raises:
        VerificationError: If `text` is not a checkpoint's.
        ValueError: If `timestamp` cannot be one.
    """
    parse_checkpoint(text)
    _check_timestamp(timestamp)
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def ml_dsa_message(text: str, name: str, timestamp: int) -> bytes:
    """What the witness `name` signs with ML-DSA-44: the whole tree as a `cosigned_message`, without extension lines.

    Raises:
        VerificationError: If `text` is not a checkpoint's.
        ValueError: If `timestamp` cannot be one, or a name is too long.
    """
    checkpoint = parse_checkpoint(text)
    _check_timestamp(timestamp)
    return b"".join(
        [
            b"subtree/v1\n\0",
            _opaque(name),
            struct.pack(">Q", timestamp),
            _opaque(checkpoint.origin),
            struct.pack(">QQ", 0, checkpoint.size),
            checkpoint.root,
        ]
    )


def _check_timestamp(timestamp: int) -> None:
    if not 0 <= timestamp <= _LATEST:
        raise ValueError("a cosignature's time lies between 1970 and 2**63 seconds later")


def _opaque(name: str) -> bytes:
    """A name with its length before it (RFC 8446, section 3.4)."""
    data = name.encode("utf-8")
    if not 0 < len(data) <= _OPAQUE_LIMIT:
        raise ValueError(f"a name has at most {_OPAQUE_LIMIT} bytes where ML-DSA-44 signs it, got {len(data)}")
    return bytes([len(data)]) + data
