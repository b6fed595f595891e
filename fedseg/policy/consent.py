"""Consent as events and the state they add up to: `fold(events, now)`.

An event is never changed or overwritten; what holds at a moment is computed from all events up to it. Every step of
the fold is a maximum or a minimum over one customer's events, so neither their order nor repeats matter, and nobody's
state depends on anyone else's events. What cannot be understood denies. Pure: no files, no clock.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum, IntFlag
from functools import cache
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedseg.errors import ConsentEventError
from fedseg.policy.lookup import distinct
from fedseg.policy.purposes import Purpose
from fedseg.table import SUBJECT, SUBJECT_TYPE

SUBJECT_BYTES: Final = 16
MAX_NOTICE_VERSION: Final = 1_000_000

EVERY_PURPOSE: Final = "*"
"""Scope of what holds whatever the data are used for, such as a veto. A consent never has it: it is to one purpose."""

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
"""Columns of a table of events; `valid_until` is null except for the kinds that give consent."""


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
    LIMIT_SENSITIVE = 256
    """The customer has limited the use of sensitive data about them."""


class Jurisdiction(IntEnum):
    """Whose law a customer's data are under, as far as the register says."""

    UNKNOWN = 0
    """No event says so, or the latest ones say different things."""
    EEA = 1
    GB = 2
    CH = 3
    US_CA = 4
    US = 5
    """In the United States, elsewhere than in California."""
    OTHER = 6

    @property
    def kind(self) -> str:
        """Name of the event kind that says so."""
        return f"jurisdiction_{self.name.lower()}"

    @property
    def text(self) -> str:
        """Its id in a policy: a location of DPV, or `other`.

        >>> Jurisdiction.US_CA.text
        'loc:US-CA'
        """
        return "other" if self is Jurisdiction.OTHER else f"loc:{self.name.replace('_', '-')}"


RECORDED_VETOES: Final = (
    Veto.OBJECTION,
    Veto.RESTRICTION,
    Veto.SUPPRESSED,
    Veto.OPT_OUT_SALE,
    Veto.OPT_OUT_SHARE,
    Veto.MINOR,
    Veto.LIMIT_SENSITIVE,
)
"""The vetoes that events set and lift; the other two follow from what the events lack."""

NEVER_TOLD: Final = -1
"""Instead of the version of a notice: the customer was sent none, or it did not reach them."""

