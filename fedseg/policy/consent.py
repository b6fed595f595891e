"""Consent as events and the state they add up to: `fold(events, now)`.

An event is never changed or overwritten; what holds at a moment is computed from all events up to it. Every step of
the fold is a maximum or a minimum over one customer's events, so neither their order nor repeats matter, and nobody's
state depends on anyone else's events. What cannot be understood denies. Pure: no files, no clock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum, IntFlag
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedseg.errors import ConsentEventError
from fedseg.policy.purposes import Purpose
from fedseg.table import SUBJECT, SUBJECT_TYPE

SUBJECT_BYTES: Final = 16
MAX_NOTICE_VERSION: Final = 1_000_000

EVERY_PURPOSE: Final = "*"
"""Scope of a veto that holds whatever the data are used for. A consent never has it: consent is to one purpose."""

EVENT_TIME_TYPE: Final = pa.timestamp("us", tz="UTC")

EVENT_SCHEMA: Final = pa.schema(
    [
        pa.field(SUBJECT, SUBJECT_TYPE, nullable=False),
        pa.field("purpose", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("event_time", EVENT_TIME_TYPE, nullable=False),
        pa.field("recorded_at", EVENT_TIME_TYPE, nullable=False),
        pa.field("valid_until", EVENT_TIME_TYPE, nullable=True),
        pa.field("notice_version", pa.int64(), nullable=False),
    ]
)
"""Columns of a table of events; `valid_until` is null except for `given` and `renewed`."""


class Status(IntEnum):
    """Where a customer's consent to one purpose stands; a larger number wins a tie: it is the more restrictive."""

    NO_RECORD = 0
    """No event says anything about consent to this purpose."""
    GIVEN = 1
    RENEWED = 2
    """Given again. More restrictive than `GIVEN` in a tie: every policy accepts `given`, not every one `renewed`."""
    REQUESTED = 3
    UNKNOWN = 4
    EXPIRED = 5
    REFUSED = 6
    WITHDRAWN = 7
    """Taken back by the customer."""
    REVOKED = 8
    """Ended by someone else."""

    @property
    def kind(self) -> str:
        """Name of the event kind that sets this status."""
        return self.name.lower()


class Veto(IntFlag):
    """What forbids counting a customer whatever they agreed to. Independent of consent and of each other."""

    OBJECTION = 1
    RESTRICTION = 2
    SUPPRESSED = 4
    OPT_OUT_SALE = 8
    OPT_OUT_SHARE = 16
    MINOR = 32
    AGE_UNKNOWN = 64
    """No event says whether the customer is a minor (`minor`) or an adult (`minor_lifted`)."""
    UNREADABLE = 128
    """An event about this customer has a kind or scope this version does not know. Denies under every policy."""


RECORDED_VETOES: Final = (
    Veto.OBJECTION,
    Veto.RESTRICTION,
    Veto.SUPPRESSED,
    Veto.OPT_OUT_SALE,
    Veto.OPT_OUT_SHARE,
    Veto.MINOR,
)
"""The vetoes that events set and lift; the other two follow from what the events lack."""

_GRANTS: Final = frozenset({"given", "renewed"})
_STATUS_OF_KIND: Final = {status.kind: int(status) for status in Status if status is not Status.NO_RECORD}
_VETO_OF_KIND: Final = {str(veto.name).lower(): int(veto) for veto in RECORDED_VETOES}
_LIFTED_BY_KIND: Final = {f"{kind}_lifted": veto for kind, veto in _VETO_OF_KIND.items()}

EVENT_KINDS: Final = frozenset(_STATUS_OF_KIND) | frozenset(_VETO_OF_KIND) | frozenset(_LIFTED_BY_KIND)
"""Every event kind this version understands."""

