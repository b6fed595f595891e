"""Consent comes into a unit's register: from exports, and as withdrawals.

An export is read once, each line into events, which wait in a file without a name: however the process ends, nothing of
it stays. Only when all was read does one transaction store them. So an import holds nothing or everything, and a killed
one is started again from the beginning. Identifiers are hashed as they are read, and neither stored nor named.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa

from fedseg.errors import ConsentEventError, DataError, SettingsError, StorageError
from fedseg.ledger.canonical import sha256_hex
from fedseg.node.consent.file import ConsentFile, Record
from fedseg.node.consent.mapping import ConsentMapping, ReadEvent, load_mapping, read_events, read_identifier
from fedseg.node.consent.register import DELIVERY_SCHEMA, EVIDENCE, Delivery, ImportNote
from fedseg.node.home import LOCAL, NodeHome
from fedseg.node.source import subject_key
from fedseg.node.sources.lines import BYTE_ORDER_MARK
from fedseg.policy.consent import EVENT_SCHEMA, ConsentEvent, Status
from fedseg.policy.purposes import Purpose
from fedseg.private_file import replacing

FOLDER: Final = "imports"
"""Below LOCAL: reports of refused lines."""

ID_DIGITS: Final = 16
IDENTIFIER_BYTES_MAX: Final = 4096

_BATCH_ROWS: Final = 65_536
_LINES_BETWEEN_PROGRESS: Final = 4096

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, or would do. LOCAL: exact counts never leave the unit."""

    note: ImportNote
    new: int | None
    """Events that the register did not know; None if nothing was stored."""
    kinds: dict[str, int]
    """Events by kind."""
    reasons: dict[str, int]
    """Refused lines by reason."""
    unattributed: int
    """Refused lines of which nobody can say whom they are about."""
    report: Path | None
    """File with the number and the reason of every refused line."""


@dataclass(slots=True)
class _Intake:
    """Reads an export: events into one file, refused lines into another, and counts them."""

    home: NodeHome
    mapping: ConsentMapping
    now: datetime
    stage: BinaryIO
    """Takes batches of `DELIVERY_SCHEMA`."""
    report: BinaryIO
    """Takes a line for every refused line."""
    erased: frozenset[bytes] = frozenset()
    """Customers about whom nothing is kept any more."""
    lines: int = 0
    events: int = 0
    refused: int = 0
    unattributed: int = 0
    kinds: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])
    unread: set[bytes] = field(default_factory=set[bytes])
    """Customers with a refused line."""

    def read(self, source: ConsentFile, progress: Progress) -> None:
        """Read the whole export."""
        self.report.write(b"line,reason\n")
        waiting: list[ReadEvent] = []
        with pa.ipc.new_stream(self.stage, DELIVERY_SCHEMA) as out:
            for number, record in source.records():
                if self.lines % _LINES_BETWEEN_PROGRESS == 0:
                    progress("reading the export", source.done, source.size)
                self.lines += 1
                try:
                    waiting += self._events(record)
                except ConsentEventError as error:
                    self._refuse(number, error.why)
                if len(waiting) >= _BATCH_ROWS:
                    out.write_batch(self._batch(waiting))
                    waiting.clear()
            out.write_batch(self._batch(waiting))
        self.stage.flush()
        self.report.flush()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """What was read, from the beginning."""
        self.stage.seek(0)
        with pa.ipc.open_stream(self.stage) as found:
            yield from found

    def _events(self, record: Record | ConsentEventError) -> list[ReadEvent]:
        """The events of one line.

        Raises:
            ConsentEventError: If it cannot be read; the customer, if known, is noted as unread.
        """
        try:
            if isinstance(record, ConsentEventError):
                raise record
            identifier = read_identifier(self.mapping, record)
        except ConsentEventError:
            self.unattributed += 1
            raise
        subject = subject_key(identifier, self.home.subject_secret)
        if subject in self.erased:
            return []
        try:
            return list(read_events(self.mapping, record, identifier, subject, self.now))
        except ConsentEventError:
            self.unread.add(subject)
            raise

    def _refuse(self, number: int, reason: str) -> None:
        self.refused += 1
        self.reasons[reason] += 1
        self.report.write(f'{number},"{reason}"\n'.encode())

    def _batch(self, waiting: list[ReadEvent]) -> pa.RecordBatch:
        self.events += len(waiting)
        self.kinds.update(one.event.kind for one in waiting)
        columns: dict[str, list[Any]] = {
            **{name: [getattr(one.event, name) for one in waiting] for name in EVENT_SCHEMA.names},
            **{name: [getattr(one.evidence, name) for one in waiting] for name in EVIDENCE},
            "event_time": [one.event.event_time if one.is_dated else None for one in waiting],
            "recorded_at": [one.event.recorded_at if one.is_recorded else None for one in waiting],
        }
        arrays = [pa.array(columns[one.name], one.type) for one in DELIVERY_SCHEMA]
        return pa.RecordBatch.from_arrays(arrays, schema=DELIVERY_SCHEMA)


