"""A unit's file as a table: every line by itself, nothing in a line ever stops the others, strict only beforehand."""

import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fedseg.clustering.features import NumericFeature
from fedseg.columns import numbers
from fedseg.errors import DataError, FedsegError, MissingColumnError, NotNumericError
from fedseg.node.home import NodeHome
from fedseg.node.source import inspect_source, open_source, subject_key
from fedseg.node.sources import files
from fedseg.node.sources import lines as csv_lines
from fedseg.node.sources.cells import NUMBER
from fedseg.node.sources.settings import SourceSettings
from fedseg.table import SUBJECT
from tests.small_federation import CUSTOMERS_FILE, make_unit, policy_document

UnitWith = Callable[[bytes], NodeHome]

NAMES = ("visits", "spend")
COLUMNS = numbers(*NAMES)
FEATURES = tuple(NumericFeature(name, 0, 100, 50) for name in NAMES)
HEADER = b"customer,visits,spend\n"
OTHERS = b"".join(b"other-%d,%d,%d.5\n" % (number, number, number) for number in range(40))


def rows_of(home: NodeHome, features: tuple[str, ...] = NAMES) -> list[tuple[Any, ...]]:
    """All rows, with NaN as text so that it equals itself."""
    found: list[tuple[Any, ...]] = []
    for batch in open_source(home, numbers(*features)).batches():
        columns = [batch.column(name).to_pylist() for name in (SUBJECT, *features)]
        found += zip(*([repr(cell) for cell in column] for column in columns), strict=True)
    return found


def values_of(home: NodeHome, feature: str = "visits") -> list[float | None]:
    found: list[float | None] = []
    for batch in open_source(home, COLUMNS).batches():
        found += batch.column(feature).to_pylist()
    return found


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few lines then have as many block boundaries as files of gigabytes."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 64)
    monkeypatch.setattr(csv_lines, "LINE_BYTES_MAX", 48)
    monkeypatch.setattr(csv_lines, "LINES_AT_ONCE", 2)


LINES = st.lists(
    st.one_of(
        st.binary(max_size=60).map(lambda line: line.replace(b"\n", b" ")),
        st.lists(st.sampled_from([b"a", b"7", b",", b",", b'"', b"\r", b"\x00", b"\xff", b" ", b"\xef\xbb\xbf"])).map(
            b"".join
        ),
        st.tuples(st.sampled_from([b"a", b"b", b""]), st.integers(), st.floats()).map(
            lambda cells: b"%s,%d,%s" % (cells[0], cells[1], repr(cells[2]).encode())
        ),
    ),
    max_size=8,
)


@pytest.mark.usefixtures("tiny_blocks")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES, ends_with_newline=st.booleans())
@example(lines=[b'"a\rb",1,2'] * 8, ends_with_newline=True)
@example(lines=[b"a" * 47 + b",1,2", b"b,1,2"], ends_with_newline=False)
@example(lines=[b"\xef\xbb\xbf", b'"a,1,2', b'b",1,2'], ends_with_newline=False)
def test_a_line_is_read_the_same_alone_and_among_others(
    unit_with: UnitWith, lines: list[bytes], ends_with_newline: bool
) -> None:
    alone = [row for line in lines for row in rows_of(unit_with(HEADER + line + b"\n"))]
    together = rows_of(unit_with(HEADER + b"\n".join(lines) + (b"\n" if ends_with_newline else b"")))
    assert together == alone


LEFT_OUT_ALONE = {
    "an unbalanced quote": b'x,"1,2\n',
    "a quote inside a cell": b'x,1"1,2\n',
    "text after a quoted cell": b'x,"1"1,2\n',
    "a cell too many": b"x,1,2,3\n",
    "a cell too few": b"x,1\n",
    "a carriage return inside": b"x,1\r1,2\n",
    "a carriage return inside quotes": b'x,"1\r1",2\n',
    "a cell of a million digits": b"x," + b"1" * 10**6 + b",2\n",
    "a name longer than a block": b"x" * (3 * files.BLOCK_BYTES) + b",1,2\n",
    "quotes longer than a block": b'x,"' + b'""' * files.BLOCK_BYTES + b'",2\n',
    "nothing": b"\n",
}


