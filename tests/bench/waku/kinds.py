"""What a benched process can be: our relay, our relay with confirmed delivery, or stock py-libp2p."""

from __future__ import annotations

import logging
import os
import struct
import time
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

HEAD = struct.Struct(">BId")  # who, which, when (CLOCK_MONOTONIC is one clock for all processes)
CLUSTER, SHARDS = 1717, 8


class Kind(Protocol):
    """A node, as the bench drives it."""

    address: str

    async def dial(self, address: str) -> None: ...
    async def publish(self, payload: bytes) -> None: ...
    def kill_connection(self, index: int) -> bool: ...
    def counts(self) -> dict[str, int]: ...


@dataclass
class Heard:
    """What arrived here, once each, and how long it took."""

    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    twice: int = 0
    seen: dict[int, bytearray] = field(default_factory=dict)

    def __call__(self, payload: bytes) -> None:
        now_s = time.monotonic()
        who, number, sent_s = HEAD.unpack_from(payload)
        bits = self.seen.setdefault(who, bytearray())
        if len(bits) <= number // 8:
            bits.extend(bytes(max(1024, number // 8 + 1 - len(bits))))
        if bits[number // 8] >> (number % 8) & 1:
            self.twice += 1
            return
        bits[number // 8] |= 1 << (number % 8)
        self.latencies_s.append(now_s - sent_s)

    def forget(self) -> None:
        self.latencies_s, self.twice, self.seen = array("d"), 0, {}


def make_payload(who: int, number: int, size_bytes: int) -> bytes:
    return HEAD.pack(who, number, time.monotonic()) + bytes(size_bytes - HEAD.size)


# -- Ours ----------------------------------------------------------------------


class OurRelay:
    """The adapter with a validator that decodes, as the stock one's does."""

    def __init__(self, network: Any, topic: Any, heard: Heard) -> None:
        self._network, self._topic = network, topic
        self.address = network.addresses[0]

    async def dial(self, address: str) -> None:
        answer = await self._network.dial(address)
        if not isinstance(answer, str):
            raise RuntimeError(answer.reason)

    async def publish(self, payload: bytes) -> None:
        from protocols import waku

        message = waku.WakuMessage(payload, waku.content_topic("bench"), timestamp_ns=time.time_ns())
        await self._network.publish(self._topic, waku.encode_message(message))

    def kill_connection(self, index: int) -> bool:
        return _cut(self._network._swarm, index)

    def counts(self) -> dict[str, int]:
        return {"shed": self._network.counts().deliveries_shed + self._network.counts().relay.shed}


@asynccontextmanager
async def open_relay(seed: int, heard: Heard, _folder: Path) -> AsyncIterator[Kind]:
    import trio

    from actors.ports import Gossip, PeerEvent
    from node.adapters.libp2p import LibP2PConfig, open_network
    from protocols import waku
    from protocols.verdict import Accept, Reject, Verdict

    gossip_in, gossip = trio.open_memory_channel[Gossip](8192)
    events_in, events = trio.open_memory_channel[PeerEvent](1024)
    topic = waku.pubsub_topic(CLUSTER, 0)

    def validate(_peer: Any, data: bytes) -> Verdict:
        message = waku.decode_message(data)
        return message if isinstance(message, Reject) else Accept()

    async def read() -> None:
        async for item in gossip:
            message = waku.decode_message(item.data)
            if not isinstance(message, Reject):
                heard(message.payload)

    async def ignore() -> None:
        async for _ in events:
            pass

    async with (
        trio.open_nursery() as nursery,
        open_network(LibP2PConfig(), seed.to_bytes(32, "big"), gossip_in, events_in) as network,
    ):
        await network.subscribe(topic, validate)
        nursery.start_soon(read)
        nursery.start_soon(ignore)
        yield OurRelay(network, topic, heard)
        nursery.cancel_scope.cancel()


class OurDelivery:
    """The `link` group of a node's house (transport, gossip, discovery) with a job that everybody is a member of."""

    def __init__(self, house: Any, network: Any, job: Any, recipients: Callable[[], frozenset[bytes]]) -> None:
        self._house, self._network, self._job, self._recipients = house, network, job, recipients
        self.address = network.addresses[0]

    async def dial(self, address: str) -> None:
        from actors.mail import AddressesKnown

        await self._house.boxes["addresses"].send(AddressesKnown((address,)))

    async def publish(self, payload: bytes) -> None:
        from actors.mail import SendToJob

        await self._house.boxes["gossip"].send(SendToJob(self._job, _update(payload), self._recipients()))

    def kill_connection(self, index: int) -> bool:
        return _cut(self._network()._swarm if callable(self._network) else self._network._swarm, index)

    def counts(self) -> dict[str, int]:
        from dataclasses import asdict

        return asdict(self._house.gossip.counts)


def _update(payload: bytes) -> Any:
    from protocols.chain import Entry
    from protocols.message import UpdateAnnounced

    who, number, _ = HEAD.unpack_from(payload)
    entry: Any = Entry(f"0x{who:040x}", bytes(32), bytes(32))  # type: ignore[arg-type]
    nothing: Any = bytes(32)
    weights: Any = bytes(64)
    return UpdateAnnounced(number, nothing, entry, weights, (), (), b"", payload, 0.0)  # type: ignore[arg-type]


@asynccontextmanager
async def open_delivery(
    seed: int, heard: Heard, folder: Path, *, members: int = 5, loss: float = 0.0
) -> AsyncIterator[Kind]:
    import random

    import trio

    from actors.mail import JobMail, JoinJob
    from actors.ports import Record
    from node.adapters.libp2p import LibP2PConfig, open_network
    from node.identity import Keys, NodeVault, peer_id
    from node.secret import Secret
    from node.store import open_store
    from node.wiring import House, Settings, World
    from protocols.ids import JobId
    from protocols.message import UpdateAnnounced

    def keys_of(number: int) -> Keys:
        return Keys(*(Secret(bytes([part]) * 28 + (number + 1).to_bytes(4, "big")) for part in (1, 2, 3)))

    job, absent = JobId(b"b" * 32), None
    keys = keys_of(seed)
    everybody = [keys_of(n).identity for n in range(1, members + 1)]
    chance = random.Random(seed)

    class Lossy:
        """Between transport and gossip: loses a share of what arrives, as an overrun queue would."""

        def __init__(self, box: Any) -> None:
            self._box = box

        async def send(self, item: Any) -> None:
            if not loss or chance.random() >= loss:
                await self._box.send(item)
            else:
                await trio.lowlevel.checkpoint()

    class Mail:
        """The aggregator's place: notes what arrives, and deletes it from the Store once acted on."""

        def __init__(self) -> None:
            self.done: list[Any] = []

        async def send(self, mail: JobMail) -> None:
            if isinstance(mail.body, UpdateAnnounced):
                heard(mail.body.update)
            self.done.append(Record("mail", job + mail.message, None))
            if len(self.done) >= 64:
                done, self.done = self.done, []
                await store.write(*done)

    with open_store(folder) as store:
        vault = NodeVault(keys, store)
        shared = _fixed_job_key(b"k" * 32, job, vault.encryption_key)
        assert vault.unwrap(job, shared)
        opened: list[Any] = []

        @asynccontextmanager
        async def network(gossip: Any, events: Any) -> AsyncIterator[Any]:
            async with open_network(LibP2PConfig(), keys.node.reveal(), Lossy(gossip), events) as host:
                opened[:] = [host]
                yield host

        nothing: Any = absent
        world = World(
            peer_id(vault.node_key), network, nothing, vault, store, nothing, nothing, os.urandom, time.time
        )  # the link group asks nothing of chain and children
        house = House(world, Settings(CLUSTER, SHARDS, (), False, False, 1, 1.0, 0, 0))
        async with trio.open_nursery() as nursery:
            supervisor = house.supervise_link()

            async def run(task_status: Any) -> None:
                await supervisor.run(task_status=task_status)

            await nursery.start(run)
            await house.boxes["gossip"].send(JoinJob(job, frozenset(i.node_key for i in everybody), Mail()))
            others = frozenset(i.node_key for i in everybody) - {vault.node_key}
            yield OurDelivery(house, _Current(opened), job, lambda: others)
            nursery.cancel_scope.cancel()


class _Current:
    """The host of the transport that runs."""

    def __init__(self, opened: list[Any]) -> None:
        self._opened = opened

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened[0], name)


def _fixed_job_key(key: bytes, job: Any, encryption_key: bytes) -> bytes:
    from node.sealing import JobKey
    from node.secret import Secret

    return JobKey(Secret(key)).wrap(job, encryption_key)


# -- Stock ---------------------------------------------------------------------


class Stock:
    """py-libp2p's own Pubsub and GossipSub, with its Noise and yamux; `tuned` lifts the limits that drop."""

    def __init__(self, host: Any, pubsub: Any, topic: str) -> None:
        self._host, self._pubsub, self._topic = host, pubsub, topic
        self.address = str(host.get_addrs()[0])

    async def dial(self, address: str) -> None:
        from libp2p.peer.peerinfo import info_from_p2p_addr
        from multiaddr import Multiaddr

        await self._host.connect(info_from_p2p_addr(Multiaddr(address)))

    async def publish(self, payload: bytes) -> None:
        await self._pubsub.publish(self._topic, payload)

    def kill_connection(self, index: int) -> bool:
        return _cut(self._host.get_network(), index)

    def counts(self) -> dict[str, int]:
        return {}


@asynccontextmanager
async def open_stock(seed: int, heard: Heard, _folder: Path, *, tuned: bool = False) -> AsyncIterator[Kind]:
    import trio
    from libp2p import new_host
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.pubsub import pubsub as stock_pubsub
    from libp2p.pubsub import rpc_queue
    from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
    from libp2p.pubsub.pubsub import Pubsub
    from libp2p.tools.anyio_service import background_trio_service
    from multiaddr import Multiaddr

    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    options: dict[str, Any] = {"degree": 6, "degree_low": 4, "degree_high": 8, "heartbeat_interval": 1}
    if tuned:
        options |= {"spam_protection_enabled": False, "adaptive_gossip_enabled": False}
        options |= {"eclipse_protection_enabled": False}
        stock_pubsub.SUBSCRIPTION_CHANNEL_SIZE = 8192
        rpc_queue.RpcQueue.__init__.__defaults__ = (8192, *rpc_queue.RpcQueue.__init__.__defaults__[1:])
    listen = [Multiaddr("/ip4/127.0.0.1/tcp/0")]
    host = new_host(key_pair=create_new_key_pair(seed.to_bytes(32, "big")), listen_addrs=listen)
    router = GossipSub(protocols=[PROTOCOL_ID_V11], **options)
    pubsub = Pubsub(host, router, strict_signing=False)
    topic = "/bench"

    async def read(subscription: Any) -> None:
        while True:
            heard((await subscription.get()).data)

    async with (
        host.run(listen_addrs=listen),
        trio.open_nursery() as nursery,
        background_trio_service(pubsub),
        background_trio_service(router),
    ):
        await pubsub.wait_until_ready()
        nursery.start_soon(read, await pubsub.subscribe(topic))
        yield Stock(host, pubsub, topic)
        nursery.cancel_scope.cancel()


# -- Both ----------------------------------------------------------------------


def _cut(swarm: Any, index: int) -> bool:
    """Shut a connection's socket as a broken line would: nobody is told anything."""
    import socket as sockets

    connections = swarm.get_connections()
    if not connections:
        return False
    inner = connections[index % len(connections)].muxed_conn.secured_conn.conn
    for name in ("read_writer", "read_write_closer", "stream", "stream", "socket"):
        inner = getattr(inner, name)
    with suppress(OSError):
        inner.shutdown(sockets.SHUT_RDWR)
    return True


KINDS: dict[str, Callable[..., Any]] = {
    "relay": open_relay,
    "delivery": open_delivery,
    "stock": open_stock,
    "tuned": lambda *a: open_stock(*a, tuned=True),
    "lossy": lambda *a: open_delivery(*a, members=3, loss=0.1),
}
