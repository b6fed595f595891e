"""`PostgresRegister`: the same register as `Register`, in a PostgreSQL database on this machine.

The data process has no network, so the database is reached through a socket in the file system, and the operating
system says who asks: there is no password. One database holds one unit's register. A database keeps deleted rows until
it has vacuumed, and longer in its log and backups: whoever runs it answers for that.
"""

import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from typing import Any, Final, Self

import psycopg
import pyarrow as pa
from psycopg import sql

from fedseg.errors import DataError, StorageError
from fedseg.node.consent.register import (
    CHUNK_ROWS,
    EVIDENCE,
    KEY,
    NO_END,
    UNREAD,
    Delivery,
    ImportNote,
    Row,
    batches_of,
    event_row,
    from_microseconds,
    keys_of,
    new_salt,
    other_purposes,
    shown_event,
)
from fedseg.policy.consent import EVENT_SCHEMA, EVERY_PURPOSE, ConsentEvent, to_microseconds

SCHEMA_VERSION: Final = 2

_NO_EVIDENCE: Final = ("",) * len(EVIDENCE)
_LOCK_TIMEOUT: Final = "600s"

_EVENT_COLUMNS: Final = """
    subject BYTEA NOT NULL CHECK (octet_length(subject) = 16),
    purpose TEXT NOT NULL,
    kind TEXT NOT NULL,
    event_time BIGINT,
    recorded_at BIGINT,
    valid_until BIGINT NOT NULL,
    notice_version BIGINT NOT NULL,
    source TEXT NOT NULL DEFAULT '',
    record_id TEXT NOT NULL DEFAULT '',
    notice_uri TEXT NOT NULL DEFAULT '',
    notice_language TEXT NOT NULL DEFAULT '',
    method TEXT NOT NULL DEFAULT ''
"""

_SCHEMA: Final = f"""
CREATE SCHEMA fedseg;
CREATE TABLE fedseg.register (version INTEGER NOT NULL, unit TEXT NOT NULL);
CREATE TABLE fedseg.event ({_EVENT_COLUMNS},
    PRIMARY KEY (subject, purpose, kind, event_time, recorded_at, valid_until, notice_version));
CREATE TABLE fedseg.gate_salt (release_id TEXT PRIMARY KEY, salt BYTEA NOT NULL CHECK (octet_length(salt) = 32));
CREATE TABLE fedseg.import (
    id TEXT PRIMARY KEY, imported_at BIGINT NOT NULL, mapping TEXT NOT NULL, mapping_sha256 TEXT NOT NULL,
    file_sha256 TEXT NOT NULL, lines BIGINT NOT NULL, events BIGINT NOT NULL, refused BIGINT NOT NULL);
CREATE TABLE fedseg.unread (
    import TEXT NOT NULL, subject BYTEA NOT NULL CHECK (octet_length(subject) = 16), imported_at BIGINT NOT NULL,
    PRIMARY KEY (import, subject));
"""

# One parameter: the moment of import. What the three mean stands beside the statements of `Register`.
_INSERT: Final = """INSERT INTO fedseg.event SELECT subject, purpose, kind, coalesce(event_time, %(now)s),
    coalesce(recorded_at, %(now)s), valid_until, notice_version, source, record_id, notice_uri, notice_language, method
    FROM incoming AS one"""
_STATED: Final = f"""{_INSERT} WHERE event_time IS NOT NULL AND recorded_at IS NOT NULL ON CONFLICT DO NOTHING"""
_HEARD_NOW: Final = f"""{_INSERT} WHERE event_time IS NOT NULL AND recorded_at IS NULL AND NOT EXISTS (
    SELECT FROM fedseg.event AS known WHERE known.subject = one.subject AND known.purpose = one.purpose
        AND known.kind = one.kind AND known.event_time = one.event_time AND known.recorded_at <= %(now)s
        AND known.valid_until = one.valid_until AND known.notice_version = one.notice_version
) ON CONFLICT DO NOTHING"""
_UNDATED: Final = f"""{_INSERT} WHERE event_time IS NULL AND NOT EXISTS (
    SELECT FROM fedseg.event AS known WHERE known.subject = one.subject AND known.purpose = one.purpose
        AND known.kind = one.kind AND greatest(known.event_time, known.recorded_at) <= %(now)s
        AND known.event_time >= coalesce((
            SELECT max(other.event_time) FROM fedseg.event AS other WHERE other.subject = one.subject
                AND other.purpose = one.purpose AND other.kind <> one.kind
        ), known.event_time)
) ON CONFLICT DO NOTHING"""  # noqa: S608 (nothing but what stands here)

_NAMED: Final = f"""DELETE FROM fedseg.event USING incoming AS one WHERE
    {" AND ".join(f"event.{name} = one.{name}" for name in KEY)}"""  # noqa: S608 (our own names)


