"""The `Network` port on py-libp2p: `open_network` runs a host, its relay and its request protocols."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
from multiaddr import Multiaddr

from actors.ports import Gossip, Network, NoAnswer, Outbox, PeerEvent, Responder, Validator
from node.adapters.dns import Names
from node.adapters.libp2p.circuit import CircuitRelay
from node.adapters.libp2p.client import Client
from node.adapters.libp2p.config import LibP2PConfig, Role
from node.adapters.libp2p.dialling import BadAddress, connect, is_peer_id, parse_target, resolve
from node.adapters.libp2p.host import build_host, check_free, run_host
from node.adapters.libp2p.light import LightShell
from node.adapters.libp2p.lists import read_list
from node.adapters.libp2p.peer_exchange import PeerExchange
from node.adapters.libp2p.peers import Peers
from node.adapters.libp2p.queue import SheddingQueue
from node.adapters.libp2p.reach import Reach
from node.adapters.libp2p.records import RecordKey
from node.adapters.libp2p.relay import RelayCounts, RelayShell
from node.adapters.libp2p.requests import Requests
from node.adapters.libp2p.service import Archive, Service, ServiceCounts
from node.adapters.libp2p.streams import Stream, StreamFault, is_connected, peer_of
from protocols.autonat import AUTONAT, Reachability
from protocols.circuit import HOP, STOP, Relaying
from protocols.enr import to_text
from protocols.ids import PeerId, PubsubTopic
from protocols.waku import METADATA, RELAY, Metadata
from protocols.waku_filter import FILTER_PUSH

DELIVERIES, DELIVERY_BYTES = 8192, 64 * 1024 * 1024  # waiting for the gossip actor; above, the oldest is shed
ADDRESSES_S = 10.0  # for which our own are remembered: actors ask four times a second
BOOK_PEERS, BOOK_ADDRESSES = 1024, 16  # addresses that once led to a peer


@dataclass(frozen=True, slots=True)
class NetworkCounts:
    """Since the start; what a node's metrics show."""

    relay: RelayCounts
    deliveries_shed: int
    """Messages that the gossip actor took too slowly to get."""
    stream_faults: int
    """Inbound streams that ended in an exception."""
    streams_refused: int
    responder_faults: int
    memory_refused: int
    """Frames that would have made us hold more for a peer, or for all, than we allow."""
    service: ServiceCounts | None
    """Of a full node."""


