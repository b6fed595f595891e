"""Where the register is: in one place only, reached by a socket, and moved whole."""

import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import tomli_w
from pydantic import ValidationError

from fedseg.errors import DataError, SettingsError, StorageError
from fedseg.node.consent.intake import import_consents
from fedseg.node.consent.place import RegisterSettings, move_register, open_register
from fedseg.node.consent.postgres import PostgresRegister
from fedseg.node.consent.register import Register
from fedseg.node.home import NodeHome, NodeSettings
from fedseg.node.sources.settings import SourceSettings
from fedseg.policy.consent import ConsentEvent
from fedseg.policy.purposes import Purpose
from tests.chaos.conftest import Point, run_in_process
from tests.cli.conftest import Cli
from tests.postgres_server import PostgresServer, running_server
from tests.small_federation import make_federation, make_unit, policy_document

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STATISTICS = Purpose.SEGMENT_STATISTICS
WITHDRAWN = ConsentEvent(bytes(16), STATISTICS, "withdrawn", NOW, NOW)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://user:secret@/x?host=/run/postgresql", "password"),
        ("postgresql://db.example/x", "socket"),
        ("postgresql:///x", "socket"),
        ("postgresql:///x?host=localhost", "socket"),
        ("postgresql://db.example/x?host=/run/postgresql", "socket"),
        ("postgresql:///x?host=/run/postgresql&password=secret", "must look like"),
        ("postgresql:///x?host=/run/postgresql&service=other", "must look like"),
        ("mysql:///x?host=/run/mysqld", "must look like"),
        ("", "must look like"),
    ],
)  # fmt: skip
def test_only_a_socket_without_a_password_is_taken(url: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        RegisterSettings(url=url)


def test_without_the_package_the_fix_is_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fedseg.node.consent.postgres", None)
    settings = RegisterSettings(url="postgresql:///x?host=/run/postgresql")
    with pytest.raises(SettingsError, match="not installed") as caught:
        open_register(tmp_path / "register.db", settings, "north")
    assert caught.value.fix == "pip install 'fedseg[postgres]'"


def test_there_is_nowhere_to_move_to_unless_node_toml_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="names none"):
        move_register(tmp_path / "register.db", None, "north")


def test_a_home_without_a_database_keeps_its_register_itself(tmp_path: Path) -> None:
    home = make_unit(tmp_path / "unit", "unit", consenting=(), customers=b"customer\n", policy=policy_document())
    with home.register() as register:
        assert isinstance(register, Register)
    assert "register" not in (home.path / "node.toml").read_text()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_server() as running:
        yield running


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.new_database()


@pytest.fixture
def home(tmp_path: Path, url: str) -> NodeHome:
    """A unit with a register of its own, whose node.toml has just been given a database."""
    made = make_unit(tmp_path / "unit", "unit", consenting=(), customers=b"customer\n", policy=policy_document())
    with made.register() as register:
        register.append_events(replace(WITHDRAWN, subject=number.to_bytes(16, "big")) for number in range(1000))
        register.gate_salt("release-1")
    return with_database(made, url)


def with_database(home: NodeHome, url: str) -> NodeHome:
    with (home.path / "node.toml").open("ab") as file:
        tomli_w.dump({"register": {"url": url}}, file)
    return NodeHome.open(home.path)


def move(home: NodeHome, *, dry_run: bool = False) -> int:
    settings = home.settings
    return move_register(home.register_file, settings.register_, settings.unit, dry_run=dry_run)


@pytest.mark.processes
def test_two_registers_are_refused_until_one_is_moved_into_the_other(home: NodeHome) -> None:
    with pytest.raises(SettingsError, match="two consent registers") as caught:
        home.register()
    assert caught.value.fix.endswith(f"fedseg consent move --node {home.path}")
    with Register(home.register_file) as register:
        events, salt = register.events(STATISTICS), register.gate_salt("release-1")

    assert move(home, dry_run=True) == 1000
    assert move(home) == 1000

    assert not home.register_file.exists()
    with home.register() as moved:
        assert isinstance(moved, PostgresRegister)
        assert sorted(map(str, moved.events(STATISTICS).to_pylist())) == sorted(map(str, events.to_pylist()))
        assert moved.gate_salt("release-1") == salt
    with pytest.raises(DataError, match="missing"):
        move(home)


