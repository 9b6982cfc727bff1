// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Assignment} from "../../src/libraries/Assignment.sol";

/// @title The library, where a test can call it.
contract AssignmentProbe {
    function page(bytes32 seed, uint256 pages, uint256 seats, uint256 seat, uint256 round, uint256 step)
        external
        pure
        returns (uint256)
    {
        return Assignment.page(seed, pages, seats, seat, round, step);
    }
}
