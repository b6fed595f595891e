"""All units' sums pass the door together: the bound that is charged for holds for a customer in several of them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering import encode
from fedseg.clustering.encode import BoundedFeatures
from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.lattice import Statistic, StepTerms, fit_lattice
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.statistics import summarize
from fedseg.estimator.rounds import summarize_units
from fedseg.estimator.terms import Sharing
from fedseg.plan import TrustModel

FEATURES, CELLS = 3, 4


def terms_of(statistic: Statistic) -> StepTerms:
    lattice, mechanism = fit_lattice(statistic, Fraction(1, 10), Fraction(1, 2), Fraction(3, 10))
    return StepTerms(0, CELLS, lattice.width(FEATURES), lattice, mechanism)


def request(coins: np.random.Generator) -> RoundRequest:
    centers = coins.integers(-FEATURE_MAX, FEATURE_MAX, (CELLS, FEATURES), dtype=np.int32)
    return RoundRequest(0, centers, coins.integers(1, FEATURE_MAX, CELLS, dtype=np.int32))


def customers(coins: np.random.Generator, count: int) -> NDArray[np.int32]:
    return coins.integers(-FEATURE_MAX, FEATURE_MAX, (count, FEATURES), dtype=np.int32)


@pytest.mark.parametrize("statistic", Statistic)
@pytest.mark.parametrize("trust", TrustModel)
@given(seed=st.integers(0, 10**6), units=st.integers(1, 5), data=st.data())
@settings(max_examples=40)
def test_a_customer_in_c_units_moves_all_sums_together_by_at_most_what_is_charged(
    statistic: Statistic, trust: TrustModel, seed: int, units: int, data: st.DataObject
) -> None:
    coins, terms = np.random.default_rng(seed), terms_of(statistic)
    within = data.draw(st.integers(1, units))
    sharing, asked = Sharing(trust, units, within), request(coins)
    tables = [customers(coins, int(count)) for count in coins.integers(0, 6, units)]
    # The worst customer is as far away as can be, and the same in every unit.
    one = np.where(coins.random((1, FEATURES)) < 0.5, -FEATURE_MAX, FEATURE_MAX).astype(np.int32)
    joined = [np.concatenate([table, one]) if unit < within else table for unit, table in enumerate(tables)]
    without, with_one = (summarize_units(each, asked, terms, sharing) for each in (tables, joined))
    moved = int(((with_one._values - without._values) ** 2).sum())
    assert moved <= with_one.l2_sensitivity_squared == without.l2_sensitivity_squared
    if statistic is Statistic.CELLS and (np.abs(one - asked.centers).max(axis=1) > asked.radii).all():
        assert moved > 0.99 * with_one.l2_sensitivity_squared


@pytest.mark.parametrize("statistic", Statistic)
def test_a_unit_sends_what_a_unit_of_a_federation_sends(statistic: Statistic) -> None:
    coins, terms = np.random.default_rng(1), terms_of(statistic)
    asked, tables = request(coins), [customers(coins, count) for count in (40, 0, 7)]
    alone = [
        summarize(BoundedFeatures(table, FEATURES, encode._TOKEN), asked, terms.lattice)._values for table in tables
    ]
    side_by_side = summarize_units(tables, asked, terms, Sharing(TrustModel.UNIT_NOISE, 3, 1))
    assert side_by_side._values.tolist() == np.concatenate(alone).tolist()
    assert side_by_side.l2_sensitivity_squared == terms.lattice.l2_sensitivity_squared
    added_up = summarize_units(tables, asked, terms, Sharing(TrustModel.SECURE_AGGREGATION, 3, 1))
    assert added_up._values.tolist() == np.sum(alone, axis=0).tolist()
