"""Ends what a unit has kept as long as its policy says, and writes down what it was: by rule and count, never by name.

Nothing that goes can change a decision of the gate: a veto stands, and so does everybody's last word (`superseded`).
Each sweep looks for all of it anew, so one that was interrupted is finished by the next, and the record says so.
"""

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

import fedseg
from fedseg.errors import StorageError, VerificationError
from fedseg.ledger.canonical import Json, canonical
from fedseg.node.backup.keys import month_keys, shred_keys
from fedseg.node.backup.sealed_file import read_header
from fedseg.node.consent.intake import FOLDER as IMPORTS
from fedseg.node.consent.register import ConsentRegister
from fedseg.node.home import LOCAL, RIGHTS_FILE, NodeHome
from fedseg.node.rights.closing import close_backups
from fedseg.node.rights.erasure import conclude, remove_returned
from fedseg.node.rights.leftovers import files_below, find_leftovers
from fedseg.node.rights.source_erasure import erase_rows, named_in_source, source_files
from fedseg.policy.consent import superseded
from fedseg.policy.document import Policy, Retention, load_policy
from fedseg.policy.lapse import lapsed
from fedseg.policy.purposes import Purpose
from fedseg.private_file import sync_directory

RECORDS: Final = "sweeps"
"""Directory in LOCAL with a record of each sweep."""
EVIDENCE: Final = "evidence of erasures"
_BEGUN: Final = ".begun.json"
_STAMP: Final = "%Y-%m-%dT%H%M%S.%fZ"


