"""A feature view: one row a customer out of many events, computed by DuckDB inside this process.

The engine is handed Arrow batches and a query that fedseg wrote. It has no files, no network, no extensions and no
disk: whose memory does not suffice reads the events in several passes, each for a part of the customers.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from fedseg.errors import DataError, FedsegError, ViewError
from fedseg.node.sources.cell_types import CellType, parse_cell_type
from fedseg.node.sources.cells import NAMING, require_column, require_type
from fedseg.node.sources.engine import CONFINED
from fedseg.node.sources.event_cells import CELLS, SERVING_EVENTS, event_cells, identifier_cells
from fedseg.node.sources.expressions import compile_condition, compile_feature
from fedseg.node.sources.public_tables import PublicTable, read_public_table
from fedseg.node.sources.rows import Rows
from fedseg.node.sources.settings import ViewSettings

BATCH_ROWS = 65_536
MEMORY_MB: Final = 1024
THREADS = 1
"""No result depends on it; one uses the least memory."""

_EVENTS: Final = "events"
_SUBJECT: Final = "subject"


class FeatureView(Rows):
    """One row a customer. A customer without an event that counts has none."""

    def __init__(
        self, events: Rows, subject: str, view: ViewSettings, tables: Mapping[str, PublicTable] | None = None
    ) -> None:
        self.events = events
        self.subject = subject
        self.view = view
        self.columns = {name: cell_type(name, text) for name, text in view.columns.items()}
        self.lookups = view.lookups or {}
        self.tables = dict(tables or {})
        if self.tables.keys() != self.lookups.keys():
            raise ViewError(
                "the look-ups of the source's view cannot be used",
                why="they are made of events in files, DuckDB and PostgreSQL only",
                fix="join the public tables to the events where these are, and take out [source.view.lookups]",
            )
        answers = {name: cell_type(name, one.holds) for name, one in self.lookups.items()}
        self.cells = {**self.columns, **answers}
        """What expressions speak of: the events' own columns, and then what is looked up of them."""
        compiled = {name: compile_feature(name, text, self.cells) for name, text in view.features.items()}
        self.features = compiled
        self.condition = "TRUE" if view.where is None else compile_condition(view.where, self.cells).sql

    @property
    def place(self) -> str:
        """What the source of the events is called."""
        return self.events.place

    def schemas(self) -> Iterator[pa.Schema]:
        """Of the features; after the events turned out to have the columns they are made of."""
        for schema in self.events.schemas():
            for wanted in (self.subject, *self.columns):
                require_column(schema, wanted, self.place)
            require_type(schema, self.subject, *NAMING)
            for name, kind in self.columns.items():
                require_type(schema, name, *SERVING_EVENTS[kind.kind])
        types = {name: one.type.arrow for name, one in self.features.items()}
        yield pa.schema([(self.subject, pa.large_binary()), *types.items()])

    def read(self, wanted: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """One row a customer, with these features."""
        names = [one for one in (self.features if wanted is None else wanted) if one != self.subject]
        chosen = [self.features[name] for name in names]
        schema = pa.schema(
            [(self.subject, pa.large_binary()), *((name, self.features[name].type.arrow) for name in names)]
        )
        passes = self.view.passes or 1
        for number in range(passes):
            query = (  # all of it is this package's own text: names are c0, c1, ..., literals are written anew
                f"SELECT {', '.join([_SUBJECT, *(one.sql for one in chosen)])} FROM ({self._typed()})"  # noqa: S608
                f" WHERE {self.condition} AND hash({_SUBJECT}) % {passes} = {number} GROUP BY {_SUBJECT}"
            )
            for batch in self._answers(query):
                yield pa.RecordBatch.from_arrays(
                    [one.cast(field.type) for one, field in zip(batch.columns, schema, strict=True)], schema=schema
                )

    def require_readable(self) -> None:
        """No cell of an event is missing only because it cannot be read."""
        for name in self.unreadable():
            raise DataError(
                f"column {name!r} holds something else than {self.view.columns[name]}",
                why="some events have a cell there that cannot be read so, or has too many digits",
                fix="correct the events, or say in [source.view.columns] what the column holds; empty for missing",
            )

    def unreadable(self) -> list[str]:
        """The columns with such a cell."""
        kinds = list(self.columns.values())
        unread = ", ".join(
            f"count(*) FILTER (WHERE c{number} IS NOT NULL AND TRY_CAST(c{number} AS {kind.sql}) IS NULL) > 0"
            for number, kind in enumerate(kinds)
        )
        (batch,) = self._answers(f"SELECT {unread} FROM {_EVENTS}")  # noqa: S608 (our own text)
        return [name for name, cells in zip(self.columns, batch.columns, strict=True) if cells[0].as_py()]

    def _typed(self) -> str:
        """The events with cells as the settings say, missing where that cannot be."""
        cells = (f"TRY_CAST(c{number} AS {kind.sql}) AS c{number}" for number, kind in enumerate(self.cells.values()))
        each = "DISTINCT" if self.view.distinct else "ALL"
        return f"SELECT {each} {', '.join([_SUBJECT, *cells])} FROM {_EVENTS} WHERE {_SUBJECT} IS NOT NULL"  # noqa: S608 (our own text)

    def _answers(self, query: str) -> Iterator[pa.RecordBatch]:
        """What the engine answers to a query over the events; a failure to read them is raised as it was."""
        failed: list[FedsegError] = []
        with _engine_errors(self.place, failed), self._engine() as engine:
            schema = pa.schema([(_SUBJECT, pa.large_binary()), *((f"c{n}", CELLS) for n in range(len(self.cells)))])
            engine.register(_EVENTS, pa.RecordBatchReader.from_batches(schema, self._batches(schema, failed)))
            yield from engine.sql(query).to_arrow_reader(BATCH_ROWS)

    def _batches(self, schema: pa.Schema, failed: list[FedsegError]) -> Iterator[pa.RecordBatch]:
        self.without_key = 0
        try:
            for batch in self.events.read([self.subject, *(one for one in self.columns if one != self.subject)]):
                subjects = identifier_cells(batch.column(self.subject))
                self.without_key += subjects.null_count
                cells = {name: event_cells(batch.column(name), kind.kind) for name, kind in self.columns.items()}
                answers = (self.tables[name].look_up(cells[one.key]) for name, one in self.lookups.items())
                yield pa.RecordBatch.from_arrays([subjects, *cells.values(), *answers], schema=schema)
        except FedsegError as error:  # the engine would make its own error of it
            failed.append(error)
            raise
        self.left_out = self.events.left_out

    @contextmanager
    def _engine(self) -> Generator["duckdb.DuckDBPyConnection"]:
        limits = {"memory_limit": f"{self.view.memory_mb or MEMORY_MB}MB", "threads": str(THREADS)}
        engine = duckdb.connect(":memory:", config={**limits, **CONFINED})
        try:
            yield engine
        finally:
            engine.close()


@contextmanager
def _engine_errors(place: str, failed: Sequence[FedsegError]) -> Generator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise _too_large(place) from error
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if failed:
            raise failed[0] from error
        if "out of memory" in str(error).lower():
            raise _too_large(place) from error
        # The engine's own text may repeat a row: its kind says enough.
        raise DataError(
            "the features cannot be computed",
            why=f"{place}: the database engine refused with {type(error).__name__}",
            fix="fedseg approve PLAN.toml --node HOME --dry-run, and report it: no row should be able to cause this",
        ) from error


def _too_large(place: str) -> DataError:
    return DataError(
        "the customers of one pass do not fit into the memory that the view may use",
        why=f"{place}: too many customers, or too many different values that are counted",
        fix="set a larger passes, such as passes = 8, or memory_mb under [source.view] in node.toml",
    )


def public_tables(home: Path, view: ViewSettings) -> dict[str, PublicTable]:
    """The tables in which a view looks up, read from the unit's home.

    Raises:
        ViewError: If a look-up holds something of no known type.
        DataError: If a file is not the one that was agreed, or no such table.
    """
    lookups = (view.lookups or {}).items()
    return {name: read_public_table(home / one.path, one, cell_type(name, one.holds)) for name, one in lookups}


def cell_type(name: str, text: str) -> CellType:
    """What a column of events, or a look-up, holds.

    Raises:
        ViewError: If there is no such type.
    """
    try:
        return parse_cell_type(text)
    except ValueError as error:
        raise ViewError(
            f"column {name} of the source's view cannot be used",
            why=str(error),
            fix="correct [source.view.columns] in node.toml",
        ) from error
