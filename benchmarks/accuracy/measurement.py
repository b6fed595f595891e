"""One cell of the table: an algorithm on a data set at a budget and a trust model, run several times.

A cell's result is a function of the cell and the seeds. Each customer is in one unit.
"""

import functools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from benchmarks.accuracy.data_sets import DATA_SETS
from benchmarks.accuracy.diffprivlib_peer import diffprivlib_centers
from benchmarks.accuracy.noise import GaussianNoise, LaplaceNoise, Noise
from benchmarks.accuracy.ours import fedseg_centers
from benchmarks.accuracy.peers import clipped_lloyd, dp_lloyd, eugkm
from benchmarks.accuracy.reference import Reference, cost, reference, unit_box, unlike_units
from benchmarks.accuracy.trust import Trust
from fedseg.clustering.features import FEATURE_MAX
from fedseg.privacy.budget import PrivacyBudget, rho_of

FIRST_SEED = 300
"""Reported data is drawn from seeds 300, 301, ...; hyper-parameters, ours and peers', are chosen on seeds below 200."""

DRAWS = 5
"""How many draws of a made-up shape the repetitions go through in turn."""

OURS = "fedseg"
NON_PRIVATE = "scikit-learn"
DIFFPRIVLIB = "diffprivlib"

FEDERATED = (OURS, "dp-lloyd", "clipped-lloyd", "eugkm")
"""Those that run under either trust model."""

TRUST_OF_OTHERS: Mapping[str, Trust] = {DIFFPRIVLIB: Trust.CENTRAL, NON_PRIVATE: Trust.NONE}

ALGORITHMS = (*FEDERATED, *TRUST_OF_OTHERS)


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured."""

    data: str
    """A name in `DATA_SETS`."""
    units: int
    """Business units that hold the customers."""
    trust: Trust
    epsilon: Fraction | None
    """None without privacy."""
    delta: Fraction | None
    """None without privacy; 0 for an algorithm that keeps a pure epsilon whatever delta is allowed."""
    algorithm: str
    """One of `ALGORITHMS`."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    data: str
    n: int
    d: int
    k: int
    units: int
    trust: str
    epsilon: float | None
    delta: float | None
    algorithm: str
    cost_ratio_median: float
    cost_ratio_q1: float
    cost_ratio_q3: float
    repetitions: int
    stamp: str
    """`simulated` where the trust model is not built yet but modelled by its noise; empty otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One draw of a data set, with its reference."""

    points: NDArray[np.int32]
    k: int
    best: Reference


@functools.lru_cache(maxsize=DRAWS)
def instance(data: str, seed: int) -> Instance:
    """The data set's draw from a seed; kept, because the next cell usually asks for it again."""
    chosen = DATA_SETS[data]
    points = chosen.draw(seed)
    return Instance(points, chosen.k, reference(points, chosen.k))


def measure(cell: Cell, repetitions: int, first_seed: int = FIRST_SEED) -> Row:
    """Run the cell so many times and summarize the cost over the best non-private cost.

    Args:
        cell: What to measure.
        repetitions: At least 1; each has a seed of its own, and made-up data in `DRAWS` draws by turns.
        first_seed: Of the data; seeds of runs follow from it.
    """
    shown = instance(cell.data, first_seed)
    ratios = sorted(_ratios(cell, repetitions, first_seed))
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if repetitions > 1 else 3 * ratios
    return Row(
        data=cell.data,
        n=len(shown.points),
        d=shown.points.shape[1],
        k=shown.k,
        units=cell.units,
        trust=cell.trust,
        epsilon=None if cell.epsilon is None else float(cell.epsilon),
        delta=None if cell.delta is None else float(cell.delta),
        algorithm=cell.algorithm,
        cost_ratio_median=middle,
        cost_ratio_q1=low,
        cost_ratio_q3=high,
        repetitions=len(ratios),
        stamp="simulated" if cell.trust is Trust.SECURE_AGGREGATION else "",
    )


def _ratios(cell: Cell, repetitions: int, first_seed: int) -> Iterator[float]:
    draws = 1 if DATA_SETS[cell.data].is_real else min(DRAWS, repetitions)
    for draw in range(draws):
        drawn = instance(cell.data, first_seed + draw)
        rows = unit_box(drawn.points)
        seeds = [1000 * first_seed + repetition for repetition in range(draw, repetitions, draws)]
        for centers in _centers(cell, drawn, seeds):
            if centers.shape != (drawn.k, rows.shape[1]) or not np.isfinite(centers).all():
                raise ValueError(f"{cell.algorithm} gave no {drawn.k} finite centers on {cell.data}, seeds {seeds}")
            yield cost(rows, centers) / drawn.best.cost


def _centers(cell: Cell, drawn: Instance, seeds: Sequence[int]) -> list[NDArray[np.float64]]:
    """Centers in the box [-1, 1], of one run for each seed."""
    rows, k = unit_box(drawn.points), drawn.k
    if cell.algorithm == NON_PRIVATE:
        return [KMeans(k, n_init=1, random_state=seed).fit(rows).cluster_centers_ for seed in seeds]
    if cell.epsilon is None or cell.delta is None:
        raise ValueError(f"{cell.algorithm} needs a budget")
    if cell.algorithm == DIFFPRIVLIB:
        return diffprivlib_centers(rows, k, cell.epsilon, seeds)
    budget = PrivacyBudget(cell.epsilon, cell.delta)
    if cell.algorithm == OURS:
        units = unlike_units(drawn.points, drawn.best.labels, cell.units)
        released = (fedseg_centers(drawn.points, k, budget, units, trust=cell.trust, seed=seed) for seed in seeds)
        return [centers / FEATURE_MAX for centers in released]
    peer = {"dp-lloyd": dp_lloyd, "clipped-lloyd": clipped_lloyd, "eugkm": eugkm}[cell.algorithm]
    return [peer(rows, k, _noise(cell, budget, seed)) for seed in seeds]


def _noise(cell: Cell, budget: PrivacyBudget, seed: int) -> Noise:
    """What a peer's sums get; how customers are split over units changes no sum, so only the number of units counts."""
    noises, coins = cell.units if cell.trust is Trust.UNIT_NOISE else 1, np.random.default_rng(seed)
    if cell.algorithm == "eugkm":
        return LaplaceNoise(float(budget.epsilon), noises, coins)
    return GaussianNoise(float(rho_of(budget)), noises, coins)
