"""The integer arithmetic that training is proved in: sums, products, and a few operations that round or compare.

Every operation has one result, to the bit: a circuit (`node/prover/step_graph.py`) admits no other. It does not
compute a rounded value but is given it, as a *hint*, and checks it by a remainder whose range leaves one value:

    q = round(v / 2**n)   because   -2**(n-1) <= v - q·2**n < 2**(n-1)

so a hint is as good as its range check, and RANGE_BITS is what one range check covers. `Exact` computes values and
hints in int64, with numpy here and with jax.numpy in the compute child: the same code, the same integers.
Spec: protocols/README.md, "Fixed point".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

RANGE_BITS = 14
"""Whatever a circuit takes in, hints included, lies strictly within ±2**RANGE_BITS: one digit of its decomposition."""
LIMIT = 1 << RANGE_BITS

Value = Any
"""An integer array of numpy or JAX, or a wire of a circuit; with + - * and slices."""


class Arithmetic(Protocol):
    """What `training_step` is written in; each reading of it is one class."""

    def matmul(self, left: Value, right: Value) -> Value: ...
    def transpose(self, value: Value) -> Value: ...
    def reshape(self, value: Value, shape: tuple[int, ...]) -> Value: ...
    def total(self, value: Value, axis: int) -> Value:
        """Sum along an axis, which stays with length 1."""

    def rescale(self, value: Value, bits: int) -> Value:
        """round(value / 2**bits), halves up; within the range."""

    def update(self, value: Value, bits: int, offset: int) -> Value:
        """`rescale` whose results are the next state's elements from `offset` on."""

    def is_positive(self, value: Value) -> Value:
        """1 where value > 0, else 0; of values within the range."""

    def row_max(self, value: Value) -> Value:
        """Largest of each row, [rows, 1]."""

    def split(self, value: Value, drop_bits: int, low_bits: int, high_bits: int) -> tuple[Value, list[Value]]:
        """Of value >> drop_bits, in [0, 2**(low_bits + high_bits)): its low part, and the bits above, lowest first."""

    def divide(self, numerator: Value, denominator: Value, bits: int) -> Value:
        """round(numerator / denominator), halves up; of 0 <= numerator and 0 < denominator < 2**bits."""


def compute_limb_widths(bits: int) -> tuple[int, ...]:
    """Return the widths of the digits that a number of so many bits is range-checked in, lowest first.

    Only the lowest may be narrower. A narrow digit above it would let a value beyond 2**bits through.
    """
    full = (bits - 1) // RANGE_BITS
    return (bits - full * RANGE_BITS, *[RANGE_BITS] * full)


class Exact:
    """The arithmetic in int64. Intermediate sums stay below 2**53, where products in float64 are exact.

    `hints` gets what a circuit is to be told, in the order in which its reading asks; None if nobody wants to know.
    """

    def __init__(self, numpy: Any, hints: list[Value] | None = None) -> None:
        self._np = numpy
        self._hints = hints
        self.fits: Value = True
        """Whether every value so far was within the range."""

    def matmul(self, left: Value, right: Value) -> Value:
        wide = self._np.float64
        return (left.astype(wide) @ right.astype(wide)).astype(self._np.int64)

    def transpose(self, value: Value) -> Value:
        return value.T

    def reshape(self, value: Value, shape: tuple[int, ...]) -> Value:
        return value.reshape(shape)

    def total(self, value: Value, axis: int) -> Value:
        return value.sum(axis=axis, keepdims=True)

    def rescale(self, value: Value, bits: int) -> Value:
        quotient = (value + (1 << bits - 1)) >> bits
        self._tell(quotient)
        self._check_remainder(value, quotient, bits)
        return quotient

    def update(self, value: Value, bits: int, offset: int) -> Value:
        quotient = (value + (1 << bits - 1)) >> bits
        self._bound(quotient)
        self._check_remainder(value, quotient, bits)
        return quotient

    def is_positive(self, value: Value) -> Value:
        positive = (value > 0).astype(self._np.int64)
        self._tell(positive)
        self._tell((2 * positive - 1) * (2 * value - 1) - LIMIT)
        return positive

    def row_max(self, value: Value) -> Value:
        largest = value.max(axis=1, keepdims=True)
        self._tell(largest)
        first = self._np.argmax(value, axis=1, keepdims=True)
        self._tell((self._np.arange(value.shape[1])[None, :] == first).astype(self._np.int64))
        return largest

    def split(self, value: Value, drop_bits: int, low_bits: int, high_bits: int) -> tuple[Value, list[Value]]:
        kept = value >> drop_bits
        self.fits = self.fits & self._np.all((value >= 0) & (kept >> low_bits < 1 << high_bits))
        low, high = kept & ((1 << low_bits) - 1), [kept >> low_bits + i & 1 for i in range(high_bits)]
        for part in (low, *high):
            self._tell(part)
        self._tell_limbs(low, low_bits)
        self._tell_limbs(value & ((1 << drop_bits) - 1), drop_bits)
        return low, high

    def divide(self, numerator: Value, denominator: Value, bits: int) -> Value:
        quotient = (2 * numerator + denominator) // (2 * denominator)
        remainder = 2 * numerator + denominator - 2 * denominator * quotient
        self._tell(quotient)
        self._tell_limbs(remainder, bits + 1)
        self._tell_limbs(2 * denominator - 1 - remainder, bits + 1)
        return quotient

    # -- Hints -----------------------------------------------------------------

    def _check_remainder(self, value: Value, quotient: Value, bits: int) -> None:
        self._tell_limbs(value + (1 << bits - 1) - (quotient << bits), bits)

    def _tell_limbs(self, value: Value, bits: int) -> None:
        """Of 0 <= value < 2**bits: each digit d of width w as (2d + 1 − 2**w) · 2**(RANGE_BITS − w)."""
        if self._hints is None:
            return
        for width in compute_limb_widths(bits):
            digit, value = value & ((1 << width) - 1), value >> width
            self._tell((2 * digit + 1 - (1 << width)) << RANGE_BITS - width)

    def _tell(self, hint: Value) -> None:
        self._bound(hint)
        if self._hints is not None:
            self._hints.append(hint)

    def _bound(self, value: Value) -> None:
        self.fits = self.fits & self._np.all(abs(value) < LIMIT)


def join_hints(hints: Sequence[Value], numpy: Any) -> Value:
    """Return the hints as one vector, each row-major."""
    return numpy.concatenate([hint.reshape(-1) for hint in hints])
