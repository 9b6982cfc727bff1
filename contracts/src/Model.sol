// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModel} from "./interfaces/IModel.sol";
import {IVerifiers} from "./interfaces/IVerifiers.sol";
import {Fixing, StatementKind} from "./types/Fixing.sol";

/// @title One model's verifier: a verifying key, the weights it is about, and how to read its numbers.
/// @notice The key alone says nothing about the weights: all weights of an architecture share one key, and a proof
/// brings its own commitment to them. This contract compares that commitment with the model's.
contract Model is IModel {
    /// @dev ezkl puts the commitments of a circuit's inputs first: the data, then the parameters.
    uint256 private constant _POINT = 64;

    /// @dev Order of BN254's scalar field: v and v + order would be one instance with two readings.
    uint256 private constant _FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    IVerifiers public immutable verifiers;
    bytes32 public immutable vkDigest;
    bytes32 public immutable weights;
    StatementKind public immutable statement;
    uint8 public immutable inputScale;
    uint8 public immutable outputScale;
    uint16 public immutable outputs;

    constructor(IVerifiers verifiers_, Fixing memory fixing_) {
        verifiers = verifiers_;
        vkDigest = fixing_.vkDigest;
        weights = fixing_.weights;
        statement = fixing_.statement;
        inputScale = fixing_.inputScale;
        outputScale = fixing_.outputScale;
        outputs = fixing_.outputs;
    }

    /// @inheritdoc IModel
    function fixing() external view returns (Fixing memory) {
        return Fixing(vkDigest, weights, statement, inputScale, outputScale, outputs);
    }

    /// @inheritdoc IModel
    function verify(bytes32 input, bytes calldata proof, uint256[] calldata instances, bytes32[] calldata keyWords)
        external
        view
        returns (bool)
    {
        if (proof.length < 2 * _POINT || instances.length != outputs) return false;
        if (keccak256(proof[:_POINT]) != input) return false;
        if (keccak256(proof[_POINT:2 * _POINT]) != weights) return false;
        for (uint256 i = 0; i < instances.length; ++i) {
            if (instances[i] >= _FIELD) return false;
        }
        return verifiers.verify(vkDigest, proof, instances, keyWords);
    }
}
