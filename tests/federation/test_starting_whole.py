"""No process of a node or server starts working on a ledger that was changed, whatever in it was changed."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fedseg.errors import FedsegError
from fedseg.node.home import LOCAL
from fedseg.node.integrity import require_integrity
from tests.small_federation import SmallFederation, make_federation

CHANGES = {
    "an entry": "UPDATE leaf SET entry = CAST(replace(CAST(entry AS TEXT), 'a', 'b') AS BLOB) WHERE seq = 1",
    "an old signature": "UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE size = 2) WHERE size = 1",
    "what was approved": "UPDATE payload SET data = x'00' WHERE id LIKE 'plan:%'",
    "a later version": "PRAGMA user_version = 9",
    "the end": "DELETE FROM leaf WHERE seq = (SELECT max(seq) FROM leaf)",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    return make_federation(tmp_path_factory.mktemp("whole") / "federation", {"north": 40}).approve_all()


@pytest.fixture
def federation(whole: SmallFederation, tmp_path: Path) -> SmallFederation:
    return whole.copied_to(tmp_path / "federation")


def change(ledger: Path, statement: str) -> None:
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute(statement)
        connection.commit()


def run(program: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", f"fedseg.federation.{program}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_home_as_it_was_left_is_whole(federation: SmallFederation) -> None:
    require_integrity(federation.home("north"))


@pytest.mark.parametrize("what", CHANGES)
def test_a_home_with_a_changed_ledger_is_not(federation: SmallFederation, what: str) -> None:
    change(federation.path / "north" / "ledger.db", CHANGES[what])
    with pytest.raises(FedsegError) as refused:
        require_integrity(federation.home("north"))
    assert refused.value.exit_code == 9


def test_a_home_with_a_damaged_register_is_not(federation: SmallFederation) -> None:
    (federation.path / "north" / LOCAL / "register.db").write_bytes(b"something else")
    with pytest.raises(FedsegError) as refused:
        require_integrity(federation.home("north"))
    assert refused.value.code == "E801"


def test_the_process_that_has_the_data_does_not_start_on_a_changed_ledger(
    federation: SmallFederation, tmp_path: Path
) -> None:
    change(federation.path / "north" / "ledger.db", CHANGES["an old signature"])
    ended = run("runner", "--home", federation.path / "north", "--socket", tmp_path / "nobody.sock")
    assert ended.returncode == 9
    assert "runner.not_started code=E901" in ended.stderr


def test_the_coordinator_does_not_start_on_a_changed_ledger(federation: SmallFederation, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    change(federation.path / "server" / "ledger.db", "UPDATE checkpoint SET size = 2")
    options = ("--home", federation.path / "server", "--jobs", tmp_path / "jobs", "--socket", tmp_path / "nobody.sock")
    ended = run("coordinator", *options)
    assert ended.returncode == 9
    assert "coordinator.stopped code=E901" in ended.stderr
