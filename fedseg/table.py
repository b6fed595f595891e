"""`Table`: a unit's customers as Arrow record batches with a pseudonymous subject key. Never leaves the unit.

A table is a recipe for a stream, not the rows: `batches()` starts the stream anew each time, so nothing un-noised
is kept between rounds and a table may be larger than memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from fedseg.columns import Column, names_of

SUBJECT = "subject"
"""Name of the key column of every table: `pa.binary(16)`, a keyed hash of the customer's identifier; null if absent."""

SUBJECT_TYPE = pa.binary(16)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one unit: the `SUBJECT` column and feature columns, in which null means missing.

    A customer may have several rows, a row may lack its key, and a value may be NaN, infinite, missing or nonsense:
    what happens to such rows is the encoder's business, and the same for each row whatever the others hold.
    """

    columns: tuple[Column, ...]
    """Feature columns, in the order of the batches after `SUBJECT`."""
    source: Callable[[], Iterator[pa.RecordBatch]]
    """Starts the stream; every batch has `schema()`."""

    def schema(self) -> pa.Schema:
        """The Arrow schema every batch must have."""
        return table_schema(self.columns)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Stream the rows from the beginning.

        Raises:
            TypeError: If the source yields a batch of another schema: a programmer's mistake in an adapter.
        """
        schema = self.schema()
        for batch in self.source():
            if not batch.schema.equals(schema):
                raise TypeError(f"a source of columns {names_of(self.columns)} yielded a batch of another schema")
            yield batch


def table_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """The schema of a table with these feature columns."""
    return pa.schema([(SUBJECT, SUBJECT_TYPE), *((column.name, column.type.arrow) for column in columns)])


def table_of(batches: list[pa.RecordBatch], columns: tuple[Column, ...]) -> Table:
    """A table over batches already in memory: tests, and small units."""
    return Table(columns, lambda: iter(batches))
