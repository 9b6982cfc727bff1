"""`skynet model|data publish|list|buy|deliver|refund|delist`: files and their keys for money."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from node.cli.job import requester_session
from node.cli.output import print_json, require_new_file
from node.client.ledger import open_ledger
from node.client.shop import Offer, Shop, open_shop
from node.config import keys_folder, load_config, peer_address_fault
from node.errors import ExitCode, UsageError
from node.identity import load_keys
from node.key_file import find_passphrase
from protocols.abi import ZERO_ADDRESS
from protocols.market import NATIVE, ListingId, OrderId, OrderState, Ware

WARES = {"model": Ware.MODEL, "data": Ware.DATASET}
DELIVERY_POLL_S = 5.0


async def publish(options: argparse.Namespace) -> int:
    """Seal a file, leave it with a peer, list its key."""
    from node.client import trade  # takes a second: who only looks at the market need not wait for it

    config = load_config(options.config)
    if options.royalty and options.creator is None:
        raise UsageError("--royalty", "is for nobody", "name its --creator")
    text = "" if options.license is None else _read_license(options.license)
    creator, token = options.creator or ZERO_ADDRESS, options.token or ZERO_ADDRESS
    royalty = round(options.royalty * 100)
    offer = Offer(WARES[options.command], options.price, token, text, options.window_s, royalty, creator)
    async with requester_session(options) as session, open_shop(session, config, options.config) as shop:
        gateway = await session.connect(tuple(options.peer))
        listing = await trade.publish(session, shop, options.file, offer, gateway, options.peer[0])
    if options.json:
        print_json({"listing": listing, "seller": shop.wallet})
        return ExitCode.OK
    print(f"listing 0x{listing.hex()}: {options.file.name}")
    print(f"see to it that buyers get their keys:  skynet {options.command} deliver --watch --config {options.config}")
    return ExitCode.OK


def _read_license(value: str) -> str:
    """A file's text where there is such a file, else the words themselves."""
    path = Path(value)
    return path.read_text() if path.is_file() else value


async def list_wares(options: argparse.Namespace) -> int:
    """Print what is for sale."""
    ware = WARES[options.command]
    async with _shop(options) as shop:
        every = (await shop.listings()).values()
        found = [each for each in every if each.is_open and each.offer.ware is ware]
        prices = [await shop.price_text(each.offer) for each in found]
    if options.json:
        print_json(
            [
                {"listing": each.listing, "seller": each.seller, "price": price, "content": each.offer.content,
                 "window_s": each.offer.window_s, "where": each.cid}
                for each, price in zip(found, prices, strict=True)
            ]
        )  # fmt: skip
        return ExitCode.OK
    for each, price in zip(found, prices, strict=True):
        who = "you" if each.seller == shop.wallet else each.seller
        print(f"0x{each.listing.hex()}  {price:>12}  by {who}")
    if not found:
        print(f"no {options.command} is for sale on this market yet")
    return ExitCode.OK


async def buy(options: argparse.Namespace) -> int:
    """Fetch, pay, wait for the key, open, check and save. Begun again it goes on, and pays only once."""
    from node.client import trade

    require_new_file(options.out)
    config = load_config(options.config)
    listing = ListingId(options.listing)
    async with requester_session(options) as session, open_shop(session, config, options.config) as shop:
        listed = await shop.find(listing)
        addresses = tuple(options.peer) or ((listed.cid,) if peer_address_fault(listed.cid) is None else ())
        goods = await trade.fetch(session, listed, (await session.connect(addresses),))
        order, nonce, view = await shop.find_order(listing)
        if view.state is OrderState.NONE:
            await shop.pay(listed, session.vault.encryption_key, nonce)
            if not options.json:
                print(f"order 0x{order.hex()}: {await shop.price_text(listed.offer)} paid, waiting for the key")
        sealed_key = await shop.wait_key(order, patience_s=options.wait)
        plain = await trade.open_goods(session, listed, goods, session.vault.bought_key(order, sealed_key))
    part = options.out.with_name(options.out.name + ".part")
    part.write_bytes(plain)
    part.replace(options.out)
    if options.json:
        print_json({"order": order, "file": str(options.out), "name": goods.name, "size_bytes": len(plain)})
    else:
        print(f"{options.out}: {goods.name}, {len(plain)} bytes, as listed; licence: {goods.license or 'none given'}")
    return ExitCode.OK


async def deliver(options: argparse.Namespace) -> int:
    """Hand out the keys of what was paid for; with --watch until Ctrl-C."""
    config = load_config(options.config)
    encryption = load_keys(keys_folder(config), find_passphrase(config.keys.passphrase_file)).encryption
    async with _shop(options, signs=True) as shop:
        while True:
            filled = await shop.deliver(encryption)
            if options.json and not options.watch:
                print_json({"orders": list(filled)})
            for order in () if options.json and not options.watch else filled:
                print(f"order 0x{order.hex()}: key delivered", flush=True)
            if not options.watch:
                break
            await trio.sleep(DELIVERY_POLL_S)
    if not options.json and not filled:
        print("nothing of yours is paid for and without its key")
    return ExitCode.OK


async def refund(options: argparse.Namespace) -> int:
    """Take back the money of an order whose seller did not deliver."""
    async with _shop(options, signs=True) as shop:
        amount, token = await shop.refund(OrderId(options.order))
        text = f"{amount / 10**18:.6g} ether" if token == NATIVE else (await shop.ledger.token(token)).text(amount)
    if options.json:
        print_json({"order": options.order, "amount": amount, "token": token})
    else:
        print(f"order 0x{options.order.hex()} given up, {text} back in the wallet")
    return ExitCode.OK


async def delist(options: argparse.Namespace) -> int:
    """Take no more orders; those that are paid stay to be filled."""
    async with _shop(options, signs=True) as shop:
        await shop.delist(ListingId(options.listing))
    if options.json:
        print_json({"listing": options.listing})
    else:
        print(f"listing 0x{options.listing.hex()} takes no more orders")
    return ExitCode.OK


@asynccontextmanager
async def _shop(options: argparse.Namespace, *, signs: bool = False) -> AsyncIterator[Shop]:
    config = load_config(options.config)
    async with (
        open_ledger(config, options.config, signs=signs) as ledger,
        open_shop(ledger, config, options.config) as shop,
    ):
        yield shop


COMMANDS: dict[str, Callable[[argparse.Namespace], Awaitable[int]]] = {
    "publish": publish,
    "list": list_wares,
    "buy": buy,
    "deliver": deliver,
    "refund": refund,
    "delist": delist,
}
