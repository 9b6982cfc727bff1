"""Full nodes and what they do for light peers, ours at both ends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.ports import NoAnswer
from node.adapters.libp2p import Role
from node.adapters.libp2p.client import Client
from node.adapters.libp2p.service import WAITING_ITEMS
from node.adapters.libp2p.streams import read_varint_frame
from node.archive import MessageArchive, Retention, open_archive
from protocols.ids import ContentTopic, PeerId
from protocols.verdict import Accept, Reject, Verdict
from protocols.waku import WakuMessage, decode_message, encode_message, message_hash, pubsub_topic
from protocols.waku_filter import (
    FILTER_PUSH,
    FILTER_SUBSCRIBE,
    FilterKind,
    FilterRequest,
    Pushed,
    decode_pushed,
)
from protocols.waku_lightpush import LIGHTPUSH, LIGHTPUSH_V2
from protocols.waku_store import STORE, StoreQuery

CHAT = ContentTopic("/chat/2/lobby/proto")
RETENTION = Retention(max_bytes=2**26, max_age_s=3600, max_messages=10_000)


def judge(_peer: PeerId, data: bytes) -> Verdict:
    message = decode_message(data)
    if isinstance(message, Reject):
        return message
    return Reject("it says bad") if message.payload == b"bad" else Accept()


def message(payload: bytes, **fields: Any) -> bytes:
    return encode_message(WakuMessage(payload, CHAT, timestamp_ns=time.time_ns(), **fields))


def payloads(found: list[bytes]) -> list[bytes]:
    return [m.payload for m in map(decode_message, found) if isinstance(m, WakuMessage)]


@pytest.fixture
def archive(tmp_path: Path) -> Any:
    with open_archive(tmp_path / "archive.sqlite3", RETENTION, time.time) as opened:
        yield opened


async def pair(world: Any, archive: MessageArchive | None = None) -> tuple[Any, Any, Any]:
    """A full node, another one that it relays with, and a stranger connected to the first."""
    full, other, stranger = await world.node(archive=archive), await world.node(), await world.stranger()
    for node in (full, other):
        await node.network.subscribe(world.topic, judge)
    await full.network.dial(other.address)
    await stranger.connect(full)
    await world.until(lambda: full.network.mesh(world.topic) and stranger.peer in full.network.connected())
    return full, other, stranger


async def test_what_a_light_peer_pushes_is_relayed(world: Any) -> None:
    full, other, stranger = await pair(world)
    client = Client(stranger.host)
    reply = await client.push(full.peer, world.topic, message(b"news"))
    assert (reply.status, reply.relay_peers) == (200, 1)
    assert payloads(await other.heard(1)) == payloads(await full.heard(1)) == [b"news"]
    for data, topic, status in (
        (message(b"bad"), world.topic, 420),
        (message(b"news"), pubsub_topic(1717, 7), 421),
        (bytes(160_000), world.topic, 413),
        (b"\xff", world.topic, 400),
    ):
        assert (await client.push(full.peer, topic, data)).status == status
    await other.stop()
    await world.until(lambda: full.network.connected() == (stranger.peer,))
    assert (await client.push(full.peer, world.topic, message(b"alone"))).status == 505


async def test_pushes_over_the_allowance_are_refused(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.adapters.libp2p.service.PUSHES", (0.001, 2))
    full, _, stranger = await pair(world)
    client = Client(stranger.host)
    statuses = [(await client.push(full.peer, world.topic, message(b"%d" % n))).status for n in range(4)]
    assert statuses == [200, 200, 429, 429]


class Listener:
    """The filter-push side of a stranger."""

    def __init__(self, stranger: Any) -> None:
        self.pushed: list[Pushed] = []
        self.stalled = False
        stranger.host.set_stream_handler(FILTER_PUSH, self._take)

    async def _take(self, stream: Any) -> None:
        if self.stalled:
            await trio.sleep_forever()
        pushed = decode_pushed(await read_varint_frame(stream, 2**20))
        assert isinstance(pushed, Pushed)
        self.pushed.append(pushed)


def subscribe(topic: Any) -> FilterRequest:
    return FilterRequest("", FilterKind.SUBSCRIBE, topic, (CHAT,))


async def test_a_subscriber_gets_every_message_in_order(world: Any) -> None:
    full, other, stranger = await pair(world)
    listener, client = Listener(stranger), Client(stranger.host)
    assert (await client.filter(full.peer, subscribe(world.topic))).status == 200
    sent = [message(b"%03d" % n) for n in range(100)]
    for data in sent:
        await other.network.publish(world.topic, data)
    await world.until(lambda: len(listener.pushed) == 100, 20)
    assert listener.pushed == [Pushed(world.topic, data) for data in sent]
    assert (await client.filter(full.peer, FilterRequest("", FilterKind.UNSUBSCRIBE_ALL))).status == 200
    await other.network.publish(world.topic, message(b"late"))
    await full.heard(101)
    assert full.network.counts().service.subscribers == 0


async def test_a_subscriber_that_stalls_costs_only_itself(world: Any) -> None:
    full, other, stranger = await pair(world)
    listener, client = Listener(stranger), Client(stranger.host)
    listener.stalled = True
    assert (await client.filter(full.peer, subscribe(world.topic))).status == 200
    for n in range(WAITING_ITEMS + 50):
        await other.network.publish(world.topic, message(b"%03d" % n))
    assert len(await full.heard(WAITING_ITEMS + 50, 20)) == WAITING_ITEMS + 50
    await world.until(lambda: full.network.counts().service.filter_shed >= 40)


async def test_history_is_what_the_archives_have_together(world: Any, archive: MessageArchive) -> None:
    full, other, _ = await pair(world, archive)
    began_s = time.time()
    sent = [message(b"%03d" % n) for n in range(250)]
    for data in sent:
        await full.network.publish(world.topic, data)
    await full.network.publish(world.topic, message(b"fleeting", ephemeral=True))
    await world.until(lambda: archive.count == 250, 10)
    newcomer = await world.node()
    await newcomer.network.dial(full.address)
    await newcomer.network.dial(other.address)  # which has no archive
    found = await newcomer.network.history(world.topic, began_s - 1, time.time() + 1)
    assert found == sent
    assert await newcomer.network.history(world.topic, began_s - 100, began_s - 50) == []
    assert await newcomer.network.history(pubsub_topic(1717, 3), began_s, time.time()) == []


async def test_without_an_archive_there_is_no_history(world: Any) -> None:
    a, b = await world.node(), await world.node(role=Role.RELAY)
    await a.network.dial(b.address)
    for node, why in ((a, "no /vac/waku/store-query"), (b, "503")):
        answer = await node.network.history(world.topic, 0, 1)
        assert isinstance(answer, NoAnswer)
        assert why in answer.reason


async def test_queries_by_hash_and_over_the_allowance(
    world: Any, archive: MessageArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.adapters.libp2p.service.QUERIES", (0.001, 5))
    full, _, stranger = await pair(world, archive)
    data = message(b"kept")
    await full.network.publish(world.topic, data)
    await world.until(lambda: archive.count == 1)
    client, wanted = Client(stranger.host), message_hash(world.topic, decode_message(data))
    query, answered = StoreQuery("", True, hashes=(wanted, bytes(32))), 0
    while (page := await client.query(full.peer, query)).status == 200:
        assert [entry.message for entry in page.messages] == [data]
        answered += 1
    assert (page.status, answered) == (429, 5)


@pytest.mark.parametrize("protocol", [LIGHTPUSH, LIGHTPUSH_V2, FILTER_SUBSCRIBE, STORE])
async def test_bad_bytes_end_their_stream_only(world: Any, archive: MessageArchive, protocol: str) -> None:
    full, other, stranger = await pair(world, archive)
    for garbage in (b"", b"\xff" * 40, b"\x03\xff\xff\xff", b"\x05abc", b"\x00", b"\x80\x80\x80\x80\x01"):
        stream = await stranger.stream(full, protocol)
        if garbage:
            await stream.write(garbage)
        await stream.close_write()
        with trio.move_on_after(3) as scope:
            try:
                while await stream.read(100):
                    pass
            except Exception:  # noqa: BLE001  the end or a reset, both are right
                pass
        assert not scope.cancelled_caught
    assert full.network.counts().stream_faults == 0
    await other.network.publish(world.topic, message(b"still here"))
    assert payloads(await full.heard(1)) == [b"still here"]


async def test_a_node_that_only_relays_serves_nobody(world: Any) -> None:
    node, stranger = await world.node(role=Role.RELAY), await world.stranger()
    await stranger.connect(node)
    await world.until(lambda: stranger.peer in node.network.connected())
    assert isinstance(await Client(stranger.host).push(node.peer, world.topic, message(b"x")), NoAnswer)
    assert node.network.counts().service is None
