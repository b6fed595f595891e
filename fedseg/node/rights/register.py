"""`RightsRegister`: who asked what of a unit and until when, whom it must never count again, and what shows it.

One SQLite file in LOCAL, of its own: a restored backup of customers or consent does not bring back who was erased. It
holds pseudonyms, never an identifier. A request names its person for as long as it is open, and no longer.
"""

import sqlite3
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
from pydantic import TypeAdapter

from fedseg.errors import DataError, RightsRequestError
from fedseg.node.private_database import connect, create, require_private, storage_errors, transaction
from fedseg.node.rights.notice_register import SCHEMA as _SCHEMA_2
from fedseg.node.rights.notice_register import (
    NoticeRegister,
    Telling,
    forget_disclosures,
    forget_subjects,
    queue_notices,
    require_answers,
)
from fedseg.node.rights.tree import Place, make_batch
from fedseg.policy.rights import Status, SubjectRequest
from fedseg.table import SUBJECT_TYPE

APPLICATION_ID: Final = 0x46535252
"""Marks the file: "FSRR"."""
SCHEMA_VERSION: Final = 3
_NAME: Final = "register of requests"
_CHUNK_ROWS: Final = 2_048

_REQUEST: Final = TypeAdapter(SubjectRequest)

_SCHEMA_1: Final = """
CREATE TABLE request (
    id TEXT PRIMARY KEY,
    ticket TEXT NOT NULL,
    subject BLOB CHECK (length(subject) = 16),
    facts TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE suppression (
    subject BLOB PRIMARY KEY CHECK (length(subject) = 16)
) STRICT, WITHOUT ROWID;
CREATE TABLE certificate (
    request TEXT PRIMARY KEY REFERENCES request (id),
    completed TEXT NOT NULL,
    envelope BLOB NOT NULL,
    salt BLOB NOT NULL CHECK (length(salt) = 32),
    commitment BLOB NOT NULL CHECK (length(commitment) = 32),
    period TEXT,
    leaf INTEGER,
    path BLOB
) STRICT, WITHOUT ROWID;
CREATE TABLE batch (
    period TEXT PRIMARY KEY,
    root BLOB NOT NULL CHECK (length(root) = 32)
) STRICT, WITHOUT ROWID;
CREATE TABLE evidence (
    request TEXT PRIMARY KEY REFERENCES request (id),
    subject BLOB NOT NULL CHECK (length(subject) = 16),
    kept_until TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""

# Of erasures whose backups cannot be read any more: a second statement each, bound to the day on which it was made.
_SCHEMA_3: Final = """
CREATE TABLE closing (
    request TEXT PRIMARY KEY REFERENCES certificate (request),
    completed TEXT NOT NULL,
    envelope BLOB NOT NULL,
    salt BLOB NOT NULL CHECK (length(salt) = 32),
    commitment BLOB NOT NULL CHECK (length(commitment) = 32),
    period TEXT,
    leaf INTEGER,
    path BLOB
) STRICT, WITHOUT ROWID;
"""
_ADDED: Final = {1: _SCHEMA_2 + _SCHEMA_3, 2: _SCHEMA_3}
"""What registers of earlier versions lack."""


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request as it stands in the register."""

    request: SubjectRequest
    ticket: str
    """The unit's own reference, as given with the request."""
    subject: bytes | None = field(repr=False)
    """Whose it is; None once it has ended."""


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """A certificate, and where its commitment stands."""

    request: str
    completed: date
    envelope: bytes
    salt: bytes
    commitment: bytes
    period: str | None = None
    """Day of the batch that holds the commitment; None before that day is over."""
    place: Place | None = None


