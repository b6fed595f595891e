"""Segments that are halves of one group, and segments that hold two, are found on the released model."""

import numpy as np
import pytest

from fedseg.clustering.algorithm import State, init
from fedseg.clustering.quality import profiles
from fedseg.clustering.separation import ALIKE_GAP, MIXED_GAP, alike, mixed
from tests.small_run import Rows, in_box, play, rho_for, settings_of

PLACES = np.array([[-0.6, -0.6], [0.6, -0.6], [0.0, 0.6]]) * 2**19


def customers(count: int, places: np.ndarray, seed: int, *, spread: float = 0.06) -> Rows:
    coins = np.random.default_rng(seed)
    return in_box(places[coins.integers(len(places), size=count)] + coins.normal(scale=spread * 2**19, size=(count, 2)))


def finished(k: int, rows: Rows, seed: int = 1) -> State:
    return play(settings_of(k, 2, len(rows), rho=rho_for(4)), [rows], seed)[0]


def home(state: State) -> list[int]:
    """Nearest true place of each segment."""
    assert state.outcome is not None
    return [int(np.argmin(((PLACES - mean) ** 2).sum(axis=1))) for mean in state.outcome.estimate.means]


def above_noise(state: State) -> list[int]:
    return np.flatnonzero(profiles(state).seen).tolist()


@pytest.mark.parametrize("seed", [2, 5, 7])
def test_the_halves_of_a_group_are_found_and_groups_are_left_apart(seed: int) -> None:
    rows = customers(8000, PLACES, seed)
    state = finished(5, rows)
    where, found = home(state), alike(state, above_noise(state))
    assert found
    assert all(where[one.first] == where[one.second] and one.gap < ALIKE_GAP for one in found)
    assert not alike(finished(3, rows), range(3))


def test_a_segment_that_holds_two_groups_is_found_with_the_part_of_the_smaller() -> None:
    corners = np.array([[0.8, -0.8], [-0.8, 0.8], [0.8, 0.7], [0.8, 0.95]]) * 2**19
    state = finished(3, customers(9000, corners, 4, spread=0.02))
    found = mixed(state, range(3))
    assert found
    assert [one.gap > MIXED_GAP for one in found] == [True]
    assert found[0].share == pytest.approx(0.5, abs=0.1)
    assert not mixed(state, range(3), least=1e9)


def test_segments_of_one_group_each_hold_no_two() -> None:
    assert not mixed(finished(3, customers(8000, PLACES, 5)), range(3))


def test_only_the_segments_asked_for_are_spoken_of() -> None:
    state = finished(6, customers(8000, PLACES, 2))
    chosen = [0, 3, 5]
    for one in alike(state, chosen):
        assert {one.first, one.second} <= set(chosen)
    assert alike(state, []) == alike(state, [2]) == ()
    assert mixed(state, []) == ()


def test_customers_all_in_one_place_give_an_answer() -> None:
    rows = np.zeros((500, 2), np.int32)
    state = finished(3, rows)
    for one in alike(state, range(3)):
        assert np.isfinite(one.gap)
    mixed(state, range(3))


def test_before_the_last_round_there_is_nothing_to_say() -> None:
    state = init(settings_of(3, 2, 100, rho=rho_for(1)))
    for question in (alike, mixed):
        with pytest.raises(ValueError, match="still open"):
            question(state, range(3))
