// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMarket} from "./interfaces/IMarket.sol";
import {IModel} from "./interfaces/IModel.sol";
import {IModels} from "./interfaces/IModels.sol";
import {Purse} from "./Purse.sol";
import {StatementKind} from "./types/Fixing.sol";
import {Listing} from "./types/Listing.sol";

/// @title Market: listings of models and data, keys sold, inference paid on a verified proof.
/// @notice Has no owner. An order's money goes to its seller (and the content's creator) or back to its buyer; both
/// pull it out. "Before" a deadline is block.timestamp < deadline.
/// @dev    PAID ─key or proof in time→ FILLED        PAID ─refund after the deadline→ REFUNDED
contract Market is IMarket, Purse {
    uint256 private constant _WHOLE = 10_000;

    /// @notice A listing, as orders need it.
    struct Offer {
        address seller;
        uint32 window;
        bool open;
        address token;
        address creator;
        uint16 royalty;
        uint128 price;
        uint128 inferencePrice;
        IModel model;
    }

    /// @notice A paid order. What is escrowed is fixed when it is paid.
    struct Order {
        address buyer;
        uint64 deadline;
        OrderState state;
        bytes32 listing;
        /// keccak of C(x); zero where a key was bought.
        bytes32 input;
        uint128 amount;
    }

    IModels public immutable models;

    mapping(bytes32 listing => Offer) public offerOf;
    mapping(bytes32 order => Order) public orderOf;

    constructor(IModels models_) {
        models = models_;
    }

    // -- Selling -----------------------------------------------------------------

    /// @inheritdoc IMarket
    function list(Listing calldata offer, string calldata cid, bytes32 nonce) external returns (bytes32 id) {
        id = keccak256(abi.encode(block.chainid, address(this), msg.sender, nonce));
        if (offerOf[id].seller != address(0)) revert ListingExists();
        _validate(offer);
        offerOf[id] = Offer({
            seller: msg.sender,
            window: offer.window,
            open: true,
            token: offer.token,
            creator: offer.creator,
            royalty: offer.royalty,
            price: offer.price,
            inferencePrice: offer.inferencePrice,
            model: offer.model
        });
        emit Listed(id, msg.sender, offer, cid);
    }

    /// @inheritdoc IMarket
    function delist(bytes32 listing) external {
        Offer storage offer = _find(listing);
        if (msg.sender != offer.seller) revert NotSeller();
        offer.open = false;
        emit Delisted(listing);
    }

    // -- Keys --------------------------------------------------------------------

    /// @inheritdoc IMarket
    function buy(bytes32 listing, bytes32 buyerKey, bytes32 nonce)
        external
        payable
        nonReentrant
        returns (bytes32 order)
    {
        if (buyerKey == 0) revert EmptyKey();
        uint64 deadline;
        (order, deadline) = _pay(listing, _find(listing).price, 0, nonce);
        emit Purchased(order, listing, msg.sender, buyerKey, deadline);
    }

    /// @inheritdoc IMarket
    function deliverKey(bytes32 order, bytes calldata sealedKey) external {
        Order storage paid = _findInTime(order);
        if (msg.sender != offerOf[paid.listing].seller) revert NotSeller();
        if (paid.input != 0) revert NotForSale();
        if (sealedKey.length == 0) revert EmptyKey();
        emit KeyDelivered(order, sealedKey);
        _fill(order);
    }

    // -- Inference ---------------------------------------------------------------

    /// @inheritdoc IMarket
    function requestInference(bytes32 listing, bytes32 input, bytes calldata data, bytes32 nonce)
        external
        payable
        nonReentrant
        returns (bytes32 order)
    {
        if (input == 0) revert EmptyKey();
        uint64 deadline;
        (order, deadline) = _pay(listing, _find(listing).inferencePrice, input, nonce);
        emit InferenceRequested(order, listing, msg.sender, input, data, deadline);
    }

    /// @inheritdoc IMarket
    function answer(bytes32 order, bytes calldata proof, uint256[] calldata instances, bytes32[] calldata keyWords)
        external
    {
        Order storage paid = _findInTime(order);
        if (paid.input == 0) revert NotForSale();
        IModel model = offerOf[paid.listing].model;
        if (!model.verify(paid.input, proof, instances, keyWords)) revert ProofInvalid();
        emit Inferred(order, instances);
        _fill(order);
    }

    // -- Back --------------------------------------------------------------------

    /// @inheritdoc IMarket
    function refund(bytes32 order) external {
        Order storage paid = orderOf[order];
        if (paid.state != OrderState.PAID) revert WrongOrder(paid.state);
        if (block.timestamp < paid.deadline) revert TooEarly(paid.deadline);
        paid.state = OrderState.REFUNDED;
        _owe(offerOf[paid.listing].token, paid.buyer, paid.amount);
        emit Refunded(order, paid.buyer, paid.amount);
    }

    // -- Private -----------------------------------------------------------------

    function _validate(Listing calldata offer) private view {
        if (offer.content == 0) revert NoContent();
        if (offer.price == 0 && offer.inferencePrice == 0) revert NothingForSale();
        if (offer.window == 0) revert NoWindow();
        if (offer.royalty > _WHOLE || (offer.royalty > 0 && offer.creator == address(0))) revert BadRoyalty();
        if (offer.inferencePrice == 0) return;
        if (!models.isModel(offer.model) || offer.model.fixing().statement != StatementKind.INFERENCE) {
            revert UnknownModel();
        }
    }

    function _find(bytes32 listing) private view returns (Offer storage offer) {
        offer = offerOf[listing];
        if (offer.seller == address(0)) revert UnknownListing();
    }

    function _findInTime(bytes32 order) private view returns (Order storage paid) {
        paid = orderOf[order];
        if (paid.state != OrderState.PAID) revert WrongOrder(paid.state);
        if (block.timestamp >= paid.deadline) revert TooLate(paid.deadline);
    }

    function _pay(bytes32 listing, uint128 price, bytes32 input, bytes32 nonce)
        private
        returns (bytes32 order, uint64 deadline)
    {
        Offer storage offer = offerOf[listing];
        if (!offer.open || price == 0) revert NotForSale();
        order = keccak256(abi.encode(block.chainid, address(this), msg.sender, nonce));
        if (orderOf[order].state != OrderState.NONE) revert OrderExists();
        deadline = uint64(block.timestamp) + offer.window;
        orderOf[order] = Order(msg.sender, deadline, OrderState.PAID, listing, input, price);
        _take(offer.token, price);
    }

    function _fill(bytes32 order) private {
        Order storage paid = orderOf[order];
        Offer storage offer = offerOf[paid.listing];
        paid.state = OrderState.FILLED;
        uint256 royalty = uint256(paid.amount) * offer.royalty / _WHOLE;
        if (royalty > 0) {
            _owe(offer.token, offer.creator, royalty);
            emit RoyaltyPaid(order, offer.creator, royalty);
        }
        _owe(offer.token, offer.seller, paid.amount - royalty);
        emit SellerPaid(order, offer.seller, paid.amount - royalty);
    }
}
