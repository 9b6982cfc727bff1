"""Strangers: whatever they send, the node goes on serving the others."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from actors.ports import NoAnswer
from node.adapters.libp2p import streams
from node.adapters.libp2p.host import build_host
from node.adapters.libp2p.streams import LENGTH
from protocols.ids import PeerId
from protocols.waku import METADATA, RELAY, Metadata, encode_metadata
from protocols.waku_rpc import IHave, Prune, Publication, Rpc, Subscription, encode_rpc
from protocols.waku_wire import encode_varint

BLOB = "/skynet/blob/1"
IDENTIFY, PING = "/ipfs/id/1.0.0", "/ipfs/ping/1.0.0"
COUNT = 200


async def echo(_peer: PeerId, question: bytes) -> bytes | None:
    return question


async def target(world: Any) -> tuple[Any, Any]:
    """A node that serves everything, and an honest friend of it."""
    node, friend = await world.nodes(2)
    node.network.respond(BLOB, echo, limit_bytes=1000)
    return node, friend


async def assert_well(world: Any, node: Any, friend: Any) -> None:
    data = random.randbytes(20)
    await friend.network.publish(world.topic, data)
    assert await node.heard(1) == [data]
    assert await friend.network.request(node.peer, BLOB, data, limit_bytes=100, timeout_s=5) == data
    newcomer = await world.node()
    assert await newcomer.network.dial(node.address) == node.peer
    await newcomer.stop()


def samples(protocol: str, topic: Any, chance: random.Random) -> list[bytes]:
    """Half random bytes, half good messages with a few bytes changed, cut or repeated."""
    rpc = Rpc(
        subscriptions=(Subscription(topic, True),),
        publications=(Publication(topic, b"data" * 20),),
        ihave=(IHave(topic, (bytes(32), b"x" * 32)),),
        iwant=(bytes(32),),
        graft=(topic,),
        prune=(Prune(topic, 1),),
    )
    metadata = encode_metadata(Metadata(1717, (0, 1)))
    good = {
        RELAY: encode_varint(len(encode_rpc(rpc))) + encode_rpc(rpc),
        METADATA: encode_varint(len(metadata)) + metadata,
        BLOB: LENGTH.pack(5) + b"hello",
    }.get(protocol, b"\x20" + bytes(32))
    found = [chance.randbytes(chance.randrange(1, 300)) for _ in range(COUNT // 2)]
    for _ in range(COUNT // 2):
        bad = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        found.append(bytes(bad[: chance.randrange(1, len(bad) + 1)] * chance.randrange(1, 3)))
    return found


@pytest.mark.parametrize("protocol", [RELAY, METADATA, BLOB, IDENTIFY, PING])
async def test_200_bad_byte_strings_on_each_protocol(world: Any, protocol: str, monkeypatch: Any) -> None:
    """Stock: 51 garbage bytes on the pubsub stream end the host."""
    monkeypatch.setattr(streams, "FAREWELL_S", 0.1)
    node, friend = await target(world)
    chance = random.Random(protocol)
    attacker = await world.stranger()
    await attacker.connect(node)
    for said in samples(protocol, world.topic, chance):
        try:
            with trio.move_on_after(2):
                stream = await attacker.stream(node, protocol)
                await stream.write(said)
                await stream.close()
        except Exception:  # noqa: BLE001  thrown out: come back as somebody else
            attacker = await world.stranger()
            with suppress(Exception):
                await attacker.connect(node)
    await assert_well(world, node, friend)


async def test_bad_bytes_before_any_protocol(world: Any) -> None:
    """On the socket, and on a stream instead of multistream-select."""
    node, friend = await target(world)
    chance = random.Random(7)
    port = int(Multiaddr(node.address).value_for_protocol("tcp"))
    noise = b"\x13/multistream/1.0.0\n\x07/noise\n"
    for number in range(40):
        with suppress(OSError):
            socket = await trio.open_tcp_stream("127.0.0.1", port)
            await socket.send_all((noise if number % 2 else b"") + chance.randbytes(chance.randrange(1, 200)))
            await socket.aclose()
    stranger = await world.stranger()
    for number in range(40):
        if not stranger.host.get_network().get_connections():
            await stranger.connect(node)
        with suppress(Exception):
            muxed = stranger.host.get_network().get_connections()[0].muxed_conn
            if number % 2:
                stream = await muxed.open_stream()
                await stream.write(chance.randbytes(50))
                await stream.reset()
            else:  # inside the encryption, instead of a yamux frame
                await muxed.secured_conn.write(chance.randbytes(chance.randrange(1, 60)))
                await trio.sleep(0.01)
    await assert_well(world, node, friend)


async def test_a_peer_that_ignores_its_window_is_cut_off(world: Any) -> None:
    """Stock: it fills the memory."""

    async def think(_peer: PeerId, _question: bytes) -> bytes | None:
        await trio.sleep_forever()

    node, friend = await target(world)
    node.network.respond("/slow/1", think, limit_bytes=10)
    stranger = await world.stranger()
    await stranger.connect(node)
    stream = await stranger.stream(node, "/slow/1")
    await stream.write(LENGTH.pack(1) + b"?")
    (there,) = [c for c in node.network._swarm.get_connections() if c.muxed_conn.peer_id != ID.from_base58(friend.peer)]
    largest = 0
    with suppress(Exception):
        for _ in range(100):
            stream.muxed_stream.send_window = 2**31
            with trio.fail_after(2):
                await stream.muxed_stream.write(bytes(1024 * 1024))
            largest = max(largest, sum(map(len, there.muxed_conn.stream_buffers.values())))
    assert 32 * 1024 * 1024 < largest <= 64 * 1024 * 1024
    await world.until(lambda: node.network.connected() == (friend.peer,))
    await assert_well(world, node, friend)


async def test_another_cluster_is_refused_both_ways(world: Any) -> None:
    ours, theirs = await world.node(), await world.node(cluster=2222)
    for here, there in ((ours, theirs), (theirs, ours)):
        refused = await here.network.dial(there.address)
        assert isinstance(refused, NoAnswer)
        assert "cluster" in refused.reason
        await world.until(lambda: not ours.network._swarm.get_connections() + theirs.network._swarm.get_connections())
    assert ours.network.connected() == theirs.network.connected() == ()
    for node in (ours, theirs):
        with pytest.raises(trio.WouldBlock):
            node.events.receive_nowait()


async def test_a_peer_without_a_cluster_or_without_metadata_is_refused(world: Any) -> None:
    node = await world.node()
    silent = await world.stranger(cluster=None)
    refused = await node.network.dial(silent.address)
    assert isinstance(refused, NoAnswer)
    silent.host.remove_stream_handler(METADATA)
    refused = await node.network.dial(silent.address)
    assert isinstance(refused, NoAnswer)
    assert "metadata" in refused.reason


async def test_nobody_is_served_before_admission(world: Any) -> None:
    node = await world.node()
    node.network.respond(BLOB, echo, limit_bytes=1000)
    foreign = await world.stranger(cluster=9999)
    await foreign.connect(node)
    answer = b""
    with suppress(Exception), trio.move_on_after(3):
        stream = await foreign.stream(node, BLOB)
        await stream.write(LENGTH.pack(2) + b"hi")
        answer = await stream.read(100)
    assert answer == b""


async def test_plaintext_is_not_spoken(world: Any) -> None:
    """Stock: accepted by default, and in it a peer may claim any id."""
    node = await world.node()
    pair = create_new_key_pair()
    impostor = build_host(node.config, bytes(32))
    plain = TransportUpgrader({PLAINTEXT_PROTOCOL_ID: InsecureTransport(pair, peerstore=impostor.get_peerstore())}, {})
    impostor.get_network().upgrader = plain
    address = Multiaddr(node.address.rsplit("/p2p/", 1)[0])
    async with impostor.run(listen_addrs=[]):
        with pytest.raises(Exception, match="security"):
            await impostor.get_network().dial_addr(address, ID.from_base58(node.peer))
