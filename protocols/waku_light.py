"""Being light: which full peers push which topics to us.

    topic wanted --SUBSCRIBE at COPIES peers--> held --ping every PING_S--> held
                      \\--refused, silent, forgotten by the peer--> asked again, or another peer

One entry, `handle(event, now_s)`, returns what to ask of whom; the shell in node/adapters/libp2p asks and comes back
with `Answered`. State changes in place, as in `waku_relay`. Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.ids import PeerId, PubsubTopic
from protocols.waku_event import HeartbeatPassed, Joined, Left, PeerAdded, PeerRemoved
from protocols.waku_filter import FilterKind, FilterStatus

COPIES = 2  # peers that push each topic: with one, a full node that stalls costs messages
PING_S = 60.0  # js-waku's; full nodes forget a subscriber after five minutes
REST_S = 30.0  # before a peer that failed us is asked again
MISSED_PINGS = 2  # in a row; then the peer is not counted on

# -- Events and effects --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to `Ask`."""

    peer: PeerId
    kind: FilterKind
    topic: PubsubTopic | None
    status: int | None
    """None where there was no answer."""


Event = PeerAdded | PeerRemoved | Joined | Left | Answered | HeartbeatPassed


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the peer's filter; a topic is None in a ping."""

    peer: PeerId
    kind: FilterKind
    topic: PubsubTopic | None


# -- State ---------------------------------------------------------------------


@dataclass(slots=True)
class _Peer:
    held: dict[PubsubTopic, None] = field(default_factory=dict)
    asked: dict[PubsubTopic, None] = field(default_factory=dict)
    rests_until_s: float = 0.0
    pinged_s: float = 0.0
    missed: int = 0


class LightClient:
    """Peers in the order in which they connected: the oldest are asked first."""

    def __init__(self) -> None:
        self._peers: dict[PeerId, _Peer] = {}
        self._topics: dict[PubsubTopic, None] = {}

    def holders(self, topic: PubsubTopic) -> tuple[PeerId, ...]:
        """Peers that push the topic to us."""
        return tuple(p for p, peer in self._peers.items() if topic in peer.held)

    def is_asked(self, peer: PeerId, topic: PubsubTopic) -> bool:
        """Whether it pushes the topic because we asked: its answer may come behind its first message."""
        known = self._peers.get(peer)
        return known is not None and (topic in known.held or topic in known.asked)

    def publishers(self, topic: PubsubTopic, now_s: float) -> tuple[PeerId, ...]:
        """Whom to give a message to, the best first."""
        useful = [p for p, peer in self._peers.items() if peer.rests_until_s <= now_s]
        return tuple(sorted(useful, key=lambda p: topic not in self._peers[p].held))  # stable: held ones first

    def rest(self, peer: PeerId, now_s: float) -> None:
        """It failed to publish for us."""
        if peer in self._peers:
            self._peers[peer].rests_until_s = now_s + REST_S

    # -- Transition ------------------------------------------------------------

    def handle(self, event: Event, now_s: float) -> list[Ask]:
        match event:
            case PeerAdded(peer):
                self._peers.setdefault(peer, _Peer(pinged_s=now_s))
            case PeerRemoved(peer):
                self._peers.pop(peer, None)
            case Joined(topic):
                self._topics[topic] = None
            case Left(topic):
                return self._leave(topic)
            case Answered():
                self._note(event, now_s)
            case HeartbeatPassed():
                return self._ping(now_s) + self._fill(now_s)
        return self._fill(now_s)

    def _leave(self, topic: PubsubTopic) -> list[Ask]:
        self._topics.pop(topic, None)
        told = [Ask(p, FilterKind.UNSUBSCRIBE, topic) for p in self._peers if self.is_asked(p, topic)]
        for ask in told:
            self._peers[ask.peer].held.pop(topic, None)
            self._peers[ask.peer].asked.pop(topic, None)
        return told

    def _note(self, answer: Answered, now_s: float) -> None:
        peer = self._peers.get(answer.peer)
        if peer is None:
            return
        good = answer.status == FilterStatus.SUCCESS
        if answer.kind is FilterKind.SUBSCRIBE and answer.topic is not None:
            awaited = answer.topic in peer.asked
            peer.asked.pop(answer.topic, None)
            if awaited and good:
                peer.held[answer.topic] = None
            if not good:
                peer.rests_until_s = now_s + REST_S
        elif answer.kind is FilterKind.PING:
            peer.missed = 0 if answer.status is not None else peer.missed + 1
            if answer.status == FilterStatus.NOT_FOUND:
                peer.held.clear()  # it has forgotten us: it is asked anew
            elif peer.missed >= MISSED_PINGS:
                peer.held.clear()
                peer.rests_until_s = now_s + REST_S

    def _fill(self, now_s: float) -> list[Ask]:
        asks = []
        for topic in self._topics:
            missing = COPIES - sum(self.is_asked(p, topic) for p in self._peers)
            able = [p for p, peer in self._peers.items() if peer.rests_until_s <= now_s and not self.is_asked(p, topic)]
            for chosen in able[: max(0, missing)]:
                self._peers[chosen].asked[topic] = None
                asks.append(Ask(chosen, FilterKind.SUBSCRIBE, topic))
        return asks

    def _ping(self, now_s: float) -> list[Ask]:
        due = [p for p, peer in self._peers.items() if peer.held and peer.pinged_s + PING_S <= now_s]
        for chosen in due:
            self._peers[chosen].pinged_s = now_s
        return [Ask(p, FilterKind.PING, None) for p in due]
