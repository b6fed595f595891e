"""With numba, units and server find the integers that they find without."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedseg.clustering.cell_loop import BLOCK, cell_vectors
from fedseg.compiled import compiled
from fedseg.privacy.adding import add_within
from tests.loop_cases import Asked, asked, by, many_rows, sums_by, vectors, vectors_by
from tests.small_run import exact

pytestmark = pytest.mark.extras

ROOT = Path(__file__).parents[2]


def no_loop(_: object) -> None:
    """The array operations."""


def test_numba_is_there_and_compiles_both_loops() -> None:
    assert compiled(cell_vectors) is not cell_vectors
    assert None not in (compiled(cell_vectors), compiled(add_within))


@given(asked())
@settings(max_examples=300, deadline=None)
def test_the_compiled_loop_over_customers_gives_the_same_integers(one: Asked) -> None:
    assert vectors_by(compiled, one) == vectors_by(no_loop, one)


@pytest.mark.parametrize(("features", "cells"), [(1, 1), (3, 5), (10, 8), (64, 65)])
def test_whole_sums_are_the_same(features: int, cells: int) -> None:
    many = many_rows(features, cells, 40 * BLOCK + 7)
    once, again = (by(choice, lambda: exact(many.rows, many.request, many.lattice)) for choice in (compiled, no_loop))
    assert np.array_equal(once, again)


@given(vectors(), st.integers(1, 2 * 10**4) | st.sampled_from([2**44, 2**45, 2**70]))
@settings(max_examples=300, deadline=None)
def test_the_compiled_loop_over_vectors_adds_up_the_same(
    chunk: tuple[NDArray[np.intp], NDArray[np.int64]], squared: int
) -> None:
    assert sums_by(compiled, chunk, squared) == sums_by(no_loop, chunk, squared)


def test_without_a_folder_to_keep_it_in_the_loop_is_compiled_all_the_same() -> None:
    # numba keeps machine code beside the source or in the user's cache; here there is no such place.
    program = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
from fedseg.clustering.cell_loop import cell_vectors
from fedseg.compiled import compiled
print(compiled(cell_vectors) is not None)
"""
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"
