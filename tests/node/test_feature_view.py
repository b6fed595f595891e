"""A feature view: one row a customer out of events, exact, and of nobody else's events."""

import datetime as dt
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fedseg.clustering.features import NumericFeature
from fedseg.columns import Column, ColumnType, numbers
from fedseg.errors import DataError, MissingColumnError, SettingsError, ViewError
from fedseg.node.home import NodeHome
from fedseg.node.source import inspect_source, open_source, rows_of, subject_key
from fedseg.node.sources import event_cells, files, view
from fedseg.node.sources.cell_types import Kind, parse_cell_type
from fedseg.node.sources.expressions import compile_feature
from fedseg.node.sources.settings import SourceSettings, ViewSettings
from fedseg.node.sources.view import FeatureView
from fedseg.table import SUBJECT
from tests.small_federation import CUSTOMERS_FILE

UnitWith = Callable[[bytes], NodeHome]

VIEW = ViewSettings(
    columns={"invoice": "text", "day": "date", "amount": "decimal(12,2)", "returned": "truth"},
    features={
        "recency": "date_diff('day', max(day) filter (where not returned), date '2011-12-10')",
        "frequency": "count(distinct invoice) filter (where not returned)",
        "monetary": "coalesce(sum(amount), 0)",
        "basket": "sum(amount) / count(*)",
        "mean": "avg(amount)",
        "largest": "max(amount)",
        "tenure": "max(day) - min(day)",
    },
    where="day < date '2011-12-10'",
)
FEATURES = tuple(VIEW.features)
HEADER = b"customer,invoice,day,amount,returned\n"
EVENTS = (
    b"a,1,2011-12-01,10.10,no\n"
    b"a,1,2011-12-01,10.20,no\n"
    b"a,2,2011-12-05 23:59:59,0.30,no\n"
    b"a,C3,2011-12-09,-10.20,yes\n"
    b"b,4,2011-11-10,5,no\n"
    b"b,5,2011-12-10,7,no\n"
    b"c,6,2011-12-24,7,no\n"
    b",7,2011-12-01,7,no\n"
)


def with_view(home: NodeHome, view_: ViewSettings = VIEW, **changes: Any) -> NodeHome:
    source = home.settings.source.model_copy(update={"view": view_, **changes})
    return replace(home, settings=home.settings.model_copy(update={"source": source}))


def features_of(home: NodeHome, *names: str) -> dict[bytes, tuple[str, ...]]:
    """Every customer's features; floats as their exact bits."""
    found: dict[bytes, tuple[str, ...]] = {}
    for batch in open_source(home, numbers(*(names or FEATURES))).batches():
        cells = [[repr(one) for one in column.to_pylist()] for column in batch.columns[1:]]
        for subject, *row in zip(batch.column(SUBJECT).to_pylist(), *cells, strict=True):
            assert subject not in found
            found[subject] = tuple(row)
    return found


@pytest.fixture
def unit(unit_with: UnitWith) -> NodeHome:
    return with_view(unit_with(HEADER + EVENTS))


def test_a_customers_events_become_one_row(unit: NodeHome) -> None:
    key = subject_key(b"a", unit.subject_secret)
    other = subject_key(b"b", unit.subject_secret)
    assert features_of(unit) == {
        key: ("5.0", "2.0", "10.4", "2.6", "2.6", "10.2", "8.0"),
        other: ("30.0", "1.0", "5.0", "5.0", "5.0", "5.0", "0.0"),
    }


def test_sums_are_exact_where_floating_point_is_not(unit_with: UnitWith) -> None:
    cells = [b"9007199254740992.01", b"0.01", b"-9007199254740992.00"]
    home = with_view(unit_with(HEADER + b"".join(b"a,1,2011-01-01,%s,no\n" % one for one in cells)), wide())
    (found,) = features_of(home, "monetary").values()
    assert found == ("0.02",)


def wide() -> ViewSettings:
    return VIEW.model_copy(update={"columns": {**VIEW.columns, "amount": "decimal(18,2)"}})


EVENT = st.tuples(
    st.sampled_from([b"a", b"b", b"c", b"d", b""]),
    st.sampled_from([b"1", b"2", b"C3", b"", b"\xff"]),
    st.sampled_from([b"2011-12-01", b"2010-01-31 08:26:00", b"2012-01-01", b"2011-02-30", b"", b"soon", b"infinity"]),
    st.sampled_from([b"1", b"-2.505", b"0.1", b"1e3", b"9999999999.99", b"99999999999", b"1e300", b"nan", b"x", b""]),
    st.sampled_from([b"yes", b"no", b"1", b"", b"perhaps"]),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENT, max_size=14), seed=st.integers(0, 2**32))
