"""A histogram counts each customer once in every column, and weighs it so that all columns together keep the sensitivity."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.clustering.bins import BINS, bins
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.lattice import SIGMA_TARGET, UNIT_MAX, UNIT_MIN, Lattice, Statistic, fit_histogram
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.schedule import INTEGERS_MAX, Budget, Kind, Single
from fedseg.clustering.statistics import histograms
from fedseg.privacy.budget import RHO_GRID
from fedseg.privacy.mechanism import SIGMA_LIMIT, SIGMA_MIN
from fedseg.privacy.sensitive import sum_of_rows
from tests.small_run import Rows, bounds_settings, exact, rho_for, terms_of

COLUMNS_MAX = INTEGERS_MAX // BINS
"""Most columns that a plan for bounds may have."""

COORDINATES = st.integers(-FEATURE_MAX, FEATURE_MAX) | st.sampled_from([-FEATURE_MAX, -1, 0, FEATURE_MAX])
LATTICES = st.builds(
    Lattice,
    statistic=st.just(Statistic.HISTOGRAM),
    unit=st.integers(UNIT_MIN, UNIT_MAX),
    count_weight=st.integers(1, UNIT_MAX),
    energy_weight=st.just(1),
)


@st.composite
def tables(draw: st.DrawFn, columns_max: int = 40) -> Rows:
    """A few customers."""
    columns = draw(st.integers(1, columns_max))
    row = st.lists(COORDINATES, min_size=columns, max_size=columns)
    return np.array(draw(st.lists(row, min_size=1, max_size=6)), np.int32)


def whole_box(columns: int) -> RoundRequest:
    return RoundRequest(0, np.zeros((1, columns), np.int32), np.ones(1, np.int32))


@given(tables(), LATTICES)
def test_every_customer_is_in_exactly_one_bin_of_every_column(rows: Rows, lattice: Lattice) -> None:
    vectors = histograms(rows, lattice).reshape(len(rows), rows.shape[1], BINS)
    assert (np.count_nonzero(vectors, axis=2) == 1).all()
    assert set(vectors[vectors != 0].tolist()) == {lattice.bin_weight(rows.shape[1])}
    assert np.array_equal(vectors.argmax(axis=2), bins(rows))


@given(tables(), LATTICES)
def test_no_customers_vector_is_longer_than_the_sensitivity(rows: Rows, lattice: Lattice) -> None:
    for vector in histograms(rows, lattice).tolist():
        assert sum(one**2 for one in vector) <= lattice.unit**2 == lattice.l2_sensitivity_squared


@given(tables(), st.integers(1, COLUMNS_MAX), st.sampled_from(["1/50", "1/10", "1", "8"]))
def test_one_customer_moves_the_histograms_by_their_sensitivity_but_for_a_hundredth(
    rows: Rows, columns: int, epsilon: str
) -> None:
    (terms,) = terms_of(bounds_settings(columns, 1000, rho=rho_for(Fraction(epsilon))))
    wide = np.resize(rows, (len(rows), columns)).astype(np.int32)
    everyone, without = (exact(part, whole_box(columns), terms.lattice) for part in (wide, wide[1:]))
    moved = sum(int(one) ** 2 for one in everyone - without)
    assert 0.99**2 < moved / terms.lattice.l2_sensitivity_squared <= 1


@given(tables(columns_max=5), st.integers(0, 5), LATTICES)
def test_a_customer_more_changes_one_count_of_each_column(rows: Rows, place: int, lattice: Lattice) -> None:
    request, who = whole_box(rows.shape[1]), place % len(rows)
    moved = exact(rows, request, lattice) - exact(np.delete(rows, who, axis=0), request, lattice)
    assert np.array_equal(moved, histograms(rows[[who]], lattice)[0])


def test_a_vector_that_were_too_long_would_not_be_counted() -> None:
    """The second lock: what the histogram's own arithmetic promises is not believed while summing."""
    (terms,) = terms_of(bounds_settings(3, 1000, rho=rho_for(1)))
    vectors = histograms(np.zeros((2, 3), np.int32), terms.lattice)
    vectors[1] *= 2
    sums = sum_of_rows(
        [(np.zeros(2, np.intp), vectors)],
        cells=1,
        width=terms.width,
        l2_sensitivity_squared=terms.lattice.l2_sensitivity_squared,
    )
    assert np.array_equal(sums._values, vectors[0])


