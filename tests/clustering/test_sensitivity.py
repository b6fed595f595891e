"""One customer more or less moves a unit's statistic by at most its stated sensitivity, whatever is in the file.

That each statistic's bound is also reached shows that the noise is no larger than it has to be.
"""

import fractions
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fedseg.clustering.bins import BINS
from fedseg.clustering.features import DIMENSIONS_MAX, FEATURE_MAX, Feature
from fedseg.clustering.lattice import UNIT_MAX, UNIT_MIN, Lattice, Statistic
from fedseg.clustering.request import RADIUS_MAX, RoundRequest
from fedseg.clustering.schedule import Kind, Profile
from fedseg.clustering.statistics import customer_vectors, summarize, truncated
from tests.small_run import bounded, exact, rho_for, settings_of, terms_of

Counted = Callable[[bytes, Sequence[Feature], RoundRequest, Lattice], list[int]]
Line = tuple[str, bytes]

HEADER = b"customer,visits,spend,days\n"

CUSTOMERS = ["c0", "c1", "c2", "c3", "c4", "c5", "nobody-consented", ""]

ODD_CELLS = [
    b"",
    b"nan",
    b"inf",
    b"-inf",
    b"1e9999",
    b"-1e308",
    b"5e-324",
    b"-0",
    b"text",
    b"\xff\xfe",
    b"\x00",
    b'"1"',
    b'"1""',
    b'"',
    b"1,1",
    b"1\r1",
    b'"1\r1"',
    b"7" * 200_000,
]

CELLS = st.one_of(
    st.floats(-10, 1_100_000, allow_nan=False).map(lambda value: repr(value).encode()),
    st.sampled_from([b"0", b"50", b"100", b"730", b"1000000"]),
    st.sampled_from(ODD_CELLS),
)

LINES: st.SearchStrategy[list[Line]] = st.lists(
    st.tuples(st.sampled_from(CUSTOMERS), st.lists(CELLS, min_size=3, max_size=3)).map(
        lambda row: (row[0], b",".join([row[0].encode(), *row[1]]) + b"\n")
    ),
    max_size=10,
)
"""Lines of a file, each with the customer it is about."""

COORDINATES = st.one_of(st.integers(-FEATURE_MAX, FEATURE_MAX), st.sampled_from([-FEATURE_MAX, 0, FEATURE_MAX]))


def points(dimensions: int, *, fewest: int, most: int) -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.lists(COORDINATES, min_size=dimensions, max_size=dimensions), min_size=fewest, max_size=most)


@st.composite
def requests(draw: st.DrawFn, dimensions: int = 3) -> RoundRequest:
    cells = draw(st.integers(1, 4))
    centers = draw(points(dimensions, fewest=cells, most=cells))
    radii = draw(
        st.lists(st.integers(1, RADIUS_MAX) | st.sampled_from([1, RADIUS_MAX]), min_size=cells, max_size=cells)
    )
    return RoundRequest(0, np.array(centers, np.int32), np.array(radii, np.int32))


WEIGHTS = st.integers(1, UNIT_MAX) | st.sampled_from([1, UNIT_MAX])

LATTICES = st.builds(
    Lattice,
    statistic=st.sampled_from(Statistic),
    unit=st.integers(UNIT_MIN, UNIT_MAX) | st.sampled_from([UNIT_MIN, UNIT_MAX]),
    count_weight=WEIGHTS,
    energy_weight=WEIGHTS,
)

OVER_CELLS = [one for one in Statistic if one is not Statistic.HISTOGRAM]
"""A histogram's bound is reached by every customer; `test_histogram.py` shows how nearly."""

FINEST = [Lattice(statistic, UNIT_MAX, UNIT_MAX, UNIT_MAX) for statistic in OVER_CELLS]
UNLIKE = [Lattice(statistic, 54321, 777, 33333) for statistic in OVER_CELLS]
COARSEST = [Lattice(statistic, UNIT_MIN, 1, 1) for statistic in OVER_CELLS]


