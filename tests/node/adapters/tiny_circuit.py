"""What a prover test needs: a network of 14 parameters as a graph, its loss in numpy, pages, and a Store of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray
from onnx import TensorProto, helper, load_from_string, numpy_helper
from safetensors.numpy import save

from actors.ports import Record
from node.prover.settings import CircuitOptions
from protocols.ids import ContentId
from protocols.package import VERSION, Circuit, Package, Tensor, encode_package

ROWS, WIDTH, HIDDEN, CLASSES = 2, 3, 2, 2
LAYOUT = (("w1", (WIDTH, HIDDEN)), ("b1", (HIDDEN,)), ("w2", (HIDDEN, CLASSES)), ("b2", (CLASSES,)))
PARAMETERS = 14
SCALE_BITS = 13
OPTIONS = CircuitOptions(logrows=10, decomposition_base=256, decomposition_legs=4)


def build_graph(factor: float = 1 / ROWS) -> bytes:
    """Return statement E for the network: the mean over rows of the squared distance to y."""
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, value: Any, kind: type = np.int64) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    start = 0
    for name, shape in LAYOUT:
        end = start + int(np.prod(shape))
        node("Slice", ["theta", constant(f"{name}_a", [start]), constant(f"{name}_z", [end])], f"{name}_flat")
        node("Reshape", [f"{name}_flat", constant(f"{name}_s", shape)], name)
        start = end
    for kind, inputs, output in (
        ("MatMul", ["x", "w1"], "z0"),
        ("Add", ["z0", "b1"], "z"),
        ("Relu", ["z"], "h"),
        ("MatMul", ["h", "w2"], "l0"),
        ("Add", ["l0", "b2"], "logits"),
        ("Sub", ["logits", "y"], "d"),
        ("Reshape", ["d", constant("row", [1, ROWS * CLASSES])], "f"),
    ):
        node(kind, inputs, output)
    node("Transpose", ["f"], "ft", perm=[1, 0])
    node("MatMul", ["f", "ft"], "s")
    node("Mul", ["s", constant("factor", factor, np.float32)], "loss")
    value = helper.make_tensor_value_info
    shapes = (("theta", [PARAMETERS]), ("x", [ROWS, WIDTH]), ("y", [ROWS, CLASSES]))
    inputs = [value(name, TensorProto.FLOAT, shape) for name, shape in shapes]
    graph = helper.make_graph(nodes, "e", inputs, [value("loss", TensorProto.FLOAT, [1, 1])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    data: bytes = model.SerializeToString()
    return data


def build_hungry_graph() -> bytes:
    """Return a statement E whose constants fit on a page, and whose product of them is 17 GB."""
    model = load_from_string(build_graph())
    nodes, constants, count = model.graph.node, model.graph.initializer, 1 << 16
    constants.append(numpy_helper.from_array(np.ones((count, 1), np.float32), "tall"))
    constants.append(numpy_helper.from_array(np.ones((1, count), np.float32), "wide"))
    nodes[-1].output[0] = "harmless"
    for kind, inputs, output in (
        ("MatMul", ["tall", "wide"], "huge"),
        ("MatMul", ["huge", "tall"], "sums"),
        ("MatMul", ["wide", "sums"], "sum"),
        ("Mul", ["sum", "harmless"], "loss"),
    ):
        nodes.append(helper.make_node(kind, inputs, [output]))
    data: bytes = model.SerializeToString()
    return data


def compute_loss(theta: NDArray[np.int32], x: NDArray[Any], y: NDArray[Any]) -> float:
    parts, start = [], 0
    for _, shape in LAYOUT:
        end = start + int(np.prod(shape))
        parts.append((theta[start:end] / 2**SCALE_BITS).reshape(shape))
        start = end
    w1, b1, w2, b2 = parts
    return float((((np.maximum(x @ w1 + b1, 0) @ w2 + b2) - y) ** 2).sum() / ROWS)


def draw_weights(seed: int = 0) -> NDArray[np.int32]:
    return np.rint(np.random.default_rng(seed).normal(0, 0.7, PARAMETERS) * 2**SCALE_BITS).astype(np.int32)


def draw_page(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(100 + seed)
    x = rng.uniform(0, 1, (ROWS, WIDTH)).astype(np.float32)
    return x, np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, ROWS)]


def encode_page(x: NDArray[np.float32], y: NDArray[np.float32]) -> bytes:
    data: bytes = save({"x": x, "y": y})
    return data


def encode_vector(vector: NDArray[Any]) -> bytes:
    return vector.astype("<i4").tobytes()


def describe_package(circuit: Circuit, **changes: Any) -> bytes:
    nothing = ContentId(bytes(32))
    package = Package(
        version=VERSION,
        name="tiny",
        license="Apache-2.0",
        layout=tuple(Tensor(name, shape) for name, shape in LAYOUT),
        scale_bits=SCALE_BITS,
        loss_and_grad=nothing,
        predict=nothing,
        initial_state=nothing,
        optimizer="sgd",
        learning_rate=0.1,
        batch=ROWS,
        x_shape=(WIDTH,),
        y_shape=(CLASSES,),
        codec="int8",
        rule="mean",
        outer="none",
        circuit=circuit,
    )
    fields = {name: getattr(package, name) for name in package.__dataclass_fields__}
    return encode_package(Package(**{**fields, **changes}))


class FolderStore:
    """The blobs of a Store, as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, content: ContentId) -> Path:
        return self._folder / content.hex()

    def put(self, data: bytes) -> ContentId:
        content = ContentId(blake3(data).digest())
        self.path(content).write_bytes(data)
        return content

    async def put_blob(self, data: bytes, *, public: bool) -> ContentId:
        return self.put(data)

    async def blob(self, content: ContentId) -> bytes | None:
        return self.path(content).read_bytes() if self.path(content).exists() else None

    async def has_blob(self, content: ContentId) -> bool:
        return self.path(content).exists()

    async def is_public(self, content: ContentId) -> bool:
        return await self.has_blob(content)

    async def write(self, *records: Record) -> None:
        raise NotImplementedError

    async def read(self, kind: str, key: bytes) -> bytes | None:
        raise NotImplementedError

    async def scan(self, kind: str, prefix: bytes = b"") -> Sequence[tuple[bytes, bytes]]:
        raise NotImplementedError