@pytest.mark.parametrize("line", LEFT_OUT_ALONE.values(), ids=list(LEFT_OUT_ALONE))
def test_a_line_that_is_no_record_is_left_out_and_no_other(unit_with: UnitWith, line: bytes) -> None:
    expected = rows_of(unit_with(HEADER + OTHERS))
    for customers in (line + OTHERS, OTHERS + line, OTHERS + line.rstrip(b"\n")):
        assert rows_of(unit_with(HEADER + customers)) == expected


def test_a_carriage_return_at_a_block_boundary_stops_nothing(unit_with: UnitWith) -> None:
    # Arrow cuts a file into blocks at the last line end it sees, and takes a carriage return for one.
    filler = b"f" * 1000 + b",1,2\n"
    before = filler * ((files.BLOCK_BYTES - len(HEADER)) // len(filler) - 2)
    left = files.BLOCK_BYTES - len(HEADER) - len(before)
    for shift in range(1, 40):
        odd = b"g" * (left - shift) + b',1,2\n"odd\rodd\rodd",1,2\n'
        assert len(rows_of(unit_with(HEADER + before + odd + filler))) == before.count(b"\n") + 2


def test_a_file_full_of_lines_that_are_no_records_is_a_unit_without_customers(unit_with: UnitWith) -> None:
    assert rows_of(unit_with(HEADER + b'x,"1,2\nx,1,2,3\n' * 100_000)) == []


@pytest.mark.parametrize("file", [HEADER, HEADER.rstrip(b"\n")])
def test_a_file_without_customers_is_an_empty_table(unit_with: UnitWith, file: bytes) -> None:
    assert rows_of(unit_with(file)) == []


def test_line_ends_and_byte_order_marks_of_other_systems_make_no_difference(unit_with: UnitWith) -> None:
    expected = rows_of(unit_with(HEADER + OTHERS))
    windows = (HEADER + OTHERS).replace(b"\n", b"\r\n")
    quoted = b'\xef\xbb\xbf"customer","visits","spend"\n' + OTHERS
    assert rows_of(unit_with(windows)) == expected
    assert rows_of(unit_with(b"\xef\xbb\xbf" + windows)) == expected
    assert rows_of(unit_with(quoted)) == expected


@pytest.mark.parametrize(
    "header", [b'customer,visits,spend,"\n', b"customer,visits,spend,\r,\n", b"customer,visits,spend," + b"x" * 2**18]
)
def test_the_first_customer_never_passes_for_the_header(unit_with: UnitWith, header: bytes) -> None:
    home = unit_with(header + b"\n" + b"customer,visits,spend\n" + OTHERS)
    with pytest.raises(DataError, match="not a readable csv file"):
        open_source(home, COLUMNS)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.from_regex(NUMBER, fullmatch=True), min_size=1, max_size=30))
@example(cells=["1e9999", "-1e9999", "1e-9999", "+5", ".5", "5.", "-0", "9" * 400, "0." + "0" * 400 + "1", "2e-324"])
def test_whatever_counts_as_a_number_is_read_as_python_reads_it(unit_with: UnitWith, cells: list[str]) -> None:
    home = unit_with(HEADER + "".join(f"x,{cell},0\n" for cell in cells).encode())
    assert values_of(home) == [float(cell) for cell in cells]


NO_NUMBERS = [
    "",
    "abc",
    "1_000",
    "1.000,5",
    "0x10",
    "1e",
    "e5",
    ".",
    "--1",
    "1 2",
    "\xff",
    "5\x00",
    "\uff15",
    "inFinity",
    "1e99999",
    "1e",
    "+",
    "n",
]


