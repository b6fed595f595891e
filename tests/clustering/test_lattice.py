"""The lattice and its noise follow from the price; the integer sigma stays where it is proved exact and fine enough."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.clustering.lattice import SIGMA_TARGET, UNIT_MAX, UNIT_MIN, CellLattice, fit_lattice
from fedseg.privacy.budget import RHO_GRID
from fedseg.privacy.mechanism import SIGMA_LIMIT, SIGMA_MIN

WEIGHTS = st.fractions(Fraction(1, 16), Fraction(1), max_denominator=1000)


@settings(max_examples=300)
@given(
    rho=st.integers(1, 40).flatmap(lambda bits: st.integers(1, 2**bits)).map(lambda n: Fraction(n, 2**30)),
    weight=WEIGHTS,
)
def test_a_budget_gets_a_lattice_that_keeps_its_price_or_is_refused(rho: Fraction, weight: Fraction) -> None:
    try:
        lattice, mechanism = fit_lattice(rho, weight)
    except ValueError:
        assert not Fraction(1, 10**7) < rho < 100
        return
    assert SIGMA_MIN <= mechanism.sigma < SIGMA_LIMIT
    assert UNIT_MIN <= lattice.unit <= UNIT_MAX
    assert 1 <= lattice.count_weight <= weight * lattice.unit
    assert mechanism.charge(lattice.l2_sensitivity_squared).rho <= rho


@given(rho=st.fractions(Fraction(1, 10**4), Fraction(1, 2), max_denominator=10**6), weight=WEIGHTS)
def test_usual_budgets_get_a_sigma_near_the_target_and_waste_nothing(rho: Fraction, weight: Fraction) -> None:
    lattice, mechanism = fit_lattice(rho, weight)
    assert abs(mechanism.sigma - SIGMA_TARGET) < SIGMA_TARGET / 100
    assert rho - mechanism.charge(lattice.l2_sensitivity_squared).rho < rho / 10**5 + Fraction(1, RHO_GRID)


@pytest.mark.parametrize("rho", [Fraction(0), Fraction(1, RHO_GRID), Fraction(1, 10**9), Fraction(10**7)])
def test_budgets_no_lattice_fits_are_refused(rho: Fraction) -> None:
    with pytest.raises(ValueError, match="lattice"):
        fit_lattice(rho, Fraction(1))


@pytest.mark.parametrize(
    ("count_weight", "unit"), [(1, UNIT_MIN - 1), (1, UNIT_MAX + 1), (0, UNIT_MIN), (UNIT_MAX + 1, UNIT_MAX)]
)
def test_a_lattice_too_coarse_or_too_fine_is_refused(count_weight: int, unit: int) -> None:
    with pytest.raises(ValueError, match="steps"):
        CellLattice(count_weight, unit)
