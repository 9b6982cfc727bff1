"""Statement E as ONNX: the loss of a flat vector on one page, in operations that a proof system takes.

The graph is read off the model's own jaxpr. The operations below are those that ezkl turns into few rows;
a model that needs others goes through jax2onnx, which knows hundreds and takes ten seconds to start.
Either way the graph is run by onnxruntime and compared with JAX before it is accepted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime
from jax.extend import core
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from node.errors import ContentError

OPSET = 18  # ezkl 23 reads up to this one
IR_VERSION = 10
INPUTS = ("theta", "x", "y")
OUTPUT = "loss"
TOLERANCE = 1e-4  # relative; float32 sums in another order differ by 1e-6

Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Shapes = tuple[tuple[int, ...], ...]
"""Of theta, x and y."""


def export_circuit(loss: Loss, shapes: Shapes) -> bytes:
    """Return the ONNX model. ContentError if neither way gives a graph that agrees with JAX."""
    arguments = [np.zeros(shape, np.float32) for shape in shapes]
    jaxpr = jax.make_jaxpr(loss)(*arguments)
    try:
        model = _translate(jaxpr, shapes)
    except Unsupported:
        model = _translate_widely(jaxpr, shapes)
    data: bytes = model.SerializeToString()
    _check(data, loss, shapes)
    return data


class Unsupported(Exception):
    """The model uses an operation that is not in the table."""


# -- From jaxpr to graph -------------------------------------------------------


class _Graph:
    """Nodes and constants as they come; a value is the name of a tensor."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [name], **attributes))
        return name

    def constant(self, value: Any, kind: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def indices(self, values: Sequence[int]) -> str:
        return self.constant(list(values), np.int64)


def _translate(jaxpr: Any, shapes: Shapes) -> Any:
    graph = _Graph()
    (result,) = _run(graph, jaxpr.jaxpr, [graph.constant(c) for c in jaxpr.consts], list(INPUTS))
    _rename(graph.nodes, {result: OUTPUT})
    used = {name for node in graph.nodes for name in node.input}
    constants = [constant for constant in graph.constants if constant.name in used]  # Relu takes no zero
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(INPUTS, shapes, strict=True)]
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [])]
    body = helper.make_graph(graph.nodes, "evaluation", inputs, outputs, constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="skynet")
    model.ir_version = IR_VERSION
    return model


def _run(graph: _Graph, jaxpr: Any, constants: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Add the jaxpr's equations and return the names of its results; calls are written out in place."""
    names: dict[Any, str] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))

    def read(variable: Any) -> str:
        return graph.constant(variable.val) if isinstance(variable, core.Literal) else names[variable]

    for equation in jaxpr.eqns:
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        inputs = [read(variable) for variable in equation.invars]
        if inner is not None and equation.primitive.name in CALLS:
            outputs = _run(graph, inner.jaxpr, [graph.constant(c) for c in inner.consts], inputs)
        elif equation.primitive.name in OPERATIONS:
            outputs = [OPERATIONS[equation.primitive.name](graph, equation, inputs)]
        else:
            raise Unsupported(equation.primitive.name)
        names.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


# -- Operations ----------------------------------------------------------------

Operation = Callable[[_Graph, Any, list[str]], str]


def _plain(operation: str) -> Operation:
    return lambda graph, _, inputs: graph.add(operation, *inputs)


def _maximum(graph: _Graph, equation: Any, inputs: list[str]) -> str:
    for variable, other in zip(equation.invars, reversed(inputs), strict=True):
        if isinstance(variable, core.Literal) and variable.val == 0:
            return graph.add("Relu", other)
    return graph.add("Max", *inputs)


def _square(graph: _Graph, equation: Any, inputs: list[str]) -> str:
    if equation.params.get("y", 2) != 2:
        raise Unsupported("integer_pow")
    return graph.add("Mul", inputs[0], inputs[0])


def _divide(graph: _Graph, equation: Any, inputs: list[str]) -> str:
    divisor = equation.invars[1]
    if not isinstance(divisor, core.Literal):
        raise Unsupported("div")  # by a variable: a table of its own in a circuit
    return graph.add("Mul", inputs[0], graph.constant(1.0 / float(divisor.val)))


def _reshape(graph: _Graph, equation: Any, inputs: list[str]) -> str:
    return graph.add("Reshape", inputs[0], graph.indices(equation.outvars[0].aval.shape))


def _broadcast(graph: _Graph, equation: Any, inputs: list[str]) -> str:
    shape, kept = equation.params["shape"], equation.params["broadcast_dimensions"]
    source = equation.invars[0].aval.shape
    aligned = [source[kept.index(axis)] if axis in kept else 1 for axis in range(len(shape))]
    value = graph.add("Reshape", inputs[0], graph.indices(aligned))
    return value if tuple(aligned) == tuple(shape) else graph.add("Expand", value, graph.indices(shape))


