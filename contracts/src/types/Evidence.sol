// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Binds a proof to what is on chain: entry in set, leaf in receipt, page in root.
struct Evidence {
    uint32 round;
    bytes32 update;
    /// Merkle root of the worker's step leaves: the receipt root.
    bytes32 leaves;
    bytes32[] setPath;
    bytes32[] leafPath;
    uint32 page;
    bytes32[] pagePath;
}