@pytest.mark.parametrize("cell", NO_NUMBERS)
def test_what_is_no_number_is_missing_and_nothing_else_changes(unit_with: UnitWith, cell: str) -> None:
    encoded = b'"' + cell.encode("latin-1" if cell == "\xff" else "utf-8") + b'"'
    home = unit_with(HEADER + b"x," + encoded + b",0\nx,1,0\n")
    assert values_of(home) == [None, 1.0]


def test_special_numbers_are_read_in_any_case_and_with_blanks(unit_with: UnitWith) -> None:
    found = values_of(unit_with(HEADER + b"x, NaN ,0\nx,\tINF,0\nx,-inf ,0\nx,+Inf,0\nx, 7\t,0\n"))
    assert found[0] is not None
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, -math.inf, math.inf, 7.0]


def test_identifiers_are_hashed_under_the_units_own_secret(unit_with: UnitWith, tmp_path: Path) -> None:
    file = HEADER + b"alice,1,2\nbob,1,2\n\xff\x00,1,2\n"
    here = unit_with(file)
    there = make_unit(tmp_path / "there", "there", consenting=(), customers=file, policy=policy_document())
    keys = [key for batch in open_source(here, COLUMNS).batches() for key in batch.column(SUBJECT).to_pylist()]
    elsewhere = [key for batch in open_source(there, COLUMNS).batches() for key in batch.column(SUBJECT).to_pylist()]
    assert keys == [subject_key(name, here.subject_secret) for name in (b"alice", b"bob", b"\xff\x00")]
    assert not set(keys) & set(elsewhere)


def test_a_row_without_an_identifier_has_no_key(unit_with: UnitWith) -> None:
    assert [row[0] for row in rows_of(unit_with(HEADER + b',1,2\n"",1,2\n'))] == ["None", "None"]


def test_a_column_may_have_another_name_in_the_source(unit_with: UnitWith) -> None:
    home = unit_with(b"customer,besuche,spend\nx,3,4\n")
    mapped = replace(
        home,
        settings=home.settings.model_copy(
            update={"source": home.settings.source.model_copy(update={"columns": {"visits": "besuche"}})}
        ),
    )
    assert values_of(mapped) == [3.0]


def test_the_stream_starts_anew_each_time(unit_with: UnitWith) -> None:
    table = open_source(unit_with(HEADER + OTHERS), COLUMNS)
    assert [batch.to_pydict() for batch in table.batches()] == [batch.to_pydict() for batch in table.batches()]


# Parquet


def parquet_unit(home: NodeHome, columns: dict[str, pa.Array]) -> NodeHome:
    path = home.path / "LOCAL" / "customers.parquet"
    pq.write_table(pa.table(columns), path)
    settings_ = SourceSettings(path="LOCAL/customers.parquet", format="parquet", subject="customer")
    return replace(home, settings=home.settings.model_copy(update={"source": settings_}))


PARQUET_NUMBERS = {
    "float": (pa.array([1.5, None, math.inf, 2.0]), [1.5, None, math.inf, 2.0]),
    "half float": (pa.array([np.float16(1.5), None], pa.float16()), [1.5, None]),
    "int64": (pa.array([2**53 + 1, None, -1], pa.int64()), [2.0**53, None, -1.0]),
    "uint8": (pa.array([255, None], pa.uint8()), [255.0, None]),
    "decimal": (pa.array([Decimal("1.25"), None], pa.decimal128(10, 2)), [1.25, None]),
    "text": (pa.array(["1.5", "x", None, ""]), [1.5, None, None, None]),
    "bytes": (pa.array([b"1.5", b"\xff", None]), [1.5, None, None]),
}


