"""`PrivateKMeans` is an estimator as scikit-learn wants it: its own checks, clones, pipelines, searches."""

import numpy as np
import pytest
import sklearn
from numpy.typing import NDArray
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from fedseg import CustomerAccount, PrivateKMeans
from fedseg.errors import BudgetError

SKIPPED = {
    "check_clustering": "reads labels_, which would keep a fact about every row; the next test asks predict() instead",
    "check_array_api_input": "runs only with an environment variable set before SciPy is loaded; we promise NumPy alone",
}
"""Checks of scikit-learn that are left out, and why. Every other one passes."""


def checked_model(account: CustomerAccount) -> PrivateKMeans:
    """Noise from a seed, because some checks fit twice and compare; so much budget because they have few rows."""
    return PrivateKMeans(
        3,
        epsilon=50,
        account=account,
        lower=-120,
        upper=120,
        expected_customers=20,
        profile="short",
        random_state=0,
        simulated_noise_seed=0,
    )


def test_scikit_learns_checks_pass() -> None:
    account = CustomerAccount(epsilon=2**20, delta=1e-6)
    results = check_estimator(checked_model(account), expected_failed_checks=SKIPPED, on_fail=None, on_skip=None)
    failed = [(one["check_name"], one["exception"]) for one in results if one["status"] == "failed"]
    assert not failed
    assert len(results) > 45
    assert {one["check_name"] for one in results if one["status"] != "passed"} == set(SKIPPED)


def test_three_groups_of_few_customers_are_found_where_the_budget_is_large(account: CustomerAccount) -> None:
    # As in scikit-learn's check_clustering, with public bounds about the rows' own.
    points, groups = make_blobs(n_samples=50, random_state=1)
    points = StandardScaler().fit_transform(points)
    found = checked_model(account).set_params(lower=-3, upper=3, profile="standard")
    labels = found.fit_predict(points)
    assert labels.dtype == np.intp
    assert set(labels) <= {0, 1, 2}
    assert adjusted_rand_score(labels, groups) > 0.4


def test_a_pipeline_hands_on_the_unit_of_each_row(account: CustomerAccount, rows: NDArray[np.float64]) -> None:
    units = np.arange(3000) % 2
    found = PrivateKMeans(3, account=account, lower=0, upper=5, expected_customers=3000, n_units=2)
    pipeline = Pipeline([("log", FunctionTransformer(np.log1p)), ("segments", found)])
    clipped = np.maximum(rows, 0)
    assert pipeline.fit_predict(clipped, segments__units=units).shape == (3000,)
    assert pipeline.transform(clipped).shape == (3000, 3)
    assert pipeline.score(clipped) < 0


def test_metadata_routing_hands_on_the_unit_of_each_row(account: CustomerAccount, rows: NDArray[np.float64]) -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        found = PrivateKMeans(3, account=account, lower=0, upper=100, expected_customers=3000, n_units=2)
        pipeline = make_pipeline(FunctionTransformer(), found.set_fit_request(units=True))
        assert pipeline.fit(rows, units=np.arange(3000) % 2).predict(rows).shape == (3000,)


def test_a_search_pays_for_every_fit_and_stops_at_the_limit(rows: NDArray[np.float64]) -> None:
    account = CustomerAccount(epsilon=2, delta=1e-6)
    found = PrivateKMeans(account=account, epsilon=1, lower=0, upper=100, expected_customers=3000, profile="short")
    search = GridSearchCV(found, {"n_clusters": [2, 3]}, cv=3, error_score="raise")
    with pytest.raises(BudgetError):
        search.fit(rows)
    assert account.fits_left(1) == 0
    assert account.epsilon_spent <= 2
