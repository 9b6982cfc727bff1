"""What a full node does for light peers: light push, filter, store and peer exchange over a host's streams.

The decisions are `protocols.waku_lightpush`, `waku_filter` and `waku_store`; this is their shell. One question and one
answer a stream; a filter's messages go out one a stream, as every implementation reads them, and wait in a bounded
queue for each subscriber.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import trio

from actors.ports import Gossip
from node.adapters.libp2p.config import LibP2PConfig
from node.adapters.libp2p.peer_exchange import PeerExchange
from node.adapters.libp2p.queue import SheddingQueue
from node.adapters.libp2p.relay import RelayShell
from node.adapters.libp2p.streams import (
    Stream,
    StreamFault,
    finish,
    hold,
    is_connected,
    log,
    open_stream,
    peer_of,
    read_question,
    write_varint_frame,
)
from protocols.ids import PeerId
from protocols.verdict import Ignore, Reject
from protocols.waku import decode_message
from protocols.waku_allowance import Allowances
from protocols.waku_filter import (
    FILTER_PUSH,
    FILTER_SUBSCRIBE,
    MAX_FILTER_BYTES,
    FilterReply,
    FilterStatus,
    Pushed,
    Subscribers,
    decode_filter_request,
    encode_filter_reply,
    encode_pushed,
)
from protocols.waku_lightpush import (
    LIGHTPUSH,
    LIGHTPUSH_V2,
    MAX_PUSH_BYTES,
    Push,
    PushReply,
    PushStatus,
    admit_push,
    decode_push,
    decode_push_v2,
    encode_push_reply,
    encode_push_reply_v2,
)
from protocols.waku_peers import MAX_PEER_QUERY_BYTES, PEER_EXCHANGE
from protocols.waku_store import (
    MAX_QUERY_BYTES,
    STORE,
    StoreQuery,
    StoreReply,
    StoreStatus,
    decode_query,
    encode_store_reply,
)

IDLE_S = 300.0  # js opens a stream for each protocol when it connects, and asks when it has something to ask
QUESTION_S = 10.0
ANSWER_S = 30.0
PUSH_S = 10.0  # for one message to one subscriber
PUSH_STREAMS = 32  # to one subscriber, most of them waiting for its half to end; js allows 100
SLOWEST_BYTES_S = 50_000  # below, an answer is broken off: a slow reader holds it in our memory

# Requests a second and at once, of one peer. nwaku allows about as much.
PUSHES = (10.0, 100)
SUBSCRIPTIONS = (5.0, 50)
QUERIES = (5.0, 50)

WAITING_ITEMS, WAITING_BYTES = 256, 4 * 1024 * 1024  # for one subscriber; above, its oldest message is shed
KEPT_ITEMS, KEPT_BYTES = 8192, 64 * 1024 * 1024  # waiting for the archive's disk
KEPT_BATCH_BYTES = 4 * 1024 * 1024


class Archive(Protocol):
    """Past messages, on a disk."""

    async def keep(self, batch: Sequence[Gossip]) -> None: ...
    async def find(self, query: StoreQuery) -> StoreReply: ...


@dataclass(slots=True)
class ServiceCounts:
    """Since the start; what a node's metrics show."""

    pushed_to_us: int = 0
    """Messages that light peers gave us and that we published."""
    subscribers: int = 0
    """Now."""
    filter_requests: int = 0
    filtered: int = 0
    """Messages pushed to subscribers."""
    filter_shed: int = 0
    """Messages that a subscriber took too slowly to get."""
    queries: int = 0
    refused: int = 0
    """Requests over a peer's allowance."""
    archive_shed: int = 0


