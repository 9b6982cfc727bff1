"""Statement T as ONNX: `protocols.training_step.take_step` read as constraints, for ezkl to prove.

    (state, x, y, next_state, hints) -> (0, 0)

The graph does not compute the step, it checks one. Each operation that rounds or compares takes its result from
`hints` (or `next_state`) and adds equations which only that result fulfils; the outputs are the sums of the squares
of all equations' sides: first of those that say "this is 0 or 1", then of the others, which build on it.

Two rules make the sums mean what they say, and are kept by `_Graph`:
 - every input is range-checked by ezkl (`settings.py` pins it), so every wire has a bound as an integer;
 - no sum of squares can reach the field's modulus: it is zero only if each square is.

All numbers are integers at scale 0, where ezkl rescales nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from protocols.fixed_point import LIMIT, RANGE_BITS, compute_limb_widths
from protocols.statement import FIELD_MODULUS
from protocols.training_step import StepSpec, take_step

OPSET = 18
IR_VERSION = 10
INPUTS = ("state", "x", "y", "next_state", "hints")
OUTPUT = "residuals"
FLOAT_BITS = 24  # of an integer that float32, ONNX's constants, holds exactly

Shape = tuple[int, ...]


def build_step_graph(spec: StepSpec) -> bytes:
    """Return the ONNX model of a valid spec; the same bytes on every machine."""
    graph = _Graph()
    state = graph.add_input("state", spec.state_length)
    x = graph.add_input("x", spec.batch * spec.sizes[0]).reshape((spec.batch, spec.sizes[0]))
    y = graph.add_input("y", spec.batch * spec.sizes[-1]).reshape((spec.batch, spec.sizes[-1]))
    ops = _Constraints(graph, graph.add_input("next_state", spec.state_length))
    take_step(ops, spec, state, x, y)
    graph.lengths["hints"] = ops.hints_taken
    return graph.finish()


# -- Wires ---------------------------------------------------------------------


class _Graph:
    """Nodes, constants, and what is known of each tensor."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._names: dict[tuple[str, Shape, bytes], str] = {}
        self.lengths: dict[str, int] = {}
        self.bounds: dict[str, int] = {name: LIMIT - 1 for name in INPUTS}
        """Of absolute values, given that the equations for bits hold."""
        self.bits: list[tuple[str, int, int]] = []
        self.equations: list[tuple[str, int, int]] = []
        """Flat tensors that must be zero: name, length, bound."""

    def add_input(self, name: str, length: int) -> Wire:
        self.lengths[name] = length
        return Wire(self, (length,), ((name, 1),))

    def add(self, operation: str, *inputs: str, bound: int, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        self.bounds[name] = bound
        return name

    def constant(self, values: Any, kind: type = np.float32) -> str:
        array: NDArray[Any] = np.asarray(values, kind)
        key = (array.dtype.char, array.shape, array.tobytes())
        if key in self._names:
            return self._names[key]
        name = self._names.setdefault(key, f"c{len(self._names)}")
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def indices(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def finish(self) -> bytes:
        outputs = [self._sum_squares(group) for group in (self.bits, self.equations) if group]
        self.nodes.append(helper.make_node("Concat", outputs, [OUTPUT], axis=0))
        body = helper.make_graph(
            self.nodes,
            "training step",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [self.lengths[name]]) for name in INPUTS],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [len(outputs)])],
            list(self.constants.values()),
        )
        model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="skynet")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def _sum_squares(self, group: Sequence[tuple[str, int, int]]) -> str:
        largest = sum(length * bound**2 for _, length, bound in group)
        if largest >= FIELD_MODULUS:
            raise ValueError(f"the equations of this step reach 2**{largest.bit_length()}: they could sum to zero")
        length = sum(length for _, length, _ in group)
        joined = self.add("Concat", *(name for name, _, _ in group), bound=0, axis=0)
        row = self.add("Reshape", joined, self.indices(1, length), bound=0)
        column = self.add("Reshape", joined, self.indices(length, 1), bound=0)
        return self.add("Reshape", self.add("MatMul", row, column, bound=largest), self.indices(1), bound=largest)


