"""A table of Spark's catalogue, read through Spark Connect by a socket on this machine; never written.

The data process has no network and no Java: Spark runs beside it, and what speaks to it here is its thin client, over
gRPC through a socket in the file system. Nothing is asked for but columns of a table, and what our own code makes of
them in Spark's tasks: no text of a plan or of a view is ever part of a query.
"""

import io
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

import fedseg
from fedseg.errors import DataError
from fedseg.node.sources import spark_tasks
from fedseg.node.sources.rows import Rows

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame  # pyright: ignore[reportMissingImports]
    from pyspark.sql.connect.session import SparkSession  # pyright: ignore[reportMissingImports]

BATCH_ROWS = 16_384
"""Rows that a task gets at a time; no result depends on it."""

SECONDS: Final = 5.0
"""How long the socket may take to let us in."""

RETRIES: Final = 5
"""How often a call that did not reach Spark is made again: for about ten seconds."""

INLINE_BYTES: Final = 2**27
"""What goes to Spark within a call, which holds no more. Larger tables Spark keeps beside, and cannot read them again
where it encrypts its disks."""

_STORED: Final = frozenset({"MANAGED", "EXTERNAL"})
_PROVIDERS: Final = frozenset({"parquet", "orc", "delta", "iceberg"})
"""Formats whose rows are what is stored. Others may be any query (jdbc), or make one row of several lines (csv)."""


class SparkTable(Rows):
    """Rows of a table.

    Raises:
        ImportError: If Spark's client is not installed.
    """

    def __init__(self, path: Path, table: str, token: Path | None) -> None:
        import pyspark.sql.connect.session  # pyright: ignore[reportMissingImports] # noqa: F401, PLC0415 (an extra)

        self.path = path
        """The socket."""
        self.table = table
        self.token = token
        """The file with the token that Spark asks for."""

    @property
    def place(self) -> str:
        """The name of the table."""
        return self.table

    def schemas(self) -> Iterator[pa.Schema]:
        """Of the table; no row is read."""
        with self.opened() as spark:
            schema = spark.read.table(self._name()).limit(0).toArrow().schema
        yield schema

    def read(self, wanted: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """These columns of all rows, as they come from Spark's tasks."""
        with self.opened() as spark:
            for batch, _ in packed(self.columns(spark, wanted), spark_tasks.handed_over):
                yield batch

    def columns(self, spark: "SparkSession", wanted: Sequence[str] | None) -> "DataFrame":
        """These columns of the table, or all, to be read when it is asked for them."""
        frame = spark.read.table(self._name())
        return frame.select("*" if wanted is None else [frame[_quoted(name)] for name in wanted])

    @contextmanager
    def opened(self) -> Generator["SparkSession"]:
        """A session of its own, after the table turned out to be one.

        Raises:
            DataError: If Spark cannot be reached or refuses, or a task fails.
        """
        from grpc import RpcError  # noqa: PLC0415 (an extra)
        from pyspark.errors import PySparkException  # pyright: ignore[reportMissingImports] # noqa: PLC0415 (an extra)

        try:
            with _session(self.path, self._said_token()) as spark:
                self._require_table(spark)
                yield spark
        except (PySparkException, RpcError, pa.ArrowException, OSError) as error:
            # Spark's own text may repeat a row: its kind says enough.
            raise DataError(
                "the data source cannot be read in Spark",
                why=f"{self.table}: {type(error).__name__}",
                fix=f"see Spark's own log: it has to listen behind {self.path} and to know the table, and the Python of"
                f" its tasks needs fedseg[sql] {fedseg.__version__}",
            ) from error

    def _name(self) -> str:
        return ".".join(map(_quoted, self.table.split(".")))

    def _said_token(self) -> str | None:
        return None if self.token is None else self.token.read_text(encoding="utf-8").strip()

    def _require_table(self, spark: "SparkSession") -> None:
        facts: dict[str, str] = {}
        for name, value, _ in spark.sql(f"DESCRIBE TABLE EXTENDED {self._name()}").collect():
            facts = {} if name == "# Detailed Table Information" else facts | {name: value}
        if facts.get("Type") not in _STORED or facts.get("Provider", "").lower() not in _PROVIDERS:
            raise DataError(
                f"Spark has no table {self.table} that can serve",
                why="it is a view, or of a kind of which one customer's rows could depend on another's",
                fix=f"name a table that is stored as {', '.join(sorted(_PROVIDERS))} under [source] in node.toml",
            )


def packed(frame: "DataFrame", task: Callable[..., Any], **facts: object) -> Iterator[tuple[pa.RecordBatch, int]]:
    """What the tasks answer, a batch at a time: each with the number of rows without a customer that was counted."""
    for data, without_key in run(frame, task, spark_tasks.PACKED, **facts).toLocalIterator():
        with pa.ipc.open_stream(io.BytesIO(data)) as stream:
            for batch in stream:
                yield batch, without_key


def run(frame: "DataFrame", task: Callable[..., Any], schema: Any, **facts: object) -> "DataFrame":
    """What `task` makes of each partition, by the same version of fedseg in Spark's tasks as here."""
    return frame.mapInArrow(partial(spark_tasks.alike, task=partial(task, **facts), version=fedseg.__version__), schema)


@contextmanager
def _session(path: Path, token: str | None) -> Generator["SparkSession"]:
    from pyspark.sql.connect.client.retries import (  # pyright: ignore[reportMissingImports] # noqa: PLC0415 (an extra)
        DefaultPolicy,
    )
    from pyspark.sql.connect.session import (  # pyright: ignore[reportMissingImports] # noqa: PLC0415 (an extra)
        SparkSession,
    )

    with socket.socket(socket.AF_UNIX) as trial:  # the client would go on trying for ten minutes
        trial.settimeout(SECONDS)
        trial.connect(str(path))
    spark = SparkSession.builder.channelBuilder(_channel(path, token)).create()
    try:
        spark.client.set_retry_policies([DefaultPolicy(max_retries=RETRIES)])
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(BATCH_ROWS))
        spark.conf.set("spark.sql.session.localRelationCacheThreshold", str(INLINE_BYTES))
        spark.conf.set("spark.sql.files.ignoreCorruptFiles", "false")
        spark.conf.set("spark.sql.files.ignoreMissingFiles", "false")
        yield spark
    finally:
        spark.stop()


def _channel(path: Path, token: str | None) -> Any:
    """What reaches Spark by a socket in the file system."""
    from pyspark.sql.connect.client import (  # pyright: ignore[reportMissingImports] # noqa: PLC0415 (an extra)
        ChannelBuilder,
    )

    class Socket(ChannelBuilder):  # type: ignore[misc] # type checkers need not have the extra
        def toChannel(self) -> Any:  # noqa: N802 (Spark's name)
            return self._insecure_channel(f"unix:{path}")

        @property
        def host(self) -> str:
            return str(path)

    return Socket(params={} if token is None else {"authorization": f"Bearer {token}"})


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
