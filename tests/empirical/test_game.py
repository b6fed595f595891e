"""What right guesses are proof of: bounds that are right, alarms that are rarely false, power that is as stated."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from fedseg.empirical.audit import every_game
from fedseg.empirical.game import FALSE_ALARM, POWER, Finding, Game, rho_of_rate, right_at_least
from fedseg.empirical.parts import GUESSES, GUESSES_MAX, GUESSES_MIN, Size

GAME = Game("game", "is it", Fraction(2), 1e-6)


def found(right: int, guesses: int = 1000, game: Game = GAME) -> Finding:
    return Finding(game, guesses, right)


@pytest.mark.parametrize(("right", "guesses"), [(1, 10), (90, 100), (100, 100), (14_000, 16_000)])
@pytest.mark.parametrize("gap", [0.05, 1e-7])
def test_the_bound_is_that_of_clopper_and_pearson(right: int, guesses: int, gap: float) -> None:
    bound = right_at_least(right, guesses, gap)
    # At the bound, so many right ones or more have exactly the probability of a false alarm.
    assert stats.binom.sf(right - 1, guesses, bound) == pytest.approx(gap)


def test_nothing_right_is_proof_of_nothing() -> None:
    assert found(0).right_at_least == 0
    assert found(0).rho_at_least == found(0).epsilon_at_least == 0


def test_the_alarm_is_false_no_more_often_than_stated() -> None:
    for guesses in (200, 1600, 16_000):
        alarm = GAME.alarm_at(guesses)
        assert stats.binom.sf(alarm - 1, guesses, GAME.allowed) <= GAME.false_alarm
        assert found(alarm, guesses).violated
        assert not found(alarm - 1, guesses).violated


def test_what_would_be_noticed_is_noticed_as_surely_as_stated() -> None:
    for guesses in (400, 1600, 16_000):
        rate = stats.norm.cdf(math.sqrt(2 * GAME.noticed(guesses)) / 2)
        assert stats.binom.sf(GAME.alarm_at(guesses) - 1, guesses, rate) == pytest.approx(POWER)


def test_too_few_guesses_notice_nothing_and_say_so() -> None:
    assert GAME.alarm_at(5) == 6
    assert GAME.noticed(5) == math.inf


def test_a_game_about_nothing_lost_allows_one_half() -> None:
    game = Game("none", "is it", Fraction(0), 1e-6)
    assert game.allowed == 0.5
    assert found(500, game=game).noticed_factor is None
    assert found(500, game=game).epsilon == 0
    assert not found(560, game=game).violated
    assert found(620, game=game).violated


def test_as_many_right_as_are_allowed_is_the_promised_loss() -> None:
    assert rho_of_rate(GAME.allowed) == pytest.approx(2)
    assert rho_of_rate(1.0) == math.inf
    assert rho_of_rate(0.0) == rho_of_rate(0.3) == 0
    assert found(1000).rho_estimate < math.inf


def test_the_epsilon_is_proof_whatever_the_noise_is() -> None:
    # Randomised response of this epsilon is guessed right exactly so often, and no mechanism more often.
    epsilon, guesses = 1.5, 10**9
    right = round(guesses * math.exp(epsilon) / (1 + math.exp(epsilon)))
    assert found(right, guesses).epsilon_at_least == pytest.approx(epsilon, abs=1e-3)
    assert found(right, guesses).epsilon_at_least < epsilon


def test_a_guess_is_right_where_it_says_what_the_coin_said() -> None:
    guesses, coins = np.array([True, True, False, False]), np.array([True, False, False, True])
    assert Finding.of(GAME, guesses, coins) == found(2, 4)


def test_all_games_together_raise_a_false_alarm_no_more_often_than_stated() -> None:
    games = every_game()
    assert len({one.name for one in games}) == len(games) == 9
    assert sum(one.false_alarm for one in games) == pytest.approx(FALSE_ALARM)


def test_the_fewest_guesses_that_can_be_asked_for_can_raise_every_alarm() -> None:
    fewest, most = Size.of(GUESSES_MIN), Size.of(GUESSES_MAX)
    for game in every_game():
        assert game.alarm_at(min(fewest.noise, fewest.pipeline, fewest.transcript)) <= fewest.transcript
        assert game.noticed(most.noise) < game.noticed(GUESSES)


def test_by_default_the_root_of_two_is_noticed_on_noise_and_unit() -> None:
    size = Size.of(GUESSES)
    factors = {
        game.name: math.sqrt(game.noticed(getattr(size, game.name.split("-")[0])) / float(game.rho))
        for game in every_game()
        if game.rho
    }
    assert max(one for name, one in factors.items() if not name.startswith("transcript")) < math.sqrt(2)
    assert max(factors.values()) < 1.7
