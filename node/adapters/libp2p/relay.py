"""Waku relay over libp2p streams: the shell of `protocols.waku_relay`, and the queue to each peer.

Mends, by not using them, py-libp2p 0.8.1's Pubsub and GossipSub (5,400 lines), of which a stranger's bytes
end the host; which drop silently (10 messages/s a peer and topic, 32 slots in and out), leak a float a
message, write to a stream from several tasks at once, keep their cache by ids that StrictNoSign leaves
empty, retry light clients for ever, know no third verdict, and raise at shutdown under traffic.

Each peer has one stream from us (`sender`) and one to us (`serve`). Nothing waits for a stalled peer:
its queue sheds the oldest publications, and it is disconnected when it doesn't read for long.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

import trio

from actors.ports import Gossip, Validator
from node.adapters.libp2p.sender import Sender
from node.adapters.libp2p.streams import Stream, StreamFault, log, peer_of, read_some, reset
from protocols.ids import PeerId, PubsubTopic
from protocols.prefix import Prefix
from protocols.verdict import Accept, Ignore, Reject, Verdict
from protocols.waku import MAX_MESSAGE_BYTES, gossip_id
from protocols.waku_event import (
    Deliver,
    Disconnect,
    Effect,
    Event,
    Forward,
    HeartbeatPassed,
    Joined,
    Judge,
    Judged,
    Left,
    PeerAdded,
    PeerRemoved,
    Published,
    ReceivingOpened,
    RpcReceived,
    Send,
    SendingOpened,
)
from protocols.waku_relay import HEARTBEAT_S, Relay
from protocols.waku_rpc import MAX_RPC_BYTES, Publication, decode_rpc, encode_publication, encode_rpc
from protocols.waku_wire import Malformed, decode_varint, encode_varint

READ_BYTES = 256 * 1024  # a yamux window
PATIENCE_S = 5.0  # for which one publication waits at most
FRAMES_PER_TURN = 16  # decoded before other tasks get a turn: about 2 ms

# -- Relay ---------------------------------------------------------------------


@dataclass(slots=True)
class RelayCounts:
    """Since the start; what a node's metrics show."""

    published: int = 0
    received: int = 0
    forwarded: int = 0
    ignored: int = 0
    rejected: int = 0
    shed: int = 0
    """Publications that a peer read too slowly to get."""
    validator_faults: int = 0
    limited: int = 0
    """Publications that came faster than a peer may publish on a topic."""