def import_consents(
    home: NodeHome,
    path: Path,
    mapping_name: str,
    *,
    now: datetime,
    accept_partial: bool = False,
    corrects: str | None = None,
    dry_run: bool = False,
    progress: Progress = lambda _stage, _done, _total: None,
) -> Imported:
    """Import an export: all of it, or nothing.

    What it says of customers who were erased is passed over.

    Every line that cannot be read is reported with its number and reason in a file below LOCAL. One such line refuses
    the whole export, unless `accept_partial`: then the other lines are stored, and whoever has a refused line is
    denied, for every purpose, until an import that `corrects` this one.

    Raises:
        ConsentEventError: If lines cannot be read; its `data` has the counts under LOCAL.
        DataError, MissingColumnError: If the file as a whole cannot be read, or changed meanwhile.
        MappingError: If the mapping cannot be used.
        SettingsError: If there was no import to correct.
        StorageError: If the disk is full. Nothing is stored then.
    """
    mapping = load_mapping(mapping_name)
    if corrects is not None:
        _require_import(home, corrects)
    with (
        _disk_errors(home),
        home.nameless_file() as stage,
        home.nameless_file() as report,
        ConsentFile(path, mapping) as source,
    ):
        with home.rights() as rights:
            erased = frozenset(rights.suppressed().to_pylist())
        intake = _Intake(home, mapping, now, stage, report, erased)
        intake.read(source, progress)
        note = _note(mapping_name, source, intake)
        written = _write_report(home, report, note.id) if intake.refused else None
        if intake.refused and not accept_partial:
            raise _refusal(home, path, mapping_name, _imported(note, None, intake, written))
        if dry_run:
            return _imported(note, None, intake, written)
        progress("storing the events", 0, intake.events)
        with home.register() as register:
            new = register.take_in(Delivery(note, intake.batches, frozenset(intake.unread), corrects))
        return _imported(note, new, intake, written)


def withdraw(
    home: NodeHome, id_file: Path, purposes: Iterable[Purpose], *, now: datetime, dry_run: bool = False
) -> tuple[int, int]:
    """Record that the customers in a file, one identifier a line, withdraw from these purposes, as of now.

    A withdrawal needs no consent before it. It counts from the next round on.

    Returns:
        LOCAL: how many customers, and how many of them the register knew nothing of: perhaps their identifiers are
        written otherwise there.

    Raises:
        DataError: If the file cannot be read, is empty, or has a blank line: then nothing is recorded.
        StorageError: If the disk is full; nothing is recorded then.
    """
    subjects = list(dict.fromkeys(subject_key(one, home.subject_secret) for one in read_identifiers(id_file)))
    wanted = list(purposes)
    with home.register() as register:
        unknown = len(subjects) - register.knows(subjects)
        if not dry_run:
            register.append_events(
                ConsentEvent(subject, str(purpose), Status.WITHDRAWN.kind, now, now)
                for subject in subjects
                for purpose in wanted
            )
    return len(subjects), unknown


