"""What the compiled loops are held against: rows, requests and vectors, many of them at the edges."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering import statistics
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.lattice import UNIT_MAX, UNIT_MIN, Lattice, Statistic
from fedseg.clustering.request import RADIUS_MAX, RoundRequest
from fedseg.clustering.statistics import customer_vectors
from fedseg.privacy import sensitive
from fedseg.privacy.sensitive import ENTRY_MAX, bounded_sums

T = TypeVar("T")
Choice = Callable[[Callable[..., None]], Callable[..., None] | None]

INTEGERS = st.integers(-FEATURE_MAX, FEATURE_MAX) | st.sampled_from([-FEATURE_MAX, FEATURE_MAX, 0, 1])
WEIGHTS = st.integers(1, UNIT_MAX) | st.just(UNIT_MAX)
ENTRIES = st.integers(-60, 60) | st.sampled_from([-(2**63), -ENTRY_MAX - 1, -ENTRY_MAX, ENTRY_MAX, 2**32, 2**63 - 1])


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Customers and what is asked of them."""

    rows: NDArray[np.int32]
    request: RoundRequest
    lattice: Lattice


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    """Few customers of few features, many of them in corners and on ties."""
    features, cells, count = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(0, 12))
    coins = np.random.default_rng(draw(st.integers(0, 2**32)))
    centers = coins.integers(-FEATURE_MAX, FEATURE_MAX, (cells, features), np.int32, endpoint=True)
    rows = coins.integers(-FEATURE_MAX, FEATURE_MAX, (count, features), np.int32, endpoint=True)
    for place in range(count):  # of some customers a drawn number, of some a reference point, of some a middle
        kind = draw(st.integers(0, 4))
        if kind == 0:
            rows[place, draw(st.integers(0, features - 1))] = draw(INTEGERS)
        elif kind == 1:
            rows[place] = centers[draw(st.integers(0, cells - 1))]
        elif kind == 2:
            rows[place] = (centers[0].astype(np.int64) + centers[-1]) // 2
    radii = [draw(st.integers(1, RADIUS_MAX) | st.integers(1, 40)) for _ in range(cells)]
    lattice = Lattice(Statistic.CELLS, draw(st.integers(UNIT_MIN, UNIT_MAX)), draw(WEIGHTS), draw(WEIGHTS))
    return Asked(rows, RoundRequest(0, centers, np.array(radii, np.int32)), lattice)


@st.composite
def vectors(draw: st.DrawFn) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Labels below 20 and vectors of three entries, some of them longer than may count."""
    drawn = draw(st.lists(st.tuples(st.integers(0, 19), st.tuples(ENTRIES, ENTRIES, ENTRIES)), max_size=30))
    labels = np.array([cell for cell, _ in drawn], np.intp)
    return labels, np.array([vector for _, vector in drawn], np.int64).reshape(-1, 3)


def many_rows(features: int, cells: int, count: int) -> Asked:
    """Enough customers for several blocks and the rest of one."""
    coins = np.random.default_rng(features)
    centers = coins.integers(-FEATURE_MAX, FEATURE_MAX, (cells, features), np.int32, endpoint=True)
    rows = coins.integers(-FEATURE_MAX, FEATURE_MAX, (count, features), np.int32, endpoint=True)
    radii = coins.integers(1, RADIUS_MAX, cells, np.int32)
    return Asked(rows, RoundRequest(0, centers, radii), Lattice(Statistic.CELLS, 2**20, 2**19, 2**17))


def by(choice: Choice, run: Callable[[], T]) -> T:
    """What `run` gives if `choice` says what becomes of a loop: None for the array operations."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (statistics, sensitive):
            patch.setattr(module, "compiled", choice)
        return run()


def vectors_by(choice: Choice, one: Asked) -> list[list[int]]:
    """Each customer's cell and vector."""
    labels, found = by(choice, lambda: customer_vectors(one.rows, one.request, one.lattice))
    assert labels.dtype == np.intp
    assert found.dtype == np.int64
    together: list[list[int]] = np.column_stack([labels, found]).tolist()
    return together


def sums_by(
    choice: Choice,
    chunk: tuple[NDArray[np.intp], NDArray[np.int64]],
    squared: int,
) -> list[int]:
    """The sums of vectors in 20 cells."""
    sums = by(choice, lambda: bounded_sums([chunk], cells=20, width=3, l2_sensitivity_squared=squared))
    return [int(one) for one in sums]
