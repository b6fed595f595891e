"""The part of a unit's register of requests that is about recipients: who got whose data, and who was told of what.

Disclosures name people by their pseudonym. Whom a notice is about stands there sealed, for as long as a recipient has
not answered; `identities` has the key. Callbacks tell a privacy platform where its own request stands.
"""

import json
import sqlite3
import uuid
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

from pydantic import TypeAdapter

from fedseg.errors import RightsRequestError
from fedseg.policy.notices import Notice, wait_after
from fedseg.policy.rights import SubjectRequest

SCHEMA: Final = """
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY,
    recipient TEXT NOT NULL,
    handed TEXT NOT NULL,
    file BLOB NOT NULL CHECK (length(file) = 32),
    UNIQUE (recipient, file)
) STRICT;
CREATE TABLE disclosure (
    subject BLOB NOT NULL CHECK (length(subject) = 16),
    recipient TEXT NOT NULL,
    delivery INTEGER NOT NULL REFERENCES delivery (id),
    PRIMARY KEY (subject, recipient)
) STRICT, WITHOUT ROWID;
CREATE TABLE notice (
    id TEXT PRIMARY KEY,
    request TEXT NOT NULL REFERENCES request (id),
    recipient TEXT NOT NULL,
    next_attempt TEXT,
    facts TEXT NOT NULL,
    UNIQUE (request, recipient)
) STRICT, WITHOUT ROWID;
CREATE INDEX notice_next ON notice (next_attempt) WHERE next_attempt IS NOT NULL;
CREATE TABLE identity (
    request TEXT PRIMARY KEY REFERENCES request (id),
    key TEXT NOT NULL,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE done_here (
    request TEXT PRIMARY KEY REFERENCES request (id),
    ground TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE callback (
    ticket TEXT NOT NULL,
    url TEXT NOT NULL,
    told TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_attempt TEXT NOT NULL,
    PRIMARY KEY (ticket, url)
) STRICT, WITHOUT ROWID;
"""
"""What version 2 of the register adds. In `done_here` are requests of which the unit has done its own part."""

CALLBACK_ATTEMPTS_MAX: Final = 12
"""A platform that answers no callback for so long, about a week, has to ask again by itself."""

_NOTICE: Final = TypeAdapter(Notice)
_REQUEST: Final = TypeAdapter(SubjectRequest)

Transaction = Callable[..., AbstractContextManager[sqlite3.Connection]]


@dataclass(frozen=True, slots=True)
class Disclosure:
    """That a recipient got a person's data."""

    recipient: str
    handed: date
    """When last."""


@dataclass(frozen=True, slots=True)
class SealedIdentity:
    """Whom a request is about, as only the unit's key of that name opens it."""

    key: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Telling:
    """What is needed to have recipients told."""

    now: datetime
    seal: Callable[[str, bytes], SealedIdentity]
    """Seals the identity behind a request's id and a pseudonym; the key is on the disk when it returns."""


@dataclass(frozen=True, slots=True)
class DueNotice:
    """A notice that is to be sent now."""

    notice: Notice
    request: SubjectRequest
    identity: SealedIdentity | None
    """None if it was lost."""


@dataclass(frozen=True, slots=True)
class Callback:
    """An address at which a platform wants to hear where its request stands."""

    ticket: str
    url: str
    told: str
    """The last status that the platform has heard of."""
    attempts: int = 0
    """To tell it the next one."""


