"""What a stranger's module asks for, read from the module before it is compiled: static, and it ends.

A module is fit if it is StableHLO and functions alone, calls nothing outside of itself, has tensors of known sizes
within the memory of this process, and every loop counts a constant number of steps. jax's `scan` and `fori_loop` are
such loops; a `while` whose end is computed is not. How long a step takes is for its deadline, not for us.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import sdy, stablehlo

from node.compute.files import Unfit

MAX_OPERATIONS = 200_000  # a transformer of 64 layers with its gradients has a third of that
MAX_EXECUTED = 10**9  # with the steps of its loops: more would outlast any deadline
DEFAULT_MEMORY_BYTES = 16 << 30  # where this process has no limit

FOREIGN = frozenset(
    f"stablehlo.{name}" for name in ("custom_call", "composite", "infeed", "outfeed", "send", "recv", "create_token")
)
"""Operations that reach beyond the module."""


class Demands(NamedTuple):
    """What running the module once takes."""

    operations: int
    executed: int
    """Operations, those in a loop as often as it turns."""
    largest_bytes: int
    """Of one tensor."""


def inspect(serialized: bytes, *, memory_bytes: int) -> Demands:
    """Return what a serialized module asks for. Unfit if it is not what a worker may run."""
    with ir.Context() as context:
        stablehlo.register_dialect(context)
        sdy.register_dialect(context)  # the exporter leaves attributes of it
        try:
            module = stablehlo.deserialize_portable_artifact(context, serialized)
        except Exception as error:
            raise Unfit(f"the module can't be read: {type(error).__name__}: {error}") from error
        return _Inspection(module, memory_bytes).run()


def find_free_memory() -> int:
    """Return how many bytes of address space this process may still map."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        used = 0
    return DEFAULT_MEMORY_BYTES if limit == resource.RLIM_INFINITY else max(0, limit - used)


def check_memory(compiled: Any) -> None:
    """Unfit if what XLA planned for a compiled function does not fit into this process."""
    plan, free = compiled.memory_analysis(), find_free_memory()
    names = ("argument", "output", "temp", "generated_code")
    wanted = sum(getattr(plan, f"{name}_size_in_bytes") for name in names) - plan.alias_size_in_bytes
    if wanted > free:
        raise Unfit(f"the compiled step wants {wanted} bytes, {free} are free")


# -- The walk ------------------------------------------------------------------


