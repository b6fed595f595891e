"""`Ledger`: a journal in one SQLite file (WAL, synchronous=FULL), for many threads and processes at once.

No connection outlives an operation. So a fork inherits none, threads share none, and at rest the main file holds
everything: the last connection to close moves the write-ahead log into it. What costs time is the disk's flush.
"""

import os
import sqlite3
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from fedseg.errors import StorageError, VerificationError
from fedseg.ledger.canonical import Json
from fedseg.ledger.checkpoint import Checkpoint, open_checkpoint
from fedseg.ledger.database import (
    APPLICATION_ID,
    SQLITE_ERRORS,
    TABLES,
    USER_VERSION,
    check_schema,
    connect,
    storage_errors,
    unreadable,
)
from fedseg.ledger.entries import Entry, Genesis, History
from fedseg.ledger.journal import Journal, MemoryLedger, Transaction, nested, note_over
from fedseg.ledger.key_change import LogKeys
from fedseg.ledger.keys import PublicKey, SigningKey
from fedseg.private_file import write_new

__all__ = ["Entry", "Journal", "Ledger", "MemoryLedger", "Transaction"]

_ABANDONED: list[sqlite3.Connection] = []
"""Connections a fork copied: closing one would disturb the locks and the log of the process that owns it."""


class Ledger:
    """A journal in the file `path`; see `Journal` for what it promises. Made by `create` or `open`."""

    path: Path

    def __init__(self, path: Path, keys: Sequence[SigningKey], genesis: Genesis) -> None:
        self.path = path
        self._keys = {key.public: key for key in keys}
        self._genesis = genesis
        # Known entries are read and hashed once. A history is immutable, so threads may swap it freely.
        self._history = History()
        self._thread = threading.local()
        self._closed = False

    @classmethod
    def create(cls, path: Path, *, origin: str, key: SigningKey, body: Mapping[str, Json]) -> Self:
        """A new ledger whose genesis holds `body`, the origin and the public key of `key`.

        Raises:
            StorageError: If `path` exists or cannot be written; then nothing is left of it.
            ValueError: If `origin` or `body` cannot stand in a genesis.
        """
        genesis = Genesis(origin, key.public)
        history = History().extended([genesis.entry(body).to_bytes()])
        try:
            write_new(path, b"")
        except OSError as error:
            raise _not_created(path, error) from error
        try:
            with storage_errors(path), closing(connect(path, "mode=rw")) as connection:
                _write_schema(connection)
                _write(connection, History(), history, {}, note_over(history, genesis, key))
        except StorageError as error:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            raise _not_created(path, error) from error
        return cls.open(path, key)

    @classmethod
    def open(cls, path: Path, *keys: SigningKey) -> Self:
        """The ledger in `path`, after its newest checkpoint was found to be signed and to cover all entries.

        Args:
            path: The file.
            keys: The ledger's key; where a change of it may have been cut short, also the one that was to follow.

        Raises:
            LedgerUnreadableError: If `path` is no ledger: missing, damaged, foreign, or of another version.
            VerificationError: If the key in force is none of `keys`, or the ledger was changed after it was signed.
        """
        if not path.is_file():
            raise unreadable(path, "there is no such file")
        with storage_errors(path), closing(connect(path, "mode=rw")) as connection:
            check_schema(connection, path)
            genesis = Genesis.of(History().extended(_leaves(connection, History(), limit=1)))
        ledger = cls(path, keys, genesis)
        ledger.entries()
        return ledger

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._genesis.origin

    @property
    def public_key(self) -> PublicKey:
        """The key in force, as of the last operation."""
        return LogKeys.of(self._history).in_force

    def close(self) -> None:
        """Refuse all further use. Nothing is held open between operations, so nothing can be lost here."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def entries(self) -> list[Entry]:
        """As `Journal.entries`."""
        with storage_errors(self.path), closing(self._begin("BEGIN")) as connection:
            return self._refreshed(connection).since(0)

    def signed(self) -> tuple[History, str]:
        """All committed entries, and the newest checkpoint, which covers exactly these, as the signed note it is."""
        with storage_errors(self.path), closing(self._begin("BEGIN")) as connection:
            history = self._refreshed(connection)
            row = connection.execute("SELECT note FROM checkpoint WHERE size = ?", (history.size,)).fetchone()
            return history, cast("str", row[0])

    def payload(self, id_: str) -> bytes | None:
        """As `Journal.payload`."""
        with storage_errors(self.path), closing(self._begin("BEGIN")) as connection:
            return Transaction(self._refreshed(connection), _Payloads(connection, self.path)).payload(id_)

    @contextmanager
    def transaction(self) -> Generator[Transaction, None, None]:
        """As `Journal.transaction`.

        A process forked inside the block cannot commit it: only the process that began it can.
        """
        if getattr(self._thread, "inside", None) == os.getpid():
            raise nested()
        with storage_errors(self.path):
            connection = self._begin("BEGIN IMMEDIATE")
        process = os.getpid()
        self._thread.inside = process
        try:
            with storage_errors(self.path):
                before = self._refreshed(connection)
            transaction = Transaction(before, _Payloads(connection, self.path))
            try:
                yield transaction
            finally:
                transaction.end()
            self._commit(connection, transaction, process)
        finally:
            self._thread.inside = None
            if os.getpid() == process:
                # An open transaction ends with its connection: that is the rollback.
                connection.close()
            else:
                _ABANDONED.append(connection)

    def _begin(self, statement: str) -> sqlite3.Connection:
        if self._closed:
            raise ValueError("this ledger is closed")
        connection = connect(self.path, "mode=rw")
        try:
            connection.execute(statement)
        except SQLITE_ERRORS:
            connection.close()
            raise
        return connection

    def _refreshed(self, connection: sqlite3.Connection) -> History:
        """The history as `connection` sees it, reading only what is new, checked against the newest checkpoint."""
        # Taken before the first read: whatever we know was committed before the snapshot, so it must be in there.
        known = self._history
        history = known.extended(_leaves(connection, known))
        keys = LogKeys.of(history)
        for size in (one for one in keys.handovers if one > known.size):
            _require_signed(connection, history, keys, size)
        if _require_signed(connection, history, keys, None) != history.size:
            raise _changed("its newest checkpoint does not cover exactly its entries")
        if keys.in_force not in self._keys:
            given = " or ".join(key.fingerprint() for key in self._keys)
            raise _changed(f"it belongs to the key {keys.in_force.fingerprint()}, not {given}")
        self._history = history
        return history

    def _commit(self, connection: sqlite3.Connection, transaction: Transaction, process: int) -> None:
        if os.getpid() != process:
            raise StorageError(
                "a transaction was left to another process",
                why="the process was forked inside it; nothing of the copy is written",
                fix="fork before or after a transaction, never inside one",
            )
        if not transaction.leaves:
            return
        key = self._keys[LogKeys.of(transaction.before).in_force]
        note = note_over(transaction.after, self._genesis, key)
        if transaction.new_key is not None:
            # Before the commit: whoever reads after it needs the key. Should it fail, the key is never asked for.
            self._keys = {**self._keys, transaction.new_key.public: transaction.new_key}
        with storage_errors(self.path):
            _write(connection, transaction.before, transaction.after, transaction.added_payloads, note)
        self._history = transaction.after


class _Payloads:
    """Payload bytes as one connection sees them."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def __call__(self, id_: str) -> bytes | None:
        with storage_errors(self._path):
            row = self._connection.execute("SELECT data FROM payload WHERE id = ?", (id_,)).fetchone()
        return None if row is None else cast("bytes", row[0])


