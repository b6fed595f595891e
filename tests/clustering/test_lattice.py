"""The lattice and its noise follow from the price; the integer sigma stays where it is proved exact and fine enough."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.clustering.bins import BINS
from fedseg.clustering.lattice import SIGMA_TARGET, UNIT_MAX, UNIT_MIN, Lattice, Statistic, fit_lattice
from fedseg.privacy.budget import RHO_GRID
from fedseg.privacy.mechanism import SIGMA_LIMIT, SIGMA_MIN

FITTED = [one for one in Statistic if one is not Statistic.HISTOGRAM]
STATISTICS = st.sampled_from(FITTED)
WEIGHTS = st.fractions(Fraction(1, 16), Fraction(1), max_denominator=1000)


@settings(max_examples=300)
@given(
    statistic=STATISTICS,
    rho=st.integers(1, 40).flatmap(lambda bits: st.integers(1, 2**bits)).map(lambda n: Fraction(n, 2**30)),
    count_weight=WEIGHTS,
    energy_weight=WEIGHTS,
)
def test_a_budget_gets_a_lattice_that_keeps_its_price_or_is_refused(
    statistic: Statistic, rho: Fraction, count_weight: Fraction, energy_weight: Fraction
) -> None:
    try:
        lattice, mechanism = fit_lattice(statistic, rho, count_weight, energy_weight)
    except ValueError:
        assert not Fraction(1, 10**7) < rho < 100
        return
    assert lattice.statistic is statistic
    assert SIGMA_MIN <= mechanism.sigma < SIGMA_LIMIT
    assert UNIT_MIN <= lattice.unit <= UNIT_MAX
    assert 1 <= lattice.count_weight <= count_weight * lattice.unit
    assert 1 <= lattice.energy_weight <= energy_weight * lattice.unit
    assert mechanism.charge(lattice.l2_sensitivity_squared).rho <= rho


@given(
    statistic=STATISTICS,
    rho=st.fractions(Fraction(1, 10**4), Fraction(1, 40), max_denominator=10**6),
    count_weight=WEIGHTS,
    energy_weight=WEIGHTS,
)
def test_usual_budgets_get_a_sigma_near_the_target_and_waste_nothing(
    statistic: Statistic, rho: Fraction, count_weight: Fraction, energy_weight: Fraction
) -> None:
    lattice, mechanism = fit_lattice(statistic, rho, count_weight, energy_weight)
    if lattice.unit < UNIT_MAX:  # else the sensitivity is small beside the unit, and so is sigma
        assert abs(mechanism.sigma - SIGMA_TARGET) < SIGMA_TARGET / 100
    assert rho - mechanism.charge(lattice.l2_sensitivity_squared).rho < rho / 10**4 + Fraction(1, RHO_GRID)


@pytest.mark.parametrize("statistic", FITTED)
@pytest.mark.parametrize("rho", [Fraction(0), Fraction(1, RHO_GRID), Fraction(1, 10**10), Fraction(10**7)])
def test_budgets_no_lattice_fits_are_refused(statistic: Statistic, rho: Fraction) -> None:
    with pytest.raises(ValueError, match=r"lattice|weights must be"):
        fit_lattice(statistic, rho, Fraction(1, 2), Fraction(1, 2))


@pytest.mark.parametrize(
    ("unit", "count_weight", "energy_weight"),
    [
        (UNIT_MIN - 1, 1, 1),
        (UNIT_MAX + 1, 1, 1),
        (UNIT_MIN, 0, 1),
        (UNIT_MIN, 1, 0),
        (UNIT_MAX, UNIT_MAX + 1, 1),
        (UNIT_MAX, 1, UNIT_MAX + 1),
    ],
)
def test_a_lattice_too_coarse_or_too_fine_is_refused(unit: int, count_weight: int, energy_weight: int) -> None:
    with pytest.raises(ValueError, match="steps"):
        Lattice(Statistic.CELLS, unit, count_weight, energy_weight)


@pytest.mark.parametrize(
    ("statistic", "squared", "width"),
    [
        (Statistic.CELLS, 300**2 + 1000**2 + 200**2, 7 + 2),
        (Statistic.PROFILE, 300**2 + 1000**2 + 200**2, 1 + 7 + 7),
        (Statistic.SECOND_MOMENT, 300**2 + 200**2, 7 + 7 * 8 // 2),
        (Statistic.HISTOGRAM, 1000**2, 7 * BINS),
    ],
)
def test_sensitivity_and_width_are_the_statistics_own(statistic: Statistic, squared: int, width: int) -> None:
    lattice = Lattice(statistic, 1000, 300, 200)
    assert lattice.l2_sensitivity_squared == squared
    assert lattice.width(7) == width


@given(st.integers(1, UNIT_MAX))
def test_a_product_of_two_features_weighs_at_most_the_root_of_two(energy_weight: int) -> None:
    cross = Lattice(Statistic.SECOND_MOMENT, UNIT_MIN, 1, energy_weight).cross_weight
    assert cross**2 <= 2 * energy_weight**2 < (cross + 1) ** 2
