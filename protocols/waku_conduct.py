"""How peers behave on the relay: each fault costs, time forgives, and a bad name outlives a reconnect.

A leaky bucket a peer. Above SHUNNED it gets no gossip and no place in a mesh; above BANNED its frames
are ignored and it is disconnected, again each time it comes back until the bucket has drained.
`Ignore` verdicts cost nothing.

Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

REJECTED = 1.0
"""A message that its topic's validator rejected, or one that broke StrictNoSign."""
MALFORMED = 5.0
"""A frame that can't be parsed: no honest implementation sends one."""
EARLY_GRAFT = 1.0
"""GRAFT within the back-off that we asked for."""
BROKEN_PROMISE = 0.25
"""IHAVE for messages that it didn't send when asked; loss of a stream also looks like this."""

SHUNNED = 5.0
BANNED = 20.0
DECAY = 0.98  # a heartbeat: halves in 34 s, from BANNED to SHUNNED in about 70 s
REMEMBERED = 4096  # peers with a name; an attacker with more identities than this starts afresh anyway


class Conduct:
    """Faults of every peer that has any."""

    def __init__(self) -> None:
        self._faults: dict[str, float] = {}

    def charge(self, peer: str, cost: float) -> None:
        self._faults[peer] = self._faults.pop(peer, 0.0) + cost  # moves it to the young end
        if len(self._faults) > REMEMBERED:
            del self._faults[next(iter(self._faults))]

    def faults(self, peer: str) -> float:
        return self._faults.get(peer, 0.0)

    def is_trusted(self, peer: str) -> bool:
        """Whether it may be in a mesh and exchange gossip."""
        return self.faults(peer) < SHUNNED

    def is_banned(self, peer: str) -> bool:
        return self.faults(peer) >= BANNED

    def decay(self) -> None:
        """One heartbeat has passed."""
        self._faults = {peer: left for peer, value in self._faults.items() if (left := value * DECAY) > 0.01}
