// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJobs} from "../../src/interfaces/IJobs.sol";
import {IPurse} from "../../src/interfaces/IPurse.sol";
import {Terms} from "../../src/types/Terms.sol";

/// @title Posts, cancels and withdraws, and calls `withdraw` again while it is being paid.
contract ReentrantRequester {
    IJobs private immutable _JOBS;
    bool public called;
    bool public succeeded;

    constructor(IJobs jobs) {
        _JOBS = jobs;
    }

    receive() external payable {
        called = true;
        (succeeded,) = address(_JOBS).call(abi.encodeCall(IPurse.withdraw, ()));
    }

    function attack(Terms calldata terms) external payable {
        _JOBS.cancel(_JOBS.post{value: msg.value}(terms, 0));
        IPurse(address(_JOBS)).withdraw();
    }
}
