"""The relay's meshes: for each topic that we follow, the few peers that get every message at once.

    known --GRAFT, either side--> in the mesh --PRUNE, lost, shunned--> backing off --time--> known

Dicts stand for sets: they keep their order, so the same events give the same messages.

Source: libp2p specs, pubsub/gossipsub-v1.1.md. Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from protocols.ids import PeerId, PubsubTopic
from protocols.prefix import NEAR, Prefix
from protocols.waku_conduct import EARLY_GRAFT, Conduct
from protocols.waku_rpc import Prune

DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 4, 8  # 11/WAKU2-RELAY
DEGREE_OUT = 2  # members that we dialled ourselves: strangers who dial us can't surround us
PREFIX_SHARE = 3  # members of one part of the internet: half of a mesh, whoever asks first
BACKOFF_S, MAX_BACKOFF_S = 60, 3600


class Meshes:
    """Members by topic. `subscribers` arguments are the peers that follow the topic and may hear of it."""

    def __init__(self, seed: bytes, conduct: Conduct) -> None:
        self._seed = seed
        self._drawn = 0
        self._conduct = conduct
        self._members: dict[PubsubTopic, dict[PeerId, None]] = {}
        self._backoffs: dict[tuple[PubsubTopic, PeerId], float] = {}
        self._outbound: set[PeerId] = set()
        self._prefixes: dict[PeerId, Prefix] = {}

    def __contains__(self, topic: PubsubTopic) -> bool:
        return topic in self._members

    def topics(self) -> tuple[PubsubTopic, ...]:
        return tuple(self._members)

    def members(self, topic: PubsubTopic) -> tuple[PeerId, ...]:
        return tuple(self._members.get(topic, ()))

    def open(self, topic: PubsubTopic) -> None:
        self._members[topic] = {}

    def close(self, topic: PubsubTopic) -> tuple[PeerId, ...]:
        return tuple(self._members.pop(topic, ()))

    def drop(self, peer: PeerId, topic: PubsubTopic | None = None) -> None:
        """Forget the peer in one topic or in all; no back-off, since nobody refused anybody."""
        for each in self._members if topic is None else (topic,):
            self._members.get(each, {}).pop(peer, None)

    # -- Who is where ----------------------------------------------------------

    def meet(self, peer: PeerId, outbound: bool, prefix: Prefix) -> None:
        """Note how a peer is connected, until `part`."""
        self._prefixes[peer] = prefix
        if outbound:
            self._outbound.add(peer)

    def part(self, peer: PeerId) -> None:
        self._prefixes.pop(peer, None)
        self._outbound.discard(peer)

    def outbound(self, topic: PubsubTopic) -> list[PeerId]:
        return [p for p in self._members.get(topic, ()) if p in self._outbound]

    def _is_crowded(self, topic: PubsubTopic, peer: PeerId) -> bool:
        """Whether the peer's part of the internet has its share of the mesh already."""
        prefix = self._prefixes.get(peer, NEAR)
        mates = sum(self._prefixes.get(p) == prefix for p in self._members[topic])
        return prefix != NEAR and mates >= PREFIX_SHARE

    # -- We ask ----------------------------------------------------------------

    def graft(self, topic: PubsubTopic, peer: PeerId, now_s: float, room: int = DEGREE) -> bool:
        """Take the peer in if there is room and no reason against; True asks for a GRAFT to be sent."""
        mesh = self._members.get(topic)
        if mesh is None or peer in mesh or len(mesh) >= room or not self._conduct.is_trusted(peer):
            return False
        if self._is_backing_off(topic, peer, now_s) or self._is_crowded(topic, peer):
            return False
        mesh[peer] = None
        return True

    def prune(self, topic: PubsubTopic, peer: PeerId, now_s: float) -> Prune:
        """Put the peer out; the caller sends the PRUNE."""
        self.drop(peer, topic)
        self._backoffs[topic, peer] = now_s + BACKOFF_S
        return Prune(topic, BACKOFF_S)

    def tend(self, topic: PubsubTopic, subscribers: Sequence[PeerId], now_s: float) -> list[PeerId]:
        """Fill a thin mesh, and one with too few that we dialled; return whom to GRAFT."""
        mesh = self._members[topic]
        grafted: list[PeerId] = []
        if len(mesh) < DEGREE_LOW:
            candidates = self.shuffle([p for p in subscribers if p not in mesh])
            grafted += [p for p in candidates if self.graft(topic, p, now_s)]
        dialled = self.shuffle([p for p in subscribers if p in self._outbound and p not in mesh])
        while dialled and len(self.outbound(topic)) < DEGREE_OUT:
            peer = dialled.pop()
            if self.graft(topic, peer, now_s, room=DEGREE_HIGH + DEGREE_OUT):  # then strangers are thinned out
                grafted.append(peer)
        return grafted

    def thin(self, topic: PubsubTopic, now_s: float) -> list[tuple[PeerId, Prune]]:
        """Put out the shunned, and the surplus of a crowded mesh."""
        mesh = self._members[topic]
        leaving = [p for p in mesh if not self._conduct.is_trusted(p)]
        if len(mesh) > DEGREE_HIGH:
            staying = self.draw([p for p in self.outbound(topic) if p not in leaving], DEGREE_OUT)
            leaving += self.draw([p for p in mesh if p not in (*leaving, *staying)], len(mesh) - DEGREE)
        return [(p, self.prune(topic, p, now_s)) for p in leaving]

    # -- The peer asks ---------------------------------------------------------

    def grafted(self, topic: PubsubTopic, sender: PeerId, now_s: float) -> Prune | None:
        """Take in a peer that asks, or return the refusal."""
        mesh = self._members.get(topic)
        if mesh is None or sender in mesh:
            return None  # a PRUNE for topics that we don't follow would let strangers make us talk
        early = self._is_backing_off(topic, sender, now_s)
        if early:
            self._conduct.charge(sender, EARLY_GRAFT)
        wanted = sender in self._outbound and len(self.outbound(topic)) < DEGREE_OUT
        full = (len(mesh) >= DEGREE_HIGH and not wanted) or self._is_crowded(topic, sender)
        if early or full or not self._conduct.is_trusted(sender):
            return self.prune(topic, sender, now_s)
        mesh[sender] = None
        return None

    def pruned(self, prune: Prune, sender: PeerId, now_s: float) -> None:
        if prune.topic in self._members:
            self.drop(sender, prune.topic)
            self._backoffs[prune.topic, sender] = now_s + min(prune.backoff_s or BACKOFF_S, MAX_BACKOFF_S)

    # -- Time and chance -------------------------------------------------------

    def expire(self, now_s: float) -> None:
        self._backoffs = {key: until_s for key, until_s in self._backoffs.items() if until_s > now_s}

    def draw(self, candidates: Sequence[PeerId], count: int) -> list[PeerId]:
        """Draw without replacement, from the seed."""
        return list(candidates) if count >= len(candidates) else self.shuffle(candidates)[: max(0, count)]

    def shuffle(self, candidates: Sequence[PeerId]) -> list[PeerId]:
        self._drawn += 1
        salt = self._seed + self._drawn.to_bytes(8, "big")
        return sorted(candidates, key=lambda peer: hashlib.sha256(salt + peer.encode()).digest())

    def _is_backing_off(self, topic: PubsubTopic, peer: PeerId, now_s: float) -> bool:
        return self._backoffs.get((topic, peer), 0.0) > now_s
