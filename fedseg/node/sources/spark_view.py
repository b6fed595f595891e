"""A feature view whose events are in Spark: made there, in its tasks, each for some of the customers."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from fedseg.node.sources import spark_tasks
from fedseg.node.sources.settings import ViewSettings
from fedseg.node.sources.spark import SparkTable, packed
from fedseg.node.sources.view import FeatureView

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame  # pyright: ignore[reportMissingImports]
    from pyspark.sql.connect.session import SparkSession  # pyright: ignore[reportMissingImports]


class SparkView(FeatureView):
    """One row a customer. Events move within Spark, all of a customer to one task; features alone come here."""

    def __init__(self, events: SparkTable, subject: str, view: ViewSettings) -> None:
        super().__init__(events, subject, view)
        self.stored = events

    def read(self, wanted: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """One row a customer, with these features."""
        names = [one for one in (self.features if wanted is None else wanted) if one != self.subject]
        self.without_key = 0
        with self.stored.opened() as spark:
            events = self._events(spark)
            parts = (events[0],) if self.view.passes is None else (self.view.passes, events[0])
            view = spark_tasks.in_one_pass(self.view)
            tasks = packed(
                events.repartition(*parts), spark_tasks.features, subject=self.subject, view=view, wanted=names
            )
            for batch, without_key in tasks:
                self.without_key += without_key
                if batch.num_columns:
                    yield batch

    def unreadable(self) -> list[str]:
        """The columns of which some event has a cell that cannot be read."""
        with self.stored.opened() as spark:
            tasks = packed(self._events(spark), spark_tasks.unreadable, subject=self.subject, view=self.view)
            found = {name for batch, _ in tasks for name in batch.column(0).to_pylist()}
        return [name for name in self.columns if name in found]

    def _events(self, spark: "SparkSession") -> "DataFrame":
        return self.stored.columns(spark, [self.subject, *(one for one in self.columns if one != self.subject)])
