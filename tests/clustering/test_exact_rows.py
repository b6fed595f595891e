"""A customer's cell and vector depend on that customer's row alone: not on batch, order, position or threads."""

import hashlib
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering import nearest, statistics
from fedseg.clustering.features import DIMENSIONS_MAX, FEATURE_MAX, NumericFeature, Transform
from fedseg.clustering.lattice import UNIT_MAX, Lattice, Statistic
from fedseg.clustering.nearest import nearest_center
from fedseg.clustering.request import RADIUS_MAX, RoundRequest
from fedseg.clustering.statistics import bounded_residuals, ceil_sqrt, customer_vectors
from tests.small_run import exact

ROOT = Path(__file__).parents[2]

LATTICES = [Lattice(statistic, UNIT_MAX, 12345, 678_901) for statistic in Statistic]

CASES = [
    pytest.param(dimensions, lattice, id=f"{lattice.statistic} of {dimensions} features")
    for dimensions in (1, 3, 50, 257)
    for lattice in LATTICES
    if lattice.statistic is not Statistic.SECOND_MOMENT or dimensions <= 50
]

THREADED = """
import sys
import numpy as np
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.lattice import Lattice, Statistic
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.statistics import customer_vectors
import hashlib

coins = np.random.default_rng(5)
rows = coins.integers(-FEATURE_MAX, FEATURE_MAX, (30_011, 50), np.int32, endpoint=True)
centers = coins.integers(-FEATURE_MAX, FEATURE_MAX, (37, 50), np.int32, endpoint=True)
request = RoundRequest(0, centers, np.full(37, 300_000, np.int32))
found = hashlib.sha256()
for statistic in Statistic:
    for vectors in customer_vectors(rows[::7], request, Lattice(statistic, 2**20, 1000, 1000)):
        found.update(vectors.tobytes())
print(found.hexdigest())
"""


def some_rows(dimensions: int, count: int = 301) -> tuple[NDArray[np.int32], RoundRequest]:
    """Rows and reference points in the whole box, many of them in its corners, and many ties."""
    coins = np.random.default_rng(dimensions)
    shape = (count, dimensions)
    rows = coins.integers(-FEATURE_MAX, FEATURE_MAX, shape, np.int32, endpoint=True)
    rows[::7] = np.sign(rows[::7]) * FEATURE_MAX
    centers = rows[coins.integers(count, size=9)] // 3
    centers[4:6] = centers[0]
    return rows, RoundRequest(0, centers, coins.integers(1, RADIUS_MAX, 9, np.int32, endpoint=True))


@pytest.mark.parametrize(("dimensions", "lattice"), CASES)
def test_each_row_alone_gives_what_it_gives_among_all(dimensions: int, lattice: Lattice) -> None:
    rows, request = some_rows(dimensions)
    labels, vectors = customer_vectors(rows, request, lattice)
    for index, row in enumerate(rows):
        label, vector = customer_vectors(row[None, :], request, lattice)
        assert label[0] == labels[index]
        assert np.array_equal(vector[0], vectors[index])


@pytest.mark.parametrize(("dimensions", "lattice"), CASES)
@pytest.mark.parametrize("size", [2, 7, 64, 300])
def test_any_chunk_size_gives_the_same_integers(dimensions: int, lattice: Lattice, size: int) -> None:
    rows, request = some_rows(dimensions)
    labels, vectors = customer_vectors(rows, request, lattice)
    chunks = [customer_vectors(rows[start : start + size], request, lattice) for start in range(0, len(rows), size)]
    assert np.array_equal(np.concatenate([label for label, _ in chunks]), labels)
    assert np.array_equal(np.concatenate([vector for _, vector in chunks]), vectors)


@pytest.mark.parametrize(("dimensions", "lattice"), CASES)
@pytest.mark.parametrize("entries", [1, 100, 2**12])
def test_how_much_is_worked_on_at_once_makes_no_difference(
    monkeypatch: pytest.MonkeyPatch, dimensions: int, lattice: Lattice, entries: int
) -> None:
    rows, request = some_rows(dimensions, 150)
    labels, whole = nearest_center(rows, request.centers), exact(rows, request, lattice)
    monkeypatch.setattr(nearest, "SCORE_ENTRIES", entries)
    monkeypatch.setattr(statistics, "VECTOR_ENTRIES", entries)
    assert np.array_equal(nearest_center(rows, request.centers), labels)
    assert np.array_equal(exact(rows, request, lattice), whole)