def test_without_one_customer_every_other_row_is_the_same_to_the_byte(
    unit_with: UnitWith, events: list[tuple[bytes, ...]], seed: int
) -> None:
    lines = [b",".join(event) + b"\n" for event in events]
    everyone = features_of(with_view(unit_with(HEADER + b"".join(lines))))
    for customer in (b"a", b"b", b"c", b"d"):
        others = [line for line, event in zip(lines, events, strict=True) if event[0] != customer]
        random.Random(seed).shuffle(others)
        home = with_view(unit_with(HEADER + b"".join(others)))
        gone = subject_key(customer, home.subject_secret)
        assert features_of(home) == {key: row for key, row in everyone.items() if key != gone}


NASTY = [
    b"1e999999999", b"-" + b"9" * 4000, b"0." + b"0" * 400 + b"1", b"\x00", b"\xff\xfe", b"1_000", b"0x10", b"0b1",
    b"1,5".replace(b",", b";"), b"--1", b"+", b".", b"e5", b"inf", b"NaN", b"infinity", b"999999-01-01", b"0000-01-01",
    b"2011-12-01T10:00:00+02:00", b"2011-12-01T10:00:00Z", b"epoch", b"today", b"'; drop table events", b"\xf0\x9f\x98\x80",
]  # fmt: skip


@pytest.mark.parametrize("cell", NASTY)
def test_no_cell_of_one_customer_stops_the_others(unit_with: UnitWith, cell: bytes) -> None:
    expected = features_of(with_view(unit_with(HEADER + EVENTS)))
    for event in (b"x,%s,2011-01-01,1,no\n", b"x,1,%s,1,no\n", b"x,1,2011-01-01,%s,no\n", b"x,1,2011-01-01,1,%s\n"):
        home = with_view(unit_with(HEADER + EVENTS + event % cell))
        key = subject_key(b"x", home.subject_secret)
        assert {one: row for one, row in features_of(home).items() if one != key} == expected


def test_no_amounts_of_one_customer_stop_the_others(unit_with: UnitWith) -> None:
    columns = {**VIEW.columns, "amount": "decimal(18,0)"}
    power = "cast(max(amount) as decimal(18,0)) * cast(max(amount) as decimal(18,0))"
    features = {
        "total": "sum(amount)",
        "power": power,
        "quotient": f"sum(amount) / sum(amount) * ({power}) / 0.00000000000000001 / 0.00000000000000001",
        "small": "cast(sum(amount) as decimal(3,2))",
    }
    largest = b"".join(b"x,1,2011-01-01,%d,no\n" % (10**18 - 1) for _ in range(200))
    home = with_view(
        unit_with(HEADER + EVENTS + largest), VIEW.model_copy(update={"columns": columns, "features": features})
    )
    found = features_of(home, *features)
    assert len(found) == 3
    assert found[subject_key(b"x", home.subject_secret)][0] == repr(float(200 * (10**18 - 1)))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(
        st.from_regex(r"[+-]?([0-9]{1,8}(\.[0-9]{0,6})?|\.[0-9]{1,6})(e-?[0-3])?", fullmatch=True), min_size=1
    )
)
@example(cells=["0.005", "-0.005", "2.675", "1.005", "-.5", "5.", "1e-3", "99999999.999999"])
def test_a_number_is_read_as_the_decimal_that_it_spells(unit_with: UnitWith, cells: list[str]) -> None:
    lines = "".join(f"c{number},1,2011-01-01,{cell},no\n" for number, cell in enumerate(cells))
    home = with_view(unit_with(HEADER + lines.encode()))
    found = features_of(home, "largest")
    for number, cell in enumerate(cells):
        expected = Decimal(cell).quantize(Decimal("0.01"), ROUND_HALF_UP)
        read = found[subject_key(f"c{number}".encode(), home.subject_secret)]
        assert read == ((repr(float(expected) + 0.0),) if abs(expected) < 10**10 else ("None",))


