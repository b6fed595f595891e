"""Exports and withdrawals come into the register: all or nothing, once, and no identifier stays anywhere."""

import csv
import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fedseg.errors import ConsentEventError, DataError, MappingError, MissingColumnError, SettingsError, StorageError
from fedseg.node.consent import intake as consent_import
from fedseg.node.consent.intake import Imported, import_consents, withdraw
from fedseg.node.consent.mapping import read_identifier
from fedseg.node.consent.status import consent_status
from fedseg.node.home import LOCAL, NodeHome
from fedseg.node.source import subject_key
from fedseg.policy.consent import EVERY_PURPOSE, ConsentEvent, Status, Veto, fold
from fedseg.policy.purposes import Purpose
from tests.small_federation import CUSTOMERS_FILE, make_unit, policy_document

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STATISTICS, ACTIVATION = Purpose.SEGMENT_STATISTICS, Purpose.SEGMENT_ACTIVATION
HEADING = "identifier,purpose,kind,event_time,valid_until"
GIVEN = f"{STATISTICS},given,2026-05-01T10:00:00Z,2028-05-01T10:00:00Z"
WITHDRAWN = f"{STATISTICS},withdrawn,2026-05-02T10:00:00Z,"
NO_KIND = f"{STATISTICS},givn,2026-05-01T10:00:00Z,2028-05-01T10:00:00Z"

