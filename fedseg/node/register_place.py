"""Where a unit keeps its consent register: in its home, or in a PostgreSQL database that node.toml names."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict

from fedseg.errors import SettingsError
from fedseg.node.register import TABLES, ConsentRegister, Register

if TYPE_CHECKING:
    from fedseg.node.postgres_register import PostgresRegister

_PARAMETERS: Final = frozenset({"host", "port", "user", "dbname"})


def _socket_url(url: str) -> str:
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme not in {"postgresql", "postgres"} or parts.fragment or set(given) - _PARAMETERS:
        raise ValueError("must look like postgresql:///DATABASE?host=/run/postgresql, with host, port, user and dbname")
    if parts.password is not None:
        raise ValueError("a password does not belong here; let the database know this unit's user by its socket (peer)")
    if parts.hostname or not given.get("host", "").startswith("/"):
        raise ValueError("host must be the directory of the database's socket: the data process has no network")
    return url


class RegisterSettings(BaseModel):
    """The database that holds the register."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    url: Annotated[str, AfterValidator(_socket_url)]
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
        from fedseg.node.postgres_register import PostgresRegister  # noqa: PLC0415 (an extra that few units install)
    except ImportError as error:
        raise SettingsError(
            "the consent register's database cannot be used",
            why="the package psycopg is not installed",
            fix="pip install 'fedseg[postgres]'",
        ) from error
    return PostgresRegister
