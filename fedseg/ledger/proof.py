"""Proofs as files: `.tlog-proof` (c2sp.org/tlog-proof), and how a log has grown, as a witness takes it. Pure.

A proof of one entry holds the entry, the hashes that lead from it to the root, and the signed checkpoint with that
root. Who has the key of the log, and for cosigned checkpoints a policy, needs nothing else: no ledger, no fedseg.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import Checkpoint, parse_checkpoint
from fedseg.ledger.entries import ENTRY_LIMIT_BYTES, KEY_CHANGE, Entry
from fedseg.ledger.key_change import open_key_change
from fedseg.ledger.keys import PublicKey, decode_base64, encode_base64
from fedseg.ledger.merkle import HASH_BYTES, Frontier, leaf_hash, verify_consistency, verify_inclusion
from fedseg.ledger.notes import NOTE_LIMIT
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.verifier_keys import VerifierKey, open_signed

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_HASHES_LIMIT = 63
"""Longest path in a tree whose size has a checkpoint."""
FILE_LIMIT = 2 * ENTRY_LIMIT_BYTES + NOTE_LIMIT
"""Most characters of a proof that is read."""
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That an entry is in a log: a claim, until `verify` has passed."""

    index: int
    """The entry's number, from 0."""
    hashes: tuple[bytes, ...]
    """The hashes from the entry's sibling up to the root's child."""
    note: str
    """The checkpoint, as a signed note."""
    extra: bytes | None = None
    """What the specification leaves open; here the entry itself."""

    def to_text(self) -> str:
        """The contents of a `.tlog-proof` file."""
        lines = [PROOF_HEADER]
        if self.extra is not None:
            lines.append(f"extra {encode_base64(self.extra)}")
        lines += [f"index {self.index}", *map(encode_base64, self.hashes), "", self.note]
        return "\n".join(lines)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The proof that `to_text` wrote as `text`.

        Raises:
            VerificationError: If `text` is none.
        """
        head, separator, note = text.partition("\n\n")
        lines = head.split("\n")
        if len(text) > FILE_LIMIT or not separator or lines[0] != PROOF_HEADER:
            raise _failed(f"it does not begin with {PROOF_HEADER} or has no checkpoint")
        has_extra = head.startswith(f"{PROOF_HEADER}\nextra ")
        try:
            extra = decode_base64(lines[1].removeprefix("extra ")) if has_extra else None
            index, *hashes = lines[1 + has_extra :]
            return cls(_number(index, "index"), _hashes(hashes), note, extra)
        except ValueError as error:
            raise _failed("a line before its checkpoint is not what it must be") from error

    def verify(self, entry: bytes, checkpoint: Checkpoint) -> None:
        """Check that `entry` is in the log whose `checkpoint` was found to be signed in `note`.

        Raises:
            VerificationError: If it is not shown to be.
        """
        if not verify_inclusion(leaf_hash(entry), self.index, checkpoint.size, self.hashes, checkpoint.root):
            raise _failed(f"it does not show that the entry is number {self.index} of the log's {checkpoint.size}")


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """That a log has only grown: a claim, until `verify` has passed."""

    old_size: int
    """Number of entries then."""
    hashes: tuple[bytes, ...]
    note: str
    """The checkpoint now, as a signed note."""

    def to_text(self) -> str:
        """The body of an `add-checkpoint` request to a witness (c2sp.org/tlog-witness)."""
        return "\n".join([f"old {self.old_size}", *map(encode_base64, self.hashes), "", self.note])

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The proof that `to_text` wrote as `text`.

        Raises:
            VerificationError: If `text` is none.
        """
        head, separator, note = text.partition("\n\n")
        if len(text) > FILE_LIMIT or not separator:
            raise _failed("it has no checkpoint")
        old_size, *hashes = head.split("\n")
        try:
            return cls(_number(old_size, "old"), _hashes(hashes), note)
        except ValueError as error:
            raise _failed("a line before its checkpoint is not what it must be") from error

    def verify(self, old: Checkpoint, new: Checkpoint) -> None:
        """Check that the log of `new`, found to be signed in `note`, extends that of `old`.

        Raises:
            VerificationError: If it is not shown to, or the two are of different logs.
        """
        same = (old.origin, old.size) == (new.origin, self.old_size)
        if not same or not verify_consistency(old.size, old.root, new.size, new.root, self.hashes):
            raise _failed(f"it does not show that the log of {new.size} entries extends that of {old.size}")


