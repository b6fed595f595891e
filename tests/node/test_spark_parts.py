"""What Spark's tasks do, without Spark: the same integers from any division of the customers, or none at all."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

import fedseg
from fedseg.cli.node import _format_of, _source
from fedseg.clustering.encode import encode
from fedseg.clustering.partial import whole_of
from fedseg.clustering.statistics import summarize
from fedseg.errors import DataError, SettingsError
from fedseg.node.gate import decide_now
from fedseg.node.home import NodeHome
from fedseg.node.source import open_source
from fedseg.node.sources import spark_tasks
from fedseg.node.sources.settings import SourceSettings, ViewSettings
from fedseg.node.sources.spark_parts import PART, decided, each_once
from fedseg.node.sources.spark_tasks import Count
from fedseg.policy.document import load_policy
from fedseg.policy.gate import Decisions, admit
from fedseg.table import SUBJECT_TYPE
from tests.small_federation import NOW, SmallFederation, blobs, names_of, some_request

SOCKET = "unix:/run/fedseg-spark/connect.sock"
VIEW = ViewSettings(
    columns={"visits": "decimal(9,3)", "spend": "decimal(9,3)"},
    features={"visits": "sum(visits)", "spend": "sum(spend)"},
)


def rows_of(unit: str, count: int, seed: int) -> pa.Table:
    """The customers of a small federation's unit, some twice and one without a name, as a table in Spark has them."""
    rows = [(name, *point) for name, point in zip(names_of(unit, count), blobs(count, seed), strict=True)]
    names, visits, spend = zip(*rows, *rows[:9], (None, 1.0, 2.0), strict=True)
    return pa.table({"customer": names, "visits": visits, "spend": spend})


@pytest.fixture
def decisions(federation: SmallFederation) -> Decisions:
    home = federation.home("north")
    with home.register() as register:
        return decide_now(home, register, load_policy(home.policy_document()), federation.plan.purpose, NOW)


@pytest.fixture
def count(federation: SmallFederation, decisions: Decisions) -> Count:
    plan, home = federation.plan, federation.home("north")
    return Count(
        columns=("visits", "spend"),
        view=None,
        names={"visits": "visits", "spend": "spend"},
        features=plan.encoders,
        policy=home.policy_document(),
        policy_digest=decisions.policy_digest,
        purpose=plan.purpose,
        decided_at=NOW,
        request=some_request(plan, 0),
        lattice=plan.terms[0].lattice,
    )


def answers(
    home: NodeHome, table: pa.Table, decisions: Decisions, count: Count, parts: int, *, rows: int = 7
) -> list[tuple[int, bytes]]:
    """What the tasks answer that Spark would run, the parts in some order."""
    batches = table.select(["customer", *count.columns]).to_batches(max_chunksize=rows)
    keyed = list(spark_tasks.keyed(iter(batches), secret=home.subject_secret, parts=parts))
    divided = pa.concat_tables(
        [pa.Table.from_batches(keyed), *decided(decisions, parts, rows)], promote_options="default"
    )
    found: list[tuple[int, bytes]] = []
    for number in reversed(range(parts)):
        part = divided.filter(pa.compute.equal(divided[PART], number)).to_batches(max_chunksize=rows)
        for answer in spark_tasks.sums(iter(part), count=count):
            found += [(one["part"], one["sums"]) for one in answer.to_pylist()]
    return found


def added_up(found: Iterable[tuple[int, bytes]], count: Count, parts: int) -> NDArray[np.int64]:
    length = count.request.cells * count.lattice.width(2)
    return whole_of(each_once(found, parts, length), 2, count.request, count.lattice)._values


def locally(federation: SmallFederation, table: pa.Table, decisions: Decisions, count: Count) -> NDArray[np.int64]:
    """What a unit with the same rows in a file would release without noise."""
    home = federation.home("north")
    path = home.path / home.settings.source.path
    pa.csv.write_csv(table, path)
    home = replace(
        home,
        settings=home.settings.model_copy(
            update={"source": home.settings.source.model_copy(update={"view": count.view})}
        ),
    )
    opened = open_source(home, [one.column for one in count.features])
    consented = admit(opened, decisions, load_policy(home.policy_document()), count.purpose)
    return summarize(encode(consented, count.features), count.request, count.lattice)._values


@pytest.mark.parametrize("view", [None, VIEW], ids=["customers", "events"])
@pytest.mark.parametrize("parts", [1, 2, 9])
def test_any_division_among_tasks_adds_up_to_the_same_integers(
    federation: SmallFederation, decisions: Decisions, count: Count, parts: int, view: ViewSettings | None
) -> None:
    home, table, asked = federation.home("north"), rows_of("north", 60, 3), replace(count, view=view)
    expected = locally(federation, table, decisions, asked)
    assert np.count_nonzero(expected)
    for order, rows in ((table, 7), (table.take(list(reversed(range(table.num_rows)))), 1000)):
        found = answers(home, order, decisions, asked, parts, rows=rows)
        assert np.array_equal(added_up(found, asked, parts), expected)


