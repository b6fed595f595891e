"""The cells that make up a table, and their measurement in several processes."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction

from benchmarks.accuracy.data_sets import DATA_SETS
from benchmarks.accuracy.measurement import DIFFPRIVLIB, NON_PRIVATE, Cell, Row, measure
from benchmarks.accuracy.trust import Trust
from fedseg.cli.progress import progress_on_stderr


@dataclass(frozen=True, slots=True)
class Asked:
    """What a table spans; every sequence holds at least one value."""

    data: Sequence[str]
    """Names in `DATA_SETS`."""
    trusts: Sequence[Trust]
    units: Sequence[int]
    epsilons: Sequence[Fraction]
    deltas: Sequence[Fraction | None]
    """None stands for n^-1.1, as the literature takes it on real tables; made-up data has no cells for it."""
    algorithms: Sequence[str]


def cells(asked: Asked) -> list[Cell]:
    """All cells of the table, data set by data set.

    Sums over all customers do not depend on how many units hold them, so under secure aggregation there is one cell
    for all numbers of units, measured at the largest.
    """
    return [cell for name in asked.data for algorithm in asked.algorithms for cell in _cells(asked, name, algorithm)]


def measure_all(asked: Sequence[Cell], repetitions: int, first_seed: int, jobs: int) -> list[Row]:
    """A row for each cell, in their order; the same rows for any number of processes.

    Each process keeps to one thread: the same sums in the same order, and no contention.
    """
    # Read by each new process when it loads its linear algebra.
    os.environ |= {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    made: dict[Cell, Row] = {}
    spawn = multiprocessing.get_context("spawn")
    with progress_on_stderr() as progress, ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        running = {pool.submit(measure, cell, repetitions, first_seed): cell for cell in asked}
        try:
            for done in as_completed(running):
                made[running[done]] = done.result()
                progress(running[done].data, len(made), len(asked))
        finally:
            pool.shutdown(cancel_futures=True)
    return [made[cell] for cell in asked]


def _cells(asked: Asked, name: str, algorithm: str) -> Iterator[Cell]:
    if algorithm == NON_PRIVATE:
        yield Cell(name, 1, Trust.NONE, None, None, algorithm)
        return
    for epsilon in asked.epsilons:
        if algorithm == DIFFPRIVLIB:
            yield Cell(name, 1, Trust.CENTRAL, epsilon, Fraction(0), algorithm)
            continue
        for delta in _deltas(asked, name):
            for trust in asked.trusts:
                for units in asked.units if trust is Trust.UNIT_NOISE else [max(asked.units)]:
                    yield Cell(name, units, trust, epsilon, delta, algorithm)


def _deltas(asked: Asked, name: str) -> Iterator[Fraction]:
    for delta in asked.deltas:
        if delta is not None:
            yield delta
        elif DATA_SETS[name].is_real:
            yield Fraction(float(len(DATA_SETS[name].draw(0))) ** -1.1)
