"""One customer more or less moves a unit's statistic by at most its stated sensitivity, whatever is in the file."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fedseg.clustering.features import FEATURE_MAX, Feature
from fedseg.clustering.lattice import UNIT_MAX, UNIT_MIN, CellLattice
from fedseg.clustering.request import RADIUS_MAX, RoundRequest

Counted = Callable[[bytes, Sequence[Feature], RoundRequest, CellLattice], list[int]]
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


@st.composite
def requests(draw: st.DrawFn) -> RoundRequest:
    cells = draw(st.integers(1, 4))
    centers = draw(st.lists(st.lists(COORDINATES, min_size=3, max_size=3), min_size=cells, max_size=cells))
    radii = draw(
        st.lists(st.integers(1, RADIUS_MAX) | st.sampled_from([1, RADIUS_MAX]), min_size=cells, max_size=cells)
    )
    return RoundRequest(0, np.array(centers, np.int32), np.array(radii, np.int32))


LATTICES = st.builds(
    CellLattice,
    count_weight=st.integers(1, UNIT_MAX) | st.just(UNIT_MAX),
    unit=st.integers(UNIT_MIN, UNIT_MAX) | st.sampled_from([UNIT_MIN, UNIT_MAX]),
)


def moved(one: list[int], other: list[int]) -> int:
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
    lattice: CellLattice,
    removed: str,
) -> None:
    everyone = counted(file_of(lines), features, request_, lattice)
    without_one = counted(file_of(lines, without=removed), features, request_, lattice)
    distance = moved(everyone, without_one)
    event("moved" if distance else "not moved")
    assert distance <= lattice.l2_sensitivity_squared


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=12), request_=requests())
def test_a_customer_with_many_rows_counts_as_one(
    counted: Counted, features: tuple[Feature, ...], rows: list[list[bytes]], request_: RoundRequest
) -> None:
    lattice = CellLattice(count_weight=1000, unit=1000)
    values = counted(HEADER + b"".join(b"c1," + b",".join(row) + b"\n" for row in rows), features, request_, lattice)
    assert sum(values[:: 1 + len(features)]) in {0, lattice.count_weight}
    assert moved(values, [0] * len(values)) <= lattice.l2_sensitivity_squared


def test_of_a_customers_rows_the_smallest_counts_in_whatever_order(
    counted: Counted, features: tuple[Feature, ...]
) -> None:
    request = RoundRequest(0, np.zeros((1, 3), np.int32), np.array([RADIUS_MAX], np.int32))
    lattice = CellLattice(count_weight=64, unit=UNIT_MAX)
    rows = [b"c1,10,20,30\n", b"c1,10,20,29\n", b"c1,nan,0,0\n", b"c1,11,0,0\n"]
    smallest = counted(HEADER + rows[1], features, request, lattice)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]):
        assert counted(HEADER + b"".join(rows[place] for place in order), features, request, lattice) == smallest


@pytest.mark.parametrize(
    "lattice", [CellLattice(1, UNIT_MIN), CellLattice(UNIT_MAX, UNIT_MAX), CellLattice(777, 54321)]
)
def test_the_sensitivity_is_reached(counted: Counted, features: tuple[Feature, ...], lattice: CellLattice) -> None:
    # A customer in a corner of the box, whose residual lies along an axis and is longer than the radius.
    centers = np.array([[0, -FEATURE_MAX, -FEATURE_MAX]], np.int32)
    request = RoundRequest(0, centers, np.array([1], np.int32))
    values = counted(HEADER + b"c1,1e9999,-1,-100\n", features, request, lattice)
    assert moved(values, [0] * len(values)) == lattice.l2_sensitivity_squared


def test_a_row_far_from_any_axis_comes_close_to_the_sensitivity(
    counted: Counted, features: tuple[Feature, ...]
) -> None:
    lattice = CellLattice(count_weight=UNIT_MAX, unit=UNIT_MAX)
    request = RoundRequest(0, np.full((1, 3), -FEATURE_MAX, np.int32), np.array([1000], np.int32))
    values = counted(HEADER + b"c1,inf,inf,inf\n", features, request, lattice)
    assert 0.99999 * lattice.l2_sensitivity_squared < moved(values, [0] * 4) <= lattice.l2_sensitivity_squared


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=300), request_=requests())
def test_no_bytes_in_a_customer_file_stop_the_statistic(
    counted: Counted, features: tuple[Feature, ...], junk: bytes, request_: RoundRequest
) -> None:
    lattice = CellLattice(count_weight=64, unit=64)
    assert (
        len(counted(HEADER + b"c1,1,2,3\n" + junk + b"\nc2,4,5,6\n", features, request_, lattice)) == 4 * request_.cells
    )


def test_nobody_at_all_is_a_statistic_of_zeros(counted: Counted, features: tuple[Feature, ...]) -> None:
    request = RoundRequest(0, np.zeros((2, 3), np.int32), np.ones(2, np.int32))
    lattice = CellLattice(count_weight=64, unit=64)
    for customers in (HEADER, HEADER + b"nobody-consented,1,2,3\n,1,2,3\n"):
        assert counted(customers, features, request, lattice) == [0] * 8
