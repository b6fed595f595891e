"""Which segments are most alike: Ward's tree over the released segments, each with the size it has. Costs no budget."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Merge:
    """Two groups of segments that become one."""

    left: tuple[int, ...]
    """Segments of one group, ascending; the first of all is here."""
    right: tuple[int, ...]
    """Segments of the other, ascending."""
    cost: float
    """By how much the sum of squared distances grows; squared encoded units."""


def merge_tree(centers: NDArray[np.int32], sizes: NDArray[np.float64]) -> tuple[Merge, ...]:
    """Every merge from all segments to one, each the cheapest there is at its time; ties go to the first segments.

    Two groups of sizes a and b with means x and y cost a b / (a + b) ||x - y||^2 more as one. Means stay on the
    lattice, so distances are exact and whoever runs it again gets the same tree.

    Args:
        centers: Shape (segments, features), in encoded units.
        sizes: Customers in each, shape (segments,), positive.

    Reference: Ward, "Hierarchical grouping to optimize an objective function", JASA 1963.

    >>> tree = merge_tree(np.array([[0], [1000], [10]], np.int32), np.array([5.0, 5.0, 5.0]))
    >>> [(one.left, one.right, one.cost) for one in tree]
    [((0,), (2,), 250.0), ((0, 2), (1,), 3300083.3333333335)]
    """
    groups: list[tuple[int, ...]] = [(segment,) for segment in range(len(sizes))]
    means, sizes = centers.astype(np.float64), sizes.copy()
    costs = np.full((len(sizes), len(sizes)), np.inf)  # of a later group (row) with an earlier one (column)
    for segment in range(1, len(sizes)):
        costs[segment, :segment] = _costs(means, sizes, segment)[:segment]
    merges: list[Merge] = []
    for _ in groups[1:]:
        second, first = divmod(int(np.argmin(costs)), len(sizes))
        merges.append(Merge(groups[first], groups[second], float(costs[second, first])))
        groups[first] = tuple(sorted(groups[first] + groups[second]))
        total = sizes[first] + sizes[second]
        means[first] = np.rint(means[first] + (means[second] - means[first]) * (sizes[second] / total))
        sizes[first] = total
        costs[second, :] = costs[:, second] = np.inf
        fresh = _costs(means, sizes, first)
        costs[first, :first] = np.where(np.isfinite(costs[first, :first]), fresh[:first], np.inf)
        costs[first + 1 :, first] = np.where(np.isfinite(costs[first + 1 :, first]), fresh[first + 1 :], np.inf)
    return tuple(merges)


def groups_after(tree: Sequence[Merge], k: int) -> NDArray[np.intp]:
    """Which of k groups each segment is in after the first merges of a tree, shape (segments,).

    Groups are numbered by their first segment.

    Raises:
        ValueError: If there are fewer segments than k, or k is below 1.
    """
    segments = len(tree) + 1
    if not 1 <= k <= segments:
        raise ValueError(f"{segments} segments make 1 to {segments} groups, not {k}")
    first = np.arange(segments)
    for merge in tree[: segments - k]:
        first[list(merge.right)] = merge.left[0]
    return np.unique(first, return_inverse=True)[1]


def _costs(means: NDArray[np.float64], sizes: NDArray[np.float64], group: int) -> NDArray[np.float64]:
    """What it would cost to merge a group with each, shape (groups,); the squared distances are exact."""
    gaps = ((means - means[group]) ** 2).sum(axis=1)
    costs: NDArray[np.float64] = gaps * (sizes * sizes[group] / (sizes + sizes[group]))
    return costs
