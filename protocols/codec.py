"""Update codecs: a pseudo-gradient to few bytes and back, in integers, the same on every machine.

A worker sends what it moved since θ_r, plus what earlier rounds rounded away (error feedback e):

    total = delta + e_r      bytes, decoded = encode(total)      e_{r+1} = total − decoded

`int8` cuts the vector into blocks of 256 values. A block is a shift s (one byte) and its values as signed
bytes q; it decodes to q · 2**s exactly. The encoder takes the smallest s at which every q fits.
Spec: protocols/README.md, "Update codecs".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.verdict import Reject

Integers = NDArray[np.int64]

BLOCK = 256  # values that share a shift: 0.4 % of overhead; a larger block lets one outlier blur more of them
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
    length = len(total)
    blocks = _to_blocks(np.clip(total.astype(np.int64), -MAX_ABS, MAX_ABS))
    shifts = _compute_shifts(np.abs(blocks).max(axis=1, initial=0))
    quantised = _round_shift(blocks, shifts[:, None])
    coded = np.concatenate([shifts.astype(np.uint8)[:, None], quantised.astype(np.int8).view(np.uint8)], axis=1)
    # Only the last block may be short: what is left of the padding is its tail.
    update = coded.tobytes()[: length + len(blocks)]
    return update, (quantised << shifts[:, None]).reshape(-1)[:length]


def decode_update(update: bytes, length: int) -> Integers | Reject:
    """Return the vector; there is one encoding a length, so trailing bytes are refused."""
    count = -(-length // BLOCK)
    if len(update) != length + count:
        return Reject(f"an update of {len(update)} bytes for {length} values")
    padded = np.frombuffer(update.ljust(count * (BLOCK + 1), b"\0"), np.uint8).reshape(count, BLOCK + 1)
    shifts = padded[:, :1].astype(np.int64)
    quantised = padded[:, 1:].view(np.int8).astype(np.int64)
    if np.any(shifts > MAX_SHIFT):
        return Reject(f"a shift above {MAX_SHIFT}")
    if np.any(quantised < -MAX_Q):
        return Reject("a value of -128")
    return (quantised << shifts).reshape(-1)[:length]


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


CODECS: Mapping[str, Codec] = MappingProxyType({"int8": Codec(encode_update, decode_update, is_dense=True)})