EXTREMES = {
    "whole": ("integer", [Decimal(10**18 - 1), Decimal(1 - 10**18), Decimal(0), Decimal(7), None]),
    "small": ("decimal(4,3)", [Decimal("9.999"), Decimal("-0.001"), Decimal(1), None]),
    "fine": ("decimal(18,18)", [Decimal("0.999999999999999999"), Decimal("-0.000000000000000001"), None]),
}


@st.composite
def arithmetic(draw: st.DrawFn) -> str:
    """An expression over the extremes of one event's numbers."""
    leaf = st.sampled_from([*(f"max({name})" for name in EXTREMES), "2.5", "-1", "123456789012345678"])
    tree = st.recursive(
        leaf,
        lambda inner: (
            st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: f"({' '.join(parts)})")
            | inner.map("abs({})".format)
            | inner.map("(-{})".format)
        ),
        max_leaves=5,
    )
    return f"max({draw(st.sampled_from(list(EXTREMES)))}) + {draw(tree)}"


@settings(max_examples=60, deadline=None)
@given(text=arithmetic(), cells=st.tuples(*(st.sampled_from(values) for _, values in EXTREMES.values())))
def test_arithmetic_is_exact_or_refused_beforehand_and_never_fails_over_a_row(
    text: str, cells: tuple[Decimal | None, ...]
) -> None:
    columns = {name: parse_cell_type(kind) for name, (kind, _) in EXTREMES.items()}
    try:
        compiled = compile_feature("f", text, columns)
    except ViewError:
        return
    casts = (f"CAST(? AS {kind.sql}) AS c{number}" for number, kind in enumerate(columns.values()))
    with duckdb.connect(":memory:") as engine:
        ((found,),) = engine.execute(
            f"SELECT {compiled.sql} FROM (SELECT {', '.join(casts)})",
            [None if one is None else f"{one:f}" for one in cells],
        ).fetchall()
    python = text.replace("max(", "(")
    for name, cell in zip(EXTREMES, cells, strict=True):
        python = python.replace(name, "None" if cell is None else f"Fraction('{cell}')")
    if "None" in python:
        assert found is None
    else:
        exact = eval(re.sub(r"(?<![\w'.])(\d+(\.\d+)?)(?![\w'.])", r"Fraction('\1')", python))
        assert Fraction(found) == exact


# The same from every kind of file, in any order, in pieces of any size


def shop(events: int, customers: int) -> pa.Table:
    """Made-up events, with amounts as floating-point numbers."""
    coins = random.Random(5)
    day = dt.date(2011, 1, 1)
    rows = range(events)
    return pa.table(
        {
            "customer": [f"c{coins.randrange(customers)}" for _ in rows],
            "invoice": [f"{coins.choice('AC')}{coins.randrange(events)}" for _ in rows],
            "day": [day + dt.timedelta(coins.randrange(360)) for _ in rows],
            "amount": [coins.randrange(-100_000, 1_000_000) / 100 for _ in rows],
            "returned": [coins.random() < 0.1 for _ in rows],
        }
    )


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    order = list(range(table.num_rows))
    random.Random(seed).shuffle(order)
    return table.take(order)