@pytest.mark.parametrize(("column", "expected"), PARQUET_NUMBERS.values(), ids=list(PARQUET_NUMBERS))
def test_parquet_columns_of_numbers_or_text_are_numbers_or_missing(
    bare_unit: NodeHome, column: pa.Array, expected: list[float | None]
) -> None:
    names = pa.array([f"c{number}" for number in range(len(column))])
    home = parquet_unit(bare_unit, {"customer": names, "visits": column, "spend": pa.array([0.0] * len(column))})
    assert values_of(home) == expected


PARQUET_NAMES = {
    "text": (pa.array(["a", None, ""]), [b"a", None, None]),
    "long text": (pa.array(["a"], pa.large_string()), [b"a"]),
    "bytes": (pa.array([b"\xff"]), [b"\xff"]),
    "large bytes": (pa.array([b"\xff", None], pa.large_binary()), [b"\xff", None]),
    "fixed bytes": (pa.array([b"\xff\xfe", None], pa.binary(2)), [b"\xff\xfe", None]),
    "numbers": (pa.array([17, None], pa.int32()), [b"17", None]),
}


@pytest.mark.parametrize(("column", "expected"), PARQUET_NAMES.values(), ids=list(PARQUET_NAMES))
def test_parquet_identifiers_get_a_key(bare_unit: NodeHome, column: pa.Array, expected: list[bytes | None]) -> None:
    zeros = pa.array([0.0] * len(column))
    home = parquet_unit(bare_unit, {"customer": column, "visits": zeros, "spend": zeros})
    keys = [None if name is None else subject_key(name, home.subject_secret) for name in expected]
    assert [row[0] for row in rows_of(home)] == [repr(key) for key in keys]


def test_a_file_that_is_no_parquet_is_a_data_error(bare_unit: NodeHome) -> None:
    home = parquet_unit(bare_unit, {"customer": pa.array(["a"])})
    (home.path / "LOCAL" / "customers.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="not a readable parquet file"):
        open_source(home, COLUMNS)


# Before approval


def test_the_check_counts_what_the_unit_should_know(unit_with: UnitWith) -> None:
    found = inspect_source(unit_with(HEADER + b"a,1,\na,2,3\nb,,nan\n,1,1\nc,1,1\n"), FEATURES)
    assert (found.rows, found.customers, found.duplicates, found.without_key) == (5, 3, 1, 1)
    assert found.missing == {"visits": 1, "spend": 2}


@pytest.mark.parametrize("column", NAMES)
def test_text_among_numbers_is_refused_beforehand_and_not_repeated(unit_with: UnitWith, column: str) -> None:
    cells = {"visits": b"1", "spend": b"2"} | {column: b"verysecret"}
    home = unit_with(HEADER + OTHERS + b"x,%s,%s\n" % (cells["visits"], cells["spend"]))
    with pytest.raises(NotNumericError, match=f"'{column}' holds text") as refused:
        inspect_source(home, FEATURES)
    assert "verysecret" not in f"{refused.value} {refused.value.fix}"


@pytest.mark.parametrize("header", [b"customer,visits\n", b"visits,spend\n", b"", b"\n" + HEADER])
def test_a_missing_column_is_named(unit_with: UnitWith, header: bytes) -> None:
    with pytest.raises(MissingColumnError, match=r"no column '(customer|spend)'"):
        inspect_source(unit_with(header + OTHERS), FEATURES)


def test_a_header_that_is_not_text_is_a_data_error(unit_with: UnitWith) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        open_source(unit_with(b"\xff" + HEADER), COLUMNS)


def test_a_missing_file_is_a_data_error_and_nothing_else(tmp_path: Path) -> None:
    home = make_unit(tmp_path / "unit", "unit", consenting=(), customers=HEADER, policy=policy_document())
    table = open_source(home, COLUMNS)
    (home.path / CUSTOMERS_FILE).unlink()
    for read in (lambda: open_source(home, COLUMNS), lambda: list(table.batches())):
        with pytest.raises(FedsegError) as raised:
            read()
        assert type(raised.value) is DataError
        assert "No such file" in raised.value.why
