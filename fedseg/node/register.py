"""`Register`: a unit's consent events and the salts of its gate commitments, in one SQLite file.

It holds the 16-byte pseudonymous subject, never a customer's raw identifier. Deleted content is overwritten in the file
(`secure_delete`) and a rollback journal keeps no second copy of it after a commit, as a write-ahead log would; what a
disk or a file system keeps of overwritten and deleted files is out of reach. Nothing here ever leaves the unit.
"""

import json
import os
import secrets
import sqlite3
import stat
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Self

import pyarrow as pa

from fedseg.errors import DataError, StorageError
from fedseg.policy.consent import EVENT_SCHEMA, ConsentEvent, to_microseconds
from fedseg.policy.gate import SALT_BYTES
from fedseg.policy.purposes import Purpose

APPLICATION_ID: Final = 0x46535247
"""Marks the file as a register: "FSRG"."""
SCHEMA_VERSION: Final = 1

_BUSY_SECONDS: Final = 30.0
_CHUNK_ROWS: Final = 65_536

# An event is the sum of its columns: the same fact arriving twice is one row. Times are microseconds since 1970 UTC;
# valid_until is 0 for kinds that have no end.
_SCHEMA: Final = """
CREATE TABLE event (
    subject BLOB NOT NULL CHECK (length(subject) = 16),
    purpose TEXT NOT NULL,
    kind TEXT NOT NULL,
    event_time INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    valid_until INTEGER NOT NULL,
    notice_version INTEGER NOT NULL,
    PRIMARY KEY (subject, purpose, kind, event_time, recorded_at, valid_until, notice_version)
) STRICT, WITHOUT ROWID;
CREATE TABLE gate_salt (
    release_id TEXT PRIMARY KEY,
    salt BLOB NOT NULL CHECK (length(salt) = 32)
) STRICT, WITHOUT ROWID;
"""

_NO_END: Final = 0
_READ: Final = "BEGIN"
_WRITE: Final = "BEGIN IMMEDIATE"
"""Takes the write lock at once, so that two writers wait for each other rather than fail halfway."""


class Register:
    """An open register. Several threads may use one; processes open one each, and not across a fork.

    Raises:
        DataError: If the file is missing or no register of this version.
        StorageError: If others than the owner may read the file, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        _check_private(path)
        self._path: Final = path
        self._lock: Final = threading.Lock()
        with _storage_errors(path):
            self._connection: Final = _connect(path)
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            self.close()
            raise _not_a_register(path)

    @classmethod
    def create(cls, path: Path) -> Self:
        """An empty register in a new file that only its owner can read.

        Raises:
            StorageError: If the file is there already or cannot be written.
        """
        try:
            # The mode is set at birth: there is no moment at which others could open the file.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            raise StorageError(
                "the consent register cannot be created",
                why=f"{path}: {error.strerror}",
                fix="choose a new path in a folder that can be written",
            ) from error
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
        try:
            with _storage_errors(path), closing(_connect(path)) as connection:
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {marks} COMMIT;")
        except StorageError:
            path.unlink()
            raise
        return cls(path)

    def append_events(self, events: Iterable[ConsentEvent]) -> int:
        """Store all of the events or, if anything fails, none. Events already there are passed over.

        Returns:
            LOCAL: how many were new.

        Raises:
            StorageError: If the file cannot be written, for instance because the disk is full.
        """
        with self._transaction(_WRITE) as connection:
            before = connection.total_changes
            connection.executemany(
                "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", map(_row, events)
            )
            return connection.total_changes - before

    def events(self, purpose: str) -> pa.Table:
        """All events about a purpose, about every purpose, and of unknown scopes: what `fold` needs, in its schema."""
        # Left out are the other known purposes, not what this version cannot name: `fold` denies for such events.
        others = [str(other) for other in Purpose if str(other) != purpose]
        with self._transaction(_READ) as connection:
            cursor = connection.execute(
                "SELECT subject, purpose, kind, event_time, recorded_at, nullif(valid_until, ?), notice_version"
                " FROM event WHERE purpose NOT IN (SELECT value FROM json_each(?))",
                (_NO_END, json.dumps(others)),
            )
            return pa.Table.from_batches(_batches(cursor), EVENT_SCHEMA)

    def gate_salt(self, release_id: str) -> bytes:
        """The salt of a release's gate commitment: 32 random bytes, the same each time until they are forgotten."""
        with self._transaction(_WRITE) as connection:
            connection.execute(
                "INSERT INTO gate_salt VALUES (?, ?) ON CONFLICT DO NOTHING",
                (release_id, secrets.token_bytes(SALT_BYTES)),
            )
            (salt,) = connection.execute("SELECT salt FROM gate_salt WHERE release_id = ?", (release_id,)).fetchone()
        assert isinstance(salt, bytes)
        return salt

    def forget_salt(self, release_id: str) -> None:
        """Erase a salt, so that nobody can open the commitment any more. Asking for it again draws another one."""
        with self._transaction(_WRITE) as connection:
            connection.execute("DELETE FROM gate_salt WHERE release_id = ?", (release_id,))

    def close(self) -> None:
        """Close the file; nothing more can be asked."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self, begin: str) -> Generator[sqlite3.Connection]:
        """One transaction, for one thread at a time: committed as a whole, or not at all."""
        with self._lock, _storage_errors(self._path):
            try:
                self._connection.execute(begin)
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


def _check_private(path: Path) -> None:
    if not path.is_file():
        raise DataError(
            "the consent register is missing",
            why=f"there is no file {path}",
            fix="create the register, or correct its path in the unit's settings",
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise StorageError(
            "the consent register is not private",
            why=f"other users of this machine may open {path}",
            fix=f"chmod 600 {path}",
        )


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: a register that vanished is not silently replaced by an empty one.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        for setting in ("journal_mode = DELETE", "synchronous = FULL", "secure_delete = ON", "trusted_schema = OFF"):
            connection.execute(f"PRAGMA {setting}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def _storage_errors(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:
        # A closed register, say: a mistake of the program, not of the file.
        raise
    except sqlite3.OperationalError as error:
        raise StorageError(
            "the consent register cannot be read or written",
            why=f"{path}: {error.sqlite_errorname}; nothing of this change was kept",
            fix="free disk space or correct the permissions of the file and its folder, then try again",
        ) from error
    except sqlite3.DatabaseError as error:
        raise _not_a_register(path) from error


def _not_a_register(path: Path) -> DataError:
    return DataError(
        "the consent register cannot be read",
        why=f"{path} is damaged, or no register of version {SCHEMA_VERSION}",
        fix="restore the register from its backup",
    )


def _row(event: ConsentEvent) -> tuple[bytes, str, str, int, int, int, int]:
    return (
        event.subject,
        str(event.purpose),
        str(event.kind),
        to_microseconds(event.event_time),
        to_microseconds(event.recorded_at),
        _NO_END if event.valid_until is None else to_microseconds(event.valid_until),
        event.notice_version,
    )


def _batches(cursor: sqlite3.Cursor) -> Iterator[pa.RecordBatch]:
    while rows := cursor.fetchmany(_CHUNK_ROWS):
        columns = zip(zip(*rows, strict=True), EVENT_SCHEMA.types, strict=True)
        yield pa.record_batch([pa.array(column, kind) for column, kind in columns], schema=EVENT_SCHEMA)
