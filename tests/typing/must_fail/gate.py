"""Only what passed the gate is encoded, only encoded rows are counted. Each marked line both type checkers refuse."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.encode import BoundedFeatures, encode
from fedseg.clustering.features import Feature
from fedseg.clustering.lattice import Lattice
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.statistics import summarize
from fedseg.policy.gate import ConsentedTable
from fedseg.privacy.sensitive import Sensitive
from fedseg.table import Table


def a_table_past_the_gate(table: Table, features: Sequence[Feature]) -> BoundedFeatures:
    return encode(table, features)  # E: mypy[arg-type] pyright[reportArgumentType]


def a_consented_table_of_ones_own(table: Table) -> ConsentedTable:
    return ConsentedTable(table.columns, table)  # E: mypy[call-arg] pyright[reportCallIssue]


def sums_of_an_array(rows: NDArray[np.int32], request: RoundRequest, lattice: Lattice) -> Sensitive:
    return summarize(rows, request, lattice)  # E: mypy[arg-type] pyright[reportArgumentType]


def sums_of_a_table(table: ConsentedTable, request: RoundRequest, lattice: Lattice) -> Sensitive:
    return summarize(table, request, lattice)  # E: mypy[arg-type] pyright[reportArgumentType]


def sums_without_a_lattice(features: BoundedFeatures, request: RoundRequest) -> Sensitive:
    return summarize(features, request)  # E: mypy[call-arg] pyright[reportCallIssue]
