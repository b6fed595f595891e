"""Source adapters: a unit's CSV or Parquet file as a `Table`, identifiers hashed as they are read.

Two ways to read, on purpose. `inspect_source` is strict and runs before a plan is approved, for the unit's own eyes.
`open_source` runs during rounds and never stops over a row: what cannot be read is missing, and only causes that
depend on no row (no file, no column, a column of a type that cannot serve) are errors.
"""

import csv
import hmac
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from fedseg.clustering.features import Feature
from fedseg.columns import Column, ColumnType
from fedseg.errors import DataError, MissingColumnError, NotNumericError
from fedseg.node.home import NodeHome
from fedseg.table import SUBJECT, SUBJECT_TYPE, Table, table_schema

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$"
"""What counts as a number in a text column; NaN and infinity are spelled below."""

SPECIAL = {"": None, "nan": float("nan"), "inf": float("inf"), "+inf": float("inf"), "-inf": float("-inf")}
"""Other cells that are no mistake."""

TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
"""Words for yes and no in a text column, in any case; so are numbers that equal 1 and 0."""

RECORD = re.compile(rb'(?:"(?:[^"\r]|"")*"|[^",\r]*)(?:,(?:"(?:[^"\r]|"")*"|[^",\r]*))*')
"""One well-formed CSV record on one line. No carriage return, quoted or not: Arrow would cut the file there."""

QUOTED = re.compile(rb'"[^"]*"')
"""In a record, all that stands between quotes; an escaped quote ends one such part and starts the next."""

LINE_BYTES_MAX = 2**17
"""A longer line is left out."""

BLOCK_BYTES = 2**20
"""What Arrow parses at a time. Every line is shorter, so no record spans more than two blocks, which Arrow refuses."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

BATCH_ROWS = 65_536

LINES_AT_ONCE = 256
"""CSV lines handed to Arrow at a time; no result depends on it."""


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """What the unit should know about its own data before it approves a plan. LOCAL: exact counts never leave."""

    rows: int
    customers: int
    duplicates: int
    """Rows beyond each customer's first."""
    without_key: int
    missing: dict[str, int]
    """Missing values per feature."""
    outside: dict[str, int]
    """Values per feature that the plan does not foresee: beyond its bounds, or in no category."""
    left_out: int
    """Lines of a CSV file that are no record by themselves: unbalanced quotes, line breaks in a field, other widths."""


def subject_key(identifier: bytes, secret: bytes) -> bytes:
    """The 16-byte pseudonym of a customer at this unit: HMAC-SHA-256 under the unit's own secret, truncated."""
    return hmac.digest(secret, identifier, "sha256")[:16]


