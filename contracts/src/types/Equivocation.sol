// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SeatSet} from "./SeatSet.sol";

/// @notice What one vote says besides its round and parent.
struct Ballot {
    uint32 view_;
    bytes32 setRoot;
    SeatSet participants;
    bytes32 state;
    /// C(θ_{r+1}): 64 bytes, x then y.
    bytes commitment;
    /// EIP-712 `Vote`, 65 bytes.
    bytes signature;
}

/// @notice Two votes of one seat for one round on one parent: an honest worker signs one set a round, in whatever view.
struct Equivocation {
    uint32 round;
    bytes32 parent;
    Ballot first;
    Ballot second;
}
