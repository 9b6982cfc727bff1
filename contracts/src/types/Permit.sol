// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A signed allowance (EIP-2612) of what posting costs.
struct Permit {
    uint256 deadline;
    uint8 v;
    bytes32 r;
    bytes32 s;
}
