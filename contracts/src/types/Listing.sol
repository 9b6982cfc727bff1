// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IModel} from "../interfaces/IModel.sol";

enum Ware {
    MODEL,
    DATASET
}

/// @notice What a seller offers, for good: to change it, list anew and delist.
struct Listing {
    Ware ware;
    /// Hash of the sealed content's manifest (blake3): what a buyer fetches and the key opens.
    bytes32 content;
    /// keccak of the licence and whatever else buyer and seller agree on; the text is with the content.
    bytes32 terms;
    /// What is paid in; the zero address is the native token.
    address token;
    /// Of the key that opens the content; 0 where it isn't for sale.
    uint128 price;
    /// Of one inference; 0 where none are offered.
    uint128 inferencePrice;
    /// Where inference is offered: the model's verifier, made by `Models`.
    IModel model;
    /// Seconds that the seller has to deliver a key or an answer.
    uint32 window;
    /// Gets the royalty: whoever made what this was made from.
    address creator;
    /// Of each payment, in hundredths of a per cent.
    uint16 royalty;
}
