"""A unit of any size gets the same rows in the same order, whether they stay in memory or go to the disk."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering import encode as encoding
from fedseg.clustering.encode import encode
from fedseg.clustering.features import Feature
from fedseg.clustering.lattice import Lattice, Statistic
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.spill import GROUP_BITS, Spill
from fedseg.clustering.statistics import summarize
from fedseg.columns import numbers
from fedseg.errors import StorageError
from fedseg.node.home import NodeHome
from fedseg.node.source import subject_key
from fedseg.policy.document import Policy
from fedseg.policy.gate import ConsentedTable, Decisions, admit
from fedseg.table import Table, table_schema

PURPOSE = "fedseg:SegmentStatistics"
COLUMNS = numbers("visits", "spend", "days")
ROOT = Path(__file__).parents[2]

Rows = Sequence[tuple[int, tuple[float, ...]]]
"""Customers by number, each with its values; one may have several rows."""
VALUES = st.sampled_from([0.0, 1.0, 50.0, float("nan")]) | st.floats(-10, 1000)
ROWS = st.lists(st.tuples(st.integers(0, 6), st.tuples(VALUES, VALUES, VALUES)), max_size=25)
Admitted = Callable[[Rows, int], ConsentedTable]

REQUEST = RoundRequest(0, np.array([[0, 0, 0], [2**18, -(2**18), 7]], np.int32), np.array([2**18, 2**17], np.int32))
LATTICE = Lattice(Statistic.CELLS, 2**20, 1000, 3000)


@pytest.fixture(scope="session")
def admitted(unit: NodeHome, policy: Policy, decisions: Decisions) -> Admitted:
    def table(rows: Rows, batch_rows: int) -> ConsentedTable:
        def stream() -> Iterator[pa.RecordBatch]:
            for start in range(0, len(rows), batch_rows):
                some = rows[start : start + batch_rows]
                keys = [subject_key(f"c{customer}".encode(), unit.subject_secret) for customer, _ in some]
                columns = [pa.array([values[place] for _, values in some], pa.float64()) for place in range(3)]
                yield pa.RecordBatch.from_arrays(
                    [pa.array(keys, pa.binary(16)), *columns], schema=table_schema(COLUMNS)
                )

        return admit(Table(COLUMNS, stream), decisions, policy, PURPOSE)

    return table


@contextmanager
def in_memory(most: int) -> Generator[None]:
    """Customers that take more bytes than this go to the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "MEMORY_BYTES", most)
        yield


@st.composite
def ways(draw: st.DrawFn) -> tuple[Rows, Rows, int, int, int]:
    """Rows, the same in another order, rows a batch, bytes in memory, and rows a chunk."""
    rows = draw(ROWS)
    again, batch, size = draw(st.permutations(rows)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return rows, again, batch, draw(st.integers(0, 400)), size


@given(way=ways())
def test_the_disk_changes_no_row_and_no_order(
    admitted: Admitted, features: tuple[Feature, ...], scratch: Path, way: tuple[Rows, Rows, int, int, int]
) -> None:
    rows, again, batch, most, size = way
    kept = encode(admitted(rows, 25), features)
    with in_memory(most):
        spilled = encode(admitted(again, batch), features, scratch)
    assert [row for chunk in spilled.chunks(size) for row in chunk.tolist()] == [
        row for chunk in kept.chunks() for row in chunk.tolist()
    ]
    assert max((len(chunk) for chunk in spilled.chunks(size)), default=0) <= size
    sums = [summarize(one, REQUEST, LATTICE)._values.tolist() for one in (kept, spilled)]
    assert sums[0] == sums[1]
    assert list(scratch.iterdir()) == []


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


WORDS = st.sampled_from([0, 1, 2**56 - 1, 2**56, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
KEYED = st.lists(st.tuples(WORDS, WORDS, st.integers(-3, 3)), max_size=30)


@given(parts=st.lists(KEYED, max_size=4))
def test_groups_are_all_rows_of_all_parts_by_the_leading_bits_of_their_keys(
    scratch: Path, parts: list[list[tuple[int, int, int]]]
) -> None:
    spill = Spill(scratch, 1)
    for part in parts:
        ordered = np.array(sorted(part), np.object_).reshape(-1, 3)
        spill.add(ordered[:, :2].astype(np.uint64), ordered[:, 2:].astype(np.int32))
    groups = [
        [(*key, *row) for key, row in zip(keys.tolist(), rows.tolist(), strict=True)] for keys, rows in spill.groups()
    ]
    assert sorted(row for group in groups for row in group) == sorted(row for part in parts for row in part)
    assert all(high >> (64 - GROUP_BITS) == place for place, group in enumerate(groups) for high, _, _ in group)


def test_keys_that_agree_in_their_first_word_stay_apart() -> None:
    keys = np.array([[5, 2], [5, 1], [5, 2], [4, 9]], np.uint64)
    rows = np.array([[7], [8], [6], [9]], np.int32)
    assert encoding._smallest_per_key(keys, rows).tolist() == [[9], [8], [6]]


def test_rows_from_the_disk_cannot_be_written_to(
    admitted: Admitted, features: tuple[Feature, ...], scratch: Path
) -> None:
    with in_memory(0):
        spilled = encode(admitted([(0, (1.0, 2.0, 3.0))], 1), features, scratch)
    with pytest.raises(ValueError, match="read-only"):
        next(spilled.chunks())[0, 0] = 1


def part_of(count: int) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    keys = np.sort(np.random.default_rng(1).integers(0, 2**64, (count, 2), np.uint64), axis=0)
    return keys, np.arange(2 * count, dtype=np.int32).reshape(-1, 2)


def test_a_file_has_no_name_and_is_its_owners_alone(scratch: Path) -> None:
    spill = Spill(scratch, 2)
    spill.add(*part_of(100))
    status = os.fstat(spill._file)
    assert (status.st_nlink, status.st_mode & 0o777, status.st_size) == (0, 0o600, 100 * 24)
    assert list(scratch.iterdir()) == []


def test_the_file_is_closed_when_nobody_uses_it(scratch: Path) -> None:
    spill = Spill(scratch, 2)
    descriptor = spill._file
    del spill
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_disk_that_takes_no_more_is_an_error_that_says_what_to_do(scratch: Path) -> None:
    spill, (soft, hard) = Spill(scratch, 2), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError, match="File too large; nothing was left") as refused:
            spill.add(*part_of(100))
        assert "a customer takes 24 bytes" in refused.value.fix
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(scratch.iterdir()) == []


def test_a_file_that_lost_its_end_is_an_error_and_no_rows(scratch: Path) -> None:
    spill = Spill(scratch, 2)
    spill.add(*part_of(100))
    os.ftruncate(spill._file, 1000)
    with pytest.raises(StorageError, match="while they are sorted"):
        list(spill.groups())


def test_a_folder_that_is_not_there_is_an_error(scratch: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        Spill(scratch / "nowhere", 2)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from fedseg.clustering.spill import Spill
spill = Spill(Path(sys.argv[1]), 2)
spill.add(np.zeros((1000, 2), np.uint64), np.full((1000, 2), 0x5EC2E7, np.int32))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert run.returncode == -9
    assert list(tmp_path.iterdir()) == []
