"""Shows what stock py-libp2p 0.8.1 does wrong, one fault after the other, and prints what was seen as JSON.

A process of its own, since several of them leave sockets and tasks behind. `python stock_faults.py`
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p import generate_new_ed25519_identity, new_host
from libp2p.network.exceptions import SwarmException
from libp2p.peer.peerinfo import PeerInfo
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.stream_muxer.mplex.mplex import MPLEX_PROTOCOL_ID, Mplex
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL_ID
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

IDLE, ECHO = "/test/idle/1", "/test/echo/1"
GARBAGE = b"\x32" + b"\xff" * 50
"""A frame of 50 bytes that is no RPC."""


@asynccontextmanager
async def open_host(muxer: str = "yamux") -> AsyncIterator[Any]:
    """Inbound handlers as in the documentation of the library."""
    listen = [Multiaddr("/ip4/127.0.0.1/tcp/0")]
    muxers: Any = {YAMUX_PROTOCOL_ID: Yamux} if muxer == "yamux" else {MPLEX_PROTOCOL_ID: Mplex}
    host = new_host(key_pair=generate_new_ed25519_identity(), listen_addrs=listen, muxer_opt=muxers)

    async def idle(_stream: Any) -> None:
        await trio.sleep_forever()

    async def echo(stream: Any) -> None:
        await stream.write(await stream.read(1))

    host.set_stream_handler(IDLE, idle)
    host.set_stream_handler(ECHO, echo)
    async with host.run(listen_addrs=listen):
        yield host


@asynccontextmanager
async def open_gossip() -> AsyncIterator[tuple[Any, Any, Any]]:
    async with open_host() as host:
        router = GossipSub(protocols=[PROTOCOL_ID_V11], degree=6, degree_low=4, degree_high=8)
        pubsub = Pubsub(host, router)
        async with background_trio_service(pubsub), background_trio_service(router):
            await pubsub.wait_until_ready()
            yield host, router, pubsub


def info_of(host: Any, *first: str) -> PeerInfo:
    own = [Multiaddr(str(address).rsplit("/p2p/", 1)[0]) for address in host.get_addrs()]
    return PeerInfo(host.get_id(), [*map(Multiaddr, first), *own])


async def garbage_ends_the_host() -> bool:
    """1. Fifty-one bytes on the pubsub stream."""
    ended = False
    async with open_host() as stranger:
        try:
            async with open_gossip() as (host, _, _):
                await stranger.connect(info_of(host))
                stream = await stranger.new_stream(host.get_id(), [PROTOCOL_ID_V11])
                await stream.write(GARBAGE)
                await stream.close()
                await trio.sleep(10)
        except BaseExceptionGroup:
            ended = True
    return ended


async def delivered_of_200() -> int:
    """2. A burst, with everything at its default."""
    async with open_gossip() as (host, _, sending), open_gossip() as (other, _, receiving):
        subscription = await receiving.subscribe("t")
        await sending.subscribe("t")
        await host.connect(info_of(other))
        await trio.sleep(1.5)  # for the mesh
        for n in range(200):
            await sending.publish("t", b"%d" % n)
        heard = 0
        with trio.move_on_after(1):
            while True:
                await subscription.get()
                heard += 1
        return heard


async def floats_kept_of_300() -> int:
    """3. One a message; the only place that forgets them does nothing without a scorer, which is the default."""
    async with open_gossip() as (_, router, pubsub):
        router.spam_protection_enabled = False  # or ten a second are all that come so far
        for n in range(300):
            await pubsub.publish("t", b"%d" % n)
        router._update_network_health()
        return len(router.recent_message_deliveries["t"])


async def second_address_is_tried() -> bool:
    """4. The first is dead, the second alive."""
    async with open_host() as host, open_host() as other:
        try:
            await host.connect(info_of(other, "/ip4/127.0.0.1/tcp/1"))
        except SwarmException:
            return False
        return True


async def quickest_connect_s() -> float:
    """5. Of three."""
    took_s = []
    for _ in range(3):
        async with open_host() as host, open_host() as other:
            began_s = trio.current_time()
            await host.connect(info_of(other))
            took_s.append(trio.current_time() - began_s)
    return min(took_s)


async def idle_reader_loses_its_stream() -> bool:
    """6. yamux: a reader that is busy for five seconds."""
    async with open_host() as host, open_host() as other:
        await host.connect(info_of(other))
        unread = await host.new_stream(other.get_id(), [IDLE])
        with trio.move_on_after(20):
            try:
                while True:
                    await unread.write(bytes(65536))
            except Exception:  # noqa: BLE001  whatever it calls it
                return True
    return False


async def idle_reader_stalls_others() -> bool:
    """6. mplex: one stream is not read, another is asked for an echo."""
    async with open_host("mplex") as host, open_host("mplex") as other:
        await host.connect(info_of(other))
        unread = await host.new_stream(other.get_id(), [IDLE])
        echo = await host.new_stream(other.get_id(), [ECHO])
        with trio.move_on_after(2) as scope:
            for _ in range(64):
                await unread.write(bytes(1000))
            await echo.write(b"?")
            await echo.read(1)
        return scope.cancelled_caught


async def opened_of_300() -> int:
    """7. Streams that nobody closes; the last is waited for in vain."""
    opened = 0
    async with open_host() as host, open_host() as other:
        await host.connect(info_of(other))
        for _ in range(300):
            with trio.move_on_after(2) as scope:
                await host.new_stream(other.get_id(), [IDLE])
            if scope.cancelled_caught:
                break
            opened += 1
    return opened


async def port_after_a_cancel() -> bool:
    """8. Whether a cancelled host still listens."""
    port = 0
    with trio.CancelScope() as scope:
        async with open_host() as host:
            port = int(host.get_addrs()[0].value_for_protocol("tcp"))
            scope.cancel()
            await trio.lowlevel.checkpoint()
    try:
        await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
    except OSError:
        return False
    return True


FAULTS: tuple[Callable[[], Awaitable[Any]], ...] = (
    garbage_ends_the_host,
    delivered_of_200,
    floats_kept_of_300,
    second_address_is_tried,
    quickest_connect_s,
    idle_reader_loses_its_stream,
    idle_reader_stalls_others,
    opened_of_300,
    port_after_a_cancel,
)


def show(fault: Callable[[], Awaitable[Any]]) -> Any:
    """What it returns; clean-up that fails or hangs is the library's."""
    seen: list[Any] = []

    async def run() -> None:
        with trio.move_on_after(30):
            seen.append(await fault())

    try:
        trio.run(run)
    except BaseException as error:  # noqa: BLE001  several of them do
        print(f"{fault.__name__}: {error!r}", file=sys.stderr)
    return seen[0] if seen else None


if __name__ == "__main__":
    with ThreadPoolExecutor(len(FAULTS)) as threads:  # they wait most of the time
        print(json.dumps(dict(zip((fault.__name__ for fault in FAULTS), threads.map(show, FAULTS), strict=True))))