def test_bins_are_equal_parts_of_the_box() -> None:
    positions = np.arange(-FEATURE_MAX, FEATURE_MAX + 1, dtype=np.int32)
    found = bins(positions)
    assert (np.diff(found) >= 0).all()
    sizes = np.bincount(found)
    assert len(sizes) == BINS
    assert sizes.max() - sizes.min() <= 1
    for position in (-FEATURE_MAX, -300_000, -1, 0, 1, 77_777, FEATURE_MAX - 1, FEATURE_MAX):
        exactly = Fraction(position + FEATURE_MAX, 2 * FEATURE_MAX) * BINS
        assert found[position + FEATURE_MAX] == min(BINS - 1, exactly // 1)


@settings(max_examples=300)
@given(
    rho=st.integers(1, 40).flatmap(lambda bits: st.integers(1, 2**bits)).map(lambda n: Fraction(n, 2**30)),
    columns=st.integers(1, COLUMNS_MAX),
)
def test_a_budget_gets_a_histogram_that_keeps_its_price_or_is_refused(rho: Fraction, columns: int) -> None:
    try:
        lattice, mechanism = fit_histogram(rho, columns)
    except ValueError:
        assert not Fraction(1, 10**7) < rho < 100
        return
    assert SIGMA_MIN <= mechanism.sigma < SIGMA_LIMIT
    assert UNIT_MIN <= lattice.unit <= UNIT_MAX
    assert columns * lattice.count_weight**2 <= lattice.unit**2
    assert lattice.bin_weight(columns) == lattice.count_weight
    assert mechanism.charge(lattice.l2_sensitivity_squared).rho <= rho


@given(st.fractions(Fraction(1, 10**4), Fraction(1, 40), max_denominator=10**6), st.integers(1, COLUMNS_MAX))
def test_usual_budgets_waste_nothing(rho: Fraction, columns: int) -> None:
    lattice, mechanism = fit_histogram(rho, columns)
    assert abs(mechanism.sigma - SIGMA_TARGET) < SIGMA_TARGET / 100
    assert rho - mechanism.charge(lattice.l2_sensitivity_squared).rho < rho / 10**4 + Fraction(1, RHO_GRID)


@pytest.mark.parametrize("rho", [Fraction(0), Fraction(1, RHO_GRID), Fraction(1, 10**10), Fraction(10**7)])
def test_budgets_no_histogram_fits_are_refused(rho: Fraction) -> None:
    with pytest.raises(ValueError, match=r"lattice|weights must be"):
        fit_histogram(rho, 3)


@given(st.integers(1, COLUMNS_MAX), st.sampled_from([1, 2, 1000]))
def test_a_plan_for_bounds_has_one_round_that_takes_the_whole_budget(columns: int, noises: int) -> None:
    chosen = bounds_settings(columns, 10**6, rho=rho_for(1), noises=noises)
    (one,) = chosen.rounds
    assert (one.kind, one.share, one.cells, one.statistic) == (Kind.HISTOGRAM, Fraction(1), 1, Statistic.HISTOGRAM)
    (terms,) = terms_of(chosen)
    assert terms.length == columns * BINS <= INTEGERS_MAX
    # The planner's noise is the release's, in customers.
    sd = terms.mechanism.sigma * noises**0.5 / terms.lattice.count_weight
    assert sd == pytest.approx(Budget(rho_for(1), noises).noise_sd(Fraction(1), columns**0.5), rel=0.01)
    assert chosen.profile is Single.BOUNDS
