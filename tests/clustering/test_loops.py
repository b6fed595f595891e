"""The loops that numba compiles give the integers of the array operations, and leave the same vectors out.

Here they run as plain Python, on few rows; tests/extras/ runs them compiled.
"""

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering.cell_loop import BLOCK, cell_vectors
from fedseg.clustering.lattice import Lattice, Statistic
from fedseg.clustering.request import RoundRequest
from fedseg.compiled import compiled
from tests.loop_cases import Asked, asked, many_rows, sums_by, vectors, vectors_by


def as_it_is(loop: Callable[..., None]) -> Callable[..., None]:
    """The loop, uncompiled."""
    return loop


def no_loop(_: Callable[..., None]) -> None:
    """The array operations."""


@given(asked())
def test_the_loop_over_customers_gives_the_same_integers(one: Asked) -> None:
    assert vectors_by(as_it_is, one) == vectors_by(no_loop, one)


def test_the_loop_over_customers_gives_the_same_integers_in_every_block() -> None:
    many = many_rows(2, 3, 2 * BLOCK + 1)
    assert vectors_by(as_it_is, many) == vectors_by(no_loop, many)


@given(vectors(), st.integers(1, 2 * 10**4) | st.sampled_from([2**44, 2**45, 2**70]))
@settings(max_examples=200)
def test_the_loop_over_vectors_adds_up_the_same(
    chunk: tuple[NDArray[np.intp], NDArray[np.int64]], squared: int
) -> None:
    assert sums_by(as_it_is, chunk, squared) == sums_by(no_loop, chunk, squared)


def test_rows_of_another_width_than_the_requests_are_refused_by_the_loop() -> None:
    one = Asked(
        np.zeros((3, 2), np.int32),
        RoundRequest(0, np.zeros((1, 3), np.int32), np.ones(1, np.int32)),
        Lattice(Statistic.CELLS, 64, 64, 64),
    )
    with pytest.raises(ValueError, match="another number of features"):
        vectors_by(as_it_is, one)


def test_without_numba_there_is_no_loop() -> None:
    assert importlib.util.find_spec("numba") is None, "these tests are of what runs without extras"
    assert compiled(cell_vectors) is None
