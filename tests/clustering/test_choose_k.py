"""How many segments there are is judged from released numbers alone, by two criteria that may disagree in the open."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.quality import Cell, choice
from fedseg.clustering.choose_k import JUDGED_MAX, Choice, choose_k
from fedseg.clustering.features import FEATURE_MAX
from tests.small_run import clumps


def judged(points: NDArray[np.int32], *, spread: float = 1000.0) -> Choice:
    """Of segments of equal size and spread."""
    return choose_k(points, np.full(len(points), 100.0), np.full(len(points), spread**2))


@pytest.mark.parametrize("true", [2, 3, 5, 8])
def test_tight_groups_of_segments_are_counted(true: int) -> None:
    places = np.eye(8, dtype=np.int32)[:true] * 300_000
    around = clumps(3 * true, 8, 1, true, spread=0.002) // 1000
    found = judged(np.repeat(places, 3, axis=0) + around, spread=20_000)
    assert (found.silhouette, found.elbow, found.agreed) == (true, true, True)


def test_a_small_group_counts_like_a_large_one() -> None:
    points = np.array([[0, 0], [1000, 0], [400_000, 0], [0, 400_000], [1000, 400_000]], np.int32)
    found = choose_k(points, np.array([5000.0, 5000.0, 90.0, 5000.0, 5000.0]), np.full(5, 30_000.0**2))
    assert found.silhouette == 3


def test_where_all_segments_stand_apart_their_number_is_named_and_nobody_agrees_on_it() -> None:
    found = judged(np.eye(5, dtype=np.int32) * 300_000)
    assert found.silhouette == 5
    assert not found.agreed


def test_one_segment_and_two_are_told_without_a_guess() -> None:
    one = judged(np.array([[1, 2]], np.int32))
    assert (one.silhouette, one.elbow, one.agreed) == (1, 1, False)
    two = judged(np.array([[1, 2], [400_000, 2]], np.int32))
    assert (two.silhouette, two.elbow, two.agreed) == (2, 1, False)


def test_variance_within_falls_from_all_of_it_and_one_group_has_no_silhouette() -> None:
    found = judged(clumps(12, 4, 3, 5), spread=30_000)
    within = [one.within for one in found.candidates]
    assert [one.k for one in found.candidates] == list(range(1, 13))
    assert within[0] == 1.0
    assert within == sorted(within, reverse=True)
    assert found.candidates[0].silhouette == 0.0


def test_no_more_than_the_largest_number_is_judged() -> None:
    found = judged(clumps(JUDGED_MAX + 30, 3, 50, 2))
    assert len(found.candidates) == JUDGED_MAX
    assert 2 <= found.silhouette <= JUDGED_MAX


@given(
    st.lists(
        st.tuples(st.integers(-FEATURE_MAX, FEATURE_MAX), st.floats(1e-6, 1e15), st.floats(0, 2.0 * FEATURE_MAX**2)),
        min_size=1,
        max_size=10,
    )
)
def test_whatever_is_released_the_verdict_is_finite_and_the_same_again(
    segments: list[tuple[int, float, float]],
) -> None:
    places, sizes, variances = zip(*segments, strict=True)
    points = np.array(places, np.int32)[:, None]
    found, again = (choose_k(points, np.array(sizes), np.array(variances)) for _ in range(2))
    assert found == again
    assert 1 <= found.silhouette <= len(segments)
    assert 1 <= found.elbow <= max(1, len(segments) - 1)
    for one in found.candidates:
        assert -1 <= one.silhouette <= 1
        assert 0 <= one.within <= 1 + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sep", "unbal"])
def test_the_number_is_right_in_nine_of_ten_runs_with_a_larger_one(family: str) -> None:
    """Data and noise of other seeds than those that the rules were chosen on."""
    from benchmarks.accuracy.families import Shape

    right: list[bool] = []
    silent: list[bool] = []
    for number, (true, features, epsilon) in enumerate(
        (true, features, epsilon) for true in (4, 6, 8) for features in (5, 10) for epsilon in ("1/2", "2")
    ):
        for draw in range(2):
            points = Shape(family, 20_000, features, true).draw(2000 + 10 * number + draw)
            found = choice(Cell(family, Fraction(epsilon), 1, 1).run(points, 14, number + draw))
            right.append(found.silhouette == true)
            silent.append(found.agreed and found.silhouette != true)
    assert np.mean(right) >= 0.9
    assert not any(silent)