_SAYS_NOTHING: Final = -1


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What events of one kind say."""

    status: int = 0
    """About consent: a `Status`."""
    explicit: int = 0
    """About explicit consent: a `Status`."""
    veto: int = 0
    lifted: int = 0
    tells: int = _SAYS_NOTHING
    """About a notice: 1 if it reached the customer, 0 if not."""
    jurisdiction: int = _SAYS_NOTHING


# Whoever refuses or takes back a consent has not kept up the explicit one.
_ENDS_BOTH: Final = (Status.REFUSED, Status.WITHDRAWN, Status.REVOKED)
_EXPLICIT: Final = (Status.GIVEN, *_ENDS_BOTH)

_MEANINGS: Final[Mapping[str, _Meaning]] = MappingProxyType(
    {one.kind: _Meaning(status=one, explicit=one if one in _ENDS_BOTH else 0) for one in Status if one}
    | {f"explicit_{one.kind}": _Meaning(explicit=one) for one in _EXPLICIT}
    | {str(one.name).lower(): _Meaning(veto=one) for one in RECORDED_VETOES}
    | {f"{str(one.name).lower()}_lifted": _Meaning(lifted=one) for one in RECORDED_VETOES}
    | {"notice_given": _Meaning(tells=1), "notice_undelivered": _Meaning(tells=0)}
    | {one.kind: _Meaning(jurisdiction=one) for one in Jurisdiction}
)

EVENT_KINDS: Final = frozenset(_MEANINGS)
"""Every event kind this version understands."""

GRANTS: Final = frozenset({"given", "renewed", "explicit_given"})
"""The kinds that give consent, and so must say until when."""

FOR_ONE_PURPOSE: Final = frozenset(kind for kind, one in _MEANINGS.items() if one.status or one.explicit)
"""The kinds whose scope is one purpose and never `EVERY_PURPOSE`."""

FOR_EVERY_PURPOSE: Final = frozenset(one.kind for one in Jurisdiction)
"""The kinds whose scope is `EVERY_PURPOSE` and nothing else."""

_SCOPES: Final = {purpose.value: index for index, purpose in enumerate(Purpose)} | {EVERY_PURPOSE: len(Purpose)}
_UNKNOWN_SCOPE: Final = len(_SCOPES)
_EVERY: Final = _SCOPES[EVERY_PURPOSE]

# A kind is handled as its place in this list; the last place is that of every kind nobody knows.
_KINDS: Final = {kind: place for place, kind in enumerate(sorted(EVENT_KINDS))}
_UNKNOWN_KIND: Final = len(_KINDS)


def _of_kind(name: str, unknown: int) -> NDArray[np.int16]:
    """What each kind means, by its place."""
    return np.array([getattr(_MEANINGS[kind], name) for kind in _KINDS] + [unknown], dtype=np.int16)


_STATUS: Final = _of_kind("status", 0)
_EXPLICIT_STATUS: Final = _of_kind("explicit", 0)
_VETO: Final = _of_kind("veto", 0)
_LIFTED: Final = _of_kind("lifted", 0)
_TELLS: Final = _of_kind("tells", _SAYS_NOTHING)
_JURISDICTION: Final = _of_kind("jurisdiction", _SAYS_NOTHING)
_ONE_PURPOSE: Final = np.array([kind in FOR_ONE_PURPOSE for kind in _KINDS] + [False])
_NO_PURPOSE: Final = np.array([kind in FOR_EVERY_PURPOSE for kind in _KINDS] + [False])
_MATTERS: Final[tuple[NDArray[np.bool_], ...]] = (
    _STATUS > 0,
    _EXPLICIT_STATUS > 0,
    *(np.equal(_VETO | _LIFTED, veto) for veto in RECORDED_VETOES),
    _TELLS != _SAYS_NOTHING,
    _JURISDICTION != _SAYS_NOTHING,
)
"""What each kind is about, by its place: of each matter only the latest word counts."""

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
    """Id of a `Purpose`, or `EVERY_PURPOSE`: never for a kind `FOR_ONE_PURPOSE`, always for one `FOR_EVERY_PURPOSE`."""
    kind: str
    """One of `EVENT_KINDS`."""
    event_time: datetime
    """When it took effect; UTC."""
    recorded_at: datetime
    """When the unit came to know; UTC. Counts from then on, never before."""
    valid_until: datetime | None = None
    """End of a consent, exclusive; UTC. Required for `GRANTS`, absent for every other kind."""
    notice_version: int = 0
    """Version of the privacy notice the customer saw, from 0 to `MAX_NOTICE_VERSION`."""

    def __post_init__(self) -> None:
        if len(self.subject) != SUBJECT_BYTES:
            raise _refused(f"its subject is {len(self.subject)} bytes long, not {SUBJECT_BYTES}")
        if self.kind not in EVENT_KINDS:
            raise _refused(f"its kind {self.kind!r} is none of {', '.join(sorted(EVENT_KINDS))}")
        if self.purpose not in _SCOPES:
            raise _refused(f"its purpose {self.purpose!r} is none of {', '.join(_SCOPES)}")
        if self.purpose == EVERY_PURPOSE and self.kind in FOR_ONE_PURPOSE:
            raise _refused(f"its kind {self.kind!r} needs one purpose: nobody consents to every purpose at once")
        if self.purpose != EVERY_PURPOSE and self.kind in FOR_EVERY_PURPOSE:
            raise _refused(f"its kind {self.kind!r} is about the customer: its purpose must be {EVERY_PURPOSE!r}")
        if (self.valid_until is not None) != (self.kind in GRANTS):
            raise _refused(f"valid_until must be there for {', '.join(sorted(GRANTS))}, and only for those")
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
    """The notice the customer saw when they consented."""
    vetoes: NDArray[np.uint16] = field(repr=False)
    """The standing `Veto` flags per customer."""
    explicit: NDArray[np.uint8] = field(repr=False)
    """A `Status` per customer: that of explicit consent to the use of special categories of data."""
    explicit_until: NDArray[np.int64] = field(repr=False)
    """End of the explicit consent, in microseconds since 1970 UTC; for `given`."""
    told_version: NDArray[np.int64] = field(repr=False)
    """Version of the notice that the customer was last sent; `NEVER_TOLD` if there is none."""
    jurisdiction: NDArray[np.uint8] = field(repr=False)
    """A `Jurisdiction` per customer, the same for every purpose."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            getattr(self, name).flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class ConsentState:
    """What all events up to one moment add up to. Personal data of the unit: it has no use outside."""

    subjects: pa.Array = field(repr=False)
    """Every customer with at least one event that counts; `pa.binary(16)`, unique, in byte order."""
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
    - Explicit consent is a matter of its own, under the same rules. Giving consent does not give it, but who refuses,
      withdraws or loses consent loses it too.
    - The notice that the customer was told of is that of the latest event about one, for this purpose or for every;
      of several at that time, the lowest version.
    - The jurisdiction is that of the latest event about it; `UNKNOWN` if events of that time disagree.
    - A veto stands if it was set and not lifted *later*, within the same scope: this purpose, or `EVERY_PURPOSE`.
      A later consent lifts nothing. A veto for every purpose stands for this one.
    - `AGE_UNKNOWN` stands unless a `minor` or `minor_lifted` event says otherwise.
    - An event with an unknown kind or scope, or of a kind that cannot have its scope, such as a consent to
      `EVERY_PURPOSE`, is `UNREADABLE`. Nothing lifts that: it may be a veto of a later version.

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
    return ConsentState(people, _ByPurpose(columns, len(people), moment), now)


