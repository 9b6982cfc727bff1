"""A line's speed: bytes are spent at it, and whoever comes when it is busy waits for its turn."""

from __future__ import annotations

import trio

SLACK_S = 0.25  # of speed that was not used may be used at once; too low and every small frame sleeps


class Pace:
    """`bytes_s` of 0 is no limit."""

    def __init__(self, bytes_s: float) -> None:
        self._bytes_s = bytes_s
        self._busy_until_s = float("-inf")

    async def spend(self, size_bytes: int) -> None:
        if not self._bytes_s:
            return
        now_s = trio.current_time()
        self._busy_until_s = max(self._busy_until_s, now_s - SLACK_S) + size_bytes / self._bytes_s
        if self._busy_until_s > now_s:
            await trio.sleep_until(self._busy_until_s)
