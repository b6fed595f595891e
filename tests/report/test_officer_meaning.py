"""What a loss means for one person: the bound on a guess is derived, and no guesser does better."""

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from fedseg.privacy.budget import epsilon_of
from fedseg.report.officer.meaning import guess_at_most, loss

MILLIONTH = Fraction(1, 10**6)
rhos = st.fractions(min_value=Fraction(1, 10**6), max_value=60)
chances = st.floats(0, 1)


def bound(epsilon: float, delta: float) -> float:
    return (math.exp(epsilon) + delta) / (math.exp(epsilon) + 1)


def test_without_a_release_a_guess_is_a_coin() -> None:
    assert loss(Fraction(0), MILLIONTH).guess == Decimal("0.500")


@pytest.mark.parametrize(
    ("rho", "said"),
    [("1/100", "0.536"), ("1/10", "0.612"), ("1/2", "0.751"), ("1", "0.854"), ("3", "0.988"), ("90", "1.000")],
)
def test_the_words_for_a_loss_are_these(rho: str, said: str) -> None:
    assert loss(Fraction(rho), MILLIONTH).guess == Decimal(said)


@given(rhos)
def test_the_best_guesser_against_gaussian_noise_is_never_right_more_often(rho: Fraction) -> None:
    best = norm.cdf(math.sqrt(2 * rho) / 2)
    assert best <= float(loss(rho, MILLIONTH).guess) <= 1


@given(rhos, rhos)
def test_more_loss_never_means_a_worse_guess(one: Fraction, other: Fraction) -> None:
    low, high = sorted((one, other))
    assert loss(low, MILLIONTH).guess <= loss(high, MILLIONTH).guess


@given(st.floats(0, 10), st.floats(0, 0.5), chances, chances)
def test_epsilon_and_delta_alone_allow_no_better_guess(epsilon: float, delta: float, p: float, q: float) -> None:
    factor = math.exp(epsilon)
    if p <= factor * q + delta and 1 - q <= factor * (1 - p) + delta:
        assert (p + 1 - q) / 2 <= bound(epsilon, delta) + 1e-9


@given(st.floats(0, 10), st.floats(0, 0.5))
def test_and_one_guesser_reaches_it(epsilon: float, delta: float) -> None:
    right, factor = bound(epsilon, delta), math.exp(epsilon)
    p, q = right, 1 - right
    assert p == pytest.approx(factor * q + delta)
    assert (p + 1 - q) / 2 == pytest.approx(right)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.data())
def test_a_divergence_bounds_the_guess_for_any_two_outcomes(weights: list[float], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.floats(0.01, 1), min_size=len(weights), max_size=len(weights)))
    p, q = ([one / sum(some) for one in some] for some in (weights, others))
    kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    best = 0.5 + sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 4
    if kl > 1e-9:
        # An epsilon that is no help: what is left are the two bounds that follow from the divergence.
        allowed = guess_at_most(Fraction(kl), Decimal(1000), MILLIONTH)
        assert best <= float(allowed) + 1e-9


def test_the_least_of_the_bounds_is_said_whichever_it_is() -> None:
    small, large = Fraction(1, 10), Fraction(3)
    assert loss(small, MILLIONTH).guess < Decimal(str(bound(float(epsilon_of(small, MILLIONTH)), 1e-6)))
    pinsker = (1 + math.sqrt(float(large) / 2)) / 2
    assert float(loss(large, MILLIONTH).guess) < pinsker
    by_epsilon = guess_at_most(Fraction(1), Decimal("0.1"), MILLIONTH)
    assert by_epsilon == Decimal("0.525")
