"""The `Market` contract, seen from one wallet: listings, orders, what it owes, and calls.

The one rule: calls and listings are those of `protocols/market.py`; a log that does not fit its event is malformed, and
the endpoint is not believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.ports import Outcome, Reverted, Unreachable
from node.adapters.evm.chain import EvmChain
from node.adapters.evm.coding import Unencodable, decode_named, encode_function, plain
from node.adapters.evm.logs import LogReader
from node.adapters.evm.rpc import Failure, Unavailable, read_data
from protocols.abi import checksum_address
from protocols.chain_follow import Head
from protocols.ids import Address, ContentId, Digest, Wei
from protocols.market import Answer, Listing, ListingId, MarketCall, OrderId, OrderState, Ware


@dataclass(frozen=True, slots=True)
class Listed:
    listing: ListingId
    seller: Address
    offer: Listing
    cid: str
    """Where the sealed content is."""
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class Purchase:
    order: OrderId
    listing: ListingId
    buyer: Address
    buyer_key: bytes
    deadline_s: int
    sealed_key: bytes = b""
    """Empty before the seller has delivered."""


@dataclass(frozen=True, slots=True)
class OrderView:
    state: OrderState
    buyer: Address
    listing: ListingId
    deadline_s: int
    amount: Wei


class EvmMarket:
    def __init__(self, chain: EvmChain, address: Address, first_block: int) -> None:
        self._chain = chain
        self.address = address
        self._first_block = first_block
        self._logs = LogReader(chain.rpc, (address,))

    # -- Reading

    async def is_there(self) -> bool | Unreachable:
        """Whether this address answers as a Market."""
        answer = await self._chain.view("Market", self.address, "models")
        if isinstance(answer, Unreachable):
            head = await self._chain.head()
            return head if isinstance(head, Unreachable) else False
        return True

    async def listings(self) -> Mapping[ListingId, Listed] | Unreachable:
        """All that were ever made, oldest first."""
        logs = await self._read_logs()
        if isinstance(logs, Unreachable):
            return logs
        found: dict[ListingId, Listed] = {}
        for name, values in logs:
            match name, values:
                case "Listed", [listing, seller, offer, cid]:
                    found[listing] = Listed(listing, _address(seller), _listing(offer), cid)
                case "Delisted", [listing] if listing in found:
                    old = found[listing]
                    found[listing] = Listed(listing, old.seller, old.offer, old.cid, is_open=False)
                case _:
                    pass
        return found

    async def purchases(self) -> Mapping[OrderId, Purchase] | Unreachable:
        """All keys that were ever bought, oldest first."""
        logs = await self._read_logs()
        if isinstance(logs, Unreachable):
            return logs
        found: dict[OrderId, Purchase] = {}
        for name, values in logs:
            match name, values:
                case "Purchased", [order, listing, buyer, buyer_key, deadline_s]:
                    found[order] = Purchase(order, listing, _address(buyer), buyer_key, deadline_s)
                case "KeyDelivered", [order, sealed_key] if order in found:
                    o = found[order]
                    found[order] = Purchase(o.order, o.listing, o.buyer, o.buyer_key, o.deadline_s, sealed_key)
                case _:
                    pass
        return found

    async def order(self, order: OrderId) -> OrderView | Unreachable:
        answer = await self._chain.view("Market", self.address, "orderOf", order)
        if isinstance(answer, Unreachable):
            return answer
        buyer, deadline_s, state, listing, _, amount = answer
        return OrderView(OrderState(state), _address(buyer), ListingId(listing), deadline_s, Wei(amount))

    async def credit(self, account: Address, token: Address) -> Wei | Unreachable:
        answer = await self._chain.view("Market", self.address, "creditIn", token, account)
        return answer if isinstance(answer, Unreachable) else Wei(answer[0])

    async def _read_logs(self) -> list[tuple[str, list[Any]]] | Unreachable:
        head = await self._chain.head()
        if not isinstance(head, Head):
            return head
        try:
            logs = await self._logs.of_job(None, self._first_block, head.number)
            named = (
                decode_named("Market", [read_data(t) for t in log["topics"]], read_data(log["data"])) for log in logs
            )
            return [each for each in named if each is not None]
        except (Failure, Unavailable, ValueError, KeyError, TypeError) as error:
            return Unreachable(f"malformed logs ({error})" if isinstance(error, ValueError) else str(error))

    # -- Writing

    async def send(self, call: MarketCall, value_wei: Wei = Wei(0)) -> Outcome:  # noqa: B008 - a NewType call is the identity
        name = type(call).__name__
        arguments = list(plain(call))
        if isinstance(call, Answer):
            arguments[-1] = [word.to_bytes(32, "big") for word in call.key_words]
        try:
            data = encode_function("Market", name[0].lower() + name[1:], *arguments)
        except Unencodable as error:
            return Reverted(f"not sent: {error}")
        return await self._chain.execute(self.address, data, value_wei)


def _decode(log: Mapping[str, Any]) -> tuple[str, list[Any]] | None:
    return decode_named("Market", [read_data(topic) for topic in log["topics"]], read_data(log["data"]))


def _address(value: str) -> Address:
    return checksum_address(bytes.fromhex(value[2:]))


def _listing(values: tuple[Any, ...]) -> Listing:
    ware, content, terms, token, price, inference_price, model, window_s, creator, royalty = values
    return Listing(
        Ware(ware), ContentId(content), Digest(terms), _address(token), Wei(price), Wei(inference_price),
        _address(model), window_s, _address(creator), royalty,
    )  # fmt: skip
