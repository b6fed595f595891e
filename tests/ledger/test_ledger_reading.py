"""Reading a ledger that is not ours: what is refused, what is found, and what an export is."""

import resource
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import pytest

from fedseg.errors import LedgerUnreadableError, StorageError, VerificationError
from fedseg.ledger import reading
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.database import APPLICATION_ID, USER_VERSION
from fedseg.ledger.entries import PAYLOAD_LIMIT_BYTES, Entry
from fedseg.ledger.export import EXPORT_HEADER, export_ledger, parse_export
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.merkle import EMPTY_ROOT
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.reading import FILE_LIMIT_BYTES, check_log, read_ledger
from fedseg.ledger.store import Ledger
from fedseg.ledger.wal import explains


@pytest.fixture
def raw(ledger: Ledger) -> RawLedger:
    return read_ledger(ledger.path)


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_ledger_is_read_as_its_owner_wrote_it(ledger: Ledger, raw: RawLedger, key: SigningKey) -> None:
    assert list(raw.entries) == ledger.entries()
    assert (raw.origin, raw.public_key) == (ledger.origin, key.public)
    assert [size for size, _ in raw.notes] == [1, 3, 4]
    assert raw.payloads == {"release-1": b"first release", "release-2": bytes(range(256))}
    assert check_log(raw, key.public) == check_log(raw, None)


def test_reading_leaves_the_ledger_and_its_directory_as_they_were(ledger: Ledger) -> None:
    def state() -> tuple[bytes, int, list[Path]]:
        return ledger.path.read_bytes(), ledger.path.stat().st_mtime_ns, list(ledger.path.parent.iterdir())

    before = state()
    read_ledger(ledger.path)
    assert state() == before


def test_an_export_reads_as_the_ledger_it_was_made_of(raw: RawLedger, tmp_path: Path) -> None:
    (tmp_path / "export").write_bytes(export_ledger(raw))
    assert read_ledger(tmp_path / "export") == raw
    assert export_ledger(read_ledger(tmp_path / "export")) == export_ledger(raw)


def test_an_export_is_text_with_one_entry_a_line(raw: RawLedger) -> None:
    lines = export_ledger(raw).decode("ascii", errors="replace").split("\n")
    assert lines[:2] == ["fedseg-ledger-export/v1", "entries 4"]
    assert [line.split(" ")[0] for line in lines[6:]] == [
        "notes", "1", "3", "4", "payloads", "release-1", "release-2", "end", ""
    ]  # fmt: skip


def test_another_spelling_of_an_export_is_refused(raw: RawLedger) -> None:
    good = export_ledger(raw)
    payload_lines = good.split(b"\n")[-4:-2]
    for bad in (
        b"",
        EXPORT_HEADER,
        good[:-1],
        good[:-5],
        good + b"\n",
        good.replace(b"\n", b"\r\n"),
        good.replace(b"entries 4", b"entries 04"),
        good.replace(b"entries 4", b"entries 3"),
        good.replace(b"entries 4", b"entries 5"),
        good.replace(b"entries 4", b"entries -4"),
        good.replace(b"entries 4", b"entries 4000"),
        good.replace(b"entries 4", b"entries four"),
        good.replace(b"entries 4", b"entries  4"),
        good.replace(b"notes", b"marks"),
        good.replace(b"\n4 ", b"\n+4 "),
        good.replace(b"\n".join(payload_lines), b"\n".join(reversed(payload_lines))),
        good.replace(payload_lines[0], payload_lines[1]),
        good.replace(b"release-1 ", b"release-1 \xff"),
        good.replace(b"\nend\n", b"\nEND\n"),
        good.removeprefix(EXPORT_HEADER),
    ):
        assert bad != good
        with pytest.raises(VerificationError):
            parse_export(bad)


@pytest.mark.parametrize("content", [b"", b"text", b"SQLite format 3", b"PAR1", bytes(5000)])
def test_a_file_that_is_no_ledger_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(LedgerUnreadableError, match="neither"):
        read_ledger(tmp_path / "foreign")


