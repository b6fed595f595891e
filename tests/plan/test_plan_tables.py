"""Public tables stand in the plan by their hash, and plans without any are what they were."""

from typing import Any

import pytest
import tomli_w

from fedseg.cli.plan_facts import describe, plan_facts
from fedseg.errors import PlanError
from fedseg.ledger.canonical import MAX_INTEGER
from fedseg.plan import changed_terms, parse_plan
from tests.plan.test_plan import plan_of, terms

TABLE = {"name": "postcodes", "label": "postal regions, from the post office", "sha256": "ab" * 32}


def test_a_plan_without_tables_keeps_the_hash_that_it_had_before_there_were_any() -> None:
    assert plan_of().digest == plan_of(tables=[]).digest
    assert plan_of().digest == "e3d710cd3e7db27d2f193a6baf6ded6389a31cd3cb067589d86094389abb77db"


@pytest.mark.parametrize("change", [{"name": "codes"}, {"label": "other"}, {"sha256": "0" * 64}])
def test_everything_about_a_table_is_in_the_digest(change: dict[str, str]) -> None:
    without, agreed, other = plan_of(), plan_of(tables=[TABLE]), plan_of(tables=[TABLE | change])
    assert len({without.digest, agreed.digest, other.digest}) == 3
    assert (
        changed_terms(agreed, other) == changed_terms(without, agreed) == changed_terms(agreed, without) == ["tables"]
    )


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ([TABLE, TABLE | {"sha256": "0" * 64}], "each table may be named once"),
        ([TABLE | {"sha256": "AB" * 32}], "tables.0.sha256"),
        ([TABLE | {"sha256": "ab"}], "tables.0.sha256"),
        ([TABLE | {"label": "<b>"}], "tables.0.label"),
        ([TABLE | {"name": "Post codes"}], "tables.0.name"),
        ([TABLE | {"rows": MAX_INTEGER}], "tables.0.rows"),
        ([TABLE | {"name": f"t{number}"} for number in range(65)], "tables"),
    ],
)
def test_what_is_no_table_is_refused(tables: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(PlanError) as refused:
        parse_plan(tomli_w.dumps(terms(tables=tables)).encode())
    assert why in refused.value.why


def test_whoever_decides_sees_the_tables() -> None:
    assert plan_facts(plan_of(tables=[TABLE]))["tables"] == [TABLE]
    assert plan_facts(plan_of())["tables"] == []
    shown = describe(plan_of(tables=[TABLE]))
    for words in TABLE.values():
        assert words in shown
    assert "public table" not in describe(plan_of())
