"""Relay, metadata and transports, with js-libp2p and its gossipsub at the other end."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import trio
from interop_world import ANSWER_S, CHAT, CLUSTER, SHARDS, TOPIC, JsPeer, Ours, js_peer, our_node

from protocols.waku import WakuMessage, encode_message

SIZES = (200, 140_000)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def relay_both_ways(ours: Ours, js: JsPeer) -> None:
    for size in SIZES:
        sent = await js.do("publish", contentTopic=CHAT, size=size)
        assert sent["recipients"] == 1
        heard = await ours.heard()
        assert (sha256(heard.payload), heard.content_topic) == (sent["sha256"], CHAT)
    for size in SIZES:
        message = WakuMessage(os.urandom(size), CHAT, timestamp_ns=time.time_ns())
        assert await ours.network.publish(TOPIC, encode_message(message)) == 1
        event = await js.event("message", sha256=sha256(message.payload))
        assert (event["size"], event["topic"], event["contentTopic"]) == (size, TOPIC, CHAT)
        await ours.heard()  # our own


async def meshed(ours: Ours, js: JsPeer) -> None:
    await ours.until(lambda: len(ours.network.mesh(TOPIC)) == 1)
    with trio.fail_after(ANSWER_S):
        while not await js.do("mesh"):
            await trio.sleep(0.05)


async def test_js_dials_us_over_mplex_in_a_websocket_under_tls(certificate: Path) -> None:
    secure = ("/ip4/127.0.0.1/tcp/0/tls/ws",)
    node = our_node(listen=secure, tls_certificate=certificate)
    async with node as ours, js_peer("relay", muxer="mplex", trusted=certificate) as js:
        assert await js.do("dial", address=ours.websocket) == ours.network.peer
        await meshed(ours, js)
        assert await js.do("muxers") == ["/mplex/6.7.0"]
        await relay_both_ways(ours, js)


async def test_we_dial_js_over_tcp_and_yamux_and_come_back_after_a_disconnect() -> None:
    async with our_node() as ours, js_peer("relay", muxer="yamux") as js:
        address = next(a for a in await js.do("addresses") if "/ws" not in a)
        peer = await ours.network.dial(address)
        await meshed(ours, js)
        assert await js.do("muxers") == ["/yamux/1.0.0"]
        await relay_both_ways(ours, js)
        await js.do("hangup")
        await ours.until(lambda: not ours.network.connected())
        await js.event("disconnected", peer=ours.network.peer)
        assert await ours.network.dial(address) == peer
        await meshed(ours, js)
        await relay_both_ways(ours, js)


async def test_another_cluster_is_refused_and_told_why() -> None:
    async with our_node() as ours, js_peer("relay", cluster=CLUSTER + 1) as js:
        told = await js.do("metadata", address=ours.tcp, cluster=CLUSTER + 1)
        assert told == {"clusterId": CLUSTER, "shards": list(range(SHARDS))}
        await js.event("disconnected", peer=ours.network.peer)
        assert ours.network.connected() == ()
        refusal = await ours.network.dial((await js.do("addresses"))[0])
        assert f"it is of cluster {CLUSTER + 1}" in refusal.reason
