"""What a witness keeps when a log has signed two histories: a proof for everybody, in WITNESS/contradictions/."""

import hashlib
import logging
from pathlib import Path
from typing import Final

from fedseg.audit.proof import EquivocationProof
from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import parse_checkpoint
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.notes import parse_note
from fedseg.ledger.verifier_keys import open_signed
from fedseg.ledger.witness import Answer, WatchedLog, Witness
from fedseg.private_file import write_new

log = logging.getLogger(__name__)

PROOFS: Final = "contradictions"
PROOFS_MAX: Final = 4
"""Most proofs that are kept of a log: one is enough, and whoever has a log's key could make any number."""


def note_contradiction(witness: Witness, answer: Answer) -> None:
    """`keep_contradiction`, for a service: what comes of it goes to the log, and the answer stays what it is."""
    try:
        kept = keep_contradiction(witness, answer)
    except OSError as error:
        log.error("contradiction.not_kept why=%s", error.strerror)  # noqa: TRY400 (the log's own words say nothing more)
    else:
        if kept is not None:
            log.warning("contradiction.kept proof=%s", kept.name)


def keep_contradiction(witness: Witness, answer: Answer) -> Path | None:
    """Write down that a log has signed two histories, as a proof for everybody; None if `answer` shows no such thing.

    Raises:
        OSError: If it cannot be written.
    """
    if answer.contradicted is None:
        return None
    one, other = answer.contradicted
    origin = parse_checkpoint(parse_note(one).text).origin
    signer = _signer(witness.logs()[origin], one, other)
    if signer is None:
        return None
    try:
        proof = EquivocationProof.of(origin, signer, one, other).to_json()
    except (ValueError, VerificationError):  # checkpoints that say more than ours do
        return None
    folder, of_log = witness.path / PROOFS, hashlib.sha256(origin.encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True, mode=0o700)
    path = folder / f"{of_log}-{hashlib.sha256(proof).hexdigest()[:32]}.json"
    if path.exists() or len(list(folder.glob(f"{of_log}-*"))) >= PROOFS_MAX:
        return path if path.exists() else None
    write_new(path, proof)
    return path


def _signer(known: WatchedLog, *notes: str) -> PublicKey | None:
    """The key of the log that has signed all these notes; None if they are of different keys."""
    signers = {one.key.public_key for note in notes for one in open_signed(note, known.keys).signed}
    key = signers.pop()
    return key if not signers and isinstance(key, PublicKey) else None