class _Inspection:
    """One walk over one module."""

    def __init__(self, module: Any, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._operations = 0
        self._largest = 0
        self._functions: Mapping[str, Any] = {_name(each): each for each in _operations(module.operation)}
        self._executed: dict[str, int | None] = {}
        """Of each function seen; None while it is walked: who meets that calls itself."""

    def run(self) -> Demands:
        if "main" not in self._functions:
            raise Unfit("the module has no function main")
        executed = sum(self._function(name) for name in self._functions)
        return Demands(self._operations, executed, self._largest)

    def _function(self, name: str) -> int:
        if name not in self._functions:
            raise Unfit(f"the module calls {name}, which it does not have")
        if name not in self._executed:
            self._executed[name] = None
            self._executed[name] = self._regions(self._functions[name])
        executed = self._executed[name]
        if executed is None:
            raise Unfit(f"function {name} of the module calls itself")
        return executed

    def _regions(self, operation: Any) -> int:
        total = 0
        for region in operation.regions:
            for block in region.blocks:
                for argument in block.arguments:
                    self._size(argument.type)
                for each in block.operations:
                    total += self._operation(each.operation)
        if total > MAX_EXECUTED:
            raise Unfit(f"the module executes {total} operations, more than {MAX_EXECUTED}")
        return total

    def _operation(self, operation: Any) -> int:
        self._operations += 1
        if self._operations > MAX_OPERATIONS:
            raise Unfit(f"the module has more than {MAX_OPERATIONS} operations")
        name = operation.name
        if name in FOREIGN:
            target = operation.attributes["call_target_name"] if name == "stablehlo.custom_call" else name
            raise Unfit(f"the module calls foreign code: {str(target)[:80]}")
        if name.partition(".")[0] not in ("stablehlo", "func"):
            raise Unfit(f"the module has an operation {name}")
        for result in operation.results:
            self._size(result.type)
        match name:
            case "func.call":
                return 1 + self._function(ir.FlatSymbolRefAttr(operation.attributes["callee"]).value)
            case "stablehlo.while":
                return 1 + _count_steps(operation) * self._regions(operation)
        return 1 + self._regions(operation)

    def _size(self, kind: Any) -> None:
        size = _count_bytes(kind)
        self._largest = max(self._largest, size)
        if size > self._memory_bytes:
            raise Unfit(f"a tensor of the module has {size} bytes, {self._memory_bytes} are free")


def _operations(operation: Any) -> Iterator[Any]:
    for region in operation.regions:
        for block in region.blocks:
            for each in block.operations:
                yield each.operation


def _name(function: Any) -> str:
    if function.name != "func.func":
        raise Unfit(f"the module has an operation {function.name} beside its functions")
    return str(ir.StringAttr(function.attributes["sym_name"]).value)


def _count_bytes(kind: Any) -> int:
    if not isinstance(kind, ir.RankedTensorType):
        raise Unfit(f"the module has a value of type {str(kind)[:80]}, not a tensor")
    if not kind.has_static_shape:
        raise Unfit("the module has a tensor of unknown size")
    element = kind.element_type
    parts, scalar = (2, element.element_type) if isinstance(element, ir.ComplexType) else (1, element)
    if not isinstance(scalar, ir.IntegerType | ir.FloatType):
        raise Unfit(f"the module has a tensor of {str(scalar)[:80]}")
    return parts * math.prod(kind.shape) * max(1, scalar.width // 8)


# -- Loops ---------------------------------------------------------------------


def _count_steps(loop: Any) -> int:
    """Return how often a `while` turns: i from a constant, by a constant, as long as it is below a constant."""
    condition, body = (region.blocks[0] for region in loop.regions)
    test = _defining(_returned(condition)[0], "stablehlo.compare")
    counter, end = test.operands
    if stablehlo.ComparisonDirectionAttr(test.attributes["comparison_direction"]).value != "LT":
        raise _unbounded("does not count up")
    position = _position(counter, condition)
    following = _defining(_returned(body)[position], "stablehlo.add")
    sides = list(following.operands)
    if _is_argument(sides[1], body):
        sides.reverse()
    if _position(sides[0], body) != position:
        raise _unbounded("counts something else")
    first, step, last = _constant(loop.operands[position]), _constant(sides[1]), _constant(end)
    if step < 1 or first < 0 or last + step > _largest(end.type):
        raise _unbounded("may count for ever")
    return max(0, math.ceil((last - first) / step))


def _unbounded(how: str) -> Unfit:
    return Unfit(f"the module has a loop without a constant end: it {how}")


def _returned(block: Any) -> list[Any]:
    *_, last = block.operations
    return list(last.operation.operands)


def _is_argument(value: Any, block: Any) -> bool:
    return isinstance(value, ir.BlockArgument) and value.owner == block


def _position(value: Any, block: Any) -> int:
    if not _is_argument(value, block):
        raise _unbounded("does not compare its counter")
    return int(value.arg_number)


def _defining(value: Any, name: str) -> Any:
    operation = None if isinstance(value, ir.BlockArgument) else value.owner
    if operation is None or operation.name != name:
        raise _unbounded(f"ends by another thing than {name}")
    return operation


def _constant(value: Any) -> int:
    attribute = _defining(value, "stablehlo.constant").attributes["value"]
    kind = value.type
    if kind.shape or not isinstance(kind.element_type, ir.IntegerType):
        raise _unbounded("counts by something that is no integer")
    return int(ir.DenseIntElementsAttr(attribute)[0])


def _largest(kind: Any) -> int:
    scalar = kind.element_type
    bits = int(scalar.width) - (0 if scalar.is_unsigned else 1)
    return (1 << bits) - 1
