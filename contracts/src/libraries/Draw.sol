// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What chance decides, as in `protocols/draw.py`.
library Draw {
    bytes32 private constant _SEATS = keccak256("skynet seats");
    bytes32 private constant _CHALLENGE = keccak256("skynet challenge");

    /// @notice A partial Fisher-Yates shuffle of `applicants`, in place: the first `seats` are seated, in this order.
    function shuffle(bytes32 job, bytes32 randomness, address[] memory applicants, uint256 seats) internal view {
        bytes32 seed = keccak256(abi.encode(_SEATS, block.chainid, address(this), job, randomness));
        for (uint256 i = 0; i < seats; ++i) {
            uint256 j = i + uint256(keccak256(abi.encode(seed, i))) % (applicants.length - i);
            (applicants[i], applicants[j]) = (applicants[j], applicants[i]);
        }
    }

    /// @return One seed a worker, fixed by what all workers certified and by the beacon after it.
    function challengeSeed(bytes32 job, address worker, bytes32 certificate, bytes32 randomness)
        internal
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(_CHALLENGE, block.chainid, address(this), job, worker, certificate, randomness));
    }

    /// @return A page of an evaluation job, or an inner step of a training job.
    function below(bytes32 seed, uint256 sample, uint256 limit) internal pure returns (uint32) {
        return uint32(uint256(keccak256(abi.encode(seed, sample, 1))) % limit);
    }

    /// @return Which of the worker's `participations` rounds sample `sample` is about, counted from 0.
    function participation(bytes32 seed, uint256 sample, uint256 participations) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, sample, 0))) % participations;
    }
}
