"""Customers and events in Spark: the bits that a file gives, the integers of a round whatever fails, and no way out."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
import pytest
from numpy.typing import NDArray

from fedseg.clustering.encode import encode
from fedseg.clustering.request import request_sha256
from fedseg.clustering.statistics import summarize
from fedseg.columns import numbers
from fedseg.deploy.users import caller, confined
from fedseg.errors import DataError, MissingColumnError, StorageError
from fedseg.node.approvals import approve
from fedseg.node.contribute import contribute
from fedseg.node.gate import decide_now
from fedseg.node.home import NodeHome
from fedseg.node.rights import source_erasure
from fedseg.node.source import inspect_source, open_source, rows_of, subject_key
from fedseg.node.sources import spark_tasks
from fedseg.node.sources.settings import ViewSettings
from fedseg.policy.document import load_policy
from fedseg.policy.gate import admit
from fedseg.privacy.noise import SimulatedNoise
from tests.shop_events import COLUMNS, VIEW, rows, shop, shuffled, with_source
from tests.small_federation import NOW, SmallFederation, make_federation, make_unit, policy_document, some_request
from tests.spark_server import TOKEN, SparkServer, running_spark

pytestmark = pytest.mark.extras

TOKEN_FILE = "LOCAL/spark-token"
EVENTS, CUSTOMERS = 10_000, 700


@pytest.fixture(scope="module")
def server() -> Iterator[SparkServer]:
    with running_spark() as found:
        yield found


@pytest.fixture(scope="module")
def bare_unit(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    path = tmp_path_factory.mktemp("spark") / "unit"
    return make_unit(path, "unit", consenting=(), customers=b"", policy=policy_document())


def in_spark(home: NodeHome, server: SparkServer, table: str, view: ViewSettings | None = VIEW) -> NodeHome:
    (home.path / TOKEN_FILE).write_text(f"{TOKEN}\n", encoding="utf-8")
    return with_source(home, view, path=server.url, format="spark", table=table, token=TOKEN_FILE)


def in_csv(home: NodeHome, path: Path, table: pa.Table, view: ViewSettings | None = VIEW) -> NodeHome:
    pc_csv.write_csv(table, path)
    return with_source(home, view, path=str(path), format="csv")


@pytest.fixture(scope="module")
def shop_table(server: SparkServer) -> str:
    return server.new_table(shuffled(shop(EVENTS, CUSTOMERS), 1), group_rows=EVENTS // 7)


def test_features_of_events_in_spark_are_those_of_a_file_to_the_bit(
    bare_unit: NodeHome, tmp_path: Path, server: SparkServer, shop_table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows(in_csv(bare_unit, tmp_path / "events.csv", shop(EVENTS, CUSTOMERS)))
    assert len(expected) == CUSTOMERS
    for passes, batch_rows in ((None, 16_384), (5, 61)):
        monkeypatch.setattr("fedseg.node.sources.spark.BATCH_ROWS", batch_rows)
        view = VIEW.model_copy(update={"passes": passes})
        assert rows(in_spark(bare_unit, server, shop_table, view)) == expected


def test_without_one_customer_every_other_row_is_the_same(
    bare_unit: NodeHome, server: SparkServer, shop_table: str
) -> None:
    table = shop(EVENTS, CUSTOMERS)
    fewer = server.new_table(table.filter(pa.array([one != "c7" for one in table["customer"].to_pylist()])))
    gone = repr(subject_key(b"c7", bare_unit.subject_secret))
    expected = [row for row in rows(in_spark(bare_unit, server, shop_table)) if row[0] != gone]
    assert len(expected) == CUSTOMERS - 1
    assert rows(in_spark(bare_unit, server, fewer)) == expected


def test_a_table_with_one_row_a_customer_needs_no_view(
    bare_unit: NodeHome, tmp_path: Path, server: SparkServer, shop_table: str
) -> None:
    columns = numbers("amount", "price")
    expected = rows(in_csv(bare_unit, tmp_path / "events.csv", shop(EVENTS, CUSTOMERS), None), columns)
    home = in_spark(bare_unit, server, shop_table, None)
    assert rows(home, columns) == expected
    person = subject_key(b"c3", home.subject_secret)
    assert {one["customer"] for one in rows_of(home, person)} == {"c3"}
    with pytest.raises(StorageError, match="the database still holds rows"):
        source_erasure.erase_rows(home, {person})


def test_what_cannot_be_read_is_found_before_approval_and_missing_in_a_round(
    bare_unit: NodeHome, server: SparkServer, federation: SmallFederation
) -> None:
    table = pa.table({"customer": ["a", "a", None, "b"], "visits": ["1", "many", "3", "4"], "spend": [1.0, 2, 3, 4]})
    view = ViewSettings(
        columns={"visits": "integer", "spend": "decimal(9,2)"},
        features={"visits": "sum(visits)", "spend": "sum(spend)"},
    )
    home = in_spark(bare_unit, server, server.new_table(table), view)
    assert sorted(row[1:] for row in rows(home, numbers("visits", "spend"))) == [("1.0", "3.0"), ("4.0", "4.0")]
    with pytest.raises(DataError, match="'visits' holds something else than integer"):
        inspect_source(home, federation.plan.encoders)
    readable = in_spark(
        bare_unit, server, server.new_table(table.set_column(1, "visits", [["1", "2", "3", "4"]])), view
    )
    check = inspect_source(readable, federation.plan.encoders)
    assert (check.customers, check.without_key) == (2, 1)


# Rounds


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    return make_federation(tmp_path_factory.mktemp("spark") / "federation", {"north": 60, "south": 50})


@pytest.fixture(scope="module")
def customers(federation: SmallFederation, server: SparkServer) -> NodeHome:
    """The unit whose file has moved to Spark."""
    home = federation.home("north")
    table = pc_csv.read_csv(home.path / home.settings.source.path)
    return in_spark(home, server, server.new_table(table, group_rows=13), None)


def exact(federation: SmallFederation, home: NodeHome) -> NDArray[np.int64]:
    """What the unit would release without noise."""
    plan, policy = federation.plan, load_policy(home.policy_document())
    with home.register() as register:
        decisions = decide_now(home, register, policy, plan.purpose, NOW)
    request, lattice = some_request(plan, 0), plan.terms[0].lattice
    if home.settings.source.format == "spark":
        from fedseg.node.sources.spark_sums import sum_in_spark

        return sum_in_spark(home, plan.encoders, decisions, request, lattice)._values
    table = admit(open_source(home, [one.column for one in plan.encoders]), decisions, policy, plan.purpose)
    return summarize(encode(table, plan.encoders), request, lattice)._values


def test_sums_made_in_sparks_tasks_are_the_integers_of_a_file(
    federation: SmallFederation, customers: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = exact(federation, federation.home("north"))
    assert np.count_nonzero(expected)
    assert np.array_equal(exact(federation, customers), expected)
    monkeypatch.setattr("fedseg.node.sources.spark_sums.LINES_AT_ONCE", 30)
    view = ViewSettings(
        columns={"customer": "text", "visits": "decimal(9,3)", "spend": "decimal(9,3)"},
        features={"visits": "sum(visits)", "spend": "sum(spend)"},
        passes=5,
    )
    settings = customers.settings.source.model_copy(update={"view": view})
    of_events = replace(customers, settings=customers.settings.model_copy(update={"source": settings}))
    assert np.array_equal(exact(federation, of_events), expected)


def test_a_task_that_is_killed_and_started_again_counts_once(
    federation: SmallFederation, customers: NodeHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, killed = spark_tasks.sums, str(tmp_path)

    def dies_once(batches: Iterator[pa.RecordBatch], *, count: Any) -> Iterator[pa.RecordBatch]:
        import pathlib

        found = list(real(batches, count=count))
        mark = pathlib.Path(killed, str(found[0].column(0)[0].as_py()))
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), 9)
        yield from found

    monkeypatch.setattr(spark_tasks, "sums", dies_once)
    expected = exact(federation, federation.home("north"))
    assert np.array_equal(exact(federation, customers), expected)
    assert len(list(tmp_path.iterdir())) == 2, "each of the two parts had a task that was killed"


def test_a_part_that_answers_twice_is_refused_and_not_counted_twice(
    federation: SmallFederation, customers: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = spark_tasks.sums

    def twice(batches: Iterator[pa.RecordBatch], *, count: Any) -> Iterator[pa.RecordBatch]:
        for answer in real(batches, count=count):
            yield from (answer, answer)

    monkeypatch.setattr(spark_tasks, "sums", twice)
    with pytest.raises(DataError, match="answered more than once") as refused:
        exact(federation, customers)
    assert type(refused.value) is DataError


def test_a_task_that_fails_each_time_is_a_data_error_without_its_own_text(
    federation: SmallFederation, customers: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(batches: Iterator[pa.RecordBatch], *, count: Any) -> Iterator[pa.RecordBatch]:
        raise ValueError("north-7 bought a ring")

    monkeypatch.setattr(spark_tasks, "sums", fails)
    with pytest.raises(DataError, match="cannot be read in Spark") as refused:
        exact(federation, customers)
    assert "north-7" not in f"{refused.value} {refused.value.why} {refused.value.fix}"


def test_a_unit_with_spark_approves_and_answers(federation: SmallFederation, customers: NodeHome) -> None:
    plan, request = federation.plan, some_request(federation.plan, 0)
    assert approve(customers, plan, federation.document, now=NOW) is not None
    digest = request_sha256(plan.digest, request)
    release = contribute(customers, plan.digest, request, digest, now=NOW, source=SimulatedNoise(1))
    again = contribute(customers, plan.digest, request, digest, now=NOW, source=SimulatedNoise(2))
    assert release.payload == again.payload


# What it is not


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("CREATE VIEW shop.shown AS SELECT * FROM {}", "shop.shown"),
        ("CREATE TABLE shop.lines (customer STRING) USING csv", "shop.lines"),
        ("CREATE TABLE shop.read USING jdbc OPTIONS (url 'jdbc:x:y', dbtable '(SELECT 1)', driver 'x')", "shop.read"),
    ],
    ids=["a view", "lines of text", "another database"],
)
def test_what_may_be_any_query_is_refused(
    bare_unit: NodeHome, server: SparkServer, shop_table: str, statement: str, table: str
) -> None:
    from pyspark.errors import PySparkException

    try:
        server.run(statement.format(shop_table))
    except (DataError, PySparkException):
        assert "jdbc" in statement, "Spark asks the other database for its columns, and there is none"
    with pytest.raises(DataError) as refused:
        open_source(in_spark(bare_unit, server, table), COLUMNS)
    assert type(refused.value) is DataError


def test_a_column_that_the_table_lacks_is_named(bare_unit: NodeHome, server: SparkServer, shop_table: str) -> None:
    with pytest.raises(MissingColumnError, match="'visits'"):
        open_source(in_spark(bare_unit, server, shop_table, None), numbers("visits"))


def test_nobody_is_let_in_without_the_token(bare_unit: NodeHome, server: SparkServer, shop_table: str) -> None:
    home = in_spark(bare_unit, server, shop_table, None)
    (home.path / TOKEN_FILE).write_text("another", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read in Spark"):
        open_source(home, numbers("amount"))


def test_where_nobody_listens_it_is_said_at_once(bare_unit: NodeHome, tmp_path: Path) -> None:
    home = with_source(bare_unit, path=f"unix:{tmp_path}/x.sock", format="spark", table="shop.events")
    with pytest.raises(DataError, match="cannot be read in Spark") as refused:
        open_source(home, COLUMNS)
    assert "FileNotFoundError" in refused.value.why


def test_it_works_without_any_network_as_in_a_node(bare_unit: NodeHome, server: SparkServer, shop_table: str) -> None:
    home = in_spark(bare_unit, server, shop_table, None)
    script = (
        "from pathlib import Path; from fedseg.node.sources.spark import SparkTable;"
        f"table = SparkTable(Path({str(server.socket)!r}), {shop_table!r}, Path({str(home.path / TOKEN_FILE)!r}));"
        "print(sum(batch.num_rows for batch in table.read(['amount'])))"
    )
    done = subprocess.run(
        [*confined(caller(), network=False), sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == (f"{EVENTS}\n", 0), done.stderr
