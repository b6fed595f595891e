"""A mechanism's charge follows from its integers alone, and anyone recomputes it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.privacy.budget import RHO_GRID, Charge
from fedseg.privacy.mechanism import (
    DISCRETE_GAUSSIAN_ZCDP,
    FORMULAS,
    SIGMA_LIMIT,
    SIGMA_MIN,
    DiscreteGaussian,
    recompute,
)

sigmas = st.integers(1, SIGMA_LIMIT - 1)
sensitivities = st.integers(1, 2**50)


@given(sigmas, sensitivities)
def test_the_charge_is_delta_squared_over_two_sigma_squared_rounded_up(sigma: int, squared: int) -> None:
    charge = DiscreteGaussian(sigma).charge(squared)
    exact = Fraction(squared, 2 * sigma**2)
    assert exact <= charge.rho < exact + Fraction(1, RHO_GRID)
    assert charge == Charge(charge.rho, Fraction(0), DISCRETE_GAUSSIAN_ZCDP)


def test_a_known_charge() -> None:
    assert DiscreteGaussian(10).charge(1) == Charge.of(Fraction(1, 200), Fraction(0), "discrete-gaussian-zcdp")


def test_a_calibrated_sigma_lies_between_the_lattices_bound_and_the_samplers() -> None:
    assert (SIGMA_MIN, SIGMA_LIMIT) == (2**10, 2**24)


@pytest.mark.parametrize("sigma", [0, -1, SIGMA_LIMIT])
def test_sigma_stays_where_the_sampler_is_proved(sigma: int) -> None:
    with pytest.raises(ValueError, match="sigma must lie in"):
        DiscreteGaussian(sigma)


@pytest.mark.parametrize("number", [1.0, True, np.int64(5), Fraction(5), "5", None])
def test_only_plain_integers_make_a_mechanism_or_a_sensitivity(number: object) -> None:
    with pytest.raises(TypeError, match="must be an int"):
        DiscreteGaussian(number)  # type: ignore[arg-type]  # the promise under test
    with pytest.raises(TypeError, match="must be an int"):
        DiscreteGaussian(5).charge(number)  # type: ignore[arg-type]  # the promise under test
    with pytest.raises(TypeError, match="must be an int"):
        DiscreteGaussian.calibrated(number, Fraction(1))  # type: ignore[arg-type]  # the promise under test


@pytest.mark.parametrize("squared", [0, -1])
def test_a_sensitivity_of_nothing_is_a_forgotten_one(squared: int) -> None:
    with pytest.raises(ValueError, match="l2_sensitivity_squared must be positive"):
        DiscreteGaussian(5).charge(squared)
    with pytest.raises(ValueError, match="l2_sensitivity_squared must be positive"):
        DiscreteGaussian.calibrated(squared, Fraction(1))


@given(sensitivities, st.fractions(min_value=Fraction(1, RHO_GRID), max_value=10, max_denominator=2**60))
def test_calibration_finds_the_smallest_sigma_that_rho_pays_for(squared: int, rho: Fraction) -> None:
    try:
        mechanism = DiscreteGaussian.calibrated(squared, rho)
    except ValueError:
        # Then no sigma of the range is the smallest that fits.
        assert (
            DiscreteGaussian(SIGMA_MIN - 1).charge(squared).rho <= rho
            or DiscreteGaussian(SIGMA_LIMIT - 1).charge(squared).rho > rho
        )
        return
    assert SIGMA_MIN <= mechanism.sigma < SIGMA_LIMIT
    assert mechanism.charge(squared).rho <= rho < DiscreteGaussian(mechanism.sigma - 1).charge(squared).rho


@given(st.integers(SIGMA_MIN, SIGMA_LIMIT - 1), sensitivities)
def test_calibration_to_a_mechanisms_own_charge_needs_no_more_noise(sigma: int, squared: int) -> None:
    rho = DiscreteGaussian(sigma).charge(squared).rho
    if DiscreteGaussian(SIGMA_MIN - 1).charge(squared).rho > rho:
        assert DiscreteGaussian.calibrated(squared, rho).sigma <= sigma


@given(st.integers(SIGMA_MIN, SIGMA_LIMIT - 2), st.integers(40, 50))
def test_a_rho_one_step_short_of_a_mechanisms_charge_needs_more_noise(sigma: int, bits: int) -> None:
    short = DiscreteGaussian(sigma).charge(2**bits).rho - Fraction(1, RHO_GRID)
    assert DiscreteGaussian.calibrated(2**bits, short).sigma == sigma + 1


def test_calibration_reaches_both_ends_of_its_range_and_not_beyond() -> None:
    def rho_for(sigma: int) -> Fraction:
        return Fraction(2**40, 2 * sigma**2)

    assert DiscreteGaussian.calibrated(2**40, rho_for(SIGMA_MIN)).sigma == SIGMA_MIN
    assert DiscreteGaussian.calibrated(2**40, rho_for(SIGMA_LIMIT - 1) + Fraction(1, RHO_GRID)).sigma == SIGMA_LIMIT - 1
    with pytest.raises(ValueError, match=f"sigma would be {SIGMA_MIN - 1} "):
        DiscreteGaussian.calibrated(2**40, rho_for(SIGMA_MIN - 1) + Fraction(1, RHO_GRID))
    with pytest.raises(ValueError, match=f"sigma would be {SIGMA_LIMIT} "):
        DiscreteGaussian.calibrated(2**40, rho_for(SIGMA_LIMIT))


@pytest.mark.parametrize("rho", [Fraction(0), Fraction(-1), Fraction(1, RHO_GRID + 1)])
def test_less_than_one_grid_step_buys_no_mechanism(rho: Fraction) -> None:
    with pytest.raises(ValueError, match="rho must be at least"):
        DiscreteGaussian.calibrated(1, rho)


def test_calibration_refuses_a_float_rho() -> None:
    with pytest.raises(TypeError, match="rho must be a Fraction"):
        DiscreteGaussian.calibrated(2**40, 0.1)  # type: ignore[arg-type]  # the promise under test


@given(sigmas, sensitivities)
def test_an_auditor_recomputes_the_charge_from_the_facts(sigma: int, squared: int) -> None:
    charge = DiscreteGaussian(sigma).charge(squared)
    assert recompute(charge.formula, {"sigma": sigma, "l2_sensitivity_squared": squared}) == charge


@pytest.mark.parametrize("formula", ["", "gaussian", "DISCRETE-GAUSSIAN-ZCDP", "discrete-gaussian-zcdp "])
def test_an_unknown_formula_is_no_charge(formula: str) -> None:
    with pytest.raises(ValueError, match="formula that this version does not know"):
        recompute(formula, {"sigma": 5, "l2_sensitivity_squared": 1})


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ({}, "exactly sigma"),
        ({"sigma": 5}, "exactly sigma"),
        ({"l2_sensitivity_squared": 1}, "exactly sigma"),
        ({"sigma": 5, "l2_sensitivity_squared": 1, "rho": 0}, "exactly sigma"),
        ({"sigma": 5.0, "l2_sensitivity_squared": 1}, "are integers"),
        ({"sigma": True, "l2_sensitivity_squared": 1}, "are integers"),
        ({"sigma": "5", "l2_sensitivity_squared": 1}, "are integers"),
        ({"sigma": 5, "l2_sensitivity_squared": None}, "are integers"),
        ({"sigma": 0, "l2_sensitivity_squared": 1}, "sigma must lie in"),
        ({"sigma": SIGMA_LIMIT, "l2_sensitivity_squared": 1}, "sigma must lie in"),
        ({"sigma": 5, "l2_sensitivity_squared": 0}, "must be positive"),
    ],
)
def test_facts_that_do_not_fit_the_formula_are_no_charge(facts: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        recompute(DISCRETE_GAUSSIAN_ZCDP, facts)


def test_formulas_cannot_be_added_at_run_time() -> None:
    with pytest.raises(TypeError):
        FORMULAS["free"] = lambda _: Charge(Fraction(0), Fraction(0), "free")  # type: ignore[index]  # under test
