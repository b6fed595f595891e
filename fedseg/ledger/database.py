"""The SQLite side of a ledger file: its fixed schema, how a connection is made, and what SQLite's errors mean to us."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fedseg.errors import FedsegError, LedgerUnreadableError, StorageError

APPLICATION_ID = 0x46_53_4C_31
"""`FSL1`: marks the file as ours in SQLite's header."""
USER_VERSION = 1
"""Of the tables. Whoever raises it brings the step from the version before, and gives the tests a file of that one."""
BUSY_TIMEOUT_SECONDS = 10.0
TABLES = {
    "leaf": "CREATE TABLE leaf (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT",
    "checkpoint": "CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT",
    "payload": "CREATE TABLE payload (id TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT",
}
_SCHEMA = sorted(
    [("table", name, name, sql) for name, sql in TABLES.items()]
    # SQLite makes this index itself, because the key of `payload` is text.
    + [("index", "sqlite_autoindex_payload_1", "payload", None)]
)
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What a statement on a damaged file may raise: SQLite quotes the damage in its message, which need not be UTF-8."""
_DAMAGED = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_TOOBIG,
        # Our own statements are right and our keys are new: if these fail, the tables are not what we made.
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
    }
)


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection to the existing file `path`, in which no schema is trusted and every commit is a real one.

    Args:
        path: The file.
        mode: SQLite's URI parameters, such as `mode=rw`; a missing file is never created.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS
    )
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA synchronous=FULL")
    except SQLITE_ERRORS:
        connection.close()
        raise
    return connection


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is not exactly ours; reads no row of any table.

    Raises:
        LedgerUnreadableError: If application id, version or any schema object differ: a view, a trigger or one more
            table is enough.
    """
    application, version = scalar(connection, "PRAGMA application_id"), scalar(connection, "PRAGMA user_version")
    if application == APPLICATION_ID and isinstance(version, int) and version > USER_VERSION:
        raise LedgerUnreadableError(
            f"{path} was written by a later version of fedseg",
            why=f"its format is version {version}, and this one reads up to {USER_VERSION}",
            fix="pip install --upgrade fedseg; nothing of the ledger is lost, and nothing was changed",
        )
    if (application, version) != (APPLICATION_ID, USER_VERSION):
        raise unreadable(path, "its application id or version is not that of a ledger")
    objects = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema LIMIT ?", (len(_SCHEMA) + 1,))
    if sorted(objects.fetchall()) != _SCHEMA:
        raise unreadable(path, "its tables are not exactly those of a ledger")


def scalar(connection: sqlite3.Connection, query: str) -> object:
    """The first column of the first row, or None."""
    row: tuple[object, ...] | None = connection.execute(query).fetchone()
    return None if row is None else row[0]


@contextmanager
def storage_errors(path: Path) -> Generator[None, None, None]:
    """SQLite's errors inside the block as ours: damage as `LedgerUnreadableError`, the rest as `StorageError`."""
    try:
        yield
    except SQLITE_ERRORS as error:
        raise from_sqlite(path, error) from error


def from_sqlite(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> FedsegError:
    """What `error` means to the operator of the ledger at `path`."""
    # Errors that Python's module finds itself (text that is not UTF-8) have no code: they too are damage.
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    if code & 0xFF in _DAMAGED:
        return unreadable(path, "SQLite finds it damaged or not a database")
    return StorageError(
        f"the ledger {path} cannot be used now",
        why=f"SQLite reports {getattr(error, 'sqlite_errorname', 'an error')}; what was committed is intact",
        fix="check free space, the permissions of file and directory, and whether another process holds the ledger",
    )


def unreadable(path: Path, why: str) -> LedgerUnreadableError:
    """The error for a file that is no ledger."""
    return LedgerUnreadableError(
        f"{path} is not a ledger that can be read",
        why=why,
        fix="check the path, or restore the ledger from a copy that verifies",
    )
