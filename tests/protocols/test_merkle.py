import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.ids import Digest
from protocols.keccak import keccak256
from protocols.merkle import (
    ZERO_DIGEST,
    are_neighbours,
    compute_leaf,
    compute_next_path,
    compute_path,
    compute_root,
    is_member,
)

trees = st.lists(st.binary(max_size=40), min_size=1, max_size=20)


def test_three_leaves_by_hand() -> None:
    a, b, c = (compute_leaf(x) for x in (b"a", b"b", b"c"))
    left = keccak256(b"\x01" + a + b)
    right = keccak256(b"\x01" + c + ZERO_DIGEST)
    assert compute_root([b"a", b"b", b"c"]) == keccak256(b"\x01" + left + right)
    assert compute_path([b"a", b"b", b"c"], 2) == (ZERO_DIGEST, left)


def test_one_leaf_is_its_own_root() -> None:
    assert compute_root([b"a"]) == keccak256(b"\x00a")
    assert compute_path([b"a"], 0) == ()
    assert is_member(compute_leaf(b"a"), b"a", 0, 1, ())


@given(trees, st.data())
def test_every_leaf_is_a_member_at_its_own_index_only(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    root, path = compute_root(leaves), compute_path(leaves, index)
    width = len(leaves)
    assert is_member(root, leaves[index], index, width, path)
    assert not is_member(root, leaves[index] + b"x", index, width, path)
    assert not is_member(root, leaves[index], index + (1 << len(path)), width, path)
    assert not is_member(root, leaves[index], index, 2 * width + 1, path)
    other = data.draw(st.integers(0, width - 1))
    if is_member(root, leaves[index], other, width, path):
        assert other == index or leaves[other : other + 1] == [leaves[index]]


@given(trees, st.data())
def test_a_changed_path_proves_nothing(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = compute_path(leaves, index)
    if path:
        height = data.draw(st.integers(0, len(path) - 1))
        broken = (*path[:height], Digest(bytes([path[height][0] ^ 1]) + path[height][1:]), *path[height + 1 :])
        assert not is_member(compute_root(leaves), leaves[index], index, len(leaves), broken)


@given(st.lists(st.binary(max_size=40), min_size=2, max_size=70), st.data())
def test_neighbours_share_a_path(leaves: list[bytes], data: st.DataObject) -> None:
    index, width, root = data.draw(st.integers(0, len(leaves) - 2)), len(leaves), compute_root(leaves)
    path, short = compute_path(leaves, index), compute_next_path(leaves, index)
    a, b = leaves[index : index + 2]
    assert are_neighbours(root, a, b, index, width, path, short)
    assert compute_path(leaves, index + 1)[: len(short)] == short
    assert not are_neighbours(root, a, b + b"x", index, width, path, short)
    assert not are_neighbours(root, a + b"x", b, index, width, path, short)
    assert not are_neighbours(root, a, b, index, width, path, (*short, ZERO_DIGEST))
    assert not are_neighbours(root, a, b, index, width, path, short[:-1]) or not short
    assert are_neighbours(root, b, a, index, width, path, short) == (a == b)
    assert not are_neighbours(root, a, b, index, index + 1, path, short)
    for other in range(width):
        if are_neighbours(root, a, b, other, width, path, short):
            assert [a, b] == leaves[other : other + 2]


def test_the_last_leaf_has_no_neighbour() -> None:
    leaves = [b"a", b"b", b"c"]
    with pytest.raises(ValueError, match="no leaf 3"):
        compute_next_path(leaves, 2)
    # Padding is a word, and no data hashes to it.
    assert not are_neighbours(compute_root(leaves), b"c", b"", 2, 3, compute_path(leaves, 2), ())


def test_an_inner_node_is_no_leaf() -> None:
    a, b = compute_leaf(b"a"), compute_leaf(b"b")
    assert not is_member(compute_root([b"a", b"b"]), a + b, 0, 1, ())


def test_nothing_has_no_root() -> None:
    with pytest.raises(ValueError, match="at least one"):
        compute_root([])
    with pytest.raises(ValueError, match="no leaf 1"):
        compute_path([b"a"], 1)
