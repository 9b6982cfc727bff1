"""Inner products of long integer vectors, exact: all that a rule by distances has to know of the updates.

Products of 34-bit values do not fit a float's 53 bits, so values are cut into limbs of 17 bits; every sum
of a chunk stays below 2**51, where float64 holds all integers and no order of additions changes the result.
Spec: protocols/README.md, "Aggregation".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from protocols.codec import MAX_ABS, Integers

Exact = NDArray[np.object_]
"""Python's integers: what is computed of n · n inner products may be long, and there are few of them."""

CHUNK = 1 << 16  # columns at a time: n · 64 Ki · 8 bytes stay near the cache, and memory does not grow by n
LIMB_BITS = 17  # two limbs hold ±MAX_ABS; CHUNK products of two limbs sum to 2**50 at most
LIMB = 1 << LIMB_BITS


def compute_gram(rows: Sequence[Integers]) -> Exact:
    """Return the k × k inner products of k vectors of one length within ±MAX_ABS."""
    count = len(rows)
    high, cross, low = (np.zeros((count, count), np.int64) for _ in range(3))
    for part in iterate_chunks(len(rows[0])):
        block = np.stack([row[part] for row in rows])
        if np.abs(block).max() <= LIMB:  # the usual case: one product instead of three
            low += _multiply(block, block)
            continue
        upper, lower = block >> LIMB_BITS, block & (LIMB - 1)
        high += _multiply(upper, upper)
        cross += _multiply(upper, lower)
        low += _multiply(lower, lower)
    exact: Exact = _widen(low) + (_widen(cross) + _widen(cross.T) << LIMB_BITS) + (_widen(high) << 2 * LIMB_BITS)
    return exact


def iterate_chunks(length: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, length, CHUNK))


def combine_rows(weights: Integers, rows: Integers) -> Integers:
    """Return weights i64[m, k] @ rows i64[k, C], exact while each row of weights sums to 2**18 or less."""
    combined: Integers = (weights.astype(np.float64) @ rows.astype(np.float64)).astype(np.int64)
    return combined


def _multiply(left: Integers, right: Integers) -> Integers:
    product: Integers = (left.astype(np.float64) @ right.astype(np.float64).T).astype(np.int64)
    return product


def _widen(values: Integers) -> Exact:
    return values.astype(object)


assert MAX_ABS <= LIMB * LIMB  # a value has two limbs