def moved(one: Sequence[int], other: Sequence[int]) -> int:
    """Squared L2 distance, in Python's integers."""
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def file_of(lines: list[Line], *, without: str | None = None) -> bytes:
    return HEADER + b"".join(line for customer, line in lines if customer != without)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lines=LINES, request_=requests(), lattice=LATTICES, removed=st.sampled_from(CUSTOMERS))
def test_one_customer_moves_the_statistic_by_at_most_its_sensitivity(
    *,
    counted: Counted,
    features: tuple[Feature, ...],
    lines: list[Line],
    request_: RoundRequest,
    lattice: Lattice,
    removed: str,
) -> None:
    everyone = counted(file_of(lines), features, request_, lattice)
    without_one = counted(file_of(lines, without=removed), features, request_, lattice)
    distance = moved(everyone, without_one)
    event("moved" if distance else "not moved")
    assert distance <= lattice.l2_sensitivity_squared


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=12),
    request_=requests(),
    statistic=st.sampled_from([Statistic.CELLS, Statistic.PROFILE]),
)
def test_a_customer_with_many_rows_counts_as_one(
    *,
    counted: Counted,
    features: tuple[Feature, ...],
    rows: list[list[bytes]],
    request_: RoundRequest,
    statistic: Statistic,
) -> None:
    lattice = Lattice(statistic, 1000, 1000, 1000)
    values = counted(HEADER + b"".join(b"c1," + b",".join(row) + b"\n" for row in rows), features, request_, lattice)
    assert sum(values[:: lattice.width(len(features))]) in {0, lattice.count_weight}
    assert moved(values, [0] * len(values)) <= lattice.l2_sensitivity_squared


def test_of_a_customers_rows_the_smallest_counts_in_whatever_order(
    counted: Counted, features: tuple[Feature, ...]
) -> None:
    request = RoundRequest(0, np.zeros((1, 3), np.int32), np.array([RADIUS_MAX], np.int32))
    lattice = Lattice(Statistic.CELLS, UNIT_MAX, 64, 64)
    rows = [b"c1,10,20,30\n", b"c1,10,20,29\n", b"c1,nan,0,0\n", b"c1,11,0,0\n"]
    smallest = counted(HEADER + rows[1], features, request, lattice)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]):
        assert counted(HEADER + b"".join(rows[place] for place in order), features, request, lattice) == smallest


@pytest.mark.parametrize("lattice", [*FINEST, *UNLIKE, *COARSEST], ids=str)
def test_the_sensitivity_is_reached(counted: Counted, features: tuple[Feature, ...], lattice: Lattice) -> None:
    # A customer in a corner of the box, whose residual lies along an axis and is longer than the radius: each part of
    # its vector is then as long as it may be, and of energies and of products there is one that is not 0.
    centers = np.array([[0, -FEATURE_MAX, -FEATURE_MAX]], np.int32)
    request = RoundRequest(0, centers, np.array([1], np.int32))
    values = counted(HEADER + b"c1,1e9999,-1,-100\n", features, request, lattice)
    assert moved(values, [0] * len(values)) == lattice.l2_sensitivity_squared