class NoticeRegister:
    """Disclosures, notices and callbacks, in an open register of requests."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction: Final = transaction

    def record(self, recipient: str, handed: date, file: bytes, subjects: Iterable[bytes]) -> int:
        """Note down who was in a file that a recipient got, all or nobody; a file known already is noted once.

        Args:
            recipient: As the policy names it.
            handed: The day.
            file: 32 bytes that tell the file from others.
            subjects: Pseudonyms; read as they come.

        Returns:
            LOCAL: how many people were in it.

        Raises:
            RightsRequestError: If somebody among them was erased, or is to be.
        """
        # Gathered first, in a table that no other connection waits for: rounds can begin while a long file is read.
        with self._transaction("BEGIN") as connection:
            connection.execute("DROP TABLE IF EXISTS temp.handed")
            connection.execute("CREATE TEMP TABLE handed (subject BLOB PRIMARY KEY) WITHOUT ROWID")
            connection.executemany("INSERT OR IGNORE INTO handed VALUES (?)", ((one,) for one in subjects))
        with self._transaction() as connection:
            (erased,) = connection.execute("SELECT count(*) FROM handed JOIN suppression USING (subject)").fetchone()
            if erased:
                raise RightsRequestError(
                    f"the file names people who were erased here, LOCAL: {erased:,}",
                    why=f"{recipient} must not have got their data any more",
                    fix=f"have {recipient} delete the file, hand over one without them, and record that one",
                )
            connection.execute(
                "INSERT INTO delivery (recipient, handed, file) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET handed = max(handed, excluded.handed)",
                (recipient, handed.isoformat(), file),
            )
            connection.execute(
                "INSERT INTO disclosure SELECT subject, recipient, id FROM handed"
                " JOIN delivery ON recipient = ? AND file = ? WHERE true ORDER BY subject"
                " ON CONFLICT DO UPDATE SET delivery = excluded.delivery",
                (recipient, file),
            )
            (people,) = connection.execute("SELECT count(*) FROM handed").fetchone()
            connection.execute("DROP TABLE handed")
            return int(people)

    def recipients_of(self, subject: bytes) -> list[Disclosure]:
        """Who got this person's data."""
        with self._transaction("BEGIN") as connection:
            rows = connection.execute(
                "SELECT disclosure.recipient, handed FROM disclosure JOIN delivery ON id = delivery"
                " WHERE subject = ? ORDER BY 1",
                (subject,),
            ).fetchall()
        return [Disclosure(recipient, date.fromisoformat(handed)) for recipient, handed in rows]

    def notices(self) -> dict[str, list[Notice]]:
        """All notices by their request, in the order of recipients."""
        found: dict[str, list[Notice]] = {}
        with self._transaction("BEGIN") as connection:
            for (facts,) in connection.execute("SELECT facts FROM notice ORDER BY recipient"):
                one = _NOTICE.validate_json(facts)
                found.setdefault(one.request, []).append(one)
        return found

    def begin_attempt(self, now: datetime, *, leave_out: Collection[str] = ()) -> DueNotice | None:
        """The notice that waits longest for its next attempt, which is noted as begun; None if none is due.

        Args:
            now: The moment.
            leave_out: Recipients that are not to be told now.
        """
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT notice.facts, request.facts, key, sealed FROM notice"
                " JOIN request ON request.id = notice.request LEFT JOIN identity ON identity.request = request.id"
                " WHERE next_attempt <= ? AND recipient NOT IN (SELECT value FROM json_each(?))"
                " ORDER BY next_attempt, notice.id LIMIT 1",
                (_moment(now), json.dumps(sorted(leave_out))),
            ).fetchone()
            if row is None:
                return None
            notice, request, key, sealed = row
            begun = _NOTICE.validate_json(notice).begin_attempt(now)
            _store(connection, begun)
        identity = None if key is None else SealedIdentity(key, sealed)
        return DueNotice(begun, _REQUEST.validate_json(request), identity)

    def settle(self, id_: str, step: Callable[[Notice], Notice]) -> Notice | None:
        """Take a notice one step further; once all of its request are settled, nobody is named any more.

        Returns:
            The notice; None if there is none any more, because its request was denied.
        """
        with self._transaction() as connection:
            row = connection.execute("SELECT facts FROM notice WHERE id = ?", (id_,)).fetchone()
            if row is None:
                return None
            after = step(_NOTICE.validate_json(row[0]))
            _store(connection, after)
            connection.execute(
                "DELETE FROM identity WHERE request = ?1 AND NOT EXISTS"
                " (SELECT 1 FROM notice WHERE request = ?1 AND next_attempt IS NOT NULL)",
                (after.request,),
            )
        return after

    def without_use(self, keys: Collection[str], destroy: Callable[[str], None]) -> None:
        """Call `destroy` with each of the keys that seals nothing; meanwhile nobody makes another."""
        with self._transaction() as connection:
            used = {key for (key,) in connection.execute("SELECT DISTINCT key FROM identity")}
            for key in keys:
                if key not in used:
                    destroy(key)

    def finish_here(self, requests: Iterable[str], ground: str | None = None) -> None:
        """Note down that the unit has done its own part of these requests."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO done_here VALUES (?, ?) ON CONFLICT DO UPDATE SET ground = excluded.ground",
                [(one, ground) for one in requests],
            )

    def answered(self) -> dict[str, str | None]:
        """Requests of which nothing is left to do but to end them, with the grounds of erasures."""
        with self._transaction("BEGIN") as connection:
            rows = connection.execute(
                "SELECT request, ground FROM done_here WHERE NOT EXISTS"
                " (SELECT 1 FROM notice WHERE notice.request = done_here.request AND next_attempt IS NOT NULL)"
            ).fetchall()
        return dict(rows)

    def call_back(self, ticket: str, urls: Iterable[str], told: str, now: datetime) -> None:
        """Tell these addresses from now on where what stands under a ticket stands."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO callback VALUES (?, ?, ?, 0, ?) ON CONFLICT DO NOTHING",
                [(ticket, url, told, _moment(now)) for url in urls],
            )

    def callbacks(self, now: datetime) -> list[Callback]:
        """Those that may be called now."""
        with self._transaction("BEGIN") as connection:
            rows = connection.execute(
                "SELECT ticket, url, told, attempts FROM callback WHERE next_attempt <= ? ORDER BY ticket, url",
                (_moment(now),),
            ).fetchall()
        return [Callback(*row) for row in rows]

    def begin_call(self, callback: Callback, now: datetime) -> bool:
        """Note that a callback is about to be made; whether it may be, or another process has begun to."""
        attempts = callback.attempts + 1
        with self._transaction() as connection:
            changed = connection.execute(
                "UPDATE callback SET attempts = ?, next_attempt = ? WHERE (ticket, url, attempts) = (?, ?, ?)",
                (attempts, _moment(now + wait_after(attempts)), callback.ticket, callback.url, callback.attempts),
            )
            return changed.rowcount == 1

    def told(self, callback: Callback, status: str, now: datetime) -> None:
        """The platform has heard of this status."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE callback SET told = ?, attempts = 0, next_attempt = ? WHERE (ticket, url) = (?, ?)",
                (status, _moment(now), callback.ticket, callback.url),
            )

    def end_callback(self, callback: Callback) -> None:
        """Call this address no more."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM callback WHERE (ticket, url) = (?, ?)", (callback.ticket, callback.url))


