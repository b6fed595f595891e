"""Charges are exact and rounded up; epsilon is never below the theorem's infimum and hardly above it."""

import math
from collections.abc import Iterator
from decimal import Decimal, localcontext
from fractions import Fraction

import dp_accounting
import mpmath
import numpy as np
import opendp.prelude as dp
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from fedseg.privacy import budget
from fedseg.privacy.budget import (
    DELTA_GRID,
    EPSILON_LIMIT,
    FRACTION_TEXT_LIMIT,
    RHO_GRID,
    RHO_LIMIT,
    Charge,
    PrivacyBudget,
    epsilon_of,
    fraction_text,
    parse_fraction,
    rho_of,
    shown_epsilon,
    sum_of_rhos,
    total,
)

MILLIONTH = Fraction(1, 10**6)
FORMULA = "discrete-gaussian-zcdp"

non_negative_fractions = st.fractions(min_value=0, max_value=10**6, max_denominator=10**30)
grid_rhos = st.one_of(
    st.integers(1, 2**52), st.integers(0, 79).map(lambda bit: 2**bit), st.integers(1, RHO_LIMIT * RHO_GRID)
).map(lambda steps: Fraction(steps, RHO_GRID))
deltas = st.one_of(
    st.integers(1, 20).map(lambda digits: Fraction(1, 10**digits)).filter(lambda delta: delta * DELTA_GRID >= 1),
    st.integers(1, 64).map(lambda bits: Fraction(1, 2**bits)),
    st.integers(1, 64).map(lambda bits: 1 - Fraction(1, 2**bits)),
)


def infimum(rho: Fraction, delta: Fraction) -> mpmath.mpf:
    """The infimum over alpha by ternary search on ln(alpha - 1) at 60 digits: no derivative, no Decimal."""
    with mpmath.workdps(60):
        rho_, delta_ = mpmath.mpf(rho.numerator) / rho.denominator, mpmath.mpf(delta.numerator) / delta.denominator

        def bound(log_b: mpmath.mpf) -> mpmath.mpf:
            b = mpmath.exp(log_b)
            return rho_ * (1 + b) - mpmath.log((1 + b) * delta_) / b + mpmath.log(b / (1 + b))

        low, high = mpmath.mpf(-70), mpmath.mpf(70)
        for _ in range(220):
            third = (high - low) / 3
            if bound(low + third) < bound(high - third):
                high -= third
            else:
                low += third
        return max(mpmath.mpf(0), bound((low + high) / 2))


def assert_certified(rho: Fraction, delta: Fraction) -> None:
    with mpmath.workdps(60):
        excess = mpmath.mpf(str(epsilon_of(rho, delta))) - infimum(rho, delta)
        assert 0 <= excess <= mpmath.mpf("2e-18")


def test_the_proof_of_epsilon_is_about_the_numbers_in_force() -> None:
    """Change one, and redo the proof in `epsilon_of`; ledgers and plans are in these grids."""
    assert (RHO_GRID, DELTA_GRID, RHO_LIMIT, EPSILON_LIMIT) == (2**48, 2**64, 2**32, 2**20)
    assert (budget._DIGITS, budget._ORDER_DIGITS) == (80, 40)
    assert [str(budget._MARGIN), str(budget._LAST_PLACE)] == ["1E-50", "1E-18"]
    assert FRACTION_TEXT_LIMIT == 100


@given(non_negative_fractions, st.fractions(min_value=0, max_value="0.999999"))
def test_a_charge_is_rounded_up_by_less_than_one_step(rho: Fraction, delta: Fraction) -> None:
    charge = Charge.of(rho, delta, FORMULA)
    assert rho <= charge.rho < rho + Fraction(1, RHO_GRID)
    assert delta <= charge.delta < delta + Fraction(1, DELTA_GRID)
    assert Charge.of(charge.rho, charge.delta, FORMULA) == charge


@pytest.mark.parametrize(
    ("rho", "delta"),
    [
        (Fraction(-1, RHO_GRID), Fraction(0)),
        (Fraction(1, 2 * RHO_GRID), Fraction(0)),
        (Fraction(1, 3), Fraction(0)),
        (Fraction(1), Fraction(-1, DELTA_GRID)),
        (Fraction(1), Fraction(1, 2 * DELTA_GRID)),
        (Fraction(1), Fraction(1)),
    ],
)
def test_a_charge_off_its_grid_or_range_does_not_exist(rho: Fraction, delta: Fraction) -> None:
    with pytest.raises(ValueError, match="must be a multiple"):
        Charge(rho, delta, FORMULA)