@pytest.mark.parametrize("lattice", FINEST, ids=str)
def test_a_row_far_from_any_axis_comes_as_close_to_the_sensitivity_as_its_energies_allow(
    counted: Counted, features: tuple[Feature, ...], lattice: Lattice
) -> None:
    request = RoundRequest(0, np.full((1, 3), -FEATURE_MAX, np.int32), np.array([1000], np.int32))
    values = counted(HEADER + b"c1,inf,inf,inf\n", features, request, lattice)
    # Three equal energies of a third are 1 / sqrt(3) long; the products of the features are as long as ever.
    short = lattice.energy_weight**2 * 2 / 3 if lattice.statistic is Statistic.PROFILE else 0
    reach = lattice.l2_sensitivity_squared - short
    assert 0.99999 * reach < moved(values, [0] * len(values)) <= reach + 1


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("dimensions", [1, 2, 10])
def test_a_customer_in_a_corner_reaches_the_sensitivity_of_every_round_within_a_hundredth(
    profile: Profile, dimensions: int
) -> None:
    chosen = settings_of(4, dimensions, 10**6, rho=rho_for(1), profile=profile)
    corner = np.full((1, dimensions), FEATURE_MAX, np.int32)
    away = np.zeros((1, dimensions), np.int32)
    away[:, 1:] = FEATURE_MAX  # along one axis
    kinds = {one.kind for one in chosen.rounds}
    assert Kind.COVARIANCE not in kinds or dimensions > 1
    for terms in terms_of(chosen):
        centers, half = np.concatenate([away, -corner]), math.isqrt(dimensions * FEATURE_MAX**2) + 1
        first = terms.step == 0
        radius = half if first else FEATURE_MAX // 2
        request = RoundRequest(
            terms.step, np.zeros_like(corner) if first else centers, np.full(2 - first, radius, np.int32)
        )
        length = math.sqrt(moved(exact(corner, request, terms.lattice).tolist(), [0] * request.cells * terms.width))
        assert 0.99 < length / math.sqrt(terms.lattice.l2_sensitivity_squared) <= 1


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=300), request_=requests())
def test_no_bytes_in_a_customer_file_stop_the_statistic(
    counted: Counted, features: tuple[Feature, ...], junk: bytes, request_: RoundRequest
) -> None:
    lattice = Lattice(Statistic.CELLS, 64, 64, 64)
    values = counted(HEADER + b"c1,1,2,3\n" + junk + b"\nc2,4,5,6\n", features, request_, lattice)
    assert len(values) == lattice.width(3) * request_.cells


@pytest.mark.parametrize("lattice", UNLIKE, ids=str)
def test_nobody_at_all_is_a_statistic_of_zeros(
    counted: Counted, features: tuple[Feature, ...], lattice: Lattice
) -> None:
    request = RoundRequest(0, np.zeros((2, 3), np.int32), np.ones(2, np.int32))
    for customers in (HEADER, HEADER + b"nobody-consented,1,2,3\n,1,2,3\n"):
        assert counted(customers, features, request, lattice) == [0] * 2 * lattice.width(3)


@st.composite
def customers_and_requests(draw: st.DrawFn) -> tuple[list[list[int]], RoundRequest]:
    dimensions = draw(st.integers(1, 5))
    return draw(points(dimensions, fewest=1, most=6)), draw(requests(dimensions))


@settings(max_examples=300)
@given(made=customers_and_requests(), lattice=LATTICES)
def test_each_customers_vector_is_the_one_of_the_definition(
    made: tuple[list[list[int]], RoundRequest], lattice: Lattice
) -> None:
    rows, request = made
    labels, vectors = customer_vectors(np.array(rows, np.int32), request, lattice)
    for row, label, vector in zip(rows, labels.tolist(), vectors.tolist(), strict=True):
        assert (label, vector) == defined(row, request, lattice)
        assert moved(vector, [0] * len(vector)) <= lattice.l2_sensitivity_squared