_SCOPES: Final = {purpose.value: index for index, purpose in enumerate(Purpose)} | {EVERY_PURPOSE: len(Purpose)}
_UNKNOWN_SCOPE: Final = len(_SCOPES)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BEFORE_ALL_TIME: Final = np.iinfo(np.int64).min
_AFTER_ALL_TIME: Final = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One thing a customer said, or that was established about them.

    Raises:
        ConsentEventError: If a rule of a field below is broken. The text never names the customer.
    """

    subject: bytes = field(repr=False)
    """The 16-byte pseudonymous key of the customer, as in the unit's table."""
    purpose: str
    """Id of a `Purpose`, or, for a veto and its lifting, `EVERY_PURPOSE`."""
    kind: str
    """One of `EVENT_KINDS`."""
    event_time: datetime
    """When it took effect; UTC."""
    recorded_at: datetime
    """When the unit came to know; UTC. Counts from then on, never before."""
    valid_until: datetime | None = None
    """End of a consent, exclusive; UTC. Required for `given` and `renewed`, absent for every other kind."""
    notice_version: int = 0
    """Version of the privacy notice the customer saw, from 0 to `MAX_NOTICE_VERSION`."""

    def __post_init__(self) -> None:
        if len(self.subject) != SUBJECT_BYTES:
            raise _refused(f"its subject is {len(self.subject)} bytes long, not {SUBJECT_BYTES}")
        if self.kind not in EVENT_KINDS:
            raise _refused(f"its kind {self.kind!r} is none of {', '.join(sorted(EVENT_KINDS))}")
        if self.purpose not in _SCOPES:
            raise _refused(f"its purpose {self.purpose!r} is none of {', '.join(_SCOPES)}")
        if self.purpose == EVERY_PURPOSE and self.kind in _STATUS_OF_KIND:
            raise _refused(f"its kind {self.kind!r} needs one purpose: only a veto holds for every purpose")
        if (self.valid_until is not None) != (self.kind in _GRANTS):
            raise _refused("valid_until must be there for given and renewed, and only for those")
        if not 0 <= self.notice_version <= MAX_NOTICE_VERSION:
            raise _refused(f"its notice_version is not between 0 and {MAX_NOTICE_VERSION}")
        for time in (self.event_time, self.recorded_at, self.valid_until):
            if time is not None and time.utcoffset() != timedelta(0):
                raise _refused("its times must be in UTC, with the zone stated")


@dataclass(frozen=True, slots=True, eq=False)
class PurposeState:
    """What the events say about each customer for one purpose: arrays in the order of `ConsentState.subjects`."""

    status: NDArray[np.uint8] = field(repr=False)
    """A `Status` per customer."""
    event_time: NDArray[np.int64] = field(repr=False)
    """When that status took effect, in microseconds since 1970 UTC; meaningless for `NO_RECORD`."""
    valid_until: NDArray[np.int64] = field(repr=False)
    """End of the consent, same unit; for `given` and `renewed`."""
    notice_version: NDArray[np.int64] = field(repr=False)
    """The notice the customer saw."""
    vetoes: NDArray[np.uint8] = field(repr=False)
    """The standing `Veto` flags per customer."""

    def __post_init__(self) -> None:
        for array in (self.status, self.event_time, self.valid_until, self.notice_version, self.vetoes):
            array.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class ConsentState:
    """What all events up to one moment add up to. Personal data of the unit: it has no use outside."""

    subjects: pa.Array = field(repr=False)
    """Every customer with at least one event that counts; `pa.binary(16)`, unique."""
    by_purpose: Mapping[Purpose, PurposeState] = field(repr=False)
    """The state for every purpose there is."""
    folded_at: datetime
    """The moment: later events were not counted."""


def events_table(events: Iterable[ConsentEvent]) -> pa.Table:
    """The events as an Arrow table of `EVENT_SCHEMA`."""
    listed = list(events)
    columns = [[getattr(event, name) for event in listed] for name in EVENT_SCHEMA.names]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, EVENT_SCHEMA.types, strict=True)]
    return pa.table(arrays, schema=EVENT_SCHEMA)