def test_what_is_not_there_or_not_a_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnreadableError, match="no such file"):
        read_ledger(tmp_path / "missing")
    with pytest.raises(LedgerUnreadableError, match="no such file"):
        read_ledger(tmp_path)


def test_readers_take_payloads_of_64_mib_and_files_of_one_gib() -> None:
    assert (PAYLOAD_LIMIT_BYTES, FILE_LIMIT_BYTES) == (64 * 1024**2, 1024**3)


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(reading.FILE_LIMIT_BYTES + 1)
    with pytest.raises(LedgerUnreadableError, match="larger"):
        read_ledger(tmp_path / "huge")


def test_no_room_for_the_copy_is_a_matter_of_storage(ledger: Ledger) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(StorageError, match="cannot be read now"):
            read_ledger(ledger.path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_inside_sqlite_is_a_matter_of_storage(ledger: Ledger) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA max_page_count=1")
        with pytest.raises(StorageError, match="no room"), reading._sqlite_errors(ledger.path):
            connection.execute("CREATE TABLE a (b)")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON leaf BEGIN DELETE FROM payload; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE INDEX i ON leaf (entry)",
        "CREATE TABLE extra (a)",
        "DROP TABLE payload",
        "ALTER TABLE leaf ADD COLUMN extra TEXT",
        "ALTER TABLE payload RENAME TO payloads",
        "PRAGMA user_version=2",
        "PRAGMA application_id=0",
    ],
)
def test_a_database_with_another_schema_is_unreadable(ledger: Ledger, statement: str) -> None:
    edit(ledger.path, statement)
    with pytest.raises(LedgerUnreadableError, match=r"application id|exactly those|later version"):
        read_ledger(ledger.path)


def test_a_foreign_database_with_our_marks_and_a_view_in_a_tables_place_is_unreadable(tmp_path: Path) -> None:
    edit(
        tmp_path / "foreign",
        f"PRAGMA application_id={APPLICATION_ID}",
        f"PRAGMA user_version={USER_VERSION}",
        "CREATE TABLE hidden (a)",
        "CREATE VIEW leaf AS SELECT 0 AS seq, load_extension('x') AS entry FROM hidden",
        "CREATE VIEW checkpoint AS SELECT 0 AS size, '' AS note",
        "CREATE VIEW payload AS SELECT '' AS id, x'' AS data",
    )
    with pytest.raises(LedgerUnreadableError, match="exactly those"):
        read_ledger(tmp_path / "foreign")


def test_an_empty_database_of_ours_is_no_ledger(ledger: Ledger) -> None:
    edit(ledger.path, "DELETE FROM leaf", "DELETE FROM checkpoint", "DELETE FROM payload")
    with pytest.raises(VerificationError, match="no entries"):
        read_ledger(ledger.path)


def test_a_rollback_journal_beside_it_is_refused(ledger: Ledger) -> None:
    ledger.path.with_name("unit.ledger-journal").write_bytes(b"")
    with pytest.raises(LedgerUnreadableError, match="rollback journal"):
        read_ledger(ledger.path)


def test_a_ledger_that_never_rests_is_not_read(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reading, "_COPY_ATTEMPTS", 2)

    def copy_and_write(source: Path, target: Path) -> None:
        copyfile(source, target)
        with ledger.transaction() as transaction:
            transaction.append("charge", {})

    monkeypatch.setattr(reading, "copyfile", copy_and_write)
    with pytest.raises(StorageError, match="all the time"):
        read_ledger(ledger.path)


