"""From a file through the gate to integers, with features of every kind: one customer is one row and moves no other."""

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering.categories import BinaryFeature, CategoricalFeature, RegionFeature
from fedseg.clustering.cycles import CyclicFeature
from fedseg.clustering.encode import BoundedFeatures, encode
from fedseg.clustering.features import FEATURE_MAX, Feature, NumericFeature, Transform
from fedseg.clustering.lattice import UNIT_MAX, Lattice, Statistic
from fedseg.clustering.request import RADIUS_MAX, RoundRequest
from fedseg.clustering.statistics import summarize
from fedseg.node.home import NodeHome
from fedseg.node.source import open_source
from fedseg.policy.consent import fold
from fedseg.policy.document import load_policy
from fedseg.policy.gate import admit, decide
from fedseg.policy.purposes import Purpose
from tests.small_federation import CUSTOMERS_FILE, NOW, make_unit, policy_document

FEATURES: tuple[Feature, ...] = (
    NumericFeature("spend", 0, 1_000_000, 0, Transform.LOG1P, missing_flag=True),
    BinaryFeature("senior", missing_flag=True, weight=Fraction(1, 3)),
    CategoricalFeature("color", ("red", "Grün"), missing_flag=True),
    RegionFeature("region", ("01", "80"), characters=2, weight=Fraction(7, 1000)),
    CyclicFeature("hour", 24, missing_flag=True),
)
DIMENSIONS = 2 + 2 + 4 + 3 + 3
NAMES = tuple(feature.name for feature in FEATURES)
HEADER = b"customer," + ",".join(NAMES).encode() + b"\n"
PURPOSE = str(Purpose.SEGMENT_STATISTICS)
CUSTOMERS = ["c0", "c1", "c2", "nobody-consented", ""]

CELLS = st.one_of(
    st.floats(-10, 1_100_000, allow_nan=False).map(lambda value: repr(value).encode()),
    st.sampled_from([b"red", "Grün".encode(), b"01067", b"80", b"yes", b"NO", b"1", b"0", b"23.5", b"-1"]),
    st.sampled_from(
        [b"", b" ", b"nan", b"inf", b"-inf", b"1e9999", b"\xff\xfe", b"\x00", b'"red"', b'"', b"1,1", b"1\r1"]
    ),
    st.sampled_from([b"x" * 140_000, b"x" * 1000, "\u202ered".encode()]),
)
LINES = st.lists(
    st.tuples(st.sampled_from(CUSTOMERS), st.lists(CELLS, min_size=5, max_size=5)).map(
        lambda row: (row[0], b",".join([row[0].encode(), *row[1]]) + b"\n")
    ),
    max_size=8,
)
"""Lines of a file, each with the customer it is about."""

Admitted = Callable[[bytes], BoundedFeatures]


@pytest.fixture(scope="module")
def admitted(tmp_path_factory: pytest.TempPathFactory) -> Admitted:
    """What the lines of a customer file become on the path of a deployed unit."""
    document = policy_document(columns=NAMES)
    path = tmp_path_factory.mktemp("kinds") / "unit"
    unit: NodeHome = make_unit(path, "unit", consenting=["c0", "c1", "c2"], customers=b"", policy=document)
    policy = load_policy(document)
    with unit.register() as register:
        decisions = decide(fold(register.events(PURPOSE), NOW), policy, PURPOSE, NOW)

    def admit_all(lines: bytes) -> BoundedFeatures:
        Path(unit.path / CUSTOMERS_FILE).write_bytes(HEADER + lines)
        table = open_source(unit, [feature.column for feature in FEATURES])
        return encode(admit(table, decisions, policy, PURPOSE), FEATURES)

    return admit_all


def rows_of(features: BoundedFeatures) -> NDArray[np.int32]:
    """One row a customer."""
    return np.concatenate([np.empty((0, DIMENSIONS), np.int32), *features.chunks()])


def file_of(lines: list[tuple[str, bytes]], *, without: str | None = None) -> bytes:
    return b"".join(line for customer, line in lines if customer != without)


def counted(rows: NDArray[np.int32]) -> Counter[tuple[int, ...]]:
    return Counter(map(tuple, rows.tolist()))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lines=LINES, removed=st.sampled_from(CUSTOMERS))
def test_one_customer_more_or_less_is_one_row_more_or_less(
    admitted: Admitted, lines: list[tuple[str, bytes]], removed: str
) -> None:
    everyone = counted(rows_of(admitted(file_of(lines))))
    without = counted(rows_of(admitted(file_of(lines, without=removed))))
    assert not without - everyone
    difference = (everyone - without).total()
    event(f"{difference} rows")
    assert difference <= 1
    assert difference == 0 or removed.startswith("c")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    lines=LINES,
    removed=st.sampled_from(CUSTOMERS),
    statistic=st.sampled_from(Statistic),
    radius=st.integers(1, RADIUS_MAX),
    seed=st.integers(0, 99),
)
def test_one_customer_moves_every_statistic_by_at_most_its_sensitivity(
    *, admitted: Admitted, lines: list[tuple[str, bytes]], removed: str, statistic: Statistic, radius: int, seed: int
) -> None:
    centers = np.random.default_rng(seed).integers(-FEATURE_MAX, FEATURE_MAX, (3, DIMENSIONS), np.int32, endpoint=True)
    request = RoundRequest(0, centers, np.full(3, radius, np.int32))
    lattice = Lattice(statistic, UNIT_MAX, 777_777, 333_333)
    everyone, without = (
        summarize(admitted(file), request, lattice)._values.tolist()
        for file in (file_of(lines), file_of(lines, without=removed))
    )
    moved = sum((one - other) ** 2 for one, other in zip(everyone, without, strict=True))
    event("moved" if moved else "not moved")
    assert moved <= lattice.l2_sensitivity_squared


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lines=LINES, seed=st.integers(0, 99))
def test_neither_order_nor_company_changes_a_row_and_none_leaves_the_box(
    admitted: Admitted, lines: list[tuple[str, bytes]], seed: int
) -> None:
    together = rows_of(admitted(file_of(lines)))
    order = np.random.default_rng(seed).permutation(len(lines))
    assert np.array_equal(rows_of(admitted(file_of([lines[place] for place in order]))), together)
    alone = [rows_of(admitted(file_of([one for one in lines if one[0] == customer]))) for customer in CUSTOMERS]
    assert counted(np.concatenate(alone)) == counted(together)
    assert (np.abs(together.astype(np.int64)) <= FEATURE_MAX).all()


def test_what_a_row_means_stands_in_its_columns(admitted: Admitted) -> None:
    row = rows_of(admitted("c0,,no,Grün,80331,6\n".encode()))[0].tolist()
    third, thousandths = round(262143 / 3), round(370726 * 7 / 1000)
    assert row == [
        *(-FEATURE_MAX, 262143),
        *(-third, -third),
        *(0, 370726, 0, 0),
        *(0, thousandths, 0),
        *(0, 262143, -262143),
    ]