@pytest.mark.parametrize("formula", ["", "Gaussian", "a b", "-x", "a" * 65, "gauss\n"])
def test_a_charge_names_its_formula(formula: str) -> None:
    with pytest.raises(ValueError, match="names its formula"):
        Charge(Fraction(1), Fraction(0), formula)


def test_floats_never_become_charges_budgets_or_epsilons() -> None:
    for refused in (
        lambda: Charge(0.5, Fraction(0), FORMULA),  # type: ignore[arg-type]  # the promise under test
        lambda: Charge(Fraction(0), 0.5, FORMULA),  # type: ignore[arg-type]  # the promise under test
        lambda: Charge.of(0.5, Fraction(0), FORMULA),  # type: ignore[arg-type]  # the promise under test
        lambda: Charge.of(Fraction(0), 0.5, FORMULA),  # type: ignore[arg-type]  # the promise under test
        lambda: PrivacyBudget(2.0, MILLIONTH),  # type: ignore[arg-type]  # the promise under test
        lambda: PrivacyBudget(Fraction(2), 1e-6),  # type: ignore[arg-type]  # the promise under test
        lambda: epsilon_of(0.5, MILLIONTH),  # type: ignore[arg-type]  # the promise under test
        lambda: epsilon_of(Fraction(1), 1e-6),  # type: ignore[arg-type]  # the promise under test
        lambda: fraction_text(0.5),  # type: ignore[arg-type]  # the promise under test
    ):
        with pytest.raises(TypeError, match="must be a Fraction"):
            refused()


@given(st.lists(st.one_of(non_negative_fractions, st.integers(0, 2**60).map(lambda steps: Fraction(steps, RHO_GRID)))))
def test_the_quick_sum_of_rhos_is_their_sum_on_the_grid_and_beside_it(rhos: list[Fraction]) -> None:
    assert sum_of_rhos(rhos) == sum(rhos, Fraction(0))


@given(st.lists(st.tuples(st.integers(0, 2**60), st.integers(0, 2**60))))
def test_charges_add_up_exactly(steps: list[tuple[int, int]]) -> None:
    charges = [Charge(Fraction(rho, RHO_GRID), Fraction(delta, DELTA_GRID), FORMULA) for rho, delta in steps]
    assert total(charges) == (
        Fraction(sum(rho for rho, _ in steps), RHO_GRID),
        Fraction(sum(delta for _, delta in steps), DELTA_GRID),
    )


@pytest.mark.parametrize("epsilon", [Fraction(0), Fraction(-1), EPSILON_LIMIT + Fraction(1, 10**9)])
def test_a_budget_has_a_positive_finite_epsilon(epsilon: Fraction) -> None:
    with pytest.raises(ValueError, match="epsilon must lie in"):
        PrivacyBudget(epsilon, MILLIONTH)


@pytest.mark.parametrize(
    "delta",
    [Fraction(0), Fraction(-1), Fraction(1), Fraction(2), Fraction(1, DELTA_GRID + 1), 1 - Fraction(1, DELTA_GRID + 1)],
)
def test_a_delta_lies_well_inside_zero_and_one(delta: Fraction) -> None:
    with pytest.raises(ValueError, match="delta must lie in"):
        PrivacyBudget(Fraction(1), delta)
    with pytest.raises(ValueError, match="delta must lie in"):
        epsilon_of(Fraction(0), delta)


def test_the_ends_of_every_range_are_allowed() -> None:
    for delta in (Fraction(1, DELTA_GRID), 1 - Fraction(1, DELTA_GRID)):
        assert PrivacyBudget(Fraction(EPSILON_LIMIT), delta).delta == delta
        assert_certified(Fraction(RHO_LIMIT), delta)
        assert_certified(Fraction(1, RHO_GRID), delta)


@settings(max_examples=60, deadline=None)
@given(grid_rhos, deltas)
def test_epsilon_is_the_infimum_rounded_up(rho: Fraction, delta: Fraction) -> None:
    assert_certified(rho, delta)


@settings(max_examples=40, deadline=None)
@given(st.fractions(min_value=Fraction(1, 10**40), max_value=4, max_denominator=10**45).filter(bool), deltas)
def test_epsilon_is_the_infimum_rounded_up_off_the_grid_too(rho: Fraction, delta: Fraction) -> None:
    assert_certified(rho, delta)


def test_no_privacy_loss_costs_nothing() -> None:
    assert epsilon_of(Fraction(0), MILLIONTH) == 0


