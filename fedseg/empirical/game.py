"""The two-world game: how often a guesser may be right if a promise holds, and what more right guesses are proof of.

A fair coin decides whether one customer, the canary, is in a table. The guesser knows everybody else and sees what was
released. The statistics of such games are here; `door.py`, `pipeline.py` and `transcript.py` play them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from fedseg.privacy.budget import epsilon_of

FALSE_ALARM = 1e-6
"""Largest probability with which all games of an audit together raise an alarm although every promise is kept."""

DELTA = Fraction(1, 10**6)
"""The delta at which losses are also said as an epsilon."""

POWER = 0.95
"""Of a loss that an audit "would notice": how surely it would, at least."""


_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Game:
    """One game: what is promised, and what its alarm may cost."""

    name: str
    """One word, or a few with hyphens; scripts rely on it."""
    question: str
    """What it asks, for people."""
    rho: Fraction
    """What the canary may lose in one turn, in zCDP; 0 where it must make no difference at all."""
    false_alarm: float
    """Largest probability of an alarm of this game although the promise is kept."""

    @property
    def allowed(self) -> float:
        """How often a guesser may be right: Phi(mu / 2) with mu = sqrt(2 rho).

        Noise of standard deviation sigma, shifted by at most mu sigma, has a total variation distance of at most
        2 Phi(mu / 2) - 1, and half of one plus that is what the best guesser gets at a fair coin. For the discrete
        Gaussian this holds to about 1 / sigma, which is far below what any number of guesses here can see: all sigmas
        are above 2**10.
        """
        return _NORMAL.cdf(math.sqrt(2 * float(self.rho)) / 2)

    def alarm_at(self, guesses: int) -> int:
        """The fewest right ones of so many guesses that raise the alarm; `guesses + 1` if none would."""
        low, high = 0, guesses + 1
        while low < high:
            middle = (low + high) // 2
            low, high = (
                (low, middle)
                if right_at_least(middle, guesses, self.false_alarm) > self.allowed
                else (middle + 1, high)
            )
        return low

    def noticed(self, guesses: int) -> float:
        """The smallest loss, in zCDP, of which so many guesses would raise the alarm with a probability of POWER."""
        alarm = self.alarm_at(guesses)
        return math.inf if alarm > guesses else rho_of_rate(float(betaincinv(alarm, guesses - alarm + 1, POWER)))


@dataclass(frozen=True, slots=True)
class Finding:
    """A game that was played."""

    game: Game
    guesses: int
    right: int

    @classmethod
    def of(cls, game: Game, guesses: NDArray[np.bool_], coins: NDArray[np.bool_]) -> Self:
        """What became of these guesses, each about one fair coin of its own."""
        return cls(game, len(coins), int((guesses == coins).sum()))

    @property
    def right_at_least(self) -> float:
        """How often the guesser is right in the long run, at least; wrong as rarely as the alarm is."""
        return right_at_least(self.right, self.guesses, self.game.false_alarm)

    @property
    def violated(self) -> bool:
        """Whether the guesser was right more often than the promise allows."""
        return self.right_at_least > self.game.allowed

    @property
    def rho_at_least(self) -> float:
        """The loss in zCDP that this is proof of, for noise that is Gaussian; to be held against the promised one."""
        return rho_of_rate(self.right_at_least)

    @property
    def rho_estimate(self) -> float:
        """The loss in zCDP at which a guesser would be right as often as this one was: no bound, just the likeliest."""
        return rho_of_rate(min(self.right / self.guesses, 1 - 0.5 / self.guesses))

    @property
    def epsilon_at_least(self) -> float:
        """The epsilon, at DELTA, that this is proof of, whatever the noise is.

        Under (epsilon, delta) the best guesser is right with probability (e^epsilon + delta) / (e^epsilon + 1).

        Reference: Kairouz, Oh, Viswanath, "The Composition Theorem for Differential Privacy", ICML 2015, section 2.
        """
        rate = max(self.right_at_least, 0.5)
        return max(0.0, math.log((rate - float(DELTA)) / (1 - rate)))

    @property
    def epsilon(self) -> float:
        """The promise as an epsilon at DELTA."""
        return float(epsilon_of(self.game.rho, DELTA))

    @property
    def noticed(self) -> float:
        """`Game.noticed` for this number of guesses."""
        return self.game.noticed(self.guesses)

    @property
    def noticed_factor(self) -> float | None:
        """How many times too small the noise must be to be noticed; None where nothing at all may be lost."""
        return math.sqrt(self.noticed / float(self.game.rho)) if self.game.rho else None


def right_at_least(right: int, guesses: int, confidence_gap: float) -> float:
    """Lower bound of Clopper and Pearson on the probability of being right; wrong with at most `confidence_gap`.

    >>> round(right_at_least(90, 100, 0.05), 4)
    0.8363
    """
    return float(betaincinv(right, guesses - right + 1, confidence_gap)) if right else 0.0


def rho_of_rate(rate: float) -> float:
    """The loss in zCDP of Gaussian noise whose best guesser is right at this rate: mu^2 / 2, mu = 2 Phi^-1(rate)."""
    if rate >= 1:
        return math.inf
    return 2 * max(0.0, _NORMAL.inv_cdf(rate)) ** 2 if rate > 0 else 0.0


def fair_coins(count: int, seed: Sequence[int]) -> NDArray[np.bool_]:
    """Public coins of the game: who is in the table. No noise."""
    return np.random.default_rng(list(seed)).random(count) < 0.5  # noqa: PLR2004 (a fair coin)
