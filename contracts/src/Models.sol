// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Create2} from "@openzeppelin/contracts/utils/Create2.sol";

import {IModel} from "./interfaces/IModel.sol";
import {IModels} from "./interfaces/IModels.sol";
import {IVerifiers} from "./interfaces/IVerifiers.sol";
import {Model} from "./Model.sol";
import {Fixing} from "./types/Fixing.sol";

/// @title Models: makes each model's verifier, of one code, at an address that follows from what it fixes.
contract Models is IModels {
    IVerifiers public immutable verifiers;

    /// @inheritdoc IModels
    mapping(IModel model => bool) public isModel;

    constructor(IVerifiers verifiers_) {
        verifiers = verifiers_;
    }

    /// @inheritdoc IModels
    function fix(Fixing calldata fixing) external returns (IModel model) {
        model = IModel(addressOf(fixing));
        if (isModel[model]) return model;
        if (!verifiers.isRegistered(fixing.vkDigest)) revert UnknownKey(fixing.vkDigest);
        if (fixing.outputs == 0) revert NoOutputs();
        isModel[model] = true;
        emit ModelFixed(model, fixing);
        new Model{salt: 0}(verifiers, fixing);
    }

    /// @inheritdoc IModels
    function addressOf(Fixing calldata fixing) public view returns (address) {
        bytes memory code = abi.encodePacked(type(Model).creationCode, abi.encode(verifiers, fixing));
        return Create2.computeAddress(0, keccak256(code));
    }
}
