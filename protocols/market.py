"""The market: listings, orders and what is owed, the twin of `contracts/src/Market.sol`.

The one rule: `step` accepts exactly the transactions that the contract accepts, and owes the same money to the same
people in the same token.

    PAID -key or proof in time-> FILLED      PAID -refund after the deadline-> REFUNDED

Spec: protocols/README.md, "Market".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import NewType

from protocols.abi import ZERO_ADDRESS, encode_words
from protocols.ids import Address, Commitment, ContentId, Digest, Wei
from protocols.keccak import keccak256

ListingId = NewType("ListingId", bytes)
OrderId = NewType("OrderId", bytes)

WHOLE = 10_000  # a royalty is in hundredths of a per cent
NATIVE = ZERO_ADDRESS
"""Stands for the native token where a token is named."""

# -- Calls -------------------------------------------------------------------------


class Ware(IntEnum):
    MODEL = 0
    DATASET = 1


class OrderState(IntEnum):
    NONE = 0
    PAID = 1
    FILLED = 2
    REFUNDED = 3


@dataclass(frozen=True, slots=True)
class Listing:
    """What a seller offers, for good. Field order is the ABI order of `Listing`."""

    ware: Ware
    content: ContentId
    """The sealed content's manifest."""
    terms: Digest
    """keccak of what buyer and seller agree on besides; the text is with the content."""
    token: Address
    price_wei: Wei
    """Of the content's key; 0 where it isn't for sale."""
    inference_price_wei: Wei
    """Of one inference; 0 where none are offered."""
    model: Address
    """The verifier that `Models` made; the zero address where no inference is offered."""
    window_s: int
    """How long the seller has to deliver a key or an answer."""
    creator: Address
    royalty: int
    """Of each payment, in hundredths of a per cent, to the creator."""


@dataclass(frozen=True, slots=True)
class List:
    listing: Listing
    cid: str
    """Where the sealed content is."""
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Delist:
    listing: ListingId


@dataclass(frozen=True, slots=True)
class Buy:
    listing: ListingId
    buyer_key: bytes
    """X25519 public key, 32 bytes: the content's key is sealed to it."""
    nonce: bytes


@dataclass(frozen=True, slots=True)
class DeliverKey:
    order: OrderId
    sealed_key: bytes


@dataclass(frozen=True, slots=True)
class RequestInference:
    listing: ListingId
    input: Digest
    """keccak of C(x)."""
    data: bytes
    """Where the input is, sealed to the seller."""
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    order: OrderId
    proof: bytes
    instances: tuple[int, ...]
    key_words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refund:
    order: OrderId


@dataclass(frozen=True, slots=True)
class WithdrawIn:
    token: Address


MarketCall = List | Delist | Buy | DeliverKey | RequestInference | Answer | Refund | WithdrawIn


@dataclass(frozen=True, slots=True)
class Facts:
    """What the contract learns from other contracts, resolved by the caller."""

    is_inference_model: bool = False
    """List: `Models` made it, and it is about inference."""
    is_paid: bool = True
    """Buy, RequestInference: the token moves exactly the price; for the native one `value_wei` tells."""
    proof_valid: bool = False
    """Answer: what the listing's model says."""


@dataclass(frozen=True, slots=True)
class Transaction:
    sender: Address
    value_wei: Wei
    now_s: int
    call: MarketCall
    facts: Facts = Facts()


@dataclass(frozen=True, slots=True)
class Revert:
    name: str


# -- State -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    seller: Address
    listing: Listing
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class Order:
    buyer: Address
    listing: ListingId
    input: Digest | None
    """None where a key was bought."""
    amount_wei: Wei
    deadline_s: int
    state: OrderState = OrderState.PAID


Credits = Mapping[tuple[Address, Address], Wei]


@dataclass(frozen=True, slots=True)
class Market:
    chain_id: int
    contract: Address
    offers: Mapping[ListingId, Offer] = field(default_factory=dict)
    orders: Mapping[OrderId, Order] = field(default_factory=dict)
    credits: Credits = field(default_factory=dict)
    """By token and account."""


def compute_liabilities(market: Market, token: Address) -> Wei:
    """What the contract owes in a token: unfilled orders and credits. It holds exactly that."""
    paid = [o for o in market.orders.values() if o.state is OrderState.PAID]
    escrow = sum(o.amount_wei for o in paid if market.offers[o.listing].listing.token == token)
    return Wei(escrow + sum(amount for (owed, _), amount in market.credits.items() if owed == token))


def compute_listing_id(market: Market, seller: Address, nonce: bytes) -> ListingId:
    return ListingId(keccak256(encode_words(market.chain_id, market.contract, seller, nonce)))


def compute_order_id(market: Market, buyer: Address, nonce: bytes) -> OrderId:
    return OrderId(keccak256(encode_words(market.chain_id, market.contract, buyer, nonce)))


def compute_input_digest(commitment: Commitment) -> Digest:
    """What `RequestInference.input` says of C(x)."""
    return keccak256(commitment)


