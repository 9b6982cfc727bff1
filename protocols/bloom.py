"""A Bloom filter over message ids: what somebody has, in ten bits an id.

What is not in it is certainly lacking; of what seems to be in it, one in a hundred isn't. Ids are hashes, so
their own bytes are the hash functions. Spec: protocols/README.md, "Delivery".
"""

from __future__ import annotations

from collections.abc import Collection

BITS_AN_ID = 10  # one false positive in a hundred
PROBES = 7  # bits of each id: the best number for ten bits
MAX_IDS = 1024
MAX_FILTER_BYTES = MAX_IDS * BITS_AN_ID // 8


def build_filter(ids: Collection[bytes]) -> bytes:
    """Return the filter of at most MAX_IDS ids of 32 bytes; empty of none."""
    bits = bytearray((len(ids) * BITS_AN_ID + 7) // 8)
    for each in ids:
        for place in _places(each, len(bits) * 8):
            bits[place >> 3] |= 1 << (place & 7)
    return bytes(bits)


def may_contain(bits: bytes, each: bytes) -> bool:
    """False is certain."""
    return bool(bits) and all(bits[place >> 3] >> (place & 7) & 1 for place in _places(each, len(bits) * 8))


def _places(each: bytes, size: int) -> list[int]:
    return [int.from_bytes(each[4 * i : 4 * i + 4], "big") % size for i in range(PROBES)]
