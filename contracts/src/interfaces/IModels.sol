// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Fixing} from "../types/Fixing.sol";
import {IModel} from "./IModel.sol";

/// @title The models' verifiers.
interface IModels {
    event ModelFixed(IModel indexed model, Fixing fixing);

    error UnknownKey(bytes32 vkDigest);
    error NoOutputs();

    /// @notice Makes the verifier that `fixing` says, unless it is there. Anybody; its key must be registered.
    function fix(Fixing calldata fixing) external returns (IModel model);

    /// @return Where the verifier of `fixing` is, or would be.
    function addressOf(Fixing calldata fixing) external view returns (address);

    /// @return Whether `model` was made here.
    function isModel(IModel model) external view returns (bool);
}
