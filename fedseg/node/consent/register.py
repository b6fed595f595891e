"""`Register`: a unit's consent events, their evidence, and the salts of its gate commitments, in one SQLite file.

It holds the 16-byte pseudonymous subject, never a customer's raw identifier. Deleted content is overwritten in the file
(`secure_delete`) and a rollback journal keeps no second copy of it after a commit, as a write-ahead log would; what a
disk or a file system keeps of overwritten and deleted files is out of reach. Nothing here ever leaves the unit.
"""

import json
import secrets
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeAlias

import pyarrow as pa

from fedseg.errors import DataError
from fedseg.node.private_database import connect, create, require_private, storage_errors, transaction
from fedseg.policy.consent import EVENT_SCHEMA, EVERY_PURPOSE, ConsentEvent, to_microseconds
from fedseg.policy.gate import SALT_BYTES
from fedseg.policy.purposes import Purpose

APPLICATION_ID: Final = 0x46535247
"""Marks the file as a register: "FSRG"."""
SCHEMA_VERSION: Final = 2

KEY: Final = tuple(EVENT_SCHEMA.names)
"""What makes an event: the same in all of these is the same event."""

EVIDENCE: Final = ("source", "record_id", "notice_uri", "notice_language", "method")
"""What is kept beside an event to show that it happened; text, empty where nothing was said."""

DELIVERY_SCHEMA: Final = pa.schema(
    [one.with_nullable(one.nullable or one.name in {"event_time", "recorded_at"}) for one in EVENT_SCHEMA]
    + [pa.field(name, pa.string(), nullable=False) for name in EVIDENCE]
)
"""Columns of what an import brings: times are null where the export says none, and then mean the moment of import."""

TABLES: Final = ("event", "gate_salt", "import", "unread")
"""What a register is made of, wherever it is kept: the same columns in the same order."""

UNREAD: Final = "(a line that could not be read)"
"""Kind of event of a customer of whom a line of a partial import could not be read: unknown, so that it denies."""

_NAME: Final = "consent register"
CHUNK_ROWS: Final = 2_048
"""Events fetched at a time: as objects of Python, so few that a processor's cache holds them."""
_CACHE_KIB: Final = 262_144
"""Changed pages are kept in memory up to this, so that rounds may read the register until an import is committed."""

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

# Evidence is none of the event's key: the same fact from two systems is one event, with the evidence that came first.
_SCHEMA_2: Final = (
    "".join(f"ALTER TABLE event ADD COLUMN {name} TEXT NOT NULL DEFAULT '';\n" for name in EVIDENCE)
    + """
CREATE TABLE import (
    id TEXT PRIMARY KEY,
    imported_at INTEGER NOT NULL,
    mapping TEXT NOT NULL,
    mapping_sha256 TEXT NOT NULL,
    file_sha256 TEXT NOT NULL,
    lines INTEGER NOT NULL,
    events INTEGER NOT NULL,
    refused INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE unread (
    import TEXT NOT NULL,
    subject BLOB NOT NULL CHECK (length(subject) = 16),
    imported_at INTEGER NOT NULL,
    PRIMARY KEY (import, subject)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 2;
"""
)

# Parameters 1 to 12 are a row of DELIVERY_SCHEMA, 13 is the moment of import.
_INSERT: Final = (
    "INSERT INTO event SELECT ?1, ?2, ?3, coalesce(?4, ?13), coalesce(?5, ?13), ?6, ?7, ?8, ?9, ?10, ?11, ?12"
)
_STATED: Final = f"{_INSERT} WHERE true ON CONFLICT DO NOTHING"
# When the unit came to know is the first time that it heard.
_HEARD_NOW: Final = f"""{_INSERT} WHERE NOT EXISTS (
    SELECT 1 FROM event WHERE subject = ?1 AND purpose = ?2 AND kind = ?3 AND event_time = ?4 AND recorded_at <= ?13
        AND valid_until = ?6 AND notice_version = ?7
) ON CONFLICT DO NOTHING"""  # noqa: S608 (nothing but what stands here)
# What is said without a date, and is the customer's last word already, is no news.
_UNDATED: Final = f"""{_INSERT} WHERE NOT EXISTS (
    SELECT 1 FROM event WHERE subject = ?1 AND purpose = ?2 AND kind = ?3 AND max(event_time, recorded_at) <= ?13
        AND event_time >= coalesce(
            (SELECT max(event_time) FROM event WHERE subject = ?1 AND purpose = ?2 AND kind <> ?3), event_time
        )
) ON CONFLICT DO NOTHING"""  # noqa: S608 (nothing but what stands here)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NO_END: Final = 0
"""`valid_until` of kinds that have no end."""
Row: TypeAlias = "tuple[Any, ...]"
"""Cells of a table of the register, times in microseconds since 1970."""

