"""Cells of a source's columns: which types can serve, and what a cell says, each by itself. Arrow in, Arrow out."""

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from fedseg.columns import Column, ColumnType
from fedseg.errors import DataError, MissingColumnError
from fedseg.table import table_schema

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$"
"""What counts as a number in a text column; NaN and infinity are spelled below."""

SPECIAL = {"": None, "nan": float("nan"), "inf": float("inf"), "+inf": float("inf"), "-inf": float("-inf")}
"""Other cells that are no mistake."""

TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
"""Words for yes and no in a text column, in any case; so are numbers that equal 1 and 0."""


def identifiers_of(cells: pa.Array) -> list[bytes | None]:
    """The identifiers in a column of a source, as bytes; None where there is none."""
    return [one or None for one in bytes_of(plain(cells)).to_pylist()]


def read_cells(cells: pa.Array, kind: ColumnType) -> pa.Array:
    """A column of a source as a table has it: null where nothing can be read, each cell by itself."""
    return _READERS[kind](plain(cells))


def table_batch(
    keys: pa.Array, raw: pa.RecordBatch, names: Mapping[str, str], columns: tuple[Column, ...]
) -> pa.RecordBatch:
    """A batch of a table: the customers' pseudonyms, and the cells as `read_cells` reads them.

    Args:
        keys: Of `SUBJECT_TYPE`, null where a row names nobody.
        raw: The source's own columns.
        names: What the source calls a column of the table.
        columns: Those of the table.
    """
    cells = (read_cells(raw.column(names[one.name]), one.type) for one in columns)
    return pa.RecordBatch.from_arrays([keys, *cells], schema=table_schema(columns))


def require_column(schema: pa.Schema, column: str, place: str) -> None:
    """The column is there, once.

    Raises:
        MissingColumnError, DataError: If not.
    """
    found = schema.names.count(column)
    if not found:
        raise MissingColumnError(
            f"the data source has no column {column!r}",
            why="the plan's features and the subject column must all be there",
            fix=f"add the column, or map it under [source.columns] in node.toml ({place})",
        )
    if found > 1:
        raise DataError(
            f"the data source has {found} columns {column!r}",
            why="nobody can say which of them is meant",
            fix=f"give each column its own name ({place})",
        )


def require_type(
    schema: pa.Schema, column: str, fits: Callable[[pa.DataType], bool], problem: str, wanted: str
) -> None:
    """The column's type fits, whatever is in it.

    Raises:
        DataError: If not.
    """
    kind = schema.field(column).type
    if not fits(kind.value_type if pa.types.is_dictionary(kind) else kind):
        raise DataError(
            f"column {column!r} is of a type that {problem}",
            why=f"its type is {kind}",
            fix=f"export it as {wanted}, then see: fedseg approve PLAN.toml --node HOME --dry-run",
        )


