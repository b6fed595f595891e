"""Sums of a unit's customers in parts are the sums of all, integer by integer, however the customers are parted."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering.encode import encode
from fedseg.clustering.features import FEATURE_MAX, Feature
from fedseg.clustering.lattice import Lattice, Statistic
from fedseg.clustering.partial import partial_sums, whole_of
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.statistics import summarize
from fedseg.columns import numbers
from fedseg.node.home import NodeHome
from fedseg.node.source import subject_key
from fedseg.policy.document import Policy
from fedseg.policy.gate import ConsentedTable, Decisions, admit
from fedseg.privacy.sensitive import sum_of_parts
from fedseg.table import table_of, table_schema

PURPOSE = "fedseg:SegmentStatistics"
COLUMNS = numbers("visits", "spend", "days")
VALUES = st.floats(-10, 1000) | st.just(float("nan"))
Rows = Sequence[tuple[int, tuple[float, ...]]]
"""Customers by number, each with its values; one may have several rows."""
ROWS = st.lists(st.tuples(st.integers(0, 5), st.tuples(VALUES, VALUES, VALUES)), max_size=20)

CENTERS = np.array([[0, 0, 0], [FEATURE_MAX, 0, -FEATURE_MAX], [-FEATURE_MAX, 1, 1]], np.int32)
REQUEST = RoundRequest(0, CENTERS, np.array([1, 2**19, 2**25], np.int32))


@pytest.fixture(scope="session")
def consented(unit: NodeHome, policy: Policy, decisions: Decisions) -> Callable[[Rows], ConsentedTable]:
    def admitted(rows: Rows) -> ConsentedTable:
        keys = [subject_key(f"c{customer}".encode(), unit.subject_secret) for customer, _ in rows]
        columns = [pa.array([values[place] for _, values in rows], pa.float64()) for place in range(3)]
        batch = pa.RecordBatch.from_arrays([pa.array(keys, pa.binary(16)), *columns], schema=table_schema(COLUMNS))
        return admit(table_of([batch], COLUMNS), decisions, policy, PURPOSE)

    return admitted


@pytest.mark.parametrize("statistic", Statistic)
@settings(deadline=None, max_examples=30)
@given(rows=ROWS, groups=st.integers(1, 4))
def test_parts_add_up_to_the_whole(
    consented: Callable[[Rows], ConsentedTable],
    features: tuple[Feature, ...],
    statistic: Statistic,
    rows: Rows,
    groups: int,
) -> None:
    lattice = Lattice(statistic, 2**20, 1000, 3000)
    parted = [[row for row in rows if row[0] % groups == group] for group in range(groups)]
    parts = [partial_sums(consented(part), features, REQUEST, lattice) for part in parted]
    whole = summarize(encode(consented(rows), features), REQUEST, lattice)
    for order in (parts, parts[::-1]):
        summed = whole_of(order, 3, REQUEST, lattice)
        assert summed._values.tolist() == whole._values.tolist()
        assert summed.l2_sensitivity_squared == whole.l2_sensitivity_squared == lattice.l2_sensitivity_squared


@pytest.mark.parametrize(
    "part", [np.zeros(6, np.float64), np.zeros(6, np.int32), np.zeros(5, np.int64), np.zeros((3, 2), np.int64)]
)
def test_what_is_no_part_of_the_request_is_refused(part: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="the int64 sums of every cell"):
        sum_of_parts([part], cells=3, width=2, l2_sensitivity_squared=5)