def test_a_write_ahead_log_that_is_gone_before_the_copy_is_whole_is_not_in_the_copy(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wal = ledger.path.with_name("unit.ledger-wal")
    wal.write_bytes(b"of a moment ago")
    monkeypatch.setattr("fedseg.ledger.reading.time.sleep", lambda _: wal.unlink(missing_ok=True))

    def copy_while_it_is_written(source: Path, target: Path) -> None:
        copyfile(source, target)
        if source == wal:
            wal.write_bytes(b"of now")

    monkeypatch.setattr(reading, "copyfile", copy_while_it_is_written)
    reading._copy_consistently(ledger.path, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == ledger.path.read_bytes()
    assert not (tmp_path / "copy-wal").exists()


def test_an_uncommitted_writer_beside_us_is_not_seen(ledger: Ledger, raw: RawLedger) -> None:
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size=1")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO payload VALUES ('late', zeroblob(100000))")
        writer.execute("INSERT INTO payload VALUES ('later', zeroblob(100000))")
        assert ledger.path.with_name("unit.ledger-wal").stat().st_size > 0
        assert read_ledger(ledger.path) == raw
        writer.execute("ROLLBACK")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE leaf SET seq = 9 WHERE seq = 3",
        "UPDATE leaf SET seq = -1 WHERE seq = 0",
        "UPDATE leaf SET entry = x'7b7d' WHERE seq = 1",
        "UPDATE leaf SET entry = CAST(replace(CAST(entry AS TEXT), '\"round\":1', '\"round\":2') AS BLOB)",
        "UPDATE leaf SET entry = CAST(entry || x'0a' AS BLOB) WHERE seq = 1",
        "DELETE FROM leaf WHERE seq = 3",
        "DELETE FROM leaf WHERE seq = 0",
        "UPDATE checkpoint SET size = 2 WHERE size = 1",
        "UPDATE checkpoint SET size = 5 WHERE size = 4",
        "UPDATE checkpoint SET size = -1 WHERE size = 1",
        "UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 1)",
        "UPDATE checkpoint SET note = note || ' ' WHERE size = 1",
        "UPDATE checkpoint SET note = CAST(x'ff' AS TEXT) WHERE size = 1",
        "DELETE FROM checkpoint WHERE size = 4",
        "DELETE FROM checkpoint",
        "UPDATE payload SET id = 'release-3' WHERE id = 'release-1'",
        "UPDATE payload SET id = CAST(x'ff' AS TEXT) WHERE id = 'release-1'",
        "UPDATE payload SET data = x'' WHERE id = 'release-1'",
        "DELETE FROM payload WHERE id = 'release-1'",
        "INSERT INTO payload VALUES ('release-3', x'00')",
    ],
)
def test_any_edited_column_of_any_table_is_found(ledger: Ledger, key: SigningKey, statement: str) -> None:
    edit(ledger.path, statement)
    with pytest.raises(VerificationError):
        check_log(read_ledger(ledger.path), key.public)


@pytest.mark.parametrize(
    ("strict", "statement"),
    [
        ("leaf (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL)", "UPDATE leaf SET entry = CAST(entry AS TEXT)"),
        ("checkpoint (size INTEGER PRIMARY KEY, note TEXT NOT NULL)", "UPDATE checkpoint SET note = x'00'"),
    ],
)
def test_a_cell_of_another_type_is_found(ledger: Ledger, strict: str, statement: str) -> None:
    # STRICT goes from the schema for one statement, and comes back before anyone looks.
    edit(
        ledger.path,
        "PRAGMA writable_schema=ON",
        f"UPDATE sqlite_schema SET sql = 'CREATE TABLE {strict}' WHERE sql = 'CREATE TABLE {strict} STRICT'",
    )
    edit(ledger.path, statement)
    edit(
        ledger.path,
        "PRAGMA writable_schema=ON",
        f"UPDATE sqlite_schema SET sql = 'CREATE TABLE {strict} STRICT' WHERE sql = 'CREATE TABLE {strict}'",
    )
    with pytest.raises(LedgerUnreadableError):
        read_ledger(ledger.path)


def test_rows_tell_the_type_of_every_cell(tmp_path: Path) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE leaf (seq, entry)")
        connection.execute("INSERT INTO leaf VALUES (0, 'text')")
        with pytest.raises(LedgerUnreadableError, match="wrong type"):
            reading._rows(connection, tmp_path, "leaf", ("seq", "integer"), ("entry", "blob"))