_READ: Final = "BEGIN"
_WRITE: Final = "BEGIN IMMEDIATE"
"""Takes the write lock at once, so that two writers wait for each other rather than fail halfway."""


@dataclass(frozen=True, slots=True)
class ImportNote:
    """What the register keeps of an import. LOCAL: exact counts never leave the unit."""

    id: str
    """First digits of a hash of file and mapping: importing the same once more is the same import."""
    imported_at: datetime
    mapping: str
    """Its name."""
    mapping_sha256: str
    file_sha256: str
    lines: int
    events: int
    """Events that the export holds, known or new."""
    refused: int
    """Lines that could not be read."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one import brings: stored as a whole, or not at all."""

    note: ImportNote
    batches: Callable[[], Iterator[pa.RecordBatch]]
    """The events, from the beginning each time; in `DELIVERY_SCHEMA`."""
    unread: frozenset[bytes] = field(default=frozenset(), repr=False)
    """Customers of whom a line could not be read: denied from now on."""
    corrects: str | None = None
    """Id of an earlier import whose unread lines this one brings corrected: nobody is denied for those any more."""


class ConsentRegister(Protocol):
    """What every register does, wherever it keeps its tables. Each method is told of in `Register`."""

    def append_events(self, events: Iterable[ConsentEvent]) -> int:
        """Store all of the events or none; those already there are passed over. LOCAL: how many were new."""
        ...

    def take_in(self, delivery: Delivery) -> int:
        """Store what an import brings, all of it or nothing. LOCAL: how many events were new."""
        ...

    def imports(self) -> list[ImportNote]:
        """LOCAL: the imports so far, the latest first."""
        ...

    def knows(self, subjects: Iterable[bytes]) -> int:
        """LOCAL: of how many of these customers there is any event."""
        ...

    def events(self, purpose: str) -> pa.Table:
        """All events about a purpose, about every purpose, and of unknown scopes."""
        ...

    def events_in_order(self, purpose: str) -> Generator[pa.RecordBatch]:
        """The same, some at a time, in the byte order of their subjects."""
        ...

    def events_of(self, subject: bytes) -> list[dict[str, str | None]]:
        """LOCAL: all events about one customer with their evidence, as text."""
        ...

    def forget_subjects(self, subjects: Iterable[bytes]) -> None:
        """Delete everything about these people."""
        ...

    def forget_events(self, events: pa.Table) -> int:
        """Delete these events. LOCAL: how many were there."""
        ...

    def gate_salt(self, release_id: str) -> bytes:
        """The salt of a release's gate commitment, the same each time until it is forgotten."""
        ...

    def forget_salt(self, release_id: str) -> None:
        """Erase a salt."""
        ...

    def close(self) -> None:
        """Close it; nothing more can be asked."""
        ...

    def __enter__(self) -> Self:
        """Itself."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close it."""
        ...


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
            self._connection: Final = connect(path)
            # What is sorted for a query would otherwise go to files elsewhere, which may be on another disk, or none.
            self._connection.execute("PRAGMA temp_store = MEMORY")
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if (application, version) == (APPLICATION_ID, 1):
            self._upgrade()
        elif (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            self.close()
            later = application == APPLICATION_ID and version > SCHEMA_VERSION
            raise _of_a_later_version(path, version) if later else _not_a_register(path)

    @classmethod
    def create(cls, path: Path) -> Self:
        """An empty register in a new file that only its owner can read.

        Raises:
            StorageError: If the file is there already or cannot be written.
        """
        script = f"{_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; {_SCHEMA_2}"
        create(path, _NAME, script, _not_a_register)
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
                f"INSERT INTO event ({', '.join(EVENT_SCHEMA.names)}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 (our own names)
                " ON CONFLICT DO NOTHING",
                map(event_row, events),
            )
            return connection.total_changes - before

    def take_in(self, delivery: Delivery) -> int:
        """Store what an import brings, all of it or, if anything fails, nothing. What is known already is passed over.

        An event without `recorded_at` is known if the same event was heard of before, whenever that was; one without
        `event_time` if it is the customer's last word about that purpose already. So an export may come time and again.

        Returns:
            LOCAL: how many events were new.

        Raises:
            StorageError: If the file cannot be written, for instance because the disk is full.
        """
        note = delivery.note
        moment = to_microseconds(note.imported_at)
        with self._transaction(_WRITE) as connection:
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            before = connection.total_changes
            # Undated events come last: whether they are news depends on the dated ones.
            for undated in (False, True):
                for batch in delivery.batches():
                    for statement, rows in _by_statement(batch, moment, undated=undated).items():
                        connection.executemany(statement, rows)
            new = connection.total_changes - before
            kept = (note.id, moment, *astuple(note)[2:])
            connection.execute("INSERT OR REPLACE INTO import VALUES (?, ?, ?, ?, ?, ?, ?, ?)", kept)
            connection.execute("DELETE FROM unread WHERE import = ?", (delivery.corrects,))
            connection.executemany(
                "INSERT INTO unread VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                ((note.id, subject, moment) for subject in delivery.unread),
            )
            return new

    def imports(self) -> list[ImportNote]:
        """LOCAL: the imports so far, the latest first."""
        with self._transaction(_READ) as connection:
            found = connection.execute("SELECT * FROM import ORDER BY imported_at DESC, id").fetchall()
        return [ImportNote(id_, from_microseconds(at), *rest) for id_, at, *rest in found]

    def knows(self, subjects: Iterable[bytes]) -> int:
        """LOCAL: of how many of these customers there is any event."""
        with self._transaction(_READ) as connection:
            asked = (connection.execute("SELECT 1 FROM event WHERE subject = ? LIMIT 1", (one,)) for one in subjects)
            return sum(found.fetchone() is not None for found in asked)

    def events(self, purpose: str) -> pa.Table:
        """All events about a purpose, about every purpose, and of unknown scopes: what `fold` needs, in its schema.

        For each customer of whom a line could not be read there is one of the unknown kind `UNREAD`, for every purpose.
        """
        return pa.Table.from_batches(self.events_in_order(purpose), EVENT_SCHEMA)

    def events_in_order(self, purpose: str) -> Generator[pa.RecordBatch]:
        """The same events as they were when the first is asked for, in the byte order of their subjects.

        Nobody else can use the register's connection until the last was given, or the iterator is closed.
        """
        with self._transaction(_READ) as connection:
            cursor = connection.execute(
                "SELECT subject, purpose, kind, event_time, recorded_at, nullif(valid_until, ?), notice_version"
                " FROM event WHERE purpose NOT IN (SELECT value FROM json_each(?))"
                " UNION ALL SELECT subject, ?, ?, imported_at, imported_at, NULL, 0 FROM unread ORDER BY 1",
                (NO_END, json.dumps(other_purposes(purpose)), EVERY_PURPOSE, UNREAD),
            )
            yield from batches_of(iter(lambda: cursor.fetchmany(CHUNK_ROWS), []))

    def events_of(self, subject: bytes) -> list[dict[str, str | None]]:
        """LOCAL: all events about one customer with their evidence, as text; for the customer alone."""
        with self._transaction(_READ) as connection:
            rows = connection.execute("SELECT * FROM event WHERE subject = ? ORDER BY event_time, kind", (subject,))
            return [shown_event(row) for row in rows]

    def forget_subjects(self, subjects: Iterable[bytes]) -> None:
        """Delete everything about these people, and overwrite where it stood; who is not there is passed over."""
        gone = [(subject,) for subject in subjects]
        with self._transaction(_WRITE) as connection:
            for table in ("event", "unread"):
                connection.executemany(f"DELETE FROM {table} WHERE subject = ?", gone)  # noqa: S608 - our own names

    def forget_events(self, events: pa.Table) -> int:
        """Delete these events with their evidence, all or none, and overwrite where they stood.

        Args:
            events: A table of `EVENT_SCHEMA`.

        Returns:
            LOCAL: how many of them were there.
        """
        alike = " AND ".join(f"{name} = ?" for name in KEY)
        with self._transaction(_WRITE) as connection:
            before = connection.total_changes
            for batch in events.to_batches():
                connection.executemany(f"DELETE FROM event WHERE {alike}", keys_of(batch))  # noqa: S608 (our own names)
            return connection.total_changes - before

    def gate_salt(self, release_id: str) -> bytes:
        """The salt of a release's gate commitment: 32 random bytes, the same each time until they are forgotten."""
        with self._transaction(_WRITE) as connection:
            connection.execute(
                "INSERT INTO gate_salt VALUES (?, ?) ON CONFLICT DO NOTHING",
                (release_id, new_salt()),
            )
            (salt,) = connection.execute("SELECT salt FROM gate_salt WHERE release_id = ?", (release_id,)).fetchone()
        assert isinstance(salt, bytes)
        return salt

    def forget_salt(self, release_id: str) -> None:
        """Erase a salt, so that nobody can open the commitment any more. Asking for it again draws another one."""
        with self._transaction(_WRITE) as connection:
            connection.execute("DELETE FROM gate_salt WHERE release_id = ?", (release_id,))

    def rows(self, table: str) -> Iterator[Row]:
        """LOCAL: everything in one of the register's tables, as it is stored."""
        with self._transaction(_READ) as connection:
            yield from connection.execute(f"SELECT * FROM {table}")  # noqa: S608 (a name of ours)

    def close(self) -> None:
        """Close the file; nothing more can be asked."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _upgrade(self) -> None:
        """Add what version 2 has, unless another process just did."""
        with self._transaction(_WRITE) as connection:
            if connection.execute("PRAGMA user_version").fetchone() == (1,):
                for statement in _SCHEMA_2.split(";"):
                    connection.execute(statement)

    @contextmanager
    def _transaction(self, begin: str) -> Generator[sqlite3.Connection]:
        """One transaction, for one thread at a time: committed as a whole, or not at all."""
        with self._lock, _storage_errors(self._path), transaction(self._connection, begin) as connection:
            yield connection


def _check_private(path: Path) -> None:
    if not path.is_file():
        raise DataError(
            "the consent register is missing",
            why=f"there is no file {path}",
            fix="create the register, or correct its path in the unit's settings",
        )
    require_private(path, _NAME)


def _storage_errors(path: Path) -> AbstractContextManager[None]:
    return storage_errors(path, _NAME, _not_a_register)


def _not_a_register(path: Path) -> DataError:
    return DataError(
        "the consent register cannot be read",
        why=f"{path} is damaged, or no register of version {SCHEMA_VERSION}",
        fix="restore the register from its backup",
    )


def _of_a_later_version(path: Path, version: int) -> DataError:
    return DataError(
        "the consent register was written by a later version of fedseg",
        why=f"{path} is of version {version}, and this one reads up to {SCHEMA_VERSION}",
        fix="pip install --upgrade fedseg; nothing of the register is lost, and nothing was changed",
    )


def from_microseconds(moment: int) -> datetime:
    """The moment so many microseconds since 1970, in UTC."""
    return _EPOCH + timedelta(microseconds=moment)


def new_salt() -> bytes:
    """A salt for one gate commitment."""
    return secrets.token_bytes(SALT_BYTES)


def other_purposes(purpose: str) -> list[str]:
    """The known purposes but this one. What this version cannot name is none of them: `fold` denies for such events."""
    return [str(other) for other in Purpose if str(other) != purpose]


def shown_event(row: Row) -> dict[str, str | None]:
    """A row of the table of events as people read it, without its subject."""
    names = (*KEY, *EVIDENCE)[1:]
    return dict(zip(names, map(_shown, names, row[1:]), strict=True))


def _shown(name: str, value: int | str) -> str | None:
    """A cell of the table of events as people read it."""
    if name == "valid_until" and value == NO_END:
        return None
    is_moment = name in {"event_time", "recorded_at", "valid_until"}
    return from_microseconds(value).isoformat() if is_moment and isinstance(value, int) else str(value)


def event_row(event: ConsentEvent) -> Row:
    """The event's cells, in the order of `KEY`."""
    return (
        event.subject,
        str(event.purpose),
        str(event.kind),
        to_microseconds(event.event_time),
        to_microseconds(event.recorded_at),
        NO_END if event.valid_until is None else to_microseconds(event.valid_until),
        event.notice_version,
    )


