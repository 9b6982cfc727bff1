"""The codec `exact`: what decodes is what was encoded, so that an update says where a worker's steps ended.

A block of 256 values is its width w in bits (one byte) and w planes: bit k of every value, least first, after the
zigzag 0, −1, 1, −2, … → 0, 1, 2, 3, …. The last block's planes are as long as its values need.
Spec: protocols/README.md, "Update codecs".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.verdict import Reject

Integers = NDArray[np.int64]

BLOCK = 256  # values that share a width: one that stands out costs 255 others its bits
MAX_ABS = 127 << 27  # as in `protocols/codec.py`; θ_r and w_H differ by less than 2**33
MAX_WIDTH = (2 * MAX_ABS).bit_length()


def encode_exact(total: Integers) -> tuple[bytes, Integers]:
    """Return ⌈P/256⌉ blocks, and the vector; values beyond ±MAX_ABS are cut."""
    decoded = np.clip(total, -MAX_ABS, MAX_ABS)
    zigzag = (decoded << 1) ^ (decoded >> 63)
    return b"".join(_encode_block(zigzag[i : i + BLOCK]) for i in range(0, len(zigzag), BLOCK)), decoded


def decode_exact(update: bytes, length: int) -> Integers | Reject:
    """Return the vector. [REJECT] a width or value beyond what there is, bits where no value is, another length."""
    zigzag, place = np.empty(length, np.int64), 0
    for start in range(0, length, BLOCK):
        block = zigzag[start : start + BLOCK]
        width, row = update[place] if place < len(update) else MAX_WIDTH + 1, -(-len(block) // 8)
        planes = np.frombuffer(update[place + 1 : place + 1 + width * row], np.uint8)
        if width > MAX_WIDTH or len(planes) < width * row:
            return Reject("an update that ends within a block, or a width beyond any value")
        bits = np.unpackbits(planes.reshape(width, row), axis=1, bitorder="little")
        if bits[:, len(block) :].any():
            return Reject("bits where no value is")
        block[:] = (np.int64(1) << np.arange(width)) @ bits[:, : len(block)].astype(np.int64) if width else 0
        place += 1 + width * row
    if place != len(update):
        return Reject(f"an update of {len(update)} bytes whose blocks have {place}")
    decoded: Integers = (zigzag >> 1) ^ -(zigzag & 1)
    return decoded if np.abs(decoded).max(initial=0) <= MAX_ABS else Reject("a value beyond any weight's move")


def _encode_block(zigzag: Integers) -> bytes:
    width = int(zigzag.max(initial=0)).bit_length()
    bits = (zigzag[None, :] >> np.arange(width)[:, None]) & 1
    return bytes([width]) + np.packbits(bits.astype(np.uint8), axis=1, bitorder="little").tobytes()
