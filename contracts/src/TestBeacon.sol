// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBeacon} from "./interfaces/IBeacon.sol";

/// @title A beacon for local chains: a round a second, and anybody can compute it beforehand.
contract TestBeacon is IBeacon {
    bytes32 private constant _SEED = keccak256("skynet test beacon");

    /// @inheritdoc IBeacon
    function roundAt(uint64 timestamp) external pure returns (uint64) {
        return timestamp + 1;
    }

    /// @inheritdoc IBeacon
    function timeOf(uint64 round) external pure returns (uint64) {
        return round;
    }

    /// @inheritdoc IBeacon
    function randomness(uint64 round) external view returns (bytes32) {
        if (block.timestamp < round) revert BeaconNotOut(round);
        return keccak256(abi.encode(_SEED, round));
    }

    /// @inheritdoc IBeacon
    function isTest() external pure returns (bool) {
        return true;
    }
}
