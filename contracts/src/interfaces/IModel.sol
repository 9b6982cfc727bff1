// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Fixing} from "../types/Fixing.sol";

/// @title A model that proofs can be checked against.
interface IModel {
    /// @return What the model is, for buyers to compare with the key and the weights that they rebuild.
    function fixing() external view returns (Fixing memory);

    /// @param input keccak of C(x), 64 bytes: which data the proof has to be about.
    /// @param keyWords The verifying key that `fixing().vkDigest` names.
    /// @return Whether `proof` shows that this model with its weights gives `instances` on that data. Never reverts for
    /// what a prover sent.
    function verify(bytes32 input, bytes calldata proof, uint256[] calldata instances, bytes32[] calldata keyWords)
        external
        view
        returns (bool);
}
