"""An import of consents is killed at any point, or the disk fills: the register has all of it or nothing, and no file stays."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedseg.node.consent import intake as consent_import
from fedseg.node.consent.intake import import_consents
from fedseg.node.home import NodeHome
from fedseg.policy.purposes import Purpose
from tests.chaos.conftest import FEDSEG, Child, Point, Unit, run_in_process
from tests.chaos.test_full_disk import Attempt, on_a_small_disk, says_disk_full

__all__ = ["on_a_small_disk"]

IMPORT = "fedseg.node.consent.intake"
CONNECTIONS = "fedseg.node.consent.register:connect"
LINES = 6000
BATCH_ROWS = 2500
"""So that there are three batches; a forked child has it too."""

BEFORE_COMMIT = [
    Point("heading read", f"{IMPORT}:ConsentFile"),
    Point("first line read", f"{IMPORT}:read_identifier"),
    Point("first batch staged", f"{IMPORT}:_Intake._batch"),
    Point("all read", f"{IMPORT}:_Intake.read"),
    Point("report written", f"{IMPORT}:_write_report"),
    Point("transaction about to begin", CONNECTIONS, sql="BEGIN IMMEDIATE"),
    Point("first event about to be written", CONNECTIONS, sql="INSERT INTO event"),
    Point("most events written", CONNECTIONS, sql="INSERT INTO event", call=LINES - 5),
    Point("note about to be written", CONNECTIONS, sql="INSERT OR REPLACE INTO import"),
    Point("mark about to be written", CONNECTIONS, sql="INSERT INTO unread"),
    Point("about to commit", CONNECTIONS, sql="COMMIT"),
]
AFTER_COMMIT = [
    Point("committed", "fedseg.node.consent.register:Register.take_in"),
    Point("register closed", "fedseg.node.consent.register:Register.close"),
]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent_import, "_BATCH_ROWS", BATCH_ROWS)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "export.csv"
    rest = f"{Purpose.SEGMENT_ACTIVATION},withdrawn,2026-01-01T00:00:00Z,"
    lines = [
        "identifier,purpose,kind,event_time,valid_until",
        *(f"customer-{number},{rest}" for number in range(LINES)),
    ]
    path.write_text("\n".join([*lines, f"customer-x,{rest}x"]), encoding="utf-8")
    return path


def take(home: Path, export: Path) -> bytes:
    import_consents(NodeHome.open(home), export, "canonical-csv", now=datetime.now(UTC), accept_partial=True)
    return b"done"


def stored(home: Path) -> tuple[int, int, int]:
    """Imports, their events, and customers denied for a line."""
    with NodeHome.open(home).register() as register:
        found = register.events(Purpose.SEGMENT_ACTIVATION)["kind"].to_pylist()
        return len(register.imports()), found.count("withdrawn"), len(found) - found.count("withdrawn")


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("point", "committed"),
    [(point, point in AFTER_COMMIT) for point in BEFORE_COMMIT + AFTER_COMMIT],
    ids=[point.name.replace(" ", "-") for point in BEFORE_COMMIT + AFTER_COMMIT],
)
def test_a_killed_import_has_stored_everything_or_nothing_and_starts_again(
    point: Point, export: Path, new_unit: Callable[[], Unit], *, committed: bool
) -> None:
    home = new_unit().home

    killed = run_in_process(lambda: take(home, export), point)

    assert killed.code == -signal.SIGKILL, f"the process never came to {point.where}"
    assert stored(home) == ((1, LINES, 1) if committed else (0, 0, 0))
    assert take(home, export) == b"done"
    assert stored(home) == (1, LINES, 1)
    left = {path.name for path in (home / "LOCAL").iterdir() if path.suffix != ".db"}
    assert left == {"customers.csv", "keys", "imports"}
    assert [path.suffix for path in (home / "LOCAL/imports").iterdir()] == [".csv"]


@pytest.mark.chaos
def test_rounds_read_the_register_while_an_import_stores(export: Path, new_unit: Callable[[], Unit]) -> None:
    home = new_unit().home
    with NodeHome.open(home).register() as register:
        before = register.events(Purpose.SEGMENT_STATISTICS).num_rows
    point = Point("storing", CONNECTIONS, sql="INSERT OR REPLACE INTO import")
    child = Child.start(lambda: take(home, export), point, signal.SIGSTOP)
    child.wait_for_stop()

    start = time.monotonic()
    with NodeHome.open(home).register() as register:
        assert register.events(Purpose.SEGMENT_STATISTICS).num_rows == before
    assert time.monotonic() - start < 10, "the reader waited for the writer"

    child.go_on()
    assert child.wait().output == b"done"
    assert stored(home) == (1, LINES, 1)


@pytest.mark.chaos
@pytest.mark.parametrize("room_kib", [0, 300, 1100])
def test_a_disk_that_fills_during_an_import_leaves_the_register_as_it_was(
    room_kib: int,
    export: Path,
    new_unit: Callable[[], Unit],
    tmp_path: Path,
    on_a_small_disk: Callable[..., tuple[Attempt, Attempt]],
) -> None:
    disk = tmp_path / "disk"
    command = ["consent", "import", export, "--mapping", "canonical-csv", "--node", disk, "--accept-partial"]

    full, again = on_a_small_disk(new_unit().home, room_kib, disk, FEDSEG, *command)

    assert says_disk_full(full), full.err
    assert stored(full.disk) == (0, 0, 0)
    assert again.code == 0, again.err
    assert stored(again.disk) == (1, LINES, 1)


@pytest.mark.chaos
def test_two_imports_at_once_both_end_well(export: Path, new_unit: Callable[[], Unit], tmp_path: Path) -> None:
    home, other = new_unit().home, tmp_path / "other.csv"
    other.write_text(export.read_text().replace("customer-", "client-"), encoding="utf-8")
    command = [sys.executable, "-m", "fedseg", "consent", "import"]
    both = [
        subprocess.Popen(
            [*command, str(one), "--mapping", "canonical-csv", "--node", str(home), "--accept-partial"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for one in (export, other)
    ]

    assert [(one.wait(timeout=120), one.communicate()[1][-200:])[0] for one in both] == [0, 0]
    assert stored(home) == (2, 2 * LINES, 2)
