"""What `PrivateKMeans` finds, what it refuses, and what a fitted one holds."""

import math
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from fedseg import CustomerAccount, PrivateKMeans
from tests.estimator.conftest import LOWER, MIDDLES, UPPER

RELEASED = {"cluster_centers_", "cluster_sizes_", "cluster_size_sd_", "n_iter_", "_positions"}
"""What releases say."""

PUBLIC = {"n_features_in_", "_fitted_features", "rho_spent_", "epsilon_spent_", "simulated_"}
"""What follows from parameters, the account and the shape of the rows."""


def model(account: CustomerAccount, /, **changed: Any) -> PrivateKMeans:
    terms: dict[str, Any] = {
        "n_clusters": 3,
        "epsilon": 1,
        "account": account,
        "lower": LOWER,
        "upper": UPPER,
        "expected_customers": 3000,
        "random_state": 0,
    }
    return PrivateKMeans(**terms | changed)


def in_order(centers: NDArray[np.float64]) -> NDArray[np.float64]:
    return centers[np.argsort(centers[:, 0])]


@pytest.mark.parametrize("profile", ["standard", "short"])
def test_separate_groups_are_found_in_their_own_units(
    profile: str, account: CustomerAccount, rows: NDArray[np.float64]
) -> None:
    found = model(account, profile=profile).fit(rows)
    assert np.abs((in_order(found.cluster_centers_) - MIDDLES) / (UPPER[0], UPPER[1])).max() < 0.02
    assert np.abs(found.cluster_sizes_ - 1000).max() < 6 * found.cluster_size_sd_
    assert found.n_iter_ == {"standard": 6, "short": 3}[profile]


def test_a_list_of_tables_is_one_table_with_the_unit_of_each_row(
    account: CustomerAccount, rows: NDArray[np.float64]
) -> None:
    listed = model(account, simulated_noise_seed=4).fit([rows[:500], rows[500:]])
    labels = np.repeat([0, 1], [500, 2500])
    labelled = model(account, simulated_noise_seed=4, n_units=2)
    assert (labelled.fit_predict(rows, units=labels) == listed.predict(rows)).all()
    assert (labelled.cluster_centers_ == listed.cluster_centers_).all()
    assert (model(account, simulated_noise_seed=4).fit(rows).cluster_centers_ != listed.cluster_centers_).any()


def test_predictions_for_a_list_follow_each_other(account: CustomerAccount, rows: NDArray[np.float64]) -> None:
    found = model(account)
    assert (found.fit_predict([rows[:500], rows[500:]]) == found.predict(rows)).all()


def test_the_order_of_the_rows_says_nothing(account: CustomerAccount, rows: NDArray[np.float64]) -> None:
    one, other = (model(account, simulated_noise_seed=1).fit(table) for table in (rows, rows[::-1]))
    assert (one.cluster_centers_ == other.cluster_centers_).all()


def test_noise_is_fresh_in_every_fit_unless_it_is_simulated(
    account: CustomerAccount, rows: NDArray[np.float64]
) -> None:
    fresh = model(account)
    assert (fresh.fit(rows).cluster_sizes_ != fresh.fit(rows).cluster_sizes_).all()
    repeated = model(account, simulated_noise_seed=1)
    assert (repeated.fit(rows).cluster_sizes_ == repeated.fit(rows).cluster_sizes_).all()


@pytest.mark.parametrize(
    ("changed", "simulated"),
    [
        ({}, ()),
        ({"simulated_noise_seed": 0}, ("noise",)),
        ({"trust": "secure-aggregation"}, ("secure-aggregation",)),
        ({"trust": "secure-aggregation", "simulated_noise_seed": 0}, ("noise", "secure-aggregation")),
    ],
)
def test_what_is_only_modelled_is_stamped(
    changed: dict[str, Any], simulated: tuple[str, ...], account: CustomerAccount, rows: NDArray[np.float64]
) -> None:
    found = model(account, **changed).fit(rows)
    assert found.simulated_ == simulated
    assert account.noise_sources == {"simulated" if "noise" in simulated else "system"}


def test_sizes_are_as_noisy_as_trust_and_sharing_make_them(account: CustomerAccount, rows: NDArray[np.float64]) -> None:
    tables = np.array_split(rows, 4)

    def sd(**changed: Any) -> float:
        return model(account, **changed).fit(tables).cluster_size_sd_

    # One noise over all; one a unit; and one a unit at a quarter of the budget, for customers who are in all four.
    alone = sd(trust="secure-aggregation", max_units_per_customer=1)
    assert sd(max_units_per_customer=1) == pytest.approx(2 * alone, rel=0.01)
    assert sd() == pytest.approx(4 * alone, rel=0.01)
    assert sd(trust="secure-aggregation") == pytest.approx(4 * alone, rel=0.01)


def test_a_fitted_model_holds_released_and_public_values_only(
    account: CustomerAccount, rows: NDArray[np.float64]
) -> None:
    found = model(account).fit(rows)
    assert set(vars(found)) == RELEASED | PUBLIC | set(found.get_params())
    assert len(pickle.dumps(found)) < 5000


def test_a_pickled_model_says_the_same_and_fits_nothing(account: CustomerAccount, rows: NDArray[np.float64]) -> None:
    found = model(account).fit(rows)
    again: PrivateKMeans = pickle.loads(pickle.dumps(found))
    assert (again.predict(rows) == found.predict(rows)).all()
    assert again.cluster_sizes_.tolist() == found.cluster_sizes_.tolist()


