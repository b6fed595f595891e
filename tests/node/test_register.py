"""The register: all or nothing, private, erased when it says so, and shared by threads and processes."""

import resource
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.errors import ConsentEventError, DataError, StorageError
from fedseg.node import private_database
from fedseg.node.consent import register as register_module
from fedseg.node.consent.register import Delivery, ImportNote, Register
from fedseg.policy.consent import EVENT_SCHEMA, EVERY_PURPOSE, ConsentEvent, events_table, fold
from fedseg.policy.purposes import Purpose

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STATISTICS, ACTIVATION = Purpose.SEGMENT_STATISTICS, Purpose.SEGMENT_ACTIVATION
GIVEN = ConsentEvent(b"0123456789abcdef", STATISTICS, "given", NOW, NOW, NOW + timedelta(days=730), notice_version=3)
OBJECTION = ConsentEvent(b"0123456789abcdef", EVERY_PURPOSE, "objection", NOW, NOW)


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    with Register.create(tmp_path / "register.db") as created:
        yield created


def sorted_rows(table: pa.Table) -> list[str]:
    return sorted(map(str, table.to_pylist()))


def someone(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_events_come_back_as_they_went_in(register: Register) -> None:
    events = [GIVEN, OBJECTION, replace(GIVEN, subject=bytes(16)), replace(OBJECTION, kind="objection_lifted")]
    register.append_events(events)
    stored = register.events(STATISTICS)
    assert stored.schema == EVENT_SCHEMA
    assert sorted_rows(stored) == sorted_rows(events_table(events))


times = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis adds the zone
any_consent = st.builds(
    ConsentEvent,
    subject=st.binary(min_size=16, max_size=16),
    purpose=st.just(STATISTICS),
    kind=st.sampled_from(["given", "renewed"]),
    event_time=times,
    recorded_at=times,
    valid_until=times.filter(lambda time: time != datetime(1970, 1, 1, tzinfo=UTC)),
    notice_version=st.integers(0, 1_000_000),
)


@settings(max_examples=25, deadline=None)
@given(events=st.lists(any_consent, max_size=5, unique=True))
def test_every_event_is_stored_exactly(tmp_path_factory: pytest.TempPathFactory, events: list[ConsentEvent]) -> None:
    with Register.create(tmp_path_factory.mktemp("register") / "register.db") as register:
        assert register.append_events(events) == len(events)
        assert sorted_rows(register.events(STATISTICS)) == sorted_rows(events_table(events))


def test_an_empty_register_has_no_events_in_the_schema_of_the_fold(register: Register) -> None:
    stored = register.events(STATISTICS)
    assert (stored.num_rows, stored.schema) == (0, EVENT_SCHEMA)
    assert len(fold(stored, NOW).subjects) == 0


def test_a_purpose_gets_its_own_events_and_the_vetoes_for_every_purpose(register: Register) -> None:
    register.append_events([GIVEN, OBJECTION, replace(GIVEN, purpose=ACTIVATION)])
    assert sorted(register.events(STATISTICS)["purpose"].to_pylist()) == ["*", "fedseg:SegmentStatistics"]
    assert sorted(register.events(ACTIVATION)["purpose"].to_pylist()) == ["*", "fedseg:SegmentActivation"]


def test_an_event_that_arrives_twice_is_stored_once(register: Register) -> None:
    assert register.append_events([GIVEN, GIVEN, OBJECTION]) == 2
    assert register.append_events([OBJECTION, replace(GIVEN, notice_version=4)]) == 1
    assert register.events(STATISTICS).num_rows == 3


def test_an_import_that_fails_halfway_leaves_nothing(register: Register) -> None:
    def breaking() -> Iterator[ConsentEvent]:
        yield GIVEN
        yield replace(GIVEN, kind="unheard-of")

    register.append_events([OBJECTION])
    with pytest.raises(ConsentEventError):
        register.append_events(breaking())
    assert register.events(STATISTICS)["kind"].to_pylist() == ["objection"]
    assert register.append_events([GIVEN]) == 1, "the register can be used afterwards"


def test_many_events_come_back_in_several_batches(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register_module, "CHUNK_ROWS", 3)
    register.append_events(replace(GIVEN, subject=someone(number)) for number in range(7))
    assert register.events(STATISTICS).num_rows == 7


def test_what_a_register_sorts_is_put_into_no_file(register: Register, tmp_path: Path) -> None:
    note = ImportNote("one", NOW, "crm", "m" * 64, "f" * 64, 0, 0, 0)
    register.take_in(Delivery(note, lambda: iter([]), unread=frozenset(someone(number) for number in range(40_000))))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Register(tmp_path / "register.db") as another:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            assert another.events(STATISTICS).num_rows == 40_000
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_stored_is_there_for_the_next_process(register: Register, tmp_path: Path) -> None:
    register.append_events([GIVEN])
    salt = register.gate_salt("release-1")
    with Register(tmp_path / "register.db") as other:
        assert other.events(STATISTICS) == events_table([GIVEN])
        assert other.gate_salt("release-1") == salt


def test_only_the_owner_may_read_the_file(register: Register, tmp_path: Path) -> None:
    register.append_events([GIVEN])
    assert stat.S_IMODE((tmp_path / "register.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_register_that_others_may_open_is_refused(register: Register, tmp_path: Path, mode: int) -> None:
    register.close()
    (tmp_path / "register.db").chmod(mode)
    with pytest.raises(StorageError, match="not private") as caught:
        Register(tmp_path / "register.db")
    assert caught.value.fix.startswith("chmod 600 ")


def test_deleted_content_is_overwritten_and_commits_reach_the_disk(register: Register) -> None:
    def setting(name: str) -> object:
        return register._connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert setting("journal_mode") == "delete"
    assert setting("secure_delete") == 1
    assert setting("synchronous") == 2
    assert setting("trusted_schema") == 0


def test_a_salt_is_fresh_for_each_release_and_the_same_for_one(register: Register) -> None:
    first, second = register.gate_salt("release-1"), register.gate_salt("release-2")
    assert len(first) == len(second) == 32
    assert first != second
    assert register.gate_salt("release-1") == first


def test_a_forgotten_salt_is_in_no_file_any_more(register: Register, tmp_path: Path) -> None:
    salt, kept = register.gate_salt("release-1"), register.gate_salt("release-2")
    assert salt in everything_in(tmp_path)
    register.forget_salt("release-1")
    assert salt not in everything_in(tmp_path)
    assert register.gate_salt("release-2") == kept
    assert register.gate_salt("release-1") != salt


def test_forgetting_an_unknown_salt_is_no_error(register: Register) -> None:
    register.forget_salt("release-1")


def everything_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


def test_creating_over_an_existing_file_is_refused_and_changes_nothing(register: Register, tmp_path: Path) -> None:
    register.append_events([GIVEN])
    with pytest.raises(StorageError, match="cannot be created"):
        Register.create(tmp_path / "register.db")
    assert register.events(STATISTICS).num_rows == 1


def test_a_missing_register_is_an_error_and_not_an_empty_register(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        Register(tmp_path / "register.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_register_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "register.db"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(DataError):
        Register(path)


def test_a_foreign_database_is_refused(register: Register, tmp_path: Path) -> None:
    register.close()
    with closing(sqlite3.connect(tmp_path / "register.db")) as connection:
        connection.execute("PRAGMA application_id = 7")
    with pytest.raises(DataError, match="no register of version 2"):
        Register(tmp_path / "register.db")


def test_a_register_of_a_later_version_is_refused_as_such_and_left_alone(register: Register, tmp_path: Path) -> None:
    register.close()
    path = tmp_path / "register.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    before = path.read_bytes()
    with pytest.raises(DataError, match="is of version 7, and this one reads up to 2") as refused:
        Register(path)
    assert refused.value.fix.startswith("pip install --upgrade fedseg")
    assert path.read_bytes() == before


def test_the_tables_hold_no_subject_and_no_salt_of_another_length(register: Register) -> None:
    for statement, value in (
        ("INSERT INTO event VALUES (?, 'p', 'k', 1, 1, 0, 0, '', '', '', '', '')", bytes(15)),
        ("INSERT INTO unread VALUES ('i', ?, 1)", bytes(15)),
        ("INSERT INTO gate_salt VALUES ('r', ?)", bytes(31)),
        ("INSERT INTO gate_salt VALUES ('r', ?)", "x" * 32),
    ):
        with pytest.raises(sqlite3.IntegrityError):
            register._connection.execute(statement, (value,))


def test_a_register_of_version_1_is_brought_up_to_date_with_everything_in_it(tmp_path: Path) -> None:
    path = tmp_path / "register.db"
    with closing(sqlite3.connect(path)) as connection:
        marks = f"PRAGMA application_id = {register_module.APPLICATION_ID}; PRAGMA user_version = 1;"
        connection.executescript(register_module._SCHEMA + marks)
        connection.execute("INSERT INTO event VALUES (?, ?, 'withdrawn', 1, 1, 0, 0)", (bytes(16), STATISTICS))
        connection.commit()
    path.chmod(0o600)

    with Register(path) as register, Register(path) as second:
        assert register.events(STATISTICS)["kind"].to_pylist() == ["withdrawn"]
        assert second.imports() == []
        assert register.append_events([GIVEN]) == 1


def test_two_processes_that_bring_a_register_up_to_date_do_it_once(register: Register) -> None:
    register._upgrade()
    assert register.append_events([GIVEN]) == 1


def test_a_full_disk_stops_an_import_with_nothing_kept(register: Register) -> None:
    # SQLite reports its own page limit as it reports a full disk.
    register.append_events([OBJECTION])
    register._connection.execute("PRAGMA max_page_count = 12")
    with pytest.raises(StorageError, match="SQLITE_FULL"):
        register.append_events(replace(GIVEN, subject=someone(number)) for number in range(10_000))
    assert register.events(STATISTICS)["kind"].to_pylist() == ["objection"]


def test_who_waits_too_long_for_another_import_is_told_to_wait(
    register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_database, "_BUSY_SECONDS", 0.05)
    with (
        Register(tmp_path / "register.db") as other,
        register._transaction(register_module._WRITE),
        pytest.raises(StorageError, match="SQLITE_BUSY") as caught,
    ):
        other.append_events([GIVEN])
    assert caught.value.fix.startswith("wait for the command")


def test_a_closed_register_answers_nothing(tmp_path: Path) -> None:
    with Register.create(tmp_path / "register.db") as register:
        register.append_events([GIVEN])
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        register.events(STATISTICS)


def test_the_file_bears_the_mark_of_a_register(register: Register, tmp_path: Path) -> None:
    # https://www.sqlite.org/fileformat.html#the_database_header: application id at offset 68, user version at 60.
    header = (tmp_path / "register.db").read_bytes()[:100]
    assert (header[68:72], header[60:64]) == (b"FSRG", b"\x00\x00\x00\x02")


def test_a_folder_that_does_not_exist_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        Register.create(tmp_path / "nowhere" / "register.db")


def test_a_register_that_cannot_be_filled_in_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register_module, "_SCHEMA", "this is no SQL;")
    with pytest.raises(StorageError, match="SQLITE_ERROR"):
        Register.create(tmp_path / "register.db")
    assert list(tmp_path.iterdir()) == []


def test_no_error_names_a_customer(register: Register) -> None:
    register._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError) as caught:
        register.append_events([GIVEN])
    assert "0123456789abcdef" not in f"{caught.value.what}{caught.value.why}{caught.value.fix}"


def test_threads_share_one_register(register: Register) -> None:
    salts: list[bytes] = []

    def work(part: int) -> None:
        register.append_events(replace(GIVEN, subject=someone(part * 100 + number)) for number in range(50))
        salts.append(register.gate_salt("release-1"))

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert register.events(STATISTICS).num_rows == 200
    assert len(salts) == 4
    assert len(set(salts)) == 1


PROCESS = """
import sys
from pathlib import Path
from fedseg.node.consent.register import Delivery, ImportNote, Register
with Register(Path(sys.argv[1])) as register:
    sys.stdout.write(register.gate_salt("release-1").hex())
"""


def test_processes_that_ask_at_once_get_the_same_salt(register: Register, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "register.db")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    salts = {process.communicate(timeout=60)[0] for process in running}
    assert salts == {register.gate_salt("release-1").hex()}


def test_a_writer_that_dies_leaves_nothing_of_its_import(register: Register, tmp_path: Path) -> None:
    register.append_events([OBJECTION])
    dying = PROCESS.split("with Register", maxsplit=1)[0] + (
        "import os, signal\n"
        "register = Register(Path(sys.argv[1]))\n"
        "connection = register._connection\n"
        "connection.execute('PRAGMA cache_size = 2')\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "row = \"INSERT INTO event VALUES (?, ?, ?, 1, 1, 0, 0, '', '', '', '', '')\"\n"
        "for n in range(2000):\n"
        "    connection.execute(row, (n.to_bytes(16, 'big'), 'fedseg:SegmentStatistics', 'withdrawn'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run([sys.executable, "-c", dying, str(tmp_path / "register.db")], check=False, timeout=60)
    assert died.returncode == -9
    assert (tmp_path / "register.db-journal").exists(), "it died with pages already written"
    assert register.events(STATISTICS)["kind"].to_pylist() == ["objection"]
    assert register.append_events([GIVEN]) == 1
