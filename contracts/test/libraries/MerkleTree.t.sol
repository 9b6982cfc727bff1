// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleTree} from "../../src/libraries/MerkleTree.sol";

contract MerkleTreeTest {
    /// @dev A tree over `width` leaves of which one is `data`, made from the path alone: siblings are what they are.
    function testFuzz_aPathLeadsToItsRootOnly(bytes memory data, uint8 width, uint8 chosen, bytes32 salt)
        external
        view
    {
        uint256 leaves = uint256(width) + 1;
        uint256 index = chosen % leaves;
        bytes32[] memory path = new bytes32[](MerkleTree.depth(leaves));
        bytes32 node = keccak256(bytes.concat(bytes1(0x00), data));
        for (uint256 level = 0; level < path.length; ++level) {
            path[level] = keccak256(abi.encode(salt, level));
            bytes memory pair =
                (index >> level) & 1 == 1 ? bytes.concat(path[level], node) : bytes.concat(node, path[level]);
            node = keccak256(bytes.concat(bytes1(0x01), pair));
        }
        assert(this.contains(node, data, index, leaves, path));
        assert(!this.contains(node, bytes.concat(data, hex"00"), index, leaves, path));
        assert(!this.contains(keccak256(abi.encode(node)), data, index, leaves, path));
        assert(!this.contains(node, data, index + leaves, leaves, path));
        assert(!this.contains(node, data, index, 2 * leaves, path));
        for (uint256 other = 0; other < leaves; ++other) {
            assert(this.contains(node, data, other, leaves, path) == (other == index));
        }
    }

    /// @dev Of four leaves 1 and 2 meet at the root, 2 and 3 are siblings.
    function test_neighbours() external view {
        bytes32[] memory leaves = new bytes32[](4);
        for (uint256 i = 0; i < 4; ++i) {
            leaves[i] = keccak256(bytes.concat(bytes1(0x00), bytes32(i)));
        }
        bytes32 left = keccak256(bytes.concat(bytes1(0x01), leaves[0], leaves[1]));
        bytes32 right = keccak256(bytes.concat(bytes1(0x01), leaves[2], leaves[3]));
        bytes32 root = keccak256(bytes.concat(bytes1(0x01), left, right));
        bytes32[] memory path = new bytes32[](2);
        bytes32[] memory short = new bytes32[](1);
        bytes32[] memory none = new bytes32[](0);
        (path[0], path[1], short[0]) = (leaves[0], right, leaves[3]);
        assert(this.containsPair(root, _word(1), _word(2), 1, 4, path, short));
        assert(!this.containsPair(root, _word(1), _word(3), 1, 4, path, short));
        assert(!this.containsPair(root, _word(1), _word(2), 1, 4, path, none));
        assert(!this.containsPair(root, _word(1), _word(2), 1, 2, path, short));
        (path[0], path[1]) = (leaves[3], left);
        assert(this.containsPair(root, _word(2), _word(3), 2, 4, path, none));
        assert(!this.containsPair(root, _word(2), _word(3), 2, 4, path, short));
        assert(!this.containsPair(root, _word(2), _word(3), 2, 3, path, none));
    }

    function containsPair(
        bytes32 root,
        bytes memory data,
        bytes memory next,
        uint256 index,
        uint256 width,
        bytes32[] calldata path,
        bytes32[] calldata nextPath
    ) external pure returns (bool) {
        return MerkleTree.containsPair(root, data, next, index, width, path, nextPath);
    }

    function test_depths() external pure {
        uint8[9] memory expected = [0, 0, 1, 2, 2, 3, 3, 3, 3];
        for (uint256 width = 0; width < expected.length; ++width) {
            assert(MerkleTree.depth(width) == expected[width]);
        }
    }

    function contains(bytes32 root, bytes memory data, uint256 index, uint256 width, bytes32[] calldata path)
        external
        pure
        returns (bool)
    {
        return MerkleTree.contains(root, data, index, width, path);
    }

    function _word(uint256 value) private pure returns (bytes memory) {
        return abi.encode(value);
    }
}