@pytest.mark.parametrize(("dimensions", "lattice"), CASES)
def test_any_order_gives_the_same_integers(dimensions: int, lattice: Lattice) -> None:
    rows, request = some_rows(dimensions)
    labels, vectors = customer_vectors(rows, request, lattice)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(rows))
        shuffled_labels, shuffled = customer_vectors(rows[order], request, lattice)
        assert np.array_equal(shuffled_labels, labels[order])
        assert np.array_equal(shuffled, vectors[order])


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda rows: rows[:, ::-1][:, ::-1], lambda rows: rows[::-1][::-1]]
)
@pytest.mark.parametrize("lattice", LATTICES, ids=str)
def test_the_memory_layout_makes_no_difference(
    layout: Callable[[NDArray[np.int32]], NDArray[np.int32]], lattice: Lattice
) -> None:
    rows, request = some_rows(50)
    labels, vectors = customer_vectors(rows, request, lattice)
    other_labels, other = customer_vectors(layout(rows), request, lattice)
    assert np.array_equal(other_labels, labels)
    assert np.array_equal(other, vectors)


@pytest.mark.processes
def test_any_number_of_threads_gives_the_same_integers() -> None:
    def digest(threads: int) -> str:
        variables = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        command = [sys.executable, "-c", THREADED]
        run = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=True
        )
        return run.stdout.strip()

    digests = {digest(threads) for threads in (1, 2, 4)}
    assert len(digests) == 1
    assert len(digests.pop()) == len(hashlib.sha256().hexdigest())


def test_products_of_integers_do_not_depend_on_the_rows_beside_them() -> None:
    # Plain floats do not promise this: measured, the same 400 sizes of unrounded rows moved another row at half of them.
    coins = np.random.default_rng(1)
    rows, directions = coins.normal(size=(400, 50)), coins.normal(size=(50, 5))
    whole = (rows * 1000).round().clip(-FEATURE_MAX, FEATURE_MAX), (directions * 1000).round()
    exact = [whole[0][:size] @ whole[1] for size in range(1, 401)]
    assert all(np.array_equal(longer[:-1], shorter) for shorter, longer in itertools.pairwise(exact))


INTEGERS = st.integers(-FEATURE_MAX, FEATURE_MAX) | st.sampled_from([-FEATURE_MAX, FEATURE_MAX, 0])


@st.composite
def rows_and_centers(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]]]:
    dimensions = draw(st.integers(1, 6))
    point = st.lists(INTEGERS, min_size=dimensions, max_size=dimensions)
    return draw(st.lists(point, min_size=1, max_size=8)), draw(st.lists(point, min_size=1, max_size=8))


@given(rows_and_centers())
def test_the_nearest_reference_point_is_nearest_and_ties_go_to_the_lower_index(
    points: tuple[list[list[int]], list[list[int]]],
) -> None:
    rows, centers = points
    found = nearest_center(np.array(rows, np.int32), np.array(centers, np.int32)).tolist()
    for row, label in zip(rows, found, strict=True):
        distances = [sum((x - c) ** 2 for x, c in zip(row, center, strict=True)) for center in centers]
        assert label == distances.index(min(distances))


@pytest.mark.parametrize("dimensions", [1, 3, 50, 257])
def test_a_reference_point_a_single_step_nearer_wins(dimensions: int) -> None:
    coins = np.random.default_rng(dimensions)
    half = FEATURE_MAX // 2
    rows = coins.integers(-half, half, (50, dimensions), np.int32, endpoint=True)
    for row in rows:
        away = coins.integers(1, half, dimensions, np.int32, endpoint=True)
        centers = np.stack([row + away, row - away, row + away, row - away])  # all equally far
        assert nearest_center(row[None], centers)[0] == 0
        place = coins.integers(dimensions)
        centers[2, place] -= 1
        centers[3, place] += 1
        assert nearest_center(row[None], centers)[0] == 2
        centers[3, place] += away[place] > 1
        assert nearest_center(row[None], centers)[0] == 2 + (away[place] > 1)


def test_products_stay_exact_at_the_most_features_there_may_be() -> None:
    corner = np.full((1, DIMENSIONS_MAX), FEATURE_MAX, np.int32)
    nearly = corner.copy()
    nearly[0, -1] -= 1
    centers = np.concatenate([-corner, -nearly, nearly, corner])
    assert nearest_center(np.concatenate([corner, nearly, -nearly, -corner]), centers).tolist() == [3, 2, 1, 0]