def fold(events: pa.Table | Iterable[ConsentEvent], now: datetime) -> ConsentState:
    """Compute where everyone's consent stands at `now`.

    Events whose `event_time` or `recorded_at` lies after `now` do not count. Then, for each customer and purpose:

    - The status is that of the latest event about consent. Where several share that time, the most restrictive status
      counts, with the earliest `valid_until` and the lowest `notice_version` among them.
    - A consent with `valid_until <= now`, or without one, is `EXPIRED`.
    - A veto stands if it was set and not lifted *later*, within the same scope: this purpose, or `EVERY_PURPOSE`.
      A later consent lifts nothing. A veto for every purpose stands for this one.
    - `AGE_UNKNOWN` stands unless a `minor` or `minor_lifted` event says otherwise.
    - An event with an unknown kind or scope, or a consent to `EVERY_PURPOSE`, is `UNREADABLE`. Nothing lifts that: it
      may be a veto of a later version.

    Args:
        events: Events, or a table of `EVENT_SCHEMA`; in any order, repeats allowed.
        now: Aware datetime.

    Raises:
        ConsentEventError: If the table has another schema, or nulls where the schema has none: then nobody's state
            can be trusted.
        ValueError: If `now` has no time zone.
    """
    table = events if isinstance(events, pa.Table) else events_table(events)
    moment = to_microseconds(now)
    people, columns = _counting(_checked(table), moment)
    by_purpose = {purpose: _purpose_state(columns, _SCOPES[purpose.value], len(people), moment) for purpose in Purpose}
    return ConsentState(people, by_purpose, now)


