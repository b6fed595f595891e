"""The tree of merges is Ward's, exact, and the same for whoever computes it again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, ward

from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.hierarchy import groups_after, merge_tree
from tests.small_run import clumps


def squares(points: NDArray[np.int32], sizes: NDArray[np.float64], groups: NDArray[np.intp]) -> float:
    """Sum of squared distances to the groups' own means."""
    total = 0.0
    for group in range(int(groups.max()) + 1):
        inside = groups == group
        mean = np.average(points[inside], axis=0, weights=sizes[inside])
        total += float((sizes[inside][:, None] * (points[inside] - mean) ** 2).sum())
    return total


def partition(groups: NDArray[np.intp]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)}


@pytest.mark.parametrize("seed", range(5))
def test_equal_sizes_give_the_groups_of_scipys_ward(seed: int) -> None:
    points = clumps(40, 5, 7, seed)
    tree, theirs = merge_tree(points, np.ones(40)), ward(points.astype(np.float64))
    for k in range(1, 41):
        assert partition(groups_after(tree, k)) == partition(fcluster(theirs, k, "maxclust").astype(np.intp))


@given(
    st.lists(st.tuples(st.integers(-FEATURE_MAX, FEATURE_MAX), st.integers(1, 10**6)), min_size=1, max_size=12),
    st.integers(1, 3),
)
def test_every_merge_costs_what_it_adds_to_the_squared_distances(
    segments: list[tuple[int, int]], features: int
) -> None:
    points = np.array([[place] * features for place, _ in segments], np.int32)
    sizes = np.array([size for _, size in segments], np.float64)
    tree = merge_tree(points, sizes)
    assert len(tree) == len(segments) - 1
    scale = sizes.sum() * features * FEATURE_MAX  # a mean is rounded by at most half a step
    for number, merge in enumerate(tree):
        before, after = groups_after(tree, len(sizes) - number), groups_after(tree, len(sizes) - number - 1)
        grown = squares(points, sizes, after) - squares(points, sizes, before)
        assert merge.cost == pytest.approx(grown, rel=1e-6, abs=4 * scale)


def test_groups_are_nested_and_numbered_by_their_first_segment() -> None:
    tree = merge_tree(clumps(20, 3, 4, 1), np.arange(1.0, 21.0))
    assert groups_after(tree, 20).tolist() == list(range(20))
    assert groups_after(tree, 1).tolist() == [0] * 20
    for k in range(1, 20):
        coarse, fine = groups_after(tree, k), groups_after(tree, k + 1)
        firsts = [int(np.flatnonzero(coarse == group)[0]) for group in range(k)]
        assert firsts == sorted(firsts)
        assert len({(int(a), int(b)) for a, b in zip(fine, coarse, strict=True)}) == k + 1
    assert all(merge.left[0] < merge.right[0] for merge in tree)


def test_a_number_of_groups_that_cannot_be_is_refused() -> None:
    tree = merge_tree(clumps(4, 2, 2, 1), np.ones(4))
    for k in (0, 5):
        with pytest.raises(ValueError, match="4 segments make 1 to 4 groups"):
            groups_after(tree, k)


def test_segments_in_one_place_merge_first_and_cost_nothing() -> None:
    points = np.array([[5, 5], [-900, 3], [5, 5]], np.int32)
    first = merge_tree(points, np.array([3.0, 1.0, 9.0]))[0]
    assert (first.left, first.right, first.cost) == ((0,), (2,), 0.0)