def test_predict_transform_and_score_agree(account: CustomerAccount, rows: NDArray[np.float64]) -> None:
    found = model(account).fit(rows)
    distances = found.transform(rows)
    assert distances.shape == (3000, 3)
    assert (distances.argmin(axis=1) == found.predict(rows)).all()
    assert found.score(rows) == pytest.approx(-(distances.min(axis=1) ** 2).sum())
    # Distances are those in a box in which every feature's range is 2 wide.
    box = (rows - LOWER) / (np.array(UPPER) - LOWER) * 2
    centers = (found.cluster_centers_ - LOWER) / (np.array(UPPER) - LOWER) * 2
    assert distances == pytest.approx(np.linalg.norm(box[:, None] - centers, axis=2), abs=1e-5)


def test_values_beyond_the_bounds_count_as_the_bound(account: CustomerAccount, rows: NDArray[np.float64]) -> None:
    found = model(account).fit(rows)
    assert (found.transform([[1e300, -1e300]]) == found.transform([[UPPER[0], LOWER[1]]])).all()
    assert (found.cluster_centers_ >= LOWER).all()
    assert (found.cluster_centers_ <= UPPER).all()


def test_names_of_features_come_from_the_table(account: CustomerAccount, rows: NDArray[np.float64]) -> None:
    table = pa.table({"spend": rows[:, 0], "visits": rows[:, 1]})
    found = model(account).fit([table, table.slice(0, 0)])
    assert found.feature_names_in_.tolist() == ["spend", "visits"]
    assert found.get_feature_names_out().tolist() == ["privatekmeans0", "privatekmeans1", "privatekmeans2"]
    with pytest.raises(ValueError, match="feature names"):
        found.predict(table.rename_columns(["visits", "spend"]))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"account": None}, "account is missing"),
        ({"account": 2.0}, "account is missing"),
        ({"lower": None}, "lower and upper are missing: the range of the rows is private"),
        ({"upper": None}, "lower and upper are missing"),
        ({"expected_customers": None}, "expected_customers is missing: the number of rows is private"),
        ({"expected_customers": 0}, "expected_customers must be a whole number from 1"),
        ({"n_clusters": 0}, "n_clusters must be a whole number from 1 to 512"),
        ({"n_clusters": 2.5}, "n_clusters must be a whole number"),
        ({"n_clusters": True}, "n_clusters must be a whole number"),
        ({"epsilon": 0}, "epsilon must lie in"),
        ({"epsilon": math.nan}, "must be numbers"),
        ({"epsilon": "little"}, "must be numbers"),
        ({"epsilon": 1e-4}, "lattice"),
        ({"lower": (0, 0, 0)}, "lower and upper must be one number, or one for each of the 2 features"),
        ({"lower": 200}, "lower must be below upper"),
        ({"upper": math.inf}, "both finite"),
        ({"trust": "nobody"}, "trust must be one of 'unit-noise', 'secure-aggregation'"),
        ({"profile": "long"}, "profile must be one of 'standard', 'short'"),
        ({"n_units": 2}, "n_units is 2, but the rows are of 1"),
        ({"max_units_per_customer": 2}, "max_units_per_customer must be a whole number from 1 to 1"),
        ({"simulated_noise_seed": -1}, "simulated_noise_seed must be a whole number"),
    ],
)
def test_a_missing_or_wrong_parameter_is_refused_and_costs_nothing(
    changed: dict[str, Any], reason: str, account: CustomerAccount, rows: NDArray[np.float64]
) -> None:
    with pytest.raises(ValueError, match=reason):
        model(account, **changed).fit(rows)
    assert account.rho_spent == 0


@pytest.mark.parametrize(
    ("units", "n_units", "reason"),
    [
        (np.zeros(3000), None, "n_units is missing: labels show only those units that have customers"),
        (np.full(3000, 2), 2, "units must hold a whole number from 0 to 1 for each row"),
        (np.full(3000, 0.5), 2, "units must hold"),
        (np.full(3000, -1), 2, "units must hold"),
        (np.zeros(2999), 2, "units must hold"),
    ],
)
def test_wrong_labels_are_refused_and_cost_nothing(
    units: NDArray[Any], n_units: int | None, reason: str, account: CustomerAccount, rows: NDArray[np.float64]
) -> None:
    with pytest.raises(ValueError, match=reason):
        model(account, n_units=n_units).fit(rows, units=units)
    assert account.rho_spent == 0


def test_a_list_of_tables_takes_no_labels(account: CustomerAccount, rows: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="a list of tables says it already"):
        model(account, n_units=2).fit([rows[:9], rows[9:]], units=np.zeros(3000))


def test_rows_that_are_no_finite_numbers_are_refused_and_cost_nothing(
    account: CustomerAccount, rows: NDArray[np.float64]
) -> None:
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="Input X contains"):
            model(account).fit([rows, np.array([[1.0, bad]])])
    with pytest.raises(ValueError, match="2 features"):
        model(account).fit([rows, np.ones((4, 3))])
    assert account.rho_spent == 0


def test_how_many_units_there_are_is_not_read_off_the_rows(account: CustomerAccount, rows: NDArray[np.float64]) -> None:
    labels = np.zeros(3000, int)
    without, with_one = (
        model(account, n_units=2).fit(rows, units=units) for units in (labels, labels + (rows[:, 0] > 60))
    )
    assert without.cluster_size_sd_ == with_one.cluster_size_sd_
