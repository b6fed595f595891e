"""A round's statistic of customers who are in Spark, added up where they are: sums of parts alone come to the node."""

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa

from fedseg.clustering.features import Feature
from fedseg.clustering.lattice import Lattice
from fedseg.clustering.partial import whole_of
from fedseg.clustering.request import RoundRequest
from fedseg.node.home import NodeHome
from fedseg.node.sources import spark_tasks
from fedseg.node.sources.choice import stored_rows
from fedseg.node.sources.spark import SparkTable, run
from fedseg.node.sources.spark_parts import CODE, KEY, PART, decided, each_once, placeholders
from fedseg.node.sources.spark_tasks import SUMMED, Count
from fedseg.policy.gate import Decisions
from fedseg.privacy.sensitive import Sensitive

LINES_AT_ONCE = 2**20
"""Decisions that go to Spark in a call, 22 bytes each."""

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame  # pyright: ignore[reportMissingImports]
    from pyspark.sql.connect.session import SparkSession  # pyright: ignore[reportMissingImports]


def sum_in_spark(
    home: NodeHome, features: Sequence[Feature], decisions: Decisions, request: RoundRequest, lattice: Lattice
) -> Sensitive:
    """The same as `summarize` of all customers whom `decisions` let in.

    Raises:
        DataError: If Spark cannot be reached or refuses, a task fails more often than Spark allows, or what came back
            is not one answer of each part.
        SettingsError: If Spark's client is not installed.
    """
    table, count = stored_rows(home.path, home.settings.source), _count(home, features, decisions, request, lattice)
    assert isinstance(table, SparkTable)
    dimensions = sum(one.width for one in features)
    with table.opened() as spark:
        parts = _parts(spark, count)
        stored = table.columns(spark, [home.settings.source.subject, *count.columns])
        rows = _divided(stored, home.subject_secret, count, parts)
        lines = _sent(spark, decided(decisions, parts, LINES_AT_ONCE))
        divided = rows.unionByName(lines, allowMissingColumns=True)
        tasks = run(divided.repartitionById(parts, PART), spark_tasks.sums, SUMMED, count=count)
        answers = each_once(tasks.toLocalIterator(), parts, request.cells * lattice.width(dimensions))
        return whole_of(answers, dimensions, request, lattice)


def _count(
    home: NodeHome, features: Sequence[Feature], decisions: Decisions, request: RoundRequest, lattice: Lattice
) -> Count:
    source = home.settings.source
    names = {one.name: source.columns.get(one.name, one.name) for one in features}
    return Count(
        columns=tuple(dict.fromkeys(names.values()) if source.view is None else source.view.columns),
        view=source.view,
        names=names,
        features=tuple(features),
        policy=home.policy_document(),
        policy_digest=decisions.policy_digest,
        purpose=decisions.purpose,
        decided_at=decisions.decided_at,
        request=request,
        lattice=lattice,
    )


def _parts(spark: "SparkSession", count: Count) -> int:
    said = None if count.view is None else count.view.passes
    return said or int(spark.conf.get("spark.sql.shuffle.partitions") or 1)


def _sent(spark: "SparkSession", lines: Iterator[pa.Table]) -> "DataFrame":
    """The lines in Spark, a table in a call. Of several it keeps each until all are used, and none stays here."""
    frames = map(spark.createDataFrame, lines)
    first, second = next(frames), next(frames, None)
    if second is None:
        return first
    every = chain((first, second), frames)
    return reduce(lambda one, other: one.union(other), (one.localCheckpoint() for one in every))


def _divided(frame: "DataFrame", secret: bytes, count: Count, parts: int) -> "DataFrame":
    """The rows with their part and pseudonym. The unit's secret goes to the unit's own Spark, and nowhere else."""
    names = placeholders(count.columns)
    kinds = [one.dataType.simpleString() for one in frame.schema.fields[1:]]
    kept = [f"{name} {kind}" for name, kind in zip(names, kinds, strict=True)]
    schema = ", ".join([f"{PART} INT", f"{KEY} BINARY", f"{CODE} SMALLINT", *kept])
    return run(frame.toDF(KEY, *names), spark_tasks.keyed, schema, secret=secret, parts=parts)
