"""What a ledger's signed checkpoints say of its history, and where two of them contradict each other. Pure."""

from collections.abc import Mapping

from fedseg.audit.memory import LogId, SignedCheckpoint
from fedseg.audit.proof import EquivocationProof
from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import open_checkpoint
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.merkle import Frontier, leaf_hash
from fedseg.ledger.raw import RawLedger


def signed_checkpoints(raw: RawLedger) -> dict[int, SignedCheckpoint]:
    """The checkpoints in a ledger that its key has really signed, by size, whatever else is wrong with it."""
    found: dict[int, SignedCheckpoint] = {}
    for _, note in raw.notes:
        try:
            checkpoint = open_checkpoint(note, raw.public_key, raw.origin)
        except VerificationError:
            continue
        found[checkpoint.size] = SignedCheckpoint(checkpoint, note)
    return found


def fork(
    log: LogId, some: Mapping[int, SignedCheckpoint], others: Mapping[int, SignedCheckpoint]
) -> EquivocationProof | None:
    """Proof that the log's key signed two roots at the first size where it did; None if nowhere.

    Args:
        log: Whose checkpoints they all are.
        some: Checkpoints by size.
        others: More of them.
    """
    for size in sorted(some.keys() & others.keys()):
        if some[size].checkpoint.root != others[size].checkpoint.root:
            key = PublicKey.from_text(log.public_key)
            return EquivocationProof.of(log.origin, key, some[size].note, others[size].note)
    return None


def root_at(raw: RawLedger, size: int) -> bytes:
    """The root over a ledger's first `size` entries."""
    frontier = Frontier()
    for entry in raw.entries[:size]:
        frontier = frontier.append(leaf_hash(entry.to_bytes()))
    return frontier.root()
