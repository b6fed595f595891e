"""What is said about released segments, beside the truth: intervals, the choice of k, stability under new noise.

Made-up customers of seeds 300 to 304, the shipped accounting at delta 1e-6, one noise on the sum of all units unless
`--noises` says more. `intervals`: part of the nominal 95 % intervals that hold the truth, which is the exact size, mean
and variance of the customers nearest to the last round's reference points; means and variances of segments that stand
above the noise, apart for those flagged as clipped. `choice`: of runs with a k_max of 14 and 4, 6 or 8 true clusters,
the part in which each criterion names the true number. `stability`: what is predicted from one run beside how much of a
segment is found again by runs with other noise.
"""

import argparse
import itertools
import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, astuple, dataclass, fields
from fractions import Fraction
from functools import partial
from statistics import NormalDist, fmean
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.families import FAMILIES, Shape
from benchmarks.accuracy.ours import fedseg_state
from benchmarks.output import parser
from fedseg.cli.output import table
from fedseg.cli.progress import progress_on_stderr
from fedseg.clustering.algorithm import Settings, State
from fedseg.clustering.choose_k import Choice, choose_k
from fedseg.clustering.nearest import nearest_center
from fedseg.clustering.quality import profiles
from fedseg.clustering.schedule import Budget, Profile
from fedseg.clustering.stability import STABLE, stability
from fedseg.privacy.budget import PrivacyBudget, rho_of
from fedseg.privacy.noise import SimulatedNoise

DELTA = Fraction(1, 10**6)
FIRST_SEED, DRAWS = 300, 5
CUSTOMERS, SEGMENTS = 20_000, 8
TWO_SIDED_95 = NormalDist().inv_cdf(0.975)

K_MAX = 14
TRUE_NUMBERS = (4, 6, 8)

LOGARITHMS = frozenset({"rfmlog"})
"""Families whose columns a plan would describe as amounts after a logarithm."""

OTHER_RUNS = 6


@dataclass(frozen=True, slots=True)
class Intervals:
    """A line of the first table; coverages are parts of 1."""

    family: str
    epsilon: float
    noises: int
    segments: int
    size: float
    mean: float | None
    variance: float | None
    clipped_part: float
    """Of the segments above the noise."""
    clipped_mean: float | None
    """None where none is clipped."""
    clipped_variance: float | None
    half_width: float | None
    """Median of an unclipped mean's interval, in true standard deviations within the segment."""


@dataclass(frozen=True, slots=True)
class Choices:
    """A line of the second table; all but `runs` are parts of the runs."""

    family: str
    features: int
    epsilon: float
    noises: int
    runs: int
    silhouette_right: float
    elbow_right: float
    agreed: float
    agreed_and_wrong: float


@dataclass(frozen=True, slots=True)
class Stabilities:
    """A line of the third table."""

    family: str
    epsilon: float
    noises: int
    segments: int
    predicted: float
    """Mean of the stability that the first run predicts."""
    found_again: float
    """Mean overlap with the most similar segment of runs with other noise."""
    typical_difference: float
    """Mean absolute difference of the two."""
    called_right: float
    """Part of the segments of which the prediction says rightly whether they are stable."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A family and a budget."""

    family: str
    epsilon: Fraction
    noises: int
    repetitions: int

    def run(self, points: NDArray[np.int32], k: int, noise: int) -> State:
        """A run whose public coins are always the same."""
        shares = Budget(rho_of(PrivacyBudget(self.epsilon, DELTA)), self.noises)
        settings = Settings(k, points.shape[1], len(points), 1, Profile.STANDARD, shares)
        return fedseg_state([points], settings, SimulatedNoise(noise))

    def errors(self, points: NDArray[np.int32], noise: int) -> list["Errors"]:
        """Of all segments of a run."""
        return errors(self.run(points, SEGMENTS, noise), points, long_tails=self.family not in LOGARITHMS)

    @property
    def seeds(self) -> list[tuple[int, int]]:
        """Seeds of data and noise of each repetition."""
        return [(FIRST_SEED + number % DRAWS, number) for number in range(self.repetitions)]


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """A segment's published numbers beside the truth, in standard deviations of the noise."""

    size: float
    means: NDArray[np.float64]
    variances: NDArray[np.float64]
    half_widths: NDArray[np.float64]
    seen: bool
    clipped: bool


