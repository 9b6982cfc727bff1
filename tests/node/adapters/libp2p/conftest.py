"""Hosts on loopback: nodes, which run the adapter, and strangers, which run libp2p and say what they like."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from actors.ports import Gossip, PeerEvent, Validator
from node.adapters.libp2p import LibP2PConfig, LibP2PNetwork, open_network
from node.adapters.libp2p.host import build_host, run_host
from node.adapters.libp2p.metadata import answer_metadata
from node.adapters.libp2p.service import Archive
from protocols.ids import PeerId, PubsubTopic
from protocols.verdict import Accept
from protocols.waku import METADATA, Metadata, pubsub_topic

TOPIC = pubsub_topic(1717, 0)
SEEDS = itertools.count(1)


def accept(_peer: PeerId, _data: bytes) -> Accept:
    return Accept()


class Node:
    """A network and the receiving ends of its channels."""

    def __init__(self, config: LibP2PConfig, seed: bytes, gossip_slots: int, archive: Archive | None) -> None:
        self.config = config
        self.archive = archive
        self.seed = seed
        self.gossip_in, self.gossip = trio.open_memory_channel[Gossip](gossip_slots)
        self.events_in, self.events = trio.open_memory_channel[PeerEvent](1000)
        self.network: LibP2PNetwork
        self.ended = trio.Event()
        self._stopping = trio.Event()

    @property
    def address(self) -> str:
        return self.network.addresses[0]

    @property
    def peer(self) -> PeerId:
        return self.network.peer

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            async with open_network(
                self.config, self.seed, self.gossip_in, self.events_in, self.archive
            ) as self.network:
                task_status.started()
                await self._stopping.wait()
        finally:
            self.ended.set()

    async def stop(self) -> None:
        self._stopping.set()
        await self.ended.wait()

    async def kill(self) -> None:
        """End as a killed process does: sockets go, nobody is told anything."""
        for connection in self.network._swarm.get_connections():
            await connection.muxed_conn.secured_conn.close()
        await self.stop()

    async def heard(self, count: int, timeout_s: float = 10.0) -> list[bytes]:
        found: list[bytes] = []
        with trio.move_on_after(timeout_s):
            while len(found) < count:
                found.append((await self.gossip.receive()).data)
        return found

    async def event(self, timeout_s: float = 5.0) -> PeerEvent:
        with trio.fail_after(timeout_s):
            return await self.events.receive()


class Stranger:
    """A libp2p host of the right manners (Noise, yamux, metadata), and no others."""

    def __init__(self, cluster: int | None) -> None:
        self.seed = next(SEEDS).to_bytes(32, "big")
        self.host = build_host(LibP2PConfig(), self.seed)
        self.cluster = cluster
        self.host.set_stream_handler(METADATA, self._answer)

    @property
    def peer(self) -> PeerId:
        return PeerId(self.host.get_id().to_base58())

    @property
    def address(self) -> str:
        return str(self.host.get_addrs()[0])

    async def _answer(self, stream: Any) -> None:
        await answer_metadata(stream, Metadata(self.cluster, ()))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(run_host, self.host, [Multiaddr("/ip4/127.0.0.1/tcp/0")], stop)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                stop.set()

    async def connect(self, node: Node) -> Any:
        """Return the swarm's connection."""
        address = Multiaddr(node.address.rsplit("/p2p/", 1)[0])
        return await self.host.get_network().dial_addr(address, ID.from_base58(node.peer))

    async def stream(self, node: Node, protocol: str) -> Any:
        return await self.host.new_stream(ID.from_base58(node.peer), [protocol])


class World:
    topic: PubsubTopic = TOPIC

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery

    async def node(
        self, seed: bytes = b"", gossip_slots: int = 10_000, archive: Archive | None = None, **config: Any
    ) -> Node:
        node = Node(LibP2PConfig(**config), seed or next(SEEDS).to_bytes(32, "big"), gossip_slots, archive)
        await self.nursery.start(node.run)
        return node

    async def nodes(self, count: int, validate: Validator = accept) -> list[Node]:
        """Nodes that follow the topic, each connected to each."""
        nodes = [await self.node() for _ in range(count)]
        for node in nodes:
            await node.network.subscribe(TOPIC, validate)
        for index, node in enumerate(nodes):
            for other in nodes[:index]:
                assert await node.network.dial(other.address) == other.peer
        await self.until(lambda: all(len(n.network.mesh(TOPIC)) == count - 1 for n in nodes))
        return nodes

    async def stranger(self, cluster: int | None = 1717) -> Stranger:
        stranger = Stranger(cluster)
        await self.nursery.start(stranger.run)
        return stranger

    @staticmethod
    async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        with trio.fail_after(timeout_s):
            while not condition():
                await trio.sleep(0.005)

    @staticmethod
    @asynccontextmanager
    async def within(timeout_s: float) -> Any:
        with trio.fail_after(timeout_s):
            yield


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    return World(nursery)
