"""Reading a ledger as an auditor does: the log itself is held against its signatures, and what fails has a name.

`ledger/` knows nothing of audits. Its checks decide; what is here only says which of them it was.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fedseg.audit.faults import Fault, accused
from fedseg.errors import LedgerUnreadableError, VerificationError
from fedseg.ledger.checkpoint import Checkpoint, open_checkpoint
from fedseg.ledger.export import parse_export
from fedseg.ledger.key_change import LogKeys
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.merkle import Frontier, leaf_hash
from fedseg.ledger.notes import ed25519_key_id, parse_note
from fedseg.ledger.raw import RawLedger, check_log
from fedseg.ledger.reading import read_ledger


def read_log(path: Path) -> RawLedger:
    """The ledger in a file, live or exported; what it says is not checked yet.

    Raises:
        VerificationError: If it cannot be read, or an entry is not in its form or place; with its fault.
        StorageError: If the file cannot be read now.
    """
    with _named_while_reading():
        return read_ledger(path)


def parse_log(data: bytes) -> RawLedger:
    """The ledger that these bytes are the export of; what it says is not checked yet.

    Raises:
        VerificationError: As `read_log`.
    """
    with _named_while_reading():
        return parse_export(data)


def verify_log(raw: RawLedger, public_key: PublicKey | None) -> Checkpoint:
    """The newest checkpoint, after `check_log` has found every byte covered by a signature.

    Raises:
        VerificationError: As `check_log`, with its fault.
    """
    try:
        return check_log(raw, public_key)
    except VerificationError as error:
        accused(error, _fault_of(raw, public_key))
        raise


@contextmanager
def _named_while_reading() -> Generator[None]:
    try:
        yield
    except LedgerUnreadableError as error:
        accused(error, Fault.UNREADABLE)
        raise
    except VerificationError as error:
        # What is out of its form has failed to parse, and says so by its cause; what is out of place has parsed.
        accused(error, Fault.FORM if isinstance(error.__cause__, ValueError) else Fault.PLACE)
        raise


def _fault_of(raw: RawLedger, public_key: PublicKey | None) -> Fault:
    """Which check of `check_log` a ledger that fails it has failed first."""
    try:
        keys = raw.keys()
    except VerificationError:
        return Fault.KEY_CHANGE
    return Fault.KEY if public_key not in (None, *keys.all) else _fault_of_notes(raw, keys)


def _fault_of_notes(raw: RawLedger, keys: LogKeys) -> Fault:
    leaves, covered, frontier = [entry.to_bytes() for entry in raw.entries], 0, Frontier()
    for size, note in raw.notes:
        if not covered < size <= len(leaves):
            return Fault.CHECKPOINT_ORDER
        for leaf in leaves[covered:size]:
            frontier = frontier.append(leaf_hash(leaf))
        try:
            found = open_checkpoint(note, keys.signer(size), raw.origin)
        except VerificationError:
            return _fault_of_note(note, raw.origin, keys, size)
        if found != Checkpoint(raw.origin, size, frontier.root()):
            return Fault.ROOT
        covered = size
    if covered != len(leaves):
        return Fault.UNCOVERED
    return Fault.PAYLOAD if set(keys.handovers) <= {size for size, _ in raw.notes} else Fault.KEY_CHANGE


def _fault_of_note(note: str, origin: str, keys: LogKeys, size: int) -> Fault:
    """Whether a note that the key of then has not signed was changed, or is of another key."""
    try:
        lines = parse_note(note).signatures
    except VerificationError:
        return Fault.SIGNATURE
    ids = {line.key_id for line in lines if line.name == origin}
    if not ids or ed25519_key_id(origin, keys.signer(size)) in ids:
        return Fault.SIGNATURE
    earlier = (term.public_key for term in keys.terms if term.since < size)
    return Fault.REPLACED if ids & {ed25519_key_id(origin, key) for key in earlier} else Fault.KEY_CHANGE
