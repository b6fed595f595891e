"""How fast a unit computes its statistics, beside Lloyd iterations of scikit-learn on the same rows.

`all-rounds` is all that a unit computes in a whole run, noise included, beside a Lloyd iteration for each round, and
`server` what that run costs the server. `memory` is the statistic of one round. From files the time holds all a
unit does in a round: read, hash identifiers, check lines, encode, keep one row a customer, assign, clip, sum.

Times are the processor's, medians of several runs. `beyond_data_mb` is the most memory that arrays take besides the
customers themselves, where these are in memory; `reply_kb` the largest reply.
"""

import resource
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from benchmarks.output import Row, parser, show
from fedseg.clustering.algorithm import Aggregate, Settings, State, init, next_request, step
from fedseg.clustering.encode import encode
from fedseg.clustering.features import FEATURE_MAX, NumericFeature
from fedseg.clustering.lattice import Lattice, Statistic, StepTerms
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.schedule import Budget, Profile, step_terms
from fedseg.clustering.statistics import VECTOR_ENTRIES, customer_vectors, summarize
from fedseg.node.home import NodeHome, NodeSettings
from fedseg.node.source import open_source, subject_key
from fedseg.node.sources.settings import SourceSettings
from fedseg.policy.consent import ConsentEvent, fold
from fedseg.policy.document import load_policy
from fedseg.policy.gate import admit, decide
from fedseg.privacy.budget import PrivacyBudget, rho_of
from fedseg.privacy.noise import SystemNoise, discrete_gaussian
from fedseg.privacy.sensitive import sum_of_rows
from fedseg.server.contribution import payload_bytes
from fedseg.simulation.shipped import shipped

LATTICE = Lattice(Statistic.CELLS, unit=2**20, count_weight=2**19, energy_weight=2**17)
EPSILON, DELTA = Fraction(1), Fraction(1, 10**6)
PURPOSE = "fedseg:SegmentStatistics"


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--repetitions", type=int, default=5)
    chosen = options.parse_args()
    rows = _all_rounds(chosen.rows, 10, 16, min(chosen.repetitions, 3))
    for d, k in ((3, 5), (10, 8), (10, 64)):
        points, request = _points(chosen.rows, d), _request(d, k)
        peer = _seconds(partial(_lloyd, points, k), chosen.repetitions)
        ours = _seconds(partial(_statistic, points, request, LATTICE), chosen.repetitions)
        rows.append(_row("memory", chosen.rows, d, k, ours=ours, peer=peer))
    points = _points(chosen.rows // 4, 3)
    peer = _seconds(partial(_lloyd, points, 5), chosen.repetitions)
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("csv", "parquet"):
            run = _unit(Path(folder) / kind, kind, points)
            rows.append(_row(kind, len(points), 3, 5, ours=_seconds(run, 3), peer=peer))
    show(rows, chosen.format)


def _all_rounds(n: int, d: int, k: int, repetitions: int) -> list[Row]:
    """A whole run: what it costs one unit, and what the server."""
    rho = rho_of(PrivacyBudget(EPSILON, DELTA))
    settings = Settings(k, d, n, 7, Profile.STANDARD, Budget(rho, 1))
    plan, points = step_terms(settings.rounds, d, rho), _groups(n, d, k)
    state, requests, sums = init(settings), list[RoundRequest](), list[NDArray[np.int64]]()
    for terms in plan:
        request = next_request(state)
        assert request is not None
        requests.append(request)
        sums.append(_release(points, request, terms))
        state = step(state, Aggregate(terms.step, sums[-1], terms, 1))

    def unit() -> None:
        for request, terms in zip(requests, plan, strict=True):
            _release(points, request, terms)

    tracemalloc.start()
    unit()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    peer = len(plan) * _seconds(partial(_lloyd, points, k), repetitions)
    reply = max(payload_bytes(terms) for terms in plan)
    ours = _seconds(unit, repetitions)
    server = _seconds(partial(_server, settings, plan, sums), repetitions)
    return [
        _row("all-rounds", n, d, k, ours=ours, peer=peer, beyond_data=most, reply=reply),
        _row("server", n, d, k, ours=server, peer=peer),
    ]


def _server(settings: Settings, plan: Sequence[StepTerms], sums: Sequence[NDArray[np.int64]]) -> State:
    state = init(settings)
    for terms, one in zip(plan, sums, strict=True):
        state = step(state, Aggregate(terms.step, one, terms, 1))
    return state


def _release(points: NDArray[np.int32], request: RoundRequest, terms: StepTerms) -> NDArray[np.int64]:
    """What the only unit adds to a round, shape (cells, width); the ledger has a benchmark of its own."""
    noise = discrete_gaussian(terms.mechanism.sigma, terms.length, SystemNoise())
    exact = _statistic(points, request, terms.lattice)
    return (exact + noise).reshape(terms.cells, terms.width)


def _row(source: str, n: int, d: int, k: int, *, ours: float, peer: float, beyond_data: int = 0, reply: int = 0) -> Row:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "source": source,
        "n": n,
        "d": d,
        "k": k,
        "cpu_seconds": ours,
        "rows_per_second": round(n / ours),
        "cpu_ratio_to_sklearn": ours / peer,
        "beyond_data_mb": round(beyond_data / 2**20) or "",
        "reply_kb": round(reply / 1000) or "",
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


def _groups(n: int, d: int, k: int) -> NDArray[np.int32]:
    """Customers in as many groups as there are segments."""
    coins = np.random.default_rng(3)
    centers = coins.uniform(-0.7, 0.7, (k, d)).astype(np.float32) * FEATURE_MAX
    points = centers[coins.integers(k, size=n)]
    points += coins.standard_normal((n, d), np.float32) * np.float32(0.08 * FEATURE_MAX)
    return np.asarray(np.clip(points, -FEATURE_MAX, FEATURE_MAX), np.int32)


def _request(d: int, k: int) -> RoundRequest:
    centers = np.random.default_rng(4).integers(-FEATURE_MAX, FEATURE_MAX, (k, d), dtype=np.int32)
    return RoundRequest(0, centers, np.full(k, FEATURE_MAX // 2, np.int32))


def _statistic(points: NDArray[np.int32], request: RoundRequest, lattice: Lattice) -> NDArray[np.int64]:
    """What `summarize` computes of encoded rows; here of rows that no table was behind."""
    width, bound = lattice.width(points.shape[1]), lattice.l2_sensitivity_squared
    size = max(1, VECTOR_ENTRIES // width)
    parts = (points[start : start + size] for start in range(0, len(points), size))
    vectors = (customer_vectors(part, request, lattice) for part in parts)
    summed = sum_of_rows(vectors, cells=request.cells, width=width, l2_sensitivity_squared=bound)
    return summed._values  # noqa: SLF001 (made-up customers, and nothing is sent)


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
    return lambda: summarize(
        encode(admit(open_source(home, columns), decisions, policy, PURPOSE), features), _request(3, 5), LATTICE
    )


if __name__ == "__main__":
    main()
