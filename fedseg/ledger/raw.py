"""`RawLedger`: a ledger as it was found, and `check_log`, which holds it against its own signatures. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import Checkpoint, open_checkpoint
from fedseg.ledger.entries import Entry, Genesis, History
from fedseg.ledger.key_change import LogKeys
from fedseg.ledger.keys import PublicKey
from fedseg.ledger.merkle import EMPTY_ROOT
from fedseg.ledger.notes import SignatureType
from fedseg.ledger.verifier_keys import VerifierKey


@dataclass(frozen=True, slots=True)
class RawLedger:
    """Everything a ledger file holds: well-formed, but believed by nobody before `check_log` has passed."""

    origin: str
    """The log's name, as its genesis says."""
    public_key: PublicKey
    """The log's first key, as its genesis says; by it a log is known, whatever key it has now."""
    entries: tuple[Entry, ...]
    """All entries, in order."""
    notes: tuple[tuple[int, str], ...]
    """The signed checkpoints: the size each is filed under, and its note; in order of size."""
    payloads: Mapping[str, bytes]
    """The payloads by id."""
    _history: History | None = field(default=None, init=False, repr=False, compare=False)
    """The tree over these very entries, if the ledger was made of one."""

    @property
    def verifier_key(self) -> VerifierKey:
        """Origin and the key of the newest checkpoint, as other tools take them (c2sp.org/signed-note)."""
        return self.verifier_key_at(len(self.entries))

    def verifier_key_at(self, size: int) -> VerifierKey:
        """The same of the key that signs the checkpoint over the first `size` entries.

        Raises:
            VerificationError: If a change of key does not check out.
        """
        return VerifierKey(self.origin, SignatureType.ED25519, self.keys().signer(size))

    @classmethod
    def from_parts(
        cls, leaves: Iterable[bytes], notes: Iterable[tuple[int, str]], payloads: Mapping[str, bytes]
    ) -> Self:
        """The ledger with these stored entries, checkpoints and payloads.

        Raises:
            VerificationError: If an entry is not canonical or not in its place, or the first is no genesis.
        """
        return cls.from_history(History().extended(leaves), notes, payloads)

    @classmethod
    def from_history(cls, history: History, notes: Iterable[tuple[int, str]], payloads: Mapping[str, bytes]) -> Self:
        """The ledger with these entries, stored checkpoints and payloads.

        Raises:
            VerificationError: If there is no entry, or the first is no genesis.
        """
        genesis = Genesis.of(history)
        raw = cls(genesis.origin, genesis.public_key, history.entries, tuple(notes), dict(payloads))
        object.__setattr__(raw, "_history", history)
        return raw

    def history(self) -> History:
        """The entries with their tree, from which proofs are made.

        Raises:
            VerificationError: If an entry is not canonical or not in its place.
        """
        return self._history or History().with_entries(self.entries)

    def keys(self) -> LogKeys:
        """The keys that the log has had, in order.

        Raises:
            VerificationError: If an entry is out of place or form, or a change of key does not check out.
        """
        return LogKeys.of(self.history())


def check_log(raw: RawLedger, public_key: PublicKey | None) -> Checkpoint:
    """The newest checkpoint of `raw`, after every byte of `raw` was found to be covered by a signature.

    Entries are gapless and canonical, the genesis is first and only there, origin and key are the same everywhere,
    every checkpoint is signed by the key of then and its root is that of the entries it covers, each key but the first
    was introduced by the one before, the newest checkpoint covers all entries, and each payload is the one its single
    entry vouches for.

    What this cannot see: an older state of the same ledger put back in its place. Every byte of a restored copy was
    signed once, so it passes. Nor can it see a second history that the key's owner signed for someone else. Both show
    only to whoever remembers a later checkpoint or compares checkpoints with others; keep the one returned here.

    Args:
        raw: The ledger.
        public_key: A key that the ledger must have or have had, known from elsewhere: from there on, and back, each key
            answers for the next. With None the ledger's own word is taken: then the result only says that the ledger is
            consistent, not whose it is.

    Raises:
        VerificationError: Naming the first thing that failed.
    """
    history = raw.history()
    keys = LogKeys.of(history)
    if public_key is not None and public_key not in keys.all:
        raise _failed(f"it belongs to the key {keys.in_force.fingerprint()}, wanted {public_key.fingerprint()}")
    if Genesis.of(history) != Genesis(raw.origin, raw.public_key):
        raise _failed("its origin or key is not that of its genesis")
    newest = _check_notes(raw, history, keys)
    _check_payloads(raw.payloads, history)
    return newest


def _check_notes(raw: RawLedger, history: History, keys: LogKeys) -> Checkpoint:
    newest = Checkpoint(raw.origin, 0, EMPTY_ROOT)
    for size, note in raw.notes:
        if not newest.size < size <= history.size:
            raise _failed("its checkpoints do not grow, or cover more entries than there are")
        newest = Checkpoint(raw.origin, size, history.root(size))
        if open_checkpoint(note, keys.signer(size), raw.origin) != newest:
            raise _failed(f"the checkpoint of size {size} is not over the first {size} entries")
    if newest.size != history.size:
        raise _failed("no checkpoint covers its last entry")
    if missing := sorted(set(keys.handovers) - {size for size, _ in raw.notes}):
        raise _failed(f"entry {missing[0] - 1} changes its key, and the key before has not signed that")
    return newest


def _check_payloads(payloads: Mapping[str, bytes], history: History) -> None:
    vouched = history.payloads
    if payloads.keys() - vouched.keys():
        raise _failed("it holds a payload that no entry refers to")
    for id_ in vouched:
        history.check_payload(id_, payloads.get(id_))


def _failed(why: str) -> VerificationError:
    return VerificationError(
        "the ledger does not check out",
        why=why,
        fix="do not rely on it: get it again from its owner, or compare it with an earlier copy",
    )
