"""The same events in every kind of source, in two orders and two sizes of batches: the same bits, and what each takes.

`features` and `sums` are the first digits of hashes, of everybody's features as exact bits and of a round's integers.
`cpu_seconds` of the sums counts what works for the source: this process, and of Spark its server and tasks.
It runs in `.venv-extras`, which `make test-extras` makes, and needs Java and PostgreSQL.
"""

import hashlib
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from benchmarks.output import Row, parser, show
from fedseg.clustering.encode import encode
from fedseg.clustering.features import NumericFeature
from fedseg.clustering.lattice import Lattice, Statistic
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.statistics import summarize
from fedseg.node.home import NodeHome
from fedseg.node.source import open_source, subject_key
from fedseg.node.sources import duckdb_file, files, postgres, spark, view
from fedseg.node.sources.spark_sums import sum_in_spark
from fedseg.policy.document import load_policy
from fedseg.policy.gate import Decisions, admit
from fedseg.policy.purposes import Purpose
from tests.postgres_server import PostgresServer, running_server
from tests.shop_events import VIEW, fill_duckdb, fill_postgres, rows, shop, shuffled, with_source
from tests.small_federation import make_unit, policy_document
from tests.spark_server import TOKEN, SparkServer, running_spark

PER_CUSTOMER: Final = 14
"""Events."""
FEATURES: Final = tuple(
    NumericFeature(name, 0, upper, 0)
    for name, upper in (("recency", 400), ("frequency", 50), ("monetary", 200_000), ("basket", 10_000))
)
LATTICE: Final = Lattice(Statistic.CELLS, unit=4096, count_weight=2048, energy_weight=2048)
BATCHES: Final = {"as shipped": {}, "small": {"rows": 997, "bytes": 2**17}}


def main() -> None:
    """Measure, compare and print."""
    options = parser(__doc__ or "")
    options.add_argument("--events", type=int, default=1_000_000)
    chosen = options.parse_args()
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, running_server() as database, running_spark() as cluster:
        home = make_unit(Path(folder) / "unit", "unit", consenting=(), customers=b"", policy=_policy())
        table = shop(chosen.events, chosen.events // PER_CUSTOMER)
        decisions = _decisions(home, chosen.events // PER_CUSTOMER)
        for order, (batches, sizes) in enumerate(BATCHES.items(), start=1):
            _set(**sizes)
            place = Path(folder) / str(order)
            place.mkdir()
            for kind, one in _homes(home, place, shuffled(table, order), database, cluster).items():
                found.append(
                    {"source": kind, "events": chosen.events, "order": order, "batches": batches}
                    | _measured(one, decisions, cluster)
                )
    show(found, chosen.format)
    assert len({(row["features"], row["sums"], row["customers"]) for row in found}) == 1, "they are not the same"
    print(f"\nthe same bits {len(found)} times")


def _policy() -> bytes:
    return policy_document(columns=[one.name for one in FEATURES])


def _decisions(home: NodeHome, customers: int) -> Decisions:
    """Of every seventh customer, no."""
    keys = sorted(subject_key(f"c{number}".encode(), home.subject_secret) for number in range(customers))
    codes = (np.arange(customers) % 7 == 0).astype(np.uint8)
    digest = load_policy(home.policy_document()).digest
    return Decisions(pa.array(keys, pa.binary(16)), codes, datetime.now(UTC), Purpose.SEGMENT_STATISTICS, digest)


def _set(rows: int = 65_536, bytes: int = 2**20) -> None:  # noqa: A002 (as what is set)
    """How much a source hands over at a time."""
    files.BLOCK_BYTES = max(bytes, 2**17)
    files.BATCH_ROWS = duckdb_file.BATCH_ROWS = view.BATCH_ROWS = rows
    postgres.BATCH_BYTES = 4 * bytes
    spark.BATCH_ROWS = min(rows, 16_384)


def _homes(
    home: NodeHome, place: Path, table: pa.Table, database: PostgresServer, cluster: SparkServer
) -> dict[str, NodeHome]:
    pc_csv.write_csv(table, place / "events.csv")
    pq.write_table(table, place / "events.parquet", row_group_size=table.num_rows // 7)
    fill_duckdb(place / "events.duckdb", table)
    url = database.new_database()
    fill_postgres(url, table)
    (home.path / "LOCAL" / "spark-token").write_text(TOKEN, encoding="utf-8")
    told = {"format": "spark", "token": "LOCAL/spark-token", "path": cluster.url}
    in_parts = VIEW.model_copy(update={"passes": 8})
    return {
        "csv": with_source(home, path=str(place / "events.csv"), format="csv"),
        "parquet": with_source(home, path=str(place / "events.parquet"), format="parquet"),
        "duckdb": with_source(home, path=str(place / "events.duckdb"), format="duckdb", table="public.events"),
        "postgresql": with_source(home, path=url, format="postgresql", table="public.events"),
        "spark": with_source(home, in_parts, table=cluster.new_table(table, group_rows=table.num_rows // 7), **told),
    }


def _measured(home: NodeHome, decisions: Decisions, cluster: SparkServer) -> Row:
    everybody = rows(home)
    started, before = time.perf_counter(), _cpu_seconds(cluster)
    sums = _sums(home, decisions)
    return {
        "customers": len(everybody),
        "features": hashlib.sha256(repr(everybody).encode()).hexdigest()[:16],
        "sums": hashlib.sha256(sums.tobytes()).hexdigest()[:16],
        "sum_seconds": time.perf_counter() - started,
        "cpu_seconds": _cpu_seconds(cluster) - before,
    }


def _sums(home: NodeHome, decisions: Decisions) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    coins = np.random.default_rng(5)
    centers = coins.integers(-(2**18), 2**18, size=(12, sum(one.width for one in FEATURES)), dtype=np.int32)
    request = RoundRequest(0, centers, np.full(12, 2**18, np.int32))
    if home.settings.source.format == "spark":
        return sum_in_spark(home, FEATURES, decisions, request, LATTICE)._values  # noqa: SLF001 (to compare)
    table, policy = open_source(home, [one.column for one in FEATURES]), load_policy(home.policy_document())
    admitted = admit(table, decisions, policy, decisions.purpose)
    return summarize(encode(admitted, FEATURES), request, LATTICE)._values  # noqa: SLF001 (to compare)


def _cpu_seconds(cluster: SparkServer) -> float:
    """What this process and Spark's have used; what databases' servers do is not in it."""
    ticks = 0
    for one in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = one.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[3]) in cluster.session:
            ticks += sum(map(int, fields[11:15]))
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
