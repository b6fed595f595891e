"""Games against the one door: `sum_of_rows`, `Noise.draw` and `release`, with the longest vectors a lattice allows.

One cell is one turn: it holds the canary's vector or nothing. The noise of a release is independent in every cell, or
it is not what is promised, and then the games in which a canary's vector is spread over several numbers notice.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.lattice import Statistic, StepTerms, fit_lattice
from fedseg.clustering.request import RoundRequest
from fedseg.empirical.game import Finding, Game, fair_coins
from fedseg.estimator.account import CustomerAccount
from fedseg.privacy.budget import PrivacyBudget, rho_of
from fedseg.privacy.noise import Noise, NoiseSource
from fedseg.privacy.sensitive import sum_of_rows

BUDGET: Final = PrivacyBudget(Fraction(12), Fraction(1, 10**6))
"""What a turn promises: about mu = 2, where guesses tell most."""

WIDTH: Final = 8
"""Numbers over which a vector is spread."""

DIRECTIONS: Final[Mapping[str, tuple[str, tuple[int, ...]]]] = {
    "noise-single": ("is the noise of one number what it is said to be", (1,)),
    "noise-alike": ("is the noise of several numbers as wide together as apart", (1,) * WIDTH),
    "noise-turned": ("does the noise of one number not cancel that of its neighbour", (1, -1) * (WIDTH // 2)),
}
"""Question and signs of a vector's numbers, by game."""


def games(false_alarm: float) -> list[Game]:
    """The games that `play` plays."""
    rho = rho_of(BUDGET)
    return [Game(name, question, rho, false_alarm) for name, (question, _) in DIRECTIONS.items()]


def play(game: Game, guesses: int, seed: int, source: NoiseSource) -> Finding:
    """One release with as many turns as there are to be guesses."""
    signs = np.array(DIRECTIONS[game.name][1], np.int64)
    lattice, mechanism = fit_lattice(Statistic.CELLS, game.rho, Fraction(1, 2), Fraction(1, 2))
    vector = signs * math.isqrt(lattice.l2_sensitivity_squared // len(signs))
    coins = fair_coins(guesses, (seed, *map(ord, game.name)))
    terms = StepTerms(0, guesses, len(signs), lattice, mechanism)
    values = _released(vector, coins, terms, source)
    return Finding.of(game, 2 * (values @ vector) > vector @ vector, coins)


def _released(
    vector: NDArray[np.int64], coins: NDArray[np.bool_], terms: StepTerms, source: NoiseSource
) -> NDArray[np.int64]:
    """What the door lets out, shape (turns, width)."""
    present = np.flatnonzero(coins)
    rows = np.tile(vector, (len(present), 1))
    statistic = sum_of_rows(
        [(present, rows)],
        cells=terms.cells,
        width=terms.width,
        l2_sensitivity_squared=terms.lattice.l2_sensitivity_squared,
    )
    request = RoundRequest(0, np.zeros((1, 1), np.int32), np.ones(1, np.int32))
    account = CustomerAccount(epsilon=4 * BUDGET.epsilon, delta=BUDGET.delta)
    fit = account.begin({}, [terms.mechanism.charge(statistic.l2_sensitivity_squared).rho])
    noise = Noise.draw(terms.mechanism, terms.length, source)
    released: NDArray[np.int64] = fit.release(statistic, noise, request, terms, 1)[0]
    return released