def test_the_key_must_be_the_one_we_know(raw: RawLedger, other_key: SigningKey) -> None:
    with pytest.raises(VerificationError, match="belongs to the key"):
        check_log(raw, other_key.public)


def test_a_ledger_resigned_by_another_key_is_refused(raw: RawLedger, key: SigningKey, other_key: SigningKey) -> None:
    resigned = tuple(
        (size, sign_checkpoint(Checkpoint(raw.origin, size, EMPTY_ROOT), other_key)) for size, _ in raw.notes
    )
    with pytest.raises(VerificationError, match="signed note"):
        check_log(replace(raw, notes=resigned), key.public)


def test_what_a_raw_ledger_says_of_itself_must_be_what_its_entries_say(raw: RawLedger, other_key: SigningKey) -> None:
    entry = raw.entries[3]
    for changed in (
        replace(raw, origin="other.example/ledger"),
        replace(raw, public_key=other_key.public),
        replace(raw, entries=raw.entries[:-1]),
        replace(raw, entries=(*raw.entries, entry)),
        replace(raw, entries=()),
        replace(raw, entries=(*raw.entries[:3], Entry(3, "charge", {**entry.body, "round": 3}))),
        replace(raw, entries=(*raw.entries[:3], Entry(3, "charge", {"text": "x" * 70_000}))),
        replace(raw, notes=raw.notes[:-1]),
        replace(raw, notes=raw.notes[::-1]),
        replace(raw, notes=(*raw.notes, raw.notes[-1])),
        replace(raw, notes=()),
        replace(raw, notes=((0, raw.notes[0][1]), *raw.notes)),
        replace(raw, payloads={}),
        replace(raw, payloads={**raw.payloads, "release-3": b""}),
        replace(raw, payloads={**raw.payloads, "release-1": b""}),
    ):
        with pytest.raises(VerificationError):
            check_log(changed, None)


def test_a_signed_root_of_other_entries_is_refused(raw: RawLedger, key: SigningKey) -> None:
    wrong = sign_checkpoint(Checkpoint(raw.origin, 4, EMPTY_ROOT), key)
    with pytest.raises(VerificationError, match="not over the first 4"):
        check_log(replace(raw, notes=(*raw.notes[:-1], (4, wrong))), key.public)


def test_an_older_copy_passes_and_that_is_all_a_signature_can_say(ledger: Ledger, key: SigningKey) -> None:
    older = read_ledger(ledger.path)
    with ledger.transaction() as transaction:
        transaction.append("charge", {"round": 3})
    assert check_log(older, key.public).size < check_log(read_ledger(ledger.path), key.public).size


@pytest.fixture
def left_wal(ledger: Ledger, kill_writer_at: Callable[[str], None]) -> Path:
    """The ledger's write-ahead log with a commit that has not reached the main file."""
    kill_writer_at("PRAGMA wal_checkpoint")
    ledger.path.with_name("unit.ledger-shm").unlink()
    return ledger.path.with_name("unit.ledger-wal")


@pytest.mark.chaos
def test_what_an_interrupted_writer_left_in_the_wal_is_understood(ledger: Ledger, left_wal: Path) -> None:
    whole = left_wal.read_bytes()
    page_size = struct.unpack_from(">I", whole, 8)[0]
    frame = 24 + page_size
    frames = (len(whole) - 32) // frame
    assert frames > 1
    # All frames but the one with the commit are there: the transaction did not happen.
    for length in (0, 20, 32, 32 + frame, 32 + frame + 100, len(whole) - frame, len(whole) - 1):
        left_wal.write_bytes(whole[:length])
        assert len(read_ledger(ledger.path).entries) == 4
    left_wal.write_bytes(whole + whole[32:100])
    assert len(read_ledger(ledger.path).entries) == 5


