"""Ids that were seen of late: each is remembered for a time, in a bounded number, by generations.

A generation is a set that is dropped whole: 100 bytes an id instead of the 190 of a table with a time each,
and no walk to expire them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

GENERATIONS = 8  # an id is remembered for an eighth longer than asked, at most


class Seen:
    """Ids of at least the last `keep_s` seconds, unless more than `max_ids` came: then the oldest are forgotten."""

    def __init__(self, keep_s: float, max_ids: int) -> None:
        self._span_s = keep_s / GENERATIONS
        self._keep_s = keep_s
        self._max_ids = max_ids
        self._generations: deque[tuple[float, set[bytes]]] = deque()
        """(when it was begun, ids), the youngest last."""
        self._count = 0

    def __contains__(self, each: bytes) -> bool:
        return any(each in ids for _, ids in reversed(self._generations))

    def __len__(self) -> int:
        return self._count

    def add(self, ids: Iterable[bytes], now_s: float) -> None:
        """Those that are new among them."""
        if not self._generations or now_s >= self._generations[-1][0] + self._span_s or self._is_full():
            self._generations.append((now_s, set()))
        youngest = self._generations[-1][1]
        for each in ids:
            if each not in self:
                youngest.add(each)
                self._count += 1
        while self._count > self._max_ids and len(self._generations) > 1:
            self._drop_oldest()

    def expire(self, now_s: float) -> None:
        while self._generations and self._generations[0][0] + self._span_s + self._keep_s <= now_s:
            self._drop_oldest()

    def _is_full(self) -> bool:
        """A flood must not make one generation of all: dropping it would forget everything."""
        return len(self._generations[-1][1]) >= max(1, self._max_ids // GENERATIONS)

    def _drop_oldest(self) -> None:
        self._count -= len(self._generations.popleft()[1])
