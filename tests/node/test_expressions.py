"""Feature expressions: what is not on the list is refused, and nothing of the text reaches the engine."""

import re
from contextlib import suppress

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.errors import ViewError
from fedseg.node.sources.cell_types import DATE, TEXT, TRUTH, CellType, Kind, common, parse_cell_type
from fedseg.node.sources.expression_parts import Level
from fedseg.node.sources.expressions import compile_condition, compile_feature

COLUMNS = {
    "order": TEXT,
    "day": DATE,
    "amount": parse_cell_type("decimal(9,2)"),
    "pieces": parse_cell_type("integer"),
    "returned": TRUTH,
    "Unit Price": parse_cell_type("decimal(7,3)"),
}

ALLOWED = [
    "count(*)",
    "count(order)",
    "count(distinct order)",
    "count(distinct day)",
    "sum(amount)",
    "min(day) - date '2011-12-10'",
    "date '2011-12-10' - max(day)",
    "date_diff('day', max(day), date '2011-12-10')",
    "datediff('DAY', max(day), min(day))",
    "avg(amount)",
    "avg(amount) filter (where not returned)",
    "sum(amount) / count(*)",
    "sum(case when returned then -amount else amount end)",
    "sum(case when returned then amount end)",
    "sum(if(returned, 1, 0))",
    "coalesce(sum(amount) filter (where amount > 0), 0)",
    "sum(cast(amount * pieces as decimal(18,2)))",
    "sum(cast(amount as integer))",
    'max("Unit Price")',
    'sum(amount * "Unit Price")',
    "count(*) filter (where order like 'C%' or order is null)",
    "count(*) filter (where day between date '2011-01-01' and date '2011-12-31')",
    "count(*) filter (where order in ('A', 'B') and order not in ('it''s'))",
    "max(order) = 'x'",
    "greatest(sum(amount), 0) + least(count(*), 5) - abs(min(amount))",
    "nullif(sum(amount), 0)",
    "max(amount) >= 1.50 and true",
    "sum(amount) filter (where amount <> -2.5 and pieces <= 3 and pieces >= 1 and pieces < 4)",
    "CASE WHEN count(*) > 3 THEN 'often' WHEN count(*) = 1 THEN 'once' ELSE NULL END",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_what_is_on_the_list_becomes_one_value_a_customer(text: str) -> None:
    compiled = compile_feature("f", text, COLUMNS)
    assert compiled.level is Level.CUSTOMER
    bare = re.sub(r"'[^']*'", "", compiled.sql)
    assert not re.search(r"order|day\b(?!')|amount|pieces|returned|Unit", bare.replace("date_diff", ""))


REFUSED = {
    "a window": "sum(amount) over (partition by order)",
    "an empty window": "sum(amount) over ()",
    "a rank": "row_number() over (order by amount)",
    "a sub-query": "(select max(day) from events) - max(day)",
    "a sub-query in a list": "count(*) filter (where order in (select order from events))",
    "exists": "count(*) filter (where exists (select 1))",
    "a query": "select sum(amount) from events",
    "a join": "sum(a.amount) from events a join events b on true",
    "a union": "select 1 union select 2",
    "chance": "sum(amount) + random()",
    "chance by another name": "sum(amount) + rand()",
    "a seed": "setseed(0.5)",
    "a sample": "reservoir_quantile(amount, 0.5)",
    "the clock": "date_diff('day', max(day), now())",
    "today": "date_diff('day', max(day), current_date)",
    "today, as a function": "date_diff('day', max(day), today())",
    "now, as a literal": "date_diff('day', max(day), date 'now')",
    "now, as a timestamp": "max(day) - timestamp '2011-12-10'",
    "a function nobody knows": "getenv('HOME')",
    "a file": "count(*) filter (where order in (select * from read_csv('/etc/passwd')))",
    "a pragma": "pragma version",
    "attach": "attach 'x.db'",
    "a copy": "copy events to 'x'",
    "two statements": "sum(amount); drop table events",
    "nothing": "",
    "a semicolon alone": ";",
    "a comment": "sum(amount) -- hello",
    "a comment inside": "sum(/* hello */ amount)",
    "a name": "sum(amount) as total",
    "a star": "*",
    "columns of a pattern": "sum(columns('.*'))",
    "another column": "sum(salary)",
    "another spelling": "sum(Amount)",
    "a table's column": "sum(events.amount)",
    "the row's number": "max(rowid)",
    "an event's column alone": "amount",
    "a literal alone": "5",
    "a column outside of an aggregate": "max(amount) - amount",
    "an aggregate within an aggregate": "sum(max(amount))",
    "an aggregate within a filter": "sum(amount) filter (where max(amount) > 3)",
    "a filter of nothing": "amount filter (where returned)",
    "a filter with two parts": "sum(amount) filter (where returned) filter (where returned)",
    "the order of rows": "first(amount)",
    "any row": "any_value(amount)",
    "the row of the largest": "arg_max(order, amount)",
    "a list": "list(order)",
    "an ordered sum": "sum(amount order by day)",
    "a sum of different ones": "sum(distinct amount)",
    "the three largest": "max(amount, 3)",
    "several columns counted": "count(distinct order, day)",
    "a percentile": "quantile_cont(amount, 0.5)",
    "a standard deviation": "stddev(amount)",
    "a floating-point sum": "sum(cast(amount as double))",
    "a float": "sum(amount::float)",
    "a division within one event": "sum(amount / pieces)",
    "a remainder": "sum(pieces % 2)",
    "a sum of texts": "sum(order)",
    "a sum of dates": "sum(day)",
    "texts and numbers": "count(*) filter (where order = 5)",
    "a date as text": "count(*) filter (where day < '2011-12-10')",
    "a number as a condition": "count(*) filter (where pieces)",
    "too many digits": "sum(pieces * pieces)",
    "too many digits of a cast": "sum(cast(amount as decimal(38,2)))",
    "too many digits together": "sum(cast(amount as decimal(18,18))) + sum(pieces) * 1000000000",
    "a number with an exponent": "sum(amount) * 1e5",
    "a long number": "sum(amount) * 1234567890123456789",
    "a date that is none": "max(day) - date '2011-02-30'",
    "an interval": "max(day) + interval 1 day",
    "months": "date_diff('month', max(day), date '2011-12-10')",
    "a cast of a text": "sum(cast(order as decimal(9,2)))",
    "a try cast": "sum(try_cast(order as integer))",
    "a date of a text": "max(cast(order as date))",
    "a pattern from a column": "count(*) filter (where order like order)",
    "a regular expression": "count(*) filter (where order ~ 'x')",
    "an escape": "count(*) filter (where order like 'x' escape '$')",
    "is true": "count(*) filter (where returned is true)",
    "a placeholder": "sum(amount) + ?",
    "a numbered placeholder": "sum(amount) + $1",
    "a struct": "{'a': sum(amount)}",
    "an array": "[sum(amount)]",
    "an index": "max(order)[1]",
    "a lambda": "list_transform([1], x -> x)",
    "a zero byte": "count(*) filter (where order = 'a\0')",
    "a case of a value": "case max(order) when 'a' then 1 end",
    "nothing but nulls": "coalesce(null, null)",
    "a number too long to read": "sum(" + "amount + " * 400 + "amount)",
    "parentheses without end": "(" * 1500 + "sum(amount)" + ")" * 400,
    "parentheses as deep as may be": "(" * 990 + "1" + ")" * 990,
    "a quote without end": "count(*) filter (where order = 'x)",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=list(REFUSED))
def test_everything_else_is_refused_with_what_why_and_fix(text: str) -> None:
    with pytest.raises(ViewError) as refused:
        compile_feature("f", text, COLUMNS)
    assert refused.value.what == "feature f of the source's view cannot be used"
    assert refused.value.why
    assert refused.value.fix


@pytest.mark.parametrize("text", ["@", "@ @", "sum(@)"])
def test_an_operator_without_what_it_is_applied_to_is_refused(text: str) -> None:
    with pytest.raises(ViewError, match=r"missing|cannot be read"):
        compile_feature("f", text, COLUMNS)


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*ALLOWED, *REFUSED.values(), "(", ")", ",", "'", "--"]), max_size=3).map(" ".join)
)
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    with suppress(ViewError):
        compile_feature("f", text, COLUMNS)


