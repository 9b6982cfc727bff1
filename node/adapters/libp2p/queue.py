"""A bounded queue that sheds its oldest items, and counts them."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class SheddingQueue(Generic[T]):
    """First in, first out, within a number of items and of bytes; `put` never waits, `take` does."""

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._items: deque[tuple[T, int]] = deque()
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._waiting = trio.Event()
        self.size_bytes = 0
        self.shed = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T, size_bytes: int) -> None:
        self._items.append((item, size_bytes))
        self.size_bytes += size_bytes
        while len(self._items) > self._max_items or (self.size_bytes > self._max_bytes and len(self._items) > 1):
            self._pop()
            self.shed += 1
        self._waiting.set()

    def wake(self) -> None:
        """Let `take` return even if there is nothing to take."""
        self._waiting.set()

    async def take(self, max_bytes: int) -> list[T]:
        """Wait for an item or `wake`, then return what fits into `max_bytes`, at least one if there is any."""
        if not self._items:
            self._waiting = trio.Event()
            await self._waiting.wait()
        taken: list[T] = []
        while self._items and (not taken or self._items[0][1] <= max_bytes):
            max_bytes -= self._items[0][1]
            taken.append(self._pop())
        return taken

    def _pop(self) -> T:
        item, size_bytes = self._items.popleft()
        self.size_bytes -= size_bytes
        return item
