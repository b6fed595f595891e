"""Merkle tree hashing and proofs as in RFC 6962, section 2.1. Pure functions on bytes: no files, no clock."""

import hashlib
from collections.abc import Iterable, Sequence
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
    return Tree(leaf_hashes).root()


def inclusion_proof(index: int, leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """As `Tree.inclusion_proof`, for the tree of these leaves."""
    return Tree(leaf_hashes).inclusion_proof(index)


def consistency_proof(old_size: int, leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """As `Tree.consistency_proof`, for the tree of these leaves."""
    return Tree(leaf_hashes).consistency_proof(old_size)


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
        return _folded(self.peaks) if self.peaks else EMPTY_ROOT


class Tree:
    """A growing tree that remembers the hash of every complete subtree, 64 bytes a leaf: a proof costs O(log size).

    Every hash it keeps is of a fixed range of leaves, so the same tree answers for each size it ever had.

    >>> tree = Tree([leaf_hash(b"a"), leaf_hash(b"b"), leaf_hash(b"c")])
    >>> verify_inclusion(leaf_hash(b"b"), 1, 3, tree.inclusion_proof(1), tree.root())
    True
    """

    __slots__ = ("_levels",)

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self._levels = [bytearray()]
        """Level k holds the hashes of the complete subtrees of 2**k leaves, from left to right, without separator."""
        for leaf in leaf_hashes:
            self.append(leaf)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0]) // HASH_BYTES

    def append(self, leaf: bytes) -> None:
        """Add a leaf of hash `leaf` on the right."""
        if len(leaf) != HASH_BYTES:
            raise ValueError(f"a leaf's hash has {HASH_BYTES} bytes, got {len(leaf)}")
        node, place, levels = leaf, self.size, self._levels
        levels[0] += node
        # A right child completes its parent: one for each trailing 1 in the binary form of the place.
        for level in range((place ^ (place + 1)).bit_length() - 1):
            node = node_hash(self.subtree(level, (place >> level) - 1), node)
            if level + 1 == len(levels):
                levels.append(bytearray())
            levels[level + 1] += node

    def subtree(self, level: int, index: int) -> bytes:
        """The hash over the leaves from `index` * 2**`level` on, 2**`level` of them, all of which must be there."""
        start = index * HASH_BYTES
        return bytes(self._levels[level][start : start + HASH_BYTES])

    def prefix(self, size: int) -> "Tree":
        """A tree of its own with the first `size` leaves."""
        copy = Tree()
        copy._levels = [level[: (size >> height) * HASH_BYTES] for height, level in enumerate(self._levels)]
        return copy

    def frontier(self, size: int | None = None) -> Frontier:
        """The first `size` leaves, all by default, as the roots of their complete subtrees."""
        count = self._at_most(size)
        heights = [height for height in range(count.bit_length() - 1, -1, -1) if count >> height & 1]
        return Frontier(count, tuple(self.subtree(height, (count >> height) - 1) for height in heights))

    def root(self, size: int | None = None) -> bytes:
        """The Merkle tree hash MTH of the first `size` leaves; of all by default."""
        return self.frontier(size).root()

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """PATH(index, leaves): the hashes that lead from leaf `index` up to the root of the first `size`, lowest first.

        Raises:
            ValueError: If there is no leaf `index` among them.

        Reference: RFC 6962, section 2.1.1, whose recursion this runs down from the root.
        """
        low, high = 0, self._at_most(size)
        if not 0 <= index < high:
            raise ValueError(f"a tree of {high} leaves has no leaf {index}")
        proof: list[bytes] = []
        while high - low > 1:
            middle = low + _split(high - low)
            if index < middle:
                proof.append(self._range(middle, high))
                high = middle
            else:
                proof.append(self._range(low, middle))
                low = middle
        return proof[::-1]

    def consistency_proof(self, old_size: int, size: int | None = None) -> list[bytes]:
        """PROOF(old_size, leaves): the hashes that show the first `old_size` leaves to be a prefix of the first `size`.

        Raises:
            ValueError: If `old_size` is not between 1 and `size`. (Everything extends the empty tree: RFC 6962
                defines no proof of that.)

        Reference: RFC 6962, section 2.1.2, whose recursion this runs down from the root.
        """
        low, high = 0, self._at_most(size)
        if not 1 <= old_size <= high:
            raise ValueError(f"no consistency proof from {old_size} to {high} leaves")
        proof: list[bytes] = []
        while old_size != high:
            middle = low + _split(high - low)
            if old_size <= middle:
                proof.append(self._range(middle, high))
                high = middle
            else:
                proof.append(self._range(low, middle))
                low = middle
        # The verifier knows the old root itself, and needs no hash of it.
        return [self._range(low, high), *proof[::-1]] if low else proof[::-1]

    def _at_most(self, size: int | None) -> int:
        if size is not None and not 0 <= size <= self.size:
            raise ValueError(f"a tree of {self.size} leaves never had {size}")
        return self.size if size is None else size

    def _range(self, low: int, high: int) -> bytes:
        """MTH of the leaves from `low` to before `high`, a range at which the recursion of RFC 6962 arrives."""
        peaks: list[bytes] = []
        while low < high:
            # The largest complete subtree: of no more leaves than are left. Its start is aligned, as the range is.
            height = (high - low).bit_length() - 1
            peaks.append(self.subtree(height, low >> height))
            low += 1 << height
        return _folded(peaks)


def _split(size: int) -> int:
    """The largest power of two below `size` (RFC 6962: k < n <= 2k), for size > 1."""
    return 1 << ((size - 1).bit_length() - 1)


def _folded(peaks: Sequence[bytes]) -> bytes:
    """The root over complete subtrees that stand side by side, largest first."""
    *rest, node = peaks
    for peak in reversed(rest):
        node = node_hash(peak, node)
    return node


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
