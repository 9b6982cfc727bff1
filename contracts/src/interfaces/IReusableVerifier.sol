// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title ezkl's reusable verifier (contracts/vendor/Halo2VerifierReusable.sol), as far as it can be typed.
/// @dev `verifyProof` writes no state, but isn't marked `view`; its third return value is malformed and is left out.
interface IReusableVerifier {
    function registerVka(bytes32[] memory vka) external returns (bytes32 digest);

    function verifyProof(bytes calldata proof, uint256[] calldata instances, bytes32[] memory vka)
        external
        returns (bool success, bytes32 digest);
}
