"""A circuit's graph: an ONNX file (theta, x, y) -> loss, checked, and computed in floats for comparison.

The operators are those whose arithmetic in ezkl is sums, products, comparisons and rescalings: nothing that is
looked up or hinted, so that what is proved is what the graph says.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from node.compute.files import Unfit
from protocols.statement import INPUTS

MAX_GRAPH_BYTES = 64 << 20
MAX_NODES = 4096
OPERATORS = frozenset(
    {
        "Abs", "Add", "Concat", "Constant", "Conv", "Expand", "Flatten", "Gemm", "Identity", "MatMul", "Mul", "Neg",
        "ReduceMean", "ReduceSum", "Relu", "Reshape", "Slice", "Squeeze", "Sub", "Transpose", "Unsqueeze",
    }
)  # fmt: skip

Shape = tuple[int, ...]


class Signature(NamedTuple):
    """The shapes of the inputs; those of a page with the batch axis first."""

    parameters: int
    x_shape: Shape
    y_shape: Shape

    @property
    def lengths(self) -> tuple[int, int, int]:
        return self.parameters, math.prod(self.x_shape), math.prod(self.y_shape)


class Graph:
    """Raises Unfit if the file does not hold statement E's graph."""

    def __init__(self, path: Path) -> None:
        self._model = _load(path)
        self.signature = _read_signature(self._model.graph)
        self._evaluator: ReferenceEvaluator | None = None

    def compute_loss(self, theta: NDArray[Any], x: NDArray[Any], y: NDArray[Any]) -> float:
        """Return the loss in float32."""
        if self._evaluator is None:
            self._evaluator = ReferenceEvaluator(self._model)
        shapes = ((self.signature.parameters,), self.signature.x_shape, self.signature.y_shape)
        inputs = (array.astype(np.float32).reshape(shape) for array, shape in zip((theta, x, y), shapes, strict=True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # an overflow shows in the result
            (loss,) = self._evaluator.run(None, dict(zip(INPUTS, inputs, strict=True)))
        if np.size(loss) != 1 or not np.isfinite(loss).all():
            raise Unfit("the loss in floats is not one finite number")
        return float(np.asarray(loss).reshape(()))


def _load(path: Path) -> Any:
    if path.stat().st_size > MAX_GRAPH_BYTES:
        raise Unfit("the graph is too large")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        _check_nodes(model)
        onnx.checker.check_model(model)
    except Unfit:
        raise
    except Exception as error:
        raise Unfit(f"not a valid ONNX graph: {type(error).__name__}: {error}") from error
    return model


def _check_nodes(model: Any) -> None:
    """Refuse what reaches outside of the file or outside of the list before anything interprets it."""
    graph = model.graph
    if len(graph.node) > MAX_NODES or model.functions or graph.sparse_initializer:
        raise Unfit("the graph has too many nodes, functions or sparse tensors")
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            raise Unfit(f"operator {node.domain}.{node.op_type} is not one of statement E's")
    constants = [a.t for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.TENSOR]
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in [*graph.initializer, *constants]):
        raise Unfit("the graph reads other files")


def _read_signature(graph: Any) -> Signature:
    initialized = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: _read_shape(value) for value in graph.input if value.name not in initialized}
    if tuple(inputs) != INPUTS:
        raise Unfit(f"the graph takes {', '.join(inputs)}, not {', '.join(INPUTS)}")
    if len(graph.output) != 1 or math.prod(_read_shape(graph.output[0])) != 1:
        raise Unfit("the graph does not give one number")
    theta, x, y = inputs.values()
    if len(theta) != 1 or not x or not y or x[0] != y[0]:
        raise Unfit(f"theta{list(theta)}, x{list(x)}, y{list(y)}: not a flat vector and two batches of equal size")
    return Signature(theta[0], x, y)


def _read_shape(value: Any) -> Shape:
    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        raise Unfit(f"{value.name} is not float32")
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else 0 for axis in tensor.shape.dim)
    if any(axis <= 0 for axis in shape):
        raise Unfit(f"{value.name} has no static shape")
    return shape
