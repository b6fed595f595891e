"""`ConsentMapping`: how the records of an export become consent events, declared in a TOML file with a closed schema.

A mapping names fields and says what their values mean; it holds no expressions. What it does not name is refused, line
by line, and never guessed. Pure but for `load_mapping`, which reads the file.
"""

import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedseg.errors import ConsentEventError, MappingError
from fedseg.ledger.canonical import canonical, sha256_hex
from fedseg.policy.consent import EVENT_KINDS, EVERY_PURPOSE, GRANTS, ConsentEvent
from fedseg.policy.purposes import Purpose

SHIPPED: Final = Path(__file__).parent / "mappings"
"""Where the mappings are that come with fedseg, one file each."""

DOCUMENT_BYTES_MAX: Final = 64 * 1024
EVIDENCE_CHARACTERS_MAX: Final = 300
TELLING_CHARACTERS: Final = 8
"""An identifier at least this long is looked for inside evidence; a shorter one may stand there by chance."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_INSTANT: Final = timedelta(microseconds=1)
_SCOPES: Final = frozenset(purpose.value for purpose in Purpose) | {EVERY_PURPOSE}
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)
_COUNT: Final = re.compile(r"-?\d{1,15}(\.\d{1,9})?", re.ASCII)
_VERSION: Final = re.compile(r"\d{1,7}", re.ASCII)
_STEP: Final = re.compile(r"([^.\[\]=@]+|@)(?:\[([^.\[\]=]+)=([^\[\]=]+)\])?")
_PATH: Final = re.compile(rf"@key|{_STEP.pattern}(?:\.{_STEP.pattern})*")
_UNIX: Final = {"unix-seconds": timedelta(seconds=1), "unix-milliseconds": timedelta(milliseconds=1)}


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError) as error:  # OSError: names a directory; what is not found is a KeyError below
        raise ValueError(f"{name!r} names no time zone of this machine") from error
    except KeyError as error:
        raise ValueError(f"{name!r} names no time zone of this machine; Debian has them in tzdata") from error
    return name


def _time_format(text: str) -> str:
    if text != "iso" and text not in _UNIX and not re.search(r"%d|%j", text):
        raise ValueError('must be "iso", "unix-seconds", "unix-milliseconds", or a pattern such as "%d.%m.%Y"')
    return text


def _path(text: str) -> str:
    if text.startswith("@") and not _PATH.fullmatch(text):
        raise ValueError('must be "@key", "@", or "@" and a path such as "@.type"')
    return text


FieldPath = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_path)]
Word = Annotated[str, Field(max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TextRule(_Part):
    """Where a text comes from, and what it stands for."""

    field: FieldPath | None = None
    """Column, or path in a JSON record."""
    value: Word | None = None
    """The same text for every record, in place of a field."""
    values: dict[Word, Word] | None = None
    """What each text in the field stands for, compared without case; any other is refused. As it stands if absent."""
    ignore: Annotated[tuple[Word, ...], Field(strict=False)] = ()
    """Texts for which there is no event; `""` is an empty or missing field."""
    others: Literal["refuse", "ignore"] = "refuse"
    """What to do with a text that neither `values` nor `ignore` names."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.field is None) == (self.value is None):
            raise ValueError("name either a field or a value")
        if self.field is None and (self.values is not None or self.ignore):
            raise ValueError("values and ignore need a field")
        named = [folded(text) for text in (*(self.values or {}), *self.ignore)]
        if len(set(named)) < len(named):
            raise ValueError("values and ignore name a text twice; case makes no difference")
        if self.others == "ignore" and self.values is None:
            raise ValueError("others needs values")
        return self

    @functools.cached_property
    def meanings(self) -> Mapping[str, str | None]:
        """What a text of the field stands for; None for no event."""
        named = {folded(text): meaning for text, meaning in (self.values or {}).items()}
        return named | dict.fromkeys(map(folded, self.ignore))


