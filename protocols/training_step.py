"""One training step of a multilayer perceptron in integers: forward, backward and optimizer.

    state = weights ‖ moments i[S], x i[B, n0], y i[B, nk]  ->  next state i[S]

Statement T is about this function and no other: the engine that trains runs it, the circuit checks it, and both read
this one text over `fixed_point.Arithmetic`. A value v on a grid of b bits stands for v / 2**b; grids are fixed below.
Spec: protocols/README.md, "Statement T".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.fixed_point import LIMIT, Arithmetic, Exact, Value, join_hints
from protocols.verdict import Reject

Integers = NDArray[np.int64]

# -- Grids: bits after the point. Checked values end at ±2**(RANGE_BITS − bits). -----------------------

WEIGHT_BITS = 12  # ±4
MOMENT_BITS = 12
X_BITS = 8  # ±64: a pixel has no more
VALUE_BITS = 9  # ±32: of what a layer gives before and after its rectifier
DELTA_BITS = 12  # ±4: of the loss's gradient by logits and activations, and so of targets
MOMENTUM_BITS = 8

LOSSES = ("cross_entropy", "squared")
OPTIMIZERS = ("sgd", "momentum")

MAX_LAYERS = 8
MAX_WIDTH = 4096  # sums over a layer stay below 2**53, see `fixed_point.Exact`
MAX_CLASSES = 64
MAX_BATCH = 64
MAX_RATE_BITS = 16


@dataclass(frozen=True, slots=True)
class StepSpec:
    """What is trained and how; all of it is constant in a circuit."""

    sizes: tuple[int, ...]
    """Inputs, hidden layers (rectified), outputs."""
    batch: int
    """A power of two."""
    loss: str
    """`cross_entropy` of the softmax, or `squared`: half of the squared distance; the mean over the batch."""
    optimizer: str
    """`sgd`: w' = w − r·g. `momentum`: m' = μ·m + g, w' = w − r·m'."""
    rate: int
    """Of the learning rate r = rate / 2**rate_bits."""
    rate_bits: int
    momentum: int = 0
    """μ in 256ths; 0 for an optimizer without."""

    @property
    def parameters(self) -> int:
        return sum(inputs * outputs + outputs for inputs, outputs in itertools.pairwise(self.sizes))

    @property
    def state_length(self) -> int:
        return self.parameters * (2 if self.optimizer == "momentum" else 1)

    @property
    def learning_rate(self) -> float:
        return self.rate / (1 << self.rate_bits)


def validate_spec(spec: StepSpec) -> Reject | None:
    """Return why the step can't be proved, None if it can."""
    sizes = spec.sizes
    if not 2 <= len(sizes) <= MAX_LAYERS + 1 or not all(1 <= size <= MAX_WIDTH for size in sizes):
        return Reject(f"layers of {list(sizes)}: 1 to {MAX_LAYERS}, each up to {MAX_WIDTH} wide")
    if not 2 <= sizes[-1] <= MAX_CLASSES:
        return Reject(f"{sizes[-1]} outputs, not 2 … {MAX_CLASSES}")
    if not 1 <= spec.batch <= MAX_BATCH or spec.batch & (spec.batch - 1):
        return Reject(f"a batch of {spec.batch}: it must be a power of two up to {MAX_BATCH}")
    if spec.loss not in LOSSES or spec.optimizer not in OPTIMIZERS:
        return Reject(f"{spec.loss!r}, {spec.optimizer!r}: known are {', '.join(LOSSES)} and {', '.join(OPTIMIZERS)}")
    if not 0 < spec.rate < 1 << MAX_RATE_BITS or not 0 <= spec.rate_bits <= MAX_RATE_BITS:
        return Reject(f"a learning rate of {spec.rate} / 2**{spec.rate_bits}")
    if not 0 <= spec.momentum < 1 << MOMENTUM_BITS or (spec.momentum > 0) != (spec.optimizer == "momentum"):
        return Reject(f"a momentum of {spec.momentum} / 256 with {spec.optimizer}")
    return None


# -- The step as integers ------------------------------------------------------


class Stepped(NamedTuple):
    state: Integers
    hints: Integers
    """What the circuit is told besides, in its order."""


def compute_step(spec: StepSpec, state: Integers, x: Integers, y: Integers) -> Stepped | Reject:
    """Take one step. Reject if a value leaves its range: there is no proof of such a step, and no such step."""
    if any(np.abs(part).max(initial=0) >= LIMIT for part in (state, x, y)):
        return Reject("the weights or the page are out of range")
    hints: list[Any] = []
    ops = Exact(np, hints)
    parts = take_step(ops, spec, state.astype(np.int64), *shape_page(spec, x, y))
    if not ops.fits:
        return Reject("a value of the step is out of range: the learning rate is too high, or the data not scaled")
    return Stepped(np.concatenate(parts), join_hints(hints, np))


def shape_page(spec: StepSpec, x: Integers, y: Integers) -> tuple[Integers, Integers]:
    """Return a page's flat columns as the matrices that `take_step` reads."""
    return (
        x.astype(np.int64).reshape(spec.batch, spec.sizes[0]),
        y.astype(np.int64).reshape(spec.batch, spec.sizes[-1]),
    )


# -- The step ------------------------------------------------------------------


