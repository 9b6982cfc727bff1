// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Verifying keys and the one verifier that checks proofs under them.
interface IVerifiers {
    error UnknownVerifier(bytes32 codeHash);
    error MalformedKey();
    /// The key's [τ]₂ is not the ceremony's.
    error ForeignSrs();

    /// @notice Registers a verifying key by its words (each 32 bytes); registering twice is harmless.
    /// @return digest keccak of the words: the key's name in a job's terms.
    function register(bytes32[] calldata words) external returns (bytes32 digest);

    /// @return Whether `proof` shows `instances` under the registered key `digest`, whose words are `words`.
    /// Never reverts for what a prover sent.
    function verify(bytes32 digest, bytes calldata proof, uint256[] calldata instances, bytes32[] calldata words)
        external
        view
        returns (bool);

    function isRegistered(bytes32 digest) external view returns (bool);

    /// @return Whether any structured reference string is accepted, an insecure local one included.
    function development() external view returns (bool);
}