def test_more_features_than_products_stay_exact_for_are_refused() -> None:
    too_many = np.zeros((1, DIMENSIONS_MAX + 1), np.int32)
    with pytest.raises(ValueError, match=f"at most {DIMENSIONS_MAX} features"):
        nearest_center(too_many, too_many)


@given(
    residual=st.lists(st.integers(-(2**20), 2**20) | st.just(2**20), min_size=1, max_size=60),
    radius=st.integers(1, RADIUS_MAX),
    unit=st.integers(1, UNIT_MAX) | st.just(UNIT_MAX),
)
def test_a_bounded_residual_is_never_longer_than_the_unit(residual: list[int], radius: int, unit: int) -> None:
    bounded = bounded_alone(residual, radius, unit)
    assert sum(entry**2 for entry in bounded) <= unit**2
    assert all(entry * whole >= 0 for entry, whole in zip(bounded, residual, strict=True))
    assert all(abs(entry) <= unit * abs(whole) // radius for entry, whole in zip(bounded, residual, strict=True))


def bounded_alone(residual: list[int], radius: int, unit: int) -> list[int]:
    """What becomes of one residual."""
    found = bounded_residuals(np.array([residual], np.float64).T, np.array([radius], np.float64), unit)[:, 0]
    assert np.array_equal(found, np.rint(found))
    return [int(entry) for entry in found]


@settings(max_examples=500)
@given(
    residual=st.lists(st.integers(-(2**20), 2**20) | st.just(2**20), min_size=1, max_size=6),
    radius=st.integers(1, RADIUS_MAX) | st.integers(0, 25).map(lambda power: 2**power),
    unit=st.integers(1, UNIT_MAX) | st.just(UNIT_MAX),
)
def test_a_bounded_residual_is_the_quotient_of_integers(residual: list[int], radius: int, unit: int) -> None:
    square = sum(entry**2 for entry in residual)
    divisor = max(radius, math.isqrt(square) + (math.isqrt(square) ** 2 < square))
    expected = [(abs(entry) * unit // divisor) * (1 if entry > 0 else -1) for entry in residual]
    assert bounded_alone(residual, radius, unit) == expected


@settings(max_examples=500)
@given(st.integers(1, 2**26), st.integers(1, UNIT_MAX), st.integers(0, UNIT_MAX), st.integers(-1, 1))
def test_a_quotient_next_to_a_whole_number_is_truncated_to_the_right_one(
    divisor: int, unit: int, whole: int, beside: int
) -> None:
    # The nearest that unit * entry / divisor can come to a whole number, for a divisor that the radius alone decides.
    entry = min(2**20, max(0, -(-whole * divisor // unit) + beside))
    if entry <= divisor <= RADIUS_MAX:
        assert bounded_alone([entry], divisor, unit) == [entry * unit // divisor]


def test_a_bounded_residual_is_never_longer_than_the_unit_at_the_most_features() -> None:
    bounded = bounded_alone([2**20] * DIMENSIONS_MAX, 1, UNIT_MAX)
    assert 0.999 * UNIT_MAX**2 < sum(entry**2 for entry in bounded) <= UNIT_MAX**2


@settings(max_examples=500)
@given(
    st.integers(0, 2**52)
    | st.integers(0, 2**26).flatmap(
        lambda root: st.sampled_from([root**2, max(0, root**2 - 1), min(root**2 + 1, 2**52)])
    )
    | st.integers(2**26 - 50, 2**26).map(lambda root: root**2)
)
def test_the_rounded_up_root_is_exact(square: int) -> None:
    root = int(ceil_sqrt(np.array([square], np.float64))[0])
    assert root**2 >= square
    assert root == 0 or (root - 1) ** 2 < square


@settings(max_examples=50)
@given(
    values=st.lists(st.floats(), min_size=1, max_size=40), seed=st.integers(0, 99), transform=st.sampled_from(Transform)
)
def test_a_value_is_encoded_the_same_alone_and_at_any_place(
    values: list[float], seed: int, transform: Transform
) -> None:
    feature = NumericFeature("x", lower=0, upper=1000, missing=10, transform=transform)
    order = np.random.default_rng(seed).permutation(len(values))
    column = np.array(values)
    together = feature.positions(column)
    assert np.array_equal(feature.positions(column[order]), together[order])
    assert [int(feature.positions(column[place : place + 1])[0]) for place in range(len(values))] == together.tolist()
