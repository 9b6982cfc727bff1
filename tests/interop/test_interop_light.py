"""A published js light node at a full node of ours: light push, filter, store, and coming back."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from interop_world import CHAT, CLUSTER, SHARDS, TOPIC, JsPeer, Ours, js_peer, our_node

from node.archive import Retention, open_archive
from protocols.waku import WakuMessage, encode_message, message_hash

ELSEWHERE = "/chat/1/lobby/proto"
"""On a shard that nobody follows here."""
ALL = ("store", "lightpush", "filter")


@asynccontextmanager
async def three(folder: Path) -> AsyncIterator[tuple[Ours, Ours, JsPeer]]:
    """A full node with an archive, another one that it relays with, and a js light node at the first."""
    retention = Retention(max_bytes=2**24, max_age_s=3600, max_messages=1000)
    with open_archive(folder / "archive.sqlite3", retention, time.time) as archive:
        async with our_node(1, archive=archive) as full, our_node(2) as other, js_peer("light") as light:
            assert await full.network.dial(other.tcp) == other.network.peer
            await full.until(lambda: full.network.mesh(TOPIC) and other.network.mesh(TOPIC))
            assert await light.do("dial", address=full.websocket, protocols=ALL) == [full.network.peer]
            yield full, other, light


async def send(node: Ours, size: int) -> WakuMessage:
    # Between two milliseconds: js computes its nanoseconds in floating point.
    message = WakuMessage(os.urandom(size), CHAT, timestamp_ns=time.time_ns() // 10**6 * 10**6 + 500_000)
    await node.network.publish(TOPIC, encode_message(message))
    return message


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_js_pushes_subscribes_and_comes_back(tmp_path: Path) -> None:
    async with three(tmp_path) as (full, other, light):
        assert await light.do("shard", contentTopic=CHAT) == TOPIC  # autosharding, as both compute it
        for size, legacy in ((200, False), (140_000, False), (200, True), (140_000, True)):
            pushed = await light.do("push", contentTopic=CHAT, size=size, legacy=legacy)
            assert (pushed["successes"], pushed["faults"]) == (1, [])
            assert sha256((await other.heard()).payload) == pushed["sha256"]
        refused = await light.do("push", contentTopic=ELSEWHERE, size=200)
        assert (refused["successes"], refused["faults"]) == (0, ["Remote peer rejected"])

        assert await light.do("subscribe", contentTopic=CHAT)
        for size in (200, 140_000):
            message = await send(other, size)
            event = await light.event("message", sha256=sha256(message.payload))
            assert (event["topic"], event["contentTopic"], event["size"]) == (TOPIC, CHAT, size)

        burst = [await send(other, 200) for _ in range(30)]
        with trio.fail_after(45):  # js never ends its half of a pushed stream: 2 s a message for who waits for it
            for message in burst:
                await light.event("message", sha256=sha256(message.payload))

        await light.do("hangup")
        await full.until(lambda: light_peers(full, other) == set())
        asked = full.network.counts().service.filter_requests
        await light.do("dial", address=full.websocket, protocols=ALL)
        await full.until(lambda: full.network.counts().service.filter_requests > asked)  # it subscribes anew by itself
        message = await send(other, 300)
        await light.event("message", sha256=sha256(message.payload))

        assert await light.do("unsubscribe", contentTopic=CHAT)
        await full.until(lambda: full.network.counts().service.subscribers == 0)
        message = await send(other, 400)
        await full.until(lambda: full.network.counts().relay.received >= 34)
        await trio.sleep(0.2)
        assert [event for event in light.events if event["event"] == "message"] == []


def light_peers(full: Ours, other: Ours) -> set[str]:
    return set(full.network.connected()) - {other.network.peer}


async def test_js_pages_through_the_store(tmp_path: Path) -> None:
    async with three(tmp_path) as (full, other, light):
        sent = []
        for _ in range(45):
            sent.append(await send(other, 200))
            await trio.sleep(0.002)  # milliseconds are all that js can tell apart
        large = [await send(full, 140_000) for _ in range(3)]
        messages = sent + large
        for _ in messages:
            await full.heard()
        hashes = [message_hash(TOPIC, message).hex() for message in messages]

        pages = await light.do("query", contentTopic=CHAT, paginationForward=True, paginationLimit=20)
        assert [len(page) for page in pages] == [20, 20, 8]
        flat = [message for page in pages for message in page]
        assert [m["sha256"] for m in flat] == [sha256(m.payload) for m in in_order(messages)]
        assert sorted(m["hash"].removeprefix("0x") for m in flat) == sorted(hashes)

        pages = await light.do("query", contentTopic=CHAT, paginationForward=False, paginationLimit=30)
        assert [len(page) for page in pages] == [30, 18]
        assert [m["sha256"] for m in pages[1] + pages[0]] == [sha256(m.payload) for m in in_order(messages)]

        (page,) = await light.do("query", contentTopic=CHAT, hashes=[hashes[7], hashes[3], "00" * 32])
        assert [m["sha256"] for m in page] == [sha256(m.payload) for m in in_order([messages[3], messages[7]])]

        start, end = (sent[n].timestamp_ns // 10**6 for n in (10, 19))
        (page,) = await light.do("query", contentTopic=CHAT, start=start, end=end, paginationForward=True)
        inside = [m for m in sent if start * 10**6 <= m.timestamp_ns <= end * 10**6]
        assert [m["sha256"] for m in page] == [sha256(m.payload) for m in in_order(inside)]


def in_order(messages: list[WakuMessage]) -> list[WakuMessage]:
    return sorted(messages, key=lambda message: (message.timestamp_ns, message_hash(TOPIC, message)))


async def test_js_asks_for_peers(tmp_path: Path) -> None:
    """It reads our records, but can't dial by them: behind our peer id it puts one of its own making."""
    async with three(tmp_path) as (full, other, light):
        await full.network.ask_peers(other.network.peer)
        found = await light.do("exchange", peer=full.network.peer, count=10)
        assert [record["shards"] for record in found] == [{"clusterId": CLUSTER, "shards": list(range(SHARDS))}] * 2
        served = {"relay": True, "filter": True, "lightPush": True}
        assert [record["waku"] for record in found] == [{**served, "store": True}, {**served, "store": False}]
        for record, node in zip(found, (full, other), strict=True):
            assert [a.rsplit("/p2p/", 1)[0] for a in record["addresses"]] == list(node.network.addresses)
        assert len(await light.do("exchange", peer=full.network.peer, count=1)) == 1
