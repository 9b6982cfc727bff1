"""The relay's meshes: for each topic that we follow, the few peers that get every message at once.

    known --GRAFT, either side--> in the mesh --PRUNE, lost, shunned--> backing off --time--> known

Dicts stand for sets: they keep their order, so the same events give the same messages.

Source: libp2p specs, pubsub/gossipsub-v1.1.md. Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from protocols.ids import PeerId, PubsubTopic
from protocols.waku_conduct import EARLY_GRAFT, Conduct
from protocols.waku_rpc import Prune

DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 4, 8  # 11/WAKU2-RELAY
BACKOFF_S, MAX_BACKOFF_S = 60, 3600


class Meshes:
    """Members by topic. `subscribers` arguments are the peers that follow the topic and may hear of it."""

    def __init__(self, seed: bytes, conduct: Conduct) -> None:
        self._seed = seed
        self._drawn = 0
        self._conduct = conduct
        self._members: dict[PubsubTopic, dict[PeerId, None]] = {}
        self._backoffs: dict[tuple[PubsubTopic, PeerId], float] = {}

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

    # -- We ask ----------------------------------------------------------------

    def graft(self, topic: PubsubTopic, peer: PeerId, now_s: float) -> bool:
        """Take the peer in if there is room and no reason against; True asks for a GRAFT to be sent."""
        mesh = self._members.get(topic)
        if mesh is None or peer in mesh or len(mesh) >= DEGREE or not self._conduct.is_trusted(peer):
            return False
        if self._is_backing_off(topic, peer, now_s):
            return False
        mesh[peer] = None
        return True

    def prune(self, topic: PubsubTopic, peer: PeerId, now_s: float) -> Prune:
        """Put the peer out; the caller sends the PRUNE."""
        self.drop(peer, topic)
        self._backoffs[topic, peer] = now_s + BACKOFF_S
        return Prune(topic, BACKOFF_S)

    def tend(self, topic: PubsubTopic, subscribers: Sequence[PeerId], now_s: float) -> list[PeerId]:
        """Fill a thin mesh; return whom to GRAFT."""
        mesh = self._members[topic]
        if len(mesh) >= DEGREE_LOW:
            return []
        candidates = self.draw([p for p in subscribers if p not in mesh], DEGREE_HIGH)
        return [p for p in candidates if self.graft(topic, p, now_s)]

    def thin(self, topic: PubsubTopic, now_s: float) -> list[tuple[PeerId, Prune]]:
        """Put out the shunned, and the surplus of a crowded mesh."""
        mesh = self._members[topic]
        leaving = [p for p in mesh if not self._conduct.is_trusted(p)]
        if len(mesh) > DEGREE_HIGH:
            leaving += self.draw([p for p in mesh if p not in leaving], len(mesh) - DEGREE)
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
        if early or len(mesh) >= DEGREE_HIGH or not self._conduct.is_trusted(sender):
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
        if count >= len(candidates):
            return list(candidates)
        self._drawn += 1
        salt = self._seed + self._drawn.to_bytes(8, "big")
        return sorted(candidates, key=lambda peer: hashlib.sha256(salt + peer.encode()).digest())[: max(0, count)]

    def _is_backing_off(self, topic: PubsubTopic, peer: PeerId, now_s: float) -> bool:
        return self._backoffs.get((topic, peer), 0.0) > now_s
