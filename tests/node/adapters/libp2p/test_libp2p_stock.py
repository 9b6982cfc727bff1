"""Faults that stock py-libp2p 0.8.1 really has: where one fails here, a correction of ours is superfluous."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from libp2p import generate_new_ed25519_identity, new_host
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import SUBSCRIPTION_CHANNEL_SIZE, Pubsub
from libp2p.pubsub.rpc_queue import OutBoundQueueSize
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from node.adapters.libp2p import sender
from node.adapters.libp2p.queue import SheddingQueue
from protocols.waku import RELAY
from protocols.waku_relay import MESSAGES_BURST

GARBAGE = b"\x32" + b"\xff" * 50
"""A frame of 50 bytes that is no RPC."""


@asynccontextmanager
async def open_stock() -> AsyncIterator[tuple[Any, Any, Any]]:
    """A host with Pubsub and GossipSub as their documentation builds them."""
    listen = [Multiaddr("/ip4/127.0.0.1/tcp/0")]
    host = new_host(key_pair=generate_new_ed25519_identity(), listen_addrs=listen)
    router = GossipSub(protocols=[PROTOCOL_ID_V11], degree=6, degree_low=4, degree_high=8)
    pubsub = Pubsub(host, router)
    async with host.run(listen_addrs=listen), background_trio_service(pubsub), background_trio_service(router):
        await pubsub.wait_until_ready()
        yield host, router, pubsub


async def connect(stranger: Any, host: Any) -> Any:
    address = Multiaddr(str(host.get_addrs()[0]).rsplit("/p2p/", 1)[0])
    return await stranger.host.get_network().dial_addr(address, host.get_id())


async def test_garbage_on_the_pubsub_stream_ends_a_stock_host_and_not_ours(world: Any) -> None:
    stranger = await world.stranger()
    with pytest.raises(BaseExceptionGroup) as ended:  # noqa: PT012  it dies while we wait
        async with open_stock() as (host, _, _):
            await connect(stranger, host)
            stream = await stranger.host.new_stream(ID.from_base58(host.get_id().to_base58()), [PROTOCOL_ID_V11])
            with suppress(Exception):
                await stream.write(GARBAGE)
                await stream.close()
            await trio.sleep(10)
    assert ended.value.exceptions
    node = await world.node()
    await stranger.connect(node)
    with suppress(Exception):
        stream = await stranger.stream(node, RELAY)
        await stream.write(GARBAGE)
    assert await (await world.node()).network.dial(node.address) == node.peer


async def test_a_connection_whose_streams_are_all_open_says_so(world: Any) -> None:
    """Stock: the 257th `new_stream` waits for ever."""
    a, b = await world.node(), await world.node()
    await a.network.dial(b.address)
    (connection,) = a.network._swarm.get_connections()
    while connection.muxed_conn.stream_backlog_semaphore.value:
        connection.muxed_conn.stream_backlog_semaphore.acquire_nowait()
    with pytest.raises(MuxedStreamError), trio.fail_after(5):
        await connection.muxed_conn.open_stream()


async def test_what_stock_drops_silently_by_default() -> None:
    """10 messages a second of a peer and topic, 32 waiting to go out, 32 waiting to be read."""
    async with open_stock() as (_, router, _):
        assert router.spam_protection_enabled
        assert router.max_messages_per_topic_per_second == 10
    assert SUBSCRIPTION_CHANNEL_SIZE <= 32
    assert OutBoundQueueSize <= 32
    queue: SheddingQueue[bytes] = SheddingQueue(sender.QUEUE_ITEMS, sender.QUEUE_BYTES)
    for _ in range(2000):
        queue.put(bytes(300), 300)
    assert (len(queue), queue.shed) == (2000, 0)
    assert MESSAGES_BURST >= 2000
