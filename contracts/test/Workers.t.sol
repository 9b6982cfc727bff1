// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IWorkers} from "../src/interfaces/IWorkers.sol";
import {Workers} from "../src/Workers.sol";
import {signBinding, vm} from "./Vm.sol";

/// @dev Plays `Jobs`: it makes the contract, and so may lock and slash.
contract WorkersTest {
    uint256 private constant _KEY = 0xA11CE;
    address private constant _BURN = 0x000000000000000000000000000000000000dEaD;
    address private constant _REPORTER = address(0xB0B);

    Workers private immutable _WORKERS = new Workers();
    address private immutable _WORKER = vm.addr(_KEY);

    function testFuzz_stakeIsFreeOrLockedOrGone(uint96 paid, uint96 locked, uint96 unlocked, uint96 slashed) external {
        locked = uint96(locked % (uint256(paid) + 1));
        unlocked = uint96(unlocked % (uint256(locked) + 1));
        slashed = uint96(slashed % (uint256(locked - unlocked) + 1));
        _register(paid);
        _WORKERS.lock(_WORKER, locked);
        _WORKERS.unlock(_WORKER, unlocked);
        _WORKERS.slash(_WORKER, slashed);
        assert(_WORKERS.freeStake(_WORKER) == uint256(paid) - locked + unlocked);
        assert(_WORKERS.lockedStake(_WORKER) == uint256(locked) - unlocked - slashed);
        assert(address(_WORKERS).balance == uint256(paid) - slashed);
        assert(_BURN.balance == slashed);
    }

    function testFuzz_onlyFreeStakeUnbonds(uint96 paid, uint96 locked, uint96 more) external {
        locked = uint96(locked % (uint256(paid) + 1));
        uint256 free = uint256(paid) - locked;
        uint128 wanted = uint128(free + 1 + more);
        _register(paid);
        _WORKERS.lock(_WORKER, locked);
        vm.expectRevert(abi.encodeWithSelector(IWorkers.StakeTooLow.selector, free, wanted));
        vm.prank(_WORKER);
        _WORKERS.unbond(wanted);
    }

    function testFuzz_unbondedStakeComesOutAfterTwoDaysAndNotBefore(uint96 paid, uint96 wanted, uint32 early) external {
        paid = paid == 0 ? 1 : paid;
        wanted = uint96(1 + wanted % paid);
        _register(paid);
        uint256 due = block.timestamp + 2 days;
        vm.prank(_WORKER);
        _WORKERS.unbond(wanted);
        vm.warp(due - 1 - early % 2 days);
        vm.expectRevert(abi.encodeWithSelector(IWorkers.StillUnbonding.selector, due));
        vm.prank(_WORKER);
        _WORKERS.withdraw();
        vm.warp(due);
        vm.prank(_WORKER);
        _WORKERS.withdraw();
        assert(_WORKER.balance == wanted);
        assert(address(_WORKERS).balance == uint256(paid) - wanted);
    }

    function testFuzz_aLiarAnswersWithWhatIsStillHere(uint96 paid, uint96 leaving, uint96 wanted) external {
        _register(paid);
        leaving = uint96(leaving % (uint256(paid) + 1));
        if (leaving > 0) {
            vm.prank(_WORKER);
            _WORKERS.unbond(leaving);
        }
        uint128 taken = _WORKERS.punish(_WORKER, wanted, false, _REPORTER);
        assert(taken == (wanted < paid ? wanted : paid));
        assert(_WORKERS.freeStake(_REPORTER) == taken / 10);
        assert(_BURN.balance == taken - taken / 10);
        assert(address(_WORKERS).balance == uint256(paid) - _BURN.balance);
    }

    function _register(uint96 paid) private {
        vm.deal(_WORKER, paid);
        bytes memory binding = signBinding(_KEY, address(_WORKERS));
        vm.prank(_WORKER);
        _WORKERS.register{value: paid}(bytes32(uint256(1)), bytes32(uint256(2)), 0, binding);
    }
}
