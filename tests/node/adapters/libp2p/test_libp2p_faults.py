"""py-libp2p 0.8.1's faults below the relay, each with the test that the stock library fails."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

import pytest
import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from actors.ports import NoAnswer, PeerConnected, PeerLost
from node.adapters.libp2p import LibP2PConfig, muxer, open_network, sender
from node.adapters.libp2p.muxer import BoundedYamux
from node.adapters.libp2p.queue import SheddingQueue
from node.adapters.libp2p.relay import _frame, _take_frames
from node.adapters.libp2p.streams import LENGTH
from protocols.ids import PeerId
from protocols.verdict import Accept, Reject
from protocols.waku import RELAY
from protocols.waku_rpc import MAX_RPC_BYTES

BLOB = "/skynet/blob/1"


async def echo(_peer: PeerId, question: bytes) -> bytes | None:
    return question


def transport(node: Any) -> str:
    return str(node.address.rsplit("/p2p/", 1)[0])


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def raw_socket(connection: Any) -> Any:
    return connection.muxed_conn.secured_conn.conn.read_writer.read_write_closer.stream.stream.socket


# -- Dialling ------------------------------------------------------------------


async def test_a_connect_is_quick(world: Any) -> None:
    """Stock: 250 ms at least, waiting for a second connection."""
    a, b = await world.node(), await world.node()
    took_s = []
    for _ in range(5):
        began_s = trio.current_time()
        assert await a.network.dial(b.address) == b.peer
        took_s.append(trio.current_time() - began_s)
        await a.network._peers.disconnect(b.peer, "test")
        await world.until(lambda: not a.network.connected() and not b.network.connected())
    assert min(took_s) < 0.2  # 0.02 s when the machine is idle


async def test_every_address_of_a_peer_is_tried(world: Any) -> None:
    """Stock: one TCP address, and a minute's refusal after it."""
    a, b = await world.node(), await world.node()
    dead = Multiaddr(f"/ip4/127.0.0.1/tcp/{unused_port()}")
    for alive in (transport(b), f"/dns4/localhost/tcp/{transport(b).rsplit('/', 1)[1]}"):
        a.network._book[b.peer] = {dead: None}
        assert isinstance(await a.network.dial(f"{dead}/p2p/{b.peer}"), NoAnswer)
        assert await a.network.dial(f"{alive}/p2p/{b.peer}") == b.peer
        await a.network._peers.disconnect(b.peer, "test")
        await world.until(lambda: not a.network.connected() and not b.network.connected())
        assert await a.network.dial(f"{dead}/p2p/{b.peer}") == b.peer  # by the address that led to it before
        await a.network._peers.disconnect(b.peer, "test")
        await world.until(lambda: not a.network.connected() and not b.network.connected())
        a.network._book.clear()


async def test_addresses_that_lead_nowhere(world: Any) -> None:
    a, b = await world.node(), await world.node()
    other = (await world.node()).peer
    for address in (
        "",
        "nonsense",
        transport(b),
        f"/ip4/127.0.0.1/tcp/{unused_port()}/p2p/{b.peer}",
        f"{transport(b)}/p2p/{other}",
        f"/dns4/name.invalid/tcp/1/p2p/{b.peer}",
        f"/ip4/127.0.0.1/udp/1/quic-v1/p2p/{b.peer}",
        a.address,
    ):
        refused = await a.network.dial(address, timeout_s=3)
        assert isinstance(refused, NoAnswer), address
        assert refused.reason
    assert await a.network.dial(b.address) == b.peer


async def test_a_listener_that_says_nothing_is_given_up(world: Any) -> None:
    a = await world.node()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{(await world.node()).peer}"
        began_s = trio.current_time()
        refused = await a.network.dial(address, timeout_s=0.5)
        assert isinstance(refused, NoAnswer)
        assert trio.current_time() - began_s < 2.0


async def test_nobody_is_dialled_unasked(world: Any) -> None:
    """Stock: dials what strangers put into the peer store."""
    a, b, c = [await world.node() for _ in range(3)]
    a.network._host.get_peerstore().add_addrs(ID.from_base58(b.peer), [Multiaddr(transport(b))], 1000)
    await a.network.dial(c.address)
    await a.network._peers.disconnect(c.peer, "test")  # stock: below its mark, it looks for others
    await trio.sleep(0.5)
    assert a.network._swarm.get_connections() == []


# -- Connections ---------------------------------------------------------------


async def test_inbound_slots_come_back(world: Any) -> None:
    """Stock: after as many connections as it has slots a node accepts no more, ever."""
    node = await world.node(max_peers=3)
    for _ in range(8):
        guest = await world.node()
        assert await guest.network.dial(node.address) == node.peer
        await guest.stop()
        await world.until(lambda: not node.network._swarm.get_connections())


