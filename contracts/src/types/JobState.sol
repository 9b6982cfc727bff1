// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice The life of a job, numbered as in `protocols/chain.py`.
enum JobState {
    NONE,
    OPEN,
    ASSIGNED,
    TRAINING,
    PROVING,
    SETTLED,
    CANCELLED,
    EXPIRED
}