def to_microseconds(time: datetime) -> int:
    """Microseconds since 1970 UTC, exactly.

    Raises:
        ValueError: If `time` has no time zone.
    """
    if time.utcoffset() is None:
        raise ValueError("a moment needs a time zone")
    return (time - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class _Columns:
    """The events that count, as arrays of equal length."""

    person: NDArray[np.int64]
    scope: NDArray[np.uint8]
    status: NDArray[np.uint8]
    veto: NDArray[np.uint8]
    lifted: NDArray[np.uint8]
    event_time: NDArray[np.int64]
    valid_until: NDArray[np.int64]
    notice_version: NDArray[np.int64]

    def where(self, mask: NDArray[np.bool_]) -> "_Columns":
        rows = np.flatnonzero(mask)
        return _Columns(*(getattr(self, name)[rows] for name in self.__slots__))


def _checked(table: pa.Table) -> pa.Table:
    if table.schema.names != EVENT_SCHEMA.names or table.schema.types != EVENT_SCHEMA.types:
        raise _refused("the table of events has other columns or types than the event schema")
    if any(table.column(item.name).null_count for item in EVENT_SCHEMA if not item.nullable):
        raise _refused("a column that every event needs holds nulls")
    return table


def _counting(table: pa.Table, moment: int) -> tuple[pa.Array, _Columns]:
    """The customers with an event that counts at `moment`, and those events."""
    known = np.maximum(_numbers(table, "event_time"), _numbers(table, "recorded_at")) <= moment
    table = table.filter(pa.array(known))
    subjects = table.column(SUBJECT).combine_chunks().dictionary_encode()
    columns = _Columns(
        person=subjects.indices.to_numpy().astype(np.int64),
        scope=_coded(table, "purpose", _SCOPES, _UNKNOWN_SCOPE),
        status=_coded(table, "kind", _STATUS_OF_KIND, 0),
        veto=_coded(table, "kind", _VETO_OF_KIND, 0),
        lifted=_coded(table, "kind", _LIFTED_BY_KIND, 0),
        event_time=_numbers(table, "event_time"),
        valid_until=_numbers(table, "valid_until"),
        notice_version=_numbers(table, "notice_version"),
    )
    return subjects.dictionary, columns


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    """A column as integers; null, which only `valid_until` may hold, is the beginning of time: long over."""
    whole = table.column(name).combine_chunks().cast(pa.int64())
    numbers: NDArray[np.int64] = pc.fill_null(whole, _BEFORE_ALL_TIME).to_numpy()
    return numbers


def _coded(table: pa.Table, name: str, codes: Mapping[str, int], otherwise: int) -> NDArray[np.uint8]:
    """A text column as codes; each distinct text is looked up once."""
    encoded = table.column(name).combine_chunks().dictionary_encode()
    lookup = np.array([codes.get(text, otherwise) for text in encoded.dictionary.to_pylist()], dtype=np.uint8)
    coded: NDArray[np.uint8] = lookup[encoded.indices.to_numpy()]
    return coded


def _purpose_state(columns: _Columns, scope: int, people: int, moment: int) -> PurposeState:
    every = _SCOPES[EVERY_PURPOSE]
    here = columns.where((columns.scope == scope) & (columns.status > 0))
    latest = _latest(here, people)
    tied = here.where(here.event_time == latest[here.person])
    status = np.zeros(people, dtype=np.uint8)
    np.maximum.at(status, tied.person, tied.status)
    valid_until = np.full(people, _AFTER_ALL_TIME)
    np.minimum.at(valid_until, tied.person, tied.valid_until)
    notice_version = np.full(people, np.iinfo(np.int64).max)
    np.minimum.at(notice_version, tied.person, tied.notice_version)
    is_grant = (status == Status.GIVEN) | (status == Status.RENEWED)
    status[is_grant & (valid_until <= moment)] = Status.EXPIRED
    vetoes = _standing(columns, scope, people) | _standing(columns, every, people)
    vetoes |= _age_unknown(columns, (scope, every), people) | _unreadable(columns, (scope, every), people)
    return PurposeState(status, latest, valid_until, notice_version, vetoes)


def _latest(columns: _Columns, people: int) -> NDArray[np.int64]:
    latest = np.full(people, _BEFORE_ALL_TIME)
    np.maximum.at(latest, columns.person, columns.event_time)
    return latest


def _standing(columns: _Columns, scope: int, people: int) -> NDArray[np.uint8]:
    """The vetoes set within one scope and not lifted later within it."""
    standing = np.zeros(people, dtype=np.uint8)
    here = columns.where(columns.scope == scope)
    for veto in RECORDED_VETOES:
        placed = here.where(here.veto == veto)
        last_set = _latest(placed, people)
        last_lifted = _latest(here.where(here.lifted == veto), people)
        was_set = np.zeros(people, dtype=np.bool_)
        was_set[placed.person] = True
        # A lifting at the very moment of the veto does not lift it: ties go to the more restrictive.
        standing[was_set & (last_lifted <= last_set)] |= np.uint8(veto)
    return standing


def _age_unknown(columns: _Columns, scopes: tuple[int, ...], people: int) -> NDArray[np.uint8]:
    about_age = (columns.veto == Veto.MINOR) | (columns.lifted == Veto.MINOR)
    unknown = np.full(people, Veto.AGE_UNKNOWN, dtype=np.uint8)
    unknown[columns.person[about_age & np.isin(columns.scope, scopes)]] = 0
    return unknown


def _unreadable(columns: _Columns, scopes: tuple[int, ...], people: int) -> NDArray[np.uint8]:
    nothing = (columns.status | columns.veto | columns.lifted) == 0
    blanket_consent = (columns.status > 0) & (columns.scope == _SCOPES[EVERY_PURPOSE])
    here = np.isin(columns.scope, scopes) & (nothing | blanket_consent)
    unreadable = np.zeros(people, dtype=np.uint8)
    unreadable[columns.person[here | (columns.scope == _UNKNOWN_SCOPE)]] = Veto.UNREADABLE
    return unreadable


def _refused(why: str) -> ConsentEventError:
    return ConsentEventError(
        "a consent event cannot be read",
        why=why,
        fix="correct the event at its source and import it again; nothing of this import was kept",
    )