class RelayShell:
    """Runs one `Relay` over a host's streams."""

    def __init__(
        self,
        host: Any,
        nursery: trio.Nursery,
        me: PeerId,
        seed: bytes,
        *,
        deliver: Callable[[Gossip], None],
        disconnect: Callable[[PeerId, str], None],
    ) -> None:
        self._host = host
        self._nursery = nursery
        self._me = me
        self._relay = Relay(seed)
        self._deliver = deliver
        self._disconnect = disconnect
        self._validators: dict[PubsubTopic, Validator] = {}
        self._senders: dict[PeerId, Sender] = {}
        self._receiving: dict[PeerId, Stream] = {}
        self._counts = RelayCounts()

    def counts(self) -> RelayCounts:
        shed = self._counts.shed + sum(s.shed for s in self._senders.values())
        return replace(self._counts, shed=shed, limited=self._relay.limited)

    def mesh(self, topic: PubsubTopic) -> tuple[PeerId, ...]:
        return self._relay.meshes.members(topic)

    @property
    def followed(self) -> Container[PubsubTopic]:
        """Topics that we relay, as of whenever it is asked."""
        return self._validators.keys()

    # -- What the node asks ----------------------------------------------------

    def subscribe(self, topic: PubsubTopic, validate: Validator) -> None:
        self._validators[topic] = validate
        self._feed(Joined(topic))

    def unsubscribe(self, topic: PubsubTopic) -> None:
        self._feed(Left(topic))
        self._validators.pop(topic, None)

    async def publish(self, topic: PubsubTopic, data: bytes) -> int:
        """Offer it to peers; wait while one that still reads has a long queue."""
        if len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(data)} bytes: Waku carries {MAX_MESSAGE_BYTES}")
        publication = Publication(topic, data)
        await self._wait_room()
        if topic in self._validators and gossip_id(data) not in self._relay.seen:
            verdict = self._judge(self._me, publication)
            if not isinstance(verdict, Accept):
                log.error("our own message fails its topic's check and is not sent: %s", verdict.reason)
                return 0
        self._counts.published += 1
        return self._feed(Published(publication))

    async def publish_for(self, peer: PeerId, topic: PubsubTopic, data: bytes) -> int | Ignore | Reject:
        """Publish what a light peer gave us; return the number of peers it was offered to, or why it wasn't."""
        publication = Publication(topic, data)
        verdict = self._judge(peer, publication)
        if not isinstance(verdict, Accept):
            return verdict
        await self._wait_room()
        self._counts.published += 1
        return self._feed(Published(publication))

    async def _wait_room(self) -> None:
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(PATIENCE_S):
            while not all(sender.has_room() for sender in self._senders.values()):  # noqa: ASYNC110  time makes room too
                await trio.sleep(0.005)

    # -- What the network tells ------------------------------------------------

    def add_peer(self, peer: PeerId, outbound: bool, prefix: Prefix) -> None:
        self._start_sender(peer)
        self._feed(PeerAdded(peer, outbound, prefix))

    def _start_sender(self, peer: PeerId) -> None:
        self._senders[peer] = Sender(self._host, peer, self._on_open)
        self._nursery.start_soon(self._run_sender, peer, self._senders[peer])

    def remove_peer(self, peer: PeerId) -> None:
        sender = self._senders.pop(peer, None)
        if sender is not None:
            self._counts.shed += sender.shed
            sender.scope.cancel()
        self._feed(PeerRemoved(peer))

    async def beat(self) -> None:
        while True:
            self._feed(HeartbeatPassed())
            await trio.sleep(HEARTBEAT_S)

    async def serve(self, stream: Stream) -> None:
        """Handler of the peer's stream to us; a newer stream replaces an older one."""
        peer = peer_of(stream)
        older = self._receiving.get(peer)
        self._receiving[peer] = stream
        if older is not None:
            await reset(older)
        if peer not in self._senders:  # it took no stream from us until now
            self._start_sender(peer)
        self._feed(ReceivingOpened(peer))
        try:
            await self._receive(peer, stream)
        finally:
            if self._receiving.get(peer) is stream:
                del self._receiving[peer]

    async def _receive(self, peer: PeerId, stream: Stream) -> None:
        buffer = bytearray()
        count = 0
        while chunk := await read_some(stream, READ_BYTES):
            buffer += chunk
            for frame in _take_frames(buffer):
                rpc = frame if isinstance(frame, Reject) else decode_rpc(frame)
                self._feed(RpcReceived(peer, rpc))
                if isinstance(rpc, Reject):
                    raise StreamFault(rpc.reason)
                count += 1
                if count % FRAMES_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()

    async def _run_sender(self, peer: PeerId, sender: Sender) -> None:
        await sender.run()
        if self._senders.get(peer) is sender:  # it gave up
            del self._senders[peer]
            if sender.opened:
                self._disconnect(peer, "it doesn't read its relay stream")

    def _on_open(self, peer: PeerId) -> None:
        self._feed(SendingOpened(peer))

    # -- The machine -----------------------------------------------------------

    def _feed(self, event: Event) -> int:
        """Perform what the machine answers; return the number of peers that were offered a publication."""
        offered = 0
        for effect in self._relay.handle(event, trio.current_time()):
            offered += self._perform(effect, first=isinstance(event, SendingOpened))
        return offered

    def _perform(self, effect: Effect, *, first: bool) -> int:
        match effect:
            case Judge(peer, message, publication):
                self._counts.received += 1
                self._feed(Judged(peer, message, publication, self._judge(peer, publication)))
            case Deliver(publication):
                self._deliver(Gossip(publication.topic, publication.data))
            case Forward(peers, publication):
                return self._forward(peers, publication)
            case Send(peer, rpc):
                if peer in self._senders:
                    self._senders[peer].put_control(_frame(encode_rpc(rpc)), first=first)
            case Disconnect(peer, reason):
                self._disconnect(peer, reason)
        return 0

    def _forward(self, peers: tuple[PeerId, ...], publication: Publication) -> int:
        if not peers:
            return 0
        frame = _frame(encode_publication(publication))
        for peer in peers:
            if peer in self._senders:
                self._senders[peer].put(frame)
        self._counts.forwarded += len(peers)
        return len(peers)

    def _judge(self, peer: PeerId, publication: Publication) -> Verdict:
        return judge(self._validators, self._counts, peer, publication)


def judge(
    validators: Mapping[PubsubTopic, Validator], counts: RelayCounts, peer: PeerId, publication: Publication
) -> Verdict:
    """Ask the topic's validator, and count what it says."""
    validate = validators.get(publication.topic)
    if validate is None:
        return Ignore("we don't follow the topic")
    try:
        verdict = validate(peer, publication.data)
    except Exception:  # noqa: BLE001
        # Our fault, and a stranger's bytes can repeat it at will: restarting would be at his command.
        log.exception("the validator of %s raised", publication.topic)
        counts.validator_faults += 1
        return Ignore("the validator raised")
    counts.ignored += isinstance(verdict, Ignore)
    counts.rejected += isinstance(verdict, Reject)
    return verdict


# -- Frames --------------------------------------------------------------------


def _frame(data: bytes) -> bytes:
    return encode_varint(len(data)) + data


def _take_frames(buffer: bytearray) -> list[bytes | Reject]:
    """Take the complete frames out of the buffer; a Reject, which comes last, for a length beyond the limit."""
    frames: list[bytes | Reject] = []
    position = 0
    while position < len(buffer):
        try:
            size, start = decode_varint(bytes(buffer[position : position + 10]), 0)
        except Malformed:
            if len(buffer) - position >= 10:
                frames.append(Reject("no length"))
            break
        if size > MAX_RPC_BYTES:
            frames.append(Reject(f"frame of {size} bytes, the limit is {MAX_RPC_BYTES}"))
            break
        end = position + start + size
        if end > len(buffer):
            break
        frames.append(bytes(buffer[position + start : end]))
        position = end
    del buffer[:position]
    return frames
