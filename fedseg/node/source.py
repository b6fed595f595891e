"""A unit's customers as a `Table`, identifiers hashed as they are read, wherever they are.

Two ways to read, on purpose. `inspect_source` is strict and runs before a plan is approved, for the unit's own eyes.
`open_source` runs during rounds and never stops over a row: what cannot be read is missing, and only causes that
depend on no row (no file, no column, a column of a type that cannot serve) are errors.
"""

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from fedseg.clustering.features import Feature
from fedseg.columns import Column, ColumnType
from fedseg.errors import DataError, NotNumericError
from fedseg.node.home import NodeHome
from fedseg.node.sources.cells import (
    NAMING,
    SERVING,
    holds_no_truth,
    holds_text,
    identifiers_of,
    plain,
    require_column,
    require_type,
    table_batch,
)
from fedseg.node.sources.choice import customer_rows, stored_rows
from fedseg.node.sources.rows import Rows
from fedseg.table import SUBJECT, SUBJECT_TYPE, Table


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """What the unit should know about its own data before it approves a plan. LOCAL: exact counts never leave."""

    rows: int
    customers: int
    duplicates: int
    """Rows beyond each customer's first."""
    without_key: int
    """Rows that name no customer; of events, how many events."""
    missing: dict[str, int]
    """Missing values per feature."""
    outside: dict[str, int]
    """Values per feature that the plan does not foresee: beyond its bounds, or in no category."""
    left_out: int
    """Lines of CSV files that are no record by themselves: unbalanced quotes, line breaks in a field, other widths."""


def subject_key(identifier: bytes, secret: bytes) -> bytes:
    """The 16-byte pseudonym of a customer at this unit: HMAC-SHA-256 under the unit's own secret, truncated."""
    return hmac.digest(secret, identifier, "sha256")[:16]


def open_source(home: NodeHome, columns: Sequence[Column]) -> Table:
    """The unit's customers with these feature columns.

    Raises:
        MissingColumnError, DataError: If file or column is missing, or a column's type cannot serve: causes that depend
            on no row.
        SettingsError: If what the source needs is not installed, or its view cannot be used.
    """
    reader = _Reader(home, tuple(columns))
    reader.require_columns()
    return Table(reader.features, reader.batches)


def inspect_source(home: NodeHome, features: Sequence[Feature]) -> SourceCheck:
    """Read everything once, strictly, before approval.

    Raises:
        MissingColumnError: If a column is missing.
        NotNumericError: If a number's column holds other text; the text is not repeated.
        DataError: If a column of answers holds something else than yes and no, the file cannot be read, or a column's
            type cannot serve.
        SettingsError: As `open_source`.
    """
    reader = _Reader(home, tuple(feature.column for feature in features))
    reader.require_columns()
    reader.require_readable()
    rows = without_key = 0
    missing = {feature.name: 0 for feature in features}
    outside = dict(missing)
    seen: set[bytes] = set()
    for batch in reader.batches():
        rows += batch.num_rows
        subjects = batch.column(SUBJECT)
        without_key += subjects.null_count
        seen.update(subjects.drop_null().to_pylist())
        for feature in features:
            cells = batch.column(feature.name)
            missing[feature.name] += int(feature.is_missing(cells).sum())
            outside[feature.name] += int(feature.is_outside(cells).sum())
    duplicates = rows - without_key - len(seen)
    without_key += reader.rows.without_key
    return SourceCheck(rows, len(seen), duplicates, without_key, missing, outside, reader.rows.left_out)


def open_stored(home: NodeHome) -> Rows:
    """The unit's source as it is stored, of customers or of events, whatever its view says.

    Raises:
        MissingColumnError, DataError: If it cannot be read, or has no column that names customers.
    """
    settings = home.settings.source
    rows = stored_rows(home.path, settings)
    for schema in rows.schemas():
        require_column(schema, settings.subject, rows.place)
        require_type(schema, settings.subject, *NAMING)
    return rows


def rows_of(home: NodeHome, subject: bytes) -> list[dict[str, str | None]]:
    """LOCAL: all that the source says about one customer, every row and column, as text; for the customer alone.

    Raises:
        DataError: If the source cannot be read.
    """
    settings, secret, rows = home.settings.source, home.subject_secret, open_stored(home)
    found: list[dict[str, str | None]] = []
    for batch in rows.read():
        keys = [one and subject_key(one, secret) for one in identifiers_of(batch.column(settings.subject))]
        for place in (number for number, key in enumerate(keys) if key == subject):
            cells = zip(batch.schema.names, batch.columns, strict=True)
            found.append({name: _shown(column[place].as_py()) for name, column in cells})
    return found


def _shown(cell: object) -> str | None:
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else None if cell is None else str(cell)


class _Reader:
    """Streams a source as batches of the table's schema; what cannot be read becomes missing, cell by cell."""

    def __init__(self, home: NodeHome, features: tuple[Column, ...]) -> None:
        settings = home.settings.source
        self.columns = {one.name: settings.columns.get(one.name, one.name) for one in features}
        self.rows = customer_rows(home.path, settings)
        self.subject = settings.subject
        self.features = features
        self.secret = home.subject_secret

    def require_columns(self) -> None:
        """Each column is there once, and of a type of which every cell can be read; says so without reading a row."""
        for schema in self.rows.schemas():
            for wanted in (self.subject, *self.columns.values()):
                require_column(schema, wanted, self.rows.place)
            require_type(schema, self.subject, *NAMING)
            for feature in self.features:
                require_type(schema, self.columns[feature.name], *SERVING[feature.type])

    def require_readable(self) -> None:
        self.rows.require_readable()
        for raw in self._raw():
            for feature in self.features:
                column = self.columns[feature.name]
                cells = plain(raw.column(column))
                if feature.type is ColumnType.NUMBER and holds_text(cells):
                    raise NotNumericError(
                        f"column {column!r} holds text",
                        why=f"feature {feature.name!r} is a number, and some cells are not",
                        fix="export plain numbers (decimal point, no thousands separators), empty for missing",
                    )
                if feature.type is ColumnType.TRUTH and holds_no_truth(cells):
                    raise DataError(
                        f"column {column!r} holds something else than yes and no",
                        why=f"feature {feature.name!r} is an answer, and some cells are none",
                        fix="export yes and no, true and false, or 1 and 0, empty for missing",
                    )

    def batches(self) -> Iterator[pa.RecordBatch]:
        for raw in self._raw():
            identifiers = identifiers_of(raw.column(self.subject))
            keys = [None if one is None else subject_key(one, self.secret) for one in identifiers]
            yield table_batch(pa.array(keys, SUBJECT_TYPE), raw, self.columns, self.features)

    def _raw(self) -> Iterator[pa.RecordBatch]:
        return self.rows.read([self.subject, *dict.fromkeys(self.columns.values())])