class TimeRule(_Part):
    """Where a time comes from, and how it is written."""

    field: FieldPath
    format: Annotated[Word, AfterValidator(_time_format)] = "iso"
    """`iso`, `unix-seconds`, `unix-milliseconds`, or a pattern of Python's `strptime`."""
    zone: Annotated[Word, AfterValidator(_zone)] | None = None
    """Time zone of times that state none; without it such times are refused."""
    undated: Literal["refuse", "import"] = "refuse"
    """What to do with an event that denies and has no time: with `import` it counts from the moment of import."""


class EndRule(_Part):
    """When a consent ends."""

    field: FieldPath | None = None
    format: Annotated[Word, AfterValidator(_time_format)] = "iso"
    zone: Annotated[Word, AfterValidator(_zone)] | None = None
    days: Annotated[int, Field(ge=1, le=36500)] | None = None
    """So many days after it was given, in place of a field."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.field is None) == (self.days is None):
            raise ValueError("name either a field or a number of days")
        return self


class EventRule(_Part):
    """One event of a record, or of each element of a list or mapping in it."""

    each: FieldPath | None = None
    """List or mapping in the record; `@` is its element, `@key` that element's name in a mapping."""
    when: FieldPath | None = None
    """Field that must not be empty; there is no event otherwise."""
    purpose: TextRule
    kind: TextRule
    event_time: TimeRule
    recorded_at: TimeRule | None = None
    """When the unit came to know; the moment of import if absent or empty."""
    valid_until: EndRule | None = None
    notice_version: TextRule | None = None
    record_id: TextRule | None = None
    notice_uri: TextRule | None = None
    notice_language: TextRule | None = None
    method: TextRule | None = None
    """How the customer said so, such as a web form."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind.others == "ignore":
            raise ValueError("kind may not ignore others: one of them may be a withdrawal")
        for name, rule, known in (("purpose", self.purpose, _SCOPES), ("kind", self.kind, EVENT_KINDS)):
            stated = {rule.value} if rule.value is not None else set((rule.values or {}).values())
            if unknown := sorted(map(str, stated - known)):
                raise ValueError(f"{name} {unknown[0]!r} is none of {', '.join(sorted(known))}")
        return self

    @functools.cached_property
    def evidence(self) -> Mapping[str, TextRule]:
        """The rules for what is kept as evidence."""
        rules: dict[str, TextRule | None] = {
            "record_id": self.record_id,
            "notice_uri": self.notice_uri,
            "notice_language": self.notice_language,
            "method": self.method,
        }
        return {name: rule for name, rule in rules.items() if rule is not None}


class ConsentMapping(_Part):
    """The content of a mapping file."""

    version: Literal[1]
    source: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    """The system that the export is from; kept with every event."""
    format: Literal["csv", "jsonl"]
    """A CSV file with a heading, or a JSON object a line."""
    delimiter: Literal[",", ";", "\t", "|"] = ","
    """Between the fields of a CSV line."""
    json_columns: Annotated[tuple[Word, ...], Field(strict=False)] = ()
    """Columns of a CSV file whose cells hold JSON."""
    optional: Annotated[tuple[Word, ...], Field(strict=False)] = ()
    """Columns of a CSV file that may be missing, as if they were empty."""
    identifier: FieldPath
    """The customer's identifier, as in the unit's data source."""
    events: Annotated[tuple[EventRule, ...], Field(min_length=1, max_length=100, strict=False)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.format == "jsonl" and (self.json_columns or self.optional or self.delimiter != ","):
            raise ValueError("delimiter, json_columns and optional are for csv")
        if self.format == "jsonl" and (wrong := [path for path in self.fields if not _PATH.fullmatch(path)]):
            raise ValueError(f"{wrong[0]!r} is no path; write a.b, or a[c=d].b for the element of a whose c is d")
        return self

    @functools.cached_property
    def digest(self) -> str:
        """Hash of what the mapping says."""
        return sha256_hex(canonical(self.model_dump(mode="json")))

    @property
    def fields(self) -> list[str]:
        """What of a record the mapping names: columns, or paths."""
        named = [self.identifier, *self.json_columns]
        for event in self.events:
            rules = [one for one in dict(event).values() if isinstance(one, TextRule | TimeRule | EndRule)]
            named += [path for path in (event.each, event.when, *(rule.field for rule in rules)) if path]
        return list(dict.fromkeys(name for name in named if not name.startswith("@")))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What shows that an event happened: kept beside it, never used to decide. Empty where nothing was said."""

    source: str = ""
    record_id: str = field(default="", repr=False)
    notice_uri: str = ""
    notice_language: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True)
