"""Graphs: a small one is read and computed, and those that reach further are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from node.compute.files import Unfit
from node.prover.graph import Graph


def build() -> Any:
    """Return the graph of Σ(x·θ − y)² over two rows of three."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Reshape", ["theta", "column"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Sub", ["z", "y"], ["d"]),
        helper.make_node("Mul", ["d", "d"], ["q"]),
        helper.make_node("ReduceSum", ["q", "axes"], ["loss"], keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(np.array([3, 1], np.int64), "column"),
        numpy_helper.from_array(np.array([0, 1], np.int64), "axes"),
    ]
    inputs = [value(n, TensorProto.FLOAT, s) for n, s in (("theta", [3]), ("x", [2, 3]), ("y", [2, 1]))]
    graph = helper.make_graph(nodes, "e", inputs, [value("loss", TensorProto.FLOAT, [])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    return model


def load(folder: Path, model: Any) -> Graph:
    path = folder / "graph"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return Graph(path)


def test_a_graph_is_read_and_computed(tmp_path: Path) -> None:
    graph = load(tmp_path, build())
    assert graph.signature == (3, (2, 3), (2, 1))
    assert tuple(graph.signature) == (3, (2, 3), (2, 1))
    assert graph.signature.lengths == (3, 6, 2)
    assert graph.compute_loss(np.array([1.0, 2, 3]), np.arange(6.0), np.array([8.0, 20])) == 36
    with pytest.raises(Unfit, match="finite"):
        graph.compute_loss(np.array([1e30, 0, 0]), np.arange(6.0), np.zeros(2))


def change(edit: Callable[[Any], object]) -> Any:
    model = build()
    edit(model)
    return model


def outside(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def dynamic(model: Any) -> None:
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "batch"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (b"", "not a valid ONNX"),
        (b"\xff\xff\xff", "not a valid ONNX"),
        (change(outside), "other files"),
        (change(dynamic), "static shape"),
        (change(lambda m: setattr(m.graph.node[3], "op_type", "Sigmoid")), "Sigmoid"),
        (change(lambda m: setattr(m.graph.node[3], "op_type", "Loop")), "Loop"),
        (change(lambda m: setattr(m.graph.node[3], "domain", "custom")), "custom"),
        (change(lambda m: setattr(m.graph.input[0], "name", "w")), "not a valid ONNX|takes"),
        (change(lambda m: m.graph.input[0].type.tensor_type.shape.dim.add(dim_value=1)), "not a valid ONNX|flat"),
        (change(lambda m: setattr(m.graph.input[1].type.tensor_type, "elem_type", TensorProto.DOUBLE)), "float32"),
        (change(lambda m: m.graph.output.append(m.graph.input[0])), "one number|not a valid"),
        (change(lambda m: m.graph.node.extend([m.graph.node[0]] * 5000)), "too many"),
    ],
)
def test_what_reaches_further_is_refused(tmp_path: Path, model: Any, reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        load(tmp_path, model)


def test_the_checker_is_ours() -> None:
    onnx.checker.check_model(build())