def compute_royalty(listing: Listing, amount_wei: Wei) -> Wei:
    return Wei(amount_wei * listing.royalty // WHOLE)


# -- Transition --------------------------------------------------------------------


class _Abort(Exception):
    """Leaves a transaction half way, as `revert` does; never leaves `step`."""


def _require(condition: object, name: str) -> None:
    if not condition:
        raise _Abort(name)


def step(market: Market, tx: Transaction) -> Market | Revert:
    """Apply one transaction, or say by name why the contract refuses it."""
    try:
        _require(isinstance(tx.call, Buy | RequestInference) or tx.value_wei == 0, "NotPayable")
        return _dispatch(market, tx)
    except _Abort as abort:
        return Revert(str(abort))


def _dispatch(market: Market, tx: Transaction) -> Market:
    match tx.call:
        case List():
            return _list(market, tx, tx.call)
        case Delist(listing):
            offer = _find(market, listing)
            _require(tx.sender == offer.seller, "NotSeller")
            return replace(market, offers={**market.offers, listing: replace(offer, is_open=False)})
        case Buy(listing, buyer_key, nonce):
            _require(any(buyer_key), "EmptyKey")
            return _pay(market, tx, listing, _find(market, listing).listing.price_wei, None, nonce)
        case DeliverKey(order_id, sealed_key):
            order = _find_in_time(market, tx, order_id)
            _require(tx.sender == market.offers[order.listing].seller, "NotSeller")
            _require(order.input is None, "NotForSale")
            _require(sealed_key, "EmptyKey")
            return _fill(market, order_id)
        case RequestInference(listing, wanted, _, nonce):
            _require(any(wanted), "EmptyKey")
            return _pay(market, tx, listing, _find(market, listing).listing.inference_price_wei, wanted, nonce)
        case Answer(order_id):
            _require(_find_in_time(market, tx, order_id).input is not None, "NotForSale")
            _require(tx.facts.proof_valid, "ProofInvalid")
            return _fill(market, order_id)
        case Refund(order_id):
            return _refund(market, tx, order_id)
        case WithdrawIn(token):
            _require(market.credits.get((token, tx.sender)), "NothingOwed")
            return replace(market, credits={**market.credits, (token, tx.sender): Wei(0)})


def _list(market: Market, tx: Transaction, call: List) -> Market:
    listing, listing_id = call.listing, compute_listing_id(market, tx.sender, call.nonce)
    _require(listing_id not in market.offers, "ListingExists")
    _require(any(listing.content), "NoContent")
    _require(listing.price_wei or listing.inference_price_wei, "NothingForSale")
    _require(listing.window_s, "NoWindow")
    _require(listing.royalty <= WHOLE and (not listing.royalty or listing.creator != ZERO_ADDRESS), "BadRoyalty")
    _require(not listing.inference_price_wei or tx.facts.is_inference_model, "UnknownModel")
    return replace(market, offers={**market.offers, listing_id: Offer(tx.sender, listing)})


def _pay(
    market: Market, tx: Transaction, listing_id: ListingId, price_wei: Wei, wanted: Digest | None, nonce: bytes
) -> Market:
    offer, order_id = market.offers[listing_id], compute_order_id(market, tx.sender, nonce)
    _require(offer.is_open and price_wei, "NotForSale")
    _require(order_id not in market.orders, "OrderExists")
    in_native = offer.listing.token == NATIVE
    _require(tx.value_wei == (price_wei if in_native else 0), "WrongValue")
    _require(in_native or tx.facts.is_paid, "WrongValue")
    order = Order(tx.sender, listing_id, wanted, price_wei, tx.now_s + offer.listing.window_s)
    return replace(market, orders={**market.orders, order_id: order})


def _fill(market: Market, order_id: OrderId) -> Market:
    order = market.orders[order_id]
    offer = market.offers[order.listing]
    royalty = compute_royalty(offer.listing, order.amount_wei)
    credits = _add(market.credits, offer.listing.token, offer.listing.creator, royalty)
    credits = _add(credits, offer.listing.token, offer.seller, Wei(order.amount_wei - royalty))
    filled = replace(order, state=OrderState.FILLED)
    return replace(market, orders={**market.orders, order_id: filled}, credits=credits)


def _refund(market: Market, tx: Transaction, order_id: OrderId) -> Market:
    order = market.orders.get(order_id)
    if order is None or order.state is not OrderState.PAID:
        raise _Abort("WrongOrder")
    _require(tx.now_s >= order.deadline_s, "TooEarly")
    credits = _add(market.credits, market.offers[order.listing].listing.token, order.buyer, order.amount_wei)
    refunded = replace(order, state=OrderState.REFUNDED)
    return replace(market, orders={**market.orders, order_id: refunded}, credits=credits)


def _find(market: Market, listing: ListingId) -> Offer:
    _require(listing in market.offers, "UnknownListing")
    return market.offers[listing]


def _find_in_time(market: Market, tx: Transaction, order_id: OrderId) -> Order:
    order = market.orders.get(order_id)
    if order is None or order.state is not OrderState.PAID:
        raise _Abort("WrongOrder")
    _require(tx.now_s < order.deadline_s, "TooLate")
    return order


def _add(credits: Credits, token: Address, account: Address, amount_wei: Wei) -> Credits:
    return {**credits, (token, account): Wei(credits.get((token, account), 0) + amount_wei)}
