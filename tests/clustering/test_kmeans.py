"""The server's k-means is as good as scikit-learn's, and exact: weights are copies, and no order of points matters."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.kmeans import (
    POINTS_MAX,
    WEIGHT_MAX,
    Cloud,
    cell_totals,
    coarse,
    cost,
    kmeans,
    lloyd,
    plus_plus,
    sample_points,
    squared_distances,
)
from fedseg.clustering.nearest import nearest_center
from tests.small_run import clumps

COORDINATES = st.integers(-FEATURE_MAX, FEATURE_MAX) | st.sampled_from([-FEATURE_MAX, 0, 1, FEATURE_MAX])


def cloud_of(points: NDArray[np.int32], weights: Sequence[int] | NDArray[np.int64] | None = None) -> Cloud:
    return Cloud(points, np.ones(len(points), np.int64) if weights is None else np.array(weights, np.int64))


@st.composite
def clouds(draw: st.DrawFn, weight_max: int = WEIGHT_MAX) -> Cloud:
    dimensions, count = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    point = st.lists(COORDINATES, min_size=dimensions, max_size=dimensions)
    points = draw(st.lists(point, min_size=count, max_size=count))
    weights = draw(st.lists(st.integers(1, weight_max), min_size=count, max_size=count))
    return cloud_of(np.array(points, np.int32), weights)


@settings(max_examples=150)
@given(cloud=clouds(), k=st.integers(1, 8), seed=st.integers(0, 99))
def test_centers_are_on_the_lattice_in_the_box_and_the_same_again(cloud: Cloud, k: int, seed: int) -> None:
    centers = kmeans(cloud, k, np.random.default_rng(seed), restarts=2)
    assert centers.dtype == np.int32
    assert centers.shape == (k, cloud.points.shape[1])
    assert (centers >= cloud.points.min(axis=0)).all()
    assert (centers <= cloud.points.max(axis=0)).all()
    assert np.array_equal(kmeans(cloud, k, np.random.default_rng(seed), restarts=2), centers)


@settings(max_examples=150)
@given(cloud=clouds(weight_max=5), k=st.integers(1, 5), data=st.data())
def test_a_weight_is_as_many_copies_of_a_point_in_any_order(cloud: Cloud, k: int, data: st.DataObject) -> None:
    start = plus_plus(cloud, k, np.random.default_rng(3))
    copies = np.repeat(cloud.points, cloud.weights, axis=0)
    shuffled = cloud_of(copies[data.draw(st.permutations(range(len(copies))))])
    assert np.array_equal(lloyd(cloud, start, 5), lloyd(shuffled, start, 5))
    assert cost(shuffled, start) == pytest.approx(cost(cloud, start), rel=1e-12)


@settings(max_examples=150)
@given(cloud=clouds(), k=st.integers(1, 5))
def test_each_center_is_the_rounded_mean_of_its_points(cloud: Cloud, k: int) -> None:
    start = plus_plus(cloud, k, np.random.default_rng(3))
    labels, found = nearest_center(cloud.points, start).tolist(), lloyd(cloud, start, 1)
    for cell in range(k):
        inside = [place for place, label in enumerate(labels) if label == cell]
        if not inside:
            assert np.array_equal(found[cell], start[cell])
            continue
        weight = sum(int(cloud.weights[place]) for place in inside)
        for column in range(found.shape[1]):
            total = sum(int(cloud.weights[place]) * int(cloud.points[place, column]) for place in inside)
            assert abs(2 * (total - weight * int(found[cell, column]))) <= weight


def test_sums_stay_exact_for_the_largest_cloud_there_may_be() -> None:
    points = np.full((POINTS_MAX, 1), FEATURE_MAX, np.int32)
    points[-1] -= 1
    full = np.full(POINTS_MAX, WEIGHT_MAX, np.int64)
    totals = cell_totals(np.zeros(POINTS_MAX, np.intp), 1, full, points.astype(np.float64))
    assert int(totals[0, 0]) == POINTS_MAX * WEIGHT_MAX * FEATURE_MAX - WEIGHT_MAX


def test_distances_stay_exact_in_the_widest_box_of_a_plan() -> None:
    corner = np.full((2, 1024), FEATURE_MAX, np.float64)
    other = -corner
    other[1, 5] += 1
    expected = [1024 * (2 * FEATURE_MAX) ** 2, 1023 * (2 * FEATURE_MAX) ** 2 + (2 * FEATURE_MAX - 1) ** 2]
    assert squared_distances(corner, other).tolist() == expected


@pytest.mark.parametrize(("k", "dimensions"), [(3, 2), (8, 10), (16, 5), (5, 30)])
@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_it_costs_at_most_a_hundredth_more_than_scikit_learns(k: int, dimensions: int, spread: float) -> None:
    points = clumps(1000, dimensions, k, seed=dimensions, spread=spread)
    weights = np.random.default_rng(1).integers(1, 2000, len(points))
    peer = KMeans(k, n_init=10, random_state=0).fit(points.astype(np.float64), sample_weight=weights)
    cloud = cloud_of(points, weights)
    ours = cost(cloud, kmeans(cloud, k, np.random.default_rng(2), restarts=10))
    assert ours <= 1.01 * peer.inertia_


@pytest.mark.parametrize("k", [1, 2, 5])
def test_one_point_is_every_center(k: int) -> None:
    cloud = cloud_of(np.array([[7, -8]], np.int32), [WEIGHT_MAX])
    assert kmeans(cloud, k, np.random.default_rng(0), restarts=3).tolist() == [[7, -8]] * k
    assert sample_points(cloud, k, np.random.default_rng(0)).tolist() == [[7, -8]] * k


@given(distinct=st.integers(1, 5), surplus=st.integers(0, 4), seed=st.integers(0, 99))
def test_with_fewer_distinct_points_than_centers_each_point_is_one(distinct: int, surplus: int, seed: int) -> None:
    points = clumps(distinct, 3, distinct, seed=seed)
    cloud = cloud_of(np.repeat(points, 4, axis=0))
    centers = kmeans(cloud, distinct + surplus, np.random.default_rng(seed))
    assert {tuple(center) for center in centers.tolist()} == {tuple(point) for point in points.tolist()}
    assert cost(cloud, centers) == 0


def test_more_iterations_never_cost_more() -> None:
    cloud, coins = cloud_of(clumps(500, 4, 9, seed=5, spread=0.2)), np.random.default_rng(4)
    start = plus_plus(cloud, 9, coins)
    costs = [cost(cloud, lloyd(cloud, start, iterations)) for iterations in (0, 1, 2, 5, 50)]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("weight", [1, 1000, WEIGHT_MAX])
def test_a_coarse_copy_stands_for_all_points_by_their_weights(weight: int) -> None:
    points = clumps(4000, 3, 5, seed=6)
    cloud = cloud_of(points, np.full(4000, weight))
    copy = coarse(cloud, 300, np.random.default_rng(1))
    assert len(copy.points) <= 300
    mean = np.average(copy.points, axis=0, weights=copy.weights)
    assert mean == pytest.approx(points.mean(axis=0), abs=FEATURE_MAX / 200)
    assert coarse(cloud, 4000, np.random.default_rng(1)) is cloud


def test_a_plain_sample_takes_each_point_once_as_long_as_there_are_enough() -> None:
    cloud = cloud_of(clumps(40, 2, 3, seed=2), range(1, 41))
    taken = sample_points(cloud, 40, np.random.default_rng(1))
    assert sorted(taken.tolist()) == sorted(cloud.points.tolist())
    assert len(sample_points(cloud, 41, np.random.default_rng(1))) == 41


WRONG = {
    "no point": (np.zeros((0, 2), np.int32), []),
    "a weight too few": (np.zeros((2, 2), np.int32), [1]),
    "a weight of nothing": (np.zeros((2, 2), np.int32), [1, 0]),
    "a weight too large for exact sums": (np.zeros((2, 2), np.int32), [1, WEIGHT_MAX + 1]),
    "more points than sums stay exact for": (np.zeros((POINTS_MAX + 1, 1), np.int32), [1] * (POINTS_MAX + 1)),
}


@pytest.mark.parametrize("parts", WRONG.values(), ids=list(WRONG))
def test_a_cloud_is_right_from_birth(parts: tuple[NDArray[np.int32], list[int]]) -> None:
    with pytest.raises(ValueError, match=r"a cloud has|a weight lies"):
        cloud_of(*parts)
