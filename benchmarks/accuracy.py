"""k-means cost of the released centers over the best non-private one, ours beside a published private peer.

Ours runs the real algorithm, lattice, clipping and exact noise on encoded rows; what it leaves out is ledgers and
messages, which change no number. The peer is DPLloyd (Su, Cao, Li, Bertino, Jin, "Differentially private k-means
clustering", CODASPY 2016), written afresh from the paper: Laplace noise, central data, its own choice of rounds. Being
central it holds all customers in one place and adds one noise, where ours adds one at every unit.
"""

import itertools
import statistics
import tomllib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin_min

from benchmarks.output import Row, parser, show
from fedseg.clustering.algorithm import Aggregate, Settings, init, next_request, step
from fedseg.clustering.features import FEATURE_MAX, NumericFeature, Transform
from fedseg.clustering.lattice import StepTerms, fit_lattice
from fedseg.clustering.statistics import customer_vectors
from fedseg.privacy.budget import RHO_GRID, PrivacyBudget, rho_of
from fedseg.privacy.noise import SystemNoise, discrete_gaussian
from fedseg.simulation.data import all_customers
from fedseg.simulation.scenario import load_scenario
from fedseg.simulation.shipped import shipped

DELTA = Fraction(1, 10**6)
SHARES = (Fraction(1, 5), Fraction(2, 5), Fraction(2, 5))
RADII = (0.8, 0.6, 0.5)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__ or "")
    options.add_argument("--families", default="synthetic,real")
    options.add_argument("--trust", default="unit-noise", choices=["unit-noise"])
    options.add_argument("--epsilon", default="1,2,4")
    options.add_argument("--units", type=int, default=5)
    options.add_argument("--algorithms", default="fedseg,dplloyd")
    options.add_argument("--repetitions", type=int, default=20)
    chosen = options.parse_args()
    rows: list[Row] = []
    for name, points, k in _data(chosen.families.split(",")):
        best = KMeans(k, n_init=10, random_state=0).fit(points / FEATURE_MAX).inertia_
        for epsilon, algorithm in itertools.product(chosen.epsilon.split(","), chosen.algorithms.split(",")):
            run = {"fedseg": _fedseg, "dplloyd": _dplloyd}[algorithm]
            ratios = [
                _cost(points, run(points, k, Fraction(epsilon), chosen.units, seed)) / best
                for seed in range(chosen.repetitions)
            ]
            low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
            rows.append(
                {
                    "data": name,
                    "n": len(points),
                    "d": points.shape[1],
                    "k": k,
                    "units": chosen.units,
                    "trust": chosen.trust if algorithm == "fedseg" else "central",
                    "epsilon": float(Fraction(epsilon)),
                    "algorithm": algorithm,
                    "cost_ratio_median": middle,
                    "cost_ratio_q1": low,
                    "cost_ratio_q3": high,
                    "repetitions": len(ratios),
                }
            )
    show(rows, chosen.format)


def _fedseg(points: NDArray[np.int32], k: int, epsilon: Fraction, units: int, seed: int) -> NDArray[np.float64]:
    """Centers in encoded units, with the full noise of every unit."""
    rho = rho_of(PrivacyBudget(epsilon, DELTA)) / units
    state = init(Settings(k, points.shape[1], RADII, seed))
    while (request := next_request(state)) is not None:
        lattice, mechanism = fit_lattice(Fraction(rho * SHARES[state.step] * RHO_GRID // 1, RHO_GRID), Fraction(1))
        terms = StepTerms(state.step, k, 1 + points.shape[1], lattice, mechanism)
        labels, vectors = customer_vectors(points, request, lattice)
        sums = np.zeros((k, terms.width), np.int64)
        np.add.at(sums, labels, vectors)
        noise = sum(discrete_gaussian(mechanism.sigma, terms.length, SystemNoise()) for _ in range(units))
        state = step(state, Aggregate(state.step, sums + np.reshape(noise, sums.shape), terms, units))
    return state.centers


def _dplloyd(points: NDArray[np.int32], k: int, epsilon: Fraction, units: int, seed: int) -> NDArray[np.float64]:
    """Centers in encoded units: Laplace noise of scale (d + 1) rounds / epsilon on counts and on sums in [-1, 1]."""
    del units
    coins = np.random.default_rng(seed)
    rows, rounds = points / FEATURE_MAX, 5
    centers = coins.uniform(-1, 1, (k, rows.shape[1]))
    scale = (rows.shape[1] + 1) * rounds / float(epsilon)
    for _ in range(rounds):
        labels, _ = pairwise_distances_argmin_min(rows, centers)
        counts = np.bincount(labels, minlength=k) + coins.laplace(0, scale, k)
        sums = np.zeros_like(centers)
        np.add.at(sums, labels, rows)
        sums += coins.laplace(0, scale, sums.shape)
        moved = np.clip(sums / np.maximum(counts, 1.0)[:, None], -1, 1)
        centers = np.where((counts > 1)[:, None], moved, centers)
    return centers * FEATURE_MAX


def _cost(points: NDArray[np.int32], centers: NDArray[np.float64]) -> float:
    _, distances = pairwise_distances_argmin_min(points / FEATURE_MAX, centers / FEATURE_MAX, metric="sqeuclidean")
    return float(distances.sum())


def _data(families: list[str]) -> list[tuple[str, NDArray[np.int32], int]]:
    made: list[tuple[str, NDArray[np.int32], int]] = []
    if "real" in families:
        path = shipped("simulations/online_retail/scenario.toml")
        customers = all_customers(load_scenario(path))
        made.append(("online-retail", _encode(path, customers), 5))
    if "synthetic" in families:
        made += [
            ("separated", _mixture(20_000, 5, 8, spread=0.05), 8),
            ("overlapping", _mixture(20_000, 5, 8, spread=0.15), 8),
        ]
    return made


def _encode(path: Path, customers: object) -> NDArray[np.int32]:
    terms = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)["plan"]["features"]
    features = [
        NumericFeature(one["name"], one["lower"], one["upper"], one["missing"], Transform(one["transform"]))
        for one in terms
    ]
    return np.column_stack(
        [one.positions(customers.column(one.name).to_numpy().astype(np.float64)) for one in features]
    )  # type: ignore[attr-defined]


def _mixture(n: int, d: int, k: int, *, spread: float) -> NDArray[np.int32]:
    coins = np.random.default_rng(7)
    centers = coins.uniform(-0.7, 0.7, (k, d))
    rows = centers[coins.integers(k, size=n)] + spread * coins.standard_normal((n, d))
    return np.rint(np.clip(rows, -1, 1) * FEATURE_MAX).astype(np.int32)


if __name__ == "__main__":
    main()