@dataclass(frozen=True, slots=True)
class Ended:
    """What has been kept long enough, of one kind. LOCAL: exact counts never leave the unit."""

    what: str
    rule: str
    """The key of the policy that says so."""
    before: str
    """The day before which its time was over; of keys, that on which they are destroyed."""
    count: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed, or would remove. LOCAL."""

    ended: Sequence[Ended]
    record: Path | None
    """The file that says so; None if nothing was removed."""
    finished: Sequence[str] = ()
    """When the earlier sweeps began that were killed, and that this one has finished."""


@dataclass(frozen=True, slots=True)
class _Due:
    """What a sweep is to remove."""

    policy: Policy
    today: date
    people: frozenset[bytes] = field(repr=False)
    """Customers whose rows go."""
    identifiers: Sequence[bytes] = field(repr=False)
    """As their rows have them."""
    events: pa.Table = field(repr=False)
    evidence: int
    months: Sequence[str]
    """Of backup keys."""
    backups: Sequence[Path]
    reports: Sequence[Path]
    records: Sequence[Path]

    def ended(self) -> list[Ended]:
        """The same as counts, by rule."""
        kept, today = self.policy.retention, self.today
        long_ago = _days_before(today, kept.consent_evidence_days)
        found = [
            Ended("events that were followed by others", "consent_evidence_days", long_ago, self.events.num_rows),
            Ended(EVIDENCE, _rule_of_evidence(kept), today.isoformat(), self.evidence),
            Ended("keys of backups", "backup_days", today.isoformat(), len(self.months)),
            Ended("backups without a key", "backup_days", today.isoformat(), len(self.backups)),
            Ended("reports of imports", "consent_evidence_days", long_ago, len(self.reports)),
            Ended("records of sweeps", "consent_evidence_days", long_ago, len(self.records)),
        ]
        if kept.lapsed_days is not None:
            rows = _days_before(today, kept.lapsed_days)
            found = [Ended("customers without a consent", "lapsed_days", rows, len(self.identifiers)), *found]
        return found


def sweep(home: NodeHome, now: datetime, *, dry_run: bool = False) -> Swept:
    """Remove whatever came back about erased people, and end all that was kept long enough.

    That is: rows of customers whose consent lapsed, where the policy has a term for them; consent events that were
    followed by others; evidence of erasures; keys of backups, and backups in the home that have lost theirs; reports of
    imports, and records of sweeps. Requests that a killed process had only to end are ended, too.

    Raises:
        PolicyError, PolicyDocumentError: If the unit has no policy that can be read.
        DataError, StorageError: If something cannot be read or written. Asked again, the sweep goes on.
        VerificationError: If a file of the unit still names somebody whose rows went. All is removed then, but that.
    """
    due = _find(home, load_policy(home.policy_document()), now)
    if dry_run:
        return Swept(due.ended(), None)
    begun = _begin(home, due, now)
    remove_returned(home)
    # Before their rows go: a sweep that is killed later could not ask again.
    named = _still_named(home, due.identifiers)
    _remove(home, due, now)
    named += _still_named(home, due.identifiers, source_files(home))
    swept = _finish(home, due, begun, named, now)
    if named:
        raise VerificationError(
            "a file still names customers whose rows were removed",
            why=f"found in {', '.join(named[:3])}{' and others' if named[3:] else ''}",
            fix="remove it there; the record of this sweep, in LOCAL, names all of them",
        )
    return swept


def _find(home: NodeHome, policy: Policy, now: datetime) -> _Due:
    today, kept = now.astimezone(UTC).date(), policy.retention
    long_ago = now.astimezone(UTC) - timedelta(days=kept.consent_evidence_days)
    with home.register() as register:
        people = _lapsed(home, register, policy, now)
        events = _superseded(register, long_ago)
    with home.rights() as rights:
        evidence = rights.old_evidence(today)
    keys = month_keys(home)
    return _Due(
        policy=policy,
        today=today,
        people=people,
        identifiers=named_in_source(home, people) if people else [],
        events=events,
        evidence=evidence,
        months=[one.month for one in keys if one.unreadable_after < today],
        backups=_unreadable(home, {one.month for one in keys if one.unreadable_after >= today}),
        reports=[one for one in _files(home, IMPORTS, "*.refused.csv") if one.stat().st_mtime < long_ago.timestamp()],
        # Names begin with the moment, all alike, so they are in its order.
        records=[one for one in _files(home, RECORDS, "*.json") if one.name < long_ago.strftime(_STAMP)],
    )


def _lapsed(home: NodeHome, register: ConsentRegister, policy: Policy, now: datetime) -> frozenset[bytes]:
    """Whose rows have been kept long enough; who is still to be answered keeps theirs."""
    if policy.retention.lapsed_days is None:
        return frozenset()
    with home.rights() as rights:
        asking = {one.subject for one in rights.requests() if not one.request.status.is_final}
    return lapsed(register.events, policy, now - timedelta(days=policy.retention.lapsed_days)) - asking


def _superseded(register: ConsentRegister, long_ago: datetime) -> pa.Table:
    """Consent events of all purposes that have had no effect for so long."""
    found: list[pa.Table] = []
    for number, purpose in enumerate(Purpose):
        events = register.events(purpose)
        events = events.filter(pa.array(superseded(events, long_ago)))
        # Events for every purpose come with each.
        found.append(events.filter(pc.equal(events.column("purpose"), str(purpose))) if number else events)
    return pa.concat_tables(found)


def _unreadable(home: NodeHome, months: Collection[str]) -> list[Path]:
    """Backups of this unit, in its home, of none of these months."""
    found: list[Path] = []
    for path in files_below(home.path):
        with suppress(VerificationError), path.open("rb") as file:
            stated = read_header(file)
            if stated.get("unit") == home.settings.unit and stated.get("month") not in months:
                found.append(path)
    return found


def _files(home: NodeHome, folder: str, pattern: str) -> list[Path]:
    return sorted((home.path / LOCAL / folder).glob(pattern))


def _remove(home: NodeHome, due: _Due, now: datetime) -> None:
    with home.register() as register:
        register.forget_events(due.events)
    with home.rights() as rights:
        rights.forget_evidence(due.today)
    shred_keys(home, due.today)
    close_backups(home, now)
    conclude(home, now)
    for path in (*due.backups, *due.reports, *due.records):
        _delete(path)
    # Last: of a database it asks an operator.
    if due.identifiers:
        erase_rows(home, due.people)


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path} was not removed",
            why=error.strerror or "unknown cause",
            fix="let the unit's user write it, then: fedseg subject sweep",
        ) from error


def _still_named(home: NodeHome, identifiers: Sequence[bytes], files: Sequence[Path] | None = None) -> list[str]:
    """Files of the unit that name one of these people, apart from those that have rules of their own.

    The register of consents keeps what people said, under its own term; ledger and register of requests hold no
    identifiers by their form.
    """
    if not identifiers:
        return []
    apart = (*source_files(home), home.register_file, home.path / LOCAL / RIGHTS_FILE, home.path / "ledger.db")
    left_out = {path.resolve() for path in apart}
    searched = [one for one in files_below(home.path) if one.resolve() not in left_out] if files is None else files
    return [str(path) for path in find_leftovers(searched, identifiers, ())]


# The record


def _begin(home: NodeHome, due: _Due, now: datetime) -> Path:
    """Write down what is about to go, so that a killed sweep is known of."""
    name = f"{now.astimezone(UTC).strftime(_STAMP)}{_BEGUN}"
    home.keep_local(f"{RECORDS}/{name}", canonical(_facts(home, due, now)))
    return home.path / LOCAL / RECORDS / name


def _finish(home: NodeHome, due: _Due, begun: Path, named: Sequence[str], now: datetime) -> Swept:
    """Write the record of a sweep, with those of the killed ones before it."""
    before = [one for one in sorted(begun.parent.glob(f"*{_BEGUN}")) if one != begun]
    finished = [json.loads(one.read_bytes()) for one in before if not _record_of(one).exists()]
    facts: dict[str, Json] = {**_facts(home, due, now), "still_named_in": [*named], "finished": [*finished]}
    path = _record_of(begun)
    home.keep_local(f"{RECORDS}/{path.name}", canonical(facts))
    for one in (*before, begun):
        _delete(one)
    return Swept(due.ended(), path, [str(one["begun"]) for one in finished])


def _record_of(begun: Path) -> Path:
    return begun.with_name(f"{begun.name.removesuffix(_BEGUN)}.json")


def _facts(home: NodeHome, due: _Due, now: datetime) -> dict[str, Json]:
    return {
        "begun": now.astimezone(UTC).isoformat(),
        "ended": [{**asdict(one)} for one in due.ended()],
        "policy_sha256": due.policy.digest,
        "software": f"fedseg {fedseg.__version__}",
        "unit": home.settings.unit,
        "version": 1,
    }


def _rule_of_evidence(kept: Retention) -> str:
    return "consent_evidence_days" if kept.suppression_days is None else "suppression_days"


def _days_before(day: date, days: int) -> str:
    return (day - timedelta(days=days)).isoformat()
