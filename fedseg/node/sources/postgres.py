"""A table in a PostgreSQL database on this machine, read through ADBC as Arrow batches; never written.

The data process has no network, so the database is reached through a socket in the file system, and the operating
system says who asks: there is no password. The session is read-only, whatever the role may do.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import adbc_driver_manager as adbc
import adbc_driver_postgresql
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from fedseg.errors import DataError
from fedseg.node.sources.rows import Rows

BATCH_BYTES = 4 * 2**20
"""About how much the driver hands over at a time; no result depends on it."""

_READ_ONLY: Final = "-c default_transaction_read_only=on"
_NOT_ALLOWED: Final = "42501"
"""SQLSTATE insufficient_privilege."""
_STORED: Final = frozenset("rp")
"""Tables whose rows are stored: ordinary and partitioned ones. A view or foreign table may be any query."""


class PostgresTable(Rows):
    """Rows of a table."""

    def __init__(self, url: str, table: str) -> None:
        self.url = url
        self.table = table
        self.name = ".".join(_quoted(part) for part in table.split("."))
        """As statements write it."""

    @property
    def place(self) -> str:
        """The name of the table."""
        return self.table

    def schemas(self) -> Iterator[pa.Schema]:
        """Of the table; no row is read."""
        with self._cursor() as cursor:
            self._require_table(cursor)
            cursor.execute(f"SELECT * FROM {self.name} LIMIT 0")  # noqa: S608 (quoted)
            schema = cursor.fetch_record_batch().schema
        yield _plain_schema(schema)

    def read(self, wanted: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """These columns of all rows, as they stood when reading began."""
        columns = "*" if wanted is None else ", ".join(map(_quoted, wanted))
        with self._cursor() as cursor:
            self._require_table(cursor)
            cursor.adbc_statement.set_options(
                **{adbc_driver_postgresql.StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(BATCH_BYTES)}
            )
            cursor.execute(f"SELECT {columns} FROM {self.name}")  # noqa: S608 (quoted)
            for batch in cursor.fetch_record_batch():
                yield _plain_batch(batch)

    def require_unwritable(self) -> None:
        """Try to write, in ways that change no row even where they are allowed; each of them must be refused.

        Raises:
            DataError: If the role may write to the table, or the database cannot be asked.
        """
        attempts = (
            f"DELETE FROM {self.name} WHERE false",  # noqa: S608 (quoted)
            f"INSERT INTO {self.name} SELECT * FROM {self.name} WHERE false",  # noqa: S608 (quoted)
            f"LOCK TABLE {self.name} IN ROW EXCLUSIVE MODE NOWAIT",
        )
        with self._cursor() as cursor:
            self._require_table(cursor)
        for attempt in attempts:
            if self._may(attempt):
                raise DataError(
                    f"the unit's user may write to {self.table}",
                    why=f"{attempt.split()[0]} was tried, on no row, and not refused",
                    fix=f"let it read alone: REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {self.table} FROM its role",
                )

    def _may(self, attempt: str) -> bool:
        """Whether a statement is allowed to this role; it is rolled back."""
        try:
            # Without our own option, which would refuse it whatever the role may do.
            with dbapi.connect(self.url) as connection, connection.cursor() as cursor:
                cursor.execute(attempt)
                connection.rollback()
        except adbc.Error as error:
            if getattr(error, "sqlstate", None) == _NOT_ALLOWED:
                return False
            raise _unreadable(error) from error
        return True

    def _require_table(self, cursor: "dbapi.Cursor") -> None:
        cursor.execute("SELECT relkind::text FROM pg_catalog.pg_class WHERE oid = to_regclass($1)", (self.name,))
        found = cursor.fetchone()
        if found is None or found[0] not in _STORED:
            raise DataError(
                f"the database has no table {self.table} that can serve",
                why="there is none of this name"
                if found is None
                else "it is a view or a foreign table, in which one customer's rows could depend on another's",
                fix="name the table itself under [source] in node.toml, and let this unit's user SELECT from it",
            )

    @contextmanager
    def _cursor(self) -> Generator["dbapi.Cursor"]:
        try:
            with (
                dbapi.connect(_with_options(self.url), autocommit=True) as connection,
                connection.cursor() as cursor,
            ):
                yield cursor
        except (adbc.Error, pa.ArrowException, OSError) as error:
            raise _unreadable(error) from error


def _unreadable(error: Exception) -> DataError:
    # The server's own text may repeat a row: its code and kind say enough.
    return DataError(
        "the data source's database cannot be read",
        why=f"{type(error).__name__}, SQLSTATE {getattr(error, 'sqlstate', None) or 'none'}",
        fix="see that the database runs, lets this unit's user SELECT, and that node.toml names it rightly",
    )


def _with_options(url: str) -> str:
    return f"{url}&options={_READ_ONLY.replace(' ', '%20').replace('=', '%3D')}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _plain_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([(field.name, _plain_type(field.type)) for field in schema])


def _plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    arrays: list[Any] = [one.storage if isinstance(one.type, pa.BaseExtensionType) else one for one in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Numerics and other types of PostgreSQL come as text with a mark of what they were."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