def histories(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """The events in pieces, each with all events of its customers.

    Args:
        batches: Of `EVENT_SCHEMA`, in the order of the customers.
        size: Events of a piece, and up to a batch more; or as many as a single customer has.
    """
    kept: list[pa.RecordBatch] = []
    for batch in batches:
        kept.append(batch)
        if sum(map(len, kept)) < size:
            continue
        piece = pa.Table.from_batches(kept, EVENT_SCHEMA)
        subjects = piece.column(SUBJECT).combine_chunks()
        # Nobody knows yet whether the last customer's events are all here.
        end = pc.index(subjects, subjects[-1]).as_py()
        if end:
            yield piece.slice(0, end)
        kept = piece.slice(end).to_batches()
    if kept:
        yield pa.Table.from_batches(kept, EVENT_SCHEMA)


def superseded(events: pa.Table, before: datetime) -> NDArray[np.bool_]:
    """Which events have been without any effect since `before`, and can never have one again.

    Those after which, within the same scope, something later was said about the same matter, and the unit knew of it
    by `before`. Matters are consent, explicit consent, each veto with its lifting, notices, and jurisdiction; an event
    about two of them must be superseded in both. The latest word about each stays, whatever it says, and so does
    every event that this version cannot read.

    So for every moment from `before` on, and whatever other events come later with whatever times, `fold` of the
    others is `fold` of all: a maximum over times is never that of a smaller one.

    Args:
        events: A table of `EVENT_SCHEMA`.
        before: Aware datetime.

    Returns:
        One truth value for each event.

    Raises:
        ConsentEventError: As `fold`.
        ValueError: If `before` has no time zone.
    """
    known = np.maximum(_numbers(_checked(events), "event_time"), _numbers(events, "recorded_at"))
    people, columns = _columns(events)
    speaks = known <= to_microseconds(before)
    over, about = np.zeros(len(known), dtype=np.bool_), np.zeros(len(known), dtype=np.bool_)
    for scope in _SCOPES.values():
        readable = (columns.scope == scope) & ~_misplaced(columns) & (columns.kind != _UNKNOWN_KIND)
        for matter in _MATTERS:
            rows = np.flatnonzero(readable & matter[columns.kind])
            last, _ = _latest(columns, rows[speaks[rows]], len(people))
            is_over = columns.event_time[rows] < last[columns.person[rows]]
            over[rows] = is_over & (over[rows] | ~about[rows])
            about[rows] = True
    return over


def to_microseconds(time: datetime) -> int:
    """Microseconds since 1970 UTC, exactly.

    Raises:
        ValueError: If `time` has no time zone.
    """
    if time.utcoffset() is None:
        raise ValueError("a moment needs a time zone")
    return (time - _EPOCH) // timedelta(microseconds=1)


class _ByPurpose(Mapping[Purpose, PurposeState]):
    """The state for each purpose, computed when it is first asked for: a decision needs one of them."""

    def __init__(self, columns: "_Columns", people: int, moment: int) -> None:
        jurisdiction = _jurisdiction(columns, people)
        self._state = cache(lambda scope: _purpose_state(columns, scope, people, moment, jurisdiction))

    def __getitem__(self, purpose: Purpose) -> PurposeState:
        return self._state(_SCOPES[purpose.value])

    def __iter__(self) -> Iterator[Purpose]:
        return iter(Purpose)

    def __len__(self) -> int:
        return len(Purpose)


@dataclass(frozen=True, slots=True)
class _Columns:
    """The events that count, as arrays of equal length."""

    person: NDArray[np.int64]
    scope: NDArray[np.uint8]
    kind: NDArray[np.uint8]
    """Place in `_KINDS`."""
    event_time: NDArray[np.int64]
    valid_until: NDArray[np.int64]
    notice_version: NDArray[np.int64]


_Rows: TypeAlias = NDArray[np.int64]
"""Which events: places in `_Columns`."""


def _checked(table: pa.Table) -> pa.Table:
    if table.schema.names != EVENT_SCHEMA.names or table.schema.types != EVENT_SCHEMA.types:
        raise _refused("the table of events has other columns or types than the event schema")
    if any(table.column(item.name).null_count for item in EVENT_SCHEMA if not item.nullable):
        raise _refused("a column that every event needs holds nulls")
    return table


def _counting(table: pa.Table, moment: int) -> tuple[pa.Array, _Columns]:
    """The customers with an event that counts at `moment`, and those events."""
    known = np.maximum(_numbers(table, "event_time"), _numbers(table, "recorded_at")) <= moment
    return _columns(table if known.all() else table.filter(pa.array(known)))


def _columns(table: pa.Table) -> tuple[pa.Array, _Columns]:
    """The customers of a table of events, and its columns."""
    people, person = distinct(table.column(SUBJECT).combine_chunks())
    columns = _Columns(
        person=person,
        scope=_coded(table, "purpose", _SCOPES, _UNKNOWN_SCOPE),
        kind=_coded(table, "kind", _KINDS, _UNKNOWN_KIND),
        event_time=_numbers(table, "event_time"),
        valid_until=_numbers(table, "valid_until"),
        notice_version=_numbers(table, "notice_version"),
    )
    return people, columns


def _numbers(table: pa.Table, name: str) -> NDArray[np.int64]:
    """A column as integers; null, which only `valid_until` may hold, is the beginning of time: long over."""
    whole = table.column(name).combine_chunks().cast(pa.int64())
    numbers: NDArray[np.int64] = (pc.fill_null(whole, _BEFORE_ALL_TIME) if whole.null_count else whole).to_numpy()
    return numbers


def _coded(table: pa.Table, name: str, codes: Mapping[str, int], otherwise: int) -> NDArray[np.uint8]:
    """A text column as codes; each distinct text is looked up once."""
    encoded = table.column(name).combine_chunks().dictionary_encode()
    lookup = np.array([codes.get(text, otherwise) for text in encoded.dictionary.to_pylist()], dtype=np.uint8)
    coded: NDArray[np.uint8] = lookup[encoded.indices.to_numpy()]
    return coded


def _purpose_state(
    columns: _Columns, scope: int, people: int, moment: int, jurisdiction: NDArray[np.uint8]
) -> PurposeState:
    here, everywhere = columns.scope == scope, columns.scope == _EVERY
    near = here | everywhere
    status, event_time, valid_until, notice_version = _consent(columns, here, _STATUS, people, moment)
    explicit, _, explicit_until, _ = _consent(columns, here, _EXPLICIT_STATUS, people, moment)
    vetoes = _standing(columns, here, people) | _standing(columns, everywhere, people)
    vetoes |= _age_unknown(columns, near, people) | _unreadable(columns, near, people)
    return PurposeState(
        status=status,
        event_time=event_time,
        valid_until=valid_until,
        notice_version=notice_version,
        vetoes=vetoes,
        explicit=explicit,
        explicit_until=explicit_until,
        told_version=_told(columns, near, people),
        jurisdiction=jurisdiction,
    )


def _consent(
    columns: _Columns, within: NDArray[np.bool_], statuses: NDArray[np.int16], people: int, moment: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Status, its time, its end and its notice, of the events to which `statuses` gives one."""
    latest, tied = _latest(columns, np.flatnonzero(within & (statuses > 0)[columns.kind]), people)
    person = columns.person[tied]
    status = np.zeros(people, dtype=np.uint8)
    np.maximum.at(status, person, statuses[columns.kind[tied]].astype(np.uint8))
    valid_until = np.full(people, _AFTER_ALL_TIME)
    np.minimum.at(valid_until, person, columns.valid_until[tied])
    notice_version = np.full(people, _AFTER_ALL_TIME)
    np.minimum.at(notice_version, person, columns.notice_version[tied])
    is_grant = (status == Status.GIVEN) | (status == Status.RENEWED)
    status[is_grant & (valid_until <= moment)] = Status.EXPIRED
    return status, latest, valid_until, notice_version


def _told(columns: _Columns, near: NDArray[np.bool_], people: int) -> NDArray[np.int64]:
    """The version of the notice each customer was last told of."""
    _, tied = _latest(columns, np.flatnonzero(near & (_TELLS != _SAYS_NOTHING)[columns.kind]), people)
    reached = _TELLS[columns.kind[tied]] > 0
    told = np.full(people, NEVER_TOLD, dtype=np.int64)
    told[columns.person[tied]] = _AFTER_ALL_TIME
    np.minimum.at(told, columns.person[tied], np.where(reached, columns.notice_version[tied], NEVER_TOLD))
    return told


def _jurisdiction(columns: _Columns, people: int) -> NDArray[np.uint8]:
    """The jurisdiction of each customer, whatever the purpose; a kind of this sort with a purpose is `UNREADABLE`."""
    said = (columns.scope == _EVERY) & (_JURISDICTION != _SAYS_NOTHING)[columns.kind]
    _, tied = _latest(columns, np.flatnonzero(said), people)
    codes = _JURISDICTION[columns.kind[tied]].astype(np.uint8)
    most = np.zeros(people, dtype=np.uint8)
    np.maximum.at(most, columns.person[tied], codes)
    least = most.copy()
    np.minimum.at(least, columns.person[tied], codes)
    return np.where(most == least, most, np.uint8(Jurisdiction.UNKNOWN))


def _latest(columns: _Columns, rows: _Rows, people: int) -> tuple[NDArray[np.int64], _Rows]:
    """When each customer's latest of these events was, and the events of that time."""
    person, time = columns.person[rows], columns.event_time[rows]
    latest = np.full(people, _BEFORE_ALL_TIME)
    np.maximum.at(latest, person, time)
    return latest, rows[time == latest[person]]


def _standing(columns: _Columns, within: NDArray[np.bool_], people: int) -> NDArray[np.uint16]:
    """The vetoes set within one scope and not lifted later within it."""
    standing = np.zeros(people, dtype=np.uint16)
    rows = np.flatnonzero(within & ((_VETO | _LIFTED) != 0)[columns.kind])
    for veto in RECORDED_VETOES:
        placed = rows[_VETO[columns.kind[rows]] == veto]
        if not len(placed):
            continue
        last_set, _ = _latest(columns, placed, people)
        last_lifted, _ = _latest(columns, rows[_LIFTED[columns.kind[rows]] == veto], people)
        person = columns.person[placed]
        # A lifting at the very moment of the veto does not lift it: ties go to the more restrictive.
        standing[person] |= np.where(last_lifted[person] <= last_set[person], np.uint16(veto), np.uint16(0))
    return standing


def _age_unknown(columns: _Columns, near: NDArray[np.bool_], people: int) -> NDArray[np.uint16]:
    about_age = ((_VETO | _LIFTED) == Veto.MINOR)[columns.kind]
    unknown = np.full(people, Veto.AGE_UNKNOWN, dtype=np.uint16)
    unknown[columns.person[near & about_age]] = 0
    return unknown


def _misplaced(columns: _Columns) -> NDArray[np.bool_]:
    """Events of a kind that cannot have their scope."""
    misplaced: NDArray[np.bool_] = np.where(
        columns.scope == _EVERY, _ONE_PURPOSE[columns.kind], _NO_PURPOSE[columns.kind]
    )
    return misplaced


def _unreadable(columns: _Columns, near: NDArray[np.bool_], people: int) -> NDArray[np.uint16]:
    unread = near & ((columns.kind == _UNKNOWN_KIND) | _misplaced(columns))
    unreadable = np.zeros(people, dtype=np.uint16)
    unreadable[columns.person[unread | (columns.scope == _UNKNOWN_SCOPE)]] = Veto.UNREADABLE
    return unreadable


def _refused(why: str) -> ConsentEventError:
    return ConsentEventError(
        "a consent event cannot be read",
        why=why,
        fix="correct the event at its source and import it again; nothing of this import was kept",
    )
