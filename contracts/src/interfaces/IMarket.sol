// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Listing} from "../types/Listing.sol";

/// @title Models and data for money: keys sold, inference paid on a verified proof.
interface IMarket {
    enum OrderState {
        NONE,
        PAID,
        FILLED,
        REFUNDED
    }

    // -- Events ------------------------------------------------------------------

    /// @param cid Where the sealed content is: an IPFS CID, as text.
    event Listed(bytes32 indexed listing, address indexed seller, Listing offer, string cid);
    event Delisted(bytes32 indexed listing);
    /// @param buyerKey X25519 public key that the content's key is to be sealed to.
    event Purchased(
        bytes32 indexed order, bytes32 indexed listing, address indexed buyer, bytes32 buyerKey, uint64 deadline
    );
    event KeyDelivered(bytes32 indexed order, bytes sealedKey);
    /// @param input keccak of C(x).
    /// @param data Where the input is, sealed to the seller.
    event InferenceRequested(
        bytes32 indexed order, bytes32 indexed listing, address indexed buyer, bytes32 input, bytes data, uint64 deadline
    );
    event Inferred(bytes32 indexed order, uint256[] instances);
    event RoyaltyPaid(bytes32 indexed order, address indexed creator, uint256 amount);
    event SellerPaid(bytes32 indexed order, address indexed seller, uint256 amount);
    event Refunded(bytes32 indexed order, address indexed buyer, uint256 amount);

    // -- Errors ------------------------------------------------------------------

    error UnknownListing();
    error ListingExists();
    error NotSeller();
    error NoContent();
    error NothingForSale();
    error NoWindow();
    /// More than the whole, or to nobody.
    error BadRoyalty();
    /// Not made by `Models`, or not about inference.
    error UnknownModel();
    /// The listing doesn't offer this, or is withdrawn.
    error NotForSale();
    error EmptyKey();
    error OrderExists();
    error WrongOrder(OrderState state);
    error TooEarly(uint64 deadline);
    error TooLate(uint64 deadline);
    error ProofInvalid();

    // -- Calls -------------------------------------------------------------------

    /// @param nonce Any; a seller uses one only once.
    /// @return id keccak of (chain, contract, seller, nonce).
    function list(Listing calldata offer, string calldata cid, bytes32 nonce) external returns (bytes32 id);

    /// @notice Takes no more orders; those that are paid stay to be filled. Seller only.
    function delist(bytes32 listing) external;

    /// @notice Pays the price of the content's key into escrow.
    /// @param nonce Any; a buyer uses one only once.
    /// @return order keccak of (chain, contract, buyer, nonce).
    function buy(bytes32 listing, bytes32 buyerKey, bytes32 nonce) external payable returns (bytes32 order);

    /// @notice Hands over the key, sealed to the buyer's, and earns the price. Seller only, before the deadline.
    /// @dev Whether the sealed key opens the content can't be seen from here: it is the seller's word, on record.
    function deliverKey(bytes32 order, bytes calldata sealedKey) external;

    /// @notice Pays for one inference into escrow.
    /// @param input keccak of C(x), 64 bytes: what the proof has to be about.
    function requestInference(bytes32 listing, bytes32 input, bytes calldata data, bytes32 nonce)
        external
        payable
        returns (bytes32 order);

    /// @notice Gives the outputs with their proof, before the deadline. Anybody may send it; the seller is paid.
    function answer(bytes32 order, bytes calldata proof, uint256[] calldata instances, bytes32[] calldata keyWords)
        external;

    /// @notice Gives the buyer its money back after the deadline of an order that nobody filled. Anybody.
    function refund(bytes32 order) external;
}
