"""What a ledger can do, whoever keeps the bytes: `Journal`, its `Transaction`, and a `MemoryLedger`.

A transaction collects what it adds; the journal writes it, with a signed checkpoint over everything, only when the
transaction ends well. So nothing half-written exists, and an entry never stands without the payload it vouches for.
"""

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from fedseg.ledger.canonical import Json, sha256_hex
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.entries import (
    GENESIS,
    KEY_CHANGE,
    PAYLOAD_LIMIT_BYTES,
    Entry,
    Genesis,
    History,
    PayloadReference,
)
from fedseg.ledger.key_change import LogKeys, sign_key_change
from fedseg.ledger.keys import SigningKey


class Transaction:
    """One consistent view of a journal, and what is to be added to it. Made by `Journal.transaction` alone."""

    def __init__(self, before: History, stored: Callable[[str], bytes | None]) -> None:
        self.before = before
        self.after = before
        self.leaves: list[bytes] = []
        self.added_payloads: dict[str, bytes] = {}
        self.new_key: SigningKey | None = None
        """The key that signs from the next transaction on, if this one replaces it."""
        self._stored = stored
        self._ended = False

    def entries(self) -> list[Entry]:
        """All entries, the ones this transaction appended last."""
        return self.after.since(0)

    def payload(self, id_: str) -> bytes | None:
        """The payload of this id, also one this transaction added; None if no entry refers to it.

        Raises:
            VerificationError: If the stored bytes are missing or were changed.
        """
        if self.after.payload_sha256(id_) is None:
            return None
        data = self.added_payloads[id_] if id_ in self.added_payloads else self._stored(id_)
        return self.after.check_payload(id_, data)

    def append(self, kind: str, body: Mapping[str, Json], payload: tuple[str, bytes] | None = None) -> Entry:
        """Add an entry, and with it the bytes of `payload` (an id and data), which its body will vouch for.

        Nothing is written before the transaction ends.

        Raises:
            ValueError: If kind or body cannot be an entry, the body holds `payload` already, the payload's id is
                taken or its data too long, or the transaction has ended.
        """
        if kind in {GENESIS, KEY_CHANGE}:
            raise ValueError("only the first entry is a genesis, and only change_key writes a change of key")
        if "payload" in body:
            raise ValueError("the body's payload is written here: pass the bytes as the argument")
        full = dict(body)
        if payload is not None:
            id_, data = payload
            if self.after.payload_sha256(id_) is not None:
                raise ValueError("this payload id belongs to another entry")
            if len(data) > PAYLOAD_LIMIT_BYTES:
                raise ValueError(f"a payload has at most {PAYLOAD_LIMIT_BYTES} bytes, got {len(data)}")
            reference = PayloadReference(id_, sha256_hex(data))
            full["payload"] = {"id": reference.id, "sha256": reference.sha256}
        entry = self._add(kind, full)
        if payload is not None:
            self.added_payloads[payload[0]] = bytes(payload[1])
        return entry

    def change_key(self, new: SigningKey, body: Mapping[str, Json]) -> Entry:
        """Replace the journal's key: the checkpoint of this transaction is the last of the old key.

        The entry, which holds `body` too, must be the last of the transaction: so the checkpoint ends with it.

        Raises:
            ValueError: If the key has been in force before, `body` cannot stand in the entry, or the transaction ended.
        """
        keys = LogKeys.of(self.after)
        if new.public in keys.all:
            raise ValueError("this key is or was the journal's own; a key that was replaced does not come back")
        before = Checkpoint(Genesis.of(self.after).origin, self.after.size, self.after.root())
        entry = self._add(KEY_CHANGE, sign_key_change(before, keys.in_force, new, body))
        self.new_key = new
        return entry

    def _add(self, kind: str, body: Mapping[str, Json]) -> Entry:
        if self._ended or self.new_key is not None:
            raise ValueError("this transaction has ended" if self._ended else "nothing follows a change of key")
        leaf = Entry(self.after.size, kind, body).to_bytes()
        # Reading our own bytes back gives an entry that shares nothing with the caller's objects.
        self.after = self.after.extended([leaf])
        self.leaves.append(leaf)
        return self.after.last

    def end(self) -> None:
        """From here on nothing can be appended."""
        self._ended = True


class Journal(Protocol):
    """A tamper-evident log of one origin, signed by its one key, or by the one that has replaced it."""

    @property
    def origin(self) -> str:
        """The log's name, as in its genesis and every checkpoint."""
        ...

    def entries(self) -> list[Entry]:
        """All committed entries, also those that others committed since."""
        ...

    def payload(self, id_: str) -> bytes | None:
        """The committed payload of this id; None if no entry refers to it.

        Raises:
            VerificationError: If the stored bytes are missing or were changed.
        """
        ...

    def transaction(self) -> AbstractContextManager[Transaction]:
        """A transaction that sees everything committed and keeps others from writing until it ends.

        It commits when its block ends normally; when the block raises, nothing of it remains.

        Raises:
            RuntimeError: If this thread is inside a transaction of this journal already.
            StorageError: If the journal cannot be written. Nothing of the transaction remains.
            VerificationError: If what is stored was changed behind our back.
        """
        ...


class MemoryLedger:
    """A journal in memory, gone with its process: for tests and for trying things out."""

    def __init__(self, *, origin: str, key: SigningKey, body: Mapping[str, Json]) -> None:
        self._key = key
        self._genesis = Genesis(origin, key.public)
        self._history = History().extended([self._genesis.entry(body).to_bytes()])
        self._payloads: dict[str, bytes] = {}
        self.notes: list[str] = [note_over(self._history, self._genesis, key)]
        """The signed checkpoints, one a transaction that added something."""
        self._lock = threading.RLock()
        self._inside = False

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._genesis.origin

    def entries(self) -> list[Entry]:
        """As `Journal.entries`."""
        return self._history.since(0)

    def payload(self, id_: str) -> bytes | None:
        """As `Journal.payload`."""
        return Transaction(self._history, self._payloads.get).payload(id_)

    @contextmanager
    def transaction(self) -> Generator[Transaction, None, None]:
        """As `Journal.transaction`."""
        with self._lock:
            if self._inside:
                raise nested()
            self._inside = True
            transaction = Transaction(self._history, self._payloads.get)
            try:
                yield transaction
                if transaction.leaves:
                    self.notes.append(note_over(transaction.after, self._genesis, self._key))
                    self._payloads |= transaction.added_payloads
                    self._history = transaction.after
                    self._key = transaction.new_key or self._key
            finally:
                transaction.end()
                self._inside = False


def note_over(history: History, genesis: Genesis, key: SigningKey) -> str:
    """The checkpoint over all of `history`, signed."""
    return sign_checkpoint(Checkpoint(genesis.origin, history.size, history.root()), key)


def nested() -> RuntimeError:
    """The error for a transaction inside a transaction: waiting for itself would take for ever."""
    return RuntimeError("this thread is inside a transaction of this journal already")
