"""The data of the accuracy benchmark: repeatable, inside the public box, and split over units as unlike as can be."""

import numpy as np
import pytest

from benchmarks.accuracy.data_sets import DATA, DATA_SETS
from benchmarks.accuracy.families import FAMILIES, SHAPES, Shape
from benchmarks.accuracy.reference import reference, unit_box, unlike_units
from fedseg.clustering.features import FEATURE_MAX

REAL = {"retail": (4338, 3, 8), "telco": (7043, 40, 6), "bank": (45211, 33, 8), "digits": (1797, 64, 10)}


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.name for shape in SHAPES])
def test_a_made_up_shape_follows_from_its_seed_and_stays_in_the_box(shape: Shape) -> None:
    drawn = DATA_SETS[shape.name].draw(300)
    assert drawn.dtype == np.int32
    assert drawn.shape == (shape.n, shape.d)
    assert np.abs(drawn).max() <= FEATURE_MAX
    assert (drawn == shape.draw(300)).all()
    assert (drawn != shape.draw(301)).any()


def test_the_thirteen_shapes_have_names_of_their_own_and_use_every_family() -> None:
    assert len({shape.name for shape in SHAPES}) == 13
    assert {shape.family for shape in SHAPES} == set(FAMILIES)


def test_loose_bounds_leave_most_of_the_box_empty() -> None:
    rows = unit_box(DATA_SETS["loose-5k-d10-k8"].draw(300))
    assert np.ptp(rows, axis=0).max() <= 0.4 + 1e-5


@pytest.mark.parametrize("name", REAL)
def test_a_real_table_is_whole_and_encoded_by_public_terms(name: str) -> None:
    points = DATA_SETS[name].draw(0)
    assert (*points.shape, DATA_SETS[name].k) == REAL[name]
    assert np.abs(points).max() <= FEATURE_MAX
    assert (np.ptp(points, axis=0) > 0).sum() >= 0.9 * points.shape[1]  # a misspelt value would leave a constant column


@pytest.mark.parametrize("name", ["telco", "bank"])
def test_every_value_of_a_choice_is_in_its_vocabulary(name: str) -> None:
    points, ends = DATA_SETS[name].draw(0), {-FEATURE_MAX, FEATURE_MAX}
    choices = [column for column in points.T if set(np.unique(column).tolist()) <= ends]
    marked = sum((column == FEATURE_MAX).astype(int) for column in choices[6 if name == "telco" else 0 :])
    # One mark for every choice of more than two, and those of two come on top.
    assert int(np.min(marked)) >= {"telco": 10, "bank": 5}[name]


def test_every_data_file_has_its_licence_stated() -> None:
    notes = (DATA / "LICENSE-DATA.md").read_text("utf-8")
    assert all(f"`{path.name}`" in notes for path in DATA.glob("*.gz"))


@pytest.mark.parametrize("units", [5, 20])
def test_units_are_equally_large_and_hold_different_clusters(units: int) -> None:
    points = DATA_SETS["loose-5k-d10-k8"].draw(300)
    labels = reference(points, 8).labels
    places = unlike_units(points, labels, units)
    sizes = np.bincount(places, minlength=units)
    assert sizes.max() - sizes.min() <= 1
    assert all(len(np.unique(labels[places == unit])) <= 8 // min(units, 8) + 2 for unit in range(units))


def test_a_reference_is_the_same_when_it_is_read_back() -> None:
    points = DATA_SETS["digits"].draw(0)
    first, kept = reference(points, 10), reference(points, 10)
    assert first.cost == kept.cost
    assert (first.labels == kept.labels).all()