@pytest.mark.processes
def test_a_move_that_was_killed_starts_again(home: NodeHome, url: str) -> None:
    with PostgresRegister.create(url, "unit") as half:
        half.append_events([WITHDRAWN, replace(WITHDRAWN, kind="refused")])
    move(home)
    with home.register() as moved:
        assert moved.events(STATISTICS).num_rows == 1000


@pytest.mark.processes
def test_a_database_of_another_unit_or_that_cannot_be_reached_leaves_the_register_as_it_was(
    home: NodeHome, url: str
) -> None:
    PostgresRegister.create(url, "other").close()
    with pytest.raises(DataError, match="of unit unit"):
        move(home)
    nowhere = RegisterSettings(url="postgresql:///x?host=/nowhere")
    with pytest.raises(StorageError):
        move_register(home.register_file, nowhere, "unit")
    with Register(home.register_file) as register:
        assert register.events(STATISTICS).num_rows == 1000


@pytest.mark.processes
def test_a_new_home_can_begin_with_a_database(tmp_path: Path, url: str) -> None:
    source = SourceSettings(path="LOCAL/customers.csv", format="csv", subject="customer")
    settings = NodeSettings.model_validate({"version": 1, "unit": "unit", "source": source, "register": {"url": url}})
    home = NodeHome.create(tmp_path / "unit", settings, policy=policy_document())
    assert not home.register_file.exists()
    with NodeHome.open(home.path).register() as register:
        assert register.events(STATISTICS).num_rows == 0


@pytest.mark.processes
def test_a_unit_approves_imports_and_counts_from_its_database(tmp_path: Path, server: PostgresServer) -> None:
    federation = make_federation(tmp_path / "federation", {"north": 60, "south": 50})
    north = with_database(federation.home("north"), server.new_database())
    move(north)
    cli = Cli(tmp_path, {"FEDSEG_NODE": str(north.path)})
    (tmp_path / "ids.txt").write_text("north-0\nnorth-1\n", encoding="utf-8")

    assert cli.here("consent", "withdraw", "--id-file", "ids.txt").code == 0
    local = cli.here("consent", "status", "--format", "json").envelope["data"]["LOCAL"]
    federation.approve_all()

    counted = local["purposes"][STATISTICS]["status"]
    assert (counted["given"], counted["withdrawn"], local["in_source"]) == (58, 2, 60)


@pytest.mark.processes
@pytest.mark.parametrize("where", ["_bring", "_copy", "PostgresRegister.take_in"])
def test_an_import_into_a_database_that_is_killed_has_stored_everything_or_nothing(
    where: str, home: NodeHome, tmp_path: Path
) -> None:
    move(home)
    rest = f"{Purpose.SEGMENT_ACTIVATION},withdrawn,2026-01-01T00:00:00Z,"
    lines = ["identifier,purpose,kind,event_time,valid_until", *(f"customer-{number},{rest}" for number in range(500))]
    (tmp_path / "export.csv").write_text("\n".join(lines), encoding="utf-8")

    def take() -> bytes:
        import_consents(NodeHome.open(home.path), tmp_path / "export.csv", "canonical-csv", now=NOW)
        return b"done"

    killed = run_in_process(take, Point(where, f"fedseg.node.consent.postgres:{where}"))

    assert killed.code == -signal.SIGKILL
    with home.register() as register:
        committed = where == "PostgresRegister.take_in"
        assert register.events(Purpose.SEGMENT_ACTIVATION).num_rows == (500 if committed else 0)
    assert take() == b"done"
    with home.register() as register:
        assert register.events(Purpose.SEGMENT_ACTIVATION).num_rows == 500


@pytest.mark.processes
def test_the_command_moves(home: NodeHome, tmp_path: Path) -> None:
    cli = Cli(tmp_path, {"FEDSEG_NODE": str(home.path)})
    assert "checked, nothing moved" in cli.here("consent", "move", "--dry-run").out
    assert cli.here("consent", "move", "--format", "json").envelope["data"] == {
        "outcome": "moved",
        "LOCAL": {"events": 1000},
    }
    assert cli.here("consent", "status").code == 0