class Wire:
    """Σ coefficient · tensor + constant, all of one shape: nothing is laid out before a product needs it."""

    def __init__(self, graph: _Graph, shape: Shape, terms: tuple[tuple[str, int], ...], constant: int = 0) -> None:
        self.graph, self.shape, self.terms, self.offset = graph, shape, terms, constant
        self._tensor: str | None = None

    @property
    def length(self) -> int:
        return math.prod(self.shape)

    @property
    def bound(self) -> int:
        return sum(abs(factor) * self.graph.bounds[name] for name, factor in self.terms) + abs(self.offset)

    # -- Arithmetic ------------------------------------------------------------

    def __add__(self, other: Wire | int) -> Wire:
        if isinstance(other, int):
            return Wire(self.graph, self.shape, self.terms, self.offset + other)
        shape = np.broadcast_shapes(self.shape, other.shape)
        left, right = self.expand(shape), other.expand(shape)
        return Wire(self.graph, shape, left.terms + right.terms, self.offset + other.offset)

    __radd__ = __add__

    def __sub__(self, other: Wire | int) -> Wire:
        return self + other * -1

    def __mul__(self, other: Wire | int) -> Wire:
        if isinstance(other, int):
            return Wire(self.graph, self.shape, tuple((n, f * other) for n, f in self.terms), self.offset * other)
        shape = np.broadcast_shapes(self.shape, other.shape)
        (left, one), (right, two) = self.expand(shape).factor(), other.expand(shape).factor()
        bound = self.graph.bounds[left] * self.graph.bounds[right]
        return Wire(self.graph, shape, ((self.graph.add("Mul", left, right, bound=bound), one * two),))

    __rmul__ = __mul__

    # -- Shapes: a copy of references, no rows -----------------------------------

    def __getitem__(self, part: slice) -> Wire:
        places = range(*part.indices(self.length))
        return self.gather(0, places)

    def gather(self, axis: int, places: Sequence[int]) -> Wire:
        """Pick along an axis. ezkl gives Slice and Expand a row for each element of what they read; Gather none."""
        shape = (*self.shape[:axis], len(places), *self.shape[axis + 1 :])
        return self._map(shape, "Gather", self.graph.indices(*places), axis=axis)

    def reshape(self, shape: Shape) -> Wire:
        return self if shape == self.shape else self._map(shape, "Reshape", self.graph.indices(*shape))

    def expand(self, shape: Shape) -> Wire:
        wide = self
        for axis, (here, wanted) in enumerate(zip(self.shape, shape, strict=True)):
            wide = wide if here == wanted else wide.gather(axis, [0] * wanted)
        return wide

    def transpose(self) -> Wire:
        return self._map(self.shape[::-1], "Transpose", perm=[1, 0])

    def _map(self, shape: Shape, operation: str, *operands: str, **attributes: Any) -> Wire:
        terms = tuple(
            (self.graph.add(operation, name, *operands, bound=self.graph.bounds[name], **attributes), factor)
            for name, factor in self.terms
        )
        return Wire(self.graph, shape, terms, self.offset)

    # -- Layout ----------------------------------------------------------------

    def factor(self) -> tuple[str, int]:
        """Return (tensor, factor) whose product it is."""
        return self.terms[0] if len(self.terms) == 1 and self.offset == 0 else (self.lay_out(), 1)

    def lay_out(self) -> str:
        """Return one tensor, the sum of all terms: it takes a row of the circuit for each term of each element."""
        if self._tensor is None:
            is_tensor = len(self.terms) == 1 and self.terms[0][1] == 1 and self.offset == 0
            self._tensor = self.terms[0][0] if is_tensor else self._lay_out()
        return self._tensor

    def _lay_out(self) -> str:
        graph, rows, factors = self.graph, [], []
        for name, factor in self.terms:
            row = graph.add("Reshape", name, graph.indices(1, self.length), bound=graph.bounds[name])
            for part in _split_exactly(factor):
                rows.append(row)
                factors.append(part)
        for part in _split_exactly(self.offset):
            rows.append(graph.constant(np.ones((1, self.length))))
            factors.append(part)
        matrix = rows[0] if len(rows) == 1 else graph.add("Concat", *rows, bound=self.bound, axis=0)
        # Coefficients on the left: ezkl needs twice the rows if they are a column on the right.
        weights = graph.constant(np.array(factors, np.float64).reshape(1, -1))
        total = graph.add("MatMul", weights, matrix, bound=self.bound)
        return graph.add("Reshape", total, graph.indices(*self.shape), bound=self.bound)


def _split_exactly(value: int) -> Iterator[int]:
    """Yield addends that float32 holds exactly."""
    sign = -1 if value < 0 else 1
    rest = abs(value)
    while rest:
        excess = max(0, rest.bit_length() - FLOAT_BITS)
        part = rest >> excess << excess
        yield sign * part
        rest -= part


# -- The reading ---------------------------------------------------------------


