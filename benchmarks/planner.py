"""Whether `fedseg plan show` predicts well: what it says beforehand beside what is then measured, on made-up customers.

Without options everything is measured on data of seeds 300 and up. `--fit` measures on seeds 100 and up instead, fits
the planner's curves to that and writes them into fedseg/clustering/planner.py. A prediction of the excess counts as
within if it is at most twice off, or below 0.006 where the measured one is below 0.003.
"""

import argparse
import itertools
import math
import multiprocessing
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import differential_evolution

import fedseg.clustering.planner
from benchmarks.accuracy.families import SHAPES, Shape
from benchmarks.accuracy.reference import cost, nearest, reference, unit_box
from benchmarks.accuracy.trust import Trust
from benchmarks.output import parser, show
from fedseg.cli.progress import progress_on_stderr
from fedseg.clustering.algorithm import Aggregate, Settings, State, init, next_request, step
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.planner import COARSE_COLUMNS, SIGNAL_MIN, TWO_SIDED_95, ExcessCurve, Sharing, forecast
from fedseg.clustering.quality import profiles
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.schedule import Profile, step_terms
from fedseg.clustering.statistics import customer_vectors
from fedseg.privacy.budget import PrivacyBudget, rho_of

DELTA = Fraction(1, 10**6)
EPSILONS = (Fraction(1, 4), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4))
TRUSTS = ((Trust.SECURE_AGGREGATION, 1), (Trust.UNIT_NOISE, 5), (Trust.UNIT_NOISE, 20))
"""Trust models and units; how many units there are changes nothing under secure aggregation."""

FIT_SEED, MEASURED_SEED = 100, 300
DRAWS = 4
"""Draws of each shape that the repetitions go through in turn."""

AMOUNTS = frozenset({"rfm"})
"""Families whose columns a plan would describe as amounts on a linear scale."""

NEGLIGIBLE = 0.003
"""An excess that nobody needs to know better than that it is below twice this."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured: a shape, a budget, a trust model."""

    shape: Shape
    profile: Profile
    epsilon: Fraction
    trust: Trust
    units: int

    def settings(self, seed: int) -> Settings:
        """Of the algorithm; every customer is in one unit only."""
        sharing = Sharing(self.units, 1, secure_aggregation=self.trust is Trust.SECURE_AGGREGATION)
        budget = sharing.budget(rho_of(PrivacyBudget(self.epsilon, DELTA)))
        return Settings(self.shape.k, self.shape.d, self.shape.n, seed, self.profile, budget)

    @property
    def amounts_share(self) -> float:
        """Part of the columns that are amounts."""
        return float(self.shape.family in AMOUNTS)


@dataclass(frozen=True, slots=True)
class Run:
    """What came out of one run."""

    excess: float
    mean_half_width: float


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    data: str
    profile: str
    trust: str
    units: int
    epsilon: float
    signal: float
    excess_predicted: float
    excess_measured: float
    within: bool
    within_untold: bool
    """The same for a planner that is not told which features are amounts."""
    mean_half_width_predicted: float
    mean_half_width_measured: float
    repetitions: int


def main() -> int:
    """Measure and compare, or measure and fit."""
    chosen = _options().parse_args()
    first_seed = FIT_SEED if chosen.fit else MEASURED_SEED
    profiles_asked = tuple(Profile) if chosen.fit else (Profile(chosen.profile),)
    shapes = [shape for shape in SHAPES if chosen.data in ("", shape.name)]
    cells = [
        Cell(shape, profile, epsilon, trust, units)
        for shape, profile, epsilon, (trust, units) in itertools.product(shapes, profiles_asked, chosen.epsilon, TRUSTS)
    ]
    measured = measure(cells, chosen.repetitions, first_seed, chosen.jobs)
    if chosen.fit:
        for profile in profiles_asked:
            _write_curve(profile, fit({cell: runs for cell, runs in measured.items() if cell.profile is profile}))
        return 0
    rows = [_row(cell, runs) for cell, runs in measured.items()]
    show([asdict(row) for row in rows], chosen.format)
    for name, share in summary(rows).items():
        print(f"within a factor of two, {name}: {100 * share:.0f} %", file=sys.stderr)
    return 0


