"""Merkle tree hashing and proofs as in RFC 6962, section 2.1. Pure functions on bytes: no files, no clock."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of the tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data): a leaf can never be taken for a node."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The Merkle tree hash MTH of the leaves whose hashes are given, in order."""
    size = len(leaf_hashes)
    if size == 0:
        return EMPTY_ROOT
    if size == 1:
        return leaf_hashes[0]
    middle = _split(size)
    return node_hash(root(leaf_hashes[:middle]), root(leaf_hashes[middle:]))


def inclusion_proof(index: int, leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """PATH(index, leaves): the hashes that lead from leaf `index` up to the root, lowest first.

    Raises:
        ValueError: If there is no leaf `index`.
    """
    size = len(leaf_hashes)
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    if size == 1:
        return []
    middle = _split(size)
    if index < middle:
        return [*inclusion_proof(index, leaf_hashes[:middle]), root(leaf_hashes[middle:])]
    return [*inclusion_proof(index - middle, leaf_hashes[middle:]), root(leaf_hashes[:middle])]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], tree_root: bytes) -> bool:
    """Whether `proof` shows that the leaf with hash `leaf` is number `index` of the `size` leaves under `tree_root`.

    Reference: RFC 9162, section 2.1.3.2, whose steps this follows (the trees of RFC 6962 are the same).
    """
    if not 0 <= index < size:
        return False
    position, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            found = node_hash(sibling, found)
            position, last = _skip_missing_siblings(position, last)
        else:
            found = node_hash(found, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and found == tree_root


def consistency_proof(old_size: int, leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """PROOF(old_size, leaves): the hashes that show the first `old_size` leaves to be a prefix of all of them.

    Raises:
        ValueError: If `old_size` is not between 1 and the number of leaves. (Everything extends the empty tree:
            RFC 6962 defines no proof of that.)
    """
    if not 1 <= old_size <= len(leaf_hashes):
        raise ValueError(f"no consistency proof from {old_size} to {len(leaf_hashes)} leaves")
    return _subproof(old_size, leaf_hashes, whole=True)


def verify_consistency(old_size: int, old_root: bytes, size: int, tree_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the tree of `size` leaves extends the tree of `old_size` leaves.

    For an empty old tree only its one root and the empty proof are right.

    Reference: RFC 9162, section 2.1.4.2.
    """
    if not 0 <= old_size <= size:
        return False
    if old_size in (0, size):
        expected = EMPTY_ROOT if old_size == 0 else tree_root
        return old_root == expected and not proof
    # A complete old tree is a node of the new one: its root stands for the first hash of the path.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        return False
    return _walk_consistency(old_size, size, path) == (old_root, tree_root)


@dataclass(frozen=True, slots=True)
class Frontier:
    """A growing tree, remembered by the roots of its complete subtrees: appending costs O(log size).

    `Frontier()` is the empty tree; `append` gives the tree with one leaf more and leaves this one as it is.
    """

    size: int = 0
    """Number of leaves."""
    peaks: tuple[bytes, ...] = ()
    """Roots of the complete subtrees, leftmost and largest first: one for each 1 in the binary form of `size`."""

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.peaks) != self.size.bit_count():
            raise ValueError(f"a tree of {self.size} leaves does not have {len(self.peaks)} complete subtrees")

    def append(self, leaf: bytes) -> "Frontier":
        """The tree with a leaf of hash `leaf` added on the right."""
        peaks, node, carry = list(self.peaks), leaf, self.size
        while carry & 1:
            node = node_hash(peaks.pop(), node)
            carry >>= 1
        return Frontier(self.size + 1, (*peaks, node))

    def root(self) -> bytes:
        """The same as `merkle.root` of all leaves appended."""
        if not self.peaks:
            return EMPTY_ROOT
        *rest, node = self.peaks
        for peak in reversed(rest):
            node = node_hash(peak, node)
        return node


def _split(size: int) -> int:
    """The largest power of two below `size` (RFC 6962: k < n <= 2k), for size > 1."""
    return 1 << ((size - 1).bit_length() - 1)


def _subproof(old_size: int, leaf_hashes: Sequence[bytes], *, whole: bool) -> list[bytes]:
    """SUBPROOF(old_size, leaves, whole) of RFC 6962, 2.1.2."""
    size = len(leaf_hashes)
    if old_size == size:
        return [] if whole else [root(leaf_hashes)]
    middle = _split(size)
    if old_size <= middle:
        return [*_subproof(old_size, leaf_hashes[:middle], whole=whole), root(leaf_hashes[middle:])]
    return [*_subproof(old_size - middle, leaf_hashes[middle:], whole=False), root(leaf_hashes[:middle])]


def _skip_missing_siblings(position: int, last: int) -> tuple[int, int]:
    """Climb the levels at which the rightmost node has no sibling: they add no hash to a proof."""
    while position and not position & 1:
        position, last = position >> 1, last >> 1
    return position, last


def _walk_consistency(old_size: int, size: int, path: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """The two roots that `path` leads to, or None when it has the wrong length (RFC 9162, 2.1.4.2, steps 4 to 8)."""
    position, last = old_size - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            position, last = _skip_missing_siblings(position, last)
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    return (old, new) if last == 0 else None
