"""Light nodes at full ones, ours at both ends."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from node.adapters.libp2p import LibP2PConfig, Role
from node.adapters.libp2p.streams import read_varint_frame, write_varint_frame
from node.archive import Retention, open_archive
from protocols.ids import ContentTopic, PeerId
from protocols.verdict import Accept, Reject, Verdict
from protocols.waku import WakuMessage, decode_message, encode_message
from protocols.waku_conduct import BANNED, REJECTED
from protocols.waku_filter import (
    FILTER_PUSH,
    FilterReply,
    Pushed,
    decode_filter_request,
    encode_filter_reply,
    encode_pushed,
)
from protocols.waku_filter import FILTER_SUBSCRIBE as SUBSCRIBE

CHAT = ContentTopic("/chat/2/lobby/proto")
NUMBERS = itertools.count()


def judge(_peer: PeerId, data: bytes) -> Verdict:
    message = decode_message(data)
    if isinstance(message, Reject):
        return message
    return Reject("it says bad") if message.payload.startswith(b"bad") else Accept()


def message(payload: bytes) -> bytes:
    return encode_message(WakuMessage(payload, CHAT, timestamp_ns=time.time_ns() + next(NUMBERS)))


async def light_node(world: Any, *full: Any) -> Any:
    """A light node that listens nowhere, subscribed at each of the full ones."""
    light = await world.node(role=Role.LIGHT, content_topics=(CHAT,), listen=())
    await light.network.subscribe(world.topic, judge)
    for node in full:
        assert await light.network.dial(node.address) == node.peer
    await world.until(lambda: len(light.network.mesh(world.topic)) == len(full))
    return light


async def full_pair(world: Any, **more: Any) -> tuple[Any, Any]:
    nodes = await world.node(**more), await world.node()
    for node in nodes:
        await node.network.subscribe(world.topic, judge)
    await nodes[0].network.dial(nodes[1].address)
    await world.until(lambda: all(len(node.network.mesh(world.topic)) == 1 for node in nodes))
    return nodes


async def test_a_light_node_hears_everything_once_and_is_heard(world: Any) -> None:
    full = await full_pair(world)
    light = await light_node(world, *full)
    assert light.network.addresses == ()
    sent = [message(b"%03d" % n) for n in range(60)] + [message(bytes(140_000))]
    for n, data in enumerate(sent):
        await full[n % 2].network.publish(world.topic, data)
    assert sorted(await light.heard(len(sent), 20)) == sorted(sent)
    said = [message(b"light %d" % n) for n in range(20)] + [message(bytes(140_000))]
    for data in said:
        assert await light.network.publish(world.topic, data) == 2
    assert await light.heard(len(said)) == said  # its own, once, as a relay node hears its own
    for node in full:
        assert sorted(await node.heard(len(sent) + len(said), 20)) == sorted(sent + said)
    assert await light.heard(1, 0.3) == []


async def test_two_light_nodes_meet_through_a_full_one(world: Any) -> None:
    """Neither listens: what one says reaches the other by light push and filter."""
    full = await full_pair(world)
    alice, bob = await light_node(world, full[0]), await light_node(world, full[0])
    data = message(b"hello bob")
    await alice.network.publish(world.topic, data)
    assert await bob.heard(1) == [data]


async def test_when_a_full_node_goes_the_other_one_serves_on(world: Any) -> None:
    full = await full_pair(world)
    light = await light_node(world, *full)
    await full[0].kill()
    await world.until(lambda: light.network.mesh(world.topic) == (full[1].peer,))
    spare = await world.node()
    await spare.network.subscribe(world.topic, judge)
    await spare.network.dial(full[1].address)
    await light.network.dial(spare.address)
    await world.until(lambda: len(light.network.mesh(world.topic)) == 2)
    await world.until(lambda: len(spare.network.mesh(world.topic)) == 1)
    data = message(b"after")
    await spare.network.publish(world.topic, data)
    assert await light.heard(1) == [data]


async def test_what_it_missed_is_in_the_archive(world: Any, tmp_path: Path) -> None:
    with open_archive(tmp_path / "archive.sqlite3", Retention(2**24, 3600, 1000), time.time) as archive:
        full = await full_pair(world, archive=archive)
        light = await light_node(world, full[0])
        began_s = time.time()
        for connection in light.network._swarm.get_connections():
            await connection.close()
        await world.until(lambda: light.network.mesh(world.topic) == ())
        missed = [message(b"missed %d" % n) for n in range(5)]
        for data in missed:
            await full[1].network.publish(world.topic, data)
        await world.until(lambda: archive.count == 5)
        await light.network.dial(full[0].address)
        assert await light.network.history(world.topic, began_s - 1, time.time() + 1) == missed


class Liar:
    """A stranger that grants every subscription and pushes what it likes."""

    def __init__(self, stranger: Any) -> None:
        self.stranger = stranger
        stranger.host.set_stream_handler(SUBSCRIBE, self._grant)

    async def _grant(self, stream: Any) -> None:
        request = decode_filter_request(await read_varint_frame(stream, 2**16))
        await write_varint_frame(stream, encode_filter_reply(FilterReply(request.request_id, 200)))

    async def push(self, node: Any, topic: Any, data: bytes) -> None:
        stream = await self.stranger.stream(node, FILTER_PUSH)
        await write_varint_frame(stream, encode_pushed(Pushed(topic, data)))
        await stream.close()


async def test_a_full_peer_that_pushes_rubbish_is_disconnected(world: Any) -> None:
    light = await world.node(role=Role.LIGHT, content_topics=(CHAT,))
    await light.network.subscribe(world.topic, judge)
    stranger = await world.stranger()
    liar = Liar(stranger)
    await stranger.connect(light)
    await world.until(lambda: light.network.mesh(world.topic) == (stranger.peer,))
    await liar.push(light, "/waku/2/rs/1717/5", message(b"bad but not asked for"))
    assert light.network.counts().relay.rejected == 0
    for n in range(int(BANNED / REJECTED) + 1):
        with trio.move_on_after(2):
            try:
                await liar.push(light, world.topic, message(b"bad %d" % n))
            except Exception:  # noqa: BLE001  it is being shown the door
                break
    await world.until(lambda: light.network.connected() == ())
    assert light.network.counts().relay.rejected >= BANNED / REJECTED - 1


def test_content_topics_are_needed() -> None:
    with pytest.raises(ValueError, match="content_topics"):
        LibP2PConfig(role=Role.LIGHT)
