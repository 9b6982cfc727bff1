"""The codec `top2`: of every 1,024 values the 32 largest, each in two bits (SparseLoCo, arXiv:2508.15706).

A chunk is 38 bytes, whatever is in it:

    low, high     1 byte each     the two magnitudes, as small floats
    bitmap        8 bytes         } the 32 positions, ascending, by Elias and Fano: the five low bits of each,
    remainders   20 bytes         } and of the five high bits a 1 a position and a 0 after each value
    values        8 bytes         2 bits a position: sign, and which of the magnitudes

That is 7 bits a position where 10 would be plain and 6.2 is the least there can be, and it needs no
bit-by-bit parsing. What the last chunk says beyond the vector's end is ignored.
Spec: protocols/README.md, "Update codecs".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocols.verdict import Reject

Integers = NDArray[np.int64]
Bits = NDArray[np.uint8]

CHUNK = 1024
KEPT = 32  # of a chunk: 3 %, where error feedback still catches up
LOW_BITS = 5  # of a position; the high five are in the bitmap
BITMAP = KEPT + (CHUNK >> LOW_BITS)
CHUNK_BYTES = 2 + (BITMAP + KEPT * LOW_BITS + 2 * KEPT) // 8
BATCH = 1 << 10  # chunks at a time: memory stays small beside the vector

MANTISSA_BITS = 3  # a magnitude is within 6 % of what was meant
MAX_LEVEL = 255

# -- Encode --------------------------------------------------------------------


def encode_top(total: Integers) -> tuple[bytes, Integers]:
    """Return ⌈P/1024⌉ chunks, and what they decode to."""
    length = len(total)
    chunks = np.zeros((-(-length // CHUNK), CHUNK), np.int64)
    chunks.reshape(-1)[:length] = total
    coded = [_encode(chunks[start : start + BATCH]) for start in range(0, len(chunks), BATCH)]
    update = b"".join(code.tobytes() for code in coded)
    decoded = decode_top(update, length)
    assert not isinstance(decoded, Reject)  # we wrote it
    return update, decoded


def _encode(chunks: Integers) -> Bits:
    """u8[n, 38] of i64[n, 1024]."""
    magnitudes = np.abs(chunks)
    positions = np.sort(np.argpartition(magnitudes, CHUNK - KEPT, axis=1)[:, CHUNK - KEPT :], axis=1)
    values = np.take_along_axis(chunks, positions, axis=1)
    sizes = np.abs(values).astype(np.float64)
    is_high = sizes > sizes.mean(axis=1, keepdims=True)
    low, high = (_to_levels(_mean_where(sizes, chosen)) for chosen in (~is_high, is_high))
    bitmap = np.zeros((len(chunks), BITMAP), np.uint8)
    np.put_along_axis(bitmap, (positions >> LOW_BITS) + np.arange(KEPT), 1, axis=1)
    remainders = positions[:, :, None] >> np.arange(LOW_BITS) & 1
    signs = np.stack([values < 0, is_high], axis=2)
    bits = [bitmap, remainders.reshape(len(chunks), -1), signs.reshape(len(chunks), -1)]
    packed = np.packbits(np.concatenate(bits, axis=1).astype(np.uint8), axis=1)
    coded: Bits = np.concatenate([low[:, None], high[:, None], packed], axis=1)
    return coded


def _mean_where(sizes: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = (sizes * chosen).sum(axis=1) / np.maximum(chosen.sum(axis=1), 1)
    return mean


def _to_levels(means: NDArray[np.float64]) -> Bits:
    """Return the nearest small float of each."""
    nearest: Bits = np.abs(LEVELS[None, :] - means[:, None]).argmin(axis=1).astype(np.uint8)
    return nearest


# -- Decode --------------------------------------------------------------------


def decode_top(update: bytes, length: int) -> Integers | Reject:
    """Return the vector. [REJECT] another number of bytes, a bitmap without just 32 ones, a position twice."""
    count = -(-length // CHUNK)
    if len(update) != count * CHUNK_BYTES:
        return Reject(f"an update of {len(update)} bytes for {length} values")
    coded = np.frombuffer(update, np.uint8).reshape(count, CHUNK_BYTES)
    chunks = np.zeros((count, CHUNK), np.int64)
    for start in range(0, count, BATCH):
        fault = _decode(coded[start : start + BATCH], chunks[start : start + BATCH])
        if fault is not None:
            return fault
    return chunks.reshape(-1)[:length]


def _decode(coded: Bits, out: Integers) -> Reject | None:
    """Write i64[n, 1024] of u8[n, 38] into zeros."""
    bits = np.unpackbits(coded[:, 2:], axis=1)
    bitmap, rest = bits[:, :BITMAP], bits[:, BITMAP:]
    if np.any(bitmap.sum(axis=1) != KEPT):
        return Reject(f"a chunk that does not keep {KEPT} values")
    highs = np.nonzero(bitmap)[1].reshape(-1, KEPT) - np.arange(KEPT)
    remainders = rest[:, : KEPT * LOW_BITS].reshape(-1, KEPT, LOW_BITS) @ (1 << np.arange(LOW_BITS))
    positions = (highs << LOW_BITS) + remainders
    if np.any(positions >= CHUNK) or np.any(np.diff(positions, axis=1) <= 0):
        return Reject("positions that do not ascend within a chunk")
    signs = rest[:, KEPT * LOW_BITS :].reshape(-1, KEPT, 2)
    levels = LEVELS[coded[:, :2]]
    sizes = np.where(signs[:, :, 1], levels[:, 1:], levels[:, :1])
    np.put_along_axis(out, positions, np.where(signs[:, :, 0], -sizes, sizes), axis=1)
    return None


def _make_levels() -> Integers:
    """Level f > 0 is its mantissa, eight and the low bits of f, shifted by the high bits: 1 … 15 · 2**28."""
    codes = np.arange(MAX_LEVEL + 1)
    unit = 1 << MANTISSA_BITS
    levels: Integers = ((unit + codes % unit) << codes // unit) >> MANTISSA_BITS
    levels[0] = 0
    return levels


LEVELS = _make_levels()
