"""The [source] settings of node.toml: where a unit's customers are, and how one row a customer comes out of events."""

import re
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedseg.node.sources.public_tables import LookupSettings

_PARAMETERS: Final = frozenset({"host", "port", "user", "dbname"})
_PART: Final = r"[A-Za-z_][A-Za-z0-9_$]{0,62}"

DATABASES: Final = frozenset({"duckdb", "postgresql", "spark"})
"""Formats with tables; fedseg only ever reads them."""

_SOCKET: Final = re.compile(r"unix:(/[^\0?#%]{1,100})")


def socket_url(url: str) -> str:
    """The URL of a PostgreSQL database on this machine, reached by a socket without a password.

    Raises:
        ValueError: If it is another.
    """
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme not in {"postgresql", "postgres"} or parts.fragment or set(given) - _PARAMETERS:
        raise ValueError("must look like postgresql:///DATABASE?host=/run/postgresql, with host, port, user and dbname")
    if parts.password is not None:
        raise ValueError("a password does not belong here; let the database know this unit's user by its socket (peer)")
    if parts.hostname or not given.get("host", "").startswith("/"):
        raise ValueError("host must be the directory of the database's socket: the data process has no network")
    return url


def socket_path(url: str) -> str:
    """The path of a socket on this machine, behind which Spark Connect listens: of unix:/run/fedseg-spark/connect.sock.

    Raises:
        ValueError: If it is another address.
    """
    found = _SOCKET.fullmatch(url)
    if found is None:
        raise ValueError("must look like unix:/run/fedseg-spark/connect.sock: the data process has no network")
    return found[1]


class ViewSettings(BaseModel):
    """One row a customer out of many events: what each event holds, and what is made of a customer's events.

    Expressions are read by `fedseg.node.sources.expressions`, when the source is opened.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    columns: Annotated[dict[str, str], Field(min_length=1, max_length=256)]
    """What a column of an event holds: text, truth, date, integer or decimal(digits, decimals)."""
    features: Annotated[dict[Annotated[str, Field(pattern=rf"^{_PART}$")], str], Field(min_length=1, max_length=1024)]
    """An expression by the name of the feature's column: an aggregate over one customer's events."""
    lookups: (
        Annotated[dict[Annotated[str, Field(pattern=rf"^{_PART}$")], LookupSettings], Field(max_length=64)] | None
    ) = None
    """Columns that public tables say of events, by the names that expressions call them."""
    where: str | None = None
    """Which events count: a condition on one event."""
    distinct: bool | None = None
    """Whether several events of one customer that are the same in all of `columns` count once; not unless said."""
    memory_mb: Annotated[int, Field(ge=64, le=2**20)] | None = None
    """Most memory for the customers of one pass; 1024 unless said."""
    passes: Annotated[int, Field(ge=1, le=4096)] | None = None
    """How often the events are read, each time for a part of the customers; 1 unless said. In Spark, among how many
    tasks the customers are divided; as Spark is set unless said. No result depends on it."""

    @model_validator(mode="after")
    def _looks_up_texts(self) -> Self:
        for name, one in (self.lookups or {}).items():
            if name in self.columns:
                raise ValueError(f"{name} is a column of the events, and cannot be looked up as well")
            if self.columns.get(one.key) != "text":
                raise ValueError(f"what is looked up must be a text of the events: {one.key} in lookups.{name}.key")
        return self


class SourceSettings(BaseModel):
    """Where the customers are and which column holds what."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: str
    """File, folder or pattern, relative to the home; or the URL of a PostgreSQL database, or of Spark's socket."""
    format: Literal["csv", "parquet", "duckdb", "postgresql", "spark"]
    subject: str
    """Column with the customer's identifier; hashed with the unit's own key as it is read."""
    columns: dict[str, str] = {}
    """Column in the source by feature name, where they differ."""
    table: Annotated[str, Field(pattern=rf"^{_PART}\.{_PART}$")] | None = None
    """SCHEMA.TABLE, in a database."""
    token: str | None = None
    """The file with the token that Spark asks for, relative to the home."""
    view: ViewSettings | None = None
    """Where the source holds events, and not one row a customer."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.table is not None) != (self.format in DATABASES):
            raise ValueError("duckdb, postgresql and spark need a table, such as public.customers; files have none")
        if self.token is not None and self.format != "spark":
            raise ValueError("only spark is asked with a token")
        if self.format == "postgresql":
            socket_url(self.path)
        if self.format == "spark":
            socket_path(self.path)
        return self

    @property
    def lookups(self) -> dict[str, LookupSettings]:
        """What its view looks up in public tables."""
        return {} if self.view is None else self.view.lookups or {}

    @property
    def in_database(self) -> bool:
        """Whether the rows are some database's, which fedseg only reads."""
        return self.format in DATABASES

    def facts(self) -> dict[str, Any]:
        """What approvals are bound to: the settings, less what was not said."""
        return self.model_dump(exclude_none=True)
