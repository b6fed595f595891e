"""Opening a ledger that is not ours: the auditor's side. Nothing in the file is trusted, and the file stays untouched.

A live SQLite file is copied to a private directory and opened there. Its schema is compared before any row is read,
and its write-ahead log must be whole (`wal.py`): SQLite silently ignores a damaged one, which would
make the ledger shorter.
"""

import hashlib
import sqlite3
import tempfile
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copyfile
from typing import cast

from fedseg.errors import StorageError
from fedseg.ledger.database import SQLITE_ERRORS, check_schema, connect, scalar, unreadable
from fedseg.ledger.entries import PAYLOAD_LIMIT_BYTES
from fedseg.ledger.export import EXPORT_HEADER, parse_export
from fedseg.ledger.raw import RawLedger, check_log
from fedseg.ledger.tiles import is_tiles, read_tiles
from fedseg.ledger.wal import explains

__all__ = ["RawLedger", "check_log", "read_ledger"]

FILE_LIMIT_BYTES = 1024 * 1024 * 1024
"""Largest file that is read at all."""
_SQLITE_HEADER = b"SQLite format 3\x00"
_COPY_ATTEMPTS = 20
_COPY_PAUSE_SECONDS = 0.05


def read_ledger(path: Path) -> RawLedger:
    """The ledger in `path`: a SQLite file, also one that is in use, or an export, also one in tiles. Not checked yet.

    Not to be called while this process is inside a transaction on the same file: reading a file by other means
    than SQLite drops the process's locks on it (sqlite.org/howtocorrupt.html, section 2.2).

    Raises:
        LedgerUnreadableError: If the file is neither, or is damaged or foreign.
        VerificationError: If an entry is not canonical or not in its place.
        StorageError: If the file cannot be read or copied now.
    """
    with _os_errors(path):
        if is_tiles(path):
            return read_tiles(path)
        if not path.is_file():
            raise unreadable(path, "there is no such file")
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise unreadable(path, f"it is larger than {FILE_LIMIT_BYTES} bytes")
        with path.open("rb") as file:
            start = file.read(max(len(_SQLITE_HEADER), len(EXPORT_HEADER)))
        if start == EXPORT_HEADER:
            return parse_export(path.read_bytes())
        if not start.startswith(_SQLITE_HEADER):
            raise unreadable(path, "it is neither a SQLite file nor an export")
        with tempfile.TemporaryDirectory(prefix="fedseg-") as directory:
            copy = Path(directory) / "ledger"
            _copy_consistently(path, copy)
            with _sqlite_errors(path):
                _absorb_wal(path, copy)
                return _read_database(path, copy)


def _copy_consistently(path: Path, copy: Path) -> None:
    """Copy the file and its write-ahead log as they were at one moment."""
    if _beside(path, "-journal").exists():
        raise unreadable(path, "a rollback journal lies beside it, which no ledger has")
    for _ in range(_COPY_ATTEMPTS):
        for suffix in ("", "-wal"):
            _copy_or_remove(_beside(path, suffix), _beside(copy, suffix))
        # Nobody wrote while we copied if both files still are what we copied.
        if all(_digest(_beside(path, suffix)) == _digest(_beside(copy, suffix)) for suffix in ("", "-wal")):
            return
        time.sleep(_COPY_PAUSE_SECONDS)
    raise StorageError(
        f"the ledger {path} cannot be read now", why="it is being written all the time", fix="try again later"
    )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _copy_or_remove(source: Path, target: Path) -> None:
    """Make `target` what `source` is, also when `source` is not there (any more)."""
    try:
        copyfile(source, target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)


def _digest(path: Path) -> bytes:
    """SHA-256 of a file; of nothing when there is none, since an empty write-ahead log means the same as none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError:
        return hashlib.sha256().digest()


def _absorb_wal(path: Path, copy: Path) -> None:
    """Move the copy's write-ahead log into the copy, after checking that SQLite believes all of it."""
    wal = _beside(copy, "-wal")
    if not wal.exists() or wal.stat().st_size == 0:
        return
    frames = wal.read_bytes()
    with closing(connect(copy, "mode=rw")) as connection:
        _busy, believed, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if believed < 0 or moved != believed or not explains(frames, believed):
        raise unreadable(path, "its write-ahead log is damaged")


def _read_database(path: Path, copy: Path) -> RawLedger:
    # Immutable: no lock, no write-ahead log, nothing written; the copy is ours alone.
    with closing(connect(copy, "mode=ro&immutable=1")) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, PAYLOAD_LIMIT_BYTES + 1024)
        connection.execute("PRAGMA cell_size_check=ON")
        check_schema(connection, path)
        if scalar(connection, "PRAGMA integrity_check(1)") != "ok":
            raise unreadable(path, "SQLite finds it damaged")
        leaves = _rows(connection, path, "leaf", ("seq", "integer"), ("entry", "blob"))
        notes = _rows(connection, path, "checkpoint", ("size", "integer"), ("note", "text"))
        payloads = _rows(connection, path, "payload", ("id", "text"), ("data", "blob"))
    if [seq for seq, _ in leaves] != list(range(len(leaves))):
        raise unreadable(path, "its entries are not numbered from 0 without a gap")
    try:
        texts = [(cast("int", size), note.decode("utf-8")) for size, note in notes]
        named = {cast("bytes", id_).decode("ascii"): data for id_, data in payloads}
    except UnicodeDecodeError as error:
        raise unreadable(path, "a text in it is not text") from error
    return RawLedger.from_parts([entry for _, entry in leaves], texts, named)


def _rows(
    connection: sqlite3.Connection, path: Path, table: str, key_column: tuple[str, str], value_column: tuple[str, str]
) -> list[tuple[int | bytes, bytes]]:
    """All rows of a table in order of their keys, text as bytes, after a look at the type of every cell.

    A column is a name and the only type its cells may have.
    """
    (key, key_type), (value, value_type) = key_column, value_column
    shown = f"CAST({key} AS BLOB)" if key_type == "text" else key
    query = f"SELECT typeof({key}), typeof({value}), {shown}, CAST({value} AS BLOB) FROM {table} ORDER BY {key}"  # noqa: S608 - names from this module only
    rows: list[tuple[int | bytes, bytes]] = []
    for found_key_type, found_value_type, found_key, found_value in connection.execute(query):
        if (found_key_type, found_value_type) != (key_type, value_type):
            raise unreadable(path, f"a cell of its table {table} has the wrong type")
        rows.append((found_key, found_value))
    return rows


@contextmanager
def _sqlite_errors(path: Path) -> Generator[None, None, None]:
    """Whatever SQLite says about a copy that nobody else uses is the file's fault, unless the disk is full."""
    try:
        yield
    except SQLITE_ERRORS as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF == sqlite3.SQLITE_FULL:
            raise _unavailable(path, "no room for a private copy") from error
        raise unreadable(path, "SQLite finds it damaged or not a database") from error


@contextmanager
def _os_errors(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        raise _unavailable(path, error.strerror or "unknown cause") from error


def _unavailable(path: Path, why: str) -> StorageError:
    return StorageError(
        f"the ledger {path} cannot be read now",
        why=why,
        fix="check the permissions, and that there is room for a copy in the directory for temporary files",
    )
