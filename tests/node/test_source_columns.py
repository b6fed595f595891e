"""Columns of answers and of texts: every cell is read by itself, and none stops the others."""

import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedseg.clustering.categories import BinaryFeature, CategoricalFeature
from fedseg.clustering.features import Feature, NumericFeature
from fedseg.columns import Column
from fedseg.errors import DataError, NotNumericError
from fedseg.node.home import NodeHome
from fedseg.node.source import inspect_source, open_source
from fedseg.node.sources.settings import SourceSettings

UnitWith = Callable[[bytes], NodeHome]

SENIOR = BinaryFeature("senior")
COLOR = CategoricalFeature("color", ("red", "Grün"))
AGE = NumericFeature("age", 0, 120, 40)
FEATURES: tuple[Feature, ...] = (SENIOR, COLOR, AGE)
HEADER = b"customer,senior,color,age\n"
FILE = "LOCAL/customers.parquet"
BAD_TEXT = b"\xff\xfe"
"""No UTF-8."""


def read(home: NodeHome, *columns: Column) -> dict[str, list[Any]]:
    """All cells of these columns."""
    cells: dict[str, list[Any]] = {column.name: [] for column in columns}
    for batch in open_source(home, columns).batches():
        for column in columns:
            cells[column.name] += batch.column(column.name).to_pylist()
    return cells


def parquet_unit(home: NodeHome, feature: Feature, cells: pa.Array) -> NodeHome:
    names = pa.array([f"c{number}" for number in range(len(cells))], pa.string())
    pq.write_table(pa.table({"customer": names, feature.name: cells}), home.path / FILE)
    source = SourceSettings(path=FILE, format="parquet", subject="customer")
    return replace(home, settings=home.settings.model_copy(update={"source": source}))


ANSWERS = {
    b"1": True,
    b"yes": True,
    b"YES": True,
    b" Yes\t": True,
    b"True": True,
    b"1.0": True,
    b"+1": True,
    b"0": False,
    b"no": False,
    b"FALSE": False,
    b"0.00": False,
    b"-0": False,
    b"": None,
    b"y": None,
    b"n": None,
    b"t": None,
    b"2": None,
    b"nan": None,
    b"inf": None,
    b"maybe": None,
    b"ja": None,
    b"\xff": None,
    b"yes\x00": None,
    "\uff59es".encode(): None,
}


def test_yes_and_no_have_few_spellings_and_all_else_is_missing(unit_with: UnitWith) -> None:
    lines = b"".join(b"x,%s,red,1\n" % cell for cell in ANSWERS)
    assert read(unit_with(HEADER + lines), SENIOR.column) == {"senior": list(ANSWERS.values())}


def test_text_is_left_as_it_stands(unit_with: UnitWith) -> None:
    cells = [b"red", b" red ", b"", b"\xff", b"Gr\xc3\xbcn", b"007", b"nan", b"a;b", b"x" * 100_000]
    lines = b"".join(b"x,1,%s,1\n" % cell for cell in [*cells, b'"a,b"', b'"a""b"'])
    assert read(unit_with(HEADER + lines), COLOR.column) == {"color": [*cells, b"a,b", b'a"b']}


def test_one_column_of_a_source_may_be_read_as_number_and_as_text(unit_with: UnitWith) -> None:
    home = unit_with(b"customer,code\nx,01\ny,2x\n")
    source = home.settings.source.model_copy(update={"columns": {"age": "code", "color": "code"}})
    both = replace(home, settings=home.settings.model_copy(update={"source": source}))
    assert read(both, AGE.column, COLOR.column) == {"age": [1.0, None], "color": [b"01", b"2x"]}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8)), max_size=6))
def test_any_line_is_read_the_same_alone_and_among_others(
    unit_with: UnitWith, rows: list[tuple[bytes, bytes, bytes]]
) -> None:
    lines = [b"x," + b",".join(cells).replace(b"\n", b" ") + b"\n" for cells in rows]
    columns = tuple(feature.column for feature in FEATURES)
    alone = [read(unit_with(HEADER + line), *columns) for line in lines]
    together = read(unit_with(HEADER + b"".join(lines)), *columns)
    for column in columns:
        assert repr(together[column.name]) == repr([cell for one in alone for cell in one[column.name]])


PARQUET_ANSWERS: dict[str, tuple[pa.Array, list[bool | None]]] = {
    "truth values": (pa.array([True, False, None]), [True, False, None]),
    "int8": (pa.array([1, 0, 2, -1, None], pa.int8()), [True, False, None, None, None]),
    "float": (pa.array([1.0, 0.0, 0.5, math.nan, math.inf, None]), [True, False, None, None, None, None]),
    "decimal": (pa.array([Decimal("1.0"), Decimal(0), None], pa.decimal128(5, 1)), [True, False, None]),
    "text": (pa.array(["Yes", "no", "", "?", None]), [True, False, None, None, None]),
    "bytes": (pa.array([b"true", BAD_TEXT, None]), [True, None, None]),
    "dictionary": (pa.array(["yes", "no", "yes"]).dictionary_encode(), [True, False, True]),
    "dictionary of truth values": (pa.array([True, None]).dictionary_encode(), [True, None]),
}


