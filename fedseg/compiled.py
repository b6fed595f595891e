"""Loops over numbers as machine code, where numba is installed: `pip install 'fedseg[numba]'`.

Each such loop is the twin of array operations that give the same integers without numba; no result depends on which of
the two ran. The loops are plain Python too, and tests run them so.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec


@cache
def compiled(loop: Callable[..., None]) -> Callable[..., None] | None:
    """The loop as machine code, kept for other processes where a folder can be written; None without numba.

    Of what compilers may do to floats only contraction is allowed: a product and a sum in one step, rounded once. So
    sums of products in a loop must be exact.
    """
    if find_spec("numba") is None:
        return None
    njit, options = import_module("numba").njit, {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}
    try:
        made: Callable[..., None] = njit(loop, cache=True, **options)
    except RuntimeError:  # there is no folder to keep it in: it is compiled anew in each process
        made = njit(loop, **options)
    return made
