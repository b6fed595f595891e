"""Mappings: a closed schema, times with a zone, and no value that the mapping does not explain."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import ConsentEventError, MappingError
from fedseg.node.consent.mapping import (
    ConsentMapping,
    ReadEvent,
    load_mapping,
    mapping_document,
    parse_mapping,
    read_events,
    read_identifier,
    shipped_mappings,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STATISTICS = "fedseg:SegmentStatistics"

ONE = """
version = 1
source = "crm"
format = "{format}"
identifier = "id"
[[events]]
purpose = {{ value = "fedseg:SegmentStatistics" }}
kind = {{ field = "kind" }}
event_time = {{ field = "time"{time} }}
valid_until = {{ days = 365 }}
{more}
"""


def mapping(*, time: str = "", more: str = "", format_: str = "jsonl") -> ConsentMapping:
    return parse_mapping(ONE.format(format=format_, time=f", {time}" if time else "", more=more).encode())


def read(found: ConsentMapping, record: Mapping[str, Any]) -> list[ReadEvent]:
    return list(read_events(found, record, b"customer-1", bytes(16), NOW))


def time_of(text: str, kind: str = "given", **rules: str) -> datetime:
    (one,) = read(mapping(**rules), {"kind": kind, "time": text})
    return one.event.event_time


@pytest.mark.parametrize("name", shipped_mappings())
def test_every_shipped_mapping_follows_the_schema_and_can_be_copied(name: str) -> None:
    assert load_mapping(name) == parse_mapping(mapping_document(name))
    assert load_mapping(name).events


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("version = 1", "version = 2"), "version"),
        (('source = "crm"', 'source = "CRM export"'), "source"),
        (('format = "jsonl"', 'format = "xml"'), "format"),
        (('identifier = "id"', 'identifier = "id"\nsubject = "x"'), "subject: Extra inputs"),
        (('{ value = "fedseg:SegmentStatistics" }', '{ value = "fedseg:Everything" }'), "'fedseg:Everything' is none of"),
        (('{ field = "kind" }', '{ field = "kind", values = { y = "givn" } }'), "'givn' is none of"),
        (('{ field = "kind" }', '{ field = "kind", value = "given" }'), "either a field or a value"),
        (('{ field = "kind" }', '{ value = "given", values = { a = "given" } }'), "need a field"),
        (('{ field = "kind" }', '{ field = "kind", values = { Y = "given", y = "refused" } }'), "twice"),
        (('{ field = "kind" }', '{ field = "kind", values = { y = "given" }, others = "ignore" }'), "may be a withdrawal"),
        (('{ field = "kind" }', '{ field = "kind", others = "ignore" }'), "others needs values"),
        (("{ days = 365 }", '{ days = 365, field = "end" }'), "either a field or a number of days"),
        (("{ days = 365 }", "{ days = 0 }"), "valid_until.days"),
        (('{ field = "time" }', '{ field = "time", zone = "Europe/Atlantis" }'), "names no time zone"),
        (('{ field = "time" }', '{ field = "time", zone = "../etc/passwd" }'), "names no time zone"),
        (('{ field = "time" }', '{ field = "time", format = "yesterday" }'), "strptime|pattern"),
        (('{ field = "time" }', '{ field = "a[b=c" }'), "is no path"),
        (('{ field = "time" }', '{ field = "@key.x" }'), "must be"),
        (('format = "jsonl"', 'format = "jsonl"\ndelimiter = ";"'), "for csv"),
        (("version = 1", "version = 1\nversion = 1"), "overwrite|Cannot"),
    ],
)  # fmt: skip
def test_a_mapping_that_says_something_else_is_refused_with_its_key(change: tuple[str, str], why: str) -> None:
    document = ONE.format(format="jsonl", time="", more="")
    assert change[0] in document
    with pytest.raises(MappingError, match=why):
        parse_mapping(document.replace(*change).encode())


@pytest.mark.parametrize("document", [b"", b"\xff", b"a" * 70_000, b"[" * 5000])
def test_what_is_no_mapping_is_refused(document: bytes) -> None:
    with pytest.raises(MappingError):
        parse_mapping(document)


def test_a_mapping_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(MappingError, match="canonical-csv"):
        load_mapping("nonesuch")
    with pytest.raises(MappingError, match="No such file"):
        load_mapping("nonesuch.toml")
    with pytest.raises(MappingError):
        load_mapping("../register")


@pytest.mark.parametrize(
    ("text", "rules", "expected"),
    [
        ("2026-05-01T10:00:00Z", {}, datetime(2026, 5, 1, 10, tzinfo=UTC)),
        ("2026-05-01 10:00:00.5+0200", {}, datetime(2026, 5, 1, 8, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-05-01T10:00", {"time": 'zone = "Europe/Berlin"'}, datetime(2026, 5, 1, 8, tzinfo=UTC)),
        ("01.05.2026 10:00", {"time": 'format = "%d.%m.%Y %H:%M", zone = "UTC"'}, datetime(2026, 5, 1, 10, tzinfo=UTC)),
        ("1777629600", {"time": 'format = "unix-seconds"'}, datetime(2026, 5, 1, 10, tzinfo=UTC)),
        ("1777629600000", {"time": 'format = "unix-milliseconds"'}, datetime(2026, 5, 1, 10, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_a_time_is_read_as_the_mapping_says(text: str, rules: dict[str, str], expected: datetime) -> None:
    assert time_of(text, **rules) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-05-01T10:00:00", "states no time zone"),
        ("2026-05-01", "states no time zone"),
        ("2026-06-01T12:00:01Z", "in the future"),
        ("", "event_time is missing"),
        ("01/05/2026", "no time"),
        ("2026-02-30T10:00:00Z", "no time"),
        ("2026-W01-1", "no time"),
        ("20260501", "no time"),
        ("NaN", "no time"),
        ("9999-12-31T23:59:59-12:00", "no time"),
        ("２０２６-05-01T10:00:00Z", "no time"),  # noqa: RUF001 (digits that are not those of ASCII)
    ],
)  # fmt: skip
def test_a_time_without_zone_in_the_future_or_that_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConsentEventError, match=why):
        time_of(text)


@pytest.mark.parametrize("text", ["1e400", "Infinity", "9" * 15, "-" + "9" * 15, "0x10", "1_000"])
def test_a_number_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConsentEventError):
        time_of(text, time='format = "unix-seconds"')


def test_a_day_without_a_time_begins_a_consent_early_and_ends_it_late() -> None:
    zone = 'zone = "Europe/Berlin"'
    start = datetime(2026, 4, 30, 22, tzinfo=UTC)
    assert time_of("2026-05-01", time=zone) == start
    assert time_of("2026-05-01", "withdrawn", time=zone) == start + timedelta(days=1) - timedelta(microseconds=1)
    assert time_of("2026-05-01", "objection_lifted", time=zone) == start
    assert time_of("2026-06-01", "withdrawn", time=zone) == NOW, "today's withdrawal counts at once"


def test_an_hour_that_there_is_twice_begins_a_consent_early_and_ends_it_late() -> None:
    zone = 'zone = "Europe/Berlin"'
    assert time_of("2025-10-26T02:30:00", time=zone) == datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
    assert time_of("2025-10-26T02:30:00", "withdrawn", time=zone) == datetime(2025, 10, 26, 1, 30, tzinfo=UTC)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2026, 5, 30)),  # noqa: DTZ001 (the mapping has the zone)
    st.sampled_from(["Europe/Berlin", "America/Sao_Paulo"]),
)
def test_no_text_lets_a_consent_begin_after_a_withdrawal_of_the_same_text(moment: datetime, zone: str) -> None:
    for text in (moment.isoformat(), moment.date().isoformat()):
        rule = f'zone = "{zone}"'
        assert time_of(text, time=rule) <= time_of(text, "withdrawn", time=rule)


def test_an_undated_denial_counts_from_the_import_and_an_undated_consent_never() -> None:
    found = mapping(time='undated = "import"')
    (one,) = read(found, {"kind": "refused", "time": ""})
    assert (one.event.event_time, one.is_dated) == (NOW, False)
    with pytest.raises(ConsentEventError, match="missing"):
        read(found, {"kind": "given", "time": ""})


def test_a_consent_that_ends_before_it_begins_is_refused() -> None:
    document = ONE.format(format="jsonl", time="", more="").replace("{ days = 365 }", '{ field = "end" }')
    record = {"kind": "given", "time": "2026-05-01T10:00:00Z", "end": "2026-05-01T10:00:00Z"}
    with pytest.raises(ConsentEventError, match="does not lie after"):
        read(parse_mapping(document.encode()), record)


def test_an_unknown_kind_or_value_is_refused_and_not_repeated() -> None:
    for found, record in (
        (mapping(), {"kind": "anna@example.com", "time": "2026-05-01T10:00:00Z"}),
        (
            mapping(more='notice_version = { field = "v" }'),
            {"kind": "refused", "time": "2026-05-01T10:00:00Z", "v": "v3"},
        ),
        (mapping(), {"kind": ["given"], "time": "2026-05-01T10:00:00Z"}),
        (mapping(), {"kind": "", "time": "2026-05-01T10:00:00Z"}),
    ):
        with pytest.raises(ConsentEventError) as caught:
            read(found, record)
        assert not re.search(r"anna|v3|\[", str(caught.value))


def test_evidence_that_repeats_the_identifier_is_refused() -> None:
    found = mapping(more='record_id = { field = "record" }\nmethod = { value = "form" }')
    base = {"kind": "refused", "time": "2026-05-01T10:00:00Z"}
    (kept,) = read(found, base | {"record": "r-17"})
    assert (kept.evidence.source, kept.evidence.record_id, kept.evidence.method) == ("crm", "r-17", "form")
    for record in ("customer-1", "mailto:customer-1", "x" * 301, "a\x00b", "a\ud800"):
        with pytest.raises(ConsentEventError):
            read(found, base | {"record": record})


@pytest.mark.parametrize(("value", "identifier"), [("Ä 1 ", "Ä 1 ".encode()), ("12", b"12"), ("007", b"007")])
def test_an_identifier_is_taken_exactly_as_it_stands(value: str, identifier: bytes) -> None:
    assert read_identifier(mapping(), {"id": value}) == identifier


@pytest.mark.parametrize("value", [None, "", True, ["a"], {"a": 1}, "\ud800"])
def test_what_is_no_identifier_is_refused(value: object) -> None:
    with pytest.raises(ConsentEventError):
        read_identifier(mapping(), {"id": value})


def test_lists_mappings_and_chosen_elements_are_found() -> None:
    ketch = load_mapping("ketch")
    record = {
        "metadata": {"uid": "u-1"},
        "request": {
            "identities": [
                {"identitySpace": "email", "identityValue": "anna@example.com"},
                {"identitySpace": "account_id", "identityValue": "17"},
            ],
            "purposes": {"segmentation": "granted", "email_mktg": "denied"},
            "collectedAt": "1777629600",
        },
    }
    assert read_identifier(ketch, record) == b"17"
    (one,) = read_events(ketch, record, b"17", bytes(16), NOW)
    assert (one.event.purpose, one.event.kind, one.evidence.record_id) == (STATISTICS, "given", "u-1")
    assert one.event.valid_until == one.event.event_time + timedelta(days=730)
    twice = record | {"request": {"identities": [{"identitySpace": "account_id", "identityValue": "1"}] * 2}}
    with pytest.raises(ConsentEventError, match="missing"):
        read_identifier(ketch, twice)


def test_a_receipt_with_several_purposes_gives_the_events_that_matter() -> None:
    onetrust = load_mapping("onetrust")
    ours = "00000000-0000-0000-0000-000000000000"
    record = {
        "identifier": "c-1",
        "interactionDate": "2026-05-01T10:00:00",
        "receiptId": "r-1",
        "language": "en-GB",
        "purposes": [
            {"Id": ours, "TransactionType": "CONFIRMED"},
            {"Id": ours, "TransactionType": "WITHDRAWN"},
            {"Id": "another", "TransactionType": "CONFIRMED"},
            {"Id": ours, "TransactionType": "NO_CHOICE"},
        ],
    }
    kinds = [one.event.kind for one in read_events(onetrust, record, b"c-1", bytes(16), NOW)]
    assert kinds == ["given", "withdrawn"]
    record["purposes"] = [{"Id": ours, "TransactionType": "SOMETHING_NEW"}]
    with pytest.raises(ConsentEventError, match="does not say what its kind means"):
        list(read_events(onetrust, record, b"c-1", bytes(16), NOW))
    record["purposes"] = "CONFIRMED"
    with pytest.raises(ConsentEventError, match="neither a list nor a mapping"):
        list(read_events(onetrust, record, b"c-1", bytes(16), NOW))
