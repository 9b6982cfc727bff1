"""KZG commitments C(v) without reloading the SRS: sums of the Lagrange points that an SRS file holds.

ezkl's own `kzg_commit` reads key and SRS each time (25–50 ms at K = 13); this reads the few points that the
vectors need once. C is affine, C(v) = C(0) + Σ vᵢ·Lᵢ, and C(0) is asked of ezkl: it sums the points of the
column's last rows, how many depends on the circuit.

The one rule: `Committer` is used only after it agreed with ezkl on a vector of the greatest length, see `circuit.py`.
Sums are Pippenger's buckets with signed digits, all additions of a level sharing one inversion (Montgomery's trick).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from node.compute.files import Unfit
from protocols.ids import Commitment
from protocols.statement import CURVE_MODULUS as Q
from protocols.statement import POINT_BYTES, WORD_BYTES

Point = tuple[int, int]
"""Affine, finite."""

DIGIT_BITS = 6  # measured: 13 ms for 1,060 weights; 5 and 7 take a third longer
_HALF = 1 << (DIGIT_BITS - 1)
_FROM_MONTGOMERY = pow(1 << 256, -1, Q)  # halo2 stores coordinates times 2**256

# -- SRS file ------------------------------------------------------------------

HEADER_BYTES = 4
TRAILER_BYTES = 256  # two points of G2


def read_logrows(srs: Path) -> int:
    """Return K of an SRS file (K, 2**K powers of τ, 2**K Lagrange points, two points of G2); Unfit if it is none."""
    with srs.open("rb") as file:
        logrows = int.from_bytes(file.read(HEADER_BYTES), "little")
    if not 1 <= logrows <= 28 or srs.stat().st_size != HEADER_BYTES + (2 * POINT_BYTES << logrows) + TRAILER_BYTES:
        raise Unfit("the SRS file has a wrong size")
    return logrows


def read_lagrange(srs: Path, count: int) -> list[Point]:
    """Return the first `count` Lagrange points."""
    with srs.open("rb") as file:
        file.seek(HEADER_BYTES + (POINT_BYTES << read_logrows(srs)))
        data = file.read(count * POINT_BYTES)
    coordinates = [
        int.from_bytes(data[i : i + WORD_BYTES], "little") * _FROM_MONTGOMERY % Q
        for i in range(0, len(data), WORD_BYTES)
    ]
    return list(zip(coordinates[0::2], coordinates[1::2], strict=True))


# -- Commitments ---------------------------------------------------------------


class Committer:
    """Commits to vectors no longer than its basis."""

    def __init__(self, basis: Sequence[Point], zero: Point) -> None:
        self._basis = basis
        self._zero = zero

    def commit(self, values: Sequence[int]) -> Commitment:
        """Return C(v) of signed integers; Unfit if there are too many."""
        return encode_point(self._sum(values))

    def commit_path(self, states: NDArray[np.int32]) -> list[Commitment]:
        """Return C of each row of i32[n, S], by what changes from one to the next: most steps move few quanta."""
        total = self._sum(states[0].tolist())
        commitments = [encode_point(total)]
        for before, after in itertools.pairwise(states.astype(np.int64)):
            change = after - before
            moved = np.flatnonzero(change)
            points = [self._basis[place] for place in moved.tolist()]
            total = _add(total, multiply_sum(change[moved].tolist(), points))
            commitments.append(encode_point(total))
        return commitments

    def _sum(self, values: Sequence[int]) -> Point | None:
        if len(values) > len(self._basis):
            raise Unfit(f"a vector of {len(values)}: the circuit has none longer than {len(self._basis)}")
        return _add(self._zero, multiply_sum(values, self._basis))


def encode_point(point: Point | None) -> Commitment:
    """Return x ‖ y, big-endian; the point at infinity is zeros, as the EVM has it."""
    x, y = point or (0, 0)
    return Commitment(x.to_bytes(WORD_BYTES, "big") + y.to_bytes(WORD_BYTES, "big"))


def multiply_sum(scalars: Iterable[int], points: Iterable[Point]) -> Point | None:
    """Return Σ scalarᵢ·pointᵢ, None for the point at infinity."""
    buckets: defaultdict[tuple[int, int], list[Point]] = defaultdict(list)
    for scalar, (x, y) in zip(scalars, points, strict=False):
        for window, digit in _digits(abs(scalar)):
            buckets[window, abs(digit)].append((x, Q - y if (digit < 0) != (scalar < 0) else y))
    bits: defaultdict[int, list[Point]] = defaultdict(list)
    for (window, digit), total in zip(buckets, _sum_each(list(buckets.values())), strict=True):
        for bit in range(DIGIT_BITS):
            if total is not None and digit >> bit & 1:
                bits[window * DIGIT_BITS + bit].append(total)
    sums = dict(zip(bits, _sum_each(list(bits.values())), strict=True))
    result: Point | None = None
    for bit in range(max(sums, default=-1), -1, -1):
        result = _add(_add(result, result), sums.get(bit))
    return result


def _digits(magnitude: int) -> Iterable[tuple[int, int]]:
    """Yield (window, digit) of the nonzero digits, each between −_HALF and _HALF."""
    window = 0
    while magnitude:
        digit = magnitude & (2 * _HALF - 1)
        magnitude >>= DIGIT_BITS
        if digit > _HALF:
            digit -= 2 * _HALF
            magnitude += 1
        if digit:
            yield window, digit
        window += 1


def _sum_each(groups: Sequence[list[Point]]) -> list[Point | None]:
    """Return the sum of each group, by halving all of them at once."""
    while any(len(group) > 1 for group in groups):
        pairs = [pair for group in groups for pair in zip(group[0::2], group[1::2], strict=False)]
        sums = iter(_add_pairs(pairs))
        halved = []
        for group in groups:
            paired = [next(sums) for _ in range(len(group) // 2)]
            halved.append([point for point in paired if point is not None] + group[2 * len(paired) :])
        groups = halved
    return [group[0] if group else None for group in groups]


def _add_pairs(pairs: Sequence[tuple[Point, Point]]) -> list[Point | None]:
    """Return the sum of each pair, at the price of one inversion."""
    slopes, running, product = [], [], 1
    for (x1, y1), (x2, y2) in pairs:
        if x1 != x2:
            slope = (y2 - y1, x2 - x1)
        elif y1 == y2 and y1:
            slope = (3 * x1 * x1, 2 * y1)
        else:
            slope = (0, 0)  # inverse to each other
        slopes.append(slope)
        running.append(product)
        if slope[1]:
            product = product * slope[1] % Q
    inverse = pow(product, -1, Q)
    sums: list[Point | None] = [None] * len(pairs)
    for i in range(len(pairs) - 1, -1, -1):
        numerator, denominator = slopes[i]
        if denominator:
            (x1, y1), (x2, _) = pairs[i]
            slope_value = numerator * inverse * running[i] % Q
            inverse = inverse * denominator % Q
            x = (slope_value * slope_value - x1 - x2) % Q
            sums[i] = (x, (slope_value * (x1 - x) - y1) % Q)
    return sums


def _add(left: Point | None, right: Point | None) -> Point | None:
    if left is None or right is None:
        return right if left is None else left
    return _add_pairs([(left, right)])[0]
