// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BLS} from "@kevincharm/bls-bn254/contracts/BLS.sol";

import {IBeacon} from "./interfaces/IBeacon.sol";

/// @title drand's evmnet: a threshold signature every three seconds, checked here by the BN254 precompiles.
/// @notice Scheme `bls-bn254-unchained-on-g1`, chain 04f1e9062b8a81f848fded9c12306733282b2727ecced50032187751166ec8c3.
/// Anybody posts a round; there is one valid signature a round, so whoever posts it chooses nothing.
contract Beacon is IBeacon {
    uint64 private constant _GENESIS = 1_727_521_075;
    uint64 private constant _PERIOD = 3;

    /// @dev Seconds by which a sequencer's clock may be slow: nobody may know a round before the block it decides over.
    uint64 private constant _MARGIN = 30;

    bytes private constant _DOMAIN = "BLS_SIG_BN254G1_XMD:KECCAK-256_SVDW_RO_NUL_";

    /// @dev drand writes the imaginary part of a coordinate first, the library wants the real one first.
    uint256 private constant _KEY_X1 = 0x07e1d1d335df83fa98462005690372c643340060d205306a9aa8106b6bd0b382;
    uint256 private constant _KEY_X0 = 0x0557ec32c2ad488e4d4f6008f89a346f18492092ccc0d594610de2732c8b808f;
    uint256 private constant _KEY_Y1 = 0x0095685ae3a85ba243747b1b2f426049010f6b73a0cf1d389351d5aaaa1047f6;
    uint256 private constant _KEY_Y0 = 0x297d3a4f9749b33eb2d904c9d9ebf17224150ddd7abd7567a9bec6c74480ee0b;

    mapping(uint64 round => bytes32) private _randomness;

    event RoundPosted(uint64 indexed round, bytes32 randomness);

    error BadBeacon(uint64 round);

    /// @notice Stores a round's randomness for everybody. Posting again changes nothing.
    /// @param signature The round's point in G1: x then y.
    function post(uint64 round, uint256[2] calldata signature) external {
        if (!_isSigned(round, signature)) revert BadBeacon(round);
        bytes32 value = sha256(abi.encodePacked(signature));
        _randomness[round] = value;
        emit RoundPosted(round, value);
    }

    /// @inheritdoc IBeacon
    function roundAt(uint64 timestamp) external pure returns (uint64) {
        uint64 known = timestamp + _MARGIN;
        return known < _GENESIS ? 1 : (known - _GENESIS) / _PERIOD + 2;
    }

    /// @inheritdoc IBeacon
    function timeOf(uint64 round) external pure returns (uint64) {
        return _GENESIS + (round - 1) * _PERIOD;
    }

    /// @inheritdoc IBeacon
    function randomness(uint64 round) external view returns (bytes32 value) {
        value = _randomness[round];
        if (value == 0) revert BeaconNotOut(round);
    }

    /// @inheritdoc IBeacon
    function isTest() external pure returns (bool) {
        return false;
    }

    /// @dev The library checks that the coordinates are canonical and on the curve (G1's cofactor is one); without
    /// that a point at infinity or a second form of the same point might pass.
    function _isSigned(uint64 round, uint256[2] memory signature) private view returns (bool) {
        if (!BLS.isValidSignature(signature)) return false;
        uint256[2] memory message = BLS.hashToPoint(_DOMAIN, abi.encodePacked(keccak256(abi.encodePacked(round))));
        uint256[4] memory key = [_KEY_X0, _KEY_X1, _KEY_Y0, _KEY_Y1];
        (bool holds, bool called) = BLS.verifySingle(signature, key, message);
        return called && holds;
    }
}
