"""Cells of events as the database engine gets them: nothing in them can stop it, whatever a customer's row holds.

Each cell by itself becomes a value that the engine reads or takes for missing. A floating-point number stands for its
shortest decimal spelling, so the same amount is the same number in a CSV file, in Parquet and in a database.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from fedseg.node.sources.cell_types import Kind
from fedseg.node.sources.cells import (
    NUMBER,
    bytes_of,
    has_one_spelling,
    is_number_type,
    is_text,
    plain,
    text_cells,
    truths,
)

CELLS: Final = pa.large_string()
"""How the engine gets every cell; it reads them again, each by itself."""

UNREAD: Final = "?"
"""What stands for a cell that is neither empty nor readable: it becomes missing, and is counted beforehand."""

_FAR: Final = 60
"""Powers of ten beyond which a number is 0, or has more digits than any column."""
_DAY: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([ t][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?z?)?$"
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
"""The years 1 to 9999, in days since 1970."""


def event_cells(cells: pa.Array, kind: Kind) -> pa.Array:
    """A column of a source for the engine, where `SERVING_EVENTS` says that its type can serve."""
    return _READERS[kind](plain(cells))


def identifier_cells(cells: pa.Array) -> pa.Array:
    """The identifiers as bytes; null where there is none."""
    names = bytes_of(plain(cells)).cast(pa.large_binary())
    return pc.if_else(pc.equal(pc.binary_length(names), 0), pa.scalar(None, names.type), names)


def _numbers(values: pa.Array) -> pa.Array:
    if is_number_type(values.type):
        wide = values.cast(pa.float32()) if pa.types.is_float16(values.type) else values
        values = wide.cast(pa.string()).cast(pa.large_binary())
    cells = text_cells(values)
    is_read = pc.match_substring_regex(cells, NUMBER)
    is_empty = pc.is_in(cells, value_set=_texts_of("", "nan"))
    return _marked(values, _without_exponents(cells, is_read), is_read, is_empty)


def _without_exponents(cells: pa.Array, is_read: pa.Array) -> pa.Array:
    """Numbers written out: the engine loses digits of some that have an exponent."""
    has_exponent = pc.fill_null(pc.and_(is_read, pc.match_substring(cells, "e")), fill_value=False)
    if not pc.any(has_exponent).as_py():
        return cells
    plain_ones = [_written_out(one) for one in cells.filter(has_exponent).to_pylist()]
    return pc.replace_with_mask(cells, has_exponent, pa.array(plain_ones, CELLS))


def _written_out(number: str) -> str:
    exact = Decimal(number)
    if exact and not -_FAR < exact.adjusted() < _FAR:
        return UNREAD if exact.adjusted() > 0 else "0"
    return f"{exact:f}"


def _texts_of(*texts: str) -> pa.Array:
    return pa.array(texts, CELLS)


def _days(values: pa.Array) -> pa.Array:
    """Dates, or texts that begin with one. A moment has the date that it has in UTC."""
    if is_text(values.type):
        cells = text_cells(values)
        days = pc.utf8_slice_codeunits(cells, 0, 10)
        return _marked(values, days, pc.match_substring_regex(cells, _DAY), pc.equal(cells, ""))
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.timestamp(values.type.unit))
    days = values.cast(pa.date32(), safe=False)
    number = days.cast(pa.int32())
    is_known = pc.and_(pc.greater_equal(number, _FIRST_DAY), pc.less_equal(number, _LAST_DAY))
    kept = pc.if_else(is_known, days, pa.scalar(None, days.type)).cast(CELLS)
    return _marked(days, kept, is_known, pc.is_null(days))


def _texts(values: pa.Array) -> pa.Array:
    """Text where it is UTF-8 and not empty, else null, which a CSV file cannot tell apart; numbers in decimal."""
    cells = bytes_of(values)
    try:
        texts = cells.cast(CELLS)
    except pa.ArrowInvalid:  # somebody's bytes are no UTF-8: theirs alone are missing
        texts = pa.array([_decoded(one) for one in cells.to_pylist()], CELLS)
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, CELLS), texts)


def _decoded(cell: bytes | None) -> str | None:
    try:
        return None if cell is None else cell.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _answers(values: pa.Array) -> pa.Array:
    said = truths(values).cast(CELLS)
    if is_text(values.type):
        return _marked(values, said, pc.is_valid(said), pc.is_in(text_cells(values), value_set=_texts_of("", "nan")))
    return _marked(values, said, pc.is_valid(said), pc.is_null(values, nan_is_null=True))


def _marked(values: pa.Array, cells: pa.Array, is_read: pa.Array, is_empty: pa.Array) -> pa.Array:
    """The cells; null where there is no value, and `UNREAD` where there is one that cannot be read."""
    kept = pc.if_else(pc.fill_null(is_read, fill_value=False), cells, pa.scalar(UNREAD, CELLS))
    is_missing = pc.or_(pc.is_null(values), pc.fill_null(is_empty, fill_value=False))
    return pc.if_else(is_missing, pa.scalar(None, CELLS), kept)


_READERS: Final[dict[Kind, Callable[[pa.Array], pa.Array]]] = {
    Kind.EXACT: _numbers,
    Kind.DATE: _days,
    Kind.TEXT: _texts,
    Kind.TRUTH: _answers,
}


def _holds_days(kind: pa.DataType) -> bool:
    return is_text(kind) or bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def _holds_numbers(kind: pa.DataType) -> bool:
    return is_text(kind) or is_number_type(kind)


def _holds_answers(kind: pa.DataType) -> bool:
    return _holds_numbers(kind) or bool(pa.types.is_boolean(kind))


SERVING_EVENTS: Final[dict[Kind, tuple[Callable[[pa.DataType], bool], str, str]]] = {
    Kind.EXACT: (_holds_numbers, "holds no numbers", "numbers"),
    Kind.DATE: (_holds_days, "holds no dates", "dates, such as 2011-12-10"),
    Kind.TEXT: (has_one_spelling, "holds no texts", "text, bytes or whole numbers"),
    Kind.TRUTH: (_holds_answers, "holds no yes and no", "yes and no, true and false, or 1 and 0"),
}
"""Which types of a source can serve for a column of events, and what is said of others."""