def read_identifiers(id_file: Path) -> list[bytes]:
    """The identifiers in a file, one a line, as they stand.

    Raises:
        DataError: If it cannot be read, is empty, or a line is blank, too long or no UTF-8.
    """
    try:
        lines = id_file.read_bytes().removeprefix(BYTE_ORDER_MARK).splitlines()
    except OSError as error:
        raise _no_identifiers(error.strerror or "unknown cause") from error
    if not lines:
        raise _no_identifiers("it is empty")
    for number, line in enumerate(lines, start=1):
        if not line.strip() or len(line) > IDENTIFIER_BYTES_MAX or not _is_text(line):
            raise _no_identifiers(f"line {number} is blank, too long, or not UTF-8")
    return lines


def _note(mapping_name: str, source: ConsentFile, intake: _Intake) -> ImportNote:
    file_sha256, mapping = source.sha256(), intake.mapping
    return ImportNote(
        id=sha256_hex(f"{file_sha256} {mapping.digest}".encode())[:ID_DIGITS],
        imported_at=intake.now,
        mapping=Path(mapping_name).stem,
        mapping_sha256=mapping.digest,
        file_sha256=file_sha256,
        lines=intake.lines,
        events=intake.events,
        refused=intake.refused,
    )


def _imported(note: ImportNote, new: int | None, intake: _Intake, report: Path | None) -> Imported:
    kinds, reasons = dict(sorted(intake.kinds.items())), dict(intake.reasons.most_common())
    return Imported(note, new, kinds, reasons, intake.unattributed, report)


def _write_report(home: NodeHome, refusals: BinaryIO, import_id: str) -> Path:
    """Put the refused lines into LOCAL, whole."""
    folder = home.path / LOCAL / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{import_id}.refused.csv"
    home.hand_over(folder)
    refusals.seek(0)
    with replacing(path, home.hand_over) as file:
        shutil.copyfileobj(refusals, file)
    return path


@contextmanager
def _disk_errors(home: NodeHome) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            "the import was stopped",
            why=f"{home.path / LOCAL}: {error.strerror or 'the disk refused'}; nothing was imported",
            fix="free space, or check who may write, then import the file again",
        ) from error


def _require_import(home: NodeHome, import_id: str) -> None:
    with home.register() as register:
        known = {one.id for one in register.imports()}
    if import_id not in known:
        raise SettingsError(
            f"there was no import {import_id}",
            why="the register knows of none with this id",
            fix=f"fedseg consent status --node {home.path}",
        )


def _refusal(home: NodeHome, path: Path, mapping_name: str, found: Imported) -> ConsentEventError:
    error = ConsentEventError(
        "the export was refused as a whole; nothing was imported",
        why=f"it holds lines that cannot be read; {found.report} has their numbers and reasons",
        fix="correct the export or the mapping; or deny whoever has such a line and take the rest: "
        f"fedseg consent import {path} --mapping {mapping_name} --node {home.path} --accept-partial",
    )
    error.data = imported_facts(found)
    return error


def imported_facts(found: Imported) -> dict[str, Any]:
    """What an import did as JSON; what holds exact counts sits under LOCAL."""
    note = found.note
    return {
        "import_id": note.id,
        "file_sha256": note.file_sha256,
        "mapping": note.mapping,
        "mapping_sha256": note.mapping_sha256,
        "LOCAL": {
            "lines": note.lines,
            "events": note.events,
            "new": found.new,
            "kinds": found.kinds,
            "refused": note.refused,
            "reasons": found.reasons,
            "unattributed": found.unattributed,
            "report": None if found.report is None else str(found.report),
        },
    }


def _is_text(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _no_identifiers(why: str) -> DataError:
    return DataError(
        "the file of identifiers cannot be used",
        why=f"{why}; nothing was recorded",
        fix="write one identifier a line, exactly as the data source has it",
    )
