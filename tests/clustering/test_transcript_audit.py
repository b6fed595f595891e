"""An attacker who sees every release of a run, and knows all customers but one, learns no more than the plan claims.

The strongest attacker there is: for random pairs of neighbouring tables, one with a customer more, it takes the
transcript of a run on one of them and computes its exact likelihood under both, round by round as the requests adapt.
What each round could have told it at most is compared with the round's sensitivity, without any chance involved; what
it does tell, by Clopper-Pearson bounds, with the budget of the whole run. That the audit would notice is seen where
rows are not clipped, or the noise is for half the sensitivity.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fedseg.clustering import statistics
from fedseg.clustering.algorithm import Settings
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.lattice import Lattice, StepTerms
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.schedule import Profile
from fedseg.privacy.budget import epsilon_of
from fedseg.privacy.mechanism import DiscreteGaussian
from tests.small_run import (
    DELTA,
    Exact,
    Rows,
    Sums,
    Turn,
    bounds_settings,
    clumps,
    exact,
    play,
    rho_for,
    settings_of,
    terms_of,
)

REACHED = 0.99
"""How much of its sensitivity each round is moved by, for some pair."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The same units without and with one more customer."""

    without: tuple[Rows, ...]
    having: tuple[Rows, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What the attacker makes of one run."""

    likelihood_ratio: float
    """Logarithm of the transcript's likelihood with the customer over that without."""
    moved: tuple[float, ...]
    """Of each round: how far the customer moves the sums of any one unit, in parts of the sensitivity."""
    loss: float
    """zCDP of the run on this pair: sum of squared moves over twice the variances, all rounds and units."""


def neighbours(seed: int, dimensions: int, units: int, *, known_to: int = 1, canary: str = "corner") -> Pair:
    """A few random customers in each unit, and one more in the first `known_to` of them."""
    coins = np.random.default_rng([seed, 77])
    tables = tuple(clumps(int(coins.integers(20, 90)), dimensions, 2, seed=seed, spread=0.05) for _ in range(units))
    places = {
        "corner": np.where(coins.random(dimensions) < 0.5, -FEATURE_MAX, FEATURE_MAX),
        "anywhere": coins.integers(-FEATURE_MAX, FEATURE_MAX, dimensions),
        "middle": np.zeros(dimensions),
    }
    row = places[canary].astype(np.int32)[None]
    having = [np.concatenate([table, row]) if unit < known_to else table for unit, table in enumerate(tables)]
    return Pair(tables, tuple(having))


def attack(
    settings: Settings,
    pair: Pair,
    noise_seed: int,
    *,
    present: bool,
    statistic: Exact = exact,
    terms: tuple[StepTerms, ...] | None = None,
) -> Trial:
    """Run on one of the two worlds, hold the other against the same transcript, and compare."""
    here, there = (pair.having, pair.without) if present else (pair.without, pair.having)
    _, turns = play(settings, here, noise_seed, statistic=statistic, terms=terms)
    ratio, loss, moved = 0.0, 0.0, []
    for turn in turns:  # the requests follow from what was released, so they are those of both worlds
        other = tuple(statistic(rows, turn.request, turn.terms.lattice) for rows in there)
        without, having = (_seen(turn, sums) for sums in ((other, turn.exact) if present else (turn.exact, other)))
        variance, largest = turn.terms.mechanism.sigma**2, 0.0
        for low, high, seen in zip(without, having, turn.released, strict=True):
            # Of a discrete Gaussian the log-likelihood is -(y - mean)^2 / (2 sigma^2) but for a constant.
            gap = (high - low).astype(np.float64)
            ratio += float(gap @ (2 * seen - low - high)) / (2 * variance)
            loss += float(gap @ gap) / (2 * variance)
            largest = max(largest, math.sqrt(float(gap @ gap)))
        moved.append(largest / math.sqrt(turn.terms.lattice.l2_sensitivity_squared))
    return Trial(ratio, tuple(moved), loss)


def _seen(turn: Turn, sums: tuple[Sums, ...]) -> tuple[Sums, ...]:
    """Of the units' sums, those to which noise was added: each, or their total."""
    return sums if len(turn.released) == len(sums) else (np.sum(sums, axis=0),)


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """What an ensemble of attacks says."""

    absent: Sequence[Trial]
    present: Sequence[Trial]

    @property
    def trials(self) -> list[Trial]:
        return [*self.absent, *self.present]

    @property
    def most_moved(self) -> list[float]:
        """Of each round, the most that any pair was moved by, in parts of the sensitivity."""
        return [max(parts) for parts in zip(*(trial.moved for trial in self.trials), strict=True)]

    @property
    def worst_loss(self) -> float:
        """The largest zCDP of any run."""
        return max(trial.loss for trial in self.trials)

    @property
    def surprises(self) -> list[float]:
        """The ratios in standard deviations from their means: of Gaussian noise they are standard normal."""
        signed = [(trial, -1) for trial in self.absent] + [(trial, 1) for trial in self.present]
        return [(one.likelihood_ratio - sign * one.loss) / math.sqrt(2 * one.loss) for one, sign in signed]

    def rates(self, threshold: float, confidence: float) -> tuple[float, float]:
        """At most so many false and at least so many true alarms, where an alarm is a ratio of at least the threshold."""
        alarms = sum(trial.likelihood_ratio >= threshold for trial in self.absent)
        false = stats.beta.ppf(confidence, alarms + 1, len(self.absent) - alarms) if alarms < len(self.absent) else 1.0
        hits = sum(trial.likelihood_ratio >= threshold for trial in self.present)
        true = stats.beta.ppf(1 - confidence, hits, len(self.present) - hits + 1) if hits else 0.0
        return float(false), float(true)

    def rho_at_least(self, confidence: float) -> float:
        """The loss in zCDP of which the attack is proof: mu^2 / 2, where Phi(z) false and Phi(z + mu) true alarms."""
        false, true = self.rates(0.0, confidence)
        mu = stats.norm.ppf(true) - stats.norm.ppf(false)
        return float(max(mu, 0.0)) ** 2 / 2

    def epsilon_at_least(self, thresholds: Iterable[float], confidence: float) -> float:
        """The epsilon at DELTA of which the attack is proof, at the best of these thresholds."""
        rates = [self.rates(threshold, confidence) for threshold in thresholds]
        return max(math.log(max(true - float(DELTA), 1e-9) / false) for false, true in rates)


def audit(
    settings: Settings,
    runs: int,
    *,
    units: int,
    known_to: int = 1,
    canaries: Sequence[str] = ("corner",),
    statistic: Exact = exact,
    terms: tuple[StepTerms, ...] | None = None,
) -> Finding:
    """Attack so many runs without the customer, and as many with; each on a pair and with noise of its own."""

    def one(number: int, *, present: bool) -> Trial:
        canary = canaries[number % len(canaries)]
        pair = neighbours(number, settings.dimensions, units, known_to=known_to, canary=canary)
        here = replace(settings, seed=number)
        return attack(here, pair, 2 * number + present, present=present, statistic=statistic, terms=terms)

    return Finding(
        [one(number, present=False) for number in range(runs)],
        [one(number, present=True) for number in range(runs, 2 * runs)],
    )


def require_within(found: Finding, rho: Fraction, confidence: float) -> None:
    """The rounds keep to their sensitivities, the noise is what it is said to be, and the attack proves no more."""
    assert max(found.most_moved) <= 1
    assert found.worst_loss <= float(rho)
    assert stats.kstest(found.surprises, "norm").pvalue > 1e-6
    assert found.rho_at_least(confidence) <= float(rho)
    epsilon = float(epsilon_of(rho, DELTA))
    assert found.epsilon_at_least([0, float(rho), 2 * float(rho), epsilon], confidence) <= epsilon


def scaled_noise(settings: Settings, squared: Callable[[int], int]) -> tuple[StepTerms, ...]:
    """The plan's terms with the noise of another sensitivity than the lattice's own."""
    return tuple(
        replace(
            terms,
            mechanism=DiscreteGaussian.calibrated(
                squared(terms.lattice.l2_sensitivity_squared), settings.budget.rho * one.share
            ),
        )
        for terms, one in zip(terms_of(settings), settings.rounds, strict=True)
    )


def halved(settings: Settings) -> tuple[StepTerms, ...]:
    """Noise for half the sensitivity."""
    return scaled_noise(settings, lambda squared: squared // 4)


def unenforced(rows: Rows, request: RoundRequest, lattice: Lattice) -> Sums:
    """The statistic as it is if `sum_of_rows` trusted the vectors it is given."""
    labels, vectors = statistics.customer_vectors(rows, request, lattice)
    sums = np.zeros((request.cells, vectors.shape[1]), np.int64)
    np.add.at(sums, labels, vectors)
    return sums.ravel()


@pytest.fixture
def unclipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Residuals are scaled by the radius and no longer cut to it."""

    def scaled(residuals: NDArray[np.float64], radii: NDArray[np.float64], unit: int) -> NDArray[np.float64]:
        return np.clip(residuals * unit // radii, -50 * unit, 50 * unit)

    monkeypatch.setattr(statistics, "bounded_residuals", scaled)


QUICK = settings_of(2, 2, 100, rho=rho_for(12), noises=2, profile=Profile.SHORT)
RUNS, CONFIDENCE = 40, 0.95


def test_no_round_is_moved_by_more_than_its_sensitivity_and_each_nearly_by_it() -> None:
    for profile in Profile:
        chosen = settings_of(3, 2, 100, rho=rho_for(100), noises=3, profile=profile)
        found = audit(chosen, 5, units=3, canaries=("corner", "anywhere"))
        assert len(found.most_moved) == len(chosen.rounds) == (6 if profile is Profile.STANDARD else 3)
        assert all(REACHED < part <= 1 for part in found.most_moved)
        assert 0.97 * float(chosen.budget.rho) < found.worst_loss <= chosen.budget.rho


def test_an_attacker_proves_no_more_than_the_claim() -> None:
    found = audit(QUICK, RUNS, units=2)
    require_within(found, QUICK.budget.rho, CONFIDENCE)
    # It does learn what the budget allows: the audit is not blind.
    assert found.rho_at_least(CONFIDENCE) > float(QUICK.budget.rho) / 10


def test_noise_for_half_the_sensitivity_is_noticed() -> None:
    found = audit(QUICK, RUNS, units=2, terms=halved(QUICK))
    assert found.worst_loss == pytest.approx(4 * float(QUICK.budget.rho), rel=0.05)
    assert found.rho_at_least(CONFIDENCE) > QUICK.budget.rho


BOUNDS = bounds_settings(4, 100, rho=rho_for(12), noises=2)


def test_an_attacker_of_a_plan_for_bounds_proves_no_more_than_the_claim() -> None:
    found = audit(BOUNDS, RUNS, units=2)
    require_within(found, BOUNDS.budget.rho, CONFIDENCE)
    assert found.rho_at_least(CONFIDENCE) > float(BOUNDS.budget.rho) / 10
    assert all(0.99 < part <= 1 for part in found.most_moved)  # whatever their values, all customers move it alike
    assert 0.97 * float(BOUNDS.budget.rho) < found.worst_loss <= BOUNDS.budget.rho


def test_bounds_with_noise_for_half_the_sensitivity_are_noticed() -> None:
    found = audit(BOUNDS, RUNS, units=2, terms=halved(BOUNDS))
    assert found.rho_at_least(CONFIDENCE) > BOUNDS.budget.rho


def test_customers_who_count_twice_in_a_histogram_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    once = statistics.histograms
    monkeypatch.setattr(statistics, "histograms", lambda rows, lattice: 2 * once(rows, lattice))
    found = audit(BOUNDS, RUNS, units=2, statistic=unenforced)
    assert max(found.most_moved) > 1.9
    assert found.rho_at_least(CONFIDENCE) > BOUNDS.budget.rho


@pytest.mark.usefixtures("unclipped")
def test_rows_that_are_not_clipped_are_noticed() -> None:
    found = audit(QUICK, RUNS, units=2, statistic=unenforced)
    assert max(found.most_moved) > 1
    assert found.rho_at_least(CONFIDENCE) > QUICK.budget.rho


@pytest.mark.usefixtures("unclipped")
def test_without_clipping_the_sum_holds_the_bound_by_itself() -> None:
    found = audit(QUICK, 5, units=2, canaries=("corner", "anywhere", "middle"))
    assert max(found.most_moved) <= 1
    assert found.worst_loss <= QUICK.budget.rho


@pytest.mark.parametrize("known_to", [1, 2, 5])
def test_a_customer_of_several_units_loses_the_sum_over_them_with_noise_at_each(known_to: int) -> None:
    # The plan divides the budget by the units that may know a customer; so all of them together spend it.
    rho = rho_for(4)
    chosen = settings_of(2, 2, 200, rho=rho / known_to, noises=5)
    found = audit(chosen, 4, units=5, known_to=known_to)
    assert max(found.most_moved) <= 1
    assert 0.97 * float(rho) < found.worst_loss <= rho


@pytest.mark.parametrize("known_to", [1, 2, 5])
def test_a_customer_of_several_units_moves_a_secure_sum_by_several_sensitivities(known_to: int) -> None:
    rho = rho_for(4)
    chosen = settings_of(2, 2, 200, rho=rho, noises=1)
    # One noise for a single sensitivity: the loss grows with the square of the units, not with their number.
    careless = audit(chosen, 4, units=5, known_to=known_to)
    assert 0.97 * known_to**2 * float(rho) < careless.worst_loss <= known_to**2 * rho
    assert known_to == 1 or careless.worst_loss > known_to * rho
    # One noise for as many sensitivities as units may know the customer.
    careful = audit(chosen, 4, units=5, known_to=known_to, terms=scaled_noise(chosen, lambda one: known_to**2 * one))
    assert 0.97 * float(rho) < careful.worst_loss <= rho


def long_audit(
    epsilon: int, runs: int, *, profile: Profile = Profile.STANDARD, noises: int = 3, known_to: int = 1
) -> None:
    """Three units, with the claim kept and, for half the noise, broken."""
    chosen = settings_of(2, 3, 200, rho=rho_for(epsilon) / known_to, noises=noises, profile=profile)
    claim = chosen.budget.rho * known_to
    found = audit(chosen, runs, units=3, known_to=known_to)
    require_within(found, claim, CONFIDENCE)
    assert all(part > REACHED for part in found.most_moved)
    broken = audit(chosen, runs, units=3, known_to=known_to, terms=halved(chosen))
    assert broken.rho_at_least(CONFIDENCE) > claim


CASES: dict[str, dict[str, Any]] = {
    "noise at each unit": {},
    "one noise": {"noises": 1},
    "three rounds": {"profile": Profile.SHORT},
    "a customer of all units": {"known_to": 3},
}


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_an_attacker_of_many_runs_proves_no_more_than_the_claim(case: dict[str, Any]) -> None:
    long_audit(8, 70, **case)


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_an_attacker_of_very_many_runs_proves_no_more_than_the_claim(case: dict[str, Any]) -> None:
    long_audit(4, 600, **case)


@pytest.mark.soak
def test_an_attacker_of_very_many_runs_proves_no_more_than_a_small_claim() -> None:
    long_audit(1, 2500, profile=Profile.SHORT)
