"""How fast a unit computes one round's statistic, beside one Lloyd iteration of scikit-learn on the same rows.

From files the time holds all a unit does in a round: read, hash identifiers, check lines, encode, keep one row a
customer, assign, clip, sum. `memory` is the statistic alone. Times are the processor's, medians of several runs.
"""

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from benchmarks.output import Row, parser, show
from fedseg.clustering.encode import CHUNK_ROWS, encode
from fedseg.clustering.features import FEATURE_MAX, NumericFeature
from fedseg.clustering.lattice import CellLattice
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.statistics import cell_sums, customer_vectors
from fedseg.node.home import NodeHome, NodeSettings, SourceSettings
from fedseg.node.source import open_source, subject_key
from fedseg.policy.consent import ConsentEvent, fold
from fedseg.policy.document import load_policy
from fedseg.policy.gate import admit, decide
from fedseg.privacy.sensitive import sum_of_rows
from fedseg.simulation.shipped import shipped

LATTICE = CellLattice(count_weight=2**16, unit=2**16)
PURPOSE = "fedseg:SegmentStatistics"


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--repetitions", type=int, default=5)
    chosen = options.parse_args()
    rows: list[Row] = []
    for d, k in ((3, 5), (10, 8), (10, 64)):
        points = _points(chosen.rows, d)
        peer = _seconds(partial(_lloyd, points, k), chosen.repetitions)
        rows.append(
            _row("memory", chosen.rows, d, k, ours=_seconds(partial(_memory, points, k), chosen.repetitions), peer=peer)
        )
    points = _points(chosen.rows // 4, 3)
    peer = _seconds(partial(_lloyd, points, 5), chosen.repetitions)
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("csv", "parquet"):
            run = _unit(Path(folder) / kind, kind, points)
            rows.append(_row(kind, len(points), 3, 5, ours=_seconds(run, 3), peer=peer))
    show(rows, chosen.format)


def _row(source: str, n: int, d: int, k: int, *, ours: float, peer: float) -> Row:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "source": source,
        "n": n,
        "d": d,
        "k": k,
        "rows_per_second": round(n / ours),
        "cpu_ratio_to_sklearn": ours / peer,
        "peak_rss_mb": round(peak),
    }


def _seconds(run: Callable[[], object], repetitions: int) -> float:
    """Median processor time."""
    taken = []
    for _ in range(repetitions):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def _points(n: int, d: int) -> NDArray[np.int32]:
    return np.random.default_rng(3).integers(-FEATURE_MAX, FEATURE_MAX, (n, d), dtype=np.int32)


def _request(d: int, k: int) -> RoundRequest:
    centers = np.random.default_rng(4).integers(-FEATURE_MAX, FEATURE_MAX, (k, d), dtype=np.int32)
    return RoundRequest(0, centers, np.full(k, FEATURE_MAX // 2, np.int32))


def _memory(points: NDArray[np.int32], k: int) -> object:
    request = _request(points.shape[1], k)
    chunks = (
        customer_vectors(points[start : start + CHUNK_ROWS], request, LATTICE)
        for start in range(0, len(points), CHUNK_ROWS)
    )
    return sum_of_rows(
        chunks, cells=k, width=1 + points.shape[1], l2_sensitivity_squared=LATTICE.l2_sensitivity_squared
    )


def _lloyd(points: NDArray[np.int32], k: int) -> object:
    centers = _request(points.shape[1], k).centers.astype(np.float64)
    return KMeans(k, init=centers, n_init=1, max_iter=1, tol=0.0).fit(points.astype(np.float64))


def _unit(home_path: Path, kind: str, points: NDArray[np.int32]) -> Callable[[], object]:
    """A unit with everybody's consent; what one round's statistic costs it."""
    features = [
        NumericFeature(name, -FEATURE_MAX, FEATURE_MAX, 0) for name in ("recency_days", "frequency", "gross_monetary")
    ]
    table = pa.table(
        {"customer": [f"c{number}" for number in range(len(points))]}
        | {one.name: points[:, index] for index, one in enumerate(features)}
    )
    document = shipped("policies/online-retail.yaml").read_bytes()
    source = SourceSettings(
        path=f"LOCAL/customers.{kind}", format="csv" if kind == "csv" else "parquet", subject="customer"
    )
    home = NodeHome.create(home_path, NodeSettings(version=1, unit="bench", source=source), policy=document)
    path = home_path / source.path
    pc_csv.write_csv(table, path) if kind == "csv" else pq.write_table(table, path)
    now, policy = datetime.now(UTC), load_policy(document)
    given = [
        ConsentEvent(
            subject_key(f"c{number}".encode(), home.subject_secret),
            PURPOSE,
            "given",
            now - timedelta(days=1),
            now - timedelta(days=1),
            now + timedelta(days=9),
            1,
        )
        for number in range(len(points))
    ]
    decisions = decide(fold(given, now), policy, PURPOSE, now)
    columns = [one.column for one in features]
    return lambda: cell_sums(
        encode(admit(open_source(home, columns), decisions, policy, PURPOSE), features), _request(3, 5), LATTICE
    )


if __name__ == "__main__":
    main()