def test_epsilon_is_nil_not_negative_where_delta_alone_covers_the_loss() -> None:
    assert str(epsilon_of(Fraction(1, 10**14), MILLIONTH)) == "0"


@pytest.mark.parametrize("rho", [Fraction(-1, RHO_GRID), RHO_LIMIT + Fraction(1, RHO_GRID)])
def test_epsilon_is_refused_outside_the_proved_range(rho: Fraction) -> None:
    with pytest.raises(ValueError, match="rho must lie in"):
        epsilon_of(rho, MILLIONTH)


def test_epsilon_does_not_depend_on_the_callers_decimal_context() -> None:
    expected = epsilon_of(Fraction(1, 10), MILLIONTH)
    with localcontext() as context:
        context.prec = 3
        assert epsilon_of(Fraction(1, 10), MILLIONTH) == expected
        assert rho_of(PrivacyBudget(Fraction(2), MILLIONTH)) == Fraction(24812775908727, RHO_GRID)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, RHO_LIMIT * RHO_GRID - 1), deltas)
def test_epsilon_never_falls_from_one_grid_step_to_the_next(steps: int, delta: Fraction) -> None:
    assert epsilon_of(Fraction(steps, RHO_GRID), delta) <= epsilon_of(Fraction(steps + 1, RHO_GRID), delta)


@settings(max_examples=15, deadline=None)
@given(st.fractions(min_value=Fraction(1, 1000), max_value=EPSILON_LIMIT, max_denominator=1000), deltas)
def test_a_budget_buys_the_largest_rho_on_the_grid(epsilon: Fraction, delta: Fraction) -> None:
    rho = rho_of(PrivacyBudget(epsilon, delta))
    assert (rho * RHO_GRID).denominator == 1
    assert epsilon_of(rho, delta) <= epsilon < epsilon_of(rho + Fraction(1, RHO_GRID), delta)


@settings(max_examples=15, deadline=None)
@given(st.integers(2**40, 2**52), st.sampled_from([MILLIONTH, Fraction(1, 10**9)]))
def test_the_epsilon_of_a_rho_buys_that_rho_back(steps: int, delta: Fraction) -> None:
    rho = Fraction(steps, RHO_GRID)
    assert rho_of(PrivacyBudget(Fraction(epsilon_of(rho, delta)), delta)) == rho


def test_a_budget_below_one_grid_step_buys_nothing() -> None:
    assert rho_of(PrivacyBudget(Fraction(1, 10**15), Fraction(1, DELTA_GRID))) == 0


ORACLE_CASES = [
    (sigma, releases, delta)
    for sigma, releases in [(1, 1), (10, 1), (10, 20), (4096, 6), (3, 200)]
    for delta in (Fraction(1, 10**5), MILLIONTH, Fraction(1, 10**9))
]


@pytest.mark.parametrize(("sigma", "releases", "delta"), ORACLE_CASES)
def test_epsilon_agrees_with_dp_accounting(sigma: int, releases: int, delta: Fraction) -> None:
    rho = Fraction(releases, 2 * sigma**2)
    ours = float(epsilon_of(rho, delta))
    orders = 1 + np.geomspace(1e-3, 1e6, 20_000)
    for event in (
        dp_accounting.ZCDpEvent(float(rho)),
        dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(sigma), releases),
    ):
        theirs = RdpAccountant(orders).compose(event).get_epsilon(float(delta))
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize(("sigma", "releases", "delta"), ORACLE_CASES)
def test_epsilon_agrees_with_opendp(sigma: int, releases: int, delta: Fraction) -> None:
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T=int)), dp.l2_distance(T=float)
    measurement = dp.c.make_zCDP_to_approxDP(dp.m.make_gaussian(*space, scale=float(sigma)))
    theirs = measurement.map(releases**0.5).epsilon(float(delta))  # type: ignore[no-untyped-call] # OpenDP's
    assert float(epsilon_of(Fraction(releases, 2 * sigma**2), delta)) == pytest.approx(theirs, rel=1e-4)


HISTORIES = 1000


def histories() -> Iterator[tuple[list[Fraction], Fraction]]:
    """Random histories of releases, as squares of sensitivity over sigma, each with a delta."""
    coins = np.random.default_rng(20261122)
    for _ in range(HISTORIES):
        releases = coins.integers(1, 25)
        sigmas = np.rint(np.exp(coins.uniform(0, 12, releases))).astype(int).tolist()
        sensitivities = np.rint(np.exp(coins.uniform(0, 10, releases))).astype(int).tolist()
        squares = [
            min(Fraction(sensitivity**2, sigma**2), Fraction(10))
            for sigma, sensitivity in zip(sigmas, sensitivities, strict=True)
        ]
        yield squares, Fraction(1, int(10 ** coins.uniform(3, 12)))