class LibP2PNetwork(Network):
    """Made by `open_network`."""

    def __init__(
        self,
        config: LibP2PConfig,
        host: Any,
        nursery: trio.Nursery,
        key: RecordKey,
        archive: Archive | None,
        time_s: Callable[[], float],
    ) -> None:
        self._cluster = config.cluster
        self._names = Names(config.name_servers)
        self._host = host
        self._swarm = host.get_network()
        self._peer = PeerId(host.get_id().to_base58())
        self._nursery = nursery
        self._deliveries: SheddingQueue[Gossip] = SheddingQueue(DELIVERIES, DELIVERY_BYTES)
        self._requests = Requests(host)
        self._client = Client(host)
        self._peer_exchange = PeerExchange(
            config, key, self._client, lambda: self.addresses, archives=archive is not None, time_s=time_s
        )
        self._listened_to: tuple[str, ...] = ()
        self._listened_until_s = float("-inf")
        self._book: dict[PeerId, dict[Multiaddr, None]] = {}
        self._dials: dict[PeerId, trio.Lock] = {}
        self._relay: RelayShell | LightShell
        self._service: Service | None = None
        told: dict[str, Any] = {"deliver": self._deliver, "disconnect": self._disconnect_soon}
        if config.role is Role.LIGHT:
            self._relay = LightShell(host, nursery, self._peer, config.content_topics, **told)
        else:
            self._relay = RelayShell(host, nursery, self._peer, secrets.token_bytes(32), **told)
            if config.role is Role.FULL:
                self._service = Service(config, host, nursery, self._relay, archive, self._peer_exchange, time_s)
        own = Metadata(config.cluster, () if config.role is Role.LIGHT else tuple(range(config.shards)))
        self._peers = Peers(
            host,
            nursery,
            own,
            max_prefix_peers=config.max_prefix_peers,
            on_admitted=self._relay.add_peer,
            on_lost=self._on_lost,
        )
        self._reachable = Reach(host, self._swarm.circuits, self._listened, self._peers.admitted)
        self._serve(AUTONAT, self._reachable.serve)
        self._serve(STOP, self._swarm.circuits.serve_stop)
        self._circuit_relay: CircuitRelay | None = None
        if config.role is Role.FULL and config.circuits.circuits:
            self._circuit_relay = CircuitRelay(
                host,
                self._swarm.circuits,
                Relaying(config.circuits),
                prefix_of=self._peers.prefix_of,
                addresses=self._listened,
                time_s=time_s,
            )
            self._serve(HOP, self._circuit_relay.serve_hop)
        self._swarm.register_notifee(self._peers)
        host.set_stream_handler(METADATA, self._peers.serve_metadata)
        self._serve(FILTER_PUSH if config.role is Role.LIGHT else RELAY, self._relay.serve)
        if self._service:
            self._service.register(self._serve)

    # -- Who we are ------------------------------------------------------------

    @property
    def peer(self) -> PeerId:
        return self._peer

    @property
    def addresses(self) -> tuple[str, ...]:
        return (*self._listened(), *self._reachable.addresses)

    def _listened(self) -> tuple[str, ...]:
        """As of the last ADDRESSES_S: a laptop changes its network, and py-libp2p takes 0.3 ms to say so."""
        now_s = trio.current_time()
        if now_s >= self._listened_until_s:
            self._listened_until_s = now_s + ADDRESSES_S
            self._listened_to = tuple(str(address) for address in self._host.get_addrs())
        return self._listened_to

    @property
    def reachability(self) -> Reachability:
        """Whether others can dial us, as they say."""
        return self._reachable.reachability

    @property
    def record(self) -> str:
        """Our node record, as text."""
        return to_text(self._peer_exchange.own())

    def connected(self) -> tuple[PeerId, ...]:
        return self._peers.admitted()

    def mesh(self, topic: PubsubTopic) -> tuple[PeerId, ...]:
        return self._relay.mesh(topic)

    def counts(self) -> NetworkCounts:
        guard = self._swarm.guard
        return NetworkCounts(
            self._relay.counts(),
            self._deliveries.shed,
            guard.faults,
            guard.refused,
            self._requests.responder_faults,
            self._swarm.memory.refused,
            self._service.counts() if self._service else None,
        )

    # -- Connections -----------------------------------------------------------

    async def dial(self, address: str, *, timeout_s: float = 10.0) -> PeerId | NoAnswer:
        """Connect over the address, or another one that is known of the peer, and learn that it is of our cluster."""
        try:
            with trio.fail_after(timeout_s):
                target = parse_target(address)
                if target.peer == self._peer:
                    return NoAnswer("that is this node")
                return await self._reach(target.peer, await resolve(target.address))
        except BadAddress as fault:
            return NoAnswer(str(fault))
        except OSError as error:
            return NoAnswer(f"{address}: {error}")
        except trio.TooSlowError:
            return NoAnswer(f"{address}: no connection within {timeout_s:g} s")

    async def ask_peers(self, peer: PeerId) -> Sequence[str] | NoAnswer:
        return await self._peer_exchange.ask(peer)

    async def read_list(self, url: str) -> Sequence[str] | NoAnswer:
        return await read_list(url, self._names.texts, self._cluster)

    async def _reach(self, peer: PeerId, addresses: list[Multiaddr]) -> PeerId | NoAnswer:
        if not is_connected(self._host, peer):
            fault = await self._connect(peer, addresses)
            if fault is not None:
                return NoAnswer(fault)
        settled = await self._peers.wait_settled(peer)
        if not isinstance(settled, NoAnswer):
            self._remember(peer, addresses)
        return settled

    async def _connect(self, peer: PeerId, addresses: list[Multiaddr]) -> str | None:
        lock = self._dials.setdefault(peer, trio.Lock())
        try:
            async with lock:  # a second caller finds the first one's connection
                if is_connected(self._host, peer):
                    return None
                return await connect(self._swarm, peer, list(dict.fromkeys([*addresses, *self._book.get(peer, ())])))
        finally:
            if not lock.statistics().tasks_waiting:
                self._dials.pop(peer, None)

    def _remember(self, peer: PeerId, addresses: list[Multiaddr]) -> None:
        book = self._book.setdefault(peer, {})
        book.update(dict.fromkeys(addresses[:BOOK_ADDRESSES]))
        while len(book) > BOOK_ADDRESSES:
            del book[next(iter(book))]
        while len(self._book) > BOOK_PEERS:
            del self._book[next(iter(self._book))]

    def _on_lost(self, peer: PeerId) -> None:
        self._relay.remove_peer(peer)
        self._requests.forget(peer)
        self._reachable.forget(peer)
        if self._circuit_relay:
            self._circuit_relay.relaying.forget(peer)

    def _disconnect_soon(self, peer: PeerId, reason: str) -> None:
        self._nursery.start_soon(self._peers.disconnect, peer, reason)

    # -- Relay -----------------------------------------------------------------

    async def subscribe(self, topic: PubsubTopic, validate: Validator) -> None:
        await trio.lowlevel.checkpoint()
        self._relay.subscribe(topic, validate)

    async def unsubscribe(self, topic: PubsubTopic) -> None:
        await trio.lowlevel.checkpoint()
        self._relay.unsubscribe(topic)

    async def publish(self, topic: PubsubTopic, data: bytes) -> int:
        return await self._relay.publish(topic, data)

    def _deliver(self, gossip: Gossip) -> None:
        self._deliveries.put(gossip, len(gossip.data))
        if self._service:
            self._service.deliver(gossip)

    async def history(self, topic: PubsubTopic, first_s: float, last_s: float) -> Sequence[bytes] | NoAnswer:
        return await self._client.history(self._peers.admitted(), topic, int(first_s * 1e9), int(last_s * 1e9))

    # -- Requests --------------------------------------------------------------

    async def request(
        self, peer: PeerId, protocol: str, payload: bytes, *, limit_bytes: int, timeout_s: float
    ) -> bytes | NoAnswer:
        if not is_peer_id(peer):
            return NoAnswer(f"{peer:.80} is no peer id")
        try:
            with trio.fail_after(timeout_s):
                reached = await self._reach(peer, [])
                if isinstance(reached, NoAnswer):
                    return reached
                return await self._requests.ask(peer, protocol, payload, limit_bytes=limit_bytes)
        except trio.TooSlowError:
            return NoAnswer(f"no answer within {timeout_s:g} s")

    def respond(self, protocol: str, responder: Responder, *, limit_bytes: int) -> None:
        async def serve(stream: Stream) -> None:
            await self._requests.serve(stream, responder, limit_bytes)

        self._serve(protocol, serve)

    def _serve(self, protocol: str, handler: Callable[[Stream], Awaitable[None]]) -> None:
        """Serve admitted peers only."""

        async def admit(stream: Stream) -> None:
            settled = await self._peers.wait_settled(peer_of(stream))
            if isinstance(settled, NoAnswer):
                raise StreamFault(settled.reason)
            await handler(stream)

        self._host.set_stream_handler(protocol, admit)

    # -- Life ------------------------------------------------------------------

    def _start(self, gossip: Outbox[Gossip], events: Outbox[PeerEvent]) -> None:
        self._nursery.start_soon(self._relay.beat)
        self._nursery.start_soon(self._peers.announce, events)
        self._nursery.start_soon(self._reachable.run)
        if self._service:
            self._nursery.start_soon(self._service.run)
        self._nursery.start_soon(self._hand_over, gossip)

    async def _hand_over(self, gossip: Outbox[Gossip]) -> None:
        while True:
            for each in await self._deliveries.take(1):
                await gossip.send(each)

    def _close(self) -> None:
        self._peers.closed = True
        self._swarm.guard.closed = True


@asynccontextmanager
async def open_network(
    config: LibP2PConfig,
    identity_seed: bytes,
    gossip: Outbox[Gossip],
    events: Outbox[PeerEvent],
    archive: Archive | None = None,
    time_s: Callable[[], float] = time.time,
) -> AsyncIterator[LibP2PNetwork]:
    """Listen, and run until the block ends. `identity_seed` is the node key's Ed25519 seed, 32 bytes.

    `archive` is for a full node's store; `time_s` stamps messages that light peers left without a timestamp.
    The channels stay the caller's. Raises OSError when an address can't be listened on.
    """
    listen = [Multiaddr(address) for address in config.listen]
    for address in listen:
        check_free(address)
    host = build_host(config, identity_seed)
    stop = trio.Event()
    async with trio.open_nursery() as outer:
        await outer.start(run_host, host, listen, stop)
        try:
            async with trio.open_nursery() as nursery:
                network = LibP2PNetwork(config, host, nursery, RecordKey(identity_seed), archive, time_s)
                network._start(gossip, events)
                try:
                    yield network
                finally:
                    network._close()
                    stop.set()
                    nursery.cancel_scope.cancel()
        finally:
            stop.set()  # the host ends for nothing else