def has_one_spelling(kind: pa.DataType) -> bool:
    """Types whose every value has one spelling. A float has several, and is rounded besides."""
    return is_text(kind) or bool(pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _holds_numbers(kind: pa.DataType) -> bool:
    return is_text(kind) or is_number_type(kind)


def _holds_truths(kind: pa.DataType) -> bool:
    return _holds_numbers(kind) or bool(pa.types.is_boolean(kind))


NAMING = has_one_spelling, "names no customers", "text, bytes or whole numbers"
"""Which types can serve for the column that names customers, and what is said of others."""

SERVING: dict[ColumnType, tuple[Callable[[pa.DataType], bool], str, str]] = {
    ColumnType.NUMBER: (_holds_numbers, "holds no numbers", "numbers"),
    ColumnType.TRUTH: (_holds_truths, "holds no yes and no", "yes and no, true and false, or 1 and 0"),
    ColumnType.TEXT: (has_one_spelling, "names no categories", "text, bytes or whole numbers"),
}
"""Which types can serve for a column, and what is said of others."""


def is_text(kind: pa.DataType) -> bool:
    """Text or bytes of any layout: both are read as bytes."""
    text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    plain = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(is_kind(kind) for is_kind in (*text, *plain))


def is_number_type(kind: pa.DataType) -> bool:
    """Numbers of any width."""
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def plain(values: pa.Array) -> pa.Array:
    """The column without a dictionary, and text as the bytes it is.

    Text need not be UTF-8, whatever a file says: asked for text, Arrow would check some layouts and stop over one
    customer's bytes. And offsets of 64 bits: no cell is too long for the others.
    """
    decoded = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    return decoded.cast(pa.large_binary()) if is_text(decoded.type) else decoded


def bytes_of(values: pa.Array) -> pa.Array:
    """Identifiers and categories as bytes: text as it stands, numbers in decimal."""
    return values.cast(pa.string()).cast(pa.binary()) if is_number_type(values.type) else values


def text_cells(values: pa.Array) -> pa.Array:
    """Text cells trimmed, in lower case; a cell with anything but printable ASCII becomes "?", which is no number."""
    plain = pc.match_substring_regex(values, r"^[ -~\t]*$")
    text = pc.if_else(pc.fill_null(plain, fill_value=True), values, pa.scalar(b"?", values.type))
    return pc.utf8_lower(pc.utf8_trim_whitespace(text.cast(pa.large_string())))


def holds_text(values: pa.Array) -> bool:
    """Whether a cell that is not missing is no number."""
    if is_number_type(values.type):
        return False
    cells = text_cells(values)
    special = pa.array(list(SPECIAL), cells.type)
    known = pc.or_(pc.match_substring_regex(cells, NUMBER), pc.is_in(cells, value_set=special))
    return bool(pc.any(pc.invert(pc.fill_null(known, fill_value=True))).as_py())


def holds_no_truth(values: pa.Array) -> bool:
    """Whether a cell that is not missing is neither yes nor no."""
    unread = truths(values).is_null()
    if is_text(values.type):
        missing = pc.is_in(text_cells(values), value_set=pa.array(["", "nan", None], pa.large_string()))
    else:
        missing = pc.is_null(values, nan_is_null=True)
    return bool(pc.any(pc.and_not(unread, missing)).as_py())


def _numbers(values: pa.Array) -> pa.Array:
    """float64, null where there is no number; each cell by itself."""
    if pa.types.is_decimal(values.type):
        # Arrow's own cast misses the nearest number: 0.70 becomes 0.7000000000000001, and a CSV file says 0.7.
        values = values.cast(pa.string()).cast(pa.large_binary())
    if is_number_type(values.type):
        return values.cast(pa.float64(), safe=False)
    cells = text_cells(values)
    nothing = pa.scalar(None, cells.type)
    numbers = pc.if_else(pc.match_substring_regex(cells, NUMBER), cells, nothing).cast(pa.float64())
    for word, meaning in SPECIAL.items():
        if meaning is not None:
            numbers = pc.if_else(pc.fill_null(pc.equal(cells, word), fill_value=False), pa.scalar(meaning), numbers)
    return numbers


def truths(values: pa.Array) -> pa.Array:
    """Truth values, null where a cell is neither yes nor no; each cell by itself."""
    if pa.types.is_boolean(values.type):
        return values
    numbers = _numbers(values)
    yes, no = pc.equal(numbers, 1.0), pc.equal(numbers, 0.0)
    truths = pc.if_else(pc.or_(yes, no), yes, pa.scalar(None, pa.bool_()))
    if is_number_type(values.type):
        return truths
    cells = text_cells(values)
    for word, meaning in TRUTHS.items():
        truths = pc.if_else(pc.fill_null(pc.equal(cells, word), fill_value=False), pa.scalar(meaning), truths)
    return truths


def _texts(values: pa.Array) -> pa.Array:
    """The bytes of each cell."""
    return bytes_of(values).cast(pa.large_binary())


_READERS: dict[ColumnType, Callable[[pa.Array], pa.Array]] = {
    ColumnType.NUMBER: _numbers,
    ColumnType.TRUTH: truths,
    ColumnType.TEXT: _texts,
}