class ReadEvent:
    """An event of a record, with its evidence. Times that the record does not say are the moment of import."""

    event: ConsentEvent
    evidence: Evidence
    is_dated: bool
    """Whether the record says when it took effect."""
    is_recorded: bool
    """Whether the record says when the unit came to know."""


def shipped_mappings() -> list[str]:
    """Names of the mappings that come with fedseg."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def mapping_document(name: str) -> bytes:
    """The bytes of a mapping: a shipped one by its name, or a file by its path, which ends in .toml.

    Raises:
        MappingError: If there is none.
    """
    path = Path(name) if name.endswith(".toml") else SHIPPED / f"{name}.toml"
    if not name.endswith(".toml") and name not in shipped_mappings():
        raise MappingError(
            f"there is no mapping {name!r}",
            why=f"fedseg has {', '.join(shipped_mappings())}",
            fix="name one of these, or the path of your own file, which ends in .toml",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise MappingError(
            f"the mapping {name} cannot be read", why=error.strerror or "unknown cause", fix="check the path"
        ) from error


def parse_mapping(document: bytes) -> ConsentMapping:
    """The mapping that a document holds.

    Raises:
        MappingError: If it is too long, no TOML, or not what the schema says; names the key.
    """
    if len(document) > DOCUMENT_BYTES_MAX:
        raise _no_mapping(f"it is longer than {DOCUMENT_BYTES_MAX} bytes")
    try:
        return ConsentMapping.model_validate(tomllib.loads(document.decode("utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _no_mapping(f"{place}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise _no_mapping(str(error)) from error


def load_mapping(name: str) -> ConsentMapping:
    """The mapping of this name or path.

    Raises:
        MappingError: If there is none, or it is not what the schema says.
    """
    return parse_mapping(mapping_document(name))


def read_identifier(mapping: ConsentMapping, record: Mapping[str, Any]) -> bytes:
    """The customer's identifier as bytes, exactly as it stands: as the unit's data source has it.

    Raises:
        ConsentEventError: If there is none.
    """
    found = _find(mapping.identifier, record, None, "")
    if isinstance(found, Decimal | bool):
        raise refused("the identifier is no text and no whole number")
    text = _text(found, "identifier")
    if not text:
        raise refused("the identifier is missing")
    return _encoded(text)


def read_events(
    mapping: ConsentMapping, record: Mapping[str, Any], identifier: bytes, subject: bytes, now: datetime
) -> Iterator[ReadEvent]:
    """The events of one record.

    `identifier` is there to refuse evidence that repeats it, `subject` is its pseudonym, `now` the moment of import.

    Raises:
        ConsentEventError: If the record cannot be understood completely. Its `why` holds no value of the record.
    """
    for rule in mapping.events:
        for key, element in _elements(rule, record):
            place = _Place(record, element, key)
            if rule.when is not None and not place.text(rule.when, "when"):
                continue
            read = _event(mapping, rule, place, subject, now)
            if read is not None:
                _require_silent(read.evidence, identifier)
                yield read


def refused(why: str) -> ConsentEventError:
    """The error for one record. `why` must hold no value of it."""
    return ConsentEventError("a record cannot be read", why=why, fix="correct it at its source, and export it again")


def folded(text: str) -> str:
    """How texts are compared: without case and without blanks around them."""
    return text.strip().casefold()


def permits(kind: str) -> bool:
    """Whether such an event can only let a customer be counted: a consent, a notice, or the lifting of a veto."""
    return kind in GRANTS or kind.endswith(("_lifted", "_given"))


@dataclass(frozen=True, slots=True)
class _Place:
    """A record, and the element of it that a rule is at."""

    record: Mapping[str, Any]
    element: Any
    key: str

    def text(self, path: str, name: str) -> str:
        plain = self.record.get(path)  # a column or key, nearly always
        if isinstance(plain, str) and not path.startswith("@"):
            return plain
        return _text(_find(path, self.record, self.element, self.key), name)

    def meaning(self, rule: TextRule, name: str) -> str | None:
        """What the rule's text stands for; None for no event."""
        if rule.field is None:
            return rule.value
        text = self.text(rule.field, name)
        meanings = rule.meanings
        if meanings and (known := folded(text)) in meanings:
            return meanings[known]
        if rule.values is None:
            return text
        if rule.others == "ignore":
            return None
        raise refused(f"the {name} is missing" if not text else f"the mapping does not say what its {name} means")


