"""A proposal is made from names and types alone, says what people must decide, and is a plan once they have."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import DataError, PlanError
from fedseg.ledger.keys import SigningKey
from fedseg.plan import parse_plan
from fedseg.proposal.document import propose, undecided
from fedseg.proposal.features import TO_DECIDE, LeftOut, ProposedFeature, propose_feature
from fedseg.proposal.schema import Holds, SchemaColumn, holds, read_schema

HEADER = b"customer_id,recency_days,gross_monetary,country,is_member,visit_hour,foo\n"

DECISIONS: Mapping[str, Any] = {
    "kind": "binary",
    "lower": 0,
    "upper": 10,
    "missing": 5,
    "start": 0,
    "vocabulary": ["a", "b"],
    "expected_customers": 20_000,
}


def decided(text: str) -> bytes:
    """The plan as it is when people have decided everything."""
    terms = tomllib.loads(text)
    terms["algorithm"] = _decide(terms["algorithm"])
    terms["features"] = [_decide(feature) for feature in terms["features"]]
    keys = [SigningKey.generate().public.to_text() for _ in terms["units"]]
    terms["units"] = [unit | {"public_key": key} for unit, key in zip(terms["units"], keys, strict=True)]
    return tomli_w.dumps(terms).encode()


def _decide(terms: dict[str, Any]) -> dict[str, Any]:
    return {key: DECISIONS[key] if value == TO_DECIDE else value for key, value in terms.items()}


def proposed(name: str, kind: Holds = Holds.UNKNOWN) -> ProposedFeature:
    found = propose_feature(SchemaColumn(name, kind))
    assert isinstance(found, ProposedFeature), found
    return found


# Only names and types


def test_the_rows_of_a_csv_file_change_nothing(tmp_path: Path) -> None:
    texts = set()
    for rows in (b"", b"7,3,99.5,FR,yes,14,x\n", b'\xff\xfe\x00 garbage "\n' * 1000):
        path = tmp_path / "customers.csv"
        path.write_bytes(HEADER + rows)
        texts.add(propose(read_schema(path), k=5, units=2, customers=None).text)

    assert len(texts) == 1


def test_not_a_byte_behind_the_first_line_of_a_csv_file_is_read(tmp_path: Path) -> None:
    pipe, rows = tmp_path / "customers.csv", b"C-1,3,99.5,FR,yes,14,x\n"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    try:
        os.write(end, HEADER + rows)
        names = [column.name for column in read_schema(pipe)]
        left = os.read(end, 1000)
    finally:
        os.close(end)

    assert names == HEADER.decode().strip().split(",")
    assert left == rows


def test_the_pages_of_a_parquet_file_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "customers.parquet"
    pq.write_table(pa.table({"visits": [1, 2, 3] * 1000, "spend": [0.5] * 3000}), path, compression="none")
    intact = propose(read_schema(path), k=5, units=2, customers=None).text
    whole = path.read_bytes()
    start = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    path.write_bytes(whole[:start] + b"\xaa" * 500 + whole[start + 500 :])
    with pytest.raises(OSError, match=r".*"):
        pq.read_table(path)

    assert propose(read_schema(path), k=5, units=2, customers=None).text == intact


@pytest.mark.parametrize(
    "first_line", [b"1042,17,99.5\n", b"a@example.com,b\n", b"2024-01-05,x\n", b"a,,b\n", b"a,a\n", b""]
)
def test_a_file_whose_first_line_is_no_header_is_refused_without_repeating_it(
    tmp_path: Path, first_line: bytes
) -> None:
    path = tmp_path / "customers.csv"
    path.write_bytes(first_line)

    with pytest.raises(DataError) as raised:
        read_schema(path)

    assert not any(part in str(raised.value) for part in ("1042", "example", "2024"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("customers.xlsx", b"PK"),
        ("customers.parquet", b"PAR1 but not really"),
        ("customers.csv", b"\xff\xfe\xfd\n"),
        ("customers.csv", b'a,"b\n'),
        ("schema.toml", b"visits = 3"),
        ("schema.toml", b"visits ="),
        ("schema.json", b'["visits"]'),
        ("schema.json", b"{"),
        ("schema.json", b"{}"),
    ],
)
def test_a_file_that_lists_no_columns_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DataError, match="cannot be read"):
        read_schema(path)


def test_every_kind_of_file_gives_the_same_columns(tmp_path: Path) -> None:
    wanted = (
        SchemaColumn("visits", Holds.NUMBER),
        SchemaColumn("country", Holds.TEXT),
        SchemaColumn("vip", Holds.TRUTH),
    )
    (tmp_path / "a.toml").write_text('visits = "bigint"\ncountry = "varchar(2)"\nvip = "boolean"\n', encoding="utf-8")
    (tmp_path / "a.json").write_text('{"visits": "int64", "country": "string", "vip": "bool"}', encoding="utf-8")
    table = pa.table({"visits": [1], "country": pa.array(["x"]).dictionary_encode(), "vip": [True]})
    pq.write_table(table, tmp_path / "a.parquet")

    assert [read_schema(tmp_path / f"a.{suffix}") for suffix in ("toml", "json", "parquet")] == [wanted] * 3


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        (Holds.NUMBER, "int64 uint8 smallint double float halffloat decimal128(10,2) numeric(8) NUMBER real bigint"),
        (
            Holds.TEXT,
            "string large_string utf8 varchar(20) nvarchar char(3) text binary fixed_size_binary[16] string_view",
        ),
        (Holds.TRUTH, "bool boolean BIT"),
        (Holds.TIME, "date32[day] timestamp[us] datetime2 time64[ns] duration[s] date"),
        (Holds.NESTED, "list<item:int64> struct<a:int64> map<string,int64> json jsonb"),
        (Holds.UNKNOWN, "interesting boolish geometry null"),
    ],
)
def test_types_of_arrow_and_of_databases_are_known(kind: Holds, types: str) -> None:
    assert {name: holds(name) for name in types.split()} == dict.fromkeys(types.split(), kind)


# What becomes of a column


@pytest.mark.parametrize(
    ("name", "kind", "key", "value"),
    [
        ("days_since_last_purchase", "numeric", "high_word", "lapsed"),
        ("total_orders", "numeric", "upper", 10_000),
        ("TotalCharges", "numeric", "transform", "log1p"),
        ("sales_channel", "categorical", "vocabulary", TO_DECIDE),
        ("has_orders", "binary", "label", "has orders"),
        ("spend_last_month", "numeric", "upper", 1_000_000),
        ("visit_hour", "cyclic", "period", 24),
        ("day_of_week", "cyclic", "start", TO_DECIDE),
        ("postcode", "region", "vocabulary", TO_DECIDE),
        ("age", "numeric", "upper", 120),
        ("return_rate", "numeric", "upper", 1),
        ("account_balance", "numeric", "lower", TO_DECIDE),
        ("foo", TO_DECIDE, "label", "foo"),
    ],
)
def test_names_hint_at_kinds(name: str, kind: str, key: str, value: object) -> None:
    found = proposed(name)

    assert (found.terms["kind"], found.terms[key]) == (kind, value)


def test_types_go_before_names() -> None:
    assert proposed("orders", Holds.TRUTH).terms["kind"] == "binary"
    assert proposed("orders", Holds.TEXT).terms["kind"] == "categorical"
    assert proposed("foo", Holds.NUMBER).terms["lower"] == TO_DECIDE
    assert isinstance(propose_feature(SchemaColumn("orders", Holds.TIME)), LeftOut)
    assert isinstance(propose_feature(SchemaColumn("orders", Holds.NESTED)), LeftOut)


@pytest.mark.parametrize(
    "name", ["customer_id", "CustomerNumber", "email", "first_name", "street", "birthdate", "religion", "created_at"]
)
def test_what_names_or_exposes_customers_is_left_out(name: str) -> None:
    assert isinstance(propose_feature(SchemaColumn(name)), LeftOut)


# What a proposal is


def test_a_proposal_is_refused_until_everything_is_decided_and_then_used() -> None:
    columns = [SchemaColumn(name) for name in HEADER.decode().strip().split(",")]

    made = propose(columns, k=5, units=2, customers=None)

    assert made.to_decide == (
        "algorithm.expected_customers",
        "features.country.vocabulary",
        "features.foo.kind",
        "units.unit-1.public_key",
        "units.unit-2.public_key",
    )
    assert dict(made.left_out) == {"customer_id": "it names customers"}
    with pytest.raises(PlanError):
        parse_plan(made.text.encode())
    plan = parse_plan(decided(made.text))
    assert (plan.k, len(plan.units), plan.quorum, plan.max_units_per_customer) == (5, 2, 2, 2)


NAMES = st.text(max_size=80) | st.sampled_from(
    ["spend", "zip", "weekday", "is_x", "x" * 200, 'a"\n[units]\nk = 1', "a\\u0000b"]
)


@given(
    st.lists(
        st.builds(SchemaColumn, NAMES, st.sampled_from(Holds)), min_size=1, max_size=8, unique_by=lambda one: one.name
    )
)
def test_columns_of_any_name_give_a_plan_once_decided(columns: list[SchemaColumn]) -> None:
    try:
        made = propose(columns, k=3, units=2, customers=100_000)
    except DataError:
        assert all(isinstance(propose_feature(column), LeftOut) for column in columns)
        return

    plan = parse_plan(decided(made.text))

    assert tuple(feature.name for feature in plan.features) == made.features
    assert len(made.features) + len(made.left_out) == len(columns)
    assert plan.k == 3


@given(
    st.lists(
        st.builds(SchemaColumn, NAMES, st.sampled_from(Holds)), min_size=1, max_size=8, unique_by=lambda one: one.name
    )
)
def test_no_plan_with_something_to_decide_is_ever_used(columns: list[SchemaColumn]) -> None:
    columns = [*columns, SchemaColumn("spend")]
    made = propose(columns, k=3, units=1, customers=100_000)
    terms = tomllib.loads(decided(made.text).decode())

    for place in made.to_decide:
        for key, value in (("upper", TO_DECIDE), ("vocabulary", TO_DECIDE), ("kind", TO_DECIDE), ("start", TO_DECIDE)):
            if place.endswith(f".{key}"):
                broken = [
                    one | ({key: value} if f"features.{one['name']}.{key}" == place else {})
                    for one in terms["features"]
                ]
                with pytest.raises(PlanError):
                    parse_plan(tomli_w.dumps(terms | {"features": broken}).encode())


def test_every_remark_stands_in_a_comment() -> None:
    made = propose([SchemaColumn("Umsatz (EUR)"), SchemaColumn("zip")], k=4, units=1, customers=None)

    lines = [line for line in made.text.splitlines() if TO_DECIDE in line and not line.startswith("#")]
    assert all(re.search(r"  # \w", line) for line in lines)
    assert 'name = "Umsatz_EUR"  # the tables call it otherwise' in made.text


@pytest.mark.parametrize("document", [b"\xff", b"k = ", b"k = 3", b"[" * 100_000])
def test_only_a_toml_file_that_says_so_has_something_to_decide(document: bytes) -> None:
    assert undecided(document) == ()
