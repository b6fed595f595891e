"""A column's type, which no row decides, says whether a Parquet file is read; after that no row stops the others."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedseg.clustering.features import NumericFeature
from fedseg.columns import numbers
from fedseg.errors import DataError, MissingColumnError
from fedseg.node.home import NodeHome
from fedseg.node.source import inspect_source, open_source, subject_key
from fedseg.node.sources.settings import SourceSettings
from fedseg.table import SUBJECT

NAMES = ("visits", "spend")
COLUMNS = numbers(*NAMES)
FEATURES = tuple(NumericFeature(name, 0, 100, 50) for name in NAMES)
FILE = "LOCAL/customers.parquet"
DAY = dt.date(2025, 6, 1)
MOMENT = dt.datetime(2025, 6, 1, tzinfo=dt.UTC)
BAD_TEXT = b"\xff\xfe"
"""No UTF-8."""


def parquet_unit(home: NodeHome, columns: dict[str, pa.Array]) -> NodeHome:
    return table_unit(home, pa.table(columns))


def table_unit(home: NodeHome, table: pa.Table) -> NodeHome:
    pq.write_table(table, home.path / FILE)
    source = SourceSettings(path=FILE, format="parquet", subject="customer")
    return replace(home, settings=home.settings.model_copy(update={"source": source}))


def column_of(home: NodeHome, name: str) -> list[Any]:
    return [cell for batch in open_source(home, COLUMNS).batches() for cell in batch.column(name).to_pylist()]


def text(kind: pa.DataType, *cells: bytes | None) -> pa.Array:
    """A text column with whatever bytes in it: writers other than Arrow do not check that text is UTF-8."""
    return pa.array(cells, pa.large_binary() if kind == pa.large_string() else pa.binary()).view(kind)


def dictionary(values: pa.Array) -> pa.Array:
    return values.dictionary_encode()


IDENTIFIERS: dict[str, tuple[pa.Array, list[bytes | None]]] = {
    "string": (text(pa.string(), b"a", BAD_TEXT, None), [b"a", BAD_TEXT, None]),
    "large string": (text(pa.large_string(), b"a", BAD_TEXT, None), [b"a", BAD_TEXT, None]),
    "string view": (pa.array(["a", "x" * 40, None], pa.string_view()), [b"a", b"x" * 40, None]),
    "binary": (pa.array([b"a", BAD_TEXT, None]), [b"a", BAD_TEXT, None]),
    "large binary": (pa.array([b"a", BAD_TEXT, None], pa.large_binary()), [b"a", BAD_TEXT, None]),
    "fixed-size binary": (pa.array([b"ab", BAD_TEXT, None], pa.binary(2)), [b"ab", BAD_TEXT, None]),
    "binary view": (pa.array([b"a", BAD_TEXT, None], pa.binary_view()), [b"a", BAD_TEXT, None]),
    "int64": (pa.array([17, -(2**63), None]), [b"17", b"%d" % -(2**63), None]),
    "uint64": (pa.array([17, 2**64 - 1, None], pa.uint64()), [b"17", b"%d" % (2**64 - 1), None]),
    "decimal": (pa.array([Decimal(7), Decimal("9" * 70), None], pa.decimal256(76)), [b"7", b"9" * 70, None]),
    "small decimal": (pa.array([Decimal("1.25"), None], pa.decimal32(7, 2)), [b"1.25", None]),
    "dictionary of strings": (dictionary(text(pa.string(), b"a", BAD_TEXT, None)), [b"a", BAD_TEXT, None]),
    "dictionary of large strings": (dictionary(text(pa.large_string(), b"a", BAD_TEXT)), [b"a", BAD_TEXT]),
    "dictionary of bytes": (dictionary(pa.array([b"a", BAD_TEXT, None])), [b"a", BAD_TEXT, None]),
    "dictionary of integers": (dictionary(pa.array([17, None, 17])), [b"17", None, b"17"]),
}


@pytest.mark.parametrize(("column", "expected"), IDENTIFIERS.values(), ids=list(IDENTIFIERS))
def test_an_identifier_of_a_type_that_names_customers_gets_a_key_whatever_its_bytes(
    bare_unit: NodeHome, column: pa.Array, expected: list[bytes | None]
) -> None:
    zeros = pa.array([0.0] * len(column))
    home = parquet_unit(bare_unit, {"customer": column, "visits": zeros, "spend": zeros})
    keys = [None if name is None else subject_key(name, home.subject_secret) for name in expected]
    assert column_of(home, SUBJECT) == keys
    assert inspect_source(home, FEATURES).rows == len(expected)


NUMBERS: dict[str, tuple[pa.Array, list[float | None]]] = {
    "int8": (pa.array([-128, None], pa.int8()), [-128.0, None]),
    "uint64": (pa.array([2**64 - 1, None], pa.uint64()), [2.0**64, None]),
    "huge decimal": (pa.array([Decimal("9" * 76), None], pa.decimal256(76)), [1e76, None]),
    "small decimal": (pa.array([Decimal("1.25"), None], pa.decimal64(9, 2)), [1.25, None]),
    "string": (text(pa.string(), b"1.5", BAD_TEXT, b"much", None), [1.5, None, None, None]),
    "large string": (text(pa.large_string(), b"1.5", BAD_TEXT, None), [1.5, None, None]),
    "string view": (pa.array(["1.5", "x" * 40, None], pa.string_view()), [1.5, None, None]),
    "large binary": (pa.array([b"1.5", BAD_TEXT, None], pa.large_binary()), [1.5, None, None]),
    "fixed-size binary": (pa.array([b"15", BAD_TEXT, None], pa.binary(2)), [15.0, None, None]),
    "binary view": (pa.array([b"1.5", BAD_TEXT, None], pa.binary_view()), [1.5, None, None]),
    "dictionary of strings": (dictionary(text(pa.string(), b"1.5", BAD_TEXT, None)), [1.5, None, None]),
    "dictionary of integers": (dictionary(pa.array([3, None, 3])), [3.0, None, 3.0]),
    "dictionary of floats": (dictionary(pa.array([0.5, None])), [0.5, None]),
}


@pytest.mark.parametrize(("column", "expected"), NUMBERS.values(), ids=list(NUMBERS))
def test_a_feature_of_a_type_that_holds_numbers_is_read_cell_by_cell(
    bare_unit: NodeHome, column: pa.Array, expected: list[float | None]
) -> None:
    names = pa.array([f"c{number}" for number in range(len(column))])
    home = parquet_unit(bare_unit, {"customer": names, "visits": column, "spend": pa.array([0.0] * len(column))})
    assert column_of(home, "visits") == pytest.approx(expected)


NO_IDENTIFIERS: dict[str, pa.Array] = {
    "float": pa.array([1.0]),
    "half float": pa.array([1.0], pa.float16()),
    "truth value": pa.array([True]),
    "date": pa.array([DAY]),
    "timestamp": pa.array([MOMENT]),
    "time": pa.array([dt.time(1)]),
    "duration": pa.array([dt.timedelta(1)]),
    "list": pa.array([["a"]]),
    "struct": pa.array([{"a": "b"}]),
    "map": pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string())),
    "nothing": pa.nulls(1),
    "dictionary of floats": dictionary(pa.array([1.0])),
    "dictionary of timestamps": dictionary(pa.array([MOMENT])),
    "uuid": pa.array([b"a" * 16], pa.uuid()),
}
NO_NUMBERS = {name: column for name, column in NO_IDENTIFIERS.items() if "float" not in name}


def both(home: NodeHome) -> list[Callable[[], object]]:
    """Before approval, and in a round."""
    return [lambda: inspect_source(home, FEATURES), lambda: open_source(home, COLUMNS)]


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("column", NO_IDENTIFIERS.values(), ids=list(NO_IDENTIFIERS))
def test_an_identifier_of_another_type_is_refused_whoever_is_in_it(
    bare_unit: NodeHome, column: pa.Array, rows: int
) -> None:
    one = pa.array([1.0])
    home = table_unit(bare_unit, pa.table({"customer": column, "visits": one, "spend": one}).slice(0, rows))
    for read in both(home):
        with pytest.raises(DataError, match="column 'customer' is of a type that names no customers") as refused:
            read()
        assert type(refused.value) is DataError


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("column", NO_NUMBERS.values(), ids=list(NO_NUMBERS))
def test_a_feature_of_another_type_is_refused_whoever_is_in_it(
    bare_unit: NodeHome, column: pa.Array, rows: int
) -> None:
    table = pa.table({"customer": pa.array(["a"]), "visits": column, "spend": pa.array([1.0])})
    home = table_unit(bare_unit, table.slice(0, rows))
    for read in both(home):
        with pytest.raises(DataError, match="column 'visits' is of a type that holds no numbers") as refused:
            read()
        assert type(refused.value) is DataError


def test_a_missing_column_is_named_before_any_type(bare_unit: NodeHome) -> None:
    home = parquet_unit(bare_unit, {"customer": pa.array([True]), "visits": pa.array([1.0])})
    with pytest.raises(MissingColumnError, match="'spend'"):
        open_source(home, COLUMNS)


def twice_parquet(home: NodeHome) -> NodeHome:
    one = pa.array([1.0])
    return table_unit(home, pa.table([pa.array(["a"]), one, one, one], names=["customer", "visits", "visits", "spend"]))


def twice_csv(home: NodeHome) -> NodeHome:
    Path(home.path, home.settings.source.path).write_bytes(b"customer,visits,visits,spend\na,1,2,3\n")
    return home


@pytest.mark.parametrize("write", [twice_parquet, twice_csv])
def test_two_columns_of_one_name_are_refused(bare_unit: NodeHome, write: Callable[[NodeHome], NodeHome]) -> None:
    for read in both(write(bare_unit)):
        with pytest.raises(DataError, match="has 2 columns 'visits'"):
            read()
