"""What runs in Spark's tasks: this package's own code, on the batches of one partition. Arrow in, Arrow out.

Spark does no arithmetic: it stores, moves and retries. Rows become features and sums by the code that other sources
use, so the results have the same bits. Answers travel as bytes of Arrow's own format, with no type of Spark's between.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import fedseg
from fedseg.clustering.features import Feature
from fedseg.clustering.lattice import Lattice
from fedseg.clustering.partial import partial_sums
from fedseg.clustering.request import RoundRequest
from fedseg.errors import FedsegError
from fedseg.node.source import subject_key
from fedseg.node.sources.cells import identifiers_of, table_batch
from fedseg.node.sources.rows import Rows
from fedseg.node.sources.settings import ViewSettings
from fedseg.node.sources.spark_parts import CODE, KEY, PART, parts_of, placeholders
from fedseg.policy.document import load_policy
from fedseg.policy.gate import Decisions, admit
from fedseg.table import SUBJECT_TYPE, table_of

PACKED: Final = "batch BINARY, without_key BIGINT"
"""What most tasks answer: a batch in Arrow's format for streams, and how many rows without a customer were counted."""
SUMMED: Final = "part INT, sums BINARY"
"""What a task answers that adds up: which part of the customers, and its sums as 64-bit integers, low byte first."""

_CUSTOMER: Final = ""
"""What the pseudonyms' column is called beside the source's own, of which none can be called so."""

Batches = Iterator[pa.RecordBatch]
Task = Callable[[Batches], Batches]


def alike(batches: Batches, *, task: Task, version: str) -> Batches:
    """What the task answers, if this is the version of fedseg that asks."""
    if fedseg.__version__ != version:
        raise RuntimeError(f"this Python has fedseg {fedseg.__version__}, and the node {version}")
    try:
        yield from task(batches)
    except FedsegError as error:  # what caused it may repeat a row, and Spark would write it into its log
        raise RuntimeError(f"{error.code}: {error.what}") from None


def handed_over(batches: Batches) -> Batches:
    """The rows as they are."""
    return (_packed(batch) for batch in batches)


def features(batches: Batches, *, subject: str, view: ViewSettings, wanted: Sequence[str]) -> Batches:
    """One row a customer out of events, if all events of each of these customers are here."""
    from fedseg.node.sources.view import FeatureView  # noqa: PLC0415 (an extra)

    customers = FeatureView(_HandedOver(batches), subject, view)
    yield from map(_packed, customers.read(wanted))
    yield _packed(pa.record_batch({}), customers.without_key)


def unreadable(batches: Batches, *, subject: str, view: ViewSettings) -> Batches:
    """The view's columns in which some cell of these events cannot be read."""
    from fedseg.node.sources.view import FeatureView  # noqa: PLC0415 (an extra)

    names = FeatureView(_HandedOver(batches), subject, view).unreadable()
    yield _packed(pa.record_batch([pa.array(names, pa.string())], ["column"]))


def keyed(batches: Batches, *, secret: bytes, parts: int) -> Batches:
    """The rows that name a customer in their first column: the customer's part and pseudonym, and the other columns."""
    for batch in batches:
        identifiers = identifiers_of(batch.column(0))
        named = batch.filter(pa.array([one is not None for one in identifiers], pa.bool_()))
        keys = pa.array([subject_key(one, secret) for one in identifiers if one is not None], SUBJECT_TYPE)
        lines = [pa.array(parts_of(keys, parts)), keys.cast(pa.binary()), pa.nulls(len(keys), pa.int16())]
        yield pa.RecordBatch.from_arrays(
            [*lines, *named.columns[1:]], names=[PART, KEY, CODE, *placeholders(named.columns[1:])]
        )


@dataclass(frozen=True, slots=True)
class Count:
    """What a task has to know to add customers up."""

    columns: Sequence[str]
    """Those of the source that were kept."""
    view: ViewSettings | None
    names: Mapping[str, str]
    """The column, of the source or of its view, by the name of the feature."""
    features: Sequence[Feature]
    policy: bytes
    """The document."""
    policy_digest: str
    """Of the policy that was decided under."""
    purpose: str
    decided_at: datetime
    request: RoundRequest
    lattice: Lattice


