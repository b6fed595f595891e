"""Where a unit keeps its consent register: in its home, or in a PostgreSQL database that node.toml names."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from fedseg.errors import SettingsError
from fedseg.node.consent.register import TABLES, ConsentRegister, Register
from fedseg.node.sources.settings import socket_url

if TYPE_CHECKING:
    from fedseg.node.consent.postgres import PostgresRegister


class RegisterSettings(BaseModel):
    """The database that holds the register."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: Annotated[str, AfterValidator(socket_url)]
    """Of a PostgreSQL database on this machine, by its socket."""


def open_register(path: Path, settings: RegisterSettings | None, unit: str) -> ConsentRegister:
    """The unit's register: the file at `path`, or the database in the settings.

    Raises:
        SettingsError: If there are both, so that one of them would be ignored; or psycopg is not installed.
        DataError: If there is none.
        StorageError: If it cannot be read.
    """
    if settings is None:
        return Register(path)
    if path.exists():
        raise SettingsError(
            "this unit has two consent registers",
            why=f"node.toml names a database, and {path} is still there: a withdrawal may be in the other one",
            fix=f"stop the node, then: fedseg consent move --node {path.parents[1]}",
        )
    return _postgres().open(settings.url, unit)


def create_register(path: Path, settings: RegisterSettings | None, unit: str) -> None:
    """Make the register of a new unit, empty.

    Raises:
        SettingsError: If psycopg is not installed.
        StorageError: If there is one already, or it cannot be made.
    """
    made: ConsentRegister = Register.create(path) if settings is None else _postgres().create(settings.url, unit)
    made.close()


def move_register(path: Path, settings: RegisterSettings | None, unit: str, *, dry_run: bool = False) -> int:
    """Move the register at `path` into the database in the settings, and delete the file. A killed move starts again.

    Returns:
        LOCAL: how many events it holds.

    Raises:
        SettingsError: If the settings name no database.
        DataError: If there is no register to move, or the database holds another unit's.
        StorageError: If the database cannot be reached or written. The file is as it was then.
    """
    if settings is None:
        raise SettingsError(
            "there is no database to move the register to",
            why="node.toml names none",
            fix='write [register] and url = "postgresql:///DATABASE?host=/run/postgresql" into node.toml',
        )
    with Register(path) as old:
        events = sum(1 for _ in old.rows("event"))
        if dry_run:
            _postgres().check(settings.url)
            return events
        with _postgres().open_or_create(settings.url, unit) as new:
            new.fill((name, old.rows(name)) for name in TABLES)
    path.unlink()
    return events


def _postgres() -> "type[PostgresRegister]":
    try:
        from fedseg.node.consent.postgres import PostgresRegister  # noqa: PLC0415 (an extra that few units install)
    except ImportError as error:
        raise SettingsError(
            "the consent register's database cannot be used",
            why="the package psycopg is not installed",
            fix="pip install 'fedseg[postgres]'",
        ) from error
    return PostgresRegister