def prove_inclusion(raw: RawLedger, seq: int) -> InclusionProof:
    """That the entry `seq` is in `raw`, under its newest checkpoint, with the entry itself beside; `raw` was checked.

    A change of key is proved under the checkpoint by which the old key has introduced the new one: for `follow_key`.

    Raises:
        ValueError: If there is no such entry.
    """
    history = raw.history()
    size = history.size
    if 0 <= seq < size and raw.entries[seq].kind == KEY_CHANGE:
        size = seq + 1
    proof = tuple(history.inclusion_proof(seq, size))
    return InclusionProof(seq, proof, dict(raw.notes)[size], raw.entries[seq].to_bytes())


def prove_consistency(raw: RawLedger, old_size: int) -> ConsistencyProof:
    """That `raw` extends its first `old_size` entries, under its newest checkpoint; `raw` was checked.

    Raises:
        ValueError: If it never had so many, or `old_size` is 0: everything extends the empty log.
    """
    return ConsistencyProof(old_size, tuple(raw.history().consistency_proof(old_size)), _newest_note(raw))


def follow_key(proof: InclusionProof, logs: Sequence[VerifierKey]) -> tuple[VerifierKey, ...]:
    """These keys of logs after a change of key: the one that has signed its checkpoint is replaced by the next one.

    Args:
        proof: Of the entry that changes the key, as `prove_inclusion` makes it.
        logs: Keys that are believed.

    Raises:
        VerificationError: If none of them has signed it, or it does not show that another key follows.
    """
    opened = open_signed(proof.note, logs)
    checkpoint = parse_checkpoint(opened.text)
    old = next((log for log in logs if opened.by(log) and log.name == checkpoint.origin), None)
    if old is None or not isinstance(old.public_key, PublicKey):
        raise _failed("no key of the log it is of, or one of another kind, has signed its checkpoint")
    if proof.extra is None or checkpoint.size != proof.index + 1:
        raise _failed("it lacks the entry, or its checkpoint does not end with it: it shows no change of key")
    proof.verify(proof.extra, checkpoint)
    try:
        entry = Entry.from_bytes(proof.extra)
    except ValueError as error:
        raise _failed("its entry is not one of a ledger of ours") from error
    # The hashes beside the last leaf are the roots of the complete subtrees to its left: the whole tree before it.
    before = Checkpoint(old.name, proof.index, Frontier(proof.index, proof.hashes[::-1]).root())
    new = replace(old, public_key=open_key_change(entry, before, old.public_key))
    return tuple(new if log == old else log for log in logs)


def _newest_note(raw: RawLedger) -> str:
    return raw.notes[-1][1]


def _number(line: str, name: str) -> int:
    number = line.removeprefix(f"{name} ")
    if number == line or not _NUMBER.fullmatch(number):
        raise ValueError(f"wanted a line of {name} and a plain decimal number")
    return int(number)


def _hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    hashes = tuple(map(decode_base64, lines))
    if len(hashes) > _HASHES_LIMIT or any(len(one) != HASH_BYTES for one in hashes):
        raise ValueError(f"wanted at most {_HASHES_LIMIT} hashes of {HASH_BYTES} bytes")
    return hashes


def _failed(why: str) -> VerificationError:
    return VerificationError(
        "the proof does not check out",
        why=why,
        fix="do not rely on it: ask for a new proof, and compare checkpoints with somebody else who has one",
    )