CRM = """
version = 1
source = "crm"
format = "csv"
delimiter = ";"
identifier = "Kunde"
[[events]]
purpose = { value = "fedseg:SegmentStatistics" }
kind = { field = "Werbung?", values = { Ja = "given", Nein = "refused" }, ignore = [""] }
event_time = { field = "Stand [Datum]", format = "%d.%m.%Y", zone = "Europe/Berlin", undated = "import" }
valid_until = { days = 730 }
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    path = tmp_path_factory.mktemp("unit") / "unit"
    return make_unit(path, "unit", consenting=(), customers=b"customer\nanna\nben\n", policy=policy_document())


@pytest.fixture
def home(made: NodeHome, tmp_path: Path) -> NodeHome:
    shutil.copytree(made.path, tmp_path / "unit")
    return NodeHome.open(tmp_path / "unit")


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str, name: str = "export.csv", heading: str = HEADING) -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in (heading, *lines)), encoding="utf-8")
        return path

    return write


def take(
    home: NodeHome, path: Path, mapping: str = "canonical-csv", *, now: datetime = NOW, **more: object
) -> Imported:
    return import_consents(home, path, mapping, now=now, **more)  # type: ignore[arg-type]


def events(home: NodeHome, purpose: str = STATISTICS) -> pa.Table:
    with home.register() as register:
        return register.events(purpose)


def kinds(home: NodeHome) -> list[str]:
    return sorted(events(home)["kind"].to_pylist())


def state_of(home: NodeHome, identifier: str, now: datetime = NOW) -> tuple[Status, Veto]:
    state = fold(events(home), now)
    place = state.subjects.to_pylist().index(subject_key(identifier.encode(), home.subject_secret))
    standing = state.by_purpose[STATISTICS]
    return Status(int(standing.status[place])), Veto(int(standing.vetoes[place]))


def everything_in(home: NodeHome) -> bytes:
    return b"".join(
        path.read_bytes() for path in sorted(home.path.rglob("*")) if path.is_file() and path.name != "customers.csv"
    )


def test_an_export_becomes_events_of_pseudonyms_with_their_evidence(
    home: NodeHome, export: Callable[..., Path]
) -> None:
    heading = f"{HEADING},recorded_at,notice_version,record_id,notice_uri,notice_language,method"
    line = f"anna,{GIVEN},2026-05-03T00:00:00Z,3,r-17,https://example.com/notice,en,web form"
    found = take(home, export(line, heading=heading))

    assert (found.new, found.kinds, found.report) == (1, {"given": 1}, None)
    (row,) = events(home).to_pylist()
    assert row == {
        "subject": subject_key(b"anna", home.subject_secret),
        "purpose": str(STATISTICS),
        "kind": "given",
        "event_time": datetime(2026, 5, 1, 10, tzinfo=UTC),
        "recorded_at": datetime(2026, 5, 3, tzinfo=UTC),
        "valid_until": datetime(2028, 5, 1, 10, tzinfo=UTC),
        "notice_version": 3,
    }
    kept = everything_in(home)
    for evidence in (b"r-17", b"https://example.com/notice", b"web form"):
        assert evidence in kept


def test_no_identifier_is_in_any_file_of_the_unit(home: NodeHome, export: Callable[..., Path]) -> None:
    secret = "anna.maria@example.com"
    take(home, export(f"{secret},{GIVEN}", f"{secret}-2,{NO_KIND}", f'"{secret}'), accept_partial=True)
    with pytest.raises(ConsentEventError) as caught:
        take(home, export(f"{secret},{NO_KIND}"))

    assert secret.encode() not in everything_in(home)
    assert secret not in repr(caught.value) + str(caught.value) + caught.value.fix + json.dumps(caught.value.data)


def test_importing_again_changes_nothing_whenever_and_in_whatever_order(
    home: NodeHome, export: Callable[..., Path]
) -> None:
    first = take(home, export(f"anna,{GIVEN}", f"ben,{WITHDRAWN}"))
    before = events(home)
    again = take(home, export(f"anna,{GIVEN}", f"ben,{WITHDRAWN}"), now=NOW + timedelta(days=7))
    longer = take(home, export(f"ben,{WITHDRAWN}", f"anna,{GIVEN}", f"anna,{GIVEN}"), now=NOW + timedelta(days=8))

    assert (first.new, again.new, longer.new) == (2, 0, 0)
    assert first.note.id == again.note.id != longer.note.id
    assert events(home).equals(before), "the unit came to know when it first heard"


def test_a_bad_line_refuses_the_whole_export_and_says_where_and_why(
    home: NodeHome, export: Callable[..., Path]
) -> None:
    path = export(f"anna,{GIVEN}", f"ben,{NO_KIND}", f",{GIVEN}")
    with pytest.raises(ConsentEventError, match="refused as a whole") as caught:
        take(home, path)

    local = caught.value.data["LOCAL"]
    assert (local["refused"], local["unattributed"], local["new"]) == (2, 1, None)
    report = Path(local["report"])
    assert report.is_relative_to(home.path / LOCAL)
    assert report.stat().st_mode & 0o077 == 0
    with report.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["line", "reason"],
            ["3", "the kind is unknown"],
            ["4", "the identifier is missing"],
        ]
    assert kinds(home) == []
    assert not list(home.path.rglob("*.part"))


def test_a_partial_import_denies_whoever_has_an_unread_line_until_it_is_corrected(
    home: NodeHome, export: Callable[..., Path]
) -> None:
    take(home, export(f"ben,{GIVEN}"))
    partial = take(home, export(f"anna,{GIVEN}", f"ben,{NO_KIND}"), accept_partial=True)
    assert partial.new == 1
    assert state_of(home, "anna")[0] == Status.GIVEN
    assert not state_of(home, "anna")[1] & Veto.UNREADABLE
    assert state_of(home, "ben")[1] & Veto.UNREADABLE

    # Being imported once more, rightly or not, does not admit them; saying that this corrects it does.
    take(home, export(f"ben,{WITHDRAWN}"))
    assert state_of(home, "ben")[1] & Veto.UNREADABLE
    take(home, export(f"ben,{GIVEN}", "", name="corrected.csv"), corrects=partial.note.id)
    assert not state_of(home, "ben")[1] & Veto.UNREADABLE


def test_only_an_import_that_was_can_be_corrected(home: NodeHome, export: Callable[..., Path]) -> None:
    with pytest.raises(SettingsError, match="no import 0123"):
        take(home, export(f"anna,{GIVEN}"), corrects="0123")


def test_a_trial_reads_everything_and_stores_nothing(home: NodeHome, export: Callable[..., Path]) -> None:
    path = export(f"anna,{GIVEN}", f"ben,{NO_KIND}")
    with pytest.raises(ConsentEventError, match="refused as a whole"):
        take(home, path, dry_run=True)
    found = take(home, path, dry_run=True, accept_partial=True)
    assert (found.new, found.note.events, found.note.refused) == (None, 1, 1)
    assert kinds(home) == []
    with home.register() as register:
        assert register.imports() == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("anna,fedseg:Nothing,given,2026-05-01T10:00:00Z,2028-05-01T10:00:00Z", "the purpose is unknown"),
        ("anna,,given,2026-05-01T10:00:00Z,2028-05-01T10:00:00Z", "the purpose is missing"),
        (f"anna,{STATISTICS},given,2026-05-01T10:00:00Z,", "valid_until must be there"),
        (f"anna,{STATISTICS},withdrawn,2026-05-01T10:00:00Z,2028-05-01T10:00:00Z", "valid_until must be there"),
        ("anna,*,given,2026-05-01T10:00:00Z,2028-05-01T10:00:00Z", "needs one purpose"),
        (f"anna,{STATISTICS},withdrawn,2026-05-01T10:00:00,", "states no time zone"),
        (f"anna,{STATISTICS},withdrawn,2027-05-01T10:00:00Z,", "in the future"),
        (f"anna,{STATISTICS},withdrawn,nan,", "no time"),
        (f"anna,{GIVEN},1", "more or fewer fields"),
        (f'"anna,{GIVEN}', "quotation marks"),
        (f'an"na,{GIVEN}', "quotation marks"),
        (f"anna\0,{GIVEN}", "null character"),
        (f"an\rna,{GIVEN}", "carriage return"),
        (f"{'x' * 2**20},{GIVEN}", "longer than"),
        (f"{'x' * 10 * 2**20},{GIVEN}", "longer than"),
        (f'"{"x" * 200_000}",{GIVEN}', "too long"),
    ],
    ids=lambda value: str(value)[-30:],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_refused_alone(line: str, reason: str, home: NodeHome, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(f"{HEADING}\nanna,{GIVEN}\n{line}\nben,{WITHDRAWN}\n".encode())
    found = take(home, path, dry_run=True, accept_partial=True)
    assert found.kinds == {"given": 1, "withdrawn": 1}
    (only,) = found.reasons
    assert reason in only
    assert found.report is not None
    assert found.report.read_text().splitlines()[1].startswith("3,")


def test_a_line_in_another_encoding_is_refused(home: NodeHome, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(f"{HEADING}\nJörg,{GIVEN}\nanna,{GIVEN}\n".encode("latin-1"))
    found = take(home, path, dry_run=True, accept_partial=True)
    assert (found.reasons, found.note.events) == ({"it is not UTF-8": 1}, 1)


@pytest.mark.parametrize(
    ("content", "error", "why"),
    [
        (b"", DataError, "it is empty"),
        (b"\xef\xbb\xbf", DataError, "it is empty"),
        (b"\n\n", DataError, "no heading|no column"),
        (HEADING.encode(), DataError, "holds no record"),
        (HEADING.encode() + b"\n\n \n", DataError, "holds no record"),
        (f"{HEADING}\n".encode("utf-16"), DataError, "no heading"),
        (b'"identifier\n', DataError, "no heading"),
        (b"identifier;purpose;kind\n", MissingColumnError, "no column 'identifier'"),
        (HEADING.encode() + b",kind\nanna\n", DataError, "2 columns 'kind'"),
        (b"x" * 2**21, DataError, "longer than"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_export_is_refused(
    content: bytes, error: type[DataError], why: str, home: NodeHome, tmp_path: Path
) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(content)
    with pytest.raises(error, match=why):
        take(home, path)
    assert kinds(home) == []


def test_a_file_that_is_not_there_or_a_folder_is_refused(home: NodeHome, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.csv", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            take(home, path)


def test_a_byte_order_mark_windows_lines_and_a_missing_last_line_end_do_no_harm(home: NodeHome, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADING}\r\nanna,{GIVEN}\r\n\r\nben,{WITHDRAWN}".encode())
    assert take(home, path).kinds == {"given": 1, "withdrawn": 1}


def test_an_export_may_come_through_a_pipe(home: NodeHome, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(f"{HEADING}\nanna,{GIVEN}\n"))
    writer.start()
    assert take(home, pipe).new == 1
    writer.join()


def test_an_export_that_changes_while_it_is_read_is_refused(
    home: NodeHome, export: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export(f"anna,{GIVEN}", f"ben,{GIVEN}")
    original, appended = read_identifier, iter([f"eve,{GIVEN}\n"])

    def read_and_append(*arguments: object) -> bytes:
        with path.open("a") as file:
            file.write(next(appended, ""))
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(consent_import, "read_identifier", read_and_append)
    with pytest.raises(DataError, match="changed while it was read"):
        take(home, path)
    assert kinds(home) == []


def test_records_of_json_are_read_line_by_line_and_strictly(home: NodeHome, tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    good = {"identifier": 17, "purpose": STATISTICS, "kind": "withdrawn", "event_time": "2026-05-01T10:00:00Z"}
    lines = [
        json.dumps(good),
        json.dumps(good)[:-1] + ', "kind": "given"}',
        json.dumps(good | {"notice_version": float("nan")}),
        json.dumps([good]),
        "{",
        "[" * 100_000,
        json.dumps(good | {"identifier": 1.5}),
        json.dumps(good | {"identifier": "\ud800"}),
        json.dumps(good | {"notice_version": 10**30}),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    found = take(home, path, "canonical-jsonl", accept_partial=True)

    assert (found.new, found.note.refused) == (1, 8)
    assert state_of(home, "17")[0] == Status.WITHDRAWN
    assert state_of(home, "17")[1] & Veto.UNREADABLE, "line 9 may have said anything"


def test_a_table_of_customers_with_yes_and_no_is_read_as_its_mapping_says(home: NodeHome, tmp_path: Path) -> None:
    (tmp_path / "ours.toml").write_text(CRM)
    path = tmp_path / "crm.csv"
    path.write_text('Kunde;Werbung?;Stand [Datum]\nanna;"JA";01.05.2026\nben;nein;\neve;;\n')
    assert take(home, path, str(tmp_path / "ours.toml")).kinds == {"given": 1, "refused": 1}
    assert state_of(home, "anna")[0] == Status.GIVEN
    assert state_of(home, "ben")[0] == Status.REFUSED


@pytest.mark.parametrize(
    ("header", "kinds", "refused"),
    [("1", {"opt_out_sale": 1, "opt_out_share": 1}, 0), ("", {}, 0), ("0", {}, 0), ("true", {}, 1), ("11", {}, 1)],
)
def test_a_browser_s_signal_opts_out_of_sale_and_sharing_and_no_other_value_says_anything(
    home: NodeHome, tmp_path: Path, header: str, kinds: dict[str, int], refused: int
) -> None:
    path = tmp_path / "requests.csv"
    path.write_text(f"customer,seen_at,sec_gpc\nanna,2026-05-01T10:00:00Z,{header}\n")
    found = take(home, path, "gpc", accept_partial=True)
    assert (found.kinds, found.note.refused) == (kinds, refused)
    assert not kinds or Veto.OPT_OUT_SALE | Veto.OPT_OUT_SHARE in state_of(home, "anna")[1]


def test_an_undated_no_is_news_once_and_again_only_after_a_yes(home: NodeHome, tmp_path: Path) -> None:
    (tmp_path / "ours.toml").write_text(CRM)
    path, mapping = tmp_path / "crm.csv", str(tmp_path / "ours.toml")

    def weekly(answer: str, week: int) -> int | None:
        path.write_text(f"Kunde;Werbung?;Stand [Datum]\nben;{answer}\n")
        return take(home, path, mapping, now=NOW + timedelta(weeks=week)).new

    assert [weekly("nein;", 0), weekly("nein;", 1), weekly("nein;", 2)] == [1, 0, 0]
    assert [weekly("ja;20.06.2026", 3), weekly("nein;", 4), weekly("nein;", 5)] == [1, 1, 0]
    assert state_of(home, "ben", NOW + timedelta(weeks=6))[0] == Status.REFUSED


def test_a_cell_of_json_in_a_table_is_read(home: NodeHome, tmp_path: Path) -> None:
    path = tmp_path / "preferences.csv"
    path.write_text(
        "userId,timestamp,purposes,confirmed\n"
        'anna,2026-05-01T10:00:00.000Z,"{""Segmentation"":true,""Other"":false}",true\n'
        "ben,2026-05-01T10:00:00.000Z,,true\n"
        'eve,2026-05-01T10:00:00.000Z,"{""Segmentation"":maybe}",true\n'
    )
    found = take(home, path, "transcend", accept_partial=True)
    assert (found.kinds, found.note.refused) == ({"given": 1}, 1)


def test_a_full_disk_stops_an_import_with_nothing_kept(
    home: NodeHome, export: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NodeHome, "nameless_file", lambda _: Path("/dev/full").open("r+b"))  # noqa: SIM115 (the import closes it)
    with pytest.raises(StorageError, match="No space left"):
        take(home, export(f"anna,{GIVEN}"))
    assert kinds(home) == []


def test_many_events_are_staged_and_stored_in_batches(
    home: NodeHome, export: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent_import, "_BATCH_ROWS", 3)
    monkeypatch.setattr(consent_import, "_LINES_BETWEEN_PROGRESS", 2)
    said: list[str] = []
    path = export(*(f"customer-{number},{GIVEN}" for number in range(10)))
    assert take(home, path, progress=lambda stage, _done, _total: said.append(stage)).new == 10
    assert set(said) == {"reading the export", "storing the events"}


def test_an_unknown_mapping_is_refused_before_the_file_is_opened(home: NodeHome, tmp_path: Path) -> None:
    with pytest.raises(MappingError):
        take(home, tmp_path / "nowhere.csv", "nonesuch")


@pytest.fixture
def identifiers(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        (tmp_path / "ids.txt").write_bytes(content)
        return tmp_path / "ids.txt"

    return write


def test_a_withdrawal_counts_at_the_next_gate_for_every_purpose(
    home: NodeHome, export: Callable[..., Path], identifiers: Callable[[bytes], Path]
) -> None:
    take(home, export(f"anna,{GIVEN}", f"ben,{GIVEN}"))
    assert withdraw(home, identifiers(b"\xef\xbb\xbfanna\r\neve\nanna\n"), Purpose, now=NOW) == (2, 1)
    assert state_of(home, "anna")[0] == Status.WITHDRAWN
    assert state_of(home, "eve")[0] == Status.WITHDRAWN, "a withdrawal needs no consent before it"
    assert state_of(home, "ben")[0] == Status.GIVEN
    assert events(home, ACTIVATION).num_rows == 2


def test_a_withdrawal_can_be_of_one_purpose_and_tried_first(
    home: NodeHome, identifiers: Callable[[bytes], Path]
) -> None:
    path = identifiers(b"anna\n")
    assert withdraw(home, path, [ACTIVATION], now=NOW, dry_run=True) == (1, 1)
    assert events(home, ACTIVATION).num_rows == 0
    withdraw(home, path, [ACTIVATION], now=NOW)
    assert (events(home, ACTIVATION).num_rows, events(home).num_rows) == (1, 0)


@pytest.mark.parametrize("content", [b"", b"anna\n\nben\n", b"J\xf6rg\n", b"x" * 5000])
def test_a_file_of_identifiers_with_a_slip_withdraws_nothing(
    content: bytes, home: NodeHome, identifiers: Callable[[bytes], Path]
) -> None:
    with pytest.raises(DataError, match="nothing was recorded"):
        withdraw(home, identifiers(content), Purpose, now=NOW)
    with pytest.raises(DataError):
        withdraw(home, home.path / "nowhere", Purpose, now=NOW)
    assert kinds(home) == []


def test_the_status_counts_customers_by_consent_and_veto(home: NodeHome, export: Callable[..., Path]) -> None:
    soon = f"{STATISTICS},given,2026-05-01T10:00:00Z,2026-06-20T10:00:00Z"
    take(home, export(f"anna,{GIVEN}", f"ben,{soon}", f"eve,{WITHDRAWN}", "eve,*,objection,2026-05-01T10:00:00Z,"))
    take(home, export(f"zoe,{NO_KIND}"), accept_partial=True)
    found = consent_status(home, now=NOW, days=30)

    assert (found.customers, found.in_source) == (4, 2)
    counts = found.purposes[STATISTICS]
    assert {status: n for status, n in counts.statuses.items() if n} == {
        Status.GIVEN: 2,
        Status.WITHDRAWN: 1,
        Status.NO_RECORD: 1,
    }
    assert counts.expiring == 1
    assert (counts.vetoes[Veto.OBJECTION], counts.vetoes[Veto.UNREADABLE]) == (1, 1)
    assert [one.refused for one in found.imports] == [1, 0] or [one.refused for one in found.imports] == [0, 1]
    (home.path / CUSTOMERS_FILE).unlink()
    assert consent_status(home, now=NOW, days=30).in_source is None


def test_an_import_after_a_clock_was_wrong_is_not_taken_for_known(home: NodeHome, export: Callable[..., Path]) -> None:
    subject, later = subject_key(b"anna", home.subject_secret), NOW + timedelta(days=400)
    known = ConsentEvent(subject, STATISTICS, "withdrawn", datetime(2026, 5, 2, 10, tzinfo=UTC), later)
    with home.register() as register:
        register.append_events([known, replace(known, purpose=EVERY_PURPOSE, kind="objection")])
    assert take(home, export(f"anna,{WITHDRAWN}")).new == 1
    assert state_of(home, "anna")[0] == Status.WITHDRAWN
