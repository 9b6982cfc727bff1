"""The discovery actor over real hosts, store and name server: who is found, and who is known after a restart."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from name_server import name_server, publish, with_zone

from actors.discovery import CONTACT, DiscoveryActor, DiscoveryPlan
from actors.exchange import Exchange
from actors.ports import Ports, Record
from node.adapters.libp2p.records import RecordKey
from node.store import DiskStore, open_store
from node.supervision.mailbox import ShedOldest
from protocols import record
from protocols.discovery import Contact
from protocols.ids import PeerId
from protocols.verdict import Reject


@asynccontextmanager
async def discovery(node: Any, store: DiskStore, **plan: Any) -> AsyncIterator[None]:
    """Run the actor on a node's network."""
    boxes: Any = [ShedOldest(name, 100) for name in ("peers", "addresses", "gossip")]
    nothing: Any = None
    ports = Ports(node.network, nothing, boxes[0], nothing, nothing, store, nothing, nothing, bytes, time.time)
    given = DiscoveryPlan(
        **{"bootstrap": (), "lists": (), **plan}, offers_work=False, inbox=boxes[1], to_gossip=boxes[2]
    )
    actor = DiscoveryActor(ports, given, Exchange(ports, accept_puts=False))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor.run, lambda: None)
        yield
        nursery.cancel_scope.cancel()


async def read_contact(store: DiskStore, peer: PeerId) -> Contact | None:
    stored = await store.read(CONTACT, peer.encode())
    contact = None if stored is None else record.decode(Contact, stored, limit_bytes=10_000)
    assert not isinstance(contact, Reject)
    return contact


async def test_a_peer_is_found_by_a_list_and_known_after_a_restart(world: Any, tmp_path: Path) -> None:
    known = await world.node()
    url, zone = publish(RecordKey(b"\5" * 32), [known.network.record])
    async with name_server(with_zone(zone)) as server:
        newcomer = await world.node(name_servers=(server,))
        with open_store(tmp_path) as store:
            await store.write(Record(CONTACT, b"old", b"/ip4/192.0.2.1/tcp/1/p2p/old"))  # of the first version
            async with discovery(newcomer, store, lists=(url,)):
                await world.until(lambda: newcomer.network.connected() == (known.peer,))
                with trio.fail_after(5):
                    while await read_contact(store, known.peer) is None:
                        await trio.sleep(0.05)
            assert await store.read(CONTACT, b"old") is None
            contact = await read_contact(store, known.peer)
            assert contact is not None
            assert (contact.addresses, contact.failures, contact.score) == ((known.address,), 0, 0.25)
            assert abs(contact.answered_s - time.time()) < 30
        await newcomer.stop()
    again = await world.node()
    with open_store(tmp_path) as store:
        async with discovery(again, store):
            await world.until(lambda: again.network.connected() == (known.peer,))


async def test_a_peer_leads_to_others(world: Any, tmp_path: Path) -> None:
    far, middle, newcomer = [await world.node() for _ in range(3)]
    await middle.network.dial(far.address)
    await middle.network.ask_peers(far.peer)
    with open_store(tmp_path) as store:
        async with discovery(newcomer, store, bootstrap=(middle.address,)):
            await world.until(lambda: set(newcomer.network.connected()) == {far.peer, middle.peer})