@pytest.mark.chaos
def test_frames_that_sqlite_ignores_for_no_good_reason_are_refused(ledger: Ledger, left_wal: Path) -> None:
    whole = left_wal.read_bytes()
    page_size = struct.unpack_from(">I", whole, 8)[0]
    for changed in (
        whole + whole[32 : 32 + 24 + page_size],  # a stale frame
        whole + bytes(24 + page_size),
        bytes(len(whole)),
        whole[:32] + bytes(len(whole) - 32),
    ):
        left_wal.write_bytes(changed)
        with pytest.raises(LedgerUnreadableError, match="write-ahead log"):
            read_ledger(ledger.path)


def test_a_log_too_short_for_a_header_holds_no_frame() -> None:
    assert explains(b"", 0)
    assert explains(bytes(31), 0)
    assert not explains(bytes(31), 1)


PAGE = bytes(range(256)) * 2


def checksums(order: str, start: tuple[int, int], data: bytes) -> tuple[int, int]:
    """As sqlite.org/fileformat2.html says, section 4.2."""
    first, second = start
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) % 2**32
        second = (second + odd + first) % 2**32
    return first, second


def make_wal(frames: str, order: str = "<", salts: bytes = b"saltsalt", frame_salts: bytes = b"saltsalt") -> bytes:
    """A write-ahead log of one frame a letter: `c` ends a commit, `f` does not."""
    header = struct.pack(">4I8s", {"<": 0x377F0682, ">": 0x377F0683}[order], 3007000, len(PAGE), 0, salts)
    running = checksums(order, (0, 0), header)
    wal = header + struct.pack(">2I", *running)
    for number, letter in enumerate(frames, start=1):
        start = struct.pack(">2I", number, number if letter == "c" else 0)
        running = checksums(order, running, start + PAGE)
        wal += start + frame_salts + struct.pack(">2I", *running) + PAGE
    return wal


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("frames", ["", "c", "fc", "cfc", "ff", "cff", "fcfff"])
def test_a_log_is_explained_by_its_last_commit_and_frames_without_one_behind_it(frames: str, order: str) -> None:
    wal, believed = make_wal(frames, order), frames.rfind("c") + 1
    assert explains(wal, believed)
    # A frame that was cut short says nothing.
    for length in (1, 23, 24, 24 + len(PAGE) - 1):
        assert explains(wal + make_wal("f", order)[32:][:length], believed)
    # A commit that SQLite has not believed was lost, by whatever means.
    for fewer in [place for place in range(believed) if frames[place:].count("c")]:
        assert not explains(wal, fewer)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_frame_behind_the_last_commit_must_be_valid_in_every_byte(order: str) -> None:
    wal = make_wal("cff", order)
    frame = 24 + len(PAGE)
    for place in range(32 + frame, len(wal), 4):
        changed = bytearray(wal)
        changed[place] ^= 1
        assert not explains(bytes(changed), 1), place


def test_frames_of_another_log_explain_nothing_even_with_right_checksums() -> None:
    assert explains(make_wal("ff"), 0)
    assert not explains(make_wal("ff", frame_salts=b"saltSALT"), 0)
    assert not explains(make_wal("ff", frame_salts=b"SALTsalt"), 0)


def test_a_log_whose_header_was_changed_is_not_explained() -> None:
    for wal in (make_wal(""), make_wal("cf")):
        for place in range(32):
            changed = bytearray(wal)
            changed[place] ^= 1
            assert not explains(bytes(changed), 0), place


def test_a_log_beside_a_database_that_has_none_is_refused(ledger: Ledger) -> None:
    edit(ledger.path, "PRAGMA journal_mode=DELETE")
    for frames in ("c", "cc", "ccc"):
        ledger.path.with_name("unit.ledger-wal").write_bytes(make_wal(frames))
        with pytest.raises(LedgerUnreadableError):
            read_ledger(ledger.path)


def test_sqlite_writes_logs_of_that_form(tmp_path: Path) -> None:
    path = tmp_path / "database"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (v)")
        connection.execute("INSERT INTO t VALUES (1)")
        wal = path.with_name("database-wal").read_bytes()
        frames = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    assert explains(wal, frames)
    assert not explains(wal, frames - 1)
