"""Relay between hosts on loopback."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors.ports import Gossip, PeerConnected, PeerLost
from protocols.ids import PeerId
from protocols.verdict import Accept, Ignore, Reject, Verdict
from protocols.waku import MAX_MESSAGE_BYTES, RELAY, pubsub_topic


def accept(_peer: PeerId, _data: bytes) -> Verdict:
    return Accept()


async def test_four_nodes_mesh_quickly_and_all_hear_all(world: Any) -> None:
    began_s = trio.current_time()
    nodes = await world.nodes(4)
    assert trio.current_time() - began_s < 10.0  # 0.3 s when the machine is idle
    for node in nodes:
        assert await node.network.publish(world.topic, b"from " + node.peer.encode()) == 3
    expected = sorted(b"from " + node.peer.encode() for node in nodes)
    for node in nodes:
        assert sorted(await node.heard(4)) == expected
        assert node.network.connected() == tuple(sorted(n.peer for n in nodes if n is not node))


async def test_a_message_goes_over_two_hops(world: Any) -> None:
    a, b, c = [await world.node() for _ in range(3)]
    for node in (a, b, c):
        await node.network.subscribe(world.topic, accept)
    await a.network.dial(b.address)
    await b.network.dial(c.address)
    await world.until(lambda: len(b.network.mesh(world.topic)) == 2)
    await a.network.publish(world.topic, b"news")
    assert await c.heard(1) == [b"news"]


async def test_a_burst_of_2000_arrives_whole(world: Any) -> None:
    """Stock: 32-slot queues and a rate limit deliver 32 of a burst of 200."""
    nodes = await world.nodes(3)
    sent = [b"%06d" % n for n in range(2000)]
    async with trio.open_nursery() as nursery:
        for data in sent:
            nursery.start_soon(nodes[0].network.publish, world.topic, data)
    for node in nodes:
        assert sorted(await node.heard(2000, 60)) == sent
    assert nodes[0].network.counts().relay.shed == 0


async def test_messages_of_the_largest_size(world: Any) -> None:
    a, b = await world.nodes(2)
    for n in range(40):
        await a.network.publish(world.topic, n.to_bytes(2, "big") + bytes(MAX_MESSAGE_BYTES - 2))
    heard = await b.heard(40, 30)
    assert [int.from_bytes(data[:2], "big") for data in heard] == list(range(40))
    with pytest.raises(ValueError, match="Waku carries"):
        await a.network.publish(world.topic, bytes(MAX_MESSAGE_BYTES + 1))


async def test_what_is_published_right_after_a_dial_arrives(world: Any) -> None:
    a, b = await world.node(), await world.node()
    for node in (a, b):
        await node.network.subscribe(world.topic, accept)
    await a.network.dial(b.address)
    await a.network.publish(world.topic, b"at once")  # no subscription has been heard yet
    assert await b.heard(1, 3) == [b"at once"]


async def test_topics_are_apart_and_can_be_left(world: Any) -> None:
    a, b = await world.nodes(2)
    other = pubsub_topic(1717, 1)
    await a.network.subscribe(other, accept)
    await a.network.subscribe(other, accept)  # idempotent
    await b.network.subscribe(other, accept)
    await world.until(lambda: a.network.mesh(other) == (b.peer,))
    await a.network.publish(other, b"other")
    with trio.fail_after(3):
        assert await b.gossip.receive() == Gossip(other, b"other")
    await b.network.unsubscribe(other)
    await world.until(lambda: a.network.mesh(other) == ())
    assert await a.network.publish(other, b"nobody listens") == 0
    await a.network.publish(world.topic, b"still here")
    assert await b.heard(1) == [b"still here"]


# -- Verdicts ------------------------------------------------------------------


async def test_validators_decide_and_a_rejected_sender_is_disconnected(world: Any) -> None:
    judged: list[tuple[PeerId, bytes]] = []

    def validate(peer: PeerId, data: bytes) -> Verdict:
        judged.append((peer, data))
        return Reject("bad") if data.startswith(b"bad") else Ignore("dull") if data.startswith(b"dull") else Accept()

    liar, honest, judge = [await world.node() for _ in range(3)]
    await judge.network.subscribe(world.topic, validate)
    for node in (liar, honest):
        await node.network.subscribe(world.topic, accept)
        await node.network.dial(judge.address)
    await world.until(lambda: len(judge.network.mesh(world.topic)) == 2)
    for n in range(50):
        await honest.network.publish(world.topic, b"dull %d" % n)
    await honest.network.publish(world.topic, b"good")
    assert await judge.heard(1) == [b"good"]
    assert (honest.peer, b"good") in judged
    for n in range(50):
        await liar.network.publish(world.topic, b"bad %d" % n)
    await world.until(lambda: judge.network.connected() == (honest.peer,))
    counts = judge.network.counts().relay
    assert counts.ignored == 50
    assert counts.rejected >= 20
    assert await liar.heard(60, 0.3) != []  # its own; of the others' it lost nothing that it needed


async def test_a_validator_that_raises_harms_nobody(world: Any) -> None:
    """Stock: ends the host."""

    def validate(_peer: PeerId, data: bytes) -> Verdict:
        if data == b"poison":
            raise RuntimeError("a fault of ours")
        return Accept()

    a, b = await world.node(), await world.node()
    await a.network.subscribe(world.topic, accept)
    await b.network.subscribe(world.topic, validate)
    await a.network.dial(b.address)
    for data in (b"poison", b"food"):
        await a.network.publish(world.topic, data)
    assert await b.heard(1) == [b"food"]
    assert b.network.counts().relay.validator_faults == 1
    assert b.network.connected() == (a.peer,)


async def test_what_our_own_validator_refuses_is_not_sent(world: Any) -> None:
    a, b = await world.nodes(2, validate=lambda _p, data: Ignore("no") if data == b"no" else Accept())
    assert await a.network.publish(world.topic, b"no") == 0
    assert await a.network.publish(world.topic, b"yes") == 1
    assert await b.heard(1) == [b"yes"]


# -- Loss and return -----------------------------------------------------------


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_a_node_that_comes_back_is_in_the_mesh_at_once(world: Any, way: str) -> None:
    a, b, c = await world.nodes(3)
    seed, gone = c.seed, c.peer
    await getattr(c, way)()
    await world.until(lambda: gone not in a.network.connected() + b.network.connected())
    await a.network.publish(world.topic, b"missed")
    again = await world.node(seed=seed)
    await again.network.subscribe(world.topic, accept)
    began_s = trio.current_time()
    assert await again.network.dial(a.address) == a.peer
    assert await again.network.dial(b.address) == b.peer
    await world.until(lambda: gone in a.network.mesh(world.topic) and gone in b.network.mesh(world.topic))
    assert trio.current_time() - began_s < 10.0  # a minute, where its old place keeps it out
    assert await again.heard(1, 3) == [b"missed"]  # by IHAVE: within the last ten seconds
    await b.network.publish(world.topic, b"fresh")
    assert await again.heard(1) == [b"fresh"]
    events = [await a.event() for _ in range(4)]
    assert events == [PeerConnected(b.peer), PeerConnected(gone), PeerLost(gone), PeerConnected(gone)]


async def test_a_cut_connection_is_mended_by_a_dial(world: Any) -> None:
    a, b = await world.nodes(2)
    for n in range(5):
        for connection in a.network._swarm.get_connections():
            await connection.muxed_conn.secured_conn.close()
        await world.until(lambda: a.network.connected() == b.network.connected() == ())
        assert await b.network.dial(a.address) == a.peer
        await world.until(lambda: a.network.mesh(world.topic) == (b.peer,) and b.network.mesh(world.topic) == (a.peer,))
        await a.network.publish(world.topic, b"%d" % n)
        assert await b.heard(1, 3) == [b"%d" % n]


async def test_both_dial_at_once(world: Any) -> None:
    a, b = await world.node(), await world.node()
    for node in (a, b):
        await node.network.subscribe(world.topic, accept)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(a.network.dial, b.address)
            nursery.start_soon(b.network.dial, a.address)
    await world.until(lambda: a.network.mesh(world.topic) == (b.peer,) and b.network.mesh(world.topic) == (a.peer,))
    await a.network.publish(world.topic, b"hello")
    assert await b.heard(1) == [b"hello"]
    assert await a.event() == PeerConnected(b.peer)
    with pytest.raises(trio.WouldBlock):
        a.events.receive_nowait()


# -- Slow ones -----------------------------------------------------------------


async def test_a_peer_that_reads_nothing_stalls_nobody(world: Any) -> None:
    a, b = await world.nodes(2)
    stalled = await world.stranger()

    async def never_read(_stream: Any) -> None:
        await trio.sleep_forever()

    stalled.host.set_stream_handler(RELAY, never_read)
    await stalled.connect(a)
    stream = await stalled.stream(a, RELAY)
    await stream.write(_subscribe(world.topic))
    await world.until(lambda: stalled.peer in a.network.mesh(world.topic))
    began_s = trio.current_time()
    for n in range(150):
        await a.network.publish(world.topic, n.to_bytes(2, "big") + bytes(MAX_MESSAGE_BYTES - 2))
    assert len(await b.heard(150, 20)) == 150
    assert trio.current_time() - began_s < 10.0
    assert a.network.counts().relay.shed > 0  # 22 MB for a peer whose queue holds 16


async def test_a_slow_actor_blocks_only_its_own_channel(world: Any) -> None:
    a, b = await world.node(), await world.node(gossip_slots=1)
    for node in (a, b):
        await node.network.subscribe(world.topic, accept)
    await a.network.dial(b.address)
    for n in range(500):
        await a.network.publish(world.topic, b"%d" % n)
    await trio.sleep(0.2)
    assert await a.network.request(b.peer, "/nobody/1", b"", limit_bytes=1, timeout_s=2) is not None
    assert sorted(await b.heard(500)) == sorted(b"%d" % n for n in range(500))


def _subscribe(topic: str) -> bytes:
    inner = b"\x08\x01\x12" + bytes([len(topic)]) + topic.encode()
    rpc = b"\x0a" + bytes([len(inner)]) + inner
    return bytes([len(rpc)]) + rpc
