"""Waku relay (gossipsub 1.1) without sockets: who gets which message.

One entry, `handle(event, now_s)`, returns effects; the shell in node/adapters/libp2p owns streams and
clock, and tests join two of these objects directly. State changes in place, unlike in our other machines:
a copy of the seen ids for every message would cost more than the message.

Mesh peers get each message at once (`waku_mesh`); the others hear its id for a few heartbeats (IHAVE) and
ask (IWANT). Beyond the specification, for networks of a handful of peers:
- a peer that subscribes is grafted at once and hears the ids of our last seconds, so that nothing is lost
  between a connection and its place in the mesh, nor across a short disconnect;
- what we publish goes to every subscribed peer while they are few (flood publishing).

Source: libp2p specs, pubsub/gossipsub-v1.1.md. Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.ids import PeerId, PubsubTopic
from protocols.seen import Seen
from protocols.verdict import Accept, Ignore, Reject
from protocols.waku import MAX_MESSAGE_BYTES, gossip_id
from protocols.waku_allowance import Allowances
from protocols.waku_conduct import BROKEN_PROMISE, MALFORMED, REJECTED, Conduct
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
from protocols.waku_history import SEEN_IDS, SEEN_S, History
from protocols.waku_mesh import DEGREE, DEGREE_LOW, Meshes
from protocols.waku_rpc import IHave, Prune, Publication, Rpc, Subscription

HEARTBEAT_S = 1.0
LAZY_PEERS, LAZY_SHARE = 6, 4  # IHAVE to at least 6 and at least a quarter of the peers outside the mesh
FLOOD_PEERS = 16  # above, our own messages go to the mesh only: a 150 KB message to 16 peers is 2.4 MB
GOSSIP_WINDOWS, HISTORY_WINDOWS = 3, 10  # heartbeats in which an id is announced, in which it can be asked for
IDS_PER_HEARTBEAT = 5000  # announced ids that we take from a peer, and announce to one
SERVED_PER_HEARTBEAT = 1000  # messages that a peer gets by IWANT: asking is cheap, answering is not
PROMISE_S = 3.0  # between our IWANT and asking somebody else
PROMISES = 20_000  # ids asked for at a time
MESSAGES_S, MESSAGES_BURST = 1000, 8192  # of one peer on one topic, copies included; a mesh peer carries the whole flow
TOPICS_PER_PEER = 1024  # a full node joins all shards

# -- State ---------------------------------------------------------------------


@dataclass(slots=True)
class _Peer:
    topics: dict[PubsubTopic, None] = field(default_factory=dict)
    ids_taken: int = 0
    served: int = 0


class Relay:
    def __init__(self, seed: bytes) -> None:
        """`seed` decides every draw."""
        self.seen = Seen(SEEN_S, SEEN_IDS)
        self.conduct = Conduct()
        self.meshes = Meshes(seed, self.conduct)
        self._peers: dict[PeerId, _Peer] = {}
        self._promises: dict[bytes, tuple[PeerId, float]] = {}
        self._history = History(HISTORY_WINDOWS)
        self._allowances = Allowances(MESSAGES_S, MESSAGES_BURST)
        self.limited = 0
        """Publications beyond a peer's allowance on a topic."""

    def subscribers(self, topic: PubsubTopic) -> list[PeerId]:
        """Peers that follow the topic and aren't banned, in the order in which they connected."""
        return [p for p, peer in self._peers.items() if topic in peer.topics and not self.conduct.is_banned(p)]

    # -- Transition ------------------------------------------------------------

    def handle(self, event: Event, now_s: float) -> list[Effect]:
        match event:
            case RpcReceived(peer, rpc):
                return self._receive(peer, rpc, now_s)
            case Judged():
                return self._judged(event)
            case Published(publication):
                return self._publish(publication, now_s)
            case PeerAdded(peer, outbound, prefix):
                self._peers.setdefault(peer, _Peer())
                self.meshes.meet(peer, outbound, prefix)
                return self._expel(peer)
            case PeerRemoved(peer):
                self._forget(peer)
                self.meshes.part(peer)
                self._peers.pop(peer, None)
                return []
            case SendingOpened(peer):
                return self._greet(peer, now_s)
            case ReceivingOpened(peer):
                self._forget(peer)
                return []
            case Joined(topic):
                return self._join(topic, now_s)
            case Left(topic):
                return self._leave(topic, now_s)
            case HeartbeatPassed():
                return self._beat(now_s)

    def _expel(self, peer: PeerId) -> list[Effect]:
        return [Disconnect(peer, "misbehaved on the relay")] if self.conduct.is_banned(peer) else []

    def _forget(self, peer: PeerId) -> None:
        """What it said, follows and promised; not how it behaved."""
        self.meshes.drop(peer)
        self._promises = {m: promise for m, promise in self._promises.items() if promise[0] != peer}
        if peer in self._peers:
            self._peers[peer].topics.clear()

    # -- Subscriptions ---------------------------------------------------------

    def _greet(self, peer: PeerId, now_s: float) -> list[Effect]:
        self.meshes.drop(peer)  # whatever it knew of us is gone
        known = self._peers[peer].topics if peer in self._peers else {}
        graft = tuple(topic for topic in known if self.meshes.graft(topic, peer, now_s))
        return [Send(peer, Rpc(subscriptions=tuple(Subscription(t, True) for t in self.meshes.topics()), graft=graft))]

    def _join(self, topic: PubsubTopic, now_s: float) -> list[Effect]:
        if topic in self.meshes:
            return []
        self.meshes.open(topic)
        drawn = self.meshes.draw(self.subscribers(topic), DEGREE)
        grafted = [p for p in drawn if self.meshes.graft(topic, p, now_s)]
        told = (Subscription(topic, True),)
        return [Send(p, Rpc(subscriptions=told, graft=(topic,) if p in grafted else ())) for p in self._peers]

    def _leave(self, topic: PubsubTopic, now_s: float) -> list[Effect]:
        if topic not in self.meshes:
            return []
        members = self.meshes.close(topic)
        told = (Subscription(topic, False),)
        return [
            Send(p, Rpc(subscriptions=told, prune=(self.meshes.prune(topic, p, now_s),) if p in members else ()))
            for p in self._peers
        ]

    def _subscription(self, peer: _Peer, sender: PeerId, told: Subscription) -> bool:
        """Note it; return whether it is new."""
        if not told.subscribe:
            peer.topics.pop(told.topic, None)
            self.meshes.drop(sender, told.topic)
            return False
        if told.topic in peer.topics or len(peer.topics) >= TOPICS_PER_PEER:
            return False
        peer.topics[told.topic] = None
        return True

    def _recall(self, topics: list[PubsubTopic]) -> tuple[IHave, ...]:
        """What a peer that subscribes just now may have missed."""
        recent = ((t, self._history.ids(t, HISTORY_WINDOWS, IDS_PER_HEARTBEAT)) for t in topics)
        return tuple(IHave(topic, ids) for topic, ids in recent if ids)

    # -- Receiving -------------------------------------------------------------

    def _receive(self, sender: PeerId, rpc: Rpc | Reject, now_s: float) -> list[Effect]:
        peer = self._peers.get(sender)
        if peer is None or self.conduct.is_banned(sender):
            return []
        if isinstance(rpc, Reject):
            self.conduct.charge(sender, MALFORMED)
            return self._expel(sender)
        if rpc.refused:
            self.conduct.charge(sender, REJECTED * rpc.refused)
        effects = self._take(sender, rpc.publications, now_s)
        control = self._control(sender, peer, rpc, now_s)
        if control != Rpc():
            effects.append(Send(sender, control))
        effects += [Forward((sender,), publication) for publication in self._serve(sender, peer, rpc.iwant)]
        return effects + self._expel(sender)

    def _control(self, sender: PeerId, peer: _Peer, rpc: Rpc, now_s: float) -> Rpc:
        subscribed = [told.topic for told in rpc.subscriptions if self._subscription(peer, sender, told)]
        for prune in rpc.prune:
            self.meshes.pruned(prune, sender, now_s)
        refusals = [self.meshes.grafted(topic, sender, now_s) for topic in rpc.graft]
        return Rpc(
            ihave=self._recall(subscribed),
            iwant=self._want(sender, peer, rpc.ihave, now_s),
            graft=tuple(topic for topic in subscribed if self.meshes.graft(topic, sender, now_s)),
            prune=tuple(refusal for refusal in refusals if refusal is not None),
        )

    def _take(self, sender: PeerId, publications: tuple[Publication, ...], now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for publication in publications:
            if publication.topic not in self.meshes:
                continue  # [IGNORE] a topic that we left a moment ago
            if not self._allowances.take((sender, publication.topic), now_s):
                self.limited += 1  # [IGNORE] faster than a whole network talks on one topic
                continue
            message = gossip_id(publication.data)
            self._promises.pop(message, None)
            if message in self.seen:
                continue  # [IGNORE] a copy
            self.seen.add((message,), now_s)
            if len(publication.data) > MAX_MESSAGE_BYTES:
                self.conduct.charge(sender, REJECTED)  # [REJECT] larger than Waku carries
                continue
            effects.append(Judge(sender, message, publication))
        return effects

    def _judged(self, event: Judged) -> list[Effect]:
        match event.verdict:
            case Ignore():
                return []
            case Reject():
                self.conduct.charge(event.peer, REJECTED)
                return self._expel(event.peer)
            case Accept():
                publication = event.publication
                self._history.put(event.message, publication.topic, publication.data)
                targets = tuple(p for p in self._targets(publication.topic) if p != event.peer)
                return [Deliver(publication), Forward(targets, publication)]

    # -- Gossip ----------------------------------------------------------------

    def _want(self, sender: PeerId, peer: _Peer, announced: tuple[IHave, ...], now_s: float) -> tuple[bytes, ...]:
        wanted: list[bytes] = []
        for ihave in announced:
            if ihave.topic not in self.meshes or not self.conduct.is_trusted(sender):
                continue
            for message in ihave.ids[: max(0, IDS_PER_HEARTBEAT - peer.ids_taken)]:
                peer.ids_taken += 1
                if message not in self.seen and message not in self._promises and len(self._promises) < PROMISES:
                    self._promises[message] = sender, now_s + PROMISE_S
                    wanted.append(message)
        return tuple(wanted)

    def _serve(self, sender: PeerId, peer: _Peer, wanted: tuple[bytes, ...]) -> list[Publication]:
        if not self.conduct.is_trusted(sender):
            return []
        served = []
        for message in wanted[: max(0, SERVED_PER_HEARTBEAT - peer.served)]:
            found = self._history.get(message)
            if found is not None:
                peer.served += 1
                served.append(Publication(*found))
        return served

    # -- Publishing ------------------------------------------------------------

    def _publish(self, publication: Publication, now_s: float) -> list[Effect]:
        message = gossip_id(publication.data)
        effects: list[Effect] = []
        if message not in self.seen and publication.topic in self.meshes:
            effects.append(Deliver(publication))
        self.seen.add((message,), now_s)
        self._history.put(message, publication.topic, publication.data)
        subscribers = self.subscribers(publication.topic)
        few = len(subscribers) <= FLOOD_PEERS
        return [*effects, Forward(tuple(subscribers if few else self._targets(publication.topic)), publication)]

    def _targets(self, topic: PubsubTopic) -> list[PeerId]:
        """The mesh, filled up with others while it is thin."""
        targets = list(self.meshes.members(topic))
        if len(targets) < DEGREE_LOW:
            others = [p for p in self.subscribers(topic) if p not in targets]
            targets += self.meshes.draw(others, DEGREE - len(targets))
        return targets

    # -- Heartbeat -------------------------------------------------------------

    def _beat(self, now_s: float) -> list[Effect]:
        self._expire(now_s)
        graft: dict[PeerId, list[PubsubTopic]] = {p: [] for p in self._peers}
        prune: dict[PeerId, list[Prune]] = {p: [] for p in self._peers}
        ihave: dict[PeerId, list[IHave]] = {p: [] for p in self._peers}
        for topic in self.meshes.topics():
            for peer, refusal in self.meshes.thin(topic, now_s):
                prune[peer].append(refusal)
            for peer in self.meshes.tend(topic, self.subscribers(topic), now_s):
                graft[peer].append(topic)
            for peer, ids in self._gossip(topic):
                ihave[peer].append(ids)
        self._history.shift()
        beats = ((p, Rpc(graft=tuple(graft[p]), prune=tuple(prune[p]), ihave=tuple(ihave[p]))) for p in self._peers)
        return [Send(peer, rpc) for peer, rpc in beats if rpc != Rpc()]

    def _expire(self, now_s: float) -> None:
        self.conduct.decay()
        self.seen.expire(now_s)
        self.meshes.expire(now_s)
        broken = {message: peer for message, (peer, until_s) in self._promises.items() if until_s <= now_s}
        for message in broken:
            del self._promises[message]
        for peer in dict.fromkeys(broken.values()):
            self.conduct.charge(peer, BROKEN_PROMISE)
        for known in self._peers.values():
            known.ids_taken = known.served = 0

    def _gossip(self, topic: PubsubTopic) -> list[tuple[PeerId, IHave]]:
        ids = self._history.ids(topic, GOSSIP_WINDOWS, IDS_PER_HEARTBEAT)
        members = self.meshes.members(topic)
        others = [p for p in self.subscribers(topic) if p not in members and self.conduct.is_trusted(p)]
        chosen = self.meshes.draw(others, max(LAZY_PEERS, len(others) // LAZY_SHARE)) if ids else []
        return [(peer, IHave(topic, ids)) for peer in chosen]