async def test_beyond_max_peers_is_refused_and_later_welcome(world: Any) -> None:
    node = await world.node(max_peers=2)
    guests = [await world.node() for _ in range(3)]
    for guest in guests[:2]:
        assert await guest.network.dial(node.address) == node.peer
    assert isinstance(await guests[2].network.dial(node.address, timeout_s=2), NoAnswer)
    await guests[0].stop()
    await world.until(lambda: len(node.network._swarm.get_connections()) == 1)
    assert await guests[2].network.dial(node.address) == node.peer


async def test_few_frames_a_request(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock: 110, since each single byte that is read is answered with a window update."""
    a, b = await world.node(), await world.node()
    b.network.respond(BLOB, echo, limit_bytes=100)
    await a.network.dial(b.address)
    frames = 0
    write = BoundedYamux._write_frame

    async def count(self: Any, data: bytes) -> None:
        nonlocal frames
        frames += 1
        await write(self, data)

    monkeypatch.setattr(BoundedYamux, "_write_frame", count)
    for _ in range(20):
        assert await a.network.request(b.peer, BLOB, b"?", limit_bytes=9, timeout_s=5) == b"?"
    assert frames <= 20 * 20


async def test_a_peer_that_stops_reading_its_socket_is_cut_off(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock: our writes wait for ever, with a lock that close and shutdown need."""
    monkeypatch.setattr(muxer, "WRITE_TIMEOUT_S", 0.5)
    node, frozen = await world.node(), await world.stranger()
    ours = await freeze(world, node, frozen)
    world.nursery.start_soon(fill, ours)
    await world.until(lambda: node.network.connected() == (), 3)
    assert [await node.event(), await node.event()] == [PeerConnected(frozen.peer), PeerLost(frozen.peer)]


async def freeze(world: Any, node: Any, frozen: Any) -> Any:
    """Let the stranger connect and stop reading its socket; return our connection to it."""
    connection = await frozen.connect(node)
    await world.until(lambda: node.network.connected() == (frozen.peer,))

    async def never(*_args: Any) -> bytes:
        await trio.sleep_forever()

    connection.muxed_conn.secured_conn.read = never
    (ours,) = node.network._swarm.get_connections()
    return ours


async def fill(connection: Any) -> None:
    """Write pings, which no window bounds."""
    with suppress(Exception):
        while True:
            await connection.muxed_conn._write_frame(bytes(12) * 5000)


async def test_a_peer_that_comes_back_while_its_old_connection_hangs(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power cut, new network: nobody told us that the first connection is dead."""
    monkeypatch.setattr(muxer, "PING_TIMEOUT_S", 0.3)
    node = await world.node()
    await node.network.subscribe(world.topic, lambda _p, _d: Accept())
    frozen = await world.stranger()
    await freeze(world, node, frozen)
    again = await world.node(seed=frozen.seed)
    await again.network.subscribe(world.topic, lambda _p, _d: Accept())
    await again.network.dial(node.address)
    await world.until(lambda: len(node.network._swarm.get_connections()) == 1)
    await world.until(lambda: node.network.mesh(world.topic) == (again.peer,))
    await node.network.publish(world.topic, b"to the living")
    assert await again.heard(1, 3) == [b"to the living"]


async def test_a_peer_without_relay_is_left_in_peace(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock: asks a light client for a stream for ever."""
    monkeypatch.setattr(sender, "RETRY_S", 0.001)
    node, light = await world.node(), await world.stranger()
    light.host.set_stream_handler(BLOB, _answer_hi)
    await light.connect(node)
    await world.until(lambda: node.network.connected() == (light.peer,))
    await world.until(lambda: not node.network._relay._senders)
    assert await node.network.request(light.peer, BLOB, b"", limit_bytes=9, timeout_s=3) == b"hi"
    stream = await light.stream(node, RELAY)  # now it has learned relay
    light.host.set_stream_handler(RELAY, _read_all)
    await stream.write(b"\0")
    await world.until(lambda: light.peer in node.network._relay._senders)


async def _answer_hi(stream: Any) -> None:
    await stream.write(LENGTH.pack(2) + b"hi")


async def _read_all(stream: Any) -> None:
    while await stream.read(1000):
        pass


async def test_a_peer_that_reads_no_relay_stream_is_disconnected(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "RETRY_S", 0.001)
    node, rude = await world.node(), await world.stranger()

    async def refuse(stream: Any) -> None:
        await stream.reset()

    rude.host.set_stream_handler(RELAY, refuse)
    await rude.connect(node)
    assert [await node.event(), await node.event()] == [PeerConnected(rude.peer), PeerLost(rude.peer)]


async def test_vanished_peers_are_noticed(world: Any) -> None:
    """Stock: never, while nothing is sent; a quarter of an hour otherwise."""
    a, b = await world.nodes(2)
    for node in (a, b):
        (connection,) = node.network._swarm.get_connections()
        sock = raw_socket(connection)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000


# -- Beginning and end ---------------------------------------------------------


async def test_an_address_that_is_taken_is_an_error(world: Any) -> None:
    """Stock: SO_REUSEPORT, and half of the connections go astray."""
    node = await world.node()
    for config in (LibP2PConfig(listen=(transport(node),)), LibP2PConfig(listen=("/ip4/203.0.113.1/tcp/0",))):
        with pytest.raises(OSError, match="can't listen on /ip4/"):
            async with open_network(config, bytes(32), node.gossip_in, node.events_in):
                pass
    with pytest.raises(ValueError, match="cluster 16"):
        LibP2PConfig(cluster=16)
    with pytest.raises(ValueError, match="shards"):
        LibP2PConfig(shards=0)
    with pytest.raises(ValueError, match="max_peers"):
        LibP2PConfig(max_peers=0)


@pytest.mark.parametrize("way", ["end", "cancel"])
async def test_shutdown_under_traffic_is_clean_and_quick(world: Any, way: str) -> None:
    """Stock: "Nursery is closed to new arrivals", an open listener, open sockets."""
    friend = await world.node()
    friend.network.respond(BLOB, echo, limit_bytes=10**6)
    await friend.network.subscribe(world.topic, lambda _p, _d: Accept())
    for _ in range(3):
        gossip_in, gossip = trio.open_memory_channel[Any](10_000)
        with gossip, trio.CancelScope() as scope:
            async with open_network(LibP2PConfig(), bytes(31) + b"\1", gossip_in, friend.events_in) as network:
                network.respond(BLOB, echo, limit_bytes=10**6)
                await network.subscribe(world.topic, lambda _p, _d: Accept())
                await network.dial(friend.address)
                address = network.addresses[0]
                async with trio.open_nursery() as nursery:
                    for node, other in ((network, friend.peer), (friend.network, network.peer)):
                        nursery.start_soon(_chatter, node, other, world.topic)
                    await trio.sleep(0.3)
                    began_s = trio.current_time()
                    if way == "cancel":
                        scope.cancel()
                    nursery.cancel_scope.cancel()
        assert trio.current_time() - began_s < 2.0
        port = int(Multiaddr(address).value_for_protocol("tcp"))
        with pytest.raises(OSError, match=r"."):
            await trio.open_tcp_stream("127.0.0.1", port)
        await world.until(lambda: not friend.network.connected())


async def _chatter(network: Any, peer: PeerId, topic: Any) -> None:
    with suppress(trio.ClosedResourceError):
        for n in range(100_000):
            await network.publish(topic, n.to_bytes(8, "big") + bytes(2000))
            if n % 5 == 0:
                await network.request(peer, BLOB, bytes(1000), limit_bytes=1000, timeout_s=5)


@pytest.mark.parametrize("busy", [True, False])
async def test_shutdown_does_not_wait_for_a_stalled_peer(world: Any, busy: bool) -> None:
    node = await world.node()
    ours = await freeze(world, node, await world.stranger())
    if busy:
        world.nursery.start_soon(fill, ours)
        await trio.sleep(0.3)
    else:
        with suppress(BlockingIOError):
            while True:
                os.write(raw_socket(ours).fileno(), bytes(100_000))
    began_s = trio.current_time()
    await node.stop()
    assert trio.current_time() - began_s < 4.0


# -- Queues and frames ---------------------------------------------------------


async def test_a_full_queue_sheds_its_oldest() -> None:
    queue: SheddingQueue[int] = SheddingQueue(max_items=3, max_bytes=100)
    for n in range(5):
        queue.put(n, 10)
    assert (len(queue), queue.size_bytes, queue.shed) == (3, 30, 2)
    assert await queue.take(20) == [2, 3]
    queue.put(5, 99)
    assert (len(queue), queue.shed) == (1, 3)
    queue.put(6, 1000)  # larger than the queue: carried alone
    assert await queue.take(1) == [6]
    queue.wake()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.take, 1)
        await trio.testing.wait_all_tasks_blocked()
        queue.wake()


def test_frames_are_cut_wherever_the_bytes_are() -> None:
    data = [b"", b"a", b"b" * 200, b"c" * 70_000]
    wire = b"".join(_frame(each) for each in data)
    for step in (1, 7, 1000, len(wire)):
        buffer, found = bytearray(), []
        for start in range(0, len(wire), step):
            buffer += wire[start : start + step]
            found += _take_frames(buffer)
        assert found == data
        assert not buffer


@pytest.mark.parametrize("bad", [_frame(b"")[:0] + b"\xff" * 10, b"\x80" * 11, _frame(bytes(MAX_RPC_BYTES + 1))[:20]])
def test_impossible_lengths_end_the_stream(bad: bytes) -> None:
    *good, last = _take_frames(bytearray(_frame(b"good") + bad))
    assert good == [b"good"]
    assert isinstance(last, Reject)