def _event(mapping: ConsentMapping, rule: EventRule, place: _Place, subject: bytes, now: datetime) -> ReadEvent | None:
    purpose, kind = place.meaning(rule.purpose, "purpose"), place.meaning(rule.kind, "kind")
    if purpose is None or kind is None:
        return None
    _require_known(purpose, kind)
    early = permits(kind)
    event_time = _time(rule.event_time, place, "event_time", early=early, now=now)
    if event_time is None and (early or rule.event_time.undated == "refuse"):
        raise refused("the event_time is missing")
    recorded_at = rule.recorded_at and _time(rule.recorded_at, place, "recorded_at", early=True, now=now)
    event = ConsentEvent(
        subject=subject,
        purpose=purpose,
        kind=kind,
        event_time=event_time or now,
        recorded_at=recorded_at or now,
        valid_until=_end(rule.valid_until, place, kind, event_time or now),
        notice_version=_version(rule, place),
    )
    evidence = _evidence(mapping, rule, place)
    return ReadEvent(event, evidence, is_dated=event_time is not None, is_recorded=recorded_at is not None)


def _require_known(purpose: str, kind: str) -> None:
    # Said here and not by ConsentEvent, whose text repeats the value: of a line out of place it may be anything.
    for name, text, known in (("purpose", purpose, _SCOPES), ("kind", kind, EVENT_KINDS)):
        if text not in known:
            raise refused(f"the {name} is unknown" if text else f"the {name} is missing")


def _time(rule: TimeRule | EndRule, place: _Place, name: str, *, early: bool, now: datetime | None) -> datetime | None:
    """The moment in UTC; None if the field is empty. With `now`, nothing later.

    Where the text leaves room (a day, or the hour that summer time repeats) it is the `early` end of it, or the late.
    """
    assert rule.field is not None
    text = place.text(rule.field, name).strip()
    if not text:
        return None
    try:
        first, last = _bounds(text, rule.format, rule.zone, name)
    except (ValueError, OverflowError) as error:
        raise refused(f"the {name} is no time as the mapping says it") from error
    if now is None:
        return first if early else last
    if first > now:
        raise refused(f"the {name} lies in the future")
    return first if early else min(last, now)


