"""Peers are what they claim to be: good where it is easy, and no more sensitive than their noise assumes."""

import math
import statistics
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.accuracy.noise import GaussianNoise, LaplaceNoise, Noise
from benchmarks.accuracy.ours import fedseg_centers
from benchmarks.accuracy.peers import clipped_lloyd, dp_lloyd, eugkm, well_spread
from benchmarks.accuracy.reference import cost, reference, unit_box, unlike_units
from benchmarks.accuracy.trust import Trust
from fedseg.clustering.features import FEATURE_MAX
from fedseg.privacy.budget import PrivacyBudget

Peer = Callable[[NDArray[np.float64], int, Noise], NDArray[np.float64]]

GAUSSIAN: list[Peer] = [dp_lloyd, clipped_lloyd]
PEERS: list[Peer] = [*GAUSSIAN, eugkm]

MUCH = 50.0
"""A budget with which noise hardly matters."""


def noise_of(peer: Peer, budget: float, units: int, coins: np.random.Generator) -> Noise:
    return (GaussianNoise if peer in GAUSSIAN else LaplaceNoise)(budget, units, coins)


def easy(n: int = 3000) -> NDArray[np.int32]:
    """Three tight clusters, far apart."""
    coins = np.random.default_rng(1)
    centers = np.array([[-0.6, -0.5], [0.6, -0.4], [0.0, 0.6]])
    rows = centers[coins.integers(3, size=n)] + 0.05 * coins.standard_normal((n, 2))
    points: NDArray[np.int32] = np.rint(rows * FEATURE_MAX).astype(np.int32)
    return points


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_finds_easy_clusters_with_much_budget(peer: Peer) -> None:
    points = easy()
    runs = [peer(unit_box(points), 3, noise_of(peer, MUCH, 1, np.random.default_rng(seed))) for seed in range(7)]
    # Of seven: starting points that know nothing of the data lead a Lloyd run astray now and then, with any budget.
    middle = statistics.median(cost(unit_box(points), centers) for centers in runs)
    assert middle / reference(points, 3).cost < 1.01


@pytest.mark.parametrize("trust", [Trust.UNIT_NOISE, Trust.SECURE_AGGREGATION])
def test_ours_finds_easy_clusters_with_much_budget_and_again_by_the_same_seed(trust: Trust) -> None:
    points, budget = easy(), PrivacyBudget(Fraction(40), Fraction(1, 10**6))
    best = reference(points, 3)
    units = unlike_units(points, best.labels, 5)
    centers, again = (fedseg_centers(points, 3, budget, units, trust=trust, seed=1) for _ in range(2))
    assert cost(unit_box(points), centers / FEATURE_MAX) / best.cost < 1.3
    assert (centers == again).all()


class Recorded:
    """Keeps what is released, exact and noised; or gives out an earlier run's noised values whatever the sums are."""

    def __init__(self, inner: Noise, replayed: list[NDArray[np.float64]] | None = None) -> None:
        self.coins = inner.coins
        self.exact: list[NDArray[np.float64]] = []
        self.noised: list[NDArray[np.float64]] = []
        self.sensitivities: list[float] = []
        self._inner, self._replayed = inner, replayed

    def release(self, sums: NDArray[np.float64], sensitivity: float, share: float) -> NDArray[np.float64]:
        self.exact.append(sums)
        self.sensitivities.append(sensitivity)
        drawn = self._inner.release(sums, sensitivity, share)
        self.noised.append(drawn if self._replayed is None else self._replayed[len(self.noised)])
        return self.noised[-1]

    def sd(self, sensitivity: float, share: float) -> float:
        return self._inner.sd(sensitivity, share)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("seed", range(4))
def test_no_release_moves_further_than_its_noise_assumes_when_a_customer_leaves(peer: Peer, seed: int) -> None:
    coins = np.random.default_rng(seed)
    everyone = coins.uniform(-1, 1, (400, int(coins.integers(1, 7))))
    everyone[0] = np.sign(everyone[0])  # a corner of the box: the customer who moves sums the furthest
    k = int(coins.integers(2, 6))
    first = Recorded(noise_of(peer, 1.0, 1, np.random.default_rng(seed)))
    peer(everyone, k, first)
    for leaver in (0, int(coins.integers(1, 400))):
        again = Recorded(noise_of(peer, 1.0, 1, np.random.default_rng(seed)), first.noised)
        peer(np.delete(everyone, leaver, axis=0), k, again)
        order = 2 if peer in GAUSSIAN else 1
        moves = [
            float(np.linalg.norm((one - other).ravel(), order))
            for one, other in zip(first.exact, again.exact, strict=True)
        ]
        assert all(move <= bound + 1e-9 for move, bound in zip(moves, again.sensitivities, strict=True))
        if leaver == 0:
            assert max(np.divide(moves, again.sensitivities)) >= 0.99  # and the noise is not for nothing


@pytest.mark.parametrize("made", [GaussianNoise, LaplaceNoise])
def test_noise_has_the_spread_it_says_and_grows_with_the_root_of_the_units(
    made: type[GaussianNoise] | type[LaplaceNoise],
) -> None:
    one, many = made(0.5, 1, np.random.default_rng(3)), made(0.5, 9, np.random.default_rng(3))
    assert many.sd(2.0, 0.25) == pytest.approx(3 * one.sd(2.0, 0.25))
    drawn = many.release(np.zeros(100_000), 2.0, 0.25)
    assert float(drawn.std()) == pytest.approx(many.sd(2.0, 0.25), rel=0.02)
    assert abs(float(drawn.mean())) < 0.02 * many.sd(2.0, 0.25)


def test_a_sum_of_one_laplace_noise_is_of_scale_sensitivity_over_epsilon() -> None:
    assert LaplaceNoise(0.5, 1, np.random.default_rng()).sd(1.0, 1.0) == pytest.approx(math.sqrt(2) / 0.5)


@pytest.mark.parametrize("made", [GaussianNoise, LaplaceNoise])
def test_a_peer_cannot_spend_more_than_its_budget(made: type[GaussianNoise] | type[LaplaceNoise]) -> None:
    noise = made(1.0, 1, np.random.default_rng(3))
    noise.release(np.zeros(1), 1.0, 0.7)
    with pytest.raises(ValueError, match="shares add up to one"):
        noise.release(np.zeros(1), 1.0, 0.4)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(("n", "d", "k"), [(30, 1, 5), (60, 70, 4), (500, 3, 16)])
def test_a_peer_ends_well_with_little_budget_and_any_number_of_features(peer: Peer, n: int, d: int, k: int) -> None:
    rows = np.random.default_rng(5).uniform(-1, 1, (n, d))
    centers = peer(rows, k, noise_of(peer, 0.001, 20, np.random.default_rng(6)))
    assert centers.shape == (k, d)
    assert (np.abs(centers) <= 1 + 1e-9).all()


def test_starting_points_lie_apart_and_off_the_faces() -> None:
    points = well_spread(8, 3, np.random.default_rng(7))
    gaps = np.linalg.norm(points[:, None] - points, axis=2)[~np.eye(8, dtype=bool)]
    assert gaps.min() / 2 > 0.3
    assert (1 - np.abs(points)).min() >= 0.3
