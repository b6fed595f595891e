"""A ledger in use can be copied; the copy is whole, verifies, and is never half there."""

import threading
from pathlib import Path

import pytest

from fedseg.errors import LedgerUnreadableError, StorageError
from fedseg.ledger.backup import back_up
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.raw import check_log
from fedseg.ledger.reading import read_ledger
from fedseg.ledger.store import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    key = SigningKey.generate()
    made = Ledger.create(tmp_path / "ledger.db", origin="fedseg/unit/north", key=key, body={"role": "unit"})
    append(made, 5)
    return made


def append(ledger: Ledger, count: int) -> None:
    for number in range(count):
        with ledger.transaction() as transaction:
            size = transaction.after.size
            transaction.append("fact", {"number": number}, payload=(f"bytes:{size}", bytes(size * 100)))


def test_a_backup_holds_what_the_ledger_held_and_the_ledger_goes_on(ledger: Ledger, tmp_path: Path) -> None:
    before = ledger.path.read_bytes()
    newest = back_up(ledger.path, tmp_path / "copy.db")
    assert ledger.path.read_bytes() == before
    assert newest == check_log(read_ledger(tmp_path / "copy.db"), None) == check_log(read_ledger(ledger.path), None)
    append(ledger, 1)
    assert check_log(read_ledger(tmp_path / "copy.db"), None).size == 6
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == ["copy.db"]


def test_backups_made_while_others_write_are_each_of_one_moment(ledger: Ledger, tmp_path: Path) -> None:
    writer = threading.Thread(target=append, args=(ledger, 60))
    writer.start()
    sizes = [back_up(ledger.path, tmp_path / f"copy-{number}.db").size for number in range(8)]
    writer.join()
    assert sizes == sorted(sizes)
    assert check_log(read_ledger(ledger.path), None).size == 66


def test_a_backup_is_never_written_over(ledger: Ledger, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("older")
    with pytest.raises(StorageError, match="there already"):
        back_up(ledger.path, target)
    assert target.read_text() == "older"


def test_what_is_no_ledger_is_not_backed_up(tmp_path: Path) -> None:
    source = tmp_path / "letter.txt"
    source.write_text("Dear auditor")
    with pytest.raises(LedgerUnreadableError):
        back_up(source, tmp_path / "copy.db")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_folder_that_cannot_be_written_gets_a_clear_error(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no backup was made|cannot be used now"):
        back_up(ledger.path, tmp_path / "nowhere" / "copy.db")


def test_a_damaged_ledger_is_not_backed_up(ledger: Ledger, tmp_path: Path) -> None:
    damaged = bytearray(ledger.path.read_bytes())
    damaged[4096:] = bytes(len(damaged) - 4096)
    ledger.path.write_bytes(damaged)
    with pytest.raises(LedgerUnreadableError):
        back_up(ledger.path, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_something_else_in_the_way_of_a_backup_is_left_alone(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "copy.db.part").mkdir()
    with pytest.raises(StorageError, match="no backup was made"):
        back_up(ledger.path, tmp_path / "copy.db")
    assert (tmp_path / "copy.db.part").is_dir()
