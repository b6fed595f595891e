"""Who else has signed a unit's ledger, by the files that the unit was given: `cosigned.note` and `rolled-back.note`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from fedseg.audit.facts import LedgerFacts
from fedseg.errors import StorageError, VerificationError
from fedseg.ledger.checkpoint import Checkpoint, parse_checkpoint
from fedseg.ledger.cosignature import TIMESTAMP_BYTES
from fedseg.ledger.keys import ML_DSA_SIGNATURE_BYTES, SIGNATURE_BYTES
from fedseg.ledger.notes import SignatureLine, SignatureType, parse_note
from fedseg.ledger.verifier_keys import VerifierKey, open_signed

COSIGNED_FILE: Final = "cosigned.note"
"""The newest checkpoint of the unit's own ledger, with the cosignatures that it was given."""
ROLLED_BACK_FILE: Final = "rolled-back.note"
"""What the unit's own key has signed and its ledger does not hold."""
_NOTE_LIMIT_BYTES: Final = 64 * 1024
_KINDS: Final = {
    TIMESTAMP_BYTES + SIGNATURE_BYTES: "Ed25519",
    TIMESTAMP_BYTES + ML_DSA_SIGNATURE_BYTES: "ML-DSA-44",
}
"""Kinds of cosignatures by their length."""


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A cosignature below a checkpoint, in the name of a witness. Nobody here has checked it."""

    name: str
    kind: str
    at: datetime | None
    """When, as it says."""


@dataclass(frozen=True, slots=True)
class WitnessFacts:
    """What others have signed of a ledger."""

    covers: int | None
    """How many entries the newest cosigned checkpoint covers; None if there is none."""
    cosignatures: Sequence[Cosignature]
    rolled_back: int | None
    """Entries of a checkpoint that the ledger's own key has signed and the ledger does not begin with; None if none."""
    unreadable: str | None
    """Why a file with a checkpoint says nothing; None if none is so."""


def witnesses_of(folder: Path, facts: LedgerFacts) -> WitnessFacts:
    """What the files in a unit's home say of its verified ledger.

    Raises:
        StorageError: If a file is there and cannot be read.
    """
    covers, cosignatures, rolled_back, unreadable = None, list[Cosignature](), None, None
    for name in (ROLLED_BACK_FILE, COSIGNED_FILE):
        note = _read(folder / name)
        if note is None:
            continue
        try:
            found = _own_checkpoint(note, facts)
        except VerificationError as error:
            unreadable = f"{name}: {error.why}"
            continue
        if found.size > facts.size or found.root != facts.raw.history().root(found.size):
            rolled_back = found.size
        elif name == COSIGNED_FILE:
            covers, cosignatures = found.size, _cosignatures(note, facts.origin)
    return WitnessFacts(covers if cosignatures else None, cosignatures, rolled_back, unreadable)


def _own_checkpoint(note: str, facts: LedgerFacts) -> Checkpoint:
    """The checkpoint of this ledger in a note that one of its own keys has signed."""
    own = [VerifierKey(facts.origin, SignatureType.ED25519, key) for key in facts.keys]
    return parse_checkpoint(open_signed(note, own).text)


def _cosignatures(note: str, origin: str) -> list[Cosignature]:
    lines = [line for line in parse_note(note).signatures if line.name != origin]
    return [Cosignature(one.name, kind, _time_in(one)) for one in lines if (kind := _KINDS.get(len(one.signature)))]


def _time_in(line: SignatureLine) -> datetime | None:
    """When a cosignature says it was made (c2sp.org/tlog-cosignature); None for no time that a calendar has."""
    try:
        return datetime.fromtimestamp(int.from_bytes(line.signature[:TIMESTAMP_BYTES]), UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_NOTE_LIMIT_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read",
            why=error.strerror or "the disk refused",
            fix="check its permissions",
        ) from error
