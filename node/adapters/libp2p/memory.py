"""What each peer makes us hold: bytes that wait on its streams, frames that are worked on, answers on their way.

The one rule: a peer's share is bounded, and so are all shares together, where only who holds more than FAIR_BYTES is
refused: whoever asks for little is served though others ask for much. Refused is the frame, by ending its stream;
who sends what nobody reads, by ending the connection.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakSet

MIB = 1024 * 1024
FAIR_BYTES = 4 * MIB  # of one peer; below, nobody is refused for what others hold


class Holder(Protocol):
    """A multiplexed connection, of which a peer has one."""

    held: int
    """Bytes of frames and answers."""

    @property
    def unread(self) -> int:
        """Bytes that wait on its streams."""

    def __hash__(self) -> int: ...


class Memory:
    """One host's. `max_bytes` is for all peers."""

    def __init__(self, max_peer_bytes: int, max_bytes: int) -> None:
        self._max_peer_bytes = max_peer_bytes
        self._max_bytes = max_bytes
        self._holders: WeakSet[Holder] = WeakSet()
        self.refused = 0

    def add(self, holder: Holder) -> None:
        """Count the connection for as long as somebody refers to it."""
        self._holders.add(holder)

    def admits(self, holder: Holder, size_bytes: int) -> bool:
        """Whether the peer may hold so much more; if not, it counts."""
        own = holder.held + holder.unread + size_bytes
        admitted = own <= self._max_peer_bytes and (
            own <= FAIR_BYTES or self.size_bytes + size_bytes <= self._max_bytes
        )
        self.refused += not admitted
        return admitted

    @property
    def size_bytes(self) -> int:
        """Of all peers, now."""
        return sum(holder.held + holder.unread for holder in self._holders)


UNBOUNDED = Memory(2**62, 2**62)
"""Of connections that belong to no host: tests make some."""