def test_csv_and_parquet_in_any_order_and_pieces_give_the_same_bits(
    bare_unit: NodeHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = shop(10_000, 700)
    one = tmp_path / "events.csv"
    pc_csv.write_csv(table, one)
    expected = features_of(with_view(bare_unit, path=str(one)))
    assert len(expected) == 700
    folder = tmp_path / "events"
    folder.mkdir()
    mixed = shuffled(table, 1)
    typed = mixed.set_column(3, "amount", mixed["amount"].cast(pa.decimal128(20, 4)))
    pq.write_table(typed.slice(0, 3000), folder / "1.parquet", row_group_size=97)
    pq.write_table(mixed.slice(3000).cast(pa.schema(
        [("customer", pa.large_string()), ("invoice", pa.binary()), ("day", pa.timestamp("ns")),
         ("amount", pa.float64()), ("returned", pa.bool_())])), folder / "2.parquet")  # fmt: skip
    for threads, rows, passes in ((1, 65_536, None), (2, 1_001, 3), (3, 64, 7)):
        monkeypatch.setattr(view, "THREADS", threads)
        monkeypatch.setattr(view, "BATCH_ROWS", rows)
        monkeypatch.setattr(files, "BATCH_ROWS", rows)
        changed = VIEW.model_copy(update={"passes": passes})
        assert features_of(with_view(bare_unit, changed, path=str(folder), format="parquet")) == expected
        assert features_of(with_view(bare_unit, changed, path=f"{folder}/*.parquet", format="parquet")) == expected


def test_a_moment_has_the_date_that_it_has_in_utc(bare_unit: NodeHome) -> None:
    moment = dt.datetime(2011, 12, 1, 23, 30, tzinfo=dt.timezone(-dt.timedelta(hours=5)))
    for kind in (pa.timestamp("ms", "UTC"), pa.timestamp("us", "America/New_York"), pa.timestamp("ns", "+09:00")):
        cells = event_cells.event_cells(pa.array([moment, None]).cast(pa.timestamp("us", "UTC")).cast(kind), Kind.DATE)
        assert cells.to_pylist() == ["2011-12-02", None]


# What the unit is told beforehand


def test_the_check_counts_customers_and_events_without_one(unit: NodeHome) -> None:
    found = inspect_source(unit, [NumericFeature("recency", 0, 10, 5), NumericFeature("monetary", 0, 10, 5)])
    assert (found.rows, found.customers, found.duplicates, found.without_key) == (2, 2, 0, 1)
    assert found.outside == {"recency": 1, "monetary": 1}


@pytest.mark.parametrize(
    "event", [b"x,1,soon,1,no\n", b"x,1,2011-01-01,verysecret,no\n", b"x,1,2011-01-01,1,verysecret\n",
              b"x,1,2011-02-30,1,no\n", b"x,1,2011-01-01,99999999999,no\n", b"x,1,2011-01-01,inf,no\n"]
)  # fmt: skip
def test_an_event_that_cannot_be_read_is_refused_beforehand_and_not_repeated(unit_with: UnitWith, event: bytes) -> None:
    home = with_view(unit_with(HEADER + EVENTS + event))
    with pytest.raises(DataError, match="holds something else than") as refused:
        inspect_source(home, [NumericFeature("recency", 0, 10, 5)])
    assert "verysecret" not in f"{refused.value} {refused.value.fix}"
    assert features_of(home)


def test_empty_cells_are_missing_and_no_mistake(unit_with: UnitWith) -> None:
    home = with_view(unit_with(HEADER + EVENTS + b"x,,,,\nx,1,2011-01-01,nan,no\n"))
    assert inspect_source(home, [NumericFeature("recency", 0, 10, 5)]).rows == 3


def test_a_column_that_the_events_lack_is_named(unit_with: UnitWith) -> None:
    home = with_view(unit_with(b"customer,invoice,day,returned\n"))
    with pytest.raises(MissingColumnError, match="no column 'amount'"):
        open_source(home, numbers("recency"))


def test_a_feature_that_the_view_lacks_is_named(unit: NodeHome) -> None:
    with pytest.raises(MissingColumnError, match="no column 'age'"):
        open_source(unit, numbers("age"))


@pytest.mark.parametrize(
    ("name", "cells"), [("amount", [True]), ("day", [1.5]), ("invoice", [1.5]), ("returned", [[1]])]
)
def test_a_column_of_another_type_is_refused_whoever_is_in_it(
    bare_unit: NodeHome, tmp_path: Path, name: str, cells: list[Any]
) -> None:
    table = shop(1, 1)
    pq.write_table(table.set_column(table.schema.names.index(name), name, pa.array(cells)), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=f"column '{name}' is of a type that holds no"):
        open_source(with_view(bare_unit, path=str(tmp_path), format="parquet"), numbers("recency"))


def test_an_expression_that_is_not_allowed_stops_before_anything_is_read(unit: NodeHome) -> None:
    wrong = VIEW.model_copy(update={"features": {"recency": "date_diff('day', max(day), current_date)"}})
    with pytest.raises(ViewError, match="feature recency"):
        open_source(with_view(unit, wrong, path="nowhere.csv"), numbers("recency"))


def test_a_type_that_does_not_exist_is_refused(unit: NodeHome) -> None:
    wrong = VIEW.model_copy(update={"columns": {"amount": "double"}})
    with pytest.raises(ViewError, match="column amount"):
        open_source(with_view(unit, wrong), numbers("recency"))


def test_texts_and_answers_can_be_features(unit: NodeHome) -> None:
    features = {"invoice": "max(invoice)", "often": "count(*) > 2"}
    home = with_view(unit, VIEW.model_copy(update={"features": features}))
    columns = Column("invoice", ColumnType.TEXT), Column("often", ColumnType.TRUTH)
    (batch,) = open_source(home, columns).batches()
    assert sorted(zip(*(one.to_pylist() for one in batch.columns[1:]), strict=True)) == [(b"4", False), (b"C3", True)]


def test_a_plan_that_wants_a_date_gets_none(unit: NodeHome) -> None:
    home = with_view(unit, VIEW.model_copy(update={"features": {"last": "max(day)"}}))
    with pytest.raises(DataError, match="holds no numbers"):
        open_source(home, numbers("last"))


def test_all_events_of_a_person_are_shown_to_that_person(unit: NodeHome) -> None:
    found = rows_of(unit, subject_key(b"b", unit.subject_secret))
    assert [one["invoice"] for one in found] == ["4", "5"]
    assert found[0] == {"customer": "b", "invoice": "4", "day": "2011-11-10", "amount": "5", "returned": "no"}


# The engine's confinement


def engine_of(unit: NodeHome) -> FeatureView:
    rows = files.Files(unit.path / CUSTOMERS_FILE, "csv")
    return FeatureView(rows, "customer", VIEW)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/leak.csv'",
        "ATTACH '/tmp/leak.duckdb' AS leak",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET temp_directory = '/tmp'",
        "SELECT * FROM secret_table",
    ],
)
def test_the_engine_has_no_files_no_network_and_no_way_to_get_them(unit: NodeHome, statement: str) -> None:
    secret_table = pa.table({"a": [1]})  # what the engine would otherwise find by its name in this program
    with engine_of(unit)._engine() as engine, pytest.raises(duckdb.Error):
        engine.execute(statement)
    assert secret_table.num_rows == 1


