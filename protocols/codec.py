"""Update codecs: a pseudo-gradient to few bytes and back, in integers, the same on every machine.

A worker sends what it moved since θ_r, plus what earlier rounds rounded away (error feedback e):

    total = delta + e_r      bytes, decoded = encode(total)      e_{r+1} = total − decoded

`int8` cuts the vector into blocks of 256 values. A block is a shift s (one byte) and its values as signed
bytes q; it decodes to q · 2**s exactly. The encoder takes the smallest s at which every q fits.
`int8z` is the same, its bytes coded by their frequency. `exact` and `top2` are in files of their own.
Spec: protocols/README.md, "Update codecs".
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.exact import decode_exact, encode_exact
from protocols.topk import decode_top, encode_top
from protocols.verdict import Reject

Integers = NDArray[np.int64]

BLOCK = 256  # values that share a shift: 0.4 % of overhead; a larger block lets one outlier blur more of them
PIECE = BLOCK << 7  # values at a time: what is computed of them stays in the cache
MAX_Q = 127  # −128 is never sent: the code is symmetric
MAX_SHIFT = 27  # 127 · 2**27 exceeds |w − θ| + |e| of 32-bit vectors (2**32 + 2**26), so nothing is clipped
MAX_ABS = MAX_Q << MAX_SHIFT  # what decodes is below 2**34: sums over 64 seats stay exact in 64 bits


class Codec(NamedTuple):
    """An algorithm by name; `protocols/aggregation.py` says with which rules it may be combined."""

    encode: Callable[[Integers], tuple[bytes, Integers]]
    """(total i64[P]) -> (bytes, what they decode to i64[P])."""
    decode: Callable[[bytes, int], Integers | Reject]
    """(bytes, P) -> i64[P], or what is wrong with the bytes."""
    is_dense: bool
    """Whether every coordinate is sent: a median over sparse updates is zero and learns nothing."""


class Compressed(NamedTuple):
    update: bytes
    error: Integers
    """e_{r+1}, within 2**(s−1) of zero in a block of shift s."""


def compress(codec: Codec, delta: Integers, error: Integers) -> Compressed:
    """Encode a pseudo-gradient with error feedback."""
    total = delta + error
    update, decoded = codec.encode(total)
    return Compressed(update, total - decoded)


# -- int8 ----------------------------------------------------------------------


def encode_update(total: Integers) -> tuple[bytes, Integers]:
    """Return ⌈P/256⌉ blocks, each a shift and its values, and what they decode to. Values beyond ±MAX_ABS are cut."""
    decoded = np.empty(len(total), np.int64)
    coded = []
    for start in range(0, len(total), PIECE):
        piece = slice(start, start + PIECE)
        update, decoded[piece] = _encode_piece(total[piece])
        coded.append(update)
    return b"".join(coded), decoded


def _encode_piece(total: Integers) -> tuple[bytes, Integers]:
    length = len(total)
    blocks = _to_blocks(np.clip(total, -MAX_ABS, MAX_ABS))
    shifts = _compute_shifts(np.abs(blocks).max(axis=1, initial=0))
    quantised = _round_shift(blocks, shifts[:, None])
    coded = np.empty((len(blocks), 1 + BLOCK), np.uint8)
    coded[:, 0], coded[:, 1:] = shifts, quantised.astype(np.int8).view(np.uint8)
    # Only the last block may be short: what is left of the padding is its tail.
    return coded.tobytes()[: length + len(blocks)], (quantised << shifts[:, None]).reshape(-1)[:length]


def decode_update(update: bytes, length: int) -> Integers | Reject:
    """Return the vector; there is one encoding a length, so trailing bytes are refused."""
    if len(update) != length + -(-length // BLOCK):
        return Reject(f"an update of {len(update)} bytes for {length} values")
    coded = np.frombuffer(update, np.uint8)
    decoded = np.empty(length, np.int64)
    for start in range(0, length, PIECE):
        piece = decoded[start : start + PIECE]
        begin = start + start // BLOCK
        fault = _decode_piece(coded[begin : begin + PIECE + PIECE // BLOCK], piece)
        if fault is not None:
            return fault
    return decoded


def _decode_piece(coded: NDArray[np.uint8], out: Integers) -> Reject | None:
    count = -(-len(out) // BLOCK)
    padded = np.zeros(count * (BLOCK + 1), np.uint8)
    padded[: len(coded)] = coded
    blocks = padded.reshape(count, BLOCK + 1)
    shifts, quantised = blocks[:, :1], blocks[:, 1:].view(np.int8)
    if shifts.max() > MAX_SHIFT:
        return Reject(f"a shift above {MAX_SHIFT}")
    if quantised.min() < -MAX_Q:
        return Reject("a value of -128")
    out[:] = (quantised.astype(np.int64) << shifts.astype(np.int64)).reshape(-1)[: len(out)]
    return None


def _to_blocks(values: Integers) -> Integers:
    blocks = np.zeros((-(-len(values) // BLOCK), BLOCK), np.int64)
    blocks.reshape(-1)[: len(values)] = values
    return blocks


def _compute_shifts(largest: Integers) -> Integers:
    """Return for each block the smallest shift at which its largest magnitude rounds to at most MAX_Q."""
    shifts = np.zeros_like(largest)
    for shift in range(MAX_SHIFT):
        shifts[_round_shift(largest, np.int64(shift)) > MAX_Q] = shift + 1
    return shifts


def _round_shift(values: Integers, shifts: Integers | np.int64) -> Integers:
    """Divide by 2**shift, halves away from zero: symmetric, so that ± updates leave no drift."""
    half = (np.int64(1) << shifts) >> 1
    rounded: Integers = np.sign(values) * ((np.abs(values) + half) >> shifts)
    return rounded


# -- int8z ---------------------------------------------------------------------


def encode_deflated(total: Integers) -> tuple[bytes, Integers]:
    """Return `int8`'s bytes as a zlib stream: few values fill their block's range, most are small."""
    update, decoded = encode_update(total)
    # Huffman codes alone: noise repeats nothing, and looking for repeats takes ten times as long.
    deflate = zlib.compressobj(strategy=zlib.Z_HUFFMAN_ONLY)
    return deflate.compress(update) + deflate.flush(), decoded


def decode_deflated(update: bytes, length: int) -> Integers | Reject:
    """Return the vector. [REJECT] what `int8` rejects, and anything but one whole stream of its size."""
    size = length + -(-length // BLOCK)
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(update, size + 1)  # never more: a small stream could fill memory
    except zlib.error:
        return Reject("an update that is no zlib stream")
    if not inflate.eof or inflate.unused_data or len(plain) != size:
        return Reject(f"a stream that does not hold just {size} bytes")
    return decode_update(plain, length)


CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "exact": Codec(encode_exact, decode_exact, is_dense=True),
        "int8": Codec(encode_update, decode_update, is_dense=True),
        "int8z": Codec(encode_deflated, decode_deflated, is_dense=True),
        "top2": Codec(encode_top, decode_top, is_dense=False),
    }
)
