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

    function _hash(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return keccak256(bytes.concat(_NODE, left, right));
    }
}