@pytest.mark.parametrize(("cells", "expected"), PARQUET_ANSWERS.values(), ids=list(PARQUET_ANSWERS))
def test_answers_in_parquet_are_read_cell_by_cell(
    bare_unit: NodeHome, cells: pa.Array, expected: list[bool | None]
) -> None:
    assert read(parquet_unit(bare_unit, SENIOR, cells), SENIOR.column) == {"senior": expected}


PARQUET_TEXTS: dict[str, tuple[pa.Array, list[bytes | None]]] = {
    "text": (pa.array(["red", "", None]), [b"red", b"", None]),
    "large text": (pa.array(["Grün"], pa.large_string()), ["Grün".encode()]),
    "text view": (pa.array(["red", "x" * 40], pa.string_view()), [b"red", b"x" * 40]),
    "text that is none": (pa.array([BAD_TEXT, b"red"]).view(pa.string()), [BAD_TEXT, b"red"]),
    "bytes": (pa.array([BAD_TEXT, None]), [BAD_TEXT, None]),
    "whole numbers": (pa.array([7, -1, None], pa.int16()), [b"7", b"-1", None]),
    "dictionary": (pa.array(["red", None, "red"]).dictionary_encode(), [b"red", None, b"red"]),
    "very long text": (pa.array(["x" * 10**6]), [b"x" * 10**6]),
}


@pytest.mark.parametrize(("cells", "expected"), PARQUET_TEXTS.values(), ids=list(PARQUET_TEXTS))
def test_texts_in_parquet_are_read_as_their_bytes(
    bare_unit: NodeHome, cells: pa.Array, expected: list[bytes | None]
) -> None:
    assert read(parquet_unit(bare_unit, COLOR, cells), COLOR.column) == {"color": expected}


OTHER_TYPES: list[tuple[Feature, pa.Array, str]] = [
    (SENIOR, pa.array([[True]]), "holds no yes and no"),
    (SENIOR, pa.nulls(1), "holds no yes and no"),
    (COLOR, pa.array([1.5]), "names no categories"),
    (COLOR, pa.array([True]), "names no categories"),
    (COLOR, pa.array([["red"]]), "names no categories"),
    (AGE, pa.array([True]), "holds no numbers"),
]


@pytest.mark.parametrize(("feature", "cells", "problem"), OTHER_TYPES)
@pytest.mark.parametrize("rows", [0, 1])
def test_a_column_of_another_type_is_refused_whoever_is_in_it(
    bare_unit: NodeHome, feature: Feature, cells: pa.Array, problem: str, rows: int
) -> None:
    home = parquet_unit(bare_unit, feature, cells.slice(0, rows))
    for refuse in (lambda: inspect_source(home, [feature]), lambda: open_source(home, [feature.column])):
        with pytest.raises(DataError, match=f"column '{feature.name}' is of a type that {problem}") as refused:
            refuse()
        assert type(refused.value) is DataError


# Before approval


def test_the_check_counts_what_is_missing_and_what_the_plan_does_not_foresee(unit_with: UnitWith) -> None:
    lines = [b"a,yes,red,30", b"b,,pink,130", b"c,0, ,-1", b"d,nan,RED,", b"e,1,\xff,nan"]
    found = inspect_source(unit_with(HEADER + b"\n".join(lines) + b"\n"), FEATURES)
    assert found.missing == {"senior": 2, "color": 1, "age": 2}
    assert found.outside == {"senior": 0, "color": 3, "age": 2}


@pytest.mark.parametrize("cell", [b"maybe", b"2", b"y", b"\xff", b"inf"])
def test_what_is_no_answer_is_refused_beforehand_and_missing_in_a_round(unit_with: UnitWith, cell: bytes) -> None:
    home = unit_with(HEADER + b"a,yes,red,1\nb,%s,red,2\n" % cell)
    with pytest.raises(DataError, match="column 'senior' holds something else than yes and no") as refused:
        inspect_source(home, FEATURES)
    assert "1 and 0" in refused.value.fix
    assert read(home, SENIOR.column) == {"senior": [True, None]}


def test_text_among_numbers_is_still_refused_beforehand(unit_with: UnitWith) -> None:
    with pytest.raises(NotNumericError, match="'age' holds text"):
        inspect_source(unit_with(HEADER + b"a,yes,red,old\n"), FEATURES)
