"""The server's cloud predicts what it holds, and after a round holds what came back: weights, means, spreads."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.kmeans import WEIGHT_MAX, Cloud
from fedseg.clustering.model import (
    PARTICLE_WEIGHT,
    PSEUDO_PARTICLES,
    SCALE_SQUARED_MAX,
    SCALE_SQUARED_MIN,
    Estimate,
    Model,
    Prediction,
    condition,
    gaussian_model,
    predict,
)
from fedseg.clustering.nearest import nearest_center
from tests.small_run import clumps


def model_of(points: NDArray[np.int32], weights: NDArray[np.int64] | None = None, origins: int = 1) -> Model:
    weights = np.full(len(points), PARTICLE_WEIGHT, np.int64) if weights is None else weights
    return Model(Cloud(points, weights), np.arange(len(points)) % origins, np.arange(1.0, origins + 1))


def some_model(seed: int, dimensions: int = 3) -> Model:
    coins = np.random.default_rng(seed)
    points = clumps(400, dimensions, 4, seed)
    return model_of(points, coins.integers(200, 2000, 400), origins=5)


def some_centers(seed: int, cells: int, dimensions: int = 3) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(-FEATURE_MAX, FEATURE_MAX, (cells, dimensions), np.int32)


def as_predicted(predicted: Prediction, centers: NDArray[np.int32]) -> Estimate:
    """A round that says of a thousand customers exactly what was expected."""
    return Estimate(
        customers=predicted.shares * 1000,
        means=predicted.means,
        variances=predicted.energies - ((predicted.means - centers) ** 2).sum(axis=1),
        position_variances=predicted.position_variances,
        reliabilities=np.ones(len(predicted.shares)),
    )


def test_a_gaussian_cloud_has_its_mean_and_covariance_and_stays_in_the_box() -> None:
    root = np.array([[60_000.0, 20_000.0], [20_000.0, 30_000.0]])
    mean = np.array([100_000.0, -50_000.0])
    cloud = gaussian_model(mean, root, 50_000, np.random.default_rng(1)).cloud
    assert (cloud.weights == PARTICLE_WEIGHT).all()
    assert cloud.points.mean(axis=0) == pytest.approx(mean, abs=1500)
    assert np.cov(cloud.points.T) == pytest.approx(root @ root.T, rel=0.05)
    wide = gaussian_model(mean, root * 100, 1000, np.random.default_rng(1)).cloud
    assert np.abs(wide.points).max() == FEATURE_MAX


@settings(max_examples=60)
@given(seed=st.integers(0, 999), cells=st.integers(1, 12))
def test_what_is_predicted_of_each_cell_is_what_its_particles_hold(seed: int, cells: int) -> None:
    model, centers = some_model(seed), some_centers(seed + 1, cells)
    predicted = predict(model, centers)
    points, weights = model.cloud.points.astype(np.float64), model.cloud.weights.astype(np.float64)
    labels = nearest_center(model.cloud.points, centers)
    squares = ((points - centers[labels]) ** 2).sum(axis=1)
    everywhere, total = float((weights * squares).sum() / weights.sum()), weights.sum()
    assert np.array_equal(predicted.labels, labels)
    assert predicted.shares.sum() == pytest.approx(1)
    for cell in range(cells):
        inside = labels == cell
        size, pseudo = weights[inside].sum(), PSEUDO_PARTICLES * total / len(weights)
        energy = ((weights * squares)[inside].sum() + pseudo * everywhere) / (size + pseudo)
        assert predicted.shares[cell] == pytest.approx(size / total)
        assert predicted.energies[cell] == pytest.approx(energy)
        if not inside.any():
            assert np.array_equal(predicted.means[cell], centers[cell])
            assert predicted.position_variances[cell] == 0
            continue
        assert predicted.means[cell] == pytest.approx(np.average(points[inside], axis=0, weights=weights[inside]))
        parts = np.bincount(model.cell[inside], weights[inside], 5) / size
        assert predicted.position_variances[cell] == pytest.approx((parts**2 * model.position_variances).sum())


def test_a_cloud_in_one_point_predicts_a_positive_energy_all_the_same() -> None:
    point = np.full((100, 2), 1234, np.int32)
    predicted = predict(model_of(point), point[:3])
    assert predicted.shares.tolist() == [1, 0, 0]
    assert (predicted.energies >= 1).all()


@settings(max_examples=60)
@given(seed=st.integers(0, 999), cells=st.integers(1, 12))
def test_a_round_that_says_what_was_expected_moves_no_particle(seed: int, cells: int) -> None:
    model, centers = some_model(seed), some_centers(seed + 1, cells)
    before = predict(model, centers)
    expected = as_predicted(before, centers)
    after = condition(model, centers, before, expected)
    # In a cell of a few particles far from its reference point the smoothed energy leaves no spread around their mean.
    spread = (expected.variances > 1)[before.labels]
    assert after.cloud.points[spread].tolist() == model.cloud.points[spread].tolist()
    assert after.cloud.weights / after.cloud.weights.mean() == pytest.approx(
        model.cloud.weights / model.cloud.weights.mean(), rel=0.01
    )


@settings(max_examples=100)
@given(seed=st.integers(0, 999), cells=st.integers(1, 8), shift=st.integers(-20_000, 20_000))
def test_after_a_round_each_cell_has_the_weight_and_mean_that_were_found(seed: int, cells: int, shift: int) -> None:
    model, centers = some_model(seed), some_centers(seed + 1, cells)
    before = predict(model, centers)
    coins = np.random.default_rng(seed)
    customers = coins.uniform(0.5, 1.5, cells) * before.shares * 5000
    expected = as_predicted(before, centers)
    found = replace(expected, customers=customers, means=before.means + shift, variances=expected.variances / 10)
    after = condition(model, centers, before, found)
    shares, means = held(after, cells)
    assert shares == pytest.approx(customers / customers.sum(), abs=2e-3)
    inside = (shares > 0.02) & (np.abs(found.means).max(axis=1) < FEATURE_MAX * 0.8)  # none clamped to the box
    assert means[inside] == pytest.approx(found.means[inside], abs=FEATURE_MAX / 200)
    assert np.array_equal(after.position_variances, found.position_variances)
    assert (np.abs(after.cloud.points) <= FEATURE_MAX).all()


@pytest.mark.parametrize("factor", [0.0, 0.01, 0.25, 1.0, 2.0, 100.0])
def test_a_cell_is_drawn_together_or_apart_to_the_spread_that_was_found_within_limits(factor: float) -> None:
    points = clumps(4000, 2, 1, seed=3)
    model, centers = model_of(points), np.rint(points.mean(axis=0)).astype(np.int32)[None]
    before = predict(model, centers)
    after = condition(
        model, centers, before, replace(as_predicted(before, centers), variances=before.energies * factor)
    )
    grown = after.cloud.points.var(axis=0).sum() / points.var(axis=0).sum()
    assert grown == pytest.approx(min(max(factor, SCALE_SQUARED_MIN), SCALE_SQUARED_MAX), rel=0.01)


def test_particles_of_empty_cells_go_and_the_others_keep_their_place_in_a_cell() -> None:
    model, centers = model_of(clumps(500, 2, 2, seed=8)), some_centers(8, 6, 2)
    before = predict(model, centers)
    gone = int(np.argmax(before.shares))
    customers = before.shares * 1000
    customers[gone] = 0
    after = condition(model, centers, before, replace(as_predicted(before, centers), customers=customers))
    assert gone not in after.cell
    assert len(after.cloud.points) == (before.labels != gone).sum()
    assert np.array_equal(after.cell, before.labels[before.labels != gone])


def test_a_round_that_was_all_noise_leaves_the_cloud_as_it_was() -> None:
    model, centers = some_model(1), some_centers(2, 6)
    before = predict(model, centers)
    for customers in (np.zeros(6), np.where(before.shares > 0, 0.0, 1000.0)):
        after = condition(model, centers, before, replace(as_predicted(before, centers), customers=customers))
        assert after.cloud is model.cloud
        assert np.array_equal(after.cell, before.labels)
        assert np.array_equal(after.position_variances, before.position_variances)


HUGE = st.just(0.0) | st.floats(1e-3, 2.0**60)


@settings(max_examples=200)
@given(
    customers=st.lists(HUGE, min_size=3, max_size=3),
    means=st.lists(st.floats(-FEATURE_MAX, FEATURE_MAX), min_size=9, max_size=9),
    variances=st.lists(HUGE, min_size=3, max_size=3),
)
def test_whatever_was_found_the_cloud_stays_in_the_box_with_exact_weights(
    customers: list[float], means: list[float], variances: list[float]
) -> None:
    model, centers = some_model(4), some_centers(5, 3)
    before = predict(model, centers)
    found = Estimate(np.array(customers), np.array(means).reshape(3, 3), np.array(variances), np.ones(3), np.ones(3))
    after = condition(model, centers, before, found)
    assert (np.abs(after.cloud.points) <= FEATURE_MAX).all()
    assert ((after.cloud.weights >= 1) & (after.cloud.weights <= WEIGHT_MAX)).all()
    assert len(after.cell) == len(after.cloud.points)


def held(model: Model, cells: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Part of the weight, and mean, of the particles that are in each cell of the last round."""
    weights = model.cloud.weights.astype(np.float64)
    sizes = np.bincount(model.cell, weights, cells)
    columns = [np.bincount(model.cell, weights * column, cells) for column in model.cloud.points.T]
    return sizes / sizes.sum(), np.stack(columns, axis=1) / np.maximum(sizes, 1)[:, None]
