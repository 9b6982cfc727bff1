"""Nodes that nobody can dial: they learn it, reserve a place at a relay, and are met through it."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from typing import Any

import pytest
import trio
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from actors.ports import NoAnswer
from node.adapters.libp2p import Role, reach
from node.adapters.libp2p.reach import _at_host
from node.adapters.libp2p.streams import read_varint_frame, write_varint_frame
from protocols.autonat import AUTONAT, Reachability
from protocols.circuit import HOP, STOP, CircuitLimits, CircuitMessage, CircuitStatus, Hop, decode_hop, encode_hop
from protocols.ids import ContentTopic, PeerId
from protocols.verdict import Accept

BLOB = "/skynet/blob/1"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "ASK_S", 0.05)
    monkeypatch.setattr(reach, "REQUESTS", (10.0, 100))


def dead_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"/ip4/127.0.0.1/tcp/{probe.getsockname()[1]}"


async def echo(_peer: PeerId, question: bytes) -> bytes | None:
    return question


def circuits_of(node: Any) -> list[str]:
    return [address for address in node.network.addresses if "/p2p-circuit/" in address]


async def hidden(world: Any, relay: Any, **config: Any) -> Any:
    """A node that tells an address at which nobody answers, once it has a place at the relay."""
    node = await world.node(announce=(dead_address(),), **config)
    node.network.respond(BLOB, echo, limit_bytes=10**7)
    await node.network.subscribe(world.topic, lambda _p, _d: Accept())
    assert await node.network.dial(relay.address) == relay.peer
    await world.until(lambda: bool(circuits_of(node)))
    return node


async def test_a_node_learns_whether_it_can_be_dialled(world: Any) -> None:
    friend = await world.node()
    seen = await world.node()
    assert seen.network.reachability is Reachability.UNKNOWN
    await seen.network.dial(friend.address)
    await world.until(lambda: seen.network.reachability is Reachability.PUBLIC)
    assert circuits_of(seen) == []
    unseen = await hidden(world, friend)
    assert unseen.network.reachability is Reachability.PRIVATE
    light = await world.node(role=Role.LIGHT, listen=(), content_topics=(ContentTopic("/a/1/b/c"),))
    assert light.network.reachability is Reachability.PRIVATE  # without asking: it listens nowhere


async def test_two_that_cannot_dial_each_other_meet_through_a_third(world: Any) -> None:
    relay = await world.node()
    a, b = [await hidden(world, relay) for _ in range(2)]
    assert isinstance(await b.network.dial(a.address), NoAnswer)
    assert circuits_of(a) == [f"{relay.address}/p2p-circuit/p2p/{a.peer}"]
    assert await b.network.dial(circuits_of(a)[0]) == a.peer
    await world.until(lambda: a.peer in b.network.connected() and b.peer in a.network.connected())
    question = random.Random(1).randbytes(3_000_000)
    assert await b.network.request(a.peer, BLOB, question, limit_bytes=10**7, timeout_s=30) == question
    await world.until(lambda: a.peer in b.network.mesh(world.topic))
    await a.network.publish(world.topic, b"through a third")
    assert await b.heard(1) == [b"through a third"]
    assert relay.network._circuit_relay.relaying.circuits == 1
    assert relay.network._circuit_relay.relayed_bytes > 6_000_000

    await relay.stop()
    await world.until(lambda: not a.network.connected() and not b.network.connected())
    assert circuits_of(a) == []


async def test_a_light_node_is_reached_through_a_relay(world: Any) -> None:
    relay, other = await world.node(), await world.node()
    light = await world.node(role=Role.LIGHT, listen=(), content_topics=(ContentTopic("/a/1/b/c"),))
    light.network.respond(BLOB, echo, limit_bytes=100)
    await light.network.dial(relay.address)
    await world.until(lambda: bool(circuits_of(light)))
    assert await other.network.dial(circuits_of(light)[0]) == light.peer  # which connects to the relay first
    assert await other.network.request(light.peer, BLOB, b"?", limit_bytes=9, timeout_s=5) == b"?"


async def test_a_circuit_ends_at_its_limit_and_the_relay_goes_on(world: Any) -> None:
    relay = await world.node(circuits=CircuitLimits(bytes=500_000))
    a, b = [await hidden(world, relay) for _ in range(2)]
    for size, fits in ((100_000, True), (2_000_000, False), (100_000, True)):
        await b.network.dial(circuits_of(a)[0])
        answer = await b.network.request(a.peer, BLOB, bytes(size), limit_bytes=10**7, timeout_s=5)
        assert (answer == bytes(size)) is fits
        if not fits:
            await world.until(lambda: a.peer not in b.network.connected())
    assert set(relay.network.connected()) == {a.peer, b.peer}


async def test_who_has_no_place_is_not_met(world: Any) -> None:
    relay, a, b = [await world.node() for _ in range(3)]
    for node in (a, b):
        await node.network.dial(relay.address)
    refused = await b.network.dial(f"{relay.address}/p2p-circuit/p2p/{a.peer}", timeout_s=5)
    assert isinstance(refused, NoAnswer)
    assert "no reservation" in refused.reason
    nobody = await b.network.dial(f"{relay.address}/p2p-circuit/p2p/{b.peer}")
    assert nobody == NoAnswer("that is this node")
    assert isinstance(await b.network.dial(f"{relay.address}/p2p-circuit", timeout_s=5), NoAnswer)


async def test_only_a_full_node_relays_and_only_if_it_wants_to(world: Any) -> None:
    for config in ({"role": Role.RELAY}, {"circuits": CircuitLimits(circuits=0)}):
        relay, node = await world.node(**config), await world.node(announce=(dead_address(),))
        await node.network.dial(relay.address)
        await world.until(lambda node=node: node.network.reachability is Reachability.PRIVATE)
        await world.until(lambda node=node: bool(node.network._reachable._resting))
        assert circuits_of(node) == []


async def test_bad_bytes_on_its_protocols(world: Any) -> None:
    chance, node, friend = random.Random(7), await world.node(), await world.node()
    node.network.respond(BLOB, echo, limit_bytes=100)
    await friend.network.dial(node.address)
    stranger = await world.stranger()
    for number in range(60):
        if not stranger.host.get_network().get_connections():
            await stranger.connect(node)
        with suppress(Exception):
            stream = await stranger.stream(node, (HOP, STOP, AUTONAT)[number % 3])
            await stream.write(chance.randbytes(chance.randrange(1, 60)))
            await stream.reset() if chance.random() < 0.5 else await stream.close()
    assert await friend.network.request(node.peer, BLOB, b"well?", limit_bytes=9, timeout_s=5) == b"well?"
    assert await (await world.node()).network.dial(node.address) == node.peer


async def test_a_relay_cannot_pass_for_somebody_else(world: Any) -> None:
    """It offers a circuit from a peer whose key it doesn't have: the handshake inside fails."""
    victim, named = await world.node(), await world.node()
    liar = await world.stranger()
    await liar.connect(victim)
    await world.until(lambda: victim.network.connected() == (liar.peer,))
    stream = await liar.stream(victim, STOP)
    await write_varint_frame(stream, encode_hop(CircuitMessage(0, peer=ID.from_base58(named.peer).to_bytes())))
    await read_varint_frame(stream, 1000)
    with suppress(Exception):
        await stream.write(b"\x13/multistream/1.0.0\n\x07/noise\n" + bytes(200))
        while await stream.read(1000):
            pass
    await trio.sleep(0.1)
    assert victim.network.connected() == (liar.peer,)
    assert not victim.network._swarm.circuits.is_relayed(named.peer)