class PostgresRegister:
    """An open register. Several threads may use one; processes open one each, and not across a fork."""

    def __init__(self, url: str) -> None:
        self._lock: Final = threading.Lock()
        self._connection: Final = _connect(url)

    @classmethod
    def open(cls, url: str, unit: str) -> Self:
        """The unit's register.

        Raises:
            DataError: If the database holds no register of this version, or another unit's.
            StorageError: If the database cannot be reached.
        """
        register = cls(url)
        if register._marks() != [(SCHEMA_VERSION, unit)]:
            register.close()
            raise _not_a_register(unit)
        return register

    @classmethod
    def create(cls, url: str, unit: str) -> Self:
        """An empty register in a database that holds none.

        Raises:
            StorageError: If the database cannot be reached or written, or holds a register already.
        """
        with cls(url) as register, register._transaction() as cursor:
            cursor.execute(_SCHEMA.encode())
            cursor.execute("INSERT INTO fedseg.register VALUES (%s, %s)", (SCHEMA_VERSION, unit))
        return cls.open(url, unit)

    @classmethod
    def open_or_create(cls, url: str, unit: str) -> Self:
        """The unit's register; an empty one if the database holds none."""
        with cls(url) as register:
            is_there = register._marks() != []
        return cls.open(url, unit) if is_there else cls.create(url, unit)

    @classmethod
    def check(cls, url: str) -> None:
        """Nothing, if the database can be reached.

        Raises:
            StorageError: If not.
        """
        cls(url).close()

    def append_events(self, events: Iterable[ConsentEvent]) -> int:
        """As `Register.append_events`."""
        with self._writing() as cursor:
            _bring(cursor, ((*event_row(event), *_NO_EVIDENCE) for event in events))
            cursor.execute(_STATED.encode(), {"now": 0})
            return cursor.rowcount

    def take_in(self, delivery: Delivery) -> int:
        """As `Register.take_in`."""
        note, moment = delivery.note, to_microseconds(delivery.note.imported_at)
        with self._writing() as cursor:
            _bring(cursor, (row for batch in delivery.batches() for row in _rows(batch)))
            new = 0
            for statement in (_STATED, _HEARD_NOW, _UNDATED):
                cursor.execute(statement.encode(), {"now": moment})
                new += cursor.rowcount
            cursor.execute("DELETE FROM fedseg.import WHERE id = %s", (note.id,))
            kept = (note.id, moment, *astuple(note)[2:])
            cursor.execute("INSERT INTO fedseg.import VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", kept)
            cursor.execute("DELETE FROM fedseg.unread WHERE import = %s", (delivery.corrects,))
            cursor.executemany(
                "INSERT INTO fedseg.unread VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                [(note.id, subject, moment) for subject in delivery.unread],
            )
            return new

    def imports(self) -> list[ImportNote]:
        """As `Register.imports`."""
        with self._transaction() as cursor:
            found = cursor.execute("SELECT * FROM fedseg.import ORDER BY imported_at DESC, id").fetchall()
        return [ImportNote(id_, from_microseconds(at), *rest) for id_, at, *rest in found]

    def knows(self, subjects: Iterable[bytes]) -> int:
        """As `Register.knows`."""
        with self._transaction() as cursor:
            cursor.execute(
                "SELECT count(*) FROM unnest(%s::bytea[]) AS asked (subject)"
                " WHERE EXISTS (SELECT FROM fedseg.event WHERE event.subject = asked.subject)",
                (list(subjects),),
            )
            ((count,),) = cursor.fetchall()
        return int(count)

    def events(self, purpose: str) -> pa.Table:
        """As `Register.events`."""
        return pa.Table.from_batches(self.events_in_order(purpose), EVENT_SCHEMA)

    def events_in_order(self, purpose: str) -> Generator[pa.RecordBatch]:
        """As `Register.events_in_order`; the database sorts them."""
        with self._transaction() as plain, self._connection.cursor("events", binary=True) as cursor:
            # All will be fetched: a plan that has the first ones soon, by an index, reads the table in random order.
            plain.execute("SET LOCAL cursor_tuple_fraction = 1")
            cursor.execute(
                "SELECT subject, purpose, kind, event_time, recorded_at, nullif(valid_until, %s), notice_version"
                " FROM fedseg.event WHERE purpose <> ALL (%s)"
                " UNION ALL SELECT subject, %s, %s, imported_at, imported_at, NULL, 0 FROM fedseg.unread ORDER BY 1",
                (NO_END, other_purposes(purpose), EVERY_PURPOSE, UNREAD),
            )
            yield from batches_of(iter(lambda: cursor.fetchmany(CHUNK_ROWS), []))

    def events_of(self, subject: bytes) -> list[dict[str, str | None]]:
        """As `Register.events_of`."""
        with self._transaction() as cursor:
            cursor.execute("SELECT * FROM fedseg.event WHERE subject = %s ORDER BY event_time, kind", (subject,))
            return [shown_event(row) for row in cursor.fetchall()]

    def forget_subjects(self, subjects: Iterable[bytes]) -> None:
        """Delete everything about these people; the database keeps it until it has vacuumed, which it is told to."""
        gone = list(subjects)
        with self._writing() as cursor:
            cursor.execute("DELETE FROM fedseg.event WHERE subject = ANY (%s::bytea[])", (gone,))
            cursor.execute("DELETE FROM fedseg.unread WHERE subject = ANY (%s::bytea[])", (gone,))
        self._vacuum()

    def forget_events(self, events: pa.Table) -> int:
        """As `Register.forget_events`; the database keeps them until it has vacuumed, which it is told to."""
        with self._writing() as cursor:
            _bring(cursor, (row + _NO_EVIDENCE for batch in events.to_batches() for row in keys_of(batch)))
            cursor.execute(_NAMED.encode())
            gone = cursor.rowcount
        self._vacuum()
        return gone

    def gate_salt(self, release_id: str) -> bytes:
        """As `Register.gate_salt`."""
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT INTO fedseg.gate_salt VALUES (%s, %s) ON CONFLICT DO NOTHING", (release_id, new_salt())
            )
            cursor.execute("SELECT salt FROM fedseg.gate_salt WHERE release_id = %s", (release_id,))
            ((salt,),) = cursor.fetchall()
        assert isinstance(salt, bytes)
        return salt

    def forget_salt(self, release_id: str) -> None:
        """As `Register.forget_salt`; the database keeps it until it has vacuumed, which it is told to."""
        with self._transaction() as cursor:
            cursor.execute("DELETE FROM fedseg.gate_salt WHERE release_id = %s", (release_id,))
        self._vacuum()

    def fill(self, tables: Iterable[tuple[str, Iterator[Row]]]) -> None:
        """Hold exactly these rows from now on, or what it held before if anything fails."""
        with self._writing() as cursor:
            for name, rows in tables:
                table = sql.Identifier("fedseg", name)
                cursor.execute(sql.SQL("DELETE FROM {}").format(table))
                _copy(cursor, sql.SQL("COPY {} FROM STDIN").format(table), rows)

    def close(self) -> None:
        """Close the connection; nothing more can be asked."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _marks(self) -> list[Row]:
        """What the database says of its register; nothing if there is none."""
        with self._transaction() as cursor:
            cursor.execute("SELECT to_regclass('fedseg.register') IS NOT NULL")
            if cursor.fetchall() != [(True,)]:
                return []
            return cursor.execute("SELECT version, unit FROM fedseg.register").fetchall()

    @contextmanager
    def _transaction(self) -> "Generator[psycopg.Cursor[Any]]":
        """One transaction, for one thread at a time: committed as a whole, or not at all."""
        with self._lock, _storage_errors(), self._connection.transaction(), self._connection.cursor() as cursor:
            yield cursor

    @contextmanager
    def _writing(self) -> "Generator[psycopg.Cursor[Any]]":
        """The same, for one writer of events at a time; readers go on."""
        with self._transaction() as cursor:
            cursor.execute("LOCK TABLE fedseg.event IN SHARE ROW EXCLUSIVE MODE")
            yield cursor

    def _vacuum(self) -> None:
        with self._lock, _storage_errors():
            for name in ("event", "unread", "gate_salt"):
                self._connection.execute(sql.SQL("VACUUM {}").format(sql.Identifier("fedseg", name)))


def _connect(url: str) -> "psycopg.Connection[Any]":
    with _storage_errors():
        # Committed where a statement is alone, so that VACUUM can be: transactions are begun by name.
        connection = psycopg.connect(url, autocommit=True, connect_timeout=10)
        connection.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
        return connection


def _bring(cursor: "psycopg.Cursor[Any]", rows: Iterable[Row]) -> None:
    """Put rows into a table of this transaction, `incoming`."""
    cursor.execute(f"CREATE TEMPORARY TABLE incoming ({_EVENT_COLUMNS}) ON COMMIT DROP".encode())
    _copy(cursor, sql.SQL("COPY incoming FROM STDIN"), rows)
    cursor.execute("ANALYZE incoming")


def _copy(cursor: "psycopg.Cursor[Any]", statement: sql.SQL | sql.Composed, rows: Iterable[Row]) -> None:
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _rows(batch: pa.RecordBatch) -> Iterator[Row]:
    whole = (one.cast(pa.int64()) if pa.types.is_timestamp(one.type) else one for one in batch.columns)
    for row in zip(*(one.to_pylist() for one in whole), strict=True):
        yield (*row[:5], NO_END if row[5] is None else row[5], *row[6:])


@contextmanager
def _storage_errors() -> Generator[None]:
    try:
        yield
    except psycopg.Error as error:
        # The server's own text may repeat a row: its code and kind say enough.
        raise StorageError(
            "the consent register's database cannot be read or written",
            why=f"{type(error).__name__}, SQLSTATE {error.sqlstate or 'none'}; nothing of this change was kept",
            fix="see that the database runs, has room and lets this user in, and that node.toml names it rightly",
        ) from error


def _not_a_register(unit: str) -> DataError:
    return DataError(
        "the consent register cannot be read",
        why=f"the database that node.toml names holds no register of version {SCHEMA_VERSION} of unit {unit}",
        fix="correct [register] in node.toml, or make the register there: fedseg consent move --node HOME",
    )