def test_who_may_not_be_counted_is_not(federation: SmallFederation, decisions: Decisions, count: Count) -> None:
    home, table = federation.home("north"), rows_of("north", 60, 3)
    nobody = replace(decisions, codes=np.ones_like(decisions.codes))
    assert not added_up(answers(home, table, nobody, count, 3), count, 3).any()
    nothing = pa.array([], SUBJECT_TYPE)
    unknown = Decisions.over(nothing, decisions.codes[:0], NOW, decisions.purpose, decisions.policy_digest)
    assert not added_up(answers(home, table, unknown, count, 3), count, 3).any()


def test_no_row_of_a_task_names_a_customer(federation: SmallFederation) -> None:
    batch = rows_of("north", 60, 3).combine_chunks().to_batches()[0]
    (keyed,) = spark_tasks.keyed(iter([batch]), secret=federation.home("north").subject_secret, parts=4)
    assert keyed.num_rows == batch.num_rows - 1
    assert b"north" not in keyed.serialize().to_pybytes()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda found: [*found, found[0]], "answered more than once"),
        (lambda found: found[1:], "1 of 3 parts did not answer"),
        (lambda found: [(7, data) for _, data in found], "part 7 answered"),
        (lambda found: [(number, data[8:]) for number, data in found], "something else than its sums"),
    ],
    ids=["twice", "not at all", "another part", "too short"],
)
def test_parts_that_do_not_answer_once_each_are_no_sum(
    federation: SmallFederation, decisions: Decisions, count: Count, change: Any, why: str
) -> None:
    found = answers(federation.home("north"), rows_of("north", 60, 3), decisions, count, 3)
    with pytest.raises(DataError, match=why):
        added_up(change(found), count, 3)


def test_a_task_that_is_given_rows_of_two_parts_gives_no_sums(
    federation: SmallFederation, decisions: Decisions, count: Count
) -> None:
    table = rows_of("north", 60, 3).select(["customer", *count.columns])
    keyed = list(spark_tasks.keyed(iter(table.to_batches()), secret=federation.home("north").subject_secret, parts=2))
    with pytest.raises(RuntimeError, match="rows of 2 parts"):
        list(spark_tasks.sums(iter(keyed), count=count))


def test_another_version_in_a_task_does_nothing() -> None:
    touched: list[object] = []

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        touched.extend(batches)
        return iter(())

    with pytest.raises(RuntimeError, match=f"fedseg {fedseg.__version__}, and the node 99"):
        list(spark_tasks.alike(iter([pa.record_batch({})]), task=task, version="99"))
    assert touched == []


def test_a_tasks_error_does_not_bring_its_cause_into_sparks_log() -> None:
    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches
        raise DataError("the features cannot be computed", why="no", fix="no") from ValueError("alice bought a ring")

    with pytest.raises(RuntimeError, match="E801") as refused:
        list(spark_tasks.alike(iter(()), task=task, version=fedseg.__version__))
    assert refused.value.__suppress_context__
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"path": "sc://cluster:15002"}, "the data process has no network"),
        ({"path": "unix:relative.sock"}, "must look like unix:/run"),
        ({"path": "unix:/run/x.sock?token=secret"}, "must look like unix:/run"),
        ({"table": None}, "need a table"),
        ({"table": "shop.events; DROP TABLE shop.events"}, "pattern"),
    ],
)
def test_settings_that_lead_elsewhere_are_refused(said: dict[str, Any], why: str) -> None:
    settings = {"path": SOCKET, "format": "spark", "table": "shop.events", "subject": "customer"}
    assert SourceSettings.model_validate(settings).in_database
    with pytest.raises(ValidationError, match=why):
        SourceSettings.model_validate(settings | said)


def test_a_token_belongs_to_spark_alone() -> None:
    with pytest.raises(ValidationError, match="only spark"):
        SourceSettings(path="x.csv", format="csv", subject="customer", token="LOCAL/token")


def test_without_sparks_client_it_is_said_what_to_install(bare_unit: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.delitem(sys.modules, "fedseg.node.sources.spark", raising=False)
    source = SourceSettings(path=SOCKET, format="spark", table="shop.events", subject="customer")
    home = replace(bare_unit, settings=bare_unit.settings.model_copy(update={"source": source}))
    with pytest.raises(SettingsError, match="cannot be used") as refused:
        open_source(home, ())
    assert refused.value.fix == "pip install 'fedseg[spark]'"


def test_a_node_is_made_with_its_customers_in_spark(tmp_path: Path) -> None:
    found = _source(SOCKET, _format_of(SOCKET), "customer", "shop.customers", tmp_path / "token")
    assert (found.format, found.path, found.token) == ("spark", SOCKET, str(tmp_path / "token"))
    with pytest.raises(SettingsError, match="--token cannot be used"):
        _source("customers.csv", _format_of("customers.csv"), "customer", None, tmp_path / "token")