async def test_requests_that_make_no_sense(world: Any) -> None:
    node, stranger = await world.node(), await world.stranger()
    await stranger.connect(node)
    for asked, status in (
        (CircuitMessage(Hop.STATUS), CircuitStatus.UNEXPECTED_MESSAGE),
        (CircuitMessage(Hop.CONNECT), CircuitStatus.UNEXPECTED_MESSAGE),
        (CircuitMessage(Hop.RESERVE), CircuitStatus.OK),
    ):
        stream = await stranger.stream(node, HOP)
        await write_varint_frame(stream, encode_hop(asked))
        answer = decode_hop(await read_varint_frame(stream, 4096))
        assert isinstance(answer, CircuitMessage)
        assert answer.status == status


def test_a_peer_is_dialled_back_where_it_comes_from_and_nowhere_else() -> None:
    claimed = [
        "/ip4/10.0.0.7/tcp/4001",
        "/ip4/203.0.113.9/tcp/4001",  # a third party's
        "/ip4/10.0.0.7/tcp/443/tls/ws",
        "/ip6/::1/tcp/4001",
        "/dns4/victim.example.org/tcp/4001",
        "/ip4/10.0.0.7/udp/4001",
        "/ip4/10.0.0.7/tcp/1/p2p/12D3KooWFX9S59NJcRuuL7abqkAjmYTbJNWk9DPfZanxzzN1Kkdp/p2p-circuit",
    ]
    packed = [*(Multiaddr(address).to_bytes() for address in claimed), b"\xff\xff", b""]
    assert list(map(str, _at_host("198.51.100.2", packed))) == [
        "/ip4/198.51.100.2/tcp/4001",
        "/ip4/198.51.100.2/tcp/443/tls/ws",
    ]
    assert list(map(str, _at_host("2001:db8::1", packed))) == ["/ip6/2001:db8::1/tcp/4001"]
