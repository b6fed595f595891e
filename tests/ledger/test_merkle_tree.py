"""The Merkle tree of RFC 6962: published roots and paths, and the laws of proofs."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

# Test data of the Certificate Transparency reference implementation, Apache-2.0
# (github.com/google/certificate-transparency, merkletree tests; also used by transparency-dev/merkle).
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
CONSISTENCY = {
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
HASHES = [leaf_hash(data) for data in LEAVES]


def hashes(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_the_published_ones(size: int) -> None:
    assert root(HASHES[:size]).hex() == ROOTS[size - 1]


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    assert root([]) == EMPTY_ROOT == Frontier().root() == hashlib.sha256().digest()


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_the_published_ones(index: int, size: int) -> None:
    assert [step.hex() for step in inclusion_proof(index, HASHES[:size])] == INCLUSION[index, size]


@pytest.mark.parametrize(("old", "size"), CONSISTENCY)
def test_consistency_proofs_are_the_published_ones(old: int, size: int) -> None:
    assert [step.hex() for step in consistency_proof(old, HASHES[:size])] == CONSISTENCY[old, size]


def test_the_tree_of_seven_leaves_of_rfc_6962_is_proved_as_there() -> None:
    """RFC 6962, section 2.1.3, and RFC 9162, section 2.1.5: the same tree and paths, with the names of its nodes."""
    a, b, c, d, e, f, j = hashes(7)
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, l_ = node_hash(g, h), node_hash(i, j)
    tree = Tree(hashes(7))
    assert tree.root() == node_hash(k, l_)
    assert [tree.inclusion_proof(index) for index in (0, 3, 4, 6)] == [[b, h, l_], [c, g, l_], [f, j, k], [i, k]]
    assert [tree.root(size) for size in (3, 4, 6)] == [node_hash(g, c), k, node_hash(k, i)]
    assert [tree.consistency_proof(old) for old in (3, 4, 6)] == [[c, d, g, l_], [l_], [i, j, k]]


def defined_root(leaves: list[bytes]) -> bytes:
    """MTH, word for word as RFC 6962 defines it."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else EMPTY_ROOT
    middle = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(defined_root(leaves[:middle]), defined_root(leaves[middle:]))


def test_a_tree_answers_for_each_size_it_ever_had() -> None:
    leaves, tree = hashes(70), Tree(hashes(70))
    assert tree.size == 70
    for size in range(71):
        assert tree.root(size) == tree.frontier(size).root() == defined_root(leaves[:size])
        assert tree.prefix(size).root() == defined_root(leaves[:size])
        for index in range(0, size, 7):
            assert tree.inclusion_proof(index, size) == Tree(leaves[:size]).inclusion_proof(index)
        for old in range(1, size + 1, 5):
            assert tree.consistency_proof(old, size) == Tree(leaves[:size]).consistency_proof(old)


def test_a_prefix_grows_on_its_own() -> None:
    tree = Tree(hashes(9))
    prefix = tree.prefix(6)
    prefix.append(EMPTY_ROOT)
    assert tree.root() == root(hashes(9))
    assert prefix.root() == root([*hashes(6), EMPTY_ROOT])


def test_a_tree_knows_nothing_of_sizes_it_never_had() -> None:
    tree = Tree(hashes(5))
    for size in (-1, 6):
        for ask in (
            tree.root,
            tree.frontier,
            lambda size: tree.inclusion_proof(0, size),
            lambda size: tree.consistency_proof(1, size),
        ):
            with pytest.raises(ValueError, match="never had"):
                ask(size)


def test_only_hashes_are_leaves() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Tree([b"short"])


def test_a_leaf_is_never_a_node() -> None:
    left, right = HASHES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)


def test_appending_gives_the_root_of_all_leaves() -> None:
    frontier = Frontier()
    for size in range(1, 70):
        frontier = frontier.append(hashes(size)[-1])
        assert (frontier.size, frontier.root()) == (size, root(hashes(size)))


def test_appending_leaves_the_shorter_tree_as_it_was() -> None:
    short = Frontier().append(HASHES[0])
    short.append(HASHES[1])
    assert short.root() == HASHES[0]


@pytest.mark.parametrize(("size", "peaks"), [(1, ()), (0, (EMPTY_ROOT,)), (3, (EMPTY_ROOT,)), (-1, (EMPTY_ROOT,))])
def test_a_frontier_that_is_no_tree_is_refused(size: int, peaks: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="complete subtrees"):
        Frontier(size, peaks)


def test_every_leaf_of_every_small_tree_proves_its_place_and_no_other() -> None:
    for size in range(1, 18):
        tree = hashes(size)
        for index in range(size):
            proof = inclusion_proof(index, tree)
            assert verify_inclusion(tree[index], index, size, proof, root(tree))
            for wrong in set(range(-1, size + 2)) - {index}:
                assert not verify_inclusion(tree[index], wrong, size, proof, root(tree))


def test_every_small_tree_proves_each_of_its_prefixes_and_no_other() -> None:
    for size in range(1, 18):
        tree = hashes(size)
        for old in range(1, size + 1):
            proof = consistency_proof(old, tree)
            assert verify_consistency(old, root(tree[:old]), size, root(tree), proof)
            for wrong in set(range(-1, size + 2)) - {old}:
                assert not verify_consistency(wrong, root(tree[:old]), size, root(tree), proof)


@given(st.integers(1, 40), st.data())
def test_a_changed_inclusion_proof_proves_nothing(size: int, data: st.DataObject) -> None:
    tree = hashes(size)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, tree)
    for changed in changes(proof):
        assert not verify_inclusion(tree[index], index, size, changed, root(tree))
    assert not verify_inclusion(EMPTY_ROOT, index, size, proof, root(tree))
    assert not verify_inclusion(tree[index], index, size, proof, EMPTY_ROOT)


@given(st.integers(1, 40), st.data())
def test_a_changed_consistency_proof_proves_nothing(size: int, data: st.DataObject) -> None:
    tree = hashes(size)
    old = data.draw(st.integers(1, size))
    proof = consistency_proof(old, tree)
    for changed in changes(proof):
        assert not verify_consistency(old, root(tree[:old]), size, root(tree), changed)
    assert not verify_consistency(old, EMPTY_ROOT, size, root(tree), proof)
    assert not verify_consistency(old, root(tree[:old]), size, EMPTY_ROOT, proof)


def changes(proof: list[bytes]) -> list[list[bytes]]:
    """Proofs that differ from `proof`: a step too many, one too few, one replaced."""
    longer = [[*proof, EMPTY_ROOT], [EMPTY_ROOT, *proof]]
    shorter = [proof[:-1], proof[1:]] if proof else []
    replaced = [[*proof[:place], EMPTY_ROOT, *proof[place + 1 :]] for place in range(len(proof))]
    return longer + shorter + replaced


def test_everything_extends_the_empty_tree_without_proof() -> None:
    assert verify_consistency(0, EMPTY_ROOT, 8, root(HASHES), [])
    assert not verify_consistency(0, EMPTY_ROOT, 8, root(HASHES), [EMPTY_ROOT])
    assert not verify_consistency(0, HASHES[0], 8, root(HASHES), [])


def test_there_is_no_proof_for_what_is_not_there() -> None:
    for index in (-1, 8):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_proof(index, HASHES)
    for old in (0, 9):
        with pytest.raises(ValueError, match="no consistency proof"):
            consistency_proof(old, HASHES)
