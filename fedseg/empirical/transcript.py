"""Games against a whole run of the clustering engine: every release of every round, and a guesser who computes.

The strongest guesser there is: it knows every customer but the canary, and the code. As the requests follow from what
was released, it asks of each round how likely the bytes are with the canary and without, and adds up the logarithms.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.algorithm import Aggregate, Settings, init, next_request, step
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.schedule import Profile, Single
from fedseg.clustering.statistics import customer_vectors
from fedseg.empirical.game import Finding, Game, fair_coins
from fedseg.estimator.account import CustomerAccount
from fedseg.estimator.rounds import summarize_units
from fedseg.estimator.terms import FitTerms, Sharing, features_between
from fedseg.plan import TrustModel
from fedseg.privacy.budget import PrivacyBudget, rho_of
from fedseg.privacy.noise import Noise, NoiseSource

BUDGET: Final = PrivacyBudget(Fraction(12), Fraction(1, 10**6))
"""What a run promises: about mu = 2."""

CUSTOMERS: Final = 24
"""How many customers there are beside the canary."""

DIMENSIONS: Final = 2

_ONE_UNIT: Final = Sharing(TrustModel.UNIT_NOISE, 1, 1)

RUNS_OF: Final[dict[str, tuple[str, int, Profile | Single]]] = {
    "transcript-segments": ("do all rounds of a run for segments together keep the promise", 2, Profile.STANDARD),
    "transcript-bounds": ("does a run for bounds keep it", 1, Single.BOUNDS),
}
"""Question, number of segments and rounds, by game."""


def games(false_alarm: float) -> list[Game]:
    """The games that `play` plays."""
    rho = rho_of(BUDGET)
    return [Game(name, question, rho, false_alarm) for name, (question, _, _) in RUNS_OF.items()]


def play(game: Game, guesses: int, seed: int, source: NoiseSource, turned: Callable[[], None]) -> Finding:
    """One run a guess."""
    _, k, rounds = RUNS_OF[game.name]
    known = _customers(seed)
    canary = np.full((1, DIMENSIONS), FEATURE_MAX, np.int32)
    coins = fair_coins(guesses, (seed, *map(ord, game.name)))
    found = np.zeros(guesses, np.bool_)
    for turn, present in enumerate(coins.tolist()):
        terms = _terms(k, rounds, seed * guesses + turn)
        found[turn] = _likelihood_ratio(known, canary, terms, present=present, source=source) > 0
        turned()
    return Finding.of(game, found, coins)


def _likelihood_ratio(
    known: NDArray[np.int32], canary: NDArray[np.int32], terms: FitTerms, *, present: bool, source: NoiseSource
) -> float:
    """Logarithm of how much likelier a run's releases are with the canary than without."""
    table = np.concatenate([known, canary]) if present else known
    fit = CustomerAccount(epsilon=4 * BUDGET.epsilon, delta=BUDGET.delta).begin(terms.document(), terms.step_rhos)
    state, ratio = init(terms.settings), 0.0
    while (request := next_request(state)) is not None:
        asked = terms.rounds[state.step]
        noise = Noise.draw(asked.mechanism, asked.length, source)
        released = fit.release(summarize_units([table], request, asked, _ONE_UNIT), noise, request, asked, 1)[0]
        ratio += _of_round(known, canary, released, request, asked)
        state = step(state, Aggregate(state.step, released, asked, 1))
    return ratio


def _of_round(
    known: NDArray[np.int32],
    canary: NDArray[np.int32],
    released: NDArray[np.int64],
    request: RoundRequest,
    terms: StepTerms,
) -> float:
    """One round's part: (<y - s, v> - |v|^2 / 2) / sigma^2, where s is the sum without the canary and v its vector."""
    (cell,), (vector,) = customer_vectors(canary, request, terms.lattice)
    labels, vectors = customer_vectors(known, request, terms.lattice)
    moved = vector.astype(np.float64)
    seen = (released[cell] - vectors[labels == cell].sum(axis=0)).astype(np.float64)
    return float(moved @ (seen - moved / 2)) / terms.mechanism.sigma**2


def _terms(k: int, rounds: Profile | Single, seed: int) -> FitTerms:
    settings = Settings(k, DIMENSIONS, CUSTOMERS, seed, rounds, _ONE_UNIT.budget(rho_of(BUDGET)))
    return FitTerms.of(settings, features_between(0, 1, DIMENSIONS), _ONE_UNIT)


def _customers(seed: int) -> NDArray[np.int32]:
    """Made-up customers around two points."""
    coins = np.random.default_rng([seed, CUSTOMERS])
    places = coins.choice([-0.4, 0.4], (CUSTOMERS, 1)) + coins.normal(scale=0.05, size=(CUSTOMERS, DIMENSIONS))
    return np.asarray(np.rint(np.clip(places, -1, 1) * FEATURE_MAX), np.int32)
