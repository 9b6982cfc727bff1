"""The market, for one wallet: listings put up and taken down, orders paid, keys delivered, money drawn out.

The one rule: an order's number follows from listing and buyer, so whoever was killed waiting for a key finds it again
and pays no second time. It needs the chain alone; what moves files is `node/client/trade.py`. Errors are `UserError`s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from node.adapters.evm.market import EvmMarket, Listed, OrderView
from node.client.jobspec import ETHER_DECIMALS, to_units
from node.client.ledger import Ledger, require, require_mined
from node.config import Config
from node.errors import CallReverted, ChainError, ConfigError, JobFailed
from node.sealing import derive_content_key
from node.secret import Secret
from protocols.abi import ZERO_ADDRESS, encode_words
from protocols.goods import (
    Goods,
    compute_terms,
)
from protocols.ids import Address, ContentId, JobId, Wei
from protocols.keccak import keccak256
from protocols.market import (
    NATIVE,
    Buy,
    Delist,
    DeliverKey,
    List,
    Listing,
    ListingId,
    Market,
    OrderId,
    OrderState,
    Refund,
    Ware,
    WithdrawIn,
    compute_listing_id,
    compute_order_id,
)

POLL_S = 2.0
TRIES = 16  # orders of one buyer for one listing that were given up before


@dataclass(frozen=True, slots=True)
class Offer:
    """What a seller says about a file."""

    ware: Ware
    price: str
    """In ether, or in whole tokens."""
    token: Address = ZERO_ADDRESS
    license: str = ""
    window_s: int = 86_400
    royalty: int = 0
    creator: Address = ZERO_ADDRESS


class Shop:
    """The market, for one wallet."""

    def __init__(self, ledger: Ledger, market: EvmMarket) -> None:
        self.ledger = ledger
        self.market = market
        self._twin = Market(ledger.chain.chain_id, market.address)

    @property
    def wallet(self) -> Address:
        return self.ledger.chain.wallet

    async def listings(self) -> Mapping[ListingId, Listed]:
        return require(await self.market.listings())

    async def find(self, listing: ListingId) -> Listed:
        """Raises JobFailed for none."""
        found = (await self.listings()).get(listing)
        if found is None:
            raise JobFailed(f"listing 0x{listing.hex()}", "is not on this market", "see `skynet model list`")
        return found

    async def price_text(self, offer: Listing) -> str:
        """As people write it."""
        if offer.token == NATIVE:
            return f"{offer.price_wei / 10**ETHER_DECIMALS:.6g} ether"
        return (await self.ledger.token(offer.token)).text(offer.price_wei)

    # -- Selling

    async def put_up(self, offer: Offer, goods: Goods, content: ContentId, where: str, nonce: bytes) -> ListingId:
        decimals, unit = ETHER_DECIMALS, "ether"
        if offer.token != ZERO_ADDRESS:
            token = await self.ledger.token(offer.token)
            decimals, unit = token.decimals, token.symbol
        listing = Listing(
            ware=offer.ware,
            content=content,
            terms=compute_terms(goods.license, goods.plain),
            token=offer.token,
            price_wei=to_units(offer.price, decimals, "--price", unit),
            inference_price_wei=Wei(0),
            model=ZERO_ADDRESS,
            window_s=offer.window_s,
            creator=offer.creator,
            royalty=offer.royalty,
        )
        require_mined("List", await self.market.send(List(listing, where, nonce)))
        return compute_listing_id(self._twin, self.wallet, nonce)

    async def delist(self, listing: ListingId) -> None:
        require_mined("Delist", await self.market.send(Delist(listing)))

    async def deliver(self, encryption: Secret) -> tuple[OrderId, ...]:
        """Hand out the keys of everything of ours that is paid for; return the orders that this filled."""
        listings, now_s = await self.listings(), require(await self.ledger.chain.head()).timestamp_s
        filled = []
        for purchase in require(await self.market.purchases()).values():
            listed = listings.get(purchase.listing)
            if listed is None or listed.seller != self.wallet or purchase.sealed_key or purchase.deadline_s <= now_s:
                continue
            key = derive_content_key(encryption, listed.offer.terms)
            sealed_key = key.wrap(JobId(purchase.order), purchase.buyer_key)
            if sealed_key:  # else nobody could open it: the buyer gave a key that is none
                call = DeliverKey(purchase.order, sealed_key)
                require_mined("DeliverKey", await self.market.send(call))
                filled.append(purchase.order)
        return tuple(filled)

    # -- Buying

    async def find_order(self, listing: ListingId) -> tuple[OrderId, bytes, OrderView]:
        """Our order for it that is under way or filled, else the next one: its nonce, and what is on chain."""
        for number in range(TRIES):
            nonce = keccak256(encode_words(keccak256(b"skynet order"), listing, number))
            order = compute_order_id(self._twin, self.wallet, nonce)
            view = require(await self.market.order(order))
            if view.state is not OrderState.REFUNDED:
                return order, nonce, view
        problem = f"{TRIES} orders of yours for it were given up"
        raise JobFailed(f"listing 0x{listing.hex()}", problem, "its seller does not deliver: buy elsewhere")

    async def pay(self, listed: Listed, buyer_key: bytes, nonce: bytes) -> None:
        offer, value_wei = listed.offer, listed.offer.price_wei
        if offer.token == NATIVE:
            await self.ledger.require_balance(value_wei, "this purchase")
        else:
            allowed = await self.ledger.chain.allow(offer.token, value_wei, self.market.address)
            if allowed is not None:
                require_mined("approve", allowed)
            value_wei = Wei(0)
        require_mined("Buy", await self.market.send(Buy(listed.listing, buyer_key, nonce), value_wei))

    async def wait_key(self, order: OrderId, *, patience_s: float) -> bytes:
        """The sealed key of a paid order. Raises JobFailed where it does not come in time."""
        name, until_s = f"order 0x{order.hex()}", trio.current_time() + patience_s
        while True:  # looks once, however short the patience
            view = require(await self.market.order(order))
            if view.state is OrderState.FILLED:
                return require(await self.market.purchases())[order].sealed_key
            if require(await self.ledger.chain.head()).timestamp_s >= view.deadline_s:
                remedy = f"take the money back: `skynet model refund 0x{order.hex()}`"
                raise JobFailed(name, "the seller did not deliver its key in time", remedy)
            if trio.current_time() >= until_s:
                break
            await trio.sleep(POLL_S)
        raise JobFailed(name, "its key is not delivered yet", "the same command goes on waiting; it pays only once")

    async def refund(self, order: OrderId) -> tuple[Wei, Address]:
        """Give up an order of which the deadline has passed; return what came back, in which token."""
        view = require(await self.market.order(order))
        if view.state is OrderState.PAID:
            require_mined("Refund", await self.market.send(Refund(order)))
        elif view.state is not OrderState.REFUNDED:
            raise CallReverted(f"order 0x{order.hex()}", f"is {view.state.name.lower()}", "nothing can be given back")
        token = (await self.find(view.listing)).offer.token
        return await self.withdraw(token), token

    async def withdraw(self, token: Address) -> Wei:
        """Pull what the market owes this wallet."""
        credit = require(await self.market.credit(self.wallet, token))
        if credit:
            require_mined("Withdraw", await self.market.send(WithdrawIn(token)))
        return credit


@asynccontextmanager
async def open_shop(ledger: Ledger, config: Config, path: Path) -> AsyncIterator[Shop]:
    """Raises ConfigError where no market is named, ChainError where none answers."""
    address = config.chain.market
    if address is None:
        raise ConfigError(
            path, "chain.market is missing", "add the Market contract's address; `skynet deploy` prints it"
        )
    market = EvmMarket(ledger.chain, address, config.chain.first_block)
    if not require(await market.is_there()):
        raise ChainError(address, "is no Market contract", "correct chain.market")
    yield Shop(ledger, market)
