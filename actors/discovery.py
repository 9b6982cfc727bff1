"""Discovery: keeps us connected to enough peers, and lets them find us.

Consumes  PeerEvent (blocks), AddressesKnown (sheds oldest: the next Hello repeats it)
Emits     SendToLobby(Hello), CatchUp
Restart   permanent, after transport and gossip; the book starts from the configuration, the Store and what is connected

Spec: protocols/README.md, "Discovery".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from actors.exchange import Exchange
from actors.mail import AddressesKnown, CatchUp, GossipMail, SendToLobby
from actors.ports import Inbox, NoAnswer, Outbox, PeerConnected, PeerEvent, PeerLost, Ports, Record
from protocols import discovery, record
from protocols.discovery import Contact
from protocols.ids import PeerId
from protocols.message import VERSIONS, Hello
from protocols.verdict import Reject

log = structlog.get_logger("skynet.actors.discovery")

TICK_S = 0.25
CONTACT = "contact"
"""Kind of record: peer id → its `Contact`."""
CONTACT_BYTES = 8 * 1024  # MAX_ADDRESSES of the longest have 2 KiB
GAP_S = 2.0  # without any peer, after which messages may have passed us by; the relay recalls ten seconds


@dataclass(frozen=True, slots=True)
class DiscoveryPlan:
    bootstrap: tuple[str, ...]
    lists: tuple[str, ...]
    offers_work: bool
    inbox: Inbox[AddressesKnown]
    to_gossip: Outbox[GossipMail]


class DiscoveryActor:
    def __init__(self, ports: Ports, plan: DiscoveryPlan, exchange: Exchange) -> None:
        self._ports = ports
        self._plan = plan
        self._exchange = exchange
        self._book = discovery.Book(ports.network.peer, plan.lists)
        self._connected_s: float | None = None
        """When there last were peers."""

    async def run(self, started: Callable[[], None]) -> None:
        self._exchange.serve()
        await self._step(discovery.AddressesHeard(self._plan.bootstrap, fixed=True))
        await self._step(discovery.ContactsRead(await self._read_contacts(), self._ports.time_s()))
        for peer in self._ports.network.connected():
            await self._step(discovery.PeerConnected(peer, self._ports.time_s()))
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._watch_peers)
            nursery.start_soon(self._tick)
            started()
            with self._plan.inbox.reader() as inbox:
                async for known in inbox:
                    await self._step(discovery.AddressesHeard(known.addresses))

    async def _read_contacts(self) -> tuple[tuple[PeerId, Contact], ...]:
        """What can't be read is forgotten: it is heard of again."""
        found = []
        for key, value in await self._ports.store.scan(CONTACT):
            contact = record.decode(Contact, value, limit_bytes=CONTACT_BYTES)
            if isinstance(contact, Reject):
                await self._ports.store.write(Record(CONTACT, key, None))
            else:
                found.append((PeerId(key.decode()), contact))
        return tuple(found)

    async def _watch_peers(self) -> None:
        with self._ports.peers.reader() as peers:
            async for event in peers:
                await self._step(self._translate(event))

    def _translate(self, event: PeerEvent) -> discovery.Event:
        match event:
            case PeerConnected(peer):
                return discovery.PeerConnected(peer, self._ports.time_s())
            case PeerLost(peer):
                return discovery.PeerLost(peer, self._ports.time_s())

    async def _tick(self) -> None:
        while True:
            now_s = self._ports.time_s()
            connected = frozenset(self._ports.network.connected())
            for peer in sorted(connected - self._book.connected):  # an event that was shed
                await self._step(discovery.PeerConnected(peer, now_s))
            for peer in sorted(self._book.connected - connected):
                await self._step(discovery.PeerLost(peer, now_s))
            if connected:
                await self._note_connected(now_s)
            await self._step(discovery.TimePassed(now_s))
            await trio.sleep(TICK_S)

    async def _note_connected(self, now_s: float) -> None:
        before_s, self._connected_s = self._connected_s, now_s
        if before_s is None or now_s - before_s > GAP_S:
            await self._plan.to_gossip.send(CatchUp(before_s))

    async def _step(self, event: discovery.Event) -> None:
        self._book, effects = discovery.step(self._book, event)
        self._exchange.known_addresses = (
            *self._ports.network.addresses,
            *(a for _, c in sorted(self._book.contacts.items()) for a in c.addresses),
        )
        for effect in effects:
            match effect:
                case discovery.Dial():
                    self._nursery.start_soon(self._dial, effect)
                case discovery.SayHello():
                    hello = Hello(self._ports.network.addresses, VERSIONS, self._plan.offers_work)
                    await self._plan.to_gossip.send(SendToLobby(hello))
                case discovery.AskPeers(peer):
                    self._nursery.start_soon(self._ask_peers, peer)
                case discovery.ReadList(url):
                    self._nursery.start_soon(self._read_list, url)
                case discovery.KeepContacts(contacts):
                    await self._ports.store.write(*(_record(peer, contact) for peer, contact in contacts))

    async def _dial(self, dial: discovery.Dial) -> None:
        for address in dial.addresses:
            answer = await self._ports.network.dial(address)
            if not isinstance(answer, NoAnswer):
                await self._step(discovery.DialAnswered(answer, address, self._ports.time_s()))
                return
            log.debug("can't dial", address=address, reason=answer.reason)
        await self._step(discovery.DialFailed(dial.peer, self._ports.time_s()))

    async def _ask_peers(self, peer: PeerId) -> None:
        """Not every peer serves peer exchange: no answer is no fault."""
        addresses = await self._ports.network.ask_peers(peer)
        if isinstance(addresses, NoAnswer):
            log.debug("knows no peers", peer=peer, reason=addresses.reason)
        else:
            await self._step(discovery.AddressesHeard(tuple(addresses)))

    async def _read_list(self, url: str) -> None:
        addresses = await self._ports.network.read_list(url)
        if isinstance(addresses, NoAnswer):
            log.warning("a node list can't be read", list=url, reason=addresses.reason)
        else:
            log.info("a node list was read", list=url, addresses=len(addresses))
            await self._step(discovery.AddressesHeard(tuple(addresses)))


def _record(peer: PeerId, contact: Contact | None) -> Record:
    return Record(CONTACT, peer.encode(), None if contact is None else record.encode(contact))
