"""Binary Merkle trees over keccak-256, as the contracts check them.

    leaf = keccak(0x00 ‖ data)      node = keccak(0x01 ‖ left ‖ right)

The one rule: leaves are padded to the next power of two with zero words, so that a leaf's index alone says
at each level whether it is a right child (bit 0 of the index is the lowest level). A tree of one leaf has the
leaf as its root and an empty path. Spec: protocols/README.md, "Merkle trees".
"""

from __future__ import annotations

from collections.abc import Sequence

from protocols.ids import Digest
from protocols.keccak import keccak256

ZERO_DIGEST = Digest(bytes(32))


def compute_leaf(data: bytes) -> Digest:
    return keccak256(b"\x00" + data)


def compute_root(leaves: Sequence[bytes]) -> Digest:
    """Root over leaf data, at least one; ValueError for none."""
    return _levels(leaves)[-1][0]


def compute_path(leaves: Sequence[bytes], index: int) -> tuple[Digest, ...]:
    """Siblings of leaf `index`, lowest level first."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"no leaf {index} among {len(leaves)}")
    return tuple(level[(index >> height) ^ 1] for height, level in enumerate(_levels(leaves)[:-1]))


def is_member(root: Digest, data: bytes, index: int, width: int, path: Sequence[Digest]) -> bool:
    """Whether `data` is leaf `index` of the tree of `width` leaves under `root`."""
    return 0 <= index < width and len(path) == compute_depth(width) and _climb(data, index, path) == root


def compute_next_path(leaves: Sequence[bytes], index: int) -> tuple[Digest, ...]:
    """Siblings of leaf `index` + 1 up to where its way to the root joins that of leaf `index`, lowest level first."""
    return compute_path(leaves, index + 1)[: _compute_joint(index)]


def are_neighbours(
    root: Digest,
    data: bytes,
    following: bytes,
    index: int,
    width: int,
    path: Sequence[Digest],
    next_path: Sequence[Digest],
) -> bool:
    """Whether `data` is leaf `index` of the tree of `width` leaves under `root`, and `following` the one after it.

    Below the level where the two ways join, leaf `index` is a right child throughout and the next one a left child;
    what that one comes to there is the sibling in leaf `index`'s own path.
    """
    joint = _compute_joint(index)
    if index + 1 >= width or len(next_path) != joint or not is_member(root, data, index, width, path):
        return False
    return _climb(following, 0, next_path) == path[joint]


def compute_depth(width: int) -> int:
    """Length of a path in a tree of `width` leaves."""
    return (width - 1).bit_length()


def _compute_joint(index: int) -> int:
    """The level at which a leaf's way meets its right neighbour's: ones at the end of its index."""
    return (~index & index + 1).bit_length() - 1


def _climb(data: bytes, index: int, path: Sequence[Digest]) -> Digest:
    node = compute_leaf(data)
    for height, sibling in enumerate(path):
        node = _compute_node(sibling, node) if index >> height & 1 else _compute_node(node, sibling)
    return node


def _compute_node(left: Digest, right: Digest) -> Digest:
    return keccak256(b"\x01" + left + right)


def _levels(leaves: Sequence[bytes]) -> list[list[Digest]]:
    """All nodes, lowest level first; the last level is the root alone."""
    if not leaves:
        raise ValueError("a tree has at least one leaf")
    width = 1 << compute_depth(len(leaves))
    levels = [[*map(compute_leaf, leaves), *[ZERO_DIGEST] * (width - len(leaves))]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([_compute_node(below[i], below[i + 1]) for i in range(0, len(below), 2)])
    return levels
