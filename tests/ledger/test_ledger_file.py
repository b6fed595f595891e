"""The ledger's file: whose it is, who else may use it, and what happens when the world fails."""

import os
import resource
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest

from fedseg.errors import LedgerUnreadableError, StorageError, VerificationError
from fedseg.ledger import database, store
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.merkle import EMPTY_ROOT
from fedseg.ledger.reading import check_log, read_ledger
from fedseg.ledger.store import Ledger

ORIGIN = "unit.example/ledger"


@contextmanager
def file_size_limit(size: int) -> Generator[None, None, None]:
    """Every write beyond `size` fails in the kernel, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_reopened_ledger_holds_what_was_committed(ledger: Ledger, key: SigningKey) -> None:
    again = Ledger.open(ledger.path, key)
    assert again.entries() == ledger.entries()
    assert again.payload("release-1") == b"first release"
    assert again.origin == ORIGIN


def test_the_file_is_its_owners_alone(ledger: Ledger) -> None:
    assert ledger.path.stat().st_mode & 0o777 == 0o600


def test_at_rest_the_main_file_holds_everything(ledger: Ledger) -> None:
    assert names(ledger.path.parent) == ["unit.ledger"]
    moved = ledger.path.rename(ledger.path.with_name("moved"))
    assert check_log(read_ledger(moved), None).size == 4


def test_an_existing_file_is_never_overwritten(ledger: Ledger, key: SigningKey) -> None:
    before = ledger.path.read_bytes()
    with pytest.raises(StorageError, match="no ledger was created"):
        Ledger.create(ledger.path, origin=ORIGIN, key=key, body={})
    assert ledger.path.read_bytes() == before


def test_a_ledger_in_a_missing_directory_is_not_created(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(StorageError, match="no ledger was created"):
        Ledger.create(tmp_path / "missing" / "unit.ledger", origin=ORIGIN, key=key, body={})


def test_a_body_that_cannot_be_a_genesis_leaves_no_file(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(ValueError, match="origin"):
        Ledger.create(tmp_path / "unit.ledger", origin=ORIGIN, key=key, body={"origin": "other"})
    with pytest.raises(ValueError, match="printable"):
        Ledger.create(tmp_path / "unit.ledger", origin="two words", key=key, body={})
    assert names(tmp_path) == []


def test_a_ledger_that_does_not_fit_on_the_disk_is_not_left_half_made(tmp_path: Path, key: SigningKey) -> None:
    with file_size_limit(5000), pytest.raises(StorageError, match="no ledger was created"):
        Ledger.create(tmp_path / "unit.ledger", origin=ORIGIN, key=key, body={})
    assert names(tmp_path) == []


def test_a_closed_ledger_refuses_use(ledger: Ledger) -> None:
    with ledger as same:
        assert same is ledger
    with pytest.raises(ValueError, match="closed"):
        ledger.entries()
    with pytest.raises(ValueError, match="closed"), ledger.transaction():
        pass


def test_another_key_cannot_open_a_ledger(ledger: Ledger, other_key: SigningKey) -> None:
    with pytest.raises(VerificationError, match="belongs to the key"):
        Ledger.open(ledger.path, other_key)


@pytest.mark.parametrize("content", [b"", b"text", b"SQLite format 3\x00" + bytes(100), bytes(5000)])
def test_a_file_that_is_no_ledger_is_unreadable(tmp_path: Path, key: SigningKey, content: bytes) -> None:
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(LedgerUnreadableError):
        Ledger.open(tmp_path / "foreign", key)


def test_a_missing_ledger_is_not_created_by_opening(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(LedgerUnreadableError, match="not a ledger"):
        Ledger.open(tmp_path / "missing", key)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON leaf BEGIN DELETE FROM payload; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE INDEX i ON leaf (entry)",
        "CREATE TABLE extra (a)",
        "DROP TABLE payload",
        "PRAGMA user_version=2",
        "PRAGMA application_id=0",
    ],
)
def test_a_ledger_with_another_schema_is_not_opened(ledger: Ledger, key: SigningKey, statement: str) -> None:
    edit(ledger.path, statement)
    with pytest.raises(LedgerUnreadableError):
        Ledger.open(ledger.path, key)


def test_a_ledger_of_a_later_version_is_refused_as_such_and_left_alone(ledger: Ledger, key: SigningKey) -> None:
    edit(ledger.path, "PRAGMA user_version=2", "CREATE TABLE later (a)")
    before = ledger.path.read_bytes()
    for attempt in (lambda: Ledger.open(ledger.path, key), lambda: read_ledger(ledger.path)):
        with pytest.raises(LedgerUnreadableError, match="is version 2, and this one reads up to 1") as refused:
            attempt()
        assert refused.value.fix.startswith("pip install --upgrade fedseg")
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM leaf WHERE seq = 3",
        "DELETE FROM leaf WHERE seq = 1",
        "DELETE FROM leaf",
        'UPDATE leaf SET entry = CAST(\'{"body":{},"kind":"note","seq":2}\' AS BLOB) WHERE seq = 2',
        "UPDATE leaf SET seq = 9 WHERE seq = 3",
        "DELETE FROM checkpoint",
        "DELETE FROM checkpoint WHERE size = 4",
        "UPDATE checkpoint SET size = 5 WHERE size = 4",
        "UPDATE checkpoint SET note = replace(note, 'A', 'B')",
        "UPDATE checkpoint SET note = CAST(x'ff' AS TEXT)",
        'INSERT INTO leaf VALUES (4, CAST(\'{"body":{},"kind":"note","seq":4}\' AS BLOB))',
    ],
)
def test_a_ledger_changed_after_signing_is_neither_opened_nor_used(
    ledger: Ledger, key: SigningKey, statement: str
) -> None:
    edit(ledger.path, statement)
    with pytest.raises(VerificationError):
        Ledger.open(ledger.path, key)
    fresh = Ledger(ledger.path, [key], ledger._genesis)
    with pytest.raises(VerificationError), fresh.transaction():
        pass


def test_a_ledger_set_back_under_an_open_one_is_noticed(ledger: Ledger) -> None:
    older = ledger.path.read_bytes()
    with ledger.transaction() as transaction:
        transaction.append("charge", {})
    ledger.path.write_bytes(older)
    with pytest.raises(VerificationError, match="does not check out"):
        ledger.entries()


@pytest.mark.parametrize(
    "statement", ["UPDATE payload SET data = x'00'", "DELETE FROM payload", "UPDATE payload SET id = id || 'x'"]
)
def test_a_changed_payload_is_never_handed_out(ledger: Ledger, statement: str) -> None:
    edit(ledger.path, statement)
    with pytest.raises(VerificationError, match="does not check out"):
        ledger.payload("release-1")
    with ledger.transaction() as transaction, pytest.raises(VerificationError, match="does not check out"):
        transaction.payload("release-1")


def test_a_row_that_lies_where_a_payload_is_to_go_stops_the_transaction(ledger: Ledger) -> None:
    edit(ledger.path, "INSERT INTO payload VALUES ('release-3', x'00')")
    with pytest.raises(VerificationError), ledger.transaction() as transaction:
        transaction.append("charge", {}, payload=("release-3", b"bytes"))
    assert len(ledger.entries()) == 4


def test_a_genesis_signed_for_another_size_is_refused(ledger: Ledger, key: SigningKey) -> None:
    note = sign_checkpoint(Checkpoint(ORIGIN, 9, EMPTY_ROOT), key)
    edit(ledger.path, f"UPDATE checkpoint SET note = '{note}' WHERE size = 4")
    with pytest.raises(VerificationError, match="does not check out"):
        Ledger.open(ledger.path, key)


@pytest.mark.parametrize("limit", [0, 5000, 16_000])
def test_when_the_disk_is_full_nothing_is_half_written(ledger: Ledger, key: SigningKey, limit: int) -> None:
    with file_size_limit(limit), pytest.raises(StorageError), ledger.transaction() as transaction:
        transaction.append("charge", {}, payload=("release-3", bytes(200_000)))
    assert len(ledger.entries()) == 4
    assert check_log(read_ledger(ledger.path), key.public).size == 4
    with ledger.transaction() as transaction:
        transaction.append("charge", {}, payload=("release-3", bytes(200_000)))
    assert check_log(read_ledger(ledger.path), key.public).size == 5


def mounted(disk: Path, *options: str) -> bool:
    """Mount a small file system of its own at `disk`, or change it; False where one may not."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(disk)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.chaos
