"""Encrypted backups of a unit's customers and consents, which end with the key of their month.

A backup holds personal data, and nobody can take one person out of it. So each is encrypted with the key of its month,
which stays in the unit and is destroyed when the policy's `backup_days` after that month are over: then no copy of the
file can be read by anybody. Ledger, keys and the list of erased people are in no backup: an older ledger would have
forgotten what was spent, an older list who was erased.
"""

import functools
import hashlib
import io
import itertools
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, BinaryIO, Final

import pyarrow as pa

from fedseg.errors import SettingsError, StorageError
from fedseg.ledger.canonical import Json
from fedseg.node.backup.keys import MonthKey, key_of_month, month_keys
from fedseg.node.backup.sealed_file import FRAME_BYTES, SealedReader, SealingWriter, changed
from fedseg.node.consent.register import DELIVERY_SCHEMA, Delivery, ImportNote, Register
from fedseg.node.home import NodeHome
from fedseg.node.rights.erasure import remove_returned
from fedseg.node.rights.source_erasure import source_files
from fedseg.private_file import replacing

_CUSTOMERS: Final = "customers"
_CONSENT: Final = "consent"
_BATCH_ROWS: Final = 65_536
_END: Final = DELIVERY_SCHEMA.get_field_index("valid_until")


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore brought back. LOCAL."""

    customers: bool
    """Whether the file of customers was missing, and is there again."""
    events: int
    """Consent events that the register did not know."""
    denied: int
    """Customers who are denied until an import corrects this one: nobody knows what they said since the backup."""
    import_id: str


def back_up(home: NodeHome, target: Path, now: datetime) -> MonthKey:
    """Write the unit's customers and consents, encrypted, into a new file; the key that it ends with.

    Raises:
        PolicyError: If the policy does not say how long backups are kept.
        DataError, StorageError: If something cannot be read or written; then there is no new file.
    """
    month = key_of_month(home, now)
    try:
        if target.exists():
            raise _unwritten(target, "it is there already, and a backup is never written over")
        with replacing(target) as file:
            _write(home, file, month, now)
    except OSError as error:
        raise _unwritten(target, error.strerror or "unknown cause") from error
    return month


def restore(home: NodeHome, source: Path, now: datetime) -> Restored:
    """Bring back what is missing: the file of customers if it is gone, and consent events that the register lacks.

    A register that is empty has lost what people said since the backup. Then everybody in the backup is denied, until
    a new import of consents that names this one with `corrects`. Erased people do not come back.

    Raises:
        VerificationError: If the file is no backup of this unit, was changed, or its key is destroyed.
        DataError, StorageError: If something cannot be read or written.
    """
    with _open(source) as file:
        # Once to its end, so that nothing is taken from a file that was changed or cut short.
        whole = SealedReader(file, functools.partial(_key_for, home))
        while whole.read(FRAME_BYTES):
            pass
        file.seek(0)
        with tarfile.open(fileobj=SealedReader(file, functools.partial(_key_for, home)), mode="r|") as archive:
            found = _take_back(home, archive, now)
    remove_returned(home)
    return found


# Writing


def _write(home: NodeHome, file: BinaryIO, month: MonthKey, now: datetime) -> None:
    made_at = now.astimezone(UTC).isoformat()
    header: dict[str, Json] = {"made_at": made_at, "month": month.month, "unit": home.settings.unit, "version": 1}
    sink = SealingWriter(file, month.key, header)
    with tarfile.open(fileobj=sink, mode="w|") as archive, home.nameless_file() as consents:
        with _customers_file(home).open("rb") as rows:
            archive.addfile(_member(_CUSTOMERS, os.fstat(rows.fileno()).st_size), rows)
        _write_consents(home, consents)
        archive.addfile(_member(_CONSENT, consents.seek(0, io.SEEK_END)), _rewound(consents))
    sink.finish()


def _customers_file(home: NodeHome) -> Path:
    """The file of customers, if they are in one: other places have backups of their own.

    Raises:
        SettingsError: If they are not.
    """
    source = home.settings.source
    path = home.path / source.path
    if not source.in_database and source_files(home) == [path]:
        return path
    raise SettingsError(
        "this unit's customers are not in one file",
        why="they are in a database or in several files, and a backup of the unit holds one",
        fix="back them up where they are, with keys that end in time, so that erasures reach the copies",
    )


def _write_consents(home: NodeHome, file: IO[bytes]) -> None:
    """All events with their evidence, as an Arrow stream."""
    with _register(home) as register, pa.ipc.new_stream(file, DELIVERY_SCHEMA) as out:
        rows = register.rows("event")
        while chunk := list(itertools.islice(rows, _BATCH_ROWS)):
            columns = list(zip(*chunk, strict=True))
            columns[_END] = tuple(end or None for end in columns[_END])  # 0 is no end
            arrays = [pa.array(cells, one.type) for cells, one in zip(columns, DELIVERY_SCHEMA, strict=True)]
            out.write_batch(pa.RecordBatch.from_arrays(arrays, schema=DELIVERY_SCHEMA))


def _register(home: NodeHome) -> Register:
    """The unit's register, if it is a file: a database has backups of its own.

    Raises:
        SettingsError: If it is none.
    """
    register = home.register()
    if isinstance(register, Register):
        return register
    register.close()
    raise SettingsError(
        "this unit's consents are in a database",
        why="fedseg backs up what is in the unit's own files",
        fix="back them up with the database's own means, encrypted, and no longer than the policy allows",
    )


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def _rewound(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file


# Reading


def _open(source: Path) -> io.BufferedReader:
    try:
        return source.open("rb")
    except OSError as error:
        raise StorageError(
            f"{source} cannot be read", why=error.strerror or "unknown cause", fix="check the path"
        ) from error


def _key_for(home: NodeHome, header: Mapping[str, Json]) -> bytes:
    """The key that a backup of this unit asks for.

    Raises:
        VerificationError: If it is of another unit, or its key is destroyed.
    """
    if header.get("unit") != home.settings.unit:
        raise changed(f"it is of the unit {header.get('unit')}")
    key = next((one.key for one in month_keys(home) if one.month == header.get("month")), None)
    if key is None:
        raise changed(f"the key of {header.get('month')} is not there: it was destroyed when its time was over")
    return key


def _take_back(home: NodeHome, archive: tarfile.TarFile, now: datetime) -> Restored:
    customers, events, denied, import_id = False, 0, 0, ""
    for member in archive:
        content = archive.extractfile(member)
        if content is None or member.name not in {_CUSTOMERS, _CONSENT}:
            raise changed("it holds something else")
        if member.name == _CUSTOMERS:
            customers = _put_customers_back(home, content)
        else:
            events, denied, import_id = _put_consents_back(home, content, now)
    return Restored(customers, events, denied, import_id)


def _put_customers_back(home: NodeHome, content: IO[bytes]) -> bool:
    path = _customers_file(home)
    if path.exists():
        return False
    try:
        with replacing(path, home.hand_over) as file:
            shutil.copyfileobj(content, file, FRAME_BYTES)
    except OSError as error:
        raise _unwritten(path, error.strerror or "unknown cause") from error
    return True


def _put_consents_back(home: NodeHome, content: IO[bytes], now: datetime) -> tuple[int, int, str]:
    digest = hashlib.sha256()
    with home.nameless_file() as file, _register(home) as register:
        while piece := content.read(FRAME_BYTES):
            digest.update(piece)
            file.write(piece)

        def batches() -> Iterator[pa.RecordBatch]:
            file.seek(0)
            with pa.ipc.open_stream(file) as found:
                yield from found

        is_lost = next(register.rows("event"), None) is None
        lines = sum(batch.num_rows for batch in batches())
        people = frozenset(one for batch in batches() for one in batch.column("subject").to_pylist()) if is_lost else ()
        import_id = digest.hexdigest()[:16]
        note = ImportNote(import_id, now, "backup", "0" * 64, digest.hexdigest(), lines, lines, 0)
        new = register.take_in(Delivery(note, batches, frozenset(people)))
    return new, len(people), import_id


def _unwritten(path: Path, why: str) -> StorageError:
    return StorageError(
        f"{path} was not written", why=why, fix="name another file, on a disk with room, in a folder you may write to"
    )