def main() -> None:
    """Measure and print."""
    chosen = _options().parse_args()
    cells = [
        Cell(family, epsilon, chosen.noises, chosen.repetitions)
        for family, epsilon in itertools.product(chosen.families, chosen.epsilon)
    ]
    os.environ |= {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    with ProcessPoolExecutor(chosen.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        measure = partial(_measure, pool, cells)
        parts: dict[str, list[Intervals] | list[Choices] | list[Stabilities]] = {}
        if "intervals" in chosen.tables:
            parts["intervals"] = measure("intervals", intervals)
        if "choice" in chosen.tables:
            parts["choice"] = [
                row for features in (5, 10) for row in measure("choice", partial(choices, features=features))
            ]
        if "stability" in chosen.tables:
            parts["stability"] = measure("stability", stabilities)
    _show(parts, chosen.format)


Row = TypeVar("Row", Intervals, Choices, Stabilities)


def _measure(pool: ProcessPoolExecutor, cells: Sequence[Cell], name: str, one: Callable[[Cell], Row]) -> list[Row]:
    rows: list[Row] = []
    with progress_on_stderr() as progress:
        for row in pool.map(one, cells):
            rows.append(row)
            progress(name, len(rows), len(cells))
    return rows


def intervals(cell: Cell) -> Intervals:
    """Coverage over repetitions, segments and features."""
    shape = Shape(cell.family, CUSTOMERS, 10, SEGMENTS)
    draws = {seed: shape.draw(seed) for seed, _ in cell.seeds}
    found = [one for seed, noise in cell.seeds for one in cell.errors(draws[seed], noise)]
    seen = [one for one in found if one.seen]
    clear, clipped = [one for one in seen if not one.clipped], [one for one in seen if one.clipped]
    return Intervals(
        family=cell.family,
        epsilon=float(cell.epsilon),
        noises=cell.noises,
        segments=len(found),
        size=fmean(abs(one.size) <= TWO_SIDED_95 for one in found),
        mean=_covered([one.means for one in clear]),
        variance=_covered([one.variances for one in clear]),
        clipped_part=len(clipped) / max(len(seen), 1),
        clipped_mean=_covered([one.means for one in clipped]),
        clipped_variance=_covered([one.variances for one in clipped]),
        half_width=float(np.median(np.concatenate([one.half_widths for one in clear]))) if clear else None,
    )


def errors(state: State, points: NDArray[np.int32], *, long_tails: bool) -> list[Errors]:
    """Of every segment that holds two customers or more."""
    assert state.outcome is not None
    shown, labels = profiles(state, long_tails=long_tails), nearest_center(points, state.outcome.request.centers)
    made: list[Errors] = []
    for segment in range(state.settings.k):
        rows = points[labels == segment].astype(np.float64)
        if len(rows) < 2:  # noqa: PLR2004 (a variance)
            continue
        means, variances = rows.mean(axis=0), rows.var(axis=0)
        made.append(
            Errors(
                size=(shown.counts[segment] - len(rows)) / shown.count_sd,
                means=(shown.means[segment] - means) / shown.mean_sds[segment],
                variances=(shown.variances[segment] - variances) / shown.variance_sds[segment],
                half_widths=TWO_SIDED_95 * shown.mean_sds[segment] / np.sqrt(np.maximum(variances, 1.0)),
                seen=bool(shown.seen[segment]),
                clipped=bool(shown.clipped[segment]),
            )
        )
    return made


def choices(cell: Cell, *, features: int) -> Choices:
    """How often each criterion is right."""
    made: list[tuple[int, Choice]] = []
    for true, (seed, noise) in itertools.product(TRUE_NUMBERS, cell.seeds):
        points = Shape(cell.family, CUSTOMERS, features, true).draw(seed)
        made.append((true, choice(cell.run(points, K_MAX, noise))))
    return Choices(
        family=cell.family,
        features=features,
        epsilon=float(cell.epsilon),
        noises=cell.noises,
        runs=len(made),
        silhouette_right=fmean(found.silhouette == true for true, found in made),
        elbow_right=fmean(found.elbow == true for true, found in made),
        agreed=fmean(found.agreed for _, found in made),
        agreed_and_wrong=fmean(found.agreed and found.elbow != true for true, found in made),
    )


def choice(state: State) -> Choice:
    """As it is published, with every segment above the noise large enough to be shown."""
    assert state.outcome is not None
    seen, estimate = profiles(state).seen, state.outcome.estimate
    return choose_k(
        np.rint(estimate.means[seen]).astype(np.int32),
        np.maximum(estimate.customers[seen], 1.0),
        estimate.variances[seen],
    )


def stabilities(cell: Cell) -> Stabilities:
    """Predicted from one run, and found in others on the same customers with the same public coins."""
    shape = Shape(cell.family, CUSTOMERS, 10, SEGMENTS)
    predicted: list[float] = []
    found: list[float] = []
    for seed, noise in cell.seeds[: max(1, cell.repetitions // 2)]:
        points = shape.draw(seed)
        runs = [cell.run(points, shape.k, 1000 * noise + number) for number in range(1 + OTHER_RUNS)]
        first, *others = [nearest_center(points, run.segments) for run in runs]
        again = np.mean([overlaps(first, other, shape.k) for other in others], axis=0)
        full = np.bincount(first, minlength=shape.k) > 0
        predicted += stability(runs[0])[full].tolist()
        found += again[full].tolist()
    pairs = list(zip(predicted, found, strict=True))
    return Stabilities(
        family=cell.family,
        epsilon=float(cell.epsilon),
        noises=cell.noises,
        segments=len(pairs),
        predicted=fmean(predicted),
        found_again=fmean(found),
        typical_difference=fmean(abs(one - other) for one, other in pairs),
        called_right=fmean((one >= STABLE) == (other >= STABLE) for one, other in pairs),
    )


def overlaps(labels: NDArray[np.intp], others: NDArray[np.intp], k: int) -> NDArray[np.float64]:
    """Largest Jaccard index of each segment with any of the others', shape (k,)."""
    both = np.bincount(labels * k + others, minlength=k * k).reshape(k, k)
    either = np.bincount(labels, minlength=k)[:, None] + np.bincount(others, minlength=k) - both
    best: NDArray[np.float64] = (both / np.maximum(either, 1)).max(axis=1)
    return best


def _covered(errors: Sequence[NDArray[np.float64]]) -> float | None:
    return float((np.abs(np.concatenate(errors)) <= TWO_SIDED_95).mean()) if errors else None


def _show(parts: dict[str, list[Intervals] | list[Choices] | list[Stabilities]], format_: str) -> None:
    if format_ == "json":
        rows_of_all = [{"table": name} | asdict(row) for name, rows in parts.items() for row in rows]
        print(json.dumps({"rows": rows_of_all}, indent=2))
        return
    for name, rows in parts.items():
        cells = [[_text(one) for one in astuple(row)] for row in rows]
        head = [field.name for field in fields(rows[0])]
        print(f"{name}:\n{table([head, *cells], right=range(1, len(head)))}\n")


def _text(value: str | float | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__ or "")
    made.add_argument("--tables", type=_names("intervals", "choice", "stability"), default="intervals,choice,stability")
    made.add_argument("--families", type=_names(*FAMILIES), default=",".join(FAMILIES))
    made.add_argument("--epsilon", type=lambda text: [Fraction(one) for one in text.split(",")], default="0.5,1,2,4")
    made.add_argument("--noises", type=int, default=1, help="in a sum: units that each add their own")
    made.add_argument("--repetitions", type=int, default=20, help=f"runs of a cell, by turns on {DRAWS} draws")
    made.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, of one thread each")
    return made


def _names(*known: str) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        unknown = set(text.split(",")) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"{min(unknown)!r} is none of {', '.join(known)}")
        return text.split(",")

    return names


if __name__ == "__main__":
    main()
