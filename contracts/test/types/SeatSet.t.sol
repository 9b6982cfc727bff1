// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SeatSet} from "../../src/types/SeatSet.sol";

contract SeatSetTest {
    function testFuzz_membersAreCounted(uint64 bits) external pure {
        SeatSet set = SeatSet.wrap(bits);
        uint256 members = 0;
        for (uint256 seat = 0; seat < 64; ++seat) {
            assert(set.rank(seat) == members);
            if (set.has(seat)) ++members;
        }
        assert(set.count() == members);
        assert(set.isEmpty() == (members == 0));
    }

    function testFuzz_withinIsBelow(uint64 bits, uint8 seats) external pure {
        uint256 bound = seats % 65;
        bool below = true;
        for (uint256 seat = bound; seat < 64; ++seat) {
            below = below && !SeatSet.wrap(bits).has(seat);
        }
        assert(SeatSet.wrap(bits).isWithin(bound) == below);
    }
}