@pytest.mark.parametrize("radius", [1, 2**19, 2**25])
@pytest.mark.parametrize(
    ("statistic", "dimensions"),
    [
        (Statistic.CELLS, 1024),
        (Statistic.CELLS, DIMENSIONS_MAX),
        (Statistic.PROFILE, 1024),
        (Statistic.PROFILE, DIMENSIONS_MAX),
        (Statistic.SECOND_MOMENT, 180),
        (Statistic.HISTOGRAM, 375),
    ],
)
def test_nothing_wraps_around_in_the_farthest_corners_of_the_widest_box(
    statistic: Statistic, dimensions: int, radius: int
) -> None:
    lattice = Lattice(statistic, UNIT_MAX, UNIT_MAX, UNIT_MAX)
    signs = np.where(np.random.default_rng(dimensions).random((3, dimensions)) < 0.5, 1, -1)
    rows = np.concatenate([signs, np.ones((1, dimensions)), -np.eye(1, dimensions)]).astype(np.int32) * FEATURE_MAX
    request = RoundRequest(0, -rows[:1], np.array([radius], np.int32))
    labels, vectors = customer_vectors(rows, request, lattice)
    for row, label, vector in zip(rows.tolist(), labels.tolist(), vectors.tolist(), strict=True):
        assert (label, vector) == defined(row, request, lattice)
        assert moved(vector, [0] * len(vector)) <= lattice.l2_sensitivity_squared
    total = exact(rows, request, lattice)
    assert total.tolist() == [sum(column) for column in zip(*vectors.tolist(), strict=True)]


def defined(row: list[int], request: RoundRequest, lattice: Lattice) -> tuple[int, list[int]]:
    """Cell and vector of a customer by the words of the docstrings, in Python's integers."""
    gaps = [[x - c for x, c in zip(row, center, strict=True)] for center in request.centers.tolist()]
    squares = [sum(gap**2 for gap in cell) for cell in gaps]
    label = squares.index(min(squares))
    length = math.isqrt(max(0, squares[label] - 1)) + (squares[label] > 0)
    divisor = max(int(request.radii[label]), length)
    y = [shortened(gap * lattice.unit, divisor) for gap in gaps[label]]
    a, b = lattice.count_weight, lattice.energy_weight
    if lattice.statistic is Statistic.CELLS:
        return label, [a, *y, b * sum(one**2 for one in y) // lattice.unit**2]
    if lattice.statistic is Statistic.PROFILE:
        return label, [a, *y, *(b * one**2 // lattice.unit**2 for one in y)]
    if lattice.statistic is Statistic.HISTOGRAM:
        part = fractions.Fraction(2 * FEATURE_MAX, BINS)  # a bin's width
        weight = min(a, math.isqrt(lattice.unit**2 // len(row)))
        places = [min(BINS - 1, math.floor((x + FEATURE_MAX) / part)) for x in row]
        return label, [weight * (place == bin_) for place in places for bin_ in range(BINS)]
    cross = math.isqrt(2 * b**2)
    products = [
        shortened((b if i == j else cross) * y[i] * y[j], lattice.unit**2)
        for i in range(len(y))
        for j in range(i, len(y))
    ]
    return label, [*(shortened(a * one, lattice.unit) for one in y), *products]


def shortened(value: int, divisor: int) -> int:
    return abs(value) // divisor * (1 if value >= 0 else -1)


@given(values=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20), divisor=st.integers(1, 2**41))
def test_truncation_never_lengthens(values: list[int], divisor: int) -> None:
    found = truncated(np.array(values, np.int64), divisor).tolist()
    for value, quotient in zip(values, found, strict=True):
        assert abs(quotient) * divisor <= abs(value) < (abs(quotient) + 1) * divisor
        assert quotient * value >= 0


@pytest.mark.parametrize("statistic", Statistic)
def test_how_customers_are_spread_over_units_makes_no_difference_to_the_sum(statistic: Statistic) -> None:
    coins = np.random.default_rng(3)
    rows = coins.integers(-FEATURE_MAX, FEATURE_MAX, (200, 4), np.int32, endpoint=True)
    request = RoundRequest(0, rows[:5].copy(), np.full(5, 200_000, np.int32))
    lattice = Lattice(statistic, 300_000, 200_000, 100_000)
    together = exact(rows, request, lattice)
    units = coins.integers(7, size=len(rows))
    assert np.array_equal(sum(exact(rows[units == unit], request, lattice) for unit in range(8)), together)
    assert summarize(bounded(rows), request, lattice).l2_sensitivity_squared == lattice.l2_sensitivity_squared