class RightsRegister:
    """An open register of requests. One that is missing or empty may have been lost, and is not made anew in passing.

    Raises:
        DataError: If the file is missing, or no register of requests of this version.
        StorageError: If others than the owner may read it, or it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        if not path.is_file():
            raise _missing(path)
        require_private(path, _NAME)
        with _storage_errors(path):
            self._connection: Final = connect(path)
            with self._reading() as connection:
                (application,) = connection.execute("PRAGMA application_id").fetchone()
                (version,) = connection.execute("PRAGMA user_version").fetchone()
        self.notices: Final = NoticeRegister(self._transaction)
        """Who got whose data, and who is told of what."""
        if application == APPLICATION_ID and version in _ADDED:
            self._upgrade()
        elif (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            self.close()
            raise _not_ours(path)

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new register in a new file that only its owner can read: nobody was ever erased.

        Raises:
            StorageError: If the file is there already or cannot be written.
        """
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
        create(path, _NAME, f"{_SCHEMA_1} {_SCHEMA_2} {_SCHEMA_3} {marks}", _not_ours)
        return cls(path)

    def add(self, requests: Iterable[OpenRequest]) -> None:
        """Note down requests, all or none."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO request VALUES (?, ?, ?, ?)",
                [(one.request.id, one.ticket, one.subject, _facts(one.request)) for one in requests],
            )

    def change(
        self,
        ids: Iterable[str],
        step: Callable[[SubjectRequest], SubjectRequest],
        *,
        suppress: Collection[bytes] = (),
        telling: Telling | None = None,
    ) -> list[SubjectRequest]:
        """Take requests one step further from where they stand at this moment, whoever else is at work on them.

        Who asked is forgotten when a request has ended.

        Args:
            ids: Which.
            step: What is done with each; if it raises, nothing is changed.
            suppress: People who are never to be counted again, whatever is imported or restored about them.
            telling: If given, everybody is told who got the data of these people, from this very moment on.

        Returns:
            The requests as they are now.

        Raises:
            RightsRequestError: If one would be fulfilled that a recipient has still to be told of.
        """
        known = "SELECT facts, subject FROM request WHERE id = ?"
        with self._transaction() as connection:
            before = [connection.execute(known, (one,)).fetchone() for one in ids]
            changed = [step(_REQUEST.validate_json(facts)) for facts, _ in before]
            if telling is not None:
                for one, (_, subject) in zip(changed, before, strict=True):
                    queue_notices(connection, one.id, subject, telling)
            connection.executemany(
                "INSERT INTO suppression VALUES (?) ON CONFLICT DO NOTHING", [(subject,) for subject in suppress]
            )
            _update(connection, changed)
        return changed

    def complete(
        self, requests: Sequence[SubjectRequest], certificates: Iterable[StoredCertificate], *, evidence_until: date
    ) -> None:
        """Store the end of erasures with their certificates, and evidence of whom they were about, all or none.

        One that another process has ended meanwhile stays as that has left it.
        """
        with self._transaction() as connection:
            open_ = {id_ for (id_,) in connection.execute("SELECT id FROM request WHERE subject IS NOT NULL")}
            requests = [one for one in requests if one.id in open_]
            certificates = [one for one in certificates if one.request in open_]
            forget_disclosures(connection, [one.id for one in requests])
            connection.executemany(
                "INSERT INTO evidence SELECT id, subject, ? FROM request WHERE id = ?",
                [(evidence_until.isoformat(), one.id) for one in requests],
            )
            connection.executemany(
                "INSERT INTO certificate VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL)",
                [
                    (one.request, one.completed.isoformat(), one.envelope, one.salt, one.commitment)
                    for one in certificates
                ],
            )
            _update(connection, requests)

    def requests(self) -> list[OpenRequest]:
        """All requests, in the order of their arrival."""
        with self._reading() as connection:
            rows = connection.execute("SELECT facts, ticket, subject FROM request").fetchall()
        found = [OpenRequest(_REQUEST.validate_json(facts), ticket, subject) for facts, ticket, subject in rows]
        return sorted(found, key=lambda one: (one.request.received, one.request.id))

    def with_ticket(self, ticket: str) -> list[OpenRequest]:
        """All requests under a reference of the unit's own, whatever has become of them."""
        with self._reading() as connection:
            rows = connection.execute("SELECT facts, subject FROM request WHERE ticket = ?", (ticket,)).fetchall()
        return [OpenRequest(_REQUEST.validate_json(facts), ticket, subject) for facts, subject in rows]

    def request(self, id_: str) -> OpenRequest:
        """The request with this id, or the only one whose id begins so.

        Raises:
            RightsRequestError: If there is none, or several.
        """
        found = [one for one in self.requests() if one.request.id.startswith(id_)]
        if len(found) != 1:
            raise RightsRequestError(
                f"{'several requests begin' if found else 'no request begins'} with {id_}",
                why=f"{len(found)} requests of this unit match",
                fix="fedseg subject status --node HOME",
            )
        return found[0]

    def suppressed(self) -> pa.Array:
        """Everybody who must not be counted again: `pa.binary(16)`, unique, in byte order."""
        with self._reading() as connection:
            rows = connection.execute("SELECT subject FROM suppression ORDER BY subject")
            some = iter(lambda: rows.fetchmany(_CHUNK_ROWS), [])
            chunks = [pa.array([subject for (subject,) in chunk], SUBJECT_TYPE) for chunk in some]
        return pa.concat_arrays([pa.array([], SUBJECT_TYPE), *chunks])

    def certificate(self, request: str) -> StoredCertificate | None:
        """The certificate of a request; None if there is none (yet)."""
        with self._reading() as connection:
            row = connection.execute("SELECT * FROM certificate WHERE request = ?", (request,)).fetchone()
        return None if row is None else _certificate(row)

    def closing(self, request: str) -> StoredCertificate | None:
        """The closing statement of an erasure; None if there is none (yet)."""
        with self._reading() as connection:
            row = connection.execute("SELECT * FROM closing WHERE request = ?", (request,)).fetchone()
        return None if row is None else _certificate(row)

    def not_closed(self) -> list[StoredCertificate]:
        """The certificates without a closing statement."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT * FROM certificate WHERE request NOT IN (SELECT request FROM closing) ORDER BY request"
            ).fetchall()
        return [_certificate(row) for row in rows]

    def close_backups(self, statements: Iterable[StoredCertificate]) -> None:
        """Store closing statements, all or none; an erasure that has one keeps it."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO closing VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL) ON CONFLICT DO NOTHING",
                [
                    (one.request, one.completed.isoformat(), one.envelope, one.salt, one.commitment)
                    for one in statements
                ],
            )

    def batch_root(self, period: str, capacity: int) -> bytes:
        """Root of the tree over the certificates of a day that is over; the same however often it is asked for.

        What does not fit goes into the next day's. The first call draws the tree's filling and its order.
        """
        with self._transaction() as connection:
            known = connection.execute("SELECT root FROM batch WHERE period = ?", (period,)).fetchone()
            if known is not None:
                root: bytes = known[0]
                return root
            waiting = "FROM {} WHERE period IS NULL AND completed <= ?1"
            rows = connection.execute(
                f"SELECT 0 AS closes, completed, request, commitment {waiting.format('certificate')}"
                f" UNION ALL SELECT 1, completed, request, commitment {waiting.format('closing')}"
                " ORDER BY 1, 2, 3 LIMIT ?2",
                (period, capacity),
            ).fetchall()
            batch = make_batch([commitment for *_, commitment in rows], capacity)
            for (closes, _, request, _), place in zip(rows, batch.places, strict=True):
                connection.execute(
                    f"UPDATE {'closing' if closes else 'certificate'}"  # noqa: S608 (our own names)
                    " SET period = ?, leaf = ?, path = ? WHERE request = ?",
                    (period, place.index, b"".join(place.path), request),
                )
            connection.execute("INSERT INTO batch VALUES (?, ?)", (period, batch.root))
            return batch.root

    def old_evidence(self, today: date) -> int:
        """LOCAL: of how many requests there is evidence that is no longer to be kept."""
        with self._reading() as connection:
            found = connection.execute("SELECT count(*) FROM evidence WHERE kept_until < ?", (today.isoformat(),))
            return int(found.fetchone()[0])

    def forget_evidence(self, today: date) -> int:
        """Remove evidence that is no longer to be kept; LOCAL: of how many requests."""
        with self._transaction() as connection:
            found = connection.execute("DELETE FROM evidence WHERE kept_until < ?", (today.isoformat(),))
            return found.rowcount

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _upgrade(self) -> None:
        """Add what later versions have, unless another process just did."""
        with self._transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version in _ADDED:
                for statement in f"{_ADDED[version]}; PRAGMA user_version = {SCHEMA_VERSION}".split(";"):
                    connection.execute(statement)

    def _reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """A transaction that waits for no writer, but for the moment in which one commits: rounds read in it."""
        return self._transaction("BEGIN")

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Generator[sqlite3.Connection]:
        with _storage_errors(self._path), transaction(self._connection, begin) as connection:
            yield connection


