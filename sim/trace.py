"""The trace: everything that happened between nodes and chain, in order, as one hash.

Two runs with the same hash are the same run. A line is `time kind field …`; ids are hashes of the bytes that went over
the wire, so that a message that differs in one bit is another line.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable

import trio

ID_CHARS = 12  # 48 bits: enough to tell the messages of one run apart


class Trace:
    def __init__(self, show: Callable[[str], None] | None = None) -> None:
        """`show` gets every line, for whoever reads the run."""
        self._hash = hashlib.sha256()
        self._show = show
        self.counts: Counter[str] = Counter()
        """Lines by kind."""

    def note(self, kind: str, *fields: object) -> None:
        line = " ".join([f"{trio.current_time():.6f}", kind, *map(str, fields)])
        self._hash.update(line.encode() + b"\n")
        self.counts[kind] += 1
        if self._show is not None:
            self._show(line)

    @property
    def hash(self) -> str:
        return self._hash.hexdigest()


def short(data: bytes) -> str:
    """Name bytes in a line."""
    return hashlib.sha256(data).hexdigest()[:ID_CHARS]
