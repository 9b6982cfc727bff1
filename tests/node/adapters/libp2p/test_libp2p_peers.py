"""How nodes hear of each other: peer exchange, and lists from a name server."""

from __future__ import annotations

from typing import Any

from actors.ports import NoAnswer
from node.adapters.libp2p import Role, peer_exchange
from node.adapters.libp2p.client import Client
from node.adapters.libp2p.records import Description, RecordKey, addresses_of, make_record, read_record
from node.adapters.libp2p.streams import read_varint_frame, write_varint_frame
from protocols.enr import Capability, NodeRecord, Sharding
from protocols.ids import ContentTopic
from protocols.waku_peers import PEER_EXCHANGE, PeerReply, encode_peer_reply


def describe(*addresses: str, cluster: int = 1717) -> bytes:
    return make_record(RecordKey(b"\x09" * 32), 1, Description(addresses, Sharding(cluster, (0,)), Capability.RELAY))


async def test_a_node_tells_of_itself_and_of_those_it_knows_first_hand(world: Any) -> None:
    a, b, c = [await world.node() for _ in range(3)]
    await a.network.dial(b.address)
    await c.network.dial(a.address)
    assert await a.network.ask_peers(b.peer) == [b.address]
    found = await c.network.ask_peers(a.peer)
    assert set(found) == {a.address, b.address}
    assert await c.network.dial(next(address for address in found if b.peer in address)) == b.peer
    assert await b.network.ask_peers(a.peer) == [a.address]  # nobody is told of itself
    record = read_record(a.network.record)
    assert isinstance(record, NodeRecord)
    assert addresses_of(record, 1717) == (a.address,)
    assert record.capabilities == Capability.RELAY | Capability.FILTER | Capability.LIGHT_PUSH


async def test_a_light_node_asks_and_others_serve_nobody(world: Any) -> None:
    full, relay = await world.node(), await world.node(role=Role.RELAY)
    light = await world.node(role=Role.LIGHT, listen=(), content_topics=(ContentTopic("/a/1/b/c"),))
    await light.network.dial(full.address)
    await light.network.dial(relay.address)
    assert await light.network.ask_peers(full.peer) == [full.address]
    for node in (relay, light):
        refused = await full.network.ask_peers(node.peer)
        assert isinstance(refused, NoAnswer), refused


async def test_what_a_peer_claims_of_others_is_not_passed_on(world: Any) -> None:
    node, liar, asker = await world.node(), await world.stranger(), await world.node()
    theirs, victim = f"/ip4/192.0.2.7/tcp/1/p2p/{liar.peer}", f"/ip4/192.0.2.9/tcp/1/p2p/{asker.peer}"
    damaged = describe(theirs)[:-1] + b"!"
    records = (
        describe(victim),
        describe(theirs, victim),
        describe(theirs, cluster=2000),
        damaged,
        b"",
        describe(theirs),
    )

    async def tell(stream: Any) -> None:
        await read_varint_frame(stream, 1000)
        await write_varint_frame(stream, encode_peer_reply(PeerReply(records)))

    liar.host.set_stream_handler(PEER_EXCHANGE, tell)
    await liar.connect(node)
    await world.until(lambda: node.network.connected() == (liar.peer,))
    assert await node.network.ask_peers(liar.peer) == [victim, theirs]
    await asker.network.dial(node.address)
    assert await asker.network.ask_peers(node.peer) == [node.address, theirs]


async def test_who_asks_too_often_is_told_so(world: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(peer_exchange, "QUESTIONS", (0.001, 2))
    node, asker = await world.node(), await world.node()
    await asker.network.dial(node.address)
    for _ in range(2):
        assert await asker.network.ask_peers(node.peer) == [node.address]
    assert await asker.network.ask_peers(node.peer) == NoAnswer("status 429: slow down")


async def test_garbage_on_the_stream_is_answered_or_ended(world: Any) -> None:
    node, stranger = await world.node(), await world.stranger()
    await stranger.connect(node)
    for bad in (b"", b"\xff" * 50, b"\x0a\x7f", bytes(1000)):
        reply = await Client(stranger.host)._ask(node.peer, PEER_EXCHANGE, bad, 1000)
        assert isinstance(reply, NoAnswer | bytes)
    assert await stranger_asks(stranger, node) == PeerReply((read_own(node),))


async def stranger_asks(stranger: Any, node: Any) -> Any:
    return await Client(stranger.host).peers(node.peer, 5)


def read_own(node: Any) -> bytes:
    return bytes(node.network._peer_exchange.own())
