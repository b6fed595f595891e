"""Source adapters: a unit's CSV or Parquet file as a `Table`, identifiers hashed as they are read.

Two ways to read, on purpose. `inspect_source` is strict and runs before a plan is approved, for the unit's own eyes.
`open_source` runs during rounds and never stops over a row: what is not a number is missing, and only causes that
depend on no row (no file, no column) are errors.
"""

import csv
import hashlib
import hmac
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from fedseg.errors import DataError, MissingColumnError, NotNumericError
from fedseg.node.home import NodeHome
from fedseg.table import SUBJECT, SUBJECT_TYPE, Table, table_schema

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$"
"""What counts as a number in a text column; NaN and infinity are spelled below."""

SPECIAL = {"": None, "nan": float("nan"), "inf": float("inf"), "+inf": float("inf"), "-inf": float("-inf")}
"""Other cells that are no mistake."""

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


def subject_key(identifier: bytes, secret: bytes) -> bytes:
    """The 16-byte pseudonym of a customer at this unit: HMAC-SHA-256 under the unit's own secret, truncated."""
    return hmac.new(secret, identifier, hashlib.sha256).digest()[:16]


def open_source(home: NodeHome, features: Sequence[str]) -> Table:
    """The unit's customers with these feature columns.

    Raises:
        MissingColumnError, DataError: If file or column is missing: causes that depend on no row.
    """
    columns = tuple(features)
    reader = _Reader(home, columns)
    reader.require_columns()
    return Table(columns, reader.batches)


def inspect_source(home: NodeHome, features: Sequence[str]) -> SourceCheck:
    """Read everything once, strictly, before approval.

    Raises:
        MissingColumnError: If a column is missing.
        NotNumericError: If a feature's column holds text; the text is not repeated.
        DataError: If the file cannot be read.
    """
    reader = _Reader(home, tuple(features))
    reader.require_columns()
    reader.require_numbers()
    rows = without_key = 0
    missing = dict.fromkeys(features, 0)
    seen: set[bytes] = set()
    for batch in reader.batches():
        rows += batch.num_rows
        subjects = batch.column(SUBJECT)
        without_key += subjects.null_count
        seen.update(subjects.drop_null().to_pylist())
        for name in features:
            missing[name] += int(np.isnan(batch.column(name).to_numpy(zero_copy_only=False)).sum())
    return SourceCheck(rows, len(seen), rows - without_key - len(seen), without_key, missing)


class _Reader:
    """Streams one file as batches of the table's schema; what is not a number becomes missing, cell by cell."""

    def __init__(self, home: NodeHome, features: tuple[str, ...]) -> None:
        settings = home.settings.source
        self.path = home.path / settings.path
        self.format = settings.format
        self.subject = settings.subject
        self.features = features
        self.columns = {name: settings.columns.get(name, name) for name in features}
        self.secret = home.subject_secret

    def require_columns(self) -> None:
        present = set(self._column_names())
        for wanted in (self.subject, *self.columns.values()):
            if wanted not in present:
                raise MissingColumnError(
                    f"the data source has no column {wanted!r}",
                    why="the plan's features and the subject column must all be there",
                    fix=f"add the column, or map it under [source.columns] in node.toml ({self.path.name})",
                )

    def require_numbers(self) -> None:
        for raw in self._raw():
            for feature, column in self.columns.items():
                if _holds_text(raw.column(column)):
                    raise NotNumericError(
                        f"column {column!r} holds text",
                        why=f"feature {feature!r} is a number, and some cells are not",
                        fix="export plain numbers (decimal point, no thousands separators), empty for missing",
                    )

    def batches(self) -> Iterator[pa.RecordBatch]:
        schema = table_schema(self.features)
        for raw in self._raw():
            identifiers = _identifier_bytes(raw.column(self.subject)).to_pylist()
            keys = [subject_key(one, self.secret) if one else None for one in identifiers]
            arrays = [
                pa.array(keys, SUBJECT_TYPE),
                *(_numbers(raw.column(self.columns[name])) for name in self.features),
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _column_names(self) -> list[str]:
        try:
            if self.format == "parquet":
                return list(pq.read_schema(self.path).names)
            with _WellFormedLines(self.path) as lines:
                return next(csv.reader([lines.header.decode("utf-8")]), [])
        except (OSError, ValueError) as error:  # Arrow's own errors are ValueErrors
            raise self._unreadable(error) from error

    def _raw(self) -> Iterator[pa.RecordBatch]:
        wanted = [self.subject, *dict.fromkeys(self.columns.values())]
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
        fields = _fields(self.header)
        if fields is None:
            self._file.close()
            raise ValueError("the first line is not a record")
        self._records = _records(self._file, fields)
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


def _records(file: BinaryIO, fields: int) -> Iterator[bytes]:
    """The lines that are one record of `fields` fields; of a line too long, only a piece is ever in memory."""
    starts_line = True
    while piece := file.readline(LINE_BYTES_MAX):
        if starts_line and _fields(piece) == fields:
            yield piece
        starts_line = piece.endswith(b"\n")


def _fields(line: bytes) -> int | None:
    """How many fields the record on this line has; None if the line is not one record, or only a piece of a line."""
    is_whole = line.endswith(b"\n") or len(line) < LINE_BYTES_MAX
    if not (is_whole and RECORD.fullmatch(line.rstrip(b"\r\n"))):
        return None
    return 1 + (QUOTED.sub(b"", line) if b'"' in line else line).count(b",")


def _identifier_bytes(values: pa.Array) -> pa.Array:
    """Identifiers as bytes: text as it stands, numbers in decimal."""
    # Bytes of any width stay bytes: as text all must be UTF-8, and one that is not would stop the whole reply.
    is_bytes = pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)
    if is_bytes or pa.types.is_fixed_size_binary(values.type):
        return values.cast(pa.binary())
    return values.cast(pa.string()).cast(pa.binary())


def _is_number_type(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _cells(values: pa.Array) -> pa.Array:
    """Text cells trimmed, in lower case; a cell with anything but printable ASCII becomes "?", which is no number."""
    plain = pc.match_substring_regex(values.cast(pa.binary()), r"^[ -~\t]*$")
    text = pc.if_else(pc.fill_null(plain, fill_value=True), values.cast(pa.binary()), pa.scalar(b"?")).cast(pa.string())
    return pc.utf8_lower(pc.utf8_trim_whitespace(text))


def _holds_text(values: pa.Array) -> bool:
    if _is_number_type(values.type):
        return False
    if not (pa.types.is_string(values.type) or pa.types.is_binary(values.type)):
        return True
    cells = _cells(values)
    known = pc.or_(pc.match_substring_regex(cells, NUMBER), pc.is_in(cells, value_set=pa.array(list(SPECIAL))))
    return bool(pc.any(pc.invert(pc.fill_null(known, fill_value=True))).as_py())


def _numbers(values: pa.Array) -> pa.Array:
    """float64, null where there is no number; each cell by itself."""
    if _is_number_type(values.type):
        return values.cast(pa.float64(), safe=False)
    if not (pa.types.is_string(values.type) or pa.types.is_binary(values.type)):
        return pa.nulls(len(values), pa.float64())
    cells = _cells(values)
    numbers = pc.if_else(pc.match_substring_regex(cells, NUMBER), cells, pa.scalar(None, pa.string())).cast(
        pa.float64()
    )
    for word, meaning in SPECIAL.items():
        if meaning is not None:
            numbers = pc.if_else(pc.fill_null(pc.equal(cells, word), fill_value=False), pa.scalar(meaning), numbers)
    return numbers
