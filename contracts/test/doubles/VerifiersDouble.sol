// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IVerifiers} from "../../src/interfaces/IVerifiers.sol";

/// @title Stands in for `Verifiers` where a test is about everything but the proof.
/// @notice Takes any key for registered, and a proof for valid when its last byte is 1.
contract VerifiersDouble is IVerifiers {
    bool public immutable development;

    constructor(bool development_) {
        development = development_;
    }

    function register(bytes32[] calldata words) external pure returns (bytes32 digest) {
        return keccak256(abi.encodePacked(words));
    }

    function verify(bytes32, bytes calldata proof, uint256[] calldata, bytes32[] calldata)
        external
        pure
        returns (bool)
    {
        return proof[proof.length - 1] == 0x01;
    }

    function isRegistered(bytes32 digest) external pure returns (bool) {
        return digest != 0;
    }
}
