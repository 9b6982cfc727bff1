// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Beacon} from "../src/Beacon.sol";

contract BeaconTest {
    Beacon private immutable _BEACON = new Beacon();

    function testFuzz_nobodyKnowsTheRoundAtItsTime(uint40 timestamp) external view {
        uint64 round = _BEACON.roundAt(timestamp);
        uint64 time = _BEACON.timeOf(round);
        assert(time > uint64(timestamp) + 30);
        assert(round == 1 || time <= uint64(timestamp) + 33);
    }

    function testFuzz_noPointButTheSignatureIsTaken(uint64 round, uint256[2] calldata signature) external {
        try _BEACON.post(round, signature) {
            assert(false);
        } catch {}
    }
}
