"""A light node's part of the network: full peers push to us what we follow and publish what we say.

The shell of `protocols.waku_light`, with the face of `RelayShell`: actors can't tell which of both is below them. What
is pushed is judged by its topic's check and heard once, whoever pushes it first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import trio

from actors.ports import Gossip, NoAnswer, Validator
from node.adapters.libp2p.client import Client
from node.adapters.libp2p.relay import RelayCounts, judge
from node.adapters.libp2p.streams import Stream, StreamFault, log, peer_of, read_varint_frame
from protocols.ids import ContentTopic, PeerId, PubsubTopic
from protocols.prefix import Prefix
from protocols.seen import Seen
from protocols.verdict import Accept, Reject, Verdict
from protocols.waku import MAX_MESSAGE_BYTES, gossip_id
from protocols.waku_conduct import MALFORMED, REJECTED, Conduct
from protocols.waku_event import HeartbeatPassed, Joined, Left, PeerAdded, PeerRemoved
from protocols.waku_filter import (
    MAX_PUSHED_BYTES,
    FilterKind,
    FilterRequest,
    Pushed,
    decode_pushed,
)
from protocols.waku_history import SEEN_IDS, SEEN_S
from protocols.waku_light import COPIES, Answered, Ask, Event, LightClient
from protocols.waku_lightpush import PushStatus
from protocols.waku_relay import HEARTBEAT_S
from protocols.waku_rpc import Publication

PUSHED_S = 10.0  # for reading one message
AT_ONCE = 16  # messages of ours on their way


class LightShell:
    """Runs one `LightClient` over a host's streams. `content_topics` are all that messages of ours may have."""

    def __init__(
        self,
        host: Any,
        nursery: trio.Nursery,
        me: PeerId,
        content_topics: tuple[ContentTopic, ...],
        *,
        deliver: Callable[[Gossip], None],
        disconnect: Callable[[PeerId, str], None],
    ) -> None:
        self._client = Client(host)
        self._nursery = nursery
        self._me = me
        self._content_topics = content_topics
        self._light = LightClient()
        self._conduct = Conduct()
        self._seen = Seen(SEEN_S, SEEN_IDS)
        self._deliver = deliver
        self._disconnect = disconnect
        self._validators: dict[PubsubTopic, Validator] = {}
        self._sending = trio.CapacityLimiter(AT_ONCE)
        self._counts = RelayCounts()

    def counts(self) -> RelayCounts:
        return replace(self._counts)

    def mesh(self, topic: PubsubTopic) -> tuple[PeerId, ...]:
        """Peers that push the topic to us."""
        return self._light.holders(topic)

    # -- What the node asks ----------------------------------------------------

    def subscribe(self, topic: PubsubTopic, validate: Validator) -> None:
        self._validators[topic] = validate
        self._feed(Joined(topic))

    def unsubscribe(self, topic: PubsubTopic) -> None:
        self._feed(Left(topic))
        self._validators.pop(topic, None)

    async def publish(self, topic: PubsubTopic, data: bytes) -> int:
        """Give it to full peers, in the background; return the number of those it is given to."""
        if len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(data)} bytes: Waku carries {MAX_MESSAGE_BYTES}")
        await trio.lowlevel.checkpoint()
        message = gossip_id(data)
        if topic in self._validators and message not in self._seen:
            verdict = self._judge(topic, self._me, data)
            if not isinstance(verdict, Accept):
                log.error("our own message fails its topic's check and is not sent: %s", verdict.reason)
                return 0
            self._seen.add((message,), trio.current_time())
            self._deliver(Gossip(topic, data))
        self._counts.published += 1
        peers = self._light.publishers(topic, trio.current_time())
        self._nursery.start_soon(self._hand_over, peers, topic, data)
        return min(len(peers), COPIES)

    async def _hand_over(self, peers: tuple[PeerId, ...], topic: PubsubTopic, data: bytes) -> None:
        """Until COPIES of them have taken it; what nobody takes is resent by whoever awaits acknowledgements."""
        taken = 0
        async with self._sending:
            for peer in peers:
                reply = await self._client.push(peer, topic, data)
                if isinstance(reply, NoAnswer):
                    self._light.rest(peer, trio.current_time())
                elif reply.status == PushStatus.SUCCESS:
                    taken += 1
                    self._counts.forwarded += 1
                else:
                    log.info("%s doesn't publish for us: %d %s", peer, reply.status, reply.description)
                if taken == COPIES:
                    return
        if not taken:
            self._counts.shed += 1

    # -- What the network tells ------------------------------------------------

    def add_peer(self, peer: PeerId, outbound: bool, prefix: Prefix) -> None:
        if self._conduct.is_banned(peer):
            self._disconnect(peer, "misbehaved as a full peer")
        else:
            self._feed(PeerAdded(peer, outbound, prefix))

    def remove_peer(self, peer: PeerId) -> None:
        self._feed(PeerRemoved(peer))

    async def beat(self) -> None:
        while True:
            await trio.sleep(HEARTBEAT_S)
            self._conduct.decay()
            self._seen.expire(trio.current_time())
            self._feed(HeartbeatPassed())

    async def serve(self, stream: Stream) -> None:
        """Handler of the filter-push protocol: one message."""
        peer = peer_of(stream)
        try:
            with trio.fail_after(PUSHED_S):
                pushed = decode_pushed(await read_varint_frame(stream, MAX_PUSHED_BYTES))
        except trio.TooSlowError:
            raise StreamFault("too slow") from None
        if isinstance(pushed, Reject):
            self._charge(peer, MALFORMED)
            raise StreamFault(pushed.reason)
        self._take(peer, pushed)

    def _take(self, peer: PeerId, pushed: Pushed) -> None:
        message = gossip_id(pushed.message)
        if not self._light.is_asked(peer, pushed.topic) or message in self._seen:
            return  # [IGNORE] not asked for, or a copy
        self._seen.add((message,), trio.current_time())
        self._counts.received += 1
        verdict = self._judge(pushed.topic, peer, pushed.message)
        if isinstance(verdict, Accept):
            self._deliver(Gossip(pushed.topic, pushed.message))
        elif isinstance(verdict, Reject):
            self._charge(peer, REJECTED)

    def _charge(self, peer: PeerId, cost: float) -> None:
        self._conduct.charge(peer, cost)
        if self._conduct.is_banned(peer):
            self._disconnect(peer, "misbehaved as a full peer")

    def _judge(self, topic: PubsubTopic, peer: PeerId, data: bytes) -> Verdict:
        return judge(self._validators, self._counts, peer, Publication(topic, data))

    # -- The machine -----------------------------------------------------------

    def _feed(self, event: Event) -> None:
        for ask in self._light.handle(event, trio.current_time()):
            self._nursery.start_soon(self._ask, ask)

    async def _ask(self, ask: Ask) -> None:
        content = () if ask.kind is FilterKind.PING else self._content_topics
        answer = await self._client.filter(ask.peer, FilterRequest("", ask.kind, ask.topic, content))
        if isinstance(answer, NoAnswer):
            log.info("no filter at %s: %s", ask.peer, answer.reason)
        status = None if isinstance(answer, NoAnswer) else answer.status
        self._feed(Answered(ask.peer, ask.kind, ask.topic, status))