def open_source(home: NodeHome, columns: Sequence[Column]) -> Table:
    """The unit's customers with these feature columns.

    Raises:
        MissingColumnError, DataError: If file or column is missing, or a column's type cannot serve: causes that depend
            on no row.
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
    return SourceCheck(rows, len(seen), rows - without_key - len(seen), without_key, missing, outside, reader.left_out)


def identifiers_of(cells: pa.Array) -> list[bytes | None]:
    """The identifiers in a column of a source, as bytes; None where there is none."""
    return [one or None for one in _bytes_of(_plain(cells)).to_pylist()]


def rows_of(home: NodeHome, subject: bytes) -> list[dict[str, str | None]]:
    """LOCAL: all that the source says about one customer, every column, as text; for the customer alone.

    Raises:
        DataError: If the source cannot be read.
    """
    reader = _Reader(home, ())
    reader.require_columns()
    found: list[dict[str, str | None]] = []
    for batch in reader.whole():
        keys = [one and subject_key(one, reader.secret) for one in identifiers_of(batch.column(reader.subject))]
        for place in (number for number, key in enumerate(keys) if key == subject):
            cells = zip(batch.schema.names, batch.columns, strict=True)
            found.append({name: _shown(column[place].as_py()) for name, column in cells})
    return found


def _shown(cell: object) -> str | None:
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else None if cell is None else str(cell)


def read_cells(cells: pa.Array, kind: ColumnType) -> pa.Array:
    """A column of a source as a table has it: null where nothing can be read, each cell by itself."""
    return _READERS[kind](_plain(cells))


class _Reader:
    """Streams one file as batches of the table's schema; what cannot be read becomes missing, cell by cell."""

    def __init__(self, home: NodeHome, features: tuple[Column, ...]) -> None:
        settings = home.settings.source
        self.path = home.path / settings.path
        self.format = settings.format
        self.subject = settings.subject
        self.features = features
        self.columns = {one.name: settings.columns.get(one.name, one.name) for one in features}
        self.secret = home.subject_secret
        self.left_out = 0
        """Lines of a CSV file that are no record by themselves, once all were read."""

    def require_columns(self) -> None:
        """Each column is there once, and of a type of which every cell can be read; says so without reading a row."""
        schema = self._schema()
        for wanted in (self.subject, *self.columns.values()):
            found = schema.names.count(wanted)
            if not found:
                raise MissingColumnError(
                    f"the data source has no column {wanted!r}",
                    why="the plan's features and the subject column must all be there",
                    fix=f"add the column, or map it under [source.columns] in node.toml ({self.path.name})",
                )
            if found > 1:
                raise DataError(
                    f"the data source has {found} columns {wanted!r}",
                    why="nobody can say which of them is meant",
                    fix=f"give each column its own name ({self.path.name})",
                )
        _require_type(schema, self.subject, _has_one_spelling, "names no customers", "text, bytes or whole numbers")
        for feature in self.features:
            _require_type(schema, self.columns[feature.name], *_TYPES[feature.type])

    def require_readable(self) -> None:
        for raw in self._raw():
            for feature in self.features:
                column = self.columns[feature.name]
                cells = _plain(raw.column(column))
                if feature.type is ColumnType.NUMBER and _holds_text(cells):
                    raise NotNumericError(
                        f"column {column!r} holds text",
                        why=f"feature {feature.name!r} is a number, and some cells are not",
                        fix="export plain numbers (decimal point, no thousands separators), empty for missing",
                    )
                if feature.type is ColumnType.TRUTH and _holds_no_truth(cells):
                    raise DataError(
                        f"column {column!r} holds something else than yes and no",
                        why=f"feature {feature.name!r} is an answer, and some cells are none",
                        fix="export yes and no, true and false, or 1 and 0, empty for missing",
                    )

    def batches(self) -> Iterator[pa.RecordBatch]:
        schema = table_schema(self.features)
        for raw in self._raw():
            identifiers = identifiers_of(raw.column(self.subject))
            keys = [None if one is None else subject_key(one, self.secret) for one in identifiers]
            arrays = [
                pa.array(keys, SUBJECT_TYPE),
                *(read_cells(raw.column(self.columns[one.name]), one.type) for one in self.features),
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _schema(self) -> pa.Schema:
        """Names and types of the file's columns. Every column of a CSV file is bytes."""
        try:
            if self.format == "parquet":
                return pq.read_schema(self.path)
            with _WellFormedLines(self.path) as lines:
                names = next(csv.reader([lines.header.decode("utf-8")]), [])
            return pa.schema([(name, pa.binary()) for name in names])
        except (OSError, ValueError) as error:  # Arrow's own errors are ValueErrors
            raise self._unreadable(error) from error

    def whole(self) -> Iterator[pa.RecordBatch]:
        """Every column of the file."""
        return self._columns(self._schema().names)

    def _raw(self) -> Iterator[pa.RecordBatch]:
        return self._columns([self.subject, *dict.fromkeys(self.columns.values())])

    def _columns(self, wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        try:
            if self.format == "parquet":
                with pq.ParquetFile(self.path) as file:
                    yield from file.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False)
                return
            with (
                _WellFormedLines(self.path) as lines,
                pc_csv.open_csv(
                    lines,
                    read_options=pc_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                    convert_options=pc_csv.ConvertOptions(
                        column_types=dict.fromkeys(wanted, pa.binary()),
                        include_columns=wanted,
                        strings_can_be_null=False,
                    ),
                ) as file,
            ):
                yield from file
                self.left_out = lines.left_out
        except (OSError, ValueError) as error:  # Arrow's own errors are ValueErrors
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> DataError:
        cause = (
            error.strerror
            if isinstance(error, OSError) and error.strerror
            else f"it is not a readable {self.format} file"
        )
        return DataError(
            "the data source cannot be read", why=f"{self.path.name}: {cause}", fix="check [source] in node.toml"
        )


class _WellFormedLines(io.RawIOBase):
    """A CSV file's header and its lines, less those that are not one record of as many fields by themselves.

    Without this a stray quotation mark in one customer's row would swallow the rows behind it, and one customer would
    change what is counted of others. So a record is a line: one with an unbalanced quote, a carriage return inside, or
    too many or too few fields is left out, alone. So is one too long for Arrow to parse, which would otherwise stop
    the whole reply. Arrow is never shown a line it could refuse: the text of its refusals holds the row.

    Raises:
        ValueError: If the first line is not a record: a customer's row must never pass for the header.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("rb")
        if self._file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
            self._file.seek(0)
        self.header = self._file.readline(LINE_BYTES_MAX)
        fields = fields_in(self.header)
        if fields is None:
            self._file.close()
            raise ValueError("the first line is not a record")
        self.left_out = 0
        """Lines so far that are no record by themselves."""
        self._records = self._kept(fields)
        # Arrow refuses a header without a line end, which only a unit without customers can have.
        self._pending = self.header.rstrip(b"\r\n") + b"\n"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # the signature of the standard library is untyped here
        view = memoryview(buffer)
        if not self._pending:
            self._pending = b"".join(itertools.islice(self._records, LINES_AT_ONCE))
        size = min(len(view), len(self._pending))
        view[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()

    def _kept(self, fields: int) -> Iterator[bytes]:
        """The lines that are one record of `fields` fields; of a line too long, only a piece is ever in memory."""
        starts_line = True
        while piece := self._file.readline(LINE_BYTES_MAX):
            if starts_line and fields_in(piece) == fields:
                yield piece
            elif starts_line and piece.strip():
                self.left_out += 1
            starts_line = piece.endswith(b"\n")


def fields_in(line: bytes) -> int | None:
    """How many fields the record on this line has; None if the line is not one record, or only a piece of a line."""
    is_whole = line.endswith(b"\n") or len(line) < LINE_BYTES_MAX
    if not (is_whole and RECORD.fullmatch(line.rstrip(b"\r\n"))):
        return None
    return 1 + (QUOTED.sub(b"", line) if b'"' in line else line).count(b",")


def _require_type(
    schema: pa.Schema, column: str, fits: Callable[[pa.DataType], bool], problem: str, wanted: str
) -> None:
    kind = schema.field(column).type
    if not fits(kind.value_type if pa.types.is_dictionary(kind) else kind):
        raise DataError(
            f"column {column!r} is of a type that {problem}",
            why=f"its type is {kind}",
            fix=f"export it as {wanted}, then see: fedseg approve PLAN.toml --node HOME --dry-run",
        )


def _has_one_spelling(kind: pa.DataType) -> bool:
    """Types whose every value has one spelling. A float has several, and is rounded besides."""
    return _is_text(kind) or bool(pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _holds_numbers(kind: pa.DataType) -> bool:
    return _is_text(kind) or _is_number_type(kind)


def _holds_truths(kind: pa.DataType) -> bool:
    return _holds_numbers(kind) or bool(pa.types.is_boolean(kind))


_TYPES: dict[ColumnType, tuple[Callable[[pa.DataType], bool], str, str]] = {
    ColumnType.NUMBER: (_holds_numbers, "holds no numbers", "numbers"),
    ColumnType.TRUTH: (_holds_truths, "holds no yes and no", "yes and no, true and false, or 1 and 0"),
    ColumnType.TEXT: (_has_one_spelling, "names no categories", "text, bytes or whole numbers"),
}
"""Which types can serve for a column, and what is said of others."""


def _is_text(kind: pa.DataType) -> bool:
    """Text or bytes of any layout: both are read as bytes."""
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    plain = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(is_kind(kind) for is_kind in (*text, *plain))


def _is_number_type(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _plain(values: pa.Array) -> pa.Array:
    """The column without a dictionary, and text as the bytes it is.

    Text need not be UTF-8, whatever a file says: asked for text, Arrow would check some layouts and stop over one
    customer's bytes. And offsets of 64 bits: no cell is too long for the others.
    """
    decoded = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    return decoded.cast(pa.large_binary()) if _is_text(decoded.type) else decoded


def _bytes_of(values: pa.Array) -> pa.Array:
    """Identifiers and categories as bytes: text as it stands, numbers in decimal."""
    return values.cast(pa.string()).cast(pa.binary()) if _is_number_type(values.type) else values


def _cells(values: pa.Array) -> pa.Array:
    """Text cells trimmed, in lower case; a cell with anything but printable ASCII becomes "?", which is no number."""
    plain = pc.match_substring_regex(values, r"^[ -~\t]*$")
    text = pc.if_else(pc.fill_null(plain, fill_value=True), values, pa.scalar(b"?", values.type))
    return pc.utf8_lower(pc.utf8_trim_whitespace(text.cast(pa.large_string())))


def _holds_text(values: pa.Array) -> bool:
    if _is_number_type(values.type):
        return False
    cells = _cells(values)
    special = pa.array(list(SPECIAL), cells.type)
    known = pc.or_(pc.match_substring_regex(cells, NUMBER), pc.is_in(cells, value_set=special))
    return bool(pc.any(pc.invert(pc.fill_null(known, fill_value=True))).as_py())


def _holds_no_truth(values: pa.Array) -> bool:
    """Whether a cell that is not missing is neither yes nor no."""
    unread = _truths(values).is_null()
    if _is_text(values.type):
        missing = pc.is_in(_cells(values), value_set=pa.array(["", "nan", None], pa.large_string()))
    else:
        missing = pc.is_null(values, nan_is_null=True)
    return bool(pc.any(pc.and_not(unread, missing)).as_py())


def _numbers(values: pa.Array) -> pa.Array:
    """float64, null where there is no number; each cell by itself."""
    if _is_number_type(values.type):
        return values.cast(pa.float64(), safe=False)
    cells = _cells(values)
    nothing = pa.scalar(None, cells.type)
    numbers = pc.if_else(pc.match_substring_regex(cells, NUMBER), cells, nothing).cast(pa.float64())
    for word, meaning in SPECIAL.items():
        if meaning is not None:
            numbers = pc.if_else(pc.fill_null(pc.equal(cells, word), fill_value=False), pa.scalar(meaning), numbers)
    return numbers


def _truths(values: pa.Array) -> pa.Array:
    """Truth values, null where a cell is neither yes nor no; each cell by itself."""
    if pa.types.is_boolean(values.type):
        return values
    numbers = _numbers(values)
    yes, no = pc.equal(numbers, 1.0), pc.equal(numbers, 0.0)
    truths = pc.if_else(pc.or_(yes, no), yes, pa.scalar(None, pa.bool_()))
    if _is_number_type(values.type):
        return truths
    cells = _cells(values)
    for word, meaning in TRUTHS.items():
        truths = pc.if_else(pc.fill_null(pc.equal(cells, word), fill_value=False), pa.scalar(meaning), truths)
    return truths


def _texts(values: pa.Array) -> pa.Array:
    """The bytes of each cell."""
    return _bytes_of(values).cast(pa.large_binary())


_READERS: dict[ColumnType, Callable[[pa.Array], pa.Array]] = {
    ColumnType.NUMBER: _numbers,
    ColumnType.TRUTH: _truths,
    ColumnType.TEXT: _texts,
}
