// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SeatSet} from "./SeatSet.sol";

/// @notice A quorum's word on one round.
struct Certificate {
    uint32 round;
    uint32 view_;
    /// Digest of the last certificate; zero for the first.
    bytes32 parent;
    /// Merkle root over (job, round, worker, update, leaves) of the participants, by seat.
    bytes32 setRoot;
    /// Hash of θ_{r+1}.
    bytes32 state;
    /// C(θ_{r+1}): 64 bytes, x then y.
    bytes commitment;
    SeatSet participants;
    SeatSet signers;
    /// EIP-712 `Vote`s, 65 bytes each, ordered by seat.
    bytes[] signatures;
}