def _write_schema(connection: sqlite3.Connection) -> None:
    """Turn an empty file into a ledger without entries, inside the transaction this begins."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={USER_VERSION}")
    for sql in TABLES.values():
        connection.execute(sql)


def _write(
    connection: sqlite3.Connection, before: History, after: History, payloads: Mapping[str, bytes], note: str
) -> None:
    """Add what `after` has over `before`, with `payloads` and the checkpoint `note`, and commit it."""
    leaves = [(entry.seq, entry.to_bytes()) for entry in after.since(before.size)]
    connection.executemany("INSERT INTO leaf (seq, entry) VALUES (?, ?)", leaves)
    connection.executemany("INSERT INTO payload (id, data) VALUES (?, ?)", payloads.items())
    connection.execute("INSERT INTO checkpoint (size, note) VALUES (?, ?)", (after.size, note))
    connection.execute("COMMIT")
    # The commit stands in the write-ahead log already: when the main file cannot be written now, the next one does it.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _leaves(connection: sqlite3.Connection, known: History, limit: int = -1) -> list[bytes]:
    """The stored entries after the `known` ones, in order."""
    query = "SELECT seq, entry FROM leaf WHERE seq >= ? ORDER BY seq LIMIT ?"
    rows = connection.execute(query, (known.size, limit)).fetchall()
    if [seq for seq, _ in rows] != list(range(known.size, known.size + len(rows))):
        raise _changed("its entries are not numbered without a gap")
    return [cast("bytes", entry) for _, entry in rows]


def _require_signed(connection: sqlite3.Connection, history: History, keys: LogKeys, size: int | None) -> int:
    """The size of the newest checkpoint, or `size`, once the key of then was found to have signed that much history."""
    # As bytes: Python decodes text by itself, and would call damaged text a programming error.
    query = (
        "SELECT size, CAST(note AS BLOB) FROM checkpoint WHERE size = coalesce(?, (SELECT max(size) FROM checkpoint))"
    )
    row = connection.execute(query, (size,)).fetchone()
    if row is None:
        raise _changed("it has no checkpoint" if size is None else f"its key has not signed the change at {size - 1}")
    covered = cast("int", row[0])
    try:
        note = cast("bytes", row[1]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _changed("a checkpoint is not text") from error
    origin = Genesis.of(history).origin
    found = open_checkpoint(note, keys.signer(covered), origin)
    if covered > history.size or found != Checkpoint(origin, covered, history.root(covered)):
        raise _changed(f"its checkpoint of {covered} entries does not cover exactly these")
    return covered


def _changed(why: str) -> VerificationError:
    return VerificationError(
        "the ledger does not check out",
        why=why,
        fix="restore the ledger from a copy that verifies, and find out who changed this one",
    )


def _not_created(path: Path, error: Exception) -> StorageError:
    why = (error.strerror or "unknown cause") if isinstance(error, OSError) else str(error)
    return StorageError(
        f"no ledger was created at {path}",
        why=why,
        fix="choose a path that does not exist yet, on a disk with room, in a directory you may write to",
    )