def _bounds(text: str, written: str, zone: str | None, name: str) -> tuple[datetime, datetime]:
    """The first and the last moment that the text may mean, in UTC."""
    if written in _UNIX:
        if not _COUNT.fullmatch(text):
            raise ValueError("no number")
        moment = _EPOCH + _INSTANT * int(Decimal(text) * (_UNIX[written] // _INSTANT))
        return moment, moment
    if written == "iso":
        if not _ISO.fullmatch(text):
            raise ValueError("no ISO 8601")
        time, is_day = datetime.fromisoformat(text), len(text) == len("2026-01-01")
    else:
        time = datetime.strptime(text, written)  # noqa: DTZ007 (the zone is the next question)
        is_day = not re.search(r"%[HIcsX]", written)
    if time.tzinfo is not None:
        return (moment := time.astimezone(UTC)), moment
    if zone is None:
        raise refused(f"the {name} states no time zone, nor does the mapping for it")
    first = time.replace(tzinfo=_cached_zone(zone), fold=0)
    last = (time + _DAY - _INSTANT if is_day else time).replace(tzinfo=first.tzinfo, fold=1)
    return min(first.astimezone(UTC), last.astimezone(UTC)), max(first.astimezone(UTC), last.astimezone(UTC))


_cached_zone = functools.cache(ZoneInfo)


def _end(rule: EndRule | None, place: _Place, kind: str, event_time: datetime) -> datetime | None:
    if rule is None or (rule.days is not None and kind not in GRANTS):
        return None
    end = (
        event_time + rule.days * _DAY
        if rule.days is not None
        else _time(rule, place, "valid_until", early=True, now=None)
    )
    if end is not None and end <= event_time:
        raise refused("the valid_until does not lie after the event_time")
    return end


def _version(rule: EventRule, place: _Place) -> int:
    text = None if rule.notice_version is None else place.meaning(rule.notice_version, "notice_version")
    if not text:
        return 0
    if not _VERSION.fullmatch(text):
        raise refused("the notice_version is no whole number")
    return int(text)


def _evidence(mapping: ConsentMapping, rule: EventRule, place: _Place) -> Evidence:
    texts: dict[str, str] = {}
    for name, part in rule.evidence.items():
        text = place.meaning(part, name) or ""
        if len(text) > EVIDENCE_CHARACTERS_MAX or not text.isprintable():
            raise refused(f"the {name} is longer than {EVIDENCE_CHARACTERS_MAX} characters, or not printable")
        texts[name] = text
    return Evidence(mapping.source, **texts)


def _require_silent(evidence: Evidence, identifier: bytes) -> None:
    """Refuse evidence that repeats the identifier: it is stored nowhere."""
    said = identifier.decode()
    for name in ("record_id", "notice_uri", "notice_language", "method"):
        text: str = getattr(evidence, name)
        if text == said or (len(said) >= TELLING_CHARACTERS and said in text):
            raise refused(f"the {name} repeats the identifier, which is stored nowhere")


def _elements(rule: EventRule, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if rule.each is None:
        yield "", None
        return
    found = _find(rule.each, record, None, "")
    if isinstance(found, Mapping):
        yield from found.items()
    elif isinstance(found, list):
        yield from (("", one) for one in found)
    elif found is not None and found != "":
        raise refused("what the mapping calls `each` is neither a list nor a mapping")


def _find(path: str, record: Mapping[str, Any], element: Any, key: str) -> Any:
    """What stands at a path; None if nothing does."""
    if path == "@key":
        return key
    if path in record and not path.startswith("@"):  # a column, whatever characters its name has
        return record[path]
    found: Any = record
    for name, chosen, wanted in _steps(path):
        found = element if name == "@" else found.get(name) if isinstance(found, Mapping) else None
        if chosen is not None:
            listed = found if isinstance(found, list) else ()
            fits = [one for one in listed if isinstance(one, Mapping) and one.get(chosen) == wanted]
            found = fits[0] if len(fits) == 1 else None
    return found


@functools.cache
def _steps(path: str) -> tuple[tuple[str, str | None, str | None], ...]:
    """The steps of a path: `a.b[c=d].e` is the e of the element of b whose c is d."""
    return tuple((match[1], match[2], match[3]) for match in _STEP.finditer(path))


def _text(found: Any, name: str) -> str:
    if found is None:
        return ""
    if isinstance(found, str):
        return found
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, Decimal):
        return str(found)
    raise refused(f"the {name} is not one value")


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise refused("it holds a character that cannot be") from error


def _no_mapping(why: str) -> MappingError:
    return MappingError(
        "the mapping cannot be used", why=why, fix="see docs/reference/consent-mapping.md, and correct the file"
    )
