// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What a circuit's public instances say.
enum StatementKind {
    /// I: instances are the model's outputs on the committed input.
    INFERENCE,
    /// E: the one instance is a loss on the committed pages.
    EVALUATION
}

/// @notice All that makes a verifying key into a model's verifier.
struct Fixing {
    /// Verifying key as registered in `Verifiers`.
    bytes32 vkDigest;
    /// keccak of C(weights), 64 bytes: x then y.
    bytes32 weights;
    StatementKind statement;
    /// Bits after the binary point of the inputs.
    uint8 inputScale;
    /// Bits after the binary point of the instances.
    uint8 outputScale;
    /// How many public instances a proof has.
    uint16 outputs;
}
