"""How often a peer may ask: a bucket each, filled at a steady rate, emptied by one a request.

Spec: protocols/README.md, "Waku".
"""

from __future__ import annotations

from collections.abc import Hashable

REMEMBERED = 4096  # buckets; one that is forgotten was full again, unless there are more askers than this


class Allowances:
    """Buckets of one size and rate, by whoever asks."""

    def __init__(self, rate_s: float, burst: int) -> None:
        self._rate_s = rate_s
        self._burst = burst
        self._buckets: dict[Hashable, tuple[float, float]] = {}  # what was left, and when

    def take(self, asker: Hashable, now_s: float) -> bool:
        """Whether the asker may; if so, it counts."""
        left, at_s = self._buckets.pop(asker, (float(self._burst), now_s))
        left = min(left + (now_s - at_s) * self._rate_s, float(self._burst))
        allowed = left >= 1.0
        self._buckets[asker] = (left - 1.0 if allowed else left, now_s)  # at the young end
        if len(self._buckets) > REMEMBERED:
            del self._buckets[next(iter(self._buckets))]
        return allowed
