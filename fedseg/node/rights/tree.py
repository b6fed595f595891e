"""The tree of one day's certificates: of fixed size, filled up with random numbers, so that it tells nobody how many.

Pure but for the randomness of the filling and of the order.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from fedseg.ledger.merkle import HASH_BYTES, Tree, leaf_hash

CAPACITY = 2**14
"""Leaves of a day's tree. What does not fit waits for the next day."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a commitment stands in its day's tree: what its owner needs to show that it is in there."""

    index: int
    path: tuple[bytes, ...]
    """Inclusion proof (RFC 6962), lowest first."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A day's tree."""

    root: bytes
    places: tuple[Place, ...]
    """Of the commitments, in the order they were given in."""


def make_batch(commitments: Sequence[bytes], capacity: int = CAPACITY) -> Batch:
    """The tree over these salted commitments and as much random filling as makes `capacity` leaves, in random order.

    A commitment is as long and as random as the filling, so whoever does not know its salt cannot tell them apart.

    Raises:
        ValueError: If there are more than `capacity`, or one is not 32 bytes long.
    """
    if len(commitments) > capacity or any(len(one) != HASH_BYTES for one in commitments):
        raise ValueError(f"a batch takes at most {capacity} commitments of {HASH_BYTES} bytes")
    filling = [secrets.token_bytes(HASH_BYTES) for _ in range(capacity - len(commitments))]
    order = list(range(capacity))
    secrets.SystemRandom().shuffle(order)
    leaves = [b""] * capacity
    for index, value in zip(order, [*commitments, *filling], strict=True):
        leaves[index] = leaf_hash(value)
    tree = Tree(leaves)
    return Batch(
        tree.root(), tuple(Place(index, tuple(tree.inclusion_proof(index))) for index in order[: len(commitments)])
    )
