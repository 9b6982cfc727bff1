// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SeatSet} from "./SeatSet.sol";

/// @notice Rounds in which each seat took part: 16 bits a seat, so that a round of 16 workers writes one slot.
struct Tally {
    uint256[4] words;
}

using {add, count} for Tally global;

/// @notice One more for each seat in `participants`. No seat overflows into the next: there are at most 1,024 rounds.
function add(Tally storage self, SeatSet participants) {
    uint256 bits = SeatSet.unwrap(participants);
    for (uint256 word = 0; bits != 0; ++word) {
        uint256 ones = 0;
        for (uint256 lane = 0; lane < 16; ++lane) {
            ones |= ((bits >> lane) & 1) << (16 * lane);
        }
        if (ones != 0) self.words[word] += ones;
        bits >>= 16;
    }
}

function count(Tally storage self, uint256 seat) view returns (uint256) {
    return (self.words[seat / 16] >> (16 * (seat % 16))) & 0xffff;
}
