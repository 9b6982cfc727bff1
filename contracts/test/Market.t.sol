// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IMarket} from "../src/interfaces/IMarket.sol";
import {IModel} from "../src/interfaces/IModel.sol";
import {IModels} from "../src/interfaces/IModels.sol";
import {Market} from "../src/Market.sol";
import {Listing, Ware} from "../src/types/Listing.sol";
import {vm} from "./Vm.sol";

/// @dev Sellers, buyers, creators and time, each call at random; what can't be done is not done.
contract MarketHandler {
    uint256 private constant _PEOPLE = 4;

    Market public immutable market = new Market(IModels(address(0)));
    bytes32[] public listings;
    bytes32[] public orders;
    mapping(bytes32 order => uint256) public paid;
    uint256 public paidIn;
    uint256 public takenOut;

    function list(uint256 who, uint96 price, uint16 window, uint256 royalty) external {
        address seller = person(who);
        Listing memory offer = Listing({
            ware: Ware.MODEL,
            content: bytes32(uint256(1)),
            terms: 0,
            token: address(0),
            price: uint128(price) + 1,
            inferencePrice: 0,
            model: IModel(address(0)),
            window: uint32(window) + 1,
            creator: person(royalty),
            royalty: uint16(royalty % 10_001)
        });
        vm.prank(seller);
        listings.push(market.list(offer, "", bytes32(listings.length)));
    }

    function buy(uint256 who, uint256 which) external {
        if (listings.length == 0) return;
        bytes32 listing = listings[which % listings.length];
        (,, bool open,,,, uint128 price,,) = market.offerOf(listing);
        if (!open) return;
        address buyer = person(who);
        vm.deal(buyer, buyer.balance + price);
        vm.prank(buyer);
        bytes32 order = market.buy{value: price}(listing, bytes32(uint256(1)), bytes32(orders.length));
        orders.push(order);
        paid[order] = price;
        paidIn += price;
    }

    function delist(uint256 which) external {
        if (listings.length == 0) return;
        bytes32 listing = listings[which % listings.length];
        (address seller,,,,,,,,) = market.offerOf(listing);
        vm.prank(seller);
        market.delist(listing);
    }

    function deliver(uint256 which) external {
        if (orders.length == 0) return;
        bytes32 order = orders[which % orders.length];
        (, uint64 deadline, IMarket.OrderState state, bytes32 listing,,) = market.orderOf(order);
        (address seller,,,,,,,,) = market.offerOf(listing);
        bool fits = state == IMarket.OrderState.PAID && block.timestamp < deadline;
        vm.prank(seller);
        try market.deliverKey(order, hex"01") {
            assert(fits);
        } catch {
            assert(!fits);
        }
    }

    function refund(uint256 which) external {
        if (orders.length == 0) return;
        bytes32 order = orders[which % orders.length];
        (, uint64 deadline, IMarket.OrderState state,,,) = market.orderOf(order);
        bool fits = state == IMarket.OrderState.PAID && block.timestamp >= deadline;
        try market.refund(order) {
            assert(fits);
        } catch {
            assert(!fits);
        }
    }

    function withdraw(uint256 who) public {
        address account = person(who);
        uint256 owed = market.credit(account);
        if (owed == 0) return;
        uint256 before = account.balance;
        vm.prank(account);
        market.withdraw();
        assert(account.balance == before + owed);
        takenOut += owed;
    }

    function pass(uint16 time) external {
        vm.warp(block.timestamp + time);
    }

    function ordered() external view returns (uint256) {
        return orders.length;
    }

    function person(uint256 who) public pure returns (address) {
        return address(uint160(0x1000 + who % _PEOPLE));
    }

    function owed() external view returns (uint256 sum) {
        for (uint256 i = 0; i < _PEOPLE; ++i) {
            sum += market.credit(person(i));
        }
        for (uint256 i = 0; i < orders.length; ++i) {
            (,, IMarket.OrderState state,,,) = market.orderOf(orders[i]);
            if (state == IMarket.OrderState.PAID) sum += paid[orders[i]];
        }
    }
}

contract MarketTest {
    MarketHandler private immutable _HANDLER = new MarketHandler();

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_HANDLER);
    }

    function invariant_itHoldsExactlyWhatItOwes() external view {
        assert(address(_HANDLER.market()).balance == _HANDLER.owed());
    }

    function invariant_whatCameInIsHereOrWentOutOnce() external view {
        assert(_HANDLER.paidIn() == _HANDLER.takenOut() + address(_HANDLER.market()).balance);
    }

    /// @dev From wherever a run ended, all money can be taken out.
    function afterInvariant() external {
        vm.warp(block.timestamp + 2 * 65_536);
        for (uint256 i = 0; i < _HANDLER.ordered(); ++i) {
            _HANDLER.refund(i);
        }
        for (uint256 i = 0; i < 4; ++i) {
            _HANDLER.withdraw(i);
        }
        assert(address(_HANDLER.market()).balance == 0);
    }
}