def queue_notices(connection: sqlite3.Connection, request: str, subject: bytes, telling: Telling) -> None:
    """Have everybody told who got this person's data, once for this request; in the caller's transaction."""
    held = connection.execute("SELECT recipient FROM disclosure WHERE subject = ?", (subject,))
    new = [
        Notice(str(uuid.uuid4()), request, recipient, telling.now.astimezone(UTC).replace(microsecond=0))
        for (recipient,) in held.fetchall()
    ]
    connection.executemany(
        "INSERT INTO notice VALUES (?, ?, ?, ?, ?) ON CONFLICT (request, recipient) DO NOTHING",
        [(one.id, one.request, one.recipient, _moment(one.next_attempt), _facts(one)) for one in new],
    )
    if _unsettled(connection, request):
        one = telling.seal(request, subject)
        connection.execute("INSERT OR REPLACE INTO identity VALUES (?, ?, ?)", (request, one.key, one.sealed))


def require_answers(connection: sqlite3.Connection, request: str) -> None:
    """Refuse to fulfil a request that a recipient has still to be told of; in the caller's transaction.

    Raises:
        RightsRequestError: If there is one.
    """
    if waiting := _unsettled(connection, request):
        raise RightsRequestError(
            f"the request {request} cannot be fulfilled",
            why=f"{', '.join(waiting)} got the person's data and has not acknowledged the notice",
            fix="fedseg subject notify --node HOME",
        )


def forget_subjects(connection: sqlite3.Connection, requests: Iterable[str]) -> None:
    """Forget whom requests were about, and what is still to be told of them; in the caller's transaction."""
    ids = [(one,) for one in requests]
    connection.executemany("DELETE FROM notice WHERE request = ? AND next_attempt IS NOT NULL", ids)
    connection.executemany("DELETE FROM identity WHERE request = ?", ids)
    connection.executemany("DELETE FROM done_here WHERE request = ?", ids)


def forget_disclosures(connection: sqlite3.Connection, requests: Iterable[str]) -> None:
    """Forget who got the data of the people behind requests; in the caller's transaction."""
    connection.executemany(
        "DELETE FROM disclosure WHERE subject = (SELECT subject FROM request WHERE id = ?)",
        [(one,) for one in requests],
    )


def _unsettled(connection: sqlite3.Connection, request: str) -> list[str]:
    rows = connection.execute(
        "SELECT recipient FROM notice WHERE request = ? AND next_attempt IS NOT NULL ORDER BY recipient", (request,)
    )
    return [recipient for (recipient,) in rows]


def _store(connection: sqlite3.Connection, notice: Notice) -> None:
    next_attempt = None if notice.status.is_settled else _moment(notice.next_attempt)
    connection.execute(
        "UPDATE notice SET next_attempt = ?, facts = ? WHERE id = ?", (next_attempt, _facts(notice), notice.id)
    )


def _facts(notice: Notice) -> str:
    return _NOTICE.dump_json(notice).decode()


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
