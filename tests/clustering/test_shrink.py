"""What a release says is decoded exactly, believed as far as its noise allows, and never leaves the box."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.kmeans import Cloud
from fedseg.clustering.lattice import Statistic
from fedseg.clustering.model import Model, Prediction, predict
from fedseg.clustering.request import RADIUS_MAX, RoundRequest
from fedseg.clustering.shrink import (
    CLIP_MAX,
    CLIP_MIN,
    VARIANCE_STEP,
    Measured,
    clip_radii,
    measured,
    shrink,
    simplex,
)
from tests.small_run import clumps, exact, rho_for, settings_of, terms_of

FLOATS = st.floats(-(2.0**52), 2.0**52) | st.floats(-100, 100)


@pytest.mark.parametrize("dimensions", [1, 2, 7])
@pytest.mark.parametrize("noises", [1, 9])
def test_a_sum_without_noise_decodes_to_customers_residuals_and_energies(dimensions: int, noises: int) -> None:
    rows = clumps(600, dimensions, 3, seed=1)
    radius = 4 * FEATURE_MAX  # nobody is clipped
    for terms in terms_of(settings_of(3, dimensions, 600, rho=rho_for(1))):
        if terms.lattice.statistic is Statistic.SECOND_MOMENT:
            continue
        request = RoundRequest(terms.step, np.zeros((1, dimensions), np.int32), np.array([radius], np.int32))
        release = measured(exact(rows, request, terms.lattice)[None], terms, noises)
        y = rows / radius
        assert release.counts == pytest.approx([600])
        assert release.steps[0] == pytest.approx(y.sum(axis=0), rel=1e-3, abs=0.1)
        energies = (y**2).sum(axis=0) if terms.lattice.statistic is Statistic.PROFILE else [(y**2).sum()]
        assert release.energies[0] == pytest.approx(energies, rel=0.01, abs=0.1)
        sd = terms.mechanism.sigma * math.sqrt(noises)
        assert release.count_sd == pytest.approx(sd / terms.lattice.count_weight)
        assert release.step_sd == pytest.approx(sd / terms.lattice.unit)
        assert release.energy_sd == pytest.approx(sd / terms.lattice.energy_weight)


def some_round(
    seed: int, noise: float, *, profile: bool = False, cells: int = 6, dimensions: int = 3
) -> tuple[Measured, RoundRequest, Prediction, NDArray[np.float64], NDArray[np.float64]]:
    """A release of 6000 customers with so much noise, its request and prediction; and true counts and means."""
    rows = clumps(6000, dimensions, cells, seed)
    coins = np.random.default_rng(seed)
    centers = rows[coins.choice(len(rows), cells, replace=False)]
    cloud = Cloud(clumps(3000, dimensions, cells, seed), np.full(3000, 1024, np.int64))
    predicted = predict(Model(cloud, np.zeros(3000, np.intp), np.zeros(1)), centers)
    gaps = np.sqrt(((rows[:, None] - centers[None].astype(np.float64)) ** 2).sum(axis=2))
    labels, radius = np.argmin(gaps, axis=1), math.ceil(gaps.min(axis=1).max())  # nobody is clipped
    request = RoundRequest(0, centers, np.full(cells, radius, np.int32))
    y = (rows - centers[labels]) / radius
    squares = y**2 if profile else (y**2).sum(axis=1, keepdims=True)
    counts = np.bincount(labels, minlength=cells).astype(np.float64)
    steps = np.stack([y[labels == cell].sum(axis=0) for cell in range(cells)])
    energies = np.stack([squares[labels == cell].sum(axis=0) for cell in range(cells)])
    release = Measured(
        counts=counts + noise * coins.standard_normal(cells),
        steps=steps + noise * coins.standard_normal(steps.shape),
        energies=energies + noise * coins.standard_normal(energies.shape),
        count_sd=noise,
        step_sd=noise,
        energy_sd=noise,
    )
    return release, request, predicted, counts, centers + radius * steps / counts[:, None]


@pytest.mark.parametrize("profile", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_without_noise_a_release_is_believed_as_it_is(seed: int, profile: bool) -> None:
    release, request, predicted, counts, means = some_round(seed, 1e-9, profile=profile)
    found = shrink(release, request, predicted, 6000.0)
    assert found.customers == pytest.approx(counts)
    assert found.means == pytest.approx(means, abs=1)
    assert found.reliabilities == pytest.approx(np.ones(6))
    assert (found.position_variances < 1).all()


def test_the_more_noise_the_less_is_believed() -> None:
    believed = []
    for noise in (1e-3, 1.0, 30.0, 1000.0):
        reliabilities = []
        for seed in range(20):
            release, request, predicted, _, _ = some_round(seed, noise)
            found = shrink(release, request, predicted, 6000.0)
            reliabilities.append(found.reliabilities.mean())
            raw = request.radii[:, None] * release.steps / np.maximum(release.counts, noise)[:, None]
            assert (np.abs(found.means - request.centers) <= np.abs(raw) + 1e-6).all()
        believed.append(float(np.mean(reliabilities)))
    assert believed == sorted(believed, reverse=True)
    assert believed[0] > 0.999
    assert believed[-1] < 0.5


def test_shrinking_is_nearer_to_the_truth_than_the_release_itself() -> None:
    ours, raw = 0.0, 0.0
    for seed in range(40):
        release, request, predicted, counts, means = some_round(seed, 100, dimensions=8)
        found = shrink(release, request, predicted, 6000.0)
        believed = (
            request.centers
            + request.radii[:, None] * release.steps / np.maximum(release.counts, release.count_sd)[:, None]
        )
        ours += float((counts[:, None] * (found.means - means) ** 2).sum())
        raw += float((counts[:, None] * (believed - means) ** 2).sum())
    assert ours < raw


def test_a_small_total_survives_beside_a_huge_count() -> None:
    assert simplex(np.array([0.0, 0.0, 2.0**47]), 30.015625).sum() == 30.015625


@settings(max_examples=300)
@given(data=st.data(), cells=st.integers(1, 5), dimensions=st.integers(1, 4), profile=st.booleans())
def test_whatever_was_released_an_estimate_adds_up_and_stays_in_the_box(
    data: st.DataObject, cells: int, dimensions: int, profile: bool
) -> None:
    def floats(*shape: int) -> NDArray[np.float64]:
        size = math.prod(shape)
        return np.array(data.draw(st.lists(FLOATS, min_size=size, max_size=size))).reshape(shape)

    count_sd, step_sd, energy_sd = (data.draw(st.floats(1e-3, 1e7)) for _ in range(3))
    customers = data.draw(st.floats(30, 2.0**52))
    points = clumps(50, dimensions, 3, seed=cells)
    request = RoundRequest(
        0,
        points[:cells].copy(),
        np.array(data.draw(st.lists(st.integers(1, RADIUS_MAX), min_size=cells, max_size=cells)), np.int32),
    )
    cloud = Cloud(points, np.full(50, 1024, np.int64))
    predicted = predict(Model(cloud, np.zeros(50, np.intp), np.ones(1)), request.centers)
    release = Measured(
        floats(cells),
        floats(cells, dimensions),
        floats(cells, dimensions if profile else 1),
        count_sd,
        step_sd,
        energy_sd,
    )
    found = shrink(release, request, predicted, customers)
    assert (found.customers >= 0).all()
    assert found.customers.sum() == pytest.approx(customers, rel=1e-6)
    assert (np.abs(found.means) <= FEATURE_MAX).all()
    assert ((found.reliabilities >= 0) & (found.reliabilities <= 1)).all()
    low, high = VARIANCE_STEP
    ratio = found.variances / predicted.energies
    assert ((ratio >= low * 0.999) & (ratio <= high * 1.001)).all()
    assert np.isfinite(found.position_variances).all()
    assert (found.position_variances >= 0).all()


@settings(max_examples=300)
@given(counts=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12).map(np.array), total=st.floats(1, 1e6))
def test_the_simplex_projection_is_the_nearest_point(counts: NDArray[np.float64], total: float) -> None:
    found = simplex(counts, total)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(total)
    # The nearest point of a convex set makes no acute angle with any other point of it; its corners suffice.
    away = counts - found
    corners = total * away - away @ found
    assert corners.max() <= 1e-6 * (1 + np.abs(counts).max()) * total


@pytest.mark.parametrize("counts", [[-5.0, -7.0, -6.0], [0.0, 0.0], [-1e15, -1e15 - 1], [2.0**52, -(2.0**52)]])
def test_negative_counts_are_projected_as_well(counts: list[float]) -> None:
    found = simplex(np.array(counts), 100.0)
    assert found.sum() == pytest.approx(100)
    assert (found >= 0).all()


@given(
    sds=st.lists(st.floats(1e-6, 1e12), min_size=2, max_size=2).map(sorted),
    customers=st.floats(30, 1e12),
    dimensions=st.integers(1, 5),
)
def test_a_clip_radius_lies_between_its_limits_and_shrinks_with_the_noise(
    sds: list[float], customers: float, dimensions: int
) -> None:
    points = clumps(100, dimensions, 3, seed=1)
    predicted = predict(Model(Cloud(points, np.full(100, 9, np.int64)), np.zeros(100, np.intp), np.ones(1)), points[:4])
    little, much = (clip_radii(predicted, customers, sd) for sd in sds)
    assert (little >= much).all()
    spread = np.sqrt(predicted.energies)
    for radii in (little, much):
        assert ((radii >= 1) & (radii <= RADIUS_MAX)).all()
        assert (radii >= np.maximum(1, np.floor(spread * CLIP_MIN))).all()
        assert (radii <= np.maximum(1, np.ceil(spread * CLIP_MAX))).all()