def _transpose(graph: _Graph, equation: Any, inputs: list[str]) -> str:
    return graph.add("Transpose", inputs[0], perm=list(equation.params["permutation"]))


def _slice(graph: _Graph, equation: Any, inputs: list[str]) -> str:
    starts, ends, strides = (equation.params[k] for k in ("start_indices", "limit_indices", "strides"))
    axes = range(len(starts))
    steps = strides or [1] * len(starts)
    return graph.add("Slice", inputs[0], *map(graph.indices, (starts, ends, axes, steps)))


def _sum(graph: _Graph, equation: Any, inputs: list[str]) -> str:
    return graph.add("ReduceSum", inputs[0], graph.indices(equation.params["axes"]), keepdims=0)


def _multiply_matrices(graph: _Graph, equation: Any, inputs: list[str]) -> str:
    (left_axes, right_axes), (left_batch, right_batch) = equation.params["dimension_numbers"]
    if left_batch or right_batch or len(left_axes) != 1 or any(v.aval.ndim != 2 for v in equation.invars):
        raise Unsupported("dot_general")
    left, right = inputs
    if left_axes[0] == 0:
        left = graph.add("Transpose", left, perm=[1, 0])
    if right_axes[0] == 1:
        right = graph.add("Transpose", right, perm=[1, 0])
    return graph.add("MatMul", left, right)


CALLS = frozenset({"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"})
OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "add": _plain("Add"),
        "sub": _plain("Sub"),
        "mul": _plain("Mul"),
        "neg": _plain("Neg"),
        "copy": _plain("Identity"),
        "stop_gradient": _plain("Identity"),
        "max": _maximum,
        "square": _square,
        "integer_pow": _square,
        "div": _divide,
        "reshape": _reshape,
        "squeeze": _reshape,
        "expand_dims": _reshape,
        "broadcast_in_dim": _broadcast,
        "transpose": _transpose,
        "slice": _slice,
        "reduce_sum": _sum,
        "dot_general": _multiply_matrices,
    }
)


def _rename(nodes: Any, names: Mapping[str, str]) -> None:
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


# -- The wide way --------------------------------------------------------------


def _translate_widely(jaxpr: Any, shapes: Shapes) -> Any:
    from jax2onnx import to_onnx

    # The jaxpr, not the function: tracing a Flax module again inside jax2onnx's own patches fails.
    def evaluate(*arguments: jax.Array) -> Any:
        return jax.core.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *arguments)[0]

    specs: Any = [np.zeros(shape, np.float32) for shape in shapes]
    try:
        model = to_onnx(evaluate, specs, opset=OPSET)
    except Exception as error:
        raise ContentError("the model", f"no circuit: {error}", "use simpler operations") from error
    model.ir_version = IR_VERSION
    names = dict(zip((value.name for value in model.graph.input), INPUTS, strict=True))
    names[model.graph.output[0].name] = OUTPUT
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    _rename(model.graph.node, names)
    _simplify(model.graph)
    return model


def _simplify(graph: Any) -> None:
    """Write two habits of jax2onnx in operators that the prover takes."""
    zeros = {c.name for c in graph.initializer if not numpy_helper.to_array(c).any()}
    nodes: list[Any] = []
    for node in graph.node:
        kept = [name for name in node.input if name not in zeros]
        if node.op_type == "Max" and len(node.input) == 2 and len(kept) == 1:
            nodes.append(helper.make_node("Relu", kept, node.output))
        elif node.op_type == "ReduceSumSquare":
            square = f"{node.output[0]}_square"
            nodes.append(helper.make_node("Mul", [node.input[0], node.input[0]], [square]))
            reduced = helper.make_node("ReduceSum", [square, *node.input[1:]], node.output)
            reduced.attribute.extend(node.attribute)
            nodes.append(reduced)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = [c for c in graph.initializer if any(c.name in node.input for node in nodes)]
    del graph.initializer[:]
    graph.initializer.extend(used)


# -- Agreement -----------------------------------------------------------------


def _check(data: bytes, loss: Loss, shapes: Shapes) -> None:
    """Run both on three drawn inputs: a translation can be wrong without a word, and was."""
    onnx.checker.check_model(data)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    compiled = jax.jit(loss)
    for seed in range(3):
        arguments = _draw(shapes, np.random.default_rng(seed))
        (found,) = session.run(None, dict(zip(INPUTS, arguments, strict=True)))
        expected = float(compiled(*arguments))
        if np.shape(found) != () or not math.isclose(float(found), expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise ContentError("the model's circuit", f"it gives {found}, JAX {expected}", "report this model")


def _draw(shapes: Shapes, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    return [rng.normal(0, 0.5, shape).astype(np.float32) for shape in shapes]
