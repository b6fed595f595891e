"""Rows of which nothing can be made end in finite centers within the bounds; never in NaN, never in a crash."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg import CustomerAccount, PrivateKMeans

LOWER, UPPER = -5.0, 20.0


@dataclass(frozen=True)
class Case:
    """A fit that could go wrong."""

    tables: list[NDArray[np.float64]]
    n_clusters: int
    epsilon: float
    trust: str
    profile: str
    expected_customers: int


@st.composite
def tables(draw: st.DrawFn, features: int) -> NDArray[np.float64]:
    """Customers of one unit: none, one, few distinct ones, all equal, or with constant features."""
    count, distinct = draw(st.integers(0, 60)), draw(st.integers(1, 60))
    coins = np.random.default_rng(draw(st.integers(0, 1000)))
    rows = coins.uniform(2 * LOWER, 2 * UPPER, (distinct, features))[coins.integers(0, distinct, count)]
    constant = draw(st.lists(st.booleans(), min_size=features, max_size=features))
    rows[:, constant] = draw(st.sampled_from([LOWER, 0.0, UPPER, 1e300]))
    return rows


@st.composite
def cases(draw: st.DrawFn) -> Case:
    features = draw(st.sampled_from([1, 2, 5]))
    return Case(
        tables=draw(st.lists(tables(features), min_size=1, max_size=3)),
        n_clusters=draw(st.sampled_from([1, 2, 7, 30])),
        epsilon=draw(st.sampled_from([0.05, 1.0, 100.0])),
        trust=draw(st.sampled_from(["unit-noise", "secure-aggregation"])),
        profile=draw(st.sampled_from(["standard", "short"])),
        expected_customers=draw(st.sampled_from([1, 100])),
    )


def assert_sane(case: Case) -> None:
    found = PrivateKMeans(
        case.n_clusters,
        epsilon=case.epsilon,
        account=CustomerAccount(epsilon=case.epsilon, delta=1e-6),
        lower=LOWER,
        upper=UPPER,
        expected_customers=case.expected_customers,
        trust=case.trust,
        profile=case.profile,
        random_state=0,
    ).fit(case.tables)
    assert found.cluster_centers_.shape == (case.n_clusters, case.tables[0].shape[1])
    assert (found.cluster_centers_ >= LOWER).all()
    assert (found.cluster_centers_ <= UPPER).all()
    assert np.isfinite(found.cluster_sizes_).all()
    assert 0 < found.cluster_size_sd_ < np.inf
    labels = found.predict(case.tables)
    assert labels.shape == (sum(len(one) for one in case.tables),)
    assert set(labels) <= set(range(case.n_clusters))
    assert np.isfinite(found.transform(case.tables)).all()
    assert found.score(case.tables) <= 0


@given(case=cases())
@settings(max_examples=30)
def test_degenerate_rows_end_well(case: Case) -> None:
    assert_sane(case)


@pytest.mark.parametrize(("profile", "expected_customers"), [("standard", 10**6), ("short", 50)])
def test_many_features_of_few_customers_end_well(profile: str, expected_customers: int) -> None:
    rows = np.random.default_rng(2).normal(5, 3, (50, 200))
    assert_sane(Case([rows, rows[:0]], 4, 1.0, "unit-noise", profile, expected_customers))


def test_more_features_than_stay_exact_are_refused_and_cost_nothing() -> None:
    account = CustomerAccount(epsilon=1, delta=1e-6)
    model = PrivateKMeans(2, account=account, lower=0, upper=1, expected_customers=50)
    with pytest.raises(ValueError, match="at most 4096 features"):
        model.fit(np.zeros((3, 4097)))
    assert account.rho_spent == 0