def measure(cells: Sequence[Cell], repetitions: int, first_seed: int, jobs: int) -> dict[Cell, list[Run]]:
    """All runs of all cells; the cells of one draw of a shape in one process, which draws it once."""
    os.environ |= {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    parts = [
        ([cell for cell in cells if cell.shape == shape], first_seed + draw, range(draw, repetitions, DRAWS))
        for shape in dict.fromkeys(cell.shape for cell in cells)
        for draw in range(min(DRAWS, repetitions))
    ]
    measured: defaultdict[Cell, list[Run]] = defaultdict(list)
    spawn = multiprocessing.get_context("spawn")
    with progress_on_stderr() as progress, ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        for number, found in enumerate(pool.map(_measure_draw, *zip(*parts, strict=True)), 1):
            progress("measuring", number, len(parts))
            for cell, runs in found.items():
                measured[cell] += runs
    return dict(measured)


def _measure_draw(cells: Sequence[Cell], seed: int, repetitions: Iterable[int]) -> dict[Cell, list[Run]]:
    points = cells[0].shape.draw(seed)
    best, rows, runs = reference(points, cells[0].shape.k).cost, unit_box(points), list(repetitions)
    return {cell: [_run(cell, points, rows, best, 1000 * seed + number) for number in runs] for cell in cells}


def _run(cell: Cell, points: NDArray[np.int32], rows: NDArray[np.float64], best: float, seed: int) -> Run:
    done = found_segments(cell.settings(seed), points, np.random.default_rng(seed))
    return Run(cost(rows, done.segments / FEATURE_MAX) / best - 1, _mean_half_width(done, rows))


def _mean_half_width(done: State, rows: NDArray[np.float64]) -> float:
    """Of the median interval of a mean, in true standard deviations within the segment, over segments and features."""
    assert done.outcome is not None
    labels = nearest(rows, unit_box(done.outcome.request.centers))
    shown = profiles(done)
    full = [segment for segment in range(len(shown.means)) if np.count_nonzero(labels == segment) > 1]
    deviations = np.array([FEATURE_MAX * rows[labels == segment].std(axis=0) for segment in full])
    return float(np.median(TWO_SIDED_95 * shown.mean_sds[full] / np.maximum(deviations, 1.0)))


def found_segments(settings: Settings, points: NDArray[np.int32], noise: np.random.Generator) -> State:
    """All rounds on customers in memory, with rounded Gaussian noise of the right strength: quick, NEVER PRIVATE."""
    plan, state = step_terms(settings.rounds, settings.dimensions, settings.budget.rho), init(settings)
    noises = settings.budget.noises
    while (request := next_request(state)) is not None:
        terms = plan[state.step]
        sd = terms.mechanism.sigma * math.sqrt(noises)
        sums = _sums(points, request, terms) + np.rint(sd * noise.standard_normal((terms.cells, terms.width)))
        state = step(state, Aggregate(state.step, sums.astype(np.int64), terms, noises))
    return state


def _sums(points: NDArray[np.int32], request: RoundRequest, terms: StepTerms) -> NDArray[np.float64]:
    labels, vectors = customer_vectors(points, request, terms.lattice)
    return np.stack([np.bincount(labels, column, terms.cells) for column in vectors.T], axis=1)


def _row(cell: Cell, runs: Sequence[Run]) -> Row:
    expected = forecast(cell.settings(0), min_segment_size=1, amounts_share=cell.amounts_share)
    untold = forecast(cell.settings(0), min_segment_size=1, amounts_share=0).excess
    excess = float(np.median([run.excess for run in runs]))
    return Row(
        data=cell.shape.name,
        profile=cell.profile.value,
        trust=cell.trust.value,
        units=cell.units,
        epsilon=float(cell.epsilon),
        signal=expected.signal,
        excess_predicted=expected.excess,
        excess_measured=excess,
        within=is_within(expected.excess, excess),
        within_untold=is_within(untold, excess),
        mean_half_width_predicted=expected.mean_half_width,
        mean_half_width_measured=float(np.median([run.mean_half_width for run in runs])),
        repetitions=len(runs),
    )


def is_within(predicted: float, measured: float) -> bool:
    """Whether a prediction is good enough."""
    negligible = measured < NEGLIGIBLE and predicted < 2 * NEGLIGIBLE
    return negligible or measured / 2 <= predicted <= 2 * measured


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """Parts of the cells whose prediction is within a factor of two."""
    parts = {
        "all": [row.within for row in rows],
        "all, told nothing of amounts": [row.within_untold for row in rows],
        f"signal of {SIGNAL_MIN:g} and more": [row.within for row in rows if row.signal >= SIGNAL_MIN],
        **{f"{one.trust} of {one.units}": [row.within for row in rows if row.units == one.units] for one in rows},
    }
    return {name: sum(part) / len(part) for name, part in parts.items() if part}


def fit(measured: Mapping[Cell, Sequence[Run]]) -> ExcessCurve:
    """The curve with the fewest predictions beyond a factor of two, and the others as near as can be.

    Of each cell the logarithm e of predicted over measured costs |e|, capped, and a step at |e| = ln 2 made smooth, so
    that a few hopeless cells move nothing.
    """
    cells = list(measured)
    signals = np.array([forecast(cell.settings(0), min_segment_size=1, amounts_share=0).signal for cell in cells])
    found = np.array([max(float(np.median([run.excess for run in measured[cell]])), 1e-5) for cell in cells])
    columns = np.array([float(min(cell.shape.d, COARSE_COLUMNS)) for cell in cells])
    shares = np.array([cell.amounts_share for cell in cells])

    def predicted(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        lost, lost_power, coarse, coarse_power, amounts = parameters
        steep = np.exp(lost_power * (lost - np.log(signals)))
        both: NDArray[np.float64] = (
            steep + np.exp(coarse_power * (coarse - np.log(signals)) + amounts * shares) / columns
        )
        return both

    def loss(parameters: NDArray[np.float64]) -> float:
        guess = predicted(parameters)
        target = np.where(found < NEGLIGIBLE, np.minimum(guess, 2 * NEGLIGIBLE), found)
        off = np.abs(np.log(guess / target))
        return float(np.mean(np.minimum(off, 1.5) + 4 / (1 + np.exp(-12 * (off - math.log(2))))))

    bounds = [(-1.0, 4.0), (1.0, 4.0), (-8.0, 5.0), (0.3, 2.0), (0.0, 4.0)]
    best = differential_evolution(loss, bounds, seed=1, maxiter=400, tol=1e-9).x
    scales = (math.exp(best[0]), best[1], math.exp(best[2]), best[3], math.exp(best[4]))
    return ExcessCurve(*(float(f"{value:.3g}") for value in scales))


def _write_curve(profile: Profile, curve: ExcessCurve) -> None:
    """Put a curve into the planner's source, and say so."""
    source = Path(fedseg.clustering.planner.__file__)
    text = source.read_text(encoding="utf-8")
    line = f"Profile.{profile.name}: {_written(curve)}"
    changed, count = re.subn(rf"Profile\.{profile.name}: ExcessCurve\([^)]*\)", line, text)
    if count != 1:
        raise ValueError(f"{source} has no single curve for {profile.name}")
    source.write_text(changed, encoding="utf-8")
    print(line)


def _written(curve: ExcessCurve) -> str:
    return f"ExcessCurve({', '.join(f'{one.name}={getattr(curve, one.name)}' for one in fields(curve))})"


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__ or "")
    made.add_argument("--fit", action="store_true", help="fit the curves, and write them into the planner")
    made.add_argument("--profile", choices=[profile.value for profile in Profile], default=Profile.STANDARD.value)
    made.add_argument("--data", choices=["", *(shape.name for shape in SHAPES)], default="", help="one shape alone")
    made.add_argument("--epsilon", type=Fraction, nargs="+", default=EPSILONS, help="1/4 1/2 1 2 4")
    made.add_argument("--repetitions", type=int, default=8, help=f"runs of a cell, by turns on {DRAWS} draws")
    made.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, of one thread each")
    return made


if __name__ == "__main__":
    sys.exit(main())