@given(st.text(max_size=20).filter(lambda text: "\0" not in text))
def test_a_literal_is_one_text_whatever_is_in_it(text: str) -> None:
    written = "max(order) = '" + text.replace("'", "''") + "'"
    compiled = compile_feature("f", written, COLUMNS)
    literal = compiled.sql.removeprefix("(max(c0) = ").removesuffix(")")
    with duckdb.connect(":memory:") as engine:
        assert engine.execute(f"SELECT {literal}").fetchall() == [(text,)]


@pytest.mark.parametrize("text", ["amount", "sum(amount) > 3", "count(*) = 1", "order", "5", "day"])
def test_a_condition_is_about_one_event(text: str) -> None:
    with pytest.raises(ViewError, match="the condition where"):
        compile_condition(text, COLUMNS)


@pytest.mark.parametrize("text", ["day < date '2011-12-10'", "not returned and amount > 0", "true"])
def test_a_condition_says_which_events_count(text: str) -> None:
    assert compile_condition(text, COLUMNS).type == TRUTH


@pytest.mark.parametrize(
    "text", ["float", "decimal", "decimal(19,2)", "decimal(2,3)", "decimal(0,0)", "", "Text", "decimal(-1,0)"]
)
def test_a_column_of_events_has_one_of_few_types(text: str) -> None:
    with pytest.raises(ValueError, match=r"text, truth, date|digits"):
        parse_cell_type(text)


def test_what_holds_both_of_two_numbers_has_room_for_whole_and_decimals() -> None:
    one, other = CellType(Kind.EXACT, 9, 2), CellType(Kind.EXACT, 8, 5)
    assert common(one, other) == CellType(Kind.EXACT, 12, 5)
    assert common(CellType(Kind.EXACT, 38, 0), CellType(Kind.EXACT, 2, 1)) is None
