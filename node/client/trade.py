"""A file on its way from seller to buyer: sealed and left with a peer, fetched, opened and checked.

    publish: sealed -> uploaded -> listed          buy: fetched -> paid -> key delivered -> opened, checked

The one rule: nothing is paid before the sealed file is here. Errors are `UserError`s.
"""

from __future__ import annotations

from pathlib import Path

import trio
from blake3 import blake3

from node.adapters.evm.market import Listed
from node.client.session import Session
from node.client.shop import Offer, Shop
from node.errors import ContentError, PeerUnreachable, UsageError
from node.sealing import JobKey
from protocols.goods import MAX_PARTS, PART_BYTES, Goods, compute_terms, decode_goods, encode_goods, part_context, split
from protocols.ids import ContentId, PeerId
from protocols.market import ListingId
from protocols.verdict import Reject


async def publish(session: Session, shop: Shop, file: Path, offer: Offer, gateway: PeerId, where: str) -> ListingId:
    """Seal a file, leave it with a peer, and list its key."""
    plain = await _read(file)
    identity = ContentId(blake3(plain).digest())
    terms = compute_terms(offer.license, identity)
    key = session.vault.content_key(terms)
    sealed = [key.seal(part, context=part_context(terms, i)) for i, part in enumerate(split(plain))]
    parts = [await session.store.put_blob(part, public=True) for part in sealed]
    manifest = encode_goods(Goods(file.name, offer.license, len(plain), identity, tuple(parts)))
    goods = decode_goods(manifest)
    if isinstance(goods, Reject):
        raise ContentError(file, goods.reason, "choose another name, or a shorter licence")
    content = await session.store.put_blob(manifest, public=True)
    refused = await session.exchange.put(gateway, [manifest, *sealed])
    if refused:
        raise PeerUnreachable(f"peer {gateway}", f"does not take the file: {refused}", "try another peer")
    return await shop.put_up(offer, goods, content, where, session.entropy(32))


async def _read(file: Path) -> bytes:
    try:
        plain = await trio.Path(file).read_bytes()
    except OSError as error:
        raise UsageError(file, str(error.strerror or error).lower(), "name the file that is for sale") from None
    if not 0 < len(plain) <= MAX_PARTS * PART_BYTES:
        raise ContentError(file, f"has {len(plain)} bytes", f"sell 1 … {MAX_PARTS * PART_BYTES}")
    return plain


async def fetch(session: Session, listed: Listed, peers: tuple[PeerId, ...]) -> Goods:
    """Bring manifest and sealed parts here, before anything is paid. Raises ContentError, PeerUnreachable."""
    name = f"listing 0x{listed.listing.hex()}"
    if await session.exchange.fetch_blobs((listed.offer.content,), peers):
        raise PeerUnreachable(name, "no peer has its content", "name one with --peer")
    goods = decode_goods(await session.store.blob(listed.offer.content) or b"")
    if isinstance(goods, Reject) or compute_terms(goods.license, goods.plain) != listed.offer.terms:
        reason = goods.reason if isinstance(goods, Reject) else "its licence or file is not what the listing says"
        raise ContentError(name, reason, "do not buy it")
    lacking = await session.exchange.fetch_blobs(goods.parts, peers)
    if lacking:
        raise PeerUnreachable(
            name, f"no peer has {len(lacking)} of its {len(goods.parts)} parts", "name another --peer"
        )
    return goods


async def open_goods(session: Session, listed: Listed, goods: Goods, key: JobKey | None) -> bytes:
    """The file. Raises ContentError where the delivered key does not open it."""
    plain = bytearray()
    for i, content in enumerate(goods.parts):
        sealed = await session.store.blob(content) or b""
        part = None if key is None else key.open(sealed, context=part_context(listed.offer.terms, i))
        if part is None:
            break
        plain += part
    if blake3(plain).digest() != goods.plain:
        problem = "the key that its seller delivered does not open it"
        raise ContentError(f"listing 0x{listed.listing.hex()}", problem, "the contract can't see that: warn others")
    return bytes(plain)
