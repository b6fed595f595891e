"""A table in a DuckDB database file, opened read-only: without network, extensions or any other file."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from fedseg.errors import DataError
from fedseg.node.sources.engine import CONFINED
from fedseg.node.sources.rows import Rows

BATCH_ROWS = 65_536


class DuckDBTable(Rows):
    """Rows of a table."""

    def __init__(self, path: Path, table: str) -> None:
        self.path = path
        self.table = table
        self.name = ".".join(_quoted(part) for part in table.split("."))
        """As statements write it."""

    @property
    def place(self) -> str:
        """The name of the table."""
        return self.table

    def schemas(self) -> Iterator[pa.Schema]:
        """Of the table; no row is read."""
        with self._opened() as database:
            schema = database.sql(f"SELECT * FROM {self.name} LIMIT 0").to_arrow_table().schema  # noqa: S608 (quoted)
        yield schema

    def read(self, wanted: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """These columns of all rows."""
        columns = "*" if wanted is None else ", ".join(map(_quoted, wanted))
        with self._opened() as database:
            yield from database.sql(f"SELECT {columns} FROM {self.name}").to_arrow_reader(BATCH_ROWS)  # noqa: S608

    @contextmanager
    def _opened(self) -> Generator["duckdb.DuckDBPyConnection"]:
        try:
            with duckdb.connect(str(self.path), read_only=True, config={**CONFINED, "threads": "1"}) as database:
                self._require_table(database)
                yield database
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            # The engine's own text may repeat a row: its kind says enough.
            raise DataError(
                "the data source cannot be read",
                why=f"{self.path.name}: {type(error).__name__}",
                fix="see that the file is a DuckDB database that nobody writes, and check [source] in node.toml",
            ) from error

    def _require_table(self, database: "duckdb.DuckDBPyConnection") -> None:
        schema, table = self.table.split(".")
        found = database.execute(
            "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND NOT temporary"
            " AND schema_name = $1 AND table_name = $2",
            [schema, table],
        ).fetchall()
        if found != [(1,)]:
            raise DataError(
                f"the database has no table {self.table} that can serve",
                why="there is none of this name, or it is a view: there one customer's rows could depend on another's",
                fix="name the table itself under [source] in node.toml",
            )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