def test_what_does_not_fit_into_memory_is_an_error_with_a_cure_and_leaves_nothing_on_disk(
    bare_unit: NodeHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(
        pa.table({"customer": [f"c{number}" for number in range(450_000)]} | {
            name: pa.array([value] * 450_000) for name, value in
            {"invoice": "a rather long invoice number, all the same", "day": dt.date(2011, 1, 1), "amount": 1, "returned": False}.items()}),
        tmp_path / "events.parquet",
    )  # fmt: skip
    small = VIEW.model_copy(update={"memory_mb": 64})
    place = {"path": str(tmp_path / "events.parquet"), "format": "parquet"}
    with pytest.raises(DataError, match="do not fit") as refused:
        features_of(with_view(bare_unit, small, **place))
    assert "passes" in refused.value.fix
    passes = small.model_copy(update={"passes": 8})
    table = open_source(with_view(bare_unit, passes, **place), numbers("frequency"))
    assert sum(batch.num_rows for batch in table.batches()) == 450_000
    assert [one.name for one in tmp_path.iterdir()] == ["events.parquet"]


def test_a_failure_to_read_the_events_is_said_as_such(unit: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    table = open_source(unit, numbers("recency"))
    (unit.path / CUSTOMERS_FILE).unlink()
    with pytest.raises(DataError, match="No such file"):
        list(table.batches())


def test_the_engines_own_text_is_not_repeated(unit: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(_: FeatureView, schema: pa.Schema, failed: object) -> Iterator[pa.RecordBatch]:
        yield schema.empty_table().to_batches()[0]
        raise pa.ArrowInvalid("verysecret")

    monkeypatch.setattr(FeatureView, "_batches", batches)
    with pytest.raises(DataError, match="refused with") as refused:
        features_of(unit)
    assert "verysecret" not in f"{refused.value} {refused.value.fix}"


def test_a_unit_without_the_extra_is_told_what_to_install(unit: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fedseg.node.sources.view", None)
    with pytest.raises(SettingsError) as refused:
        open_source(unit, numbers("recency"))
    assert refused.value.fix == "pip install 'fedseg[sql]'"


def test_approvals_are_bound_to_the_view(unit: NodeHome) -> None:
    other = with_view(unit, VIEW.model_copy(update={"where": None}))
    assert unit.source_sha256 != other.source_sha256


def test_settings_without_a_view_are_bound_as_before() -> None:
    source = SourceSettings(path="LOCAL/customers.csv", format="csv", subject="customer")
    assert source.facts() == {"path": "LOCAL/customers.csv", "format": "csv", "subject": "customer", "columns": {}}