def best_order(rho: float, delta: float) -> float:
    """The Renyi order at which the conversion of zCDP is tightest."""

    def epsilon(logarithm: float) -> float:
        order = 1 + math.exp(logarithm)
        return rho * order + math.log(1 / (order * delta)) / (order - 1) + math.log1p(-1 / order)

    return 1 + math.exp(minimize_scalar(epsilon, bounds=(-12, 30), options={"xatol": 1e-10}).x)


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Delta of a Gaussian mechanism (Balle and Wang 2018, Theorem 8), of sensitivity over sigma `mu`."""
    return float(norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu)))


def test_a_thousand_random_histories_cost_what_two_other_accountants_say_and_never_less_than_the_truth() -> None:
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T=int)), dp.l2_distance(T=float)
    measurement = dp.c.make_zCDP_to_approxDP(dp.m.make_gaussian(*space, scale=1.0))
    for squares, delta in histories():
        spent = sum(squares, Fraction(0))
        ours = float(epsilon_of(spent / 2, delta))
        order = best_order(float(spent / 2), float(delta))
        accountant = RdpAccountant(1 + (order - 1) * np.linspace(0.999, 1.001, 101))
        for square in squares:
            accountant.compose(dp_accounting.GaussianDpEvent(float(square) ** -0.5))
        assert ours == pytest.approx(accountant.get_epsilon(float(delta)), rel=1e-6)
        theirs = measurement.map(float(spent) ** 0.5).epsilon(float(delta))  # type: ignore[no-untyped-call] # OpenDP's
        assert ours == pytest.approx(theirs, rel=1e-6)
        assert gaussian_delta(ours, float(spent) ** 0.5) <= float(delta) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        ("2.1307200699", 3, "2.14"),
        ("2.130000000000000001", 3, "2.14"),
        ("2.13", 3, "2.13"),
        ("1.999999999999999999", 3, "2.00"),
        ("9.999", 3, "10.0"),
        ("1234.5", 3, "1240"),
        ("0.000012341", 3, "0.0000124"),
        ("2.1307200699", 5, "2.1308"),
        ("0", 3, "0"),
        ("0E-18", 3, "0"),
    ],
)
def test_people_see_epsilon_rounded_up(value: str, digits: int, shown: str) -> None:
    assert shown_epsilon(Decimal(value), digits) == shown


@given(st.decimals(min_value=0, max_value=10**12, places=18))
def test_a_shown_epsilon_is_never_below_the_true_one(value: Decimal) -> None:
    assert Decimal(shown_epsilon(value)) >= value


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-0.1"])
def test_what_is_no_epsilon_is_not_shown(value: str) -> None:
    with pytest.raises(ValueError, match="finite and at least 0"):
        shown_epsilon(Decimal(value))


@given(non_negative_fractions)
def test_the_text_of_a_fraction_reads_back_as_itself(value: Fraction) -> None:
    assert parse_fraction(fraction_text(value)) == value


@given(st.text(alphabet="0123456789/ +-.", max_size=8))
def test_every_fraction_has_one_text_only(text: str) -> None:
    try:
        value = parse_fraction(text)
    except ValueError:
        return
    assert fraction_text(value) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1/", "/1", "1/0", "2/4", "0/2", "01/2", "1/02", "-1/2", "+1/2", "1/-2", " 1/2", "1/2 ", "1/2\n"),
        *("1 /2", "1.0/2", "1e3/7", "1_0/3", "1/2/3", "\u0661/2", "inf/1", "1" * FRACTION_TEXT_LIMIT + "/7"),
    ],
)
def test_any_other_text_is_no_fraction(text: str) -> None:
    with pytest.raises(ValueError, match="a fraction is written"):
        parse_fraction(text)


def test_the_longest_text_is_read_and_a_longer_one_is_neither_written_nor_read() -> None:
    longest = Fraction(10 ** (FRACTION_TEXT_LIMIT - 3))
    assert len(fraction_text(longest)) == FRACTION_TEXT_LIMIT
    assert parse_fraction(fraction_text(longest)) == longest
    with pytest.raises(ValueError, match="have a text"):
        fraction_text(longest * 10)
    with pytest.raises(ValueError, match="a fraction is written"):
        parse_fraction(f"{longest * 10}/1")


def test_a_negative_fraction_has_no_text() -> None:
    with pytest.raises(ValueError, match="have a text"):
        fraction_text(Fraction(-1, 2))
