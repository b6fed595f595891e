"""A copy of a ledger that is in use, checked before it gets its name."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from fedseg.errors import StorageError
from fedseg.ledger.checkpoint import Checkpoint
from fedseg.ledger.database import check_schema, connect, from_sqlite
from fedseg.ledger.reading import check_log, read_ledger
from fedseg.private_file import sync_directory


def back_up(source: Path, target: Path) -> Checkpoint:
    """Copy the ledger in `source` to the new file `target`, while others may write to it; what the copy holds.

    SQLite's own backup sees one moment between two commits. The copy is verified, and flushed to the disk, before it
    is called `target`; so a file of that name is whole.

    Raises:
        LedgerUnreadableError, VerificationError: If the ledger itself does not check out; then there is no copy.
        StorageError: If `target` is there already, or cannot be written.
    """
    if target.exists():
        raise _unwritten(target, "it is there already, and a backup is never written over")
    draft = target.with_name(f"{target.name}.part")
    try:
        _copy(source, draft)
        newest = check_log(read_ledger(draft), None)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.rename(target)
        sync_directory(target.parent)
    except sqlite3.Error as error:
        raise from_sqlite(source, error) from error
    except OSError as error:
        raise _unwritten(target, error.strerror or "unknown cause") from error
    finally:
        if draft.is_file():
            draft.unlink()
    return newest


def _copy(source: Path, draft: Path) -> None:
    draft.unlink(missing_ok=True)
    with closing(connect(source, "mode=rw")) as connection, closing(sqlite3.connect(draft)) as copy:
        check_schema(connection, source)
        connection.backup(copy)
        # At rest everything stands in the one file, with no log beside it.
        copy.execute("PRAGMA journal_mode=DELETE")
        copy.execute("PRAGMA journal_mode=WAL")
    for suffix in ("-wal", "-shm"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)


def _unwritten(target: Path, why: str) -> StorageError:
    return StorageError(f"no backup was made at {target}", why=why, fix="name another --out, on a disk with room")