class _Constraints:
    """`fixed_point.Arithmetic`: results are hints, and every hint has its equations."""

    def __init__(self, graph: _Graph, next_state: Wire) -> None:
        self._graph = graph
        self._next_state = next_state
        self.hints_taken = 0

    def matmul(self, left: Wire, right: Wire) -> Wire:
        (one, by_one), (two, by_two) = left.factor(), right.factor()
        bound = self._graph.bounds[one] * self._graph.bounds[two] * left.shape[1]
        name = self._graph.add("MatMul", one, two, bound=bound)
        return Wire(self._graph, (left.shape[0], right.shape[1]), ((name, by_one * by_two),))

    def transpose(self, value: Wire) -> Wire:
        return value.transpose()

    def reshape(self, value: Wire, shape: Shape) -> Wire:
        return value.reshape(shape)

    def total(self, value: Wire, axis: int) -> Wire:
        name, factor = value.factor()
        count = value.shape[axis]
        bound = self._graph.bounds[name] * count
        summed = self._graph.add("ReduceSum", name, self._graph.indices(axis), bound=bound, keepdims=1)
        shape = tuple(1 if i == axis else size for i, size in enumerate(value.shape))
        return Wire(self._graph, shape, ((summed, factor),))

    def rescale(self, value: Wire, bits: int) -> Wire:
        quotient = self._hint(value.shape)
        self._check_digits(value + (1 << bits - 1) - quotient * (1 << bits), bits)
        return quotient

    def update(self, value: Wire, bits: int, offset: int) -> Wire:
        quotient = self._next_state[offset : offset + value.length].reshape(value.shape)
        self._check_digits(value + (1 << bits - 1) - quotient * (1 << bits), bits)
        return quotient

    def is_positive(self, value: Wire) -> Wire:
        positive = self._bit(value.shape)
        # (2p − 1)(2v − 1) is odd; it is positive iff p says truly whether v > 0.
        self._check_zero((positive * 2 + -1) * (value * 2 + -1) - LIMIT - self._hint(value.shape))
        return positive

    def row_max(self, value: Wire) -> Wire:
        largest = self._hint((value.shape[0], 1))
        chosen = self._bit(value.shape)
        self._check_zero(self.total(chosen, 1) + -1)
        # That no other is larger follows where the differences are split: they are found not negative there.
        self._check_zero(self.total(chosen * (largest - value), 1))
        return largest

    def split(self, value: Wire, drop_bits: int, low_bits: int, high_bits: int) -> tuple[Wire, list[Wire]]:
        low = self._hint(value.shape)
        high = [self._bit(value.shape) for _ in range(high_bits)]
        kept = low
        for i, bit in enumerate(high):
            kept = kept + bit * (1 << low_bits + i)
        self._check_digits(low, low_bits)
        self._check_digits(value - kept * (1 << drop_bits), drop_bits)
        return low, high

    def divide(self, numerator: Wire, denominator: Wire, bits: int) -> Wire:
        quotient = self._hint(numerator.shape)
        wide = denominator.expand(numerator.shape)
        remainder = numerator * 2 + wide - quotient * wide * 2
        self._check_digits(remainder, bits + 1)
        self._check_digits(wide * 2 + -1 - remainder, bits + 1)
        return quotient

    # -- Equations -------------------------------------------------------------

    def _hint(self, shape: Shape) -> Wire:
        length = math.prod(shape)
        start, self.hints_taken = self.hints_taken, self.hints_taken + length
        everything = Wire(self._graph, (0,), (("hints", 1),))
        return everything.gather(0, range(start, start + length)).reshape(shape)

    def _bit(self, shape: Shape) -> Wire:
        bit = self._hint(shape)
        name = bit.terms[0][0]
        equation = bit * bit - bit
        self._graph.bits.append((self._flatten(equation), bit.length, LIMIT**2))
        self._graph.bounds[name] = 1
        return bit

    def _check_digits(self, value: Wire, bits: int) -> None:
        """0 <= value < 2**bits: its digits are hints, as `Exact` tells them."""
        widths = compute_limb_widths(bits)
        # Everything times twice the lowest digit's unit, so that all coefficients are whole.
        half, place = 1 << RANGE_BITS - widths[0], 1
        rest = value * (2 * half)
        for index, width in enumerate(widths):
            hint = self._hint(value.shape) * (place * half if index else 1)
            rest = rest - hint - (place * half * ((1 << width) - 1))
            place <<= width
        self._check_zero(rest)

    def _check_zero(self, value: Wire) -> None:
        self._graph.equations.append((self._flatten(value), value.length, value.bound))

    def _flatten(self, value: Wire) -> str:
        name = value.lay_out()
        if len(value.shape) == 1:
            return name
        return self._graph.add("Reshape", name, self._graph.indices(value.length), bound=value.bound)
