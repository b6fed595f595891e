"""What a ledger's signed checkpoints say of its history, and where two of them contradict each other. Pure."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from fedseg.audit.memory import LogId, SignedCheckpoint
from fedseg.audit.proof import EquivocationProof
from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import open_checkpoint
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.merkle import Frontier, leaf_hash
from fedseg.ledger.raw import RawLedger


def signed_checkpoints(raw: RawLedger) -> dict[int, SignedCheckpoint]:
    """The checkpoints in a ledger that a key of its has really signed, by size, whatever else is wrong with it."""
    keys = _keys(raw)
    found = (_signed(raw.origin, note, keys) for _, note in raw.notes)
    return {one.checkpoint.size: one for one in found if one is not None}


def _keys(raw: RawLedger) -> tuple[PublicKey, ...]:
    """All keys of a ledger; the first alone, if a change of key does not check out."""
    try:
        return raw.keys().all
    except VerificationError:
        return (raw.public_key,)


def _signed(origin: str, note: str, keys: Sequence[PublicKey]) -> SignedCheckpoint | None:
    for key in keys:
        with suppress(VerificationError):
            return SignedCheckpoint(open_checkpoint(note, key, origin), note, key)
    return None


def fork(
    log: LogId, some: Mapping[int, SignedCheckpoint], others: Mapping[int, SignedCheckpoint]
) -> EquivocationProof | None:
    """Proof that a key of the log signed two roots, at the first size where one did; None if nowhere.

    Args:
        log: Whose checkpoints they all are.
        some: Checkpoints by size.
        others: More of them.
    """
    for size in sorted(some.keys() & others.keys()):
        one, other = some[size], others[size]
        if one.checkpoint.root != other.checkpoint.root and one.public_key == other.public_key:
            return EquivocationProof.of(log.origin, one.public_key, one.note, other.note)
    return None


def root_at(raw: RawLedger, size: int) -> bytes:
    """The root over a ledger's first `size` entries."""
    frontier = Frontier()
    for entry in raw.entries[:size]:
        frontier = frontier.append(leaf_hash(entry.to_bytes()))
    return frontier.root()