def take_step(ops: Arithmetic, spec: StepSpec, state: Value, x: Value, y: Value) -> list[Value]:
    """Return the next state's parts, flat, in the order of the state."""
    tensors = list(_walk(spec.sizes))
    weights = [ops.reshape(state[t.start : t.start + t.length], t.shape) for t in tensors]
    layers = list(zip(weights[0::2], weights[1::2], strict=True))

    inputs, masks, bits = [x], [], [X_BITS]
    for index, (matrix, bias) in enumerate(layers):
        sums = ops.matmul(inputs[-1], matrix) + bias * (1 << bits[-1])
        z = ops.rescale(sums, bits[-1] + WEIGHT_BITS - VALUE_BITS)
        if index < len(layers) - 1:
            masks.append(ops.is_positive(z))
            inputs.append(masks[-1] * z)
            bits.append(VALUE_BITS)

    delta = _compute_delta(ops, spec, z, y)
    gradients: list[tuple[Value, int]] = []  # by tensor, last first; each with its grid
    for index in reversed(range(len(layers))):
        gradients.append((ops.total(delta, 0), DELTA_BITS))
        gradients.append((ops.matmul(ops.transpose(inputs[index]), delta), bits[index] + DELTA_BITS))
        if index > 0:
            back = ops.matmul(delta, ops.transpose(layers[index][0]))
            delta = masks[index - 1] * ops.rescale(back, WEIGHT_BITS)

    weights_after, moments_after = [], []
    for tensor, (gradient, grid) in zip(tensors, reversed(gradients), strict=True):
        flat = ops.reshape(gradient, (tensor.length,))
        grid += spec.batch.bit_length() - 1  # the mean over the batch
        start, stop = tensor.start, tensor.start + tensor.length
        if spec.optimizer == "momentum":
            moment = state[spec.parameters + start : spec.parameters + stop]
            flat, grid = _update_moment(ops, spec, moment, flat, grid, spec.parameters + start), MOMENT_BITS
            moments_after.append(flat)
        weights_after.append(_descend(ops, spec, state[start:stop], flat, grid, start))
    return [*weights_after, *moments_after]


def _update_moment(ops: Arithmetic, spec: StepSpec, moment: Value, gradient: Value, grid: int, offset: int) -> Value:
    """m' = μ·m + g on the moments' grid."""
    common = max(MOMENT_BITS + MOMENTUM_BITS, grid)
    kept = moment * (spec.momentum << common - MOMENT_BITS - MOMENTUM_BITS)
    return ops.update(kept + gradient * (1 << common - grid), common - MOMENT_BITS, offset)


def _descend(ops: Arithmetic, spec: StepSpec, weight: Value, direction: Value, grid: int, offset: int) -> Value:
    """w' = w − r·direction on the weights' grid."""
    bits = grid + spec.rate_bits - WEIGHT_BITS
    lift = max(0, 1 - bits)
    return ops.update(weight * (1 << bits + lift) - direction * (spec.rate << lift), bits + lift, offset)


def _compute_delta(ops: Arithmetic, spec: StepSpec, logits: Value, y: Value) -> Value:
    """The gradient of one row's loss by its logits."""
    if spec.loss == "squared":
        return logits * (1 << DELTA_BITS - VALUE_BITS) - y
    return _softmax(ops, spec, logits) - y


# -- Softmax -------------------------------------------------------------------

_LOG2_E = 5909  # log2(e) on 12 bits
_LOG2_E_BITS = 12
_POLYNOMIAL = (4096, -2834, 949, -163)
"""2**-f for 0 <= f < 1, coefficients on 12 bits, f on VALUE_BITS: off by 1.5e-4 of itself, exact at 0."""
_POLYNOMIAL_BITS = 12
_EXP_BITS = 12
_SHIFT_BITS = 4  # 2**-k exactly for k < 16; beyond, e**-11 on 12 bits is 0
_EXPONENT_BITS = 7  # logits lie within ±32, so the exponent below 64·log2(e) = 92.4


def _softmax(ops: Arithmetic, spec: StepSpec, logits: Value) -> Value:
    """softmax of each row on DELTA_BITS: e**-t = 2**-k · 2**-f, where k + f = t·log2(e), t = max − logit."""
    distance = ops.row_max(logits) - logits
    exponent = distance * _LOG2_E + (1 << _LOG2_E_BITS - 1)
    f, k = ops.split(exponent, _LOG2_E_BITS, VALUE_BITS, _EXPONENT_BITS)
    degree = len(_POLYNOMIAL) - 1
    power: Value = _POLYNOMIAL[0] << VALUE_BITS * degree
    term = f
    for order, coefficient in enumerate(_POLYNOMIAL[1:], 1):
        power = term * (coefficient * (1 << VALUE_BITS * (degree - order))) + power
        term = term * f
    for i, bit in enumerate(k):
        # In 2**-k · 2**15 a bit takes 2**(2**i) away, or everything if it is above the shift.
        full = 1 << (1 << i) if i < _SHIFT_BITS else 1
        power = power * (bit * ((1 if i < _SHIFT_BITS else 0) - full) + full)
    grid = _POLYNOMIAL_BITS + VALUE_BITS * degree + (1 << _SHIFT_BITS) - 1
    exp = ops.rescale(power, grid - _EXP_BITS)
    bits = (spec.sizes[-1] << _EXP_BITS).bit_length()
    return ops.divide(exp * (1 << DELTA_BITS), ops.total(exp, 1), bits)


# -- Layout --------------------------------------------------------------------


class _Tensor(NamedTuple):
    start: int
    length: int
    shape: tuple[int, int]


def _walk(sizes: tuple[int, ...]) -> Iterator[_Tensor]:
    """Yield where each tensor lies in the flat vector: W0 [inputs, outputs] row-major, b0 [1, outputs], W1, …"""
    start = 0
    for inputs, outputs in itertools.pairwise(sizes):
        for shape in ((inputs, outputs), (1, outputs)):
            yield _Tensor(start, shape[0] * shape[1], shape)
            start += shape[0] * shape[1]
