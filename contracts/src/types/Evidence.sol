// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Binds a proof to what is on chain: entry in set, leaves in receipt, page in root.
struct Evidence {
    uint32 round;
    /// keccak of C(θ) of the state that the round began with; zero in evaluation jobs.
    bytes32 start;
    bytes32 update;
    /// Merkle root of the worker's step leaves: the receipt root.
    bytes32 leaves;
    bytes32[] setPath;
    /// The drawn inner step t; in evaluation jobs the terms' `steps`.
    uint32 step;
    /// Of leaf t; empty in evaluation jobs, whose receipt is one leaf.
    bytes32[] leafPath;
    /// Of leaf t + 1, up to where its way joins that of leaf t; not looked at in evaluation jobs.
    bytes32[] nextPath;
    uint32 page;
    bytes32[] pagePath;
}