def _update(connection: sqlite3.Connection, requests: Sequence[SubjectRequest]) -> None:
    for one in requests:
        if one.status is Status.FULFILLED:
            require_answers(connection, one.id)
    forget_subjects(connection, [one.id for one in requests if one.status.is_final])
    connection.executemany(
        "UPDATE request SET facts = ?, subject = CASE WHEN ? THEN NULL ELSE subject END WHERE id = ?",
        [(_facts(one), one.status.is_final, one.id) for one in requests],
    )


def _facts(request: SubjectRequest) -> str:
    return _REQUEST.dump_json(request).decode()


def _certificate(row: tuple[Any, ...]) -> StoredCertificate:
    request, completed, envelope, salt, commitment, period, leaf, path = row
    if period is None:
        return StoredCertificate(request, date.fromisoformat(completed), envelope, salt, commitment)
    hashes = tuple(path[start : start + 32] for start in range(0, len(path), 32))
    return StoredCertificate(
        request, date.fromisoformat(completed), envelope, salt, commitment, period, Place(leaf, hashes)
    )


def _storage_errors(path: Path) -> AbstractContextManager[None]:
    return storage_errors(path, _NAME, _not_ours)


def _missing(path: Path) -> DataError:
    return DataError(
        "the register of requests is missing",
        why=f"there is no file {path}, and without it people who were erased could be counted again",
        fix="restore it from its newest copy; if nobody was ever erased here: fedseg subject init --node HOME",
    )


def _not_ours(path: Path) -> DataError:
    return DataError(
        "the register of requests cannot be read",
        why=f"{path} is damaged, or no register of version {SCHEMA_VERSION}",
        fix="restore it from its newest copy, then run: fedseg subject status --node HOME",
    )