class Service:
    """Serves admitted peers. `archive` None answers store queries with UNAVAILABLE."""

    def __init__(
        self,
        config: LibP2PConfig,
        host: Any,
        nursery: trio.Nursery,
        relay: RelayShell,
        archive: Archive | None,
        peers: PeerExchange,
        time_s: Callable[[], float],
    ) -> None:
        self._peers = peers
        self._config = config
        self._host = host
        self._nursery = nursery
        self._relay = relay
        self._archive = archive
        self._time_s = time_s
        self._subscribers = Subscribers(relay.followed)
        self._outgoing: dict[PeerId, SheddingQueue[Pushed]] = {}
        self._unarchived: SheddingQueue[Gossip] = SheddingQueue(KEPT_ITEMS, KEPT_BYTES)
        self._pushes, self._subscriptions, self._queries = (Allowances(*a) for a in (PUSHES, SUBSCRIPTIONS, QUERIES))
        self._counts = ServiceCounts()

    def counts(self) -> ServiceCounts:
        return replace(
            self._counts,
            subscribers=len(self._subscribers),
            filter_shed=self._counts.filter_shed + sum(queue.shed for queue in self._outgoing.values()),
            archive_shed=self._unarchived.shed,
        )

    def register(self, serve: Callable[[str, Callable[[Stream], Awaitable[None]]], None]) -> None:
        for protocol, limit, answer in (
            (LIGHTPUSH, MAX_PUSH_BYTES, self._answer_push),
            (LIGHTPUSH_V2, MAX_PUSH_BYTES, self._answer_push_v2),
            (FILTER_SUBSCRIBE, MAX_FILTER_BYTES, self._answer_filter),
            (STORE, MAX_QUERY_BYTES, self._answer_query),
            (PEER_EXCHANGE, MAX_PEER_QUERY_BYTES, self._peers.answer),
        ):
            serve(protocol, _Asked(limit, answer).serve)

    async def run(self) -> None:
        """Archive what is delivered, and forget subscribers that fell silent."""
        async with trio.open_nursery() as nursery:
            if self._archive is not None:
                nursery.start_soon(self._keep, self._archive)
            while True:
                await trio.sleep(10.0)
                self._subscribers.expire(trio.current_time())
                for peer in [p for p in self._outgoing if not self._subscribers.knows(p)]:
                    self._counts.filter_shed += self._outgoing.pop(peer).shed

    # -- Light push ------------------------------------------------------------

    async def _answer_push(self, peer: PeerId, data: bytes) -> bytes:
        return encode_push_reply(await self._publish(peer, decode_push(data)))

    async def _answer_push_v2(self, peer: PeerId, data: bytes) -> bytes:
        return encode_push_reply_v2(await self._publish(peer, decode_push_v2(data)))

    async def _publish(self, peer: PeerId, push: Push | PushReply) -> PushReply:
        if isinstance(push, PushReply):
            return push
        if not self._allow(self._pushes, peer):
            return PushReply(push.request_id, PushStatus.TOO_MANY_REQUESTS, "slow down")
        admitted = admit_push(
            push,
            self._relay.followed,
            cluster=self._config.cluster,
            shards=self._config.shards,
            now_ns=int(self._time_s() * 1e9),
        )
        if isinstance(admitted, PushReply):
            return admitted
        offered = await self._relay.publish_for(peer, *admitted)
        if isinstance(offered, Reject | Ignore):
            return PushReply(push.request_id, PushStatus.INVALID_MESSAGE, offered.reason)
        if not offered:
            return PushReply(push.request_id, PushStatus.NO_PEERS, "no relay peers follow the topic")
        self._counts.pushed_to_us += 1
        return PushReply(push.request_id, PushStatus.SUCCESS, relay_peers=offered)

    # -- Filter ----------------------------------------------------------------

    async def _answer_filter(self, peer: PeerId, data: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        self._counts.filter_requests += 1
        request = decode_filter_request(data)
        if isinstance(request, FilterReply):
            reply = request
        elif not self._allow(self._subscriptions, peer):
            reply = FilterReply(request.request_id, FilterStatus.TOO_MANY_REQUESTS, "slow down")
        else:
            reply = self._subscribers.handle(peer, request, trio.current_time())
        return encode_filter_reply(reply)

    def deliver(self, gossip: Gossip) -> None:
        """A message passed its topic's check: archive it, and push it to whom it interests."""
        message = decode_message(gossip.data)
        if isinstance(message, Reject):
            return
        if self._archive is not None and not message.ephemeral:
            self._unarchived.put(gossip, len(gossip.data))
        pushed = Pushed(gossip.topic, gossip.data)
        for peer in self._subscribers.wanting(gossip.topic, message.content_topic):
            if is_connected(self._host, peer):
                self._queue_of(peer).put(pushed, len(gossip.data))

    def _queue_of(self, peer: PeerId) -> SheddingQueue[Pushed]:
        queue = self._outgoing.get(peer)
        if queue is None:
            queue = self._outgoing[peer] = SheddingQueue(WAITING_ITEMS, WAITING_BYTES)
            self._nursery.start_soon(self._push_all, peer, queue)
        return queue

    async def _push_all(self, peer: PeerId, queue: SheddingQueue[Pushed]) -> None:
        """Push what waits, in order; end when it is empty, and the next message starts anew."""
        streams = trio.Semaphore(PUSH_STREAMS)
        while queue and self._outgoing.get(peer) is queue:
            (pushed,) = await queue.take(1)
            arrived = await self._push(peer, pushed, streams)
            if not is_connected(self._host, peer):
                break  # it asks the store when it is back
            self._subscribers.note_push(peer, arrived=arrived)
        if self._outgoing.get(peer) is queue:
            self._counts.filter_shed += self._outgoing.pop(peer).shed

    async def _push(self, peer: PeerId, pushed: Pushed, streams: trio.Semaphore) -> bool:
        async def farewell(stream: Stream) -> None:
            """Beside the next push: js never ends its half, and waiting for that would cost 2 s a message."""
            self._nursery.start_soon(_finish, stream, streams)

        try:
            with trio.fail_after(PUSH_S):
                await streams.acquire()
        except trio.TooSlowError:
            return False
        try:
            with trio.fail_after(PUSH_S):
                async with open_stream(self._host, peer, FILTER_PUSH, farewell) as stream:
                    await write_varint_frame(stream, encode_pushed(pushed))
        except (StreamFault, trio.TooSlowError) as fault:
            streams.release()
            log.info("a message for %s is lost: %s", peer, fault)
            return False
        self._counts.filtered += 1
        return True

    # -- Store -----------------------------------------------------------------

    async def _answer_query(self, peer: PeerId, data: bytes) -> bytes:
        query = decode_query(data)
        if isinstance(query, StoreReply):
            return encode_store_reply(query)
        if not self._allow(self._queries, peer):
            return encode_store_reply(StoreReply(query.request_id, StoreStatus.TOO_MANY_REQUESTS, "slow down"))
        if self._archive is None:
            return encode_store_reply(StoreReply(query.request_id, StoreStatus.UNAVAILABLE, "nothing is stored here"))
        self._counts.queries += 1
        return encode_store_reply(await self._archive.find(query))

    async def _keep(self, archive: Archive) -> None:
        while True:
            batch = await self._unarchived.take(KEPT_BATCH_BYTES)
            if batch:
                await archive.keep(batch)

    def _allow(self, allowances: Allowances, peer: PeerId) -> bool:
        allowed = allowances.take(peer, trio.current_time())
        self._counts.refused += not allowed
        return allowed


async def _finish(stream: Stream, streams: trio.Semaphore) -> None:
    try:
        await finish(stream)
    finally:
        streams.release()


@dataclass(frozen=True, slots=True)
class _Asked:
    """One protocol: a question and an answer, with a varint length each."""

    limit: int
    answer: Callable[[PeerId, bytes], Awaitable[bytes]]

    async def serve(self, stream: Stream) -> None:
        question = await read_question(stream, self.limit, idle_s=IDLE_S, question_s=QUESTION_S)
        try:
            with trio.fail_after(ANSWER_S):
                answer = await self.answer(peer_of(stream), question)
            hold(stream, len(answer))
            with trio.fail_after(QUESTION_S + math.ceil(len(answer) / SLOWEST_BYTES_S)):
                await write_varint_frame(stream, answer)
        except trio.TooSlowError:
            raise StreamFault("too slow") from None
