"""Taking people's rows out of a unit's files of customers: each is written anew without them, then put in its place.

A database is only ever read: there, fedseg says what to delete, and looks whether it is gone.

Whoever reads the old file at that moment goes on reading it to its end; whoever opens it later sees the new one. Lines
of others stay as they are, byte for byte. Blocks that the old file had on the disk are freed, not overwritten.
"""

import csv
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fedseg.errors import StorageError
from fedseg.node.home import NodeHome
from fedseg.node.source import open_stored, subject_key
from fedseg.node.sources.cells import identifiers_of
from fedseg.node.sources.choice import stored_files
from fedseg.node.sources.files import BATCH_ROWS, Files
from fedseg.node.sources.lines import BYTE_ORDER_MARK, fields_in
from fedseg.node.sources.rows import Rows
from fedseg.private_file import sync_directory, write_new


def erase_rows(home: NodeHome, subjects: Collection[bytes]) -> None:
    """Remove every row of these people from the unit's files; a file without such a row stays as it is.

    A line of a CSV file that is no record by itself, and so is never counted, goes too if one of its fields names one
    of them.

    Args:
        home: The unit.
        subjects: Their pseudonyms.

    Raises:
        DataError, MissingColumnError: If the source cannot be read.
        StorageError: If a file cannot be written, or somebody else wrote it meanwhile; then it is as it was. Or if a
            database still holds a row of theirs.
    """
    rows = open_stored(home)
    if not isinstance(rows, Files):
        _require_gone(home, rows, subjects)
        return
    for part in rows.parts():
        _erase_rows_of(home, part, subjects)


def source_files(home: NodeHome) -> list[Path]:
    """The files that hold the unit's customers; none if a database server does."""
    return stored_files(home.path, home.settings.source)


def _erase_rows_of(home: NodeHome, path: Path, subjects: Collection[bytes]) -> None:
    draft = path.with_name(f".{path.name}.erasing")
    write = _write_parquet if home.settings.source.format == "parquet" else _write_csv
    try:
        before = path.stat()
        _make_alike(draft, path)
        if write(home, path, draft, subjects):
            _put_in_place(draft, path, before)
    except OSError as error:
        raise _unwritten(path, error.strerror or "unknown cause") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def named_in_source(home: NodeHome, subjects: Collection[bytes]) -> list[bytes]:
    """LOCAL: the identifiers of these people as they stand in the unit's source, each once: what `erase_rows` removes.

    Raises:
        DataError, MissingColumnError: If the source cannot be read.
        StorageError: As `erase_rows`.
    """
    rows, secret = open_stored(home), home.subject_secret
    named = _named_in_files(home, rows) if isinstance(rows, Files) else _named_in(home, rows)
    return list(dict.fromkeys(one for one in named if one and subject_key(one, secret) in subjects))


def _require_gone(home: NodeHome, rows: Rows, subjects: Collection[bytes]) -> None:
    """Nobody of them has a row in the database."""
    secret, settings = home.subject_secret, home.settings.source
    if subjects and any(one and subject_key(one, secret) in subjects for one in _named_in(home, rows)):
        column = settings.subject.replace('"', '""')
        statement = f'DELETE FROM {settings.table} WHERE "{column}" IN (...)'  # noqa: S608 (for people)
        raise StorageError(
            "the database still holds rows of people who are to be erased",
            why="fedseg only reads it, so it erases nothing there; none of them is counted meanwhile",
            fix=(
                f"let its operator run, with the identifiers of the request: {statement}; then VACUUM, and see to its "
                "copies and backups; then run the same command again, which looks for them"
            ),
        )


def _named_in(home: NodeHome, rows: Rows) -> Iterator[bytes | None]:
    for batch in rows.read([home.settings.source.subject]):
        yield from identifiers_of(batch.column(0))


def _named_in_files(home: NodeHome, rows: Files) -> Iterator[bytes | None]:
    named = _named_in_parquet if rows.kind == "parquet" else _named_in_csv
    for part in rows.parts():
        try:
            yield from named(home, part)
        except OSError as error:
            raise _unwritten(part, error.strerror or "unknown cause") from error


def _make_alike(draft: Path, path: Path) -> None:
    """An empty file that the same people may read."""
    draft.unlink(missing_ok=True)
    write_new(draft, b"")
    owner = path.stat()
    if (os.geteuid(), os.getegid()) != (owner.st_uid, owner.st_gid):
        os.chown(draft, owner.st_uid, owner.st_gid)
    shutil.copymode(path, draft)


def _put_in_place(draft: Path, path: Path, before: os.stat_result) -> None:
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    now = path.stat()
    if (now.st_ino, now.st_mtime_ns, now.st_size) != (before.st_ino, before.st_mtime_ns, before.st_size):
        raise _unwritten(path, "somebody else wrote the file at the same time")
    draft.replace(path)
    sync_directory(path.parent)


def _write_csv(home: NodeHome, path: Path, draft: Path, subjects: Collection[bytes]) -> int:
    removed, secret = 0, home.subject_secret
    with path.open("rb") as source, draft.open("wb") as target:
        header = source.readline()
        target.write(header)
        for line, named in _records(home, header, source):
            if any(one and subject_key(one, secret) in subjects for one in named):
                removed += 1
            else:
                target.write(line)
    return removed


def _named_in_csv(home: NodeHome, path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        for _, named in _records(home, source.readline(), source):
            yield from named


def _records(home: NodeHome, header: bytes, lines: Iterable[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    """Each line, and whom it may be about."""
    names = _cells(header.removeprefix(BYTE_ORDER_MARK))
    place = names.index(home.settings.source.subject.encode())
    for line in lines:
        yield line, _cells(line)[place : place + 1] if fields_in(line) == len(names) else _pieces(line)


def _cells(record: bytes) -> list[bytes]:
    """The fields of a line that is one record."""
    text = record.rstrip(b"\r\n").decode("latin-1")  # one character a byte, and back again
    return [one.encode("latin-1") for one in next(csv.reader([text]), [])]


def _pieces(line: bytes) -> list[bytes]:
    """What stands between separators and quotes in a line that is no record."""
    return re.split(rb'[",\r\n]+', line)


def _write_parquet(home: NodeHome, path: Path, draft: Path, subjects: Collection[bytes]) -> int:
    secret, removed = home.subject_secret, 0
    with pq.ParquetFile(path) as source, pq.ParquetWriter(draft, source.schema_arrow) as target:
        for batch in source.iter_batches(BATCH_ROWS, use_threads=False):
            identifiers = identifiers_of(batch.column(home.settings.source.subject))
            kept = [one is None or subject_key(one, secret) not in subjects for one in identifiers]
            removed += kept.count(False)
            target.write_batch(batch.filter(pa.array(kept, pa.bool_())))
    return removed


def _named_in_parquet(home: NodeHome, path: Path) -> Iterator[bytes | None]:
    with pq.ParquetFile(path) as source:
        for batch in source.iter_batches(BATCH_ROWS, columns=[home.settings.source.subject], use_threads=False):
            yield from identifiers_of(batch.column(0))


def _unwritten(path: Path, why: str) -> StorageError:
    return StorageError(
        "the source was not written anew, and is as it was",
        why=f"{path.name}: {why}",
        fix="let the unit's user write the file and its folder, with room for a copy, then run the same command again",
    )
