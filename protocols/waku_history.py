"""What the relay remembers of messages: the last few seconds in full, and for how long their ids.

Both are bounded, so that no flow of messages makes a node grow. Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

from collections import deque

from protocols.ids import PubsubTopic

SEEN_S = 120.0  # go-libp2p's; a copy that travels longer is delivered again, and delivery de-duplicates
SEEN_IDS = 131_072  # 120 s at 1,000 messages/s: about 13 MB; when it is too low duplicates circulate
HISTORY_BYTES = 32 * 1024 * 1024  # 200 of the largest messages; too low, and a reconnected peer misses some


class History:
    """Messages of the last `length` heartbeats, for IHAVE and IWANT."""

    def __init__(self, length: int) -> None:
        self._windows: deque[list[bytes]] = deque([[]], maxlen=length)
        self._length = length
        self._messages: dict[bytes, tuple[PubsubTopic, bytes]] = {}
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: bytes, topic: PubsubTopic, data: bytes) -> None:
        if message in self._messages:
            return
        self._messages[message] = topic, data
        self._size_bytes += len(data)
        self._windows[0].append(message)
        while self._size_bytes > HISTORY_BYTES:
            self._drop(next(iter(self._messages)))  # its id in a window points nowhere from now on

    def get(self, message: bytes) -> tuple[PubsubTopic, bytes] | None:
        return self._messages.get(message)

    def ids(self, topic: PubsubTopic, windows: int, limit: int) -> tuple[bytes, ...]:
        """Return ids of the topic's messages in the newest windows: the newest `limit`, the oldest of them first."""
        newest: list[bytes] = []
        for window in list(self._windows)[:windows]:
            newest += [m for m in reversed(window) if self._topic_of(m) == topic]
        return tuple(reversed(newest[:limit]))

    def shift(self) -> None:
        """One heartbeat has passed."""
        if len(self._windows) == self._length:
            for message in self._windows[-1]:
                self._drop(message)
        self._windows.appendleft([])

    def _topic_of(self, message: bytes) -> PubsubTopic | None:
        found = self._messages.get(message)
        return None if found is None else found[0]

    def _drop(self, message: bytes) -> None:
        found = self._messages.pop(message, None)
        if found is not None:
            self._size_bytes -= len(found[1])