def sums(batches: Batches, *, count: Count) -> Batches:
    """The sums over the customers of one part, un-noised: for `spark_sums` alone.

    The gate, the encoder and the bound on each customer are those of every other source.
    """
    part = _Part(batches, count.columns)
    raw = list(_customers(part, count))  # number and decisions are known once everything was read
    number, policy, columns = part.number(), load_policy(count.policy), tuple(one.column for one in count.features)
    table = table_of([table_batch(_keys(one), one, count.names, columns) for one in raw], columns)
    consented = admit(table, part.decisions(count), policy, count.purpose)
    found = partial_sums(consented, count.features, count.request, count.lattice)
    yield pa.record_batch(
        {"part": pa.array([number], pa.int32()), "sums": pa.array([found.astype("<i8").tobytes()], pa.binary())}
    )


def _customers(part: "_Part", count: Count) -> Batches:
    if count.view is None:
        return part.read()
    wanted = list(dict.fromkeys(count.names[one.name] for one in count.features))
    from fedseg.node.sources.view import FeatureView  # noqa: PLC0415 (an extra)

    return FeatureView(part, _CUSTOMER, in_one_pass(count.view)).read(wanted)


def in_one_pass(view: ViewSettings) -> ViewSettings:
    """The view over the customers of one task: its events come once."""
    return view.model_copy(update={"passes": None})


def _keys(batch: pa.RecordBatch) -> pa.Array:
    return pa.array(batch.column(_CUSTOMER).to_pylist(), SUBJECT_TYPE)


def _packed(batch: pa.RecordBatch, without_key: int = 0) -> pa.RecordBatch:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return pa.record_batch(
        {"batch": pa.array([sink.getvalue().to_pybytes()]), "without_key": pa.array([without_key], pa.int64())}
    )


class _HandedOver(Rows):
    """The rows of one partition, which can be read once."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    @property
    def place(self) -> str:
        return "a task of Spark"

    def schemas(self) -> Iterator[pa.Schema]:
        raise NotImplementedError

    def read(self, wanted: Sequence[str] | None = None) -> Batches:
        return self.batches if wanted is None else (batch.select(wanted) for batch in self.batches)


class _Part(_HandedOver):
    """The rows of one part of the customers. Between them come the decisions about these, and the part's number."""

    def __init__(self, batches: Batches, columns: Sequence[str]) -> None:
        super().__init__(self._rows(batches, columns))
        self.numbers: set[int] = set()
        self._decided: list[pa.RecordBatch] = []

    def _rows(self, batches: Batches, columns: Sequence[str]) -> Batches:
        for batch in batches:
            self.numbers.update(pc.unique(batch.column(PART)).to_pylist())
            is_decision = pc.is_valid(batch.column(CODE))
            self._decided.append(batch.select([KEY, CODE]).filter(is_decision))
            is_row = pc.and_not(pc.is_valid(batch.column(KEY)), is_decision)
            rows = batch.select([KEY, *placeholders(columns)]).filter(is_row)
            yield rows.rename_columns([_CUSTOMER, *columns])

    def number(self) -> int:
        """Which part it is, once everything was read.

        Raises:
            RuntimeError: If rows of another part are here: then some of that are missing where they belong.
        """
        if len(self.numbers) != 1:
            raise RuntimeError(f"a task was given rows of {len(self.numbers)} parts")
        return next(iter(self.numbers))

    def decisions(self, count: Count) -> Decisions:
        """Who of these customers may be counted, once everything was read."""
        keys = [key for batch in self._decided for key in batch.column(KEY).to_pylist()]
        codes = np.concatenate([np.asarray(one.column(CODE), np.uint8) for one in self._decided])
        return Decisions.over(pa.array(keys, SUBJECT_TYPE), codes, count.decided_at, count.purpose, count.policy_digest)
