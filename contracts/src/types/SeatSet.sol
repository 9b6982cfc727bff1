// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A set of a job's seats: bit i is seat i. At most 64 seats a job.
type SeatSet is uint64;

using {has, count, isEmpty, isWithin, rank} for SeatSet global;

function has(SeatSet self, uint256 seat) pure returns (bool) {
    return (SeatSet.unwrap(self) >> seat) & 1 == 1;
}

function isEmpty(SeatSet self) pure returns (bool) {
    return SeatSet.unwrap(self) == 0;
}

/// @dev Kernighan's loop: one turn a member.
function count(SeatSet self) pure returns (uint256 members) {
    for (uint64 bits = SeatSet.unwrap(self); bits != 0; bits &= bits - 1) {
        ++members;
    }
}

/// @return Whether no seat at or above `seats` is in the set.
function isWithin(SeatSet self, uint256 seats) pure returns (bool) {
    return uint256(SeatSet.unwrap(self)) >> seats == 0;
}

/// @return How many members sit before `seat`: the index of its leaf in the round's set.
function rank(SeatSet self, uint256 seat) pure returns (uint256) {
    uint256 before = uint256(SeatSet.unwrap(self)) & ((1 << seat) - 1);
    return count(SeatSet.wrap(uint64(before)));
}
