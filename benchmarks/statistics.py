"""How fast a unit computes its statistics, beside the kernel of Lloyd's iteration in scikit-learn on the same rows.

`memory` is the statistic of one round from encoded rows, by array operations, and `memory-numba` with `fedseg[numba]`,
where it is installed; both and the kernel take turns. The kernel gets the rows as the floats it needs, unmeasured; the
ratio is to it on one thread, and `ratio_to_threads` as scikit-learn calls it, on all. `all-rounds` is all that a unit
computes in a whole run, noise included, beside an iteration for each round, and `server` what that run costs the
server. From files the time holds all a unit does in a round: read, hash identifiers, check lines, encode, keep one row
a customer, assign, clip, sum.

With `--from-parquet` it is instead one pass over a file of so many rows with ten features in a process of its own; see
`benchmarks/large_unit.py`, and `benchmarks/large_round.py` for whole rounds.

Times are the processor's, medians of several runs. `beyond_data_mb` is the most memory that arrays take besides the
customers themselves, where these are in memory; `reply_kb` the largest reply.
"""

import os
import resource
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.cluster._k_means_lloyd import lloyd_iter_chunked_dense
from threadpoolctl import threadpool_limits

from benchmarks import large_unit
from benchmarks.large_round import apart
from benchmarks.output import Row, parser, show
from fedseg.clustering import statistics as unit_statistics
from fedseg.clustering.algorithm import Aggregate, Settings, State, init, next_request, step
from fedseg.clustering.cell_loop import cell_vectors
from fedseg.clustering.encode import encode
from fedseg.clustering.features import FEATURE_MAX, NumericFeature
from fedseg.clustering.lattice import Lattice, Statistic, StepTerms
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.schedule import Budget, Profile, step_terms
from fedseg.clustering.statistics import VECTOR_ENTRIES, customer_vectors, summarize
from fedseg.compiled import compiled
from fedseg.node.home import NodeHome, NodeSettings
from fedseg.node.source import open_source, subject_key
from fedseg.node.sources.settings import SourceSettings
from fedseg.policy.consent import ConsentEvent, fold
from fedseg.policy.document import load_policy
from fedseg.policy.gate import admit, decide
from fedseg.privacy import sensitive
from fedseg.privacy.budget import PrivacyBudget, rho_of
from fedseg.privacy.noise import SystemNoise, discrete_gaussian
from fedseg.privacy.sensitive import sum_of_rows
from fedseg.server.contribution import payload_bytes
from fedseg.simulation.shipped import shipped

LATTICE = Lattice(Statistic.CELLS, unit=2**20, count_weight=2**19, energy_weight=2**17)
EPSILON, DELTA = Fraction(1), Fraction(1, 10**6)
PURPOSE = "fedseg:SegmentStatistics"


PEERS = ("one thread", "all threads")


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--repetitions", type=int, default=5)
    options.add_argument("--from-parquet", action="store_true", help="one pass over a file of so many rows instead")
    chosen = options.parse_args()
    rows = _from_parquet(chosen.rows) if chosen.from_parquet else _measured(chosen.rows, chosen.repetitions)
    show(rows, chosen.format)


def _measured(n: int, repetitions: int) -> list[Row]:
    rows = _all_rounds(n, 10, 16, min(repetitions, 3))
    for d, k in ((3, 5), (10, 8), (10, 16), (10, 64)):
        rows.extend(_in_memory(n, d, k, repetitions))
    points = _points(n // 4, 3)
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("csv", "parquet"):
            run = _unit(Path(folder) / kind, kind, points)
            rows.append(_row(kind, len(points), 3, 5, _in_turns({"ours": run, **_peers(points, 5)}, 3)))
    return rows


def _in_memory(n: int, d: int, k: int, repetitions: int) -> list[Row]:
    """One statistic, each way to compute it in its turn."""
    points, request = _points(n, d), _request(d, k)

    def arrays() -> None:
        with _without_numba():
            _statistic(points, request, LATTICE)

    ours: dict[str, Callable[[], object]] = {"memory": arrays}
    if compiled(cell_vectors) is not None:
        ours["memory-numba"] = partial(_statistic, points, request, LATTICE)
    taken = _in_turns({**ours, **_peers(points, k)}, repetitions)
    return [_row(name, n, d, k, taken | {"ours": taken[name]}) for name in ours]


@contextmanager
def _without_numba() -> Iterator[None]:
    """As if it was not installed."""
    unit_statistics.compiled = sensitive.compiled = lambda _: None
    try:
        yield
    finally:
        unit_statistics.compiled = sensitive.compiled = compiled


def _from_parquet(n: int) -> list[Row]:
    """A pass over a file, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "unit"
        large_unit.write(home, n)
        return [_of_process("parquet-pass", n, apart("pass", home))]


def _of_process(source: str, n: int, measured: Mapping[str, float]) -> Row:
    return {
        "source": source + ("-numba" if measured["numba"] else ""),
        "n": n,
        "d": len(large_unit.FEATURES),
        "k": large_unit.CELLS,
        "cpu_seconds": measured["cpu_seconds"],
        "cpu_seconds_per_million": measured["cpu_seconds"] / n * 1e6,
        "rows_per_second": round(n / measured["cpu_seconds"]),
        "cpu_ratio_to_sklearn": "",
        "beyond_code_mb": measured["peak_rss_mb"] - measured["peak_rss_mb_before"],
        "peak_rss_mb": measured["peak_rss_mb"],
    }


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
    reply = max(payload_bytes(terms) for terms in plan)
    server = partial(_server, settings, plan, sums)
    taken = _in_turns({"unit": unit, "server": server, **_peers(points, k)}, repetitions)
    peers = {name: len(plan) * taken[name] for name in PEERS}
    return [
        _row("all-rounds", n, d, k, {"ours": taken["unit"], **peers})
        | {"beyond_data_mb": round(most / 2**20)}
        | {"reply_kb": round(reply / 1000)},
        _row("server", n, d, k, {"ours": taken["server"], **peers}),
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


def _row(source: str, n: int, d: int, k: int, taken: Mapping[str, float]) -> dict[str, str | int | float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "source": source,
        "n": n,
        "d": d,
        "k": k,
        "cpu_seconds": taken["ours"],
        "rows_per_second": round(n / taken["ours"]),
        "cpu_ratio_to_sklearn": taken["ours"] / taken["one thread"],
        "ratio_to_threads": taken["ours"] / taken["all threads"],
        "beyond_data_mb": "",
        "reply_kb": "",
        "peak_rss_mb": round(peak),
    }


def _in_turns(runs: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Median processor times; each runs once before it counts, and then all take turns."""
    for run in runs.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            start = time.process_time()
            run()
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


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


def _peers(points: NDArray[np.int32], k: int) -> dict[str, Callable[[], object]]:
    """An iteration of Lloyd's, by scikit-learn's own kernel: on one thread, and as it calls that itself."""
    rows, centers = points.astype(np.float64), _request(points.shape[1], k).centers.astype(np.float64)
    weights, moved, sizes = np.ones(len(rows)), np.zeros_like(centers), np.zeros(k)
    labels, shifts = np.full(len(rows), -1, np.int32), np.zeros(k)

    def kernel(threads: int) -> None:
        with threadpool_limits(1, user_api="blas"):
            lloyd_iter_chunked_dense(rows, weights, centers, moved, sizes, labels, shifts, threads)

    return dict(zip(PEERS, (partial(kernel, 1), partial(kernel, os.cpu_count() or 1)), strict=True))


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