def keys_of(batch: pa.RecordBatch) -> Iterator[Row]:
    """The cells of events in `EVENT_SCHEMA`, as they are stored."""
    whole = (one.cast(pa.int64()) if pa.types.is_timestamp(one.type) else one for one in batch.columns)
    for *known, valid_until, notice_version in zip(*(one.to_pylist() for one in whole), strict=True):
        yield (*known, NO_END if valid_until is None else valid_until, notice_version)


def _by_statement(batch: pa.RecordBatch, moment: int, *, undated: bool) -> dict[str, list[Row]]:
    """The rows of a batch, dated or undated, under the statement that stores them, in the order of their keys."""
    found: dict[str, list[Row]] = {_STATED: [], _HEARD_NOW: [], _UNDATED: []}
    whole = (one.cast(pa.int64()) if pa.types.is_timestamp(one.type) else one for one in batch.columns)
    for row in sorted(zip(*(one.to_pylist() for one in whole), strict=True), key=lambda row: row[0]):
        event_time, recorded_at, valid_until = row[3:6]
        if (event_time is None) is undated:
            statement = _UNDATED if undated else _STATED if recorded_at is not None else _HEARD_NOW
            found[statement].append((*row[:5], valid_until or NO_END, *row[6:], moment))
    return found


def batches_of(chunks: Iterable[Sequence[Row]]) -> Iterator[pa.RecordBatch]:
    """Rows of `KEY` as batches of `EVENT_SCHEMA`."""
    for rows in chunks:
        columns = zip(zip(*rows, strict=True), EVENT_SCHEMA.types, strict=True)
        yield pa.record_batch([pa.array(column, kind) for column, kind in columns], schema=EVENT_SCHEMA)
