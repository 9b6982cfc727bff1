// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Public randomness that nobody knew before its time.
interface IBeacon {
    error BeaconNotOut(uint64 round);

    /// @return The smallest round that nobody can know at `timestamp`, however slow the chain's clock may reasonably be.
    function roundAt(uint64 timestamp) external view returns (uint64);

    /// @return When `round` comes out, in seconds.
    function timeOf(uint64 round) external view returns (uint64);

    /// @notice Reverts with `BeaconNotOut` before the round is out.
    function randomness(uint64 round) external view returns (bytes32);

    /// @return Whether anybody can compute the randomness beforehand.
    function isTest() external view returns (bool);
}