def test_on_a_full_disk_all_that_was_committed_is_kept_and_it_goes_on_when_there_is_room(
    tmp_path: Path, key: SigningKey
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    own = mounted(disk, "size=256k")
    try:
        ledger = Ledger.create(disk / "unit.ledger", origin=ORIGIN, key=key, body={})
        committed = 0
        with nullcontext() if own else file_size_limit(256 * 1024), pytest.raises(StorageError):  # noqa: PT012 - the disk fills bit by bit
            while True:
                with ledger.transaction() as transaction:
                    transaction.append("charge", {}, payload=(f"release-{committed}", bytes(20_000)))
                committed += 1
        assert committed > 1
        assert check_log(read_ledger(ledger.path), key.public).size == 1 + committed
        assert not own or mounted(disk, "remount", "size=4m")
        with ledger.transaction() as transaction:
            assert transaction.append("charge", {}).seq == 1 + committed
        assert check_log(read_ledger(ledger.path), key.public).size == 2 + committed
    finally:
        if own:
            subprocess.run(["umount", str(disk)], check=True)


def test_a_commit_stands_even_if_the_main_file_cannot_be_written_yet(ledger: Ledger, key: SigningKey) -> None:
    size = ledger.path.stat().st_size
    # The write-ahead log may grow to `size`; the main file would have to grow beyond it.
    with file_size_limit(max(size, 33_000)), ledger.transaction() as transaction:
        transaction.append("charge", {}, payload=("release-3", bytes(16_000)))
    assert len(Ledger.open(ledger.path, key).entries()) == 5
    assert check_log(read_ledger(ledger.path), key.public).size == 5


def test_a_ledger_held_by_another_writer_for_too_long_is_a_storage_error(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_SECONDS", 0.05)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="SQLITE_BUSY"), ledger.transaction():
            pass


WRITER = """
import sys
from pathlib import Path
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.store import Ledger

ledger = Ledger.open(Path(sys.argv[1]), SigningKey.load(Path(sys.argv[2])))
for number in range(20):
    with ledger.transaction() as transaction:
        transaction.append(
            "charge", {"seen": len(transaction.entries())}, payload=(f"{sys.argv[3]}-{number}", b"release")
        )
"""


def test_processes_write_one_after_the_other_and_see_each_others_entries(
    ledger: Ledger, key: SigningKey, tmp_path: Path, run_python: Callable[..., "subprocess.Popen[str]"]
) -> None:
    key.save(tmp_path / "key.pem")
    writers = [run_python(WRITER, ledger.path, tmp_path / "key.pem", name) for name in ("a", "b", "c")]
    while any(writer.poll() is None for writer in writers):
        # A reader beside them always finds a whole ledger.
        assert check_log(read_ledger(ledger.path), key.public).size >= 4
        assert len(ledger.entries()) >= 4
    for writer in writers:
        with writer:
            assert writer.returncode == 0
    assert [entry.body["seen"] for entry in ledger.entries()[4:]] == list(range(4, 64))
    assert check_log(read_ledger(ledger.path), key.public).size == 64


@pytest.mark.chaos
@pytest.mark.parametrize(
    "statement", ["BEGIN IMMEDIATE", "INSERT INTO leaf", "INSERT INTO payload", "INSERT INTO checkpoint", "COMMIT"]
)
def test_a_writer_killed_before_its_commit_leaves_no_trace(
    ledger: Ledger, key: SigningKey, kill_writer_at: Callable[[str], None], statement: str
) -> None:
    kill_writer_at(statement)
    assert check_log(read_ledger(ledger.path), key.public).size == 4
    again = Ledger.open(ledger.path, key)
    assert len(again.entries()) == 4
    assert again.payload("late") is None
    with again.transaction() as transaction:
        transaction.append("charge", {}, payload=("late", b"in time"))
    assert check_log(read_ledger(ledger.path), key.public).size == 5


@pytest.mark.chaos
def test_a_writer_killed_after_its_commit_has_committed(
    ledger: Ledger, key: SigningKey, kill_writer_at: Callable[[str], None]
) -> None:
    kill_writer_at("PRAGMA wal_checkpoint")
    assert ledger.path.with_name("unit.ledger-wal").stat().st_size > 0
    assert check_log(read_ledger(ledger.path), key.public).size == 5
    assert Ledger.open(ledger.path, key).payload("late") == b"late" * 2000
    assert "unit.ledger-wal" not in names(ledger.path.parent)


def test_a_forked_child_uses_the_ledger_as_its_parent_does(ledger: Ledger) -> None:
    child = os.fork()
    if child == 0:
        with ledger.transaction() as transaction:
            transaction.append("charge", {"by": "child"})
        os._exit(len(ledger.entries()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    with ledger.transaction() as transaction:
        transaction.append("charge", {"by": "parent"})
    assert [entry.body["by"] for entry in ledger.entries()[4:]] == ["child", "parent"]


def test_a_child_forked_inside_a_transaction_cannot_commit_it(ledger: Ledger, key: SigningKey) -> None:
    child, status = None, None
    try:
        with ledger.transaction() as transaction:
            transaction.append("charge", {"by": "whoever"}, payload=("release-3", b"bytes"))
            child = os.fork()
            if child != 0:
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except StorageError:
        if child != 0:
            raise
        os._exit(17)
    if child == 0:
        os._exit(1)
    assert status == 17
    assert len(ledger.entries()) == 5
    assert check_log(read_ledger(ledger.path), key.public).size == 5


def test_a_transaction_ends_only_in_the_process_that_began_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    # The same promise as above where coverage can see it: what the child of a fork runs is not measured.
    here = os.getpid()
    with pytest.raises(StorageError, match="another process"), ledger.transaction() as transaction:  # noqa: PT012 - the process changes inside
        transaction.append("charge", {})
        monkeypatch.setattr(os, "getpid", lambda: here + 1)
    monkeypatch.undo()
    store._ABANDONED.pop().close()
    assert len(ledger.entries()) == 4


def test_a_second_ledger_object_sees_what_the_first_committed(ledger: Ledger, key: SigningKey) -> None:
    other = Ledger.open(ledger.path, key)
    with ledger.transaction() as transaction:
        transaction.append("charge", {"round": 3})
    assert other.entries() == ledger.entries()
    with other.transaction() as transaction:
        assert transaction.append("charge", {"round": 4}).seq == 5
    assert [entry.seq for entry in ledger.entries()] == list(range(6))


def test_a_callers_own_database_errors_pass_through(ledger: Ledger) -> None:
    with pytest.raises(sqlite3.OperationalError, match="theirs"), ledger.transaction():
        raise sqlite3.OperationalError("theirs")


def test_many_threads_may_read_while_one_writes(ledger: Ledger) -> None:
    sizes: list[int] = []

    def read() -> None:
        sizes.extend(len(ledger.entries()) for _ in range(10))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        with ledger.transaction() as transaction:
            transaction.append("charge", {})
    for thread in threads:
        thread.join()
    assert len(sizes) == 40
    assert min(sizes) >= 4
