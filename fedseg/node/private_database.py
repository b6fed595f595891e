"""SQLite files with personal data: their owner's alone, deleted content overwritten, no second copy after a commit.

A rollback journal is deleted with each commit; a write-ahead log would keep what was deleted. What a disk or a file
system keeps of overwritten and deleted files is out of reach.
"""

import sqlite3
import stat
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from fedseg.errors import DataError, StorageError
from fedseg.private_file import write_new

_BUSY_SECONDS: Final = 30.0
_SETTINGS: Final = ("journal_mode = DELETE", "synchronous = FULL", "secure_delete = ON", "trusted_schema = OFF")


def require_private(path: Path, name: str) -> None:
    """Refuse a file that others may open.

    Raises:
        StorageError: If they may; `name` says what it is.
    """
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise StorageError(
            f"the {name} is not private",
            why=f"other users of this machine may open {path}",
            fix=f"chmod 600 {path}",
        )


def create(path: Path, name: str, script: str, damaged: Callable[[Path], DataError]) -> None:
    """A new file that `script` fills as a whole, or none.

    Raises:
        StorageError: If the file is there already or cannot be written.
    """
    try:
        write_new(path, b"")
    except OSError as error:
        raise StorageError(
            f"the {name} cannot be created",
            why=f"{path}: {error.strerror}",
            fix="choose a new path in a folder that can be written",
        ) from error
    try:
        with storage_errors(path, name, damaged), closing(connect(path)) as connection:
            connection.executescript(f"BEGIN IMMEDIATE; {script} COMMIT;")
    except StorageError:
        path.unlink()
        raise


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str) -> Generator[sqlite3.Connection]:
    """What is done inside the block is committed as a whole, or not at all.

    Args:
        connection: Without a transaction.
        begin: The statement that begins one: `BEGIN` to read, `BEGIN IMMEDIATE` to write.
    """
    try:
        connection.execute(begin)
        yield connection
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def connect(path: Path) -> sqlite3.Connection:
    """A connection to an existing file, for one thread at a time; one that vanished is not replaced by an empty one."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        for setting in _SETTINGS:
            connection.execute(f"PRAGMA {setting}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def storage_errors(path: Path, name: str, damaged: Callable[[Path], DataError]) -> Generator[None]:
    """SQLite's errors inside the block as ours: damage as `damaged` says it, the rest as `StorageError`."""
    try:
        yield
    except sqlite3.ProgrammingError:
        # A closed connection, say: a mistake of the program, not of the file.
        raise
    except sqlite3.OperationalError as error:
        raise StorageError(
            f"the {name} cannot be read or written",
            why=f"{path}: {error.sqlite_errorname}; nothing of this change was kept",
            fix="wait for the command that writes it to end, then try again"
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            else "free disk space or correct the permissions of the file and its folder, then try again",
        ) from error
    except sqlite3.DatabaseError as error:
        raise damaged(path) from error
