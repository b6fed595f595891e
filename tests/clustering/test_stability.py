"""Stability says, from one run, whether other noise would find a segment again."""

import numpy as np
import pytest

from fedseg.clustering.algorithm import State, init
from fedseg.clustering.schedule import Profile
from fedseg.clustering.stability import STABLE, stability
from tests.small_run import Rows, clumps, in_box, play, rho_for, settings_of


def finished(k: int, rows: Rows, *, epsilon: int = 4, profile: Profile = Profile.STANDARD) -> State:
    settings = settings_of(k, rows.shape[1], max(len(rows), 1), rho=rho_for(epsilon), profile=profile)
    return play(settings, [rows], 1)[0]


@pytest.mark.parametrize("profile", list(Profile))
def test_groups_far_apart_come_back(profile: Profile) -> None:
    places = np.eye(4)[[0, 1, 2, 3]] * 0.8 * 2**19
    coins = np.random.default_rng(3)
    rows = in_box(places[coins.integers(4, size=8000)] + coins.normal(scale=0.03 * 2**19, size=(8000, 4)))
    assert (stability(finished(4, rows, profile=profile)) > 0.95).all()


def test_pieces_of_one_round_group_do_not_come_back() -> None:
    rows = clumps(8000, 2, 1, 5, spread=0.2)
    assert (stability(finished(7, rows)) < STABLE).mean() > 0.5


@pytest.mark.parametrize("profile", list(Profile))
def test_it_is_a_part_and_the_same_again(profile: Profile) -> None:
    for rows in (clumps(60, 3, 2, 1), np.zeros((50, 3), np.int32), np.empty((0, 3), np.int32)):
        state = finished(5, rows, epsilon=1, profile=profile)
        found = stability(state)
        assert found.shape == (5,)
        assert (found >= 0).all()
        assert (found <= 1).all()
        assert np.array_equal(found, stability(state))


def test_before_the_last_round_there_is_nothing_to_say() -> None:
    with pytest.raises(ValueError, match="still open"):
        stability(init(settings_of(3, 2, 100, rho=rho_for(1))))
