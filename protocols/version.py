"""Which version of the protocol two releases speak: each says `[min, max]`, both speak the newest that all know.

Spec: protocols/README.md, "Messages".
"""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]
"""[min, max] that a release speaks."""


def is_range(said: Range) -> bool:
    return 0 <= said[0] <= said[1] < 2**16


def common_version(ranges: Iterable[Range]) -> int | None:
    """Return the newest version that all of them speak, or None."""
    known = list(ranges)
    newest = min(highest for _, highest in known)
    return newest if newest >= max(lowest for lowest, _ in known) else None
