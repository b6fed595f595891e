"""Only what passed the gate is encoded, one row a customer, and it stays where it is."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest

from fedseg.clustering.encode import BoundedFeatures, encode
from fedseg.clustering.features import Feature
from fedseg.clustering.lattice import Lattice, Statistic
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.statistics import summarize
from fedseg.columns import numbers
from fedseg.node.home import NodeHome
from fedseg.node.source import subject_key
from fedseg.policy.document import Policy
from fedseg.policy.gate import ConsentedTable, Decisions, admit
from fedseg.table import Table, table_schema

PURPOSE = "fedseg:SegmentStatistics"
COLUMNS = numbers("visits", "spend", "days")


@pytest.fixture
def consented(unit: NodeHome, policy: Policy, decisions: Decisions) -> "ConsentedBatches":
    return ConsentedBatches(unit, policy, decisions)


class ConsentedBatches:
    """Makes consented tables of batches of (customer, values)."""

    def __init__(self, unit: NodeHome, policy: Policy, decisions: Decisions) -> None:
        self.unit, self.policy, self.decisions = unit, policy, decisions

    def __call__(self, *batches: Sequence[tuple[str | None, Sequence[float | None]]]) -> ConsentedTable:
        def stream() -> Iterator[pa.RecordBatch]:
            for batch in batches:
                keys = [None if name is None else self._key(name) for name, _ in batch]
                columns = [pa.array([values[place] for _, values in batch], pa.float64()) for place in range(3)]
                yield pa.RecordBatch.from_arrays(
                    [pa.array(keys, pa.binary(16)), *columns], schema=table_schema(COLUMNS)
                )

        return admit(Table(COLUMNS, stream), self.decisions, self.policy, PURPOSE)

    def _key(self, name: str) -> bytes:
        return subject_key(name.encode(), self.unit.subject_secret)


def rows_of(features: BoundedFeatures) -> list[list[int]]:
    return [row for chunk in features.chunks() for row in chunk.tolist()]


def test_a_customer_is_one_row_and_who_may_not_be_counted_none(
    consented: ConsentedBatches, features: tuple[Feature, ...]
) -> None:
    table = consented([("c1", [1, 1, 1]), ("c9", [1, 1, 1])], [(None, [1, 1, 1]), ("c2", [2, 2, 2]), ("c1", [0, 9, 9])])
    assert len(rows_of(encode(table, features))) == 2


def test_how_rows_are_batched_makes_no_difference(consented: ConsentedBatches, features: tuple[Feature, ...]) -> None:
    rows: list[tuple[str | None, list[float | None]]] = [
        ("c1", [1.0, None, 3.0]),
        ("c2", [np.inf, -np.inf, np.nan]),
        ("c1", [1.0, 5.0, 3.0]),
        (None, [0.0, 0.0, 0.0]),
        ("c3", [7.0, 8.0, 9.0]),
    ]
    together = rows_of(encode(consented(rows), features))
    assert rows_of(encode(consented(*([row] for row in rows)), features)) == together
    assert rows_of(encode(consented(rows[3:], [], rows[:3]), features)) == together


def test_batches_that_start_within_a_larger_one_keep_their_keys(
    consented: ConsentedBatches, features: tuple[Feature, ...]
) -> None:
    rows = [(f"c{number}", [number, 0, 0]) for number in range(6)]
    whole = next(consented(rows)._table.batches())
    sliced = Table(COLUMNS, lambda: iter([whole.slice(0, 2), whole.slice(2, 3), whole.slice(5)]))
    again = admit(sliced, consented.decisions, consented.policy, PURPOSE)
    assert rows_of(encode(again, features)) == rows_of(encode(consented(rows), features))


def test_nobody_is_encoded_as_no_rows(consented: ConsentedBatches, features: tuple[Feature, ...]) -> None:
    for table in (consented(), consented([]), consented([("c9", [1, 2, 3])])):
        encoded = encode(table, features)
        assert list(encoded.chunks()) == []
        assert encoded.dimensions == 3


def test_chunks_are_the_rows_in_order(consented: ConsentedBatches, features: tuple[Feature, ...]) -> None:
    encoded = encode(consented([(f"c{number}", [number, 0, 0]) for number in range(6)]), features)
    for size in (1, 4, 6, 100):
        chunks = list(encoded.chunks(size))
        assert max(len(chunk) for chunk in chunks) == min(size, 6)
        assert np.concatenate(chunks).tolist() == rows_of(encoded)


def test_columns_other_than_the_plans_are_refused(consented: ConsentedBatches, features: tuple[Feature, ...]) -> None:
    with pytest.raises(ValueError, match="the plan wants"):
        encode(consented(), features[:2])


def test_a_request_of_another_width_is_refused(consented: ConsentedBatches, features: tuple[Feature, ...]) -> None:
    request = RoundRequest(0, np.zeros((1, 2), np.int32), np.ones(1, np.int32))
    with pytest.raises(ValueError, match="another number of features"):
        summarize(encode(consented(), features), request, Lattice(Statistic.CELLS, 64, 64, 64))


def test_encoded_customers_show_no_value_and_cannot_be_written_to(
    consented: ConsentedBatches, features: tuple[Feature, ...]
) -> None:
    encoded = encode(consented([("c1", [1, 2, 3])]), features)
    assert repr(encoded) == "BoundedFeatures(dimensions=3)"
    with pytest.raises(ValueError, match="read-only"):
        next(encoded.chunks())[0, 0] = 1
