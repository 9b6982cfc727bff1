// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IWorkers} from "../src/interfaces/IWorkers.sol";
import {Workers} from "../src/Workers.sol";
import {vm} from "./Vm.sol";

/// @dev Plays `Jobs`.
contract WorkersTest {
    uint256 private constant _KEY = 0xA11CE;
    address private constant _BURN = 0x000000000000000000000000000000000000dEaD;

    Workers private immutable _WORKERS = new Workers(address(this));
    address private immutable _WORKER = vm.addr(_KEY);

    function testFuzz_stakeIsFreeOrLockedOrGone(uint96 paid, uint96 locked, uint96 unlocked, uint96 slashed) external {
        vm.assume(locked <= paid && uint256(unlocked) + slashed <= locked);
        _register(paid);
        _WORKERS.lock(_WORKER, locked);
        _WORKERS.unlock(_WORKER, unlocked);
        _WORKERS.slash(_WORKER, slashed);
        assert(_WORKERS.freeStake(_WORKER) == uint256(paid) - locked + unlocked);
        assert(_WORKERS.lockedStake(_WORKER) == uint256(locked) - unlocked - slashed);
        assert(address(_WORKERS).balance == uint256(paid) - slashed);
        assert(_BURN.balance == slashed);
    }

    function testFuzz_lockedStakeStays(uint96 paid, uint96 locked, uint96 wanted) external {
        vm.assume(locked <= paid && wanted > paid - locked);
        _register(paid);
        _WORKERS.lock(_WORKER, locked);
        vm.expectRevert(abi.encodeWithSelector(IWorkers.StakeTooLow.selector, paid - locked, wanted));
        vm.prank(_WORKER);
        _WORKERS.withdraw(wanted);
    }

    function _register(uint96 paid) private {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("SkyNet"),
                keccak256("1"),
                block.chainid,
                address(_WORKERS)
            )
        );
        bytes32 statement = keccak256(
            abi.encode(
                keccak256("Binding(address wallet,bytes32 nodeKey,bytes32 encryptionKey,bytes32 capabilities)"),
                _WORKER,
                bytes32(uint256(1)),
                bytes32(uint256(2)),
                bytes32(0)
            )
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_KEY, keccak256(abi.encodePacked(hex"1901", domain, statement)));
        vm.deal(_WORKER, paid);
        vm.prank(_WORKER);
        _WORKERS.register{value: paid}(bytes32(uint256(1)), bytes32(uint256(2)), 0, abi.encodePacked(r, s, v));
    }
}
