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
}
