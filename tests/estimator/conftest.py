"""Rows of three clearly separate groups of customers, and an account that has room for many fits."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fedseg import CustomerAccount

MIDDLES = np.array([[20.0, 2.0], [50.0, 8.0], [80.0, 2.0]])
LOWER, UPPER = (0.0, 0.0), (100.0, 10.0)


@pytest.fixture(scope="session")
def rows() -> NDArray[np.float64]:
    """3,000 customers, 1,000 around each of `MIDDLES`, shape (3000, 2), in no order."""
    coins = np.random.default_rng(5)
    table = np.concatenate([coins.normal(middle, (2.0, 0.2), (1000, 2)) for middle in MIDDLES])
    coins.shuffle(table)
    return table


@pytest.fixture
def account() -> CustomerAccount:
    return CustomerAccount(epsilon=1000, delta=1e-6)
