// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Merkle trees as in `protocols/merkle.py`: by index, leaves and nodes told apart, padded with zero words.
/// @dev OpenZeppelin's MerkleProof sorts each pair and so loses the index, which these statements are about.
library MerkleTree {
    bytes1 private constant _LEAF = 0x00;
    bytes1 private constant _NODE = 0x01;

    /// @param data Encoded leaf, before hashing.
    /// @param width Number of leaves: fixes the length of the path.
    /// @return Whether `data` is leaf `index` of the tree of `width` leaves under `root`.
    function contains(bytes32 root, bytes memory data, uint256 index, uint256 width, bytes32[] calldata path)
        internal
        pure
        returns (bool)
    {
        return index < width && path.length == depth(width) && rootOf(data, index, path) == root;
    }

    /// @dev Below the level where the ways of two neighbours join, the first is a right child throughout and the second a
    /// left child; what the second comes to there is the sibling in the first one's path.
    /// @param nextPath Of the second, up to that level.
    /// @return Whether `data` is leaf `index` of the tree of `width` leaves under `root`, and `next` the one after it.
    function containsPair(
        bytes32 root,
        bytes memory data,
        bytes memory next,
        uint256 index,
        uint256 width,
        bytes32[] calldata path,
        bytes32[] calldata nextPath
    ) internal pure returns (bool) {
        if (index + 1 >= width || !contains(root, data, index, width, path)) return false;
        uint256 joint = 0;
        while ((index >> joint) & 1 == 1) ++joint;
        return nextPath.length == joint && rootOf(next, 0, nextPath) == path[joint];
    }

    /// @return node The root of a tree in which `data` is leaf `index`, beside what `path` says; its length is not looked at.
    function rootOf(bytes memory data, uint256 index, bytes32[] calldata path) internal pure returns (bytes32 node) {
        node = keccak256(bytes.concat(_LEAF, data));
        for (uint256 level = 0; level < path.length; ++level) {
            node = (index >> level) & 1 == 1 ? _hash(path[level], node) : _hash(node, path[level]);
        }
    }

    /// @return levels The smallest number with 2**levels ≥ width.
    function depth(uint256 width) internal pure returns (uint256 levels) {
        while ((1 << levels) < width) ++levels;
    }

    /// @dev keccak256(bytes.concat(_NODE, left, right)) without keeping the bytes: a proof needs some dozens of these.
    function _hash(bytes32 left, bytes32 right) private pure returns (bytes32 node) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, _NODE)
            mstore(add(free, 1), left)
            mstore(add(free, 33), right)
            node := keccak256(free, 65)
        }
    }
}
